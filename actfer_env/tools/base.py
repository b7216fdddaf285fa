"""`Tool`: what a policy may call; those that come along and those that other code registers.

A tool is asked for everything that it alone knows: its schema, whether it may be called now, what it does, what it
tells, how a report describes it. An episode takes its tools from `EpisodeConfig.tools`; chat, prompts, rewards and
reports ask them, and know no tool by name.
"""

from __future__ import annotations

# Longer than 400 lines: the whole contract of a tool and its registry are read in one place.
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from actfer_env.boxes import UNIT, Box, BoxError
from actfer_env.errors import ToolError, short
from actfer_env.images import RGB
from actfer_env.plugins import Registry, changes
from actfer_env.tools.wire import Wire

if TYPE_CHECKING:
    from actfer_env.episode import Episode
    from actfer_env.rollout import ToolCall
    from actfer_env.tools.align import Alignment
    from actfer_env.tools.zoom import Crop

DETECT_ALIGN, ZOOM_IN = "detect_align", "zoom_in"
DEFAULT_TOOLS: tuple[str, ...] = (DETECT_ALIGN, ZOOM_IN)
"""The names of ActFER's tools, which an episode has unless it is told otherwise. The final answer is no tool."""
RESERVED = ("", "answer", "unknown")
"""Names that no tool can have: records and messages use them."""


def usual_calls(regions: Sequence[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of ActFER's trajectory: align the face, then magnify regions one by one."""
    return [(DETECT_ALIGN, {}), *((ZOOM_IN, {"regions": [region]}) for region in regions)]


class ViolationError(Exception):
    """A call that a tool refuses: it costs a turn and changes nothing.

    Args:
        message: One line that says what was wrong; what is legal is added to it.
        name: One of `rollout.VIOLATIONS`.
    """

    def __init__(self, message: str, name: str = "bad_arguments") -> None:
        super().__init__(message)
        self.name = name


@dataclass(slots=True)
class ToolOutput:
    """Result of a tool call.

    Attributes:
        message: Message for the policy, in one line.
        pictures: Pictures that it is shown, uint8 (H, W, 3) RGB.
        boxes: Boxes that the tool looked at, in the aligned frame, each coordinate in [0, 1].
        result: Values that it found, as JSON values; kept in the rollout, and all that a report knows of the call.
        advise: Add to the message what is legal now.
        searched: Whether the tool has looked for the face; the episode's state follows what it found.
        alignment: The face that it found, or None.
        crops: Magnified crops; they count towards `max_zooms`.
    """

    message: str
    pictures: tuple[RGB, ...] = ()
    boxes: tuple[Box, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    advise: bool = True
    searched: bool = False
    alignment: Alignment | None = None
    crops: tuple[Crop, ...] = ()


class Tool:
    """A tool: derive from it and write `name`, `schema` and `run`; the rest has defaults.

    An object of another class that has `name`, `schema` and `run` is a tool too; what else it lacks is as here. A tool
    holds nothing that changes: one object serves many episodes and threads, and travels to other processes by pickle.
    `run` returns what it found and leaves the episode alone; the episode takes up what the output says.

    Attributes:
        name: Name that the policy calls.
        looks_closer: Whether the zoom contrast counts a legal call as a zoom (`Rollout.zoomed`).
        example: Arguments of a typical call, for the prompt.
        reading: Keys of the result that an environment's ``info["result"]`` shows; all, where it is empty.
        checked: Whether `run` checks its arguments itself, and returns JSON values and sound pictures. Arguments of
            other tools are checked against their schema, and what they return is looked at.
    """

    name: str
    looks_closer: bool = False
    example: Mapping[str, Any] = {}
    reading: tuple[str, ...] = ()
    checked: bool = False

    def schema(self, wire: Wire) -> dict[str, Any]:
        """Return the function schema in OpenAI's format; `function_schema` writes one.

        Args:
            wire: The policy's way to write boxes.

        Returns:
            The schema, a dict of JSON values.
        """
        raise NotImplementedError

    def legal(self, episode: Episode) -> bool:
        """Tell whether the tool may be called now; asked in every turn of an episode that is not over.

        Args:
            episode: The running episode; to be left as it is.
        """
        del episode
        return True

    def refuse(self, episode: Episode) -> ViolationError:
        """Return why the tool may not be called now.

        Args:
            episode: The running episode.

        Returns:
            The error, with a message of one line and the name of the violation.
        """
        del episode
        return ViolationError(f"{self.name} cannot be called now", "illegal_order")

    def run(self, episode: Episode, **arguments: Any) -> ToolOutput:
        """Do the work.

        Args:
            episode: Gives the sample, `episode.tools` (pictures, crops, the aligned face), `episode.alignment` and
                `episode.wire`, by which boxes are read; to be left as it is.
            **arguments: what the policy passed, keys of the schema's.

        Returns:
            The message, pictures, boxes and result of the call.

        Raises:
            ViolationError: the call is refused.
            BoxError: the same, for a box that is none.
        """
        raise NotImplementedError

    def tell(self, output: ToolOutput, wire: Wire) -> dict[str, Any]:
        """Return what a language policy is told beside the message, as JSON values with boxes as it writes them.

        Args:
            output: Output of `run`.
            wire: The policy's way to write boxes.

        Returns:
            The values that its tool message holds.
        """
        del wire
        return output.result

    def advice(self, regions: tuple[str, ...]) -> str:
        """Return how a message names the tool among what is legal now.

        Args:
            regions: Those that nobody has magnified yet.

        Returns:
            The words, such as "zoom_in (nose, or a new box)".
        """
        del regions
        return self.name

    def hint(self, arguments: Any, wire: Wire) -> str:
        """Return what a language policy is told after a call with bad arguments; it begins with a space.

        Args:
            arguments: Arguments that were refused, of any type.
            wire: The policy's way to write boxes.

        Returns:
            A sentence, or an empty text.
        """
        del arguments, wire
        return ""

    def guide(self, wire: Wire) -> str:
        """Return when to use the tool, a sentence or two for the system prompt.

        Args:
            wire: The policy's way to write boxes.

        Returns:
            The sentences.
        """
        return f"You may call {self.name}: {self.schema(wire)['function']['description']}"

    def describe(self, call: ToolCall) -> str:
        """Return in one line what a legal call brought, for reports.

        Args:
            call: A legal call of this tool, as the rollout keeps it.

        Returns:
            The line.
        """
        return plain_words(call)

    def draw(
        self, call: ToolCall, image: RGB, alignment: Alignment | None, side: int
    ) -> Sequence[tuple[str, RGB]] | None:
        """Draw a stored call's pictures again, for reports.

        Args:
            call: A legal call.
            image: The raw picture, uint8 (H, W, 3).
            alignment: Alignment of its face, or None.
            side: Long side of the pictures, pixels.

        Returns:
            Titles and pictures, uint8 (H, W, 3); None leaves it to the report, which draws the call's boxes.
        """
        del call, image, alignment, side
        return None


ToolSpec: TypeAlias = str | Tool
"""A registered tool's name, or a tool."""
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

    def legal(self, episode: Episode) -> list[str]:
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


def function_schema(
    name: str, description: str, properties: Mapping[str, Any], required: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a function schema in OpenAI's format; unknown arguments are forbidden.

    Args:
        name: Name of the tool.
        description: Description of its purpose.
        properties: Argument -> its JSON schema.
        required: Arguments that every call must have.

    Returns:
        The schema, a dict of JSON values.
    """
    parameters = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    parameters |= {"required": list(required)} if required else {}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


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


def plain_words(call: ToolCall) -> str:
    """Return what a call's record says, in one line."""
    return short(json.dumps(call.result, ensure_ascii=False), 160).strip("'") if call.result else "done"


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
