"""Tools by name, and `Toolkit`: those of an episode, with the checks on what is passed to them and what they return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from actfer_env.boxes import UNIT, Box, BoxError
from actfer_env.errors import ToolError, short
from actfer_env.plugins import Registry, changes
from actfer_env.tools.base import RESERVED, RunningEpisode, Tool, ToolOutput, ToolSpec, ViolationError, plain_words
from actfer_env.tools.wire import Wire

if TYPE_CHECKING:
    from actfer_env.rollout import ToolCall

TOOLS: Registry[Callable[[], Any]] = Registry("tool", "actfer_env.tools", ToolError)
"""The tools by name."""


def register_tool(name: str, factory: Any, *, replace: bool = False) -> None:
    """Make a tool known by name to every front end, in this process and in workers that it starts.

    Args:
        name: The tool's name, letters, digits and underscores.
        factory: Called without arguments, such as the tool's class; or the tool itself.
        replace: Allow a name that is taken.

    Raises:
        ToolError: the name is taken or cannot be a tool's.
    """
    if not name.isidentifier() or name in RESERVED:
        raise ToolError(f"tool name {short(name)} must be letters, digits and underscores, and not {RESERVED[1:]}")
    TOOLS.register(name, factory if callable(factory) else _Given(factory), replace=replace)


class _Given:
    """A factory that returns one ready tool; it pickles, as a function within a function does not."""

    def __init__(self, tool: Any) -> None:
        self.tool = tool

    def __call__(self) -> Any:
        return self.tool


def make_tool(spec: Any) -> Tool:
    """Return a tool.

    Args:
        spec: A registered name, or a tool.

    Returns:
        The tool; a `Tool` object is returned as it is.

    Raises:
        ToolError: the name is unknown, or it is no tool.
    """
    made = TOOLS.find(spec)() if isinstance(spec, str) else spec
    name = getattr(made, "name", None)
    if not isinstance(name, str) or not all(callable(getattr(made, part, None)) for part in ("schema", "run")):
        raise ToolError(f"{short(spec)} is no tool: it needs a name, schema(wire) and run(episode, **arguments)")
    if isinstance(spec, str) and name != spec:
        raise ToolError(f"tool {spec!r} calls itself {name!r}: register it under that name")
    if not name.isidentifier() or name in RESERVED:
        raise ToolError(f"tool name {short(name)} must be letters, digits and underscores, and not {RESERVED[1:]}")
    return made if isinstance(made, Tool) else _Adapted(made)


class _Adapted(Tool):
    """A tool of another class, with this one's defaults."""

    def __init__(self, tool: Any) -> None:
        self.tool = tool
        for part in (part for part in dir(Tool) if not part.startswith("_")):
            if hasattr(tool, part):
                setattr(self, part, getattr(tool, part))
        self.name = tool.name


class Toolkit(dict[str, Tool]):
    """The tools of an episode by name, with the schemas of their arguments at hand.

    Attributes:
        parameters: Tool -> the JSON schema of its arguments.
    """

    def __init__(self, tools: Sequence[Any]) -> None:
        made = [make_tool(tool) for tool in tools]
        super().__init__((tool.name, tool) for tool in made)
        if not made or len(self) < len(made):
            raise ToolError("an episode needs at least one tool, each once")
        self.parameters = {tool.name: tool.schema(Wire())["function"]["parameters"] for tool in made}
        self._legal = [(tool.name, tool.legal) for tool in made]
        self._advice: dict[Any, str] = {}

    def legal(self, episode: RunningEpisode) -> list[str]:
        """Return the names of the tools that may be called now, in order.

        Args:
            episode: The running episode.
        """
        return [name for name, legal in self._legal if legal(episode)]

    def advice(self, legal: tuple[str, ...], regions: tuple[str, ...]) -> str:
        """Return in one sentence what is legal now.

        Args:
            legal: Names of tools, and of the answer.
            regions: Those that nobody has magnified yet.
        """
        key = legal, regions
        if key not in self._advice:
            names = [self[name].advice(regions) if name in self else name for name in legal]
            self._advice[key] = f"Legal now: {' or '.join(names)}."
        return self._advice[key]

    def check(self, name: str, arguments: Any) -> None:
        """Check a call's arguments, by the schema where the tool does not do it itself.

        Raises:
            ViolationError: they are none that the tool takes.
        """
        schema = self.parameters[name]
        known = schema.get("properties", {})
        mapping = type(arguments) is dict or isinstance(arguments, Mapping)
        if not mapping or not arguments.keys() <= known.keys():
            raise ViolationError(f"{name} takes these arguments: {', '.join(known) or 'none'}")
        if not self[name].checked and (fault := next(_faults(arguments, schema), None)):
            raise ViolationError(f"{name}: {fault}")

    def schemas(self, wire: Wire) -> list[dict[str, Any]]:
        """Return the function schemas in OpenAI's format.

        Args:
            wire: The policy's way to write boxes.

        Returns:
            One schema for each tool, in order.
        """
        return [tool.schema(wire) for tool in self.values()]


def toolkit(tools: Sequence[ToolSpec]) -> Toolkit:
    """Return the tools of some specs; the same object for the same specs, as long as nothing is registered anew.

    Raises:
        ToolError: one is unknown, no tool, or given twice.
    """
    return _toolkit(tuple(tools), changes())


@lru_cache(maxsize=64)
def _toolkit(tools: tuple[ToolSpec, ...], registered: int) -> Toolkit:
    del registered
    return Toolkit(tools)


def sound(tool: Tool, output: Any) -> ToolOutput:
    """Return what a tool has returned, after a look at it.

    Raises:
        ToolError: it is no `ToolOutput`, or holds a picture or a box that is none.
    """
    if not isinstance(output, ToolOutput):
        raise ToolError(f"tool {tool.name!r} returned {type(output).__name__}, not a ToolOutput")
    for picture in output.pictures:
        dtype, shape = getattr(picture, "dtype", None), tuple[int, ...](getattr(picture, "shape", ()))
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ToolError(f"tool {tool.name!r} returned a picture of {dtype} {shape}: give uint8 (H, W, 3) RGB")
    try:
        boxes = tuple(Box.parse(box, UNIT) for box in output.boxes)
    except BoxError as error:
        raise ToolError(f"tool {tool.name!r} returned a box that is none: {error}") from error
    return replace(output, boxes=boxes)


def describe_call(call: ToolCall) -> str:
    """Return in one line what a legal call brought, as its tool says; as its record says where it is not known here."""
    tool = known_tool(call.name)
    try:
        return plain_words(call) if tool is None else " ".join(str(tool.describe(call)).split())
    except Exception:  # a record of another version of the tool
        return plain_words(call)


def known_tool(name: str) -> Tool | None:
    """Return the registered tool of a name, or None."""
    try:
        return make_tool(name) if name in TOOLS else None
    except ToolError:
        return None


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,), "array": (list, tuple),
    "object": (dict,), "null": (type(None),),
}  # fmt: skip


def _faults(value: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Give what in a value is against its JSON schema: types, choices, bounds, lengths, what is required, nesting."""
    named, kinds = where or "the call", schema.get("type", ())
    allowed = [kinds] if isinstance(kinds, str) else list(kinds)
    is_bool = isinstance(value, bool)
    if allowed and not any(isinstance(value, _TYPES[kind]) and is_bool <= (kind == "boolean") for kind in allowed):
        yield f"{named} is {short(value)}, and must be {' or '.join(allowed)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{named} is {short(value)}, and must be one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, int | float) and not is_bool:
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if not (low <= value <= high and math.isfinite(value)):
            yield f"{named} is {value}, and must be a number{_range(low, high)}"
    if isinstance(value, list | tuple):
        low, high = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not low <= len(value) <= high:
            yield f"{named} has {len(value)} entries, and must have a number{_range(low, high)}"
        for i, item in enumerate(value):
            yield from _faults(item, schema.get("items", {}), f"{where}[{i}]")
    if isinstance(value, Mapping):
        yield from (f"{named} lacks {key!r}" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            yield from _faults(item, schema.get("properties", {}).get(key, {}), f"{where}.{key}".lstrip("."))


def _range(low: float, high: float) -> str:
    bounds = [f"at least {low}"] * (low > -math.inf) + [f"at most {high}"] * (high < math.inf)
    return f" of {' and '.join(bounds)}" if bounds else ""
