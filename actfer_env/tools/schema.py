"""The tools' JSON schemas, generated from one definition, and the coordinates on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from actfer_env import facs
from actfer_env.boxes import Box

Coordinates: TypeAlias = Literal["relative_1000", "pixels", "unit"]
"""How a policy writes boxes: 0-1000 relative (Qwen3-VL), absolute pixels (Qwen2.5-VL), or 0-1."""

DETECT_ALIGN, ZOOM_IN = "detect_align", "zoom_in"
TOOLS: tuple[str, ...] = (DETECT_ALIGN, ZOOM_IN)
"""The names of the tools. The final answer is no tool."""

ARGUMENTS: dict[str, tuple[str, ...]] = {DETECT_ALIGN: (), ZOOM_IN: ("regions", "boxes", "image")}
"""Tool -> the arguments that it takes."""

_UNITS = {
    "relative_1000": ("relative to the picture, from 0 to 1000", 1000),
    "pixels": ("in pixels of the picture", None),
    "unit": ("relative to the picture, from 0 to 1", 1),
}


def tool_schemas(coordinates: Coordinates = "relative_1000", max_zooms: int = 4) -> list[dict[str, Any]]:
    """Return the tools as function schemas in OpenAI's format.

    Args:
        coordinates: how boxes are written.
        max_zooms: the largest number of regions or boxes that one call may name.

    Returns:
        One schema for each of `TOOLS`; unknown arguments are forbidden.
    """
    text, most = _UNITS[coordinates]
    number = {"type": "number", "minimum": 0} | ({} if most is None else {"maximum": most})
    box = {"type": "array", "items": number, "minItems": 4, "maxItems": 4}
    some = {"minItems": 1, "maxItems": max_zooms}
    zoom = {
        "regions": {"type": "array", "items": {"type": "string", "enum": list(facs.REGIONS)}, **some,
                    "description": "Names of facial regions to magnify."},
        "boxes": {"type": "array", "items": box, **some,
                  "description": f"Boxes [x1, y1, x2, y2] to magnify, {text}."},
        "image": {"type": "string", "enum": ["face", "original"],
                  "description": "The picture that the boxes refer to; the aligned face by default."},
    }  # fmt: skip
    return [
        _function(DETECT_ALIGN, "Find the face, bring it upright and to size, and get its four facial regions.", {}),
        _function(ZOOM_IN, "Magnify parts of the aligned face, by region names or by boxes.", zoom),
    ]


def coordinates_text(coordinates: Coordinates, size: tuple[int, int] | None = None) -> str:
    """Return in words how boxes are written; of pixels also how many the picture has, where `size` is given."""
    text = _UNITS[coordinates][0]
    return f"{text}, which has {size[0]} x {size[1]}" if size and coordinates == "pixels" else text


def extent(coordinates: Coordinates, size: tuple[int, int]) -> tuple[float, float]:
    """Return width and height, in a policy's coordinates, of a picture that it saw at `size` pixels."""
    sides = {"relative_1000": (1000, 1000), "pixels": size, "unit": (1, 1)}[coordinates]
    return float(sides[0]), float(sides[1])


def to_unit(box: Sequence[float], coordinates: Coordinates, size: tuple[int, int]) -> Box:
    """Convert a box from the wire to shares of the picture.

    Args:
        box: the numbers as the policy wrote them.
        coordinates: how it writes boxes.
        size: (width, height) in pixels of the picture that it saw.
    """
    return Box(*box) if coordinates == "unit" else Box(*box).shares(extent(coordinates, size))


def from_unit(box: Sequence[float], coordinates: Coordinates, size: tuple[int, int]) -> Box:
    """Convert a box from shares of the picture to the wire; rounded to whole numbers except for "unit"."""
    if coordinates == "unit":
        return Box(*(round(value, 4) for value in box))
    return Box(*(float(round(value)) for value in Box(*box).scaled(extent(coordinates, size))))


def _function(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
