"""`Episode`: the state machine that every front end drives, free of gymnasium and of any model.

| state   | legal calls                                                        | becomes                            |
|---------|--------------------------------------------------------------------|------------------------------------|
| RAW     | detect_align                                                       | ALIGNED, or NO_FACE without a face |
| RAW     | answer                                                             | DONE                               |
| ALIGNED | zoom_in, while zooms are left and the regions or boxes are new     | ALIGNED                            |
| ALIGNED, NO_FACE | answer                                                    | DONE                               |

Every other call is a violation: it costs a turn, changes nothing, and returns an error that says what is legal. The
table is that of ActFER's two tools; `EpisodeConfig.tools` may name others, each of which says when it may be called.
"""

from __future__ import annotations

# Longer than 400 lines: all rules of an episode are read in one place.
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.boxes import Box, BoxError
from actfer_env.errors import LabelError, SettingsError, ToolError, short
from actfer_env.rollout import LOOK_CLOSER, VIOLATIONS, Detection, Rollout, ToolCall
from actfer_env.tools.align import Alignment
from actfer_env.tools.base import (
    DEFAULT_TOOLS,
    DETECT_ALIGN,
    ZOOM_IN,
    Tool,
    ToolOutput,
    ViolationError,
)
from actfer_env.tools.face_tools import FaceTools
from actfer_env.tools.toolkit import Toolkit, make_tool, sound, toolkit
from actfer_env.tools.wire import Wire
from actfer_env.tools.zoom import Crop, repeated_regions

if TYPE_CHECKING:
    from actfer_env.sample import Sample

__all__ = ["Episode", "EpisodeConfig", "Rollout", "State", "StepResult", "ToolCall"]

ANSWER = "answer"


class State(IntEnum):
    """Stage of an episode."""

    RAW = 0
    ALIGNED = 1
    NO_FACE = 2
    DONE = 3


Zooming: TypeAlias = Literal["free", "never", "always"]
"""Rule of looking closer: it is up to the policy, impossible, or due before an answer."""
_VIEWS: Mapping[Detection, State] = {"not_called": State.RAW, "failed": State.NO_FACE}
_SHARES = Wire()
_PLAIN = frozenset({str, int, bool, NoneType})


@dataclass(frozen=True)
class EpisodeConfig:
    """Budgets, tools, and the answer's vocabulary.

    Attributes:
        max_turns: Calls and answer together (ActFER's horizon was lost in extraction; chosen here).
        max_zooms: Crops, whether asked for in one call or in several (chosen here: one for each region).
        au_set: The Action Units that targets and answers are restricted to, or the name of a set (a key of
            `facs.AU_SETS`); kept in ascending order.
        emotions: The emotions that an answer may name, in any known spelling; kept in the order of `facs.EMOTIONS`.
        tools: Tools to offer, in the order of schemas and prompt: names of registered tools, or `Tool` objects.
        zoom: "free" leaves looking closer to the policy. "never" takes the tools away that look closer: they are
            neither offered nor known. "always" refuses an answer before the first look, where a face is found and turns
            are left for it.

    Raises:
        SettingsError: a budget is out of its range, or no emotion is left; or zooming is forced without a zoom.
        LabelError: an Action Unit or emotion is unknown.
        ToolError: a tool is unknown, no tool, or given twice.
    """

    max_turns: int = bounded(6, ge=1)
    max_zooms: int = bounded(4, ge=0)
    au_set: tuple[int, ...] = facs.CORE_AUS
    emotions: tuple[str, ...] = facs.EMOTIONS
    tools: tuple[str | Tool, ...] = DEFAULT_TOOLS
    zoom: Zooming = "free"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.zoom not in get_args(Zooming):
            raise SettingsError(f"zoom {short(self.zoom)} is unknown: use one of {', '.join(get_args(Zooming))}")
        given: Any = self.au_set
        units = facs.parse_au_set(given) if isinstance(given, str) else facs.parse_aus(given)
        object.__setattr__(self, "au_set", tuple(sorted(units)))
        if self.emotions != facs.EMOTIONS:
            allowed = {facs.parse_emotion(label) for label in self.emotions}
            if not allowed:
                raise SettingsError("emotions is empty: name at least one that an answer may be")
            object.__setattr__(self, "emotions", tuple(label for label in facs.EMOTIONS if label in allowed))
        if self.tools is not DEFAULT_TOOLS:
            tools = (self.tools,) if isinstance(self.tools, str) else tuple(self.tools)
            object.__setattr__(self, "tools", tools)
            _ = self.toolkit
        if self.zoom == "never":
            kept = tuple(tool for tool in self.tools if not make_tool(tool).looks_closer)
            object.__setattr__(self, "tools", kept)
            _ = self.toolkit
        if self.zoom == "always" and (self.max_zooms < 1 or not any(t.looks_closer for t in self.toolkit.values())):
            raise SettingsError("zoom 'always' needs a tool that looks closer, and max_zooms of at least 1")

    @cached_property
    def known_aus(self) -> frozenset[int]:
        """The Action Units of `au_set`."""
        return frozenset(self.au_set)

    @property
    def toolkit(self) -> Toolkit:
        """The tools by name."""
        try:
            return toolkit(self.tools)
        except TypeError as error:
            raise ToolError(f"tools {short(self.tools)} must be names or hashable tools: {error}") from None

    def facts(self) -> dict[str, Any]:
        """Return the settings as JSON values; emotions and tools only where they are not the usual ones."""
        facts: dict[str, Any] = {
            "max_turns": self.max_turns, "max_zooms": self.max_zooms, "au_set": list(self.au_set),
        }  # fmt: skip
        if self.emotions != facs.EMOTIONS:
            facts["emotions"] = list(self.emotions)
        if self.tools != DEFAULT_TOOLS:
            facts["tools"] = list(self.toolkit)
        if self.zoom != "free":
            facts["zoom"] = self.zoom
        return facts


@dataclass(slots=True)
class StepResult:
    """Result of one turn.

    Attributes:
        legal: Whether the call was executed.
        message: Message for the policy; of a violation, what would have been legal.
        alignment: After a detect_align that found a face.
        crops: After a zoom_in.
        violation: The violation's name, or None.
        done: Whether the episode is over.
        output: Output of the tool, after a legal call.
    """

    legal: bool
    message: str
    alignment: Alignment | None = None
    crops: tuple[Crop, ...] = ()
    violation: str | None = None
    done: bool = False
    output: ToolOutput | None = None


class Episode:
    """One inspection episode over one sample.

    Args:
        sample: The picture and its labels.
        tools: Detection and decoding, shared between episodes.
        config: Budgets, and the tools that may be called.
        group_id: The query group; default is the sample's id.
        member: Index within the group.
        seed: The seed of the episode, for the record.
        step: The policy update, for the record.

    Raises:
        ImageError: the sample's picture cannot be read (a pre-aligned one is read at once).
    """

    def __init__(
        self,
        sample: Sample,
        tools: FaceTools,
        config: EpisodeConfig | None = None,
        *,
        group_id: str | None = None,
        member: int = 0,
        seed: int | None = None,
        step: int | None = None,
    ) -> None:
        self.sample, self.tools, self.config = sample, tools, config or EpisodeConfig()
        self.toolkit = self.config.toolkit
        self.wire = _SHARES
        """Coordinates and picture sizes of the caller; a front end may set them before the first turn."""
        self.group_id = sample.id if group_id is None else group_id
        self.member, self.seed, self.step = member, seed, step
        self.state = State.RAW
        self.turn = 0
        self.alignment: Alignment | None = None
        self.crops: list[Crop] = []
        self.calls: list[ToolCall] = []
        self.last: ToolCall | None = None
        """The call of the last turn; None before the first turn and after an answer."""
        self.truncated = False
        self.looked = True
        """True where a policy answers that looks at pictures; a script that only plays the tools sets it to False."""
        self.predicted_emotion: str | None = None
        self.predicted_aus: frozenset[int] | None = None
        self.detection: Detection = "not_called"
        """Outcome of the search for the face: "not_called", "ok", "failed", or "prealigned"."""
        self._dropped_answer: frozenset[int] = frozenset()
        self._seen_closely = False
        self._open: tuple[str, ...] = facs.REGIONS
        self._legal: tuple[str, ...] | None = None
        if sample.prealigned:
            self.alignment, self.state, self.detection = tools.alignment(sample), State.ALIGNED, "prealigned"

    @property
    def done(self) -> bool:
        """True once the episode is over."""
        return self.state is State.DONE

    @property
    def view(self) -> State:
        """View that the policy has of the face: RAW, ALIGNED or NO_FACE; stays after the episode is over."""
        return _VIEWS.get(self.detection, State.ALIGNED)

    @property
    def turns_left(self) -> int:
        """Turns that remain."""
        return self.config.max_turns - self.turn

    @property
    def zooms_left(self) -> int:
        """Crops that remain."""
        return self.config.max_zooms - len(self.crops)

    @property
    def zoomed_boxes(self) -> tuple[Box, ...]:
        """The boxes zoomed into so far, in order."""
        return tuple(crop.box for crop in self.crops)

    def legal_tools(self) -> tuple[str, ...]:
        """Return what may be called now: names of the episode's tools, and "answer"."""
        legal = self._legal
        if legal is None:  # asked several times a turn, and the same until the turn is over
            ends = () if self.look_due else (ANSWER,)
            self._legal = legal = () if self.state is State.DONE else (*self.toolkit.legal(self), *ends)
        return legal

    @property
    def look_due(self) -> bool:
        """True while an answer would be refused, since the policy must look closer first (`EpisodeConfig.zoom`)."""
        if self.config.zoom != "always" or self.state not in (State.RAW, State.ALIGNED):
            return False
        calls = 1 if self.state is State.ALIGNED else 2
        return self.turns_left > calls and not self._seen_closely

    def legal_regions(self) -> tuple[str, ...]:
        """Return the regions that zoom_in may name now, in the order of `facs.REGIONS`."""
        if self.state is not State.ALIGNED or len(self.crops) >= self.config.max_zooms or self.config.zoom == "never":
            return ()
        return self._open

    def reading(self) -> dict[str, Any]:
        """Return what the last turn's call found, as JSON values; treat what lies inside as read-only.

        Returns:
            After detect_align: `faces` (how many), and of the aligned one `index`, `score`, `box` (in pixels) and
            `regions` (name -> box in the aligned frame). After zoom_in: `crops`, for each its `region` (None for a free
            box), `box`, `inside`, `native` and `size`. After another tool: its result. After a violation: `error`.
            Empty after an answer.
        """
        if self.last is None:
            return {}
        tool = self.toolkit.get(self.last.name)
        if self.last.violation or tool is None or not tool.reading:
            return dict(self.last.result)
        return {key: self.last.result[key] for key in tool.reading if key in self.last.result}

    def detect_align(self) -> StepResult:
        """Call face-detect-align."""
        return self.call(DETECT_ALIGN, {})

    def zoom_in(self, regions: Any = None, boxes: Any = None, image: str | None = None) -> StepResult:
        """Call zoom-in by region names or boxes; see `actfer_env.tools.zoom_in`."""
        arguments = {"regions": regions, "boxes": boxes, "image": image}
        return self.call(ZOOM_IN, {key: value for key, value in arguments.items() if value is not None})

    def answer(self, emotion: str, aus: Iterable[str | int] | str | None = None) -> StepResult:
        """Answer and end the episode.

        Args:
            emotion: Any known spelling of one of `config.emotions`; another one is a violation.
            aus: Action Units, or None if the policy names none; those outside `au_set` are dropped and noted.
        """
        return self._turn(ANSWER, {"emotion": emotion, "aus": aus}, lambda: self._answer(emotion, aus))

    def call(self, name: str, arguments: Any = None) -> StepResult:
        """Call a tool by name with JSON arguments, legal or not.

        Args:
            name: One of the episode's tools; any other is the violation `unknown_tool`.
            arguments: The tool's arguments, boxes as `wire` writes them. What the policy is told speaks its coordinates
                too; the record has shares of the picture.

        Raises:
            RuntimeError: the episode is over.
            ImageError: the picture cannot be read.
            DetectorError: the detector lacks its extra or weights.
            ToolError: a tool returned something malformed.
        """
        arguments = {} if arguments is None else arguments
        return self._turn(name, self.wire.record(arguments), lambda: self._execute(name, arguments))

    def violate(self, violation: str, message: str, name: str = "", arguments: Any = None) -> StepResult:
        """Record a turn that a front end could not turn into a call, such as one that did not parse.

        Args:
            violation: One of `rollout.VIOLATIONS`.
            message: Description of the violation.
            name: Name that was called, as far as it is known.
            arguments: Arguments that were passed.
        """
        if violation not in VIOLATIONS:
            raise ValueError(f"unknown violation {violation!r}: use one of {', '.join(VIOLATIONS)}")

        def fail() -> StepResult:
            raise ViolationError(message, violation)

        return self._turn(name, {} if arguments is None else arguments, fail)

    def stop(self) -> None:
        """End the episode without an answer, such as when the policy is gone; it counts as truncated.

        Raises:
            RuntimeError: the episode is over.
        """
        if self.done:
            raise RuntimeError("the episode is over: start a new one")
        self.state, self.truncated, self._legal = State.DONE, True, None

    def rollout(self, texts: Iterable[str] = (), meta: Mapping[str, Any] | None = None) -> Rollout:
        """Return the record of the finished episode.

        Args:
            texts: The policy's own texts, one a turn.
            meta: Further JSON values for `Rollout.meta`.

        Raises:
            RuntimeError: the episode is not over.
        """
        if not self.done:
            raise RuntimeError("the episode is not over: answer first, or use up its turns")
        sample, au_set = self.sample, self.config.known_aus
        own: dict[str, Any] = {key: sample.meta[key] for key in ("dataset", "image", "quality") if key in sample.meta}
        own["dropped_aus"] = _spelled((sample.aus or frozenset()) - au_set)
        own["dropped_predicted_aus"] = _spelled(self._dropped_answer)
        if not self.looked:
            own["looked"] = False
        own.update(meta or {})
        return Rollout(
            sample_id=sample.id, group_id=self.group_id, emotion=sample.emotion,
            aus=None if sample.aus is None else sample.aus & au_set,
            predicted_emotion=self.predicted_emotion, predicted_aus=self.predicted_aus,
            tool_calls=tuple(self.calls), detection=self.detection, truncated=self.truncated, turns=self.turn,
            texts=tuple(texts), member=self.member, step=self.step, seed=self.seed,
            meta=own,
        )  # fmt: skip

    def _turn(self, name: str, arguments: Any, execute: Callable[[], StepResult]) -> StepResult:
        """Spend one turn on `execute`; record it, and end the episode when it was the last."""
        if self.done:
            raise RuntimeError("the episode is over: start a new one")
        self.legal_tools()  # as they are now; what a message says is legal is so in the next turn
        start = time.perf_counter()
        self.turn += 1
        try:
            result = execute()
        except (ViolationError, BoxError) as error:
            self._legal = None
            violation = error.name if isinstance(error, ViolationError) else "bad_arguments"
            result = StepResult(False, f"{error}. {self._advice()}", violation=violation)
        except BaseException:  # such as a picture that cannot be read: nothing was played
            self.turn -= 1
            raise
        elapsed = (time.perf_counter() - start) * 1000
        self.last, output = None, result.output
        if name != ANSWER or result.violation:
            closer = None  # whether the tool looks closer, where its name alone does not say so
            if output is not None and self.toolkit[name].looks_closer != (name in LOOK_CLOSER):
                closer = self.toolkit[name].looks_closer
            given = arguments if isinstance(arguments, (dict, Mapping)) else {"value": arguments}
            self.last = ToolCall(
                name=str(name), arguments=_json(given),
                violation=result.violation, turn=self.turn - 1, boxes=() if output is None else output.boxes,
                result={"error": result.message} if output is None else output.result,
                elapsed_ms=round(elapsed, 3), looks_closer=closer,
            )  # fmt: skip
            self.calls.append(self.last)
        done = self.state is State.DONE
        if not done and self.turn >= self.config.max_turns:
            self.state, self.truncated, done = State.DONE, True, True
        if done:
            self._legal = ()
        return result if result.done == done else replace(result, done=True)

    def _execute(self, name: str, arguments: Any) -> StepResult:
        """Run a tool where it may be called, and take up what it brought."""
        tool = self.toolkit.get(name) if isinstance(name, str) else None
        if tool is None:
            raise ViolationError(f"there is no tool {short(name)}", "unknown_tool")
        if name not in self.legal_tools():
            raise tool.refuse(self)
        self.toolkit.check(name, arguments)
        output = tool.run(self, **arguments)
        if not tool.checked:
            output = sound(tool, output)
            output = replace(output, result=_json(output.result))
        if output.crops and len(output.crops) > self.zooms_left:
            raise ViolationError(f"{len(output.crops)} zooms were asked for, {self.zooms_left} are left", "over_budget")
        self._seen_closely |= tool.looks_closer
        if output.searched:
            self.alignment = output.alignment
            self.detection = "failed" if output.alignment is None else "ok"
            self.state = self.view
        if output.crops:
            self.crops += output.crops
            for crop in output.crops if self.alignment is not None else ():  # a region seen closely is legal no more
                seen = repeated_regions(self.alignment, crop.box, self.tools.zoom)
                self._open = tuple(name for name in self._open if name not in seen)
        self._legal = None
        message = f"{output.message} {self._advice()}" if output.advise else output.message
        return StepResult(True, message, output.alignment, output.crops, output=output)

    def _answer(self, emotion: str, aus: Iterable[str | int] | str | None) -> StepResult:
        if ANSWER not in self.legal_tools():
            raise ViolationError("an answer comes after a look closer here", "illegal_order")
        try:
            label = facs.parse_emotion(emotion)
        except LabelError:
            label = ""
        if label not in self.config.emotions:
            known = ", ".join(self.config.emotions)
            raise ViolationError(f"unknown emotion {short(emotion)}: use one of {known}")
        try:
            units = None if aus is None else facs.parse_aus(aus)
        except (LabelError, TypeError) as error:
            raise ViolationError(str(error)) from error
        au_set = self.config.known_aus
        self.predicted_emotion = label
        self.predicted_aus = None if units is None else units & au_set
        self._dropped_answer = (units or frozenset()) - au_set
        self.state = State.DONE
        return StepResult(True, f"Answered {label}.", done=True)

    def _advice(self) -> str:
        return self.toolkit.advice(self.legal_tools(), self.legal_regions())


def _spelled(aus: frozenset[int]) -> list[str]:
    return [facs.format_au(au) for au in sorted(aus)] if aus else []


def _json(value: Any, depth: int = 32) -> Any:
    """Return `value` as JSON values, without what lies deeper; numbers that JSON does not know become strings."""
    if type(value) in _PLAIN:
        return value
    if depth == 0:
        return "..."
    if isinstance(value, (dict, Mapping)):
        return {str(key): item if type(item) in _PLAIN else _json(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [item if type(item) in _PLAIN else _json(item, depth - 1) for item in value]
    if hasattr(value, "tolist"):
        return _json(value.tolist(), depth)
    finite = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if finite else str(value)
