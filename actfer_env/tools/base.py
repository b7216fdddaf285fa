"""`Tool`: the contract of what a policy may call; `tools.toolkit` registers tools and puts an episode's together.

A tool is asked for everything that it alone knows: its schema, whether it may be called now, what it does, what it
tells, how a report describes it. An episode takes its tools from `EpisodeConfig.tools`; chat, prompts, rewards and
reports ask them, and know no tool by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from actfer_env.boxes import Box
from actfer_env.errors import short
from actfer_env.images import RGB
from actfer_env.tools.wire import Wire

if TYPE_CHECKING:
    from actfer_env.rollout import ToolCall
    from actfer_env.sample import Sample
    from actfer_env.tools.align import Alignment
    from actfer_env.tools.face_tools import FaceTools
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


class RunningEpisode(Protocol):
    """A running episode as a tool sees it, to be left as it is; `actfer_env.episode.Episode` is one.

    Attributes:
        sample: The sample, its picture and labels.
        tools: Pictures, the aligned face and crops, each made once.
        config: Budgets and vocabulary, an `EpisodeConfig`.
        wire: The policy's way to write boxes, and the sizes of the pictures that it sees.
        alignment: The aligned face, or None without one.
        detection: "not_called", "ok", "failed" or "prealigned".
        crops: Crops so far, in order.
        zoomed_boxes: Their boxes, in the aligned frame.
        zooms_left: Number of crops that remain.
    """

    sample: Sample
    tools: FaceTools
    config: Any
    wire: Wire
    alignment: Alignment | None
    detection: Any
    crops: list[Crop]

    @property
    def zoomed_boxes(self) -> tuple[Box, ...]: ...  # noqa: D102

    @property
    def zooms_left(self) -> int: ...  # noqa: D102

    def legal_regions(self) -> tuple[str, ...]:
        """Return the regions that may be magnified now."""
        ...


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

    def legal(self, episode: RunningEpisode) -> bool:
        """Tell whether the tool may be called now; asked in every turn of an episode that is not over.

        Args:
            episode: The running episode; to be left as it is.
        """
        del episode
        return True

    def refuse(self, episode: RunningEpisode) -> ViolationError:
        """Return why the tool may not be called now.

        Args:
            episode: The running episode.

        Returns:
            The error, with a message of one line and the name of the violation.
        """
        del episode
        return ViolationError(f"{self.name} cannot be called now", "illegal_order")

    def run(self, episode: RunningEpisode, **arguments: Any) -> ToolOutput:
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


def plain_words(call: ToolCall) -> str:
    """Return what a call's record says, in one line."""
    return short(json.dumps(call.result, ensure_ascii=False), 160).strip("'") if call.result else "done"
