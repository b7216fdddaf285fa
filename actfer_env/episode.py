"""`Episode`: the state machine that every front end drives, free of gymnasium and of any model.

| state   | legal calls                                                        | becomes                            |
|---------|--------------------------------------------------------------------|------------------------------------|
| RAW     | detect_align                                                       | ALIGNED, or NO_FACE without a face |
| RAW     | answer                                                             | DONE                               |
| ALIGNED | zoom_in, while zooms are left and the regions or boxes are new     | ALIGNED                            |
| ALIGNED, NO_FACE | answer                                                    | DONE                               |

Every other call is a violation: it costs a turn, changes nothing, and returns an error that says what is legal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from functools import cached_property, lru_cache
from types import NoneType
from typing import TYPE_CHECKING, Any

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import LabelError, SettingsError, short
from actfer_env.rollout import VIOLATIONS, Box, Detection, Rollout, ToolCall
from actfer_env.tools.align import Alignment
from actfer_env.tools.cache import FaceTools
from actfer_env.tools.schema import ARGUMENTS, DETECT_ALIGN, TOOLS, ZOOM_IN
from actfer_env.tools.zoom import UNIT, BoxError, Crop, in_shares, is_repeat, repeated_regions, resolve

if TYPE_CHECKING:
    from actfer_env.data.sample import Sample

__all__ = ["Episode", "EpisodeConfig", "Rollout", "State", "StepResult", "ToolCall"]

ANSWER = "answer"
_ARGUMENTS = {name: frozenset(known) for name, known in ARGUMENTS.items()}


class State(IntEnum):
    """Where an episode stands."""

    RAW = 0
    ALIGNED = 1
    NO_FACE = 2
    DONE = 3


_LEGAL_TOOLS: Mapping[State, tuple[str, ...]] = {
    State.RAW: (DETECT_ALIGN, ANSWER), State.ALIGNED: (ANSWER,), State.NO_FACE: (ANSWER,), State.DONE: (),
}  # fmt: skip
"""What is legal once no zoom is left."""
_READ = ("error", "faces", "index", "score", "box", "regions")
"""What a reader is told of a detection; the rest stands in the rollout."""
_VIEWS: Mapping[Detection, State] = {"not_called": State.RAW, "failed": State.NO_FACE}


@dataclass(frozen=True)
class EpisodeConfig:
    """Budgets and the answer's vocabulary.

    Attributes:
        max_turns: calls and answer together (ActFER's horizon was lost in extraction; chosen here).
        max_zooms: crops, whether asked for in one call or in several (chosen here: one for each region).
        au_set: the Action Units that targets and answers are restricted to, or the name of a set (a key of
            `facs.AU_SETS`); kept in ascending order.
        emotions: the emotions that an answer may name, in any known spelling; kept in the order of `facs.EMOTIONS`.

    Raises:
        SettingsError: a budget is out of its range, or no emotion is left.
        LabelError: an Action Unit or emotion is unknown.
    """

    max_turns: int = bounded(6, ge=1)
    max_zooms: int = bounded(4, ge=0)
    au_set: tuple[int, ...] = facs.CORE_AUS
    emotions: tuple[str, ...] = facs.EMOTIONS

    def __post_init__(self) -> None:
        check_fields(self)
        given: Any = self.au_set
        units = facs.parse_au_set(given) if isinstance(given, str) else facs.parse_aus(given)
        object.__setattr__(self, "au_set", tuple(sorted(units)))
        if self.emotions != facs.EMOTIONS:
            allowed = {facs.parse_emotion(label) for label in self.emotions}
            if not allowed:
                raise SettingsError("emotions is empty: name at least one that an answer may be")
            object.__setattr__(self, "emotions", tuple(label for label in facs.EMOTIONS if label in allowed))

    def facts(self) -> dict[str, Any]:
        """Return what a stored run says of its episodes; `emotions` only where they are not all."""
        kept = asdict(self)
        return kept if self.emotions != facs.EMOTIONS else {k: v for k, v in kept.items() if k != "emotions"}

    @cached_property
    def known_aus(self) -> frozenset[int]:
        """The Action Units of `au_set`."""
        return frozenset(self.au_set)


@dataclass(frozen=True)
class StepResult:
    """What one turn brought.

    Attributes:
        legal: whether the call was executed.
        message: what the policy is told; of a violation, what would have been legal.
        alignment: after a detect_align that found a face.
        crops: after a zoom_in.
        violation: the violation's name, or None.
        done: whether the episode is over.
    """

    legal: bool
    message: str
    alignment: Alignment | None = None
    crops: tuple[Crop, ...] = ()
    violation: str | None = None
    done: bool = False


class _ViolationError(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Episode:
    """One inspection episode over one sample.

    Args:
        sample: the picture and its labels.
        tools: detection and decoding, shared between episodes.
        config: budgets.
        group_id: the query group; default is the sample's id.
        member: index within the group.
        seed: the seed of the episode, for the record.
        step: the policy update, for the record.

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
        """Whether a policy answers that looks at pictures; a script that only plays the tools sets it to False."""
        self.predicted_emotion: str | None = None
        self.predicted_aus: frozenset[int] | None = None
        self._detection: Detection = "not_called"
        self._dropped_answer: frozenset[int] = frozenset()
        self._open: tuple[str, ...] = facs.REGIONS
        if sample.prealigned:
            self.alignment, self.state, self._detection = tools.alignment(sample), State.ALIGNED, "prealigned"

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.state is State.DONE

    @property
    def view(self) -> State:
        """What the policy has seen of the face: RAW, ALIGNED or NO_FACE; stays after the episode is over."""
        return _VIEWS.get(self._detection, State.ALIGNED)

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
        """Return what may be called now: any of "detect_align", "zoom_in", "answer"."""
        state = self.state
        if state is State.ALIGNED and len(self.crops) < self.config.max_zooms:
            return (ZOOM_IN, ANSWER)
        return _LEGAL_TOOLS[state]

    def legal_regions(self) -> tuple[str, ...]:
        """Return the regions that zoom_in may name now, in the order of `facs.REGIONS`."""
        if self.state is not State.ALIGNED or len(self.crops) >= self.config.max_zooms:
            return ()
        return self._open

    def reading(self) -> dict[str, Any]:
        """Return what the last turn's call found, as JSON values; treat what lies inside as read-only.

        Returns:
            After detect_align: `faces` (how many), and of the aligned one `index`, `score`, `box` (in pixels) and
            `regions` (name -> box in the aligned frame). After zoom_in: `crops`, for each its `region` (None for a free
            box), `box`, `inside`, `native` and `size`. After a violation: `error`. Empty after an answer.
        """
        if self.last is None:
            return {}
        if self.last.name != DETECT_ALIGN:
            return dict(self.last.result)
        return {key: self.last.result[key] for key in _READ if key in self.last.result}

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
            emotion: any known spelling of one of `config.emotions`; another one is a violation.
            aus: Action Units, or None if the policy names none; those outside `au_set` are dropped and noted.
        """
        return self._turn(ANSWER, {"emotion": emotion, "aus": aus}, lambda: self._answer(emotion, aus))

    def call(self, name: str, arguments: Any = None, extent: tuple[float, float] = UNIT) -> StepResult:
        """Call a tool by name with JSON arguments, legal or not.

        Args:
            name: "detect_align" or "zoom_in"; any other is the violation `unknown_tool`.
            arguments: the tool's arguments.
            extent: width and height, in the caller's coordinates, of the picture that its boxes refer to. What the
                policy is told speaks them too; the record has shares of the picture.

        Raises:
            RuntimeError: the episode is over.
            ImageError: the picture cannot be read.
            DetectorError: the detector lacks its extra or weights.
        """
        arguments = {} if arguments is None else arguments
        return self._turn(name, in_shares(arguments, extent), lambda: self._execute(name, arguments, extent))

    def violate(self, violation: str, message: str, name: str = "", arguments: Any = None) -> StepResult:
        """Record a turn that a front end could not turn into a call, such as one that did not parse.

        Args:
            violation: one of `rollout.VIOLATIONS`.
            message: what was wrong.
            name: what was called, as far as it is known.
            arguments: what was passed.
        """
        if violation not in VIOLATIONS:
            raise ValueError(f"unknown violation {violation!r}: use one of {', '.join(VIOLATIONS)}")

        def fail() -> StepResult:
            raise _ViolationError(violation, message)

        return self._turn(name, {} if arguments is None else arguments, fail)

    def stop(self) -> None:
        """End the episode without an answer, such as when the policy is gone; it counts as truncated.

        Raises:
            RuntimeError: the episode is over.
        """
        if self.done:
            raise RuntimeError("the episode is over: start a new one")
        self.state, self.truncated = State.DONE, True

    def rollout(self, texts: Iterable[str] = (), meta: Mapping[str, Any] | None = None) -> Rollout:
        """Return the record of the finished episode.

        Args:
            texts: the policy's own texts, one a turn.
            meta: further JSON values for `Rollout.meta`.

        Raises:
            RuntimeError: the episode is not over.
        """
        if not self.done:
            raise RuntimeError("the episode is not over: answer first, or use up its turns")
        sample, au_set = self.sample, self.config.known_aus
        return Rollout(
            sample_id=sample.id, group_id=self.group_id, emotion=sample.emotion,
            aus=None if sample.aus is None else sample.aus & au_set,
            predicted_emotion=self.predicted_emotion, predicted_aus=self.predicted_aus,
            tool_calls=tuple(self.calls), detection=self._detection, truncated=self.truncated, turns=self.turn,
            texts=tuple(texts), member=self.member, step=self.step, seed=self.seed,
            meta={**self._meta(au_set), **meta} if meta else self._meta(au_set),
        )  # fmt: skip

    def _meta(self, au_set: frozenset[int]) -> dict[str, Any]:
        known = self.sample.meta
        return {
            **{key: known[key] for key in ("dataset", "image", "quality") if key in known},
            "dropped_aus": _spelled((self.sample.aus or frozenset()) - au_set),
            "dropped_predicted_aus": _spelled(self._dropped_answer),
            **({} if self.looked else {"looked": False}),
        }

    def _turn(self, name: str, arguments: Any, execute: Callable[[], StepResult]) -> StepResult:
        """Spend one turn on `execute`; record it, and end the episode when it was the last."""
        if self.done:
            raise RuntimeError("the episode is over: start a new one")
        start = time.perf_counter()
        try:
            result = execute()
        except _ViolationError as error:
            result = StepResult(False, f"{error}. {self._advice()}", violation=error.name)
        elapsed = (time.perf_counter() - start) * 1000
        self.last = None
        if name != ANSWER or result.violation:
            self.last = self._record(name, arguments, result, elapsed)
            self.calls.append(self.last)
        self.turn += 1
        if not self.done and self.turns_left == 0:
            self.state, self.truncated = State.DONE, True
        return result if result.done == self.done else replace(result, done=True)

    def _record(self, name: str, arguments: Any, result: StepResult, elapsed: float) -> ToolCall:
        details: dict[str, Any] = {"error": result.message} if result.violation else {}
        if not result.violation and name == DETECT_ALIGN:
            details = {"faces": 0} if result.alignment is None else result.alignment.to_dict()
        elif not result.violation:
            details = {"crops": [crop.to_dict() for crop in result.crops]}
        return ToolCall(
            name=str(name), arguments=_json(arguments if _is_mapping(arguments) else {"value": arguments}),
            violation=result.violation, turn=self.turn, boxes=tuple([crop.box for crop in result.crops]),
            result=details, elapsed_ms=round(elapsed, 3),
        )  # fmt: skip

    def _execute(self, name: str, arguments: Any, extent: tuple[float, float]) -> StepResult:
        if name not in TOOLS:
            raise _ViolationError("unknown_tool", f"there is no tool {short(name)}")
        self._check_order(name)
        if not _is_mapping(arguments) or not arguments.keys() <= _ARGUMENTS[name]:
            allowed = ", ".join(ARGUMENTS[name]) or "none"
            raise _ViolationError("bad_arguments", f"{name} takes these arguments: {allowed}")
        return self._detect_align() if name == DETECT_ALIGN else self._zoom_in(**arguments, extent=extent)

    def _check_order(self, name: str) -> None:
        if name in self.legal_tools():
            return
        if name == DETECT_ALIGN and self._detection != "prealigned":
            raise _ViolationError("repeated_call", "detect_align was called already")
        if name == ZOOM_IN and self.state is State.ALIGNED:
            raise _ViolationError("over_budget", f"all {self.config.max_zooms} zooms are used")
        reasons = {
            State.RAW: "zoom_in needs an aligned face, and detect_align was not called yet",
            State.NO_FACE: "zoom_in is impossible: no face was found",
            State.ALIGNED: "the picture is an aligned face already",
        }
        raise _ViolationError("illegal_order", reasons[self.state])

    def _detect_align(self) -> StepResult:
        self.alignment = self.tools.alignment(self.sample)
        if self.alignment is None:
            self.state, self._detection = State.NO_FACE, "failed"
            return StepResult(True, "No face was found. Answer from the whole picture.")
        self.state, self._detection = State.ALIGNED, "ok"
        count, place = self.alignment.faces, self.alignment.index + 1
        which = "one face" if count == 1 else f"face {place} of {count} by size"
        return StepResult(True, f"Aligned {which}. {self._advice()}", alignment=self.alignment)

    def _zoom_in(
        self, regions: Any = None, boxes: Any = None, image: Any = "face", *, extent: tuple[float, float]
    ) -> StepResult:
        assert self.alignment is not None
        try:
            wanted = resolve(self.alignment, regions, boxes, image, self.tools.zoom, extent)
        except (BoxError, LabelError) as error:
            raise _ViolationError("bad_arguments", str(error)) from error
        if len(wanted) > 1 or wanted[0][0] not in self.legal_regions():
            self._check_new([box for _, box in wanted])
        crops = tuple(self.tools.crop(self.sample, self.alignment, box, name) for name, box in wanted)
        self.crops += crops
        self._close_regions(crops)
        shown = ", ".join(crop.region or "a box" for crop in crops)
        return StepResult(True, f"Magnified {shown}. {self._advice()}", crops=crops)

    def _close_regions(self, crops: Iterable[Crop]) -> None:
        assert self.alignment is not None
        for crop in crops:
            seen = repeated_regions(self.alignment, crop.box, self.tools.zoom)
            self._open = tuple(name for name in self._open if name not in seen)

    def _check_new(self, boxes: list[Box]) -> None:
        if len(boxes) > self.zooms_left:
            raise _ViolationError("over_budget", f"{len(boxes)} zooms were asked for, {self.zooms_left} are left")
        for i, box in enumerate(boxes):
            if is_repeat(box, [*self.zoomed_boxes, *boxes[:i]], self.tools.zoom):
                raise _ViolationError("repeated_call", "this region or box was magnified already")

    def _answer(self, emotion: str, aus: Iterable[str | int] | str | None) -> StepResult:
        try:
            label = facs.parse_emotion(emotion)
        except LabelError:
            label = ""
        if label not in self.config.emotions:
            known = ", ".join(self.config.emotions)
            raise _ViolationError("bad_arguments", f"unknown emotion {short(emotion)}: use one of {known}")
        try:
            units = None if aus is None else facs.parse_aus(aus)
        except (LabelError, TypeError) as error:
            raise _ViolationError("bad_arguments", str(error)) from error
        au_set = self.config.known_aus
        self.predicted_emotion = label
        self.predicted_aus = None if units is None else units & au_set
        self._dropped_answer = (units or frozenset()) - au_set
        self.state = State.DONE
        return StepResult(True, f"Answered {label}.", done=True)

    def _advice(self) -> str:
        return _advice(self.legal_tools(), self.legal_regions())


def _is_mapping(value: Any) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


def _spelled(aus: frozenset[int]) -> list[str]:
    return [facs.format_au(au) for au in sorted(aus)] if aus else []


@lru_cache(maxsize=256)
def _advice(tools: tuple[str, ...], regions: tuple[str, ...]) -> str:
    legal = [name for name in tools if name != ZOOM_IN]
    if ZOOM_IN in tools:
        legal.insert(0, f"zoom_in ({', '.join([*regions, 'or a new box'] if regions else ['a new box'])})")
    return f"Legal now: {' or '.join(legal)}."


def _json(value: Any, depth: int = 32) -> Any:
    """Return `value` as JSON values, without what lies deeper; numbers that JSON does not know become strings."""
    if type(value) in (str, int, bool, NoneType):
        return value
    if depth == 0:
        return "..."
    if _is_mapping(value):
        return {str(key): _json(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(item, depth - 1) for item in value]
    if hasattr(value, "tolist"):
        return _json(value.tolist(), depth)
    return value if isinstance(value, str | int) or _is_finite(value) else str(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
