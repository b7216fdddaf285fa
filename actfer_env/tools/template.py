"""Template of the five landmarks of an upright face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FaceTemplate:
    """Positions of the five landmarks in the aligned unit square.

    The proportions between eyes, nose and mouth are those of the ArcFace template; the scale is looser, because that
    template cuts the chin, and expression needs chin and forehead. Scale and height are chosen here.

    Attributes:
        eye_distance: Between the eye centres.
        eye_y: Height of the eye line (0 is the top edge).
        nose_drop: Nose tip below the eye line, in eye distances.
        mouth_drop: Mouth corners below the eye line, in eye distances.
        mouth_width: Between the mouth corners, in eye distances.
    """

    eye_distance: float = 0.24
    eye_y: float = 0.41
    nose_drop: float = 0.571
    mouth_drop: float = 1.154
    mouth_width: float = 0.828

    @property
    def points(self) -> NDArray[np.float64]:
        """The five points (5, 2) in the aligned frame."""
        d, half = self.eye_distance, self.eye_distance * self.mouth_width / 2
        nose_y, mouth_y = self.eye_y + self.nose_drop * d, self.eye_y + self.mouth_drop * d
        return np.array([
            [0.5 - d / 2, self.eye_y], [0.5 + d / 2, self.eye_y], [0.5, nose_y],
            [0.5 - half, mouth_y], [0.5 + half, mouth_y],
        ])  # fmt: skip


TEMPLATE = FaceTemplate()
