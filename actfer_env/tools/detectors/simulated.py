"""The detectors "simulated" and "auto": landmarks of drawn pictures from the drawing, and a real one's failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import DetectorError
from actfer_env.tools.detectors.base import Detector, Face, make_detector
from actfer_env.tools.orientation import detect_in, settings_of

if TYPE_CHECKING:
    from actfer_env.sample import Sample


@dataclass(frozen=True)
class SimulatedConfig:
    """Conditions under which a true face is found; calibrated against MTCNN on drawn pictures, see docs/synthetic.md.

    Attributes:
        min_eyes: Smallest inter-ocular distance in pixels.
        min_native: Smallest inter-ocular distance in pixels that carry real detail.
        max_covered: Largest share hidden by a hand or by another person.
        min_inside: Smallest share of the five landmarks inside the picture.
        max_blur: Largest blur as a share of the inter-ocular distance.
        brightness: Darkest and brightest mean of the face's pixels, 0 to 1.
        max_noise: Largest ratio of the camera's noise to the face's contrast.
        max_yaw: Largest turn in degrees.
        max_pitch: Largest nod in degrees.
        max_roll: Largest tilt in degrees.
    """

    min_eyes: float = bounded(13.0, ge=0)
    min_native: float = bounded(4.4, ge=0)
    max_covered: float = bounded(0.35, ge=0, le=1)
    min_inside: float = bounded(0.8, ge=0, le=1)
    max_blur: float = bounded(0.2, ge=0)
    brightness: tuple[float, float] = bounded((0.06, 0.95), ge=0, le=1)
    max_noise: float = bounded(1.15, ge=0)
    max_yaw: float = bounded(34.0, ge=0, le=180)
    max_pitch: float = bounded(25.0, ge=0, le=180)
    max_roll: float = bounded(45.0, ge=0, le=180)

    def __post_init__(self) -> None:
        check_fields(self)

    def finds(self, face: Any) -> bool:
        """Tell whether a true face (`data.faces.SceneFace`) is found.

        Args:
            face: The true face.
        """
        return bool(
            face.inter_ocular >= self.min_eyes
            and face.native_scale >= self.min_native
            and self._visible(face)
            and abs(face.yaw) <= self.max_yaw
            and abs(face.pitch) <= self.max_pitch
            and abs(face.roll) <= self.max_roll
        )

    def _visible(self, face: Any) -> bool:
        return bool(
            face.inside >= self.min_inside
            and face.covered <= self.max_covered
            and face.blur <= self.max_blur
            and self.brightness[0] <= face.brightness <= self.brightness[1]
            and face.noise <= self.max_noise
        )


class SimulatedDetector:
    """Returns the renderer's own landmarks for samples that are drawn; it costs no detection.

    The landmarks are those of the same head at rest. The true ones tell the emotion: mouth corners move with AU12,
    15 and 20, and with them the alignment and the region boxes, before anyone has looked at the face.

    Args:
        config: Conditions under which faces are found.
    """

    name = "simulated"

    def __init__(self, config: SimulatedConfig | None = None) -> None:
        self.config = config or SimulatedConfig()

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Refuse a bare picture: there is nothing to read but pixels.

        Raises:
            DetectorError: always.
        """
        raise DetectorError("detector 'simulated' reads drawn samples, not pictures: use 'mtcnn' for this one")

    def detect_sample(self, sample: Sample, image: NDArray[np.uint8]) -> list[Face]:
        """Return the true faces of a drawn sample that a real detector would find.

        Args:
            sample: The drawn sample.
            image: Its picture, RGB uint8 (H, W, 3).

        Returns:
            The faces, in pixels of the image.

        Raises:
            DetectorError: the sample is a photo.
        """
        if sample.annotate is None:
            raise DetectorError(f"sample {sample.id!r} is no drawn picture: use detector 'mtcnn' or 'auto'")
        return [_to_face(face) for face in _faces(sample) if self.config.finds(face)]

    def settings(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        return {"config": asdict(self.config)}


class AutoDetector:
    """Simulated for drawn samples, MTCNN for everything else; the default of the environments."""

    name = "auto"
    turns = True

    def __init__(self) -> None:
        self._drawn = SimulatedDetector()
        self._real: Detector | None = None

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return MTCNN's faces of an RGB image (H, W, 3), taken as it is."""
        return self._photos().detect(image)

    def settings(self) -> dict[str, Any]:
        """Return those of both detectors, as JSON values."""
        return {"drawn": self._drawn.settings(), "photos": settings_of(self._photos())}

    def _photos(self) -> Detector:
        if self._real is None:
            self._real = make_detector("mtcnn")
        return self._real

    def detect_sample(self, sample: Sample, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of a sample.

        Args:
            sample: The sample.
            image: Its picture, RGB uint8 (H, W, 3).
        """
        if sample.annotate is not None:
            return self._drawn.detect_sample(sample, image)
        return detect_in(self._photos(), sample, image)


def _faces(sample: Sample) -> Sequence[Any]:
    assert sample.annotate is not None
    return sample.annotate()


def _to_face(face: Any) -> Face:
    """Convert the renderer's truth, whose pixel centres lie at whole numbers."""
    x1, y1, x2, y2 = (float(value) + 0.5 for value in face.rest_box())
    return Face((x1, y1, x2, y2), np.asarray(face.five(rest=True), np.float64) + 0.5, 1.0)
