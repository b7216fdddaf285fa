"""Expression of a face: Action Unit intensities per side, and the muscles' pull that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from actfer_env.errors import DataError
from actfer_env.facs import CORE_AUS

RENDERED_AUS: tuple[int, ...] = CORE_AUS
"""The Action Units that the renderer draws."""

MAX_INTENSITY = 5.0
"""FACS intensity E; A is 1."""

_INDEX = {au: i for i, au in enumerate(RENDERED_AUS)}


@dataclass(frozen=True)
class Expression:
    """Action Unit intensities, 0 to 5 (FACS A to E), of the person's own left and right half of the face.

    Attributes:
        left: AU -> intensity on the person's left (the viewer's right).
        right: AU -> intensity on the person's right.
        gaze: Direction of the eyes, (right, down) as the viewer sees it, each -1..1.
    """

    left: Mapping[int, float] = field(default_factory=dict)
    right: Mapping[int, float] = field(default_factory=dict)
    gaze: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse unknown units and intensities out of range; freeze the two mappings."""
        for name in ("left", "right"):
            side = {int(au): float(value) for au, value in getattr(self, name).items()}
            _check_side(name, side)
            object.__setattr__(self, name, MappingProxyType(side))
        if not all(-1 <= value <= 1 for value in self.gaze):
            raise DataError(f"gaze {self.gaze!r}: use two numbers from -1 to 1")

    @classmethod
    def both(cls, aus: Mapping[int, float], gaze: tuple[float, float] = (0.0, 0.0)) -> Expression:
        """Return the expression with the same intensities on both sides."""
        return cls(dict(aus), dict(aus), gaze)

    def weights(self) -> np.ndarray:
        """Return intensities scaled to 0..1 as (2, AUs); row 0 is the viewer's left, row 1 the right."""
        table = np.zeros((2, len(RENDERED_AUS)), dtype=np.float32)
        for row, side in enumerate((self.right, self.left)):
            for au, value in side.items():
                table[row, _INDEX[au]] = value / MAX_INTENSITY
        return table


def _check_side(name: str, side: dict[int, float]) -> None:
    for au, value in side.items():
        if au not in _INDEX:
            raise DataError(f"expression {name}: AU{au} is not drawn; use one of {RENDERED_AUS}")
        if not 0 <= value <= MAX_INTENSITY:
            raise DataError(f"expression {name}: AU{au}={value!r}; use an intensity from 0 to 5")


class Pull:
    """Read access to the weights of one side by AU number: ``pull[12]`` is 0..1."""

    def __init__(self, row: np.ndarray) -> None:
        self._row: list[float] = row.tolist()

    def __getitem__(self, au: int) -> float:
        return self._row[_INDEX[au]]
