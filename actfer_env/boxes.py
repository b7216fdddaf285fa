"""`Box`: the one place that checks a box, converts it between coordinates and compares two of them.

It stands beside `rollout`, not among the tools: records and rewards have boxes too, and load no image library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from actfer_env.errors import short

UNIT = (1.0, 1.0)
"""Width and height of a picture whose boxes are shares of it."""


class BoxError(ValueError):
    """A box that is none, or that cannot be used; the message says what a box must look like."""


class Box(NamedTuple):
    """A box (x1, y1, x2, y2), x to the right and y down: a tuple of four numbers with a name for each.

    `Box.parse` checks what comes from outside; ``Box(...)`` itself checks nothing, for numbers that are known to be
    right. It equals, hashes and unpacks as the plain tuple does.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def numbers(cls, value: Any) -> Box:
        """Return four finite numbers as a box, whatever their order.

        Args:
            value: A list, a tuple or an array of four numbers.

        Raises:
            BoxError: wrong arity, not numbers (True and False are none), NaN or infinity.
        """
        if not isinstance(value, list | tuple | np.ndarray) or len(value) != 4:
            raise BoxError(f"box {short(value)} must have four numbers (x1, y1, x2, y2)")
        if not all(isinstance(one, int | float | np.number) and not isinstance(one, bool) for one in value):
            raise BoxError(f"box {short(value)} must hold numbers only")
        try:
            box = cls(*map(float, value))
        except OverflowError:
            box = cls(math.inf, math.inf, math.inf, math.inf)
        if not all(map(math.isfinite, box)):
            raise BoxError(f"box {short(value)} must hold finite numbers, no NaN or infinity")
        return box

    @classmethod
    def parse(cls, value: Any, extent: tuple[float, float] | None = None, tolerance: float = 0.0) -> Box:
        """Return a box whose corners are in order.

        Args:
            value: A list, a tuple or an array of four numbers.
            extent: Width and height of its picture in its own coordinates; None sets no bounds.
            tolerance: Distance by which it may reach beyond the picture, as a share of its sides.

        Raises:
            BoxError: as `numbers`; or it is empty, inverted, or outside the picture.
        """
        box = cls.numbers(value)
        if box.x2 <= box.x1 or box.y2 <= box.y1:
            raise BoxError(f"{box.words} is empty or inverted: x1 < x2 and y1 < y2 must hold")
        if extent is not None and not box.shares(extent).is_within(tolerance):
            raise BoxError(f"{box.words} lies outside the picture: {bounds_text(extent)}")
        return box

    @classmethod
    def from_centre(cls, cx: float, cy: float, width: float, height: float) -> Box:
        """Return the box around a centre; not checked.

        Args:
            cx: Horizontal centre, in any coordinates.
            cy: Vertical centre, in the same.
            width: Width.
            height: Height.
        """
        return cls(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)

    @property
    def words(self) -> str:
        """The box in a message, such as "box (10, 20, 30, 40)"."""
        return f"box ({self.x1:g}, {self.y1:g}, {self.x2:g}, {self.y2:g})"

    def to_centre(self) -> tuple[float, float, float, float]:
        """Return (cx, cy, width, height)."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2, self.x2 - self.x1, self.y2 - self.y1

    def shares(self, extent: tuple[float, float]) -> Box:
        """Return the box as shares of a picture that is `extent` wide and high in the box's coordinates.

        Args:
            extent: Width and height of the picture in the coordinates of the box.

        Returns:
            The box with each coordinate as a share, in [0, 1] where it lies in the picture.
        """
        width, height = extent
        return Box(self.x1 / width, self.y1 / height, self.x2 / width, self.y2 / height)

    def scaled(self, extent: tuple[float, float]) -> Box:
        """Return a box of shares in the coordinates of a picture that is `extent` wide and high.

        Args:
            extent: Width and height of the picture in the coordinates that are wanted.

        Returns:
            The box in these coordinates, not rounded.
        """
        width, height = extent
        return Box(self.x1 * width, self.y1 * height, self.x2 * width, self.y2 * height)

    def is_within(self, tolerance: float = 0.0) -> bool:
        """Tell whether a box of shares lies in its picture, up to a tolerance.

        Args:
            tolerance: Distance beyond the edges that still counts as within, as a share of the sides.
        """
        return min(self.x1, self.y1) >= -tolerance and max(self.x2, self.y2) <= 1 + tolerance

    def clipped(self) -> Box:
        """Return the part of a box of shares that lies in its picture."""
        return Box(max(self.x1, 0.0), max(self.y1, 0.0), min(self.x2, 1.0), min(self.y2, 1.0))


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (x1, y1, x2, y2), in [0, 1].

    Args:
        a: Corners (x1, y1, x2, y2), in any coordinates.
        b: Corners in the same coordinates.

    Returns:
        The share; 0 where the boxes do not meet.
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union > 0 else 0.0


def bounds_text(extent: tuple[float, float]) -> str:
    """Return in words within what a picture's coordinates lie."""
    width, height = extent
    if width == height:
        return f"every coordinate must be within 0 and {width:g}"
    return f"x must be within 0 and {width:g}, y within 0 and {height:g}"
