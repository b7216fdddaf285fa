"""Coordinates of a caller's boxes, and sizes of the pictures it sees: what a tool needs to speak to its caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from actfer_env.boxes import UNIT, Box, BoxError
from actfer_env.errors import short

Coordinates: TypeAlias = Literal["relative_1000", "pixels", "unit"]
"""Coordinates in which a policy writes boxes: 0-1000 relative (Qwen3-VL), absolute pixels (Qwen2.5-VL), or 0-1."""
Frame: TypeAlias = Literal["face", "original"]
"""The picture that a box refers to: the aligned face, or the whole image."""

UNITS: Mapping[Coordinates, tuple[str, int | None]] = {
    "relative_1000": ("relative to the picture, from 0 to 1000", 1000),
    "pixels": ("in pixels of the picture", None),
    "unit": ("relative to the picture, from 0 to 1", 1),
}
"""Coordinates -> them in words, and their largest number (None where it depends on the picture)."""


@dataclass(frozen=True)
class Wire:
    """The coordinates and picture sizes that a tool and its caller speak.

    Attributes:
        coordinates: Coordinates in which boxes are written.
        face: Side in pixels of the aligned face that the caller is shown, 0 where the tools need not draw it.
        image: Width and height in pixels of the raw picture as the caller sees it.
        max_zooms: The largest number of regions or boxes that one call may name.
    """

    coordinates: Coordinates = "unit"
    face: int = 0
    image: tuple[int, int] = (1, 1)
    max_zooms: int = 4

    def size(self, frame: Any = "face") -> tuple[int, int]:
        """Return width and height in pixels of a picture as the caller sees it."""
        return self.image if frame == "original" else (self.face, self.face)

    def extent(self, frame: Any = "face") -> tuple[float, float]:
        """Return width and height of a picture in the caller's coordinates."""
        return UNIT if self.coordinates == "unit" else extent(self.coordinates, self.size(frame))

    def words(self, frame: Any = None) -> str:
        """Return in words how boxes are written; with a frame, pixels say how many the picture has."""
        return coordinates_text(self.coordinates, None if frame is None else self.size(frame))

    def read(self, box: Any, frame: Any = "face") -> Box:
        """Return a box that the caller wrote as shares of its picture.

        Raises:
            BoxError: it is no box, or lies outside the picture; the message speaks the caller's coordinates.
        """
        extent = self.extent(frame)
        return Box.parse(box, extent).shares(extent)

    def write(self, box: Sequence[float], frame: Any = "face") -> list[float]:
        """Return a box of shares as the caller writes it: whole numbers except for "unit".

        Args:
            box: Box (x1, y1, x2, y2), shares of its picture.
            frame: Picture that it refers to, "face" or "original".
        """
        values = from_unit(box, self.coordinates, self.size(frame))
        return list(values) if self.coordinates == "unit" else [int(value) for value in values]

    def record(self, arguments: Any) -> Any:
        """Return a call's arguments for the record: `boxes` of numbers as shares of their picture (the one that
        `image` names, by default the face), and all else as it is."""
        boxes = arguments.get("boxes") if type(arguments) is dict or isinstance(arguments, Mapping) else None
        extent = UNIT if boxes is None else self.extent(arguments.get("image"))
        if extent == UNIT or not isinstance(boxes, list | tuple):
            return arguments
        return {**arguments, "boxes": [_shares(box, extent) for box in box_list(boxes)]}


def coordinates_text(coordinates: Coordinates, size: tuple[int, int] | None = None) -> str:
    """Return in words how boxes are written; of pixels also how many the picture has, where `size` is given."""
    text = UNITS[coordinates][0]
    return f"{text}, which has {size[0]} x {size[1]}" if size and coordinates == "pixels" else text


def extent(coordinates: Coordinates, size: tuple[int, int]) -> tuple[float, float]:
    """Return width and height, in a policy's coordinates, of a picture that it saw at `size` pixels.

    Args:
        coordinates: Coordinates of the policy.
        size: Width and height in pixels of the picture that it saw.
    """
    sides = {"relative_1000": (1000, 1000), "pixels": size, "unit": (1, 1)}[coordinates]
    return float(sides[0]), float(sides[1])


def to_unit(box: Sequence[float], coordinates: Coordinates, size: tuple[int, int]) -> Box:
    """Convert a box from the wire to shares of the picture.

    Args:
        box: The numbers as the policy wrote them.
        coordinates: Coordinates in which it writes boxes.
        size: (width, height) in pixels of the picture that it saw.
    """
    return Box(*box) if coordinates == "unit" else Box(*box).shares(extent(coordinates, size))


def from_unit(box: Sequence[float], coordinates: Coordinates, size: tuple[int, int]) -> Box:
    """Convert a box from shares of the picture to the wire; rounded to whole numbers except for "unit".

    Args:
        box: Box (x1, y1, x2, y2), shares of its picture.
        coordinates: Coordinates of the policy.
        size: Width and height in pixels of the picture that it saw.
    """
    if coordinates == "unit":
        return Box(*(round(value, 4) for value in box))
    return Box(*(float(round(value)) for value in Box(*box).scaled(extent(coordinates, size))))


def box_list(boxes: Any) -> list[Any]:
    """Return the boxes of an argument, whether it holds one or a list of them.

    Raises:
        BoxError: it is no list.
    """
    if boxes is None:
        return []
    if not isinstance(boxes, list | tuple | np.ndarray):
        raise BoxError(f"boxes must be a list of (x1, y1, x2, y2), not {short(boxes)}")
    one = len(boxes) > 0 and all(isinstance(value, int | float | np.number) for value in boxes)
    return [boxes] if one else list(boxes)


def _shares(box: Any, extent: tuple[float, float]) -> Any:
    try:
        return list(Box.numbers(box).shares(extent))
    except BoxError:
        return box
