"""The schemas of several tools, and the names that stand for coordinates on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actfer_env.tools.base import DEFAULT_TOOLS, DETECT_ALIGN, ZOOM_IN, ToolSpec
from actfer_env.tools.toolkit import toolkit
from actfer_env.tools.wire import Coordinates, Wire, coordinates_text, extent, from_unit, to_unit

__all__ = [
    "DETECT_ALIGN", "TOOLS", "ZOOM_IN", "Coordinates", "coordinates_text", "extent", "from_unit", "to_unit",
    "tool_schemas",
]  # fmt: skip

TOOLS: tuple[str, ...] = DEFAULT_TOOLS
"""The names of the tools that an episode has unless it is told otherwise."""


def tool_schemas(
    coordinates: Coordinates = "relative_1000", max_zooms: int = 4, tools: Sequence[ToolSpec] = DEFAULT_TOOLS
) -> list[dict[str, Any]]:
    """Return the tools as function schemas in OpenAI's format.

    Args:
        coordinates: Coordinates in which boxes are written.
        max_zooms: The largest number of regions or boxes that one call may name.
        tools: Names of registered tools, or tools.

    Returns:
        One schema for each tool.
    """
    return toolkit(tools).schemas(Wire(coordinates, max_zooms=max_zooms))
