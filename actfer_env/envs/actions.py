"""The three action formats, each with its space, its mask, and the way to and from the episode's calls."""

from __future__ import annotations

# Longer than 400 lines: the three formats stand side by side, so that their masks and meanings can be compared.
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, compress
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.boxes import Box
from actfer_env.episode import ANSWER, Episode, StepResult
from actfer_env.errors import short
from actfer_env.tools.schema import DETECT_ALIGN, ZOOM_IN
from actfer_env.tools.zoom import ZOOM, ZoomConfig, check_box, is_repeat

ActionFormat: TypeAlias = Literal["dict", "multidiscrete", "discrete"]
Mask: TypeAlias = NDArray[np.int8]

_BITS = frozenset((0, 1))
REGION_COUNT, EMOTION_COUNT = len(facs.REGIONS), len(facs.EMOTIONS)


@dataclass(frozen=True)
class Move:
    """One turn, whatever the action format.

    Attributes:
        tool: "detect_align", "zoom_in" or "answer".
        region: Name of the region to zoom into; None if `box` is given.
        box: Box to zoom into, (x1, y1, x2, y2) in the aligned frame.
        emotion: Emotion of the answer.
        aus: Action Units of the answer.
    """

    tool: str
    region: str | None = None
    box: Box | None = None
    emotion: str = "neutral"
    aus: frozenset[int] = frozenset()

    def play(self, episode: Episode) -> StepResult:
        """Make the move in an episode.

        Args:
            episode: The running episode.

        Returns:
            The result of its turn.
        """
        if self.tool == ANSWER:
            return episode.answer(self.emotion, self.aus)
        if self.tool == ZOOM_IN and self.region is not None:
            return episode.call(ZOOM_IN, {"regions": [self.region]})
        return episode.call(self.tool, None if self.box is None or self.tool != ZOOM_IN else {"boxes": [self.box]})


class Magnified(NamedTuple):
    """A mask of boxes: what was magnified before, and may not be again.

    Attributes:
        boxes: (x1, y1, x2, y2) in the aligned frame.
        zoom: Says when two boxes count as the same.
    """

    boxes: tuple[Box, ...] = ()
    zoom: ZoomConfig = ZOOM


class ZoomBox(spaces.Box):
    """``Box(0, 1, (4,))``: (cx, cy, w, h) in the aligned frame; `sample` takes a `Magnified` as its mask."""

    def __init__(self) -> None:
        super().__init__(0.0, 1.0, (4,), np.float32)

    def sample(self, mask: Magnified | None = None, probability: None = None) -> NDArray[Any]:
        """Return a random box, beside a mask one that was not magnified before."""
        while True:
            drawn = super().sample(None, probability)
            box = _corners(drawn)
            if mask is None:
                return drawn
            sound = box.x1 < box.x2 and box.y1 < box.y2
            if sound and not is_repeat(check_box(box, mask.zoom), mask.boxes, mask.zoom):
                return drawn


class ActionCodec(Protocol):
    """Translates between a gymnasium action and a `Move`."""

    @property
    def space(self) -> gym.Space[Any]:
        """The action space."""

    @property
    def mask_size(self) -> int:
        """Entries of the mask."""

    @property
    def derives_aus(self) -> bool:
        """True if the answer's Action Units follow from its emotion."""

    def decode(self, action: Any) -> Move:
        """Return the move that an action stands for.

        Args:
            action: An action of the space, as NumPy or plain Python values.

        Returns:
            The move.

        Raises:
            ValueError: the action is not of the space; the parts of it that the move uses are looked at.
        """

    def encode(self, move: Move) -> Any:
        """Return the action that stands for a move.

        Args:
            move: The move.

        Returns:
            An action of the space.
        """

    def rows(self, actions: Any) -> list[Any]:
        """Return the single actions, of plain Python numbers, of a vector environment's batch."""

    def mask(self, episode: Episode) -> Mask:
        """Return which (sub-)actions are legal now, int8 (mask_size,); read-only.

        Args:
            episode: The running episode.

        Returns:
            1 where a (sub-)action is legal, else 0.
        """

    def sample_mask(self, mask: Mask, magnified: Magnified) -> Any:
        """Return a mask (mask_size,) in the form that the `sample` of the space takes; it shares the mask's memory."""

    def draw(self, rng: np.random.Generator, mask: NDArray[np.bool_]) -> Any:
        """Return a random action among those that the mask (mask_size,) allows.

        Args:
            rng: Source of the randomness.
            mask: Mask of `mask`, int8 (mask_size,).

        Returns:
            An action of the space.
        """


class DictActions:
    """``{tool: Discrete(3), box: Box(0, 1, (4,)), emotion: Discrete(8), aus: MultiBinary(n)}``.

    Tool 0 is detect_align, 1 zoom_in, 2 answer. The box is (cx, cy, w, h) in the aligned frame and is clipped to it.
    The mask has one entry for each tool.
    """

    tools = (DETECT_ALIGN, ZOOM_IN, ANSWER)
    derives_aus = False

    def __init__(self, au_set: Sequence[int]) -> None:
        self.au_set = tuple(au_set)
        self.mask_size = len(self.tools)
        self.space = spaces.Dict({
            "tool": spaces.Discrete(len(self.tools)),
            "box": ZoomBox(),
            "emotion": spaces.Discrete(EMOTION_COUNT),
            "aus": spaces.MultiBinary(len(self.au_set)),
        })  # fmt: skip

    def decode(self, action: Any) -> Move:
        """Return the move; see `ActionCodec`."""
        if not isinstance(action, Mapping) or set(action) != set(self.space):
            raise ValueError(f"action {short(action)} must be a dict of {', '.join(self.space)}")
        tool = self.tools[_index(action["tool"], len(self.tools), "tool")]
        emotion = facs.EMOTIONS[_index(action["emotion"], EMOTION_COUNT, "emotion")]
        return Move(tool, None, _corners(action["box"]), emotion, _chosen(action["aus"], self.au_set))

    def encode(self, move: Move) -> dict[str, Any]:
        """Return the action; a region must be given as its box."""
        box = Box(*(move.box or (0.25, 0.25, 0.75, 0.75)))
        return {
            "tool": np.int64(self.tools.index(move.tool)),
            "box": np.array(box.to_centre(), np.float32),
            "emotion": np.int64(facs.EMOTIONS.index(move.emotion)),
            "aus": _bits(move.aus, self.au_set),
        }

    def rows(self, actions: Any) -> list[dict[str, Any]]:
        """Return the single actions of a batch; see `ActionCodec`."""
        columns = [np.asarray(actions[key]).tolist() for key in self.space]
        return [dict(zip(self.space, values, strict=True)) for values in zip(*columns, strict=True)]

    def mask(self, episode: Episode) -> Mask:
        """Return the mask over the tools."""
        return _tool_mask(episode.legal_tools())

    def sample_mask(self, mask: Mask, magnified: Magnified) -> dict[str, Any]:
        """Return a dict: int8 (3,) over the tools, the boxes that are used up, int8 (8,) and (n,) of what is free."""
        free = np.ones(EMOTION_COUNT, np.int8), np.full(len(self.au_set), 2, np.int8)
        return {"tool": mask, "box": magnified, "emotion": free[0], "aus": free[1]}

    def draw(self, rng: np.random.Generator, mask: NDArray[np.bool_]) -> dict[str, Any]:
        """Return a random legal action; its box lies within the face."""
        (x1, x2), (y1, y2) = np.sort(rng.random(2)), np.sort(rng.random(2))
        return {
            "tool": np.int64(_pick(rng, mask)),
            "box": np.array(Box(x1, y1, x2, y2).to_centre(), np.float32),
            "emotion": rng.integers(EMOTION_COUNT),
            "aus": rng.integers(2, size=len(self.au_set)).astype(np.int8),
        }


class MultiDiscreteActions:
    """``MultiDiscrete([6, 8, 2, ..., 2])``: tool or region, emotion, one bit for each Action Unit of the set.

    The first entry is 0 for detect_align, 1 to 4 for zoom_in on a region, 5 for answer. The mask joins one mask for
    each entry, as sb3-contrib's MaskablePPO reads it.
    """

    derives_aus = False

    def __init__(self, au_set: Sequence[int]) -> None:
        self.au_set = tuple(au_set)
        sizes = [2 + REGION_COUNT, EMOTION_COUNT, *[2] * len(self.au_set)]
        self.mask_size = sum(sizes)
        self.space = spaces.MultiDiscrete(sizes)
        self._parts = [slice(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]

    def decode(self, action: Any) -> Move:
        """Return the move; see `ActionCodec`. What a call leaves unused, emotion and Action Units, is dropped."""
        if not hasattr(action, "__len__") or getattr(action, "ndim", 1) != 1 or len(action) != 2 + len(self.au_set):
            raise ValueError(f"action {short(action)} must hold {2 + len(self.au_set)} whole numbers")
        head = _index(action[0], 2 + REGION_COUNT, "tool or region")
        if head in _CALLS:
            return _CALLS[head]
        emotion = facs.EMOTIONS[_index(action[1], EMOTION_COUNT, "emotion")]
        return Move(ANSWER, None, None, emotion, _chosen(action[2:], self.au_set))

    def rows(self, actions: Any) -> list[list[int]]:
        """Return the single actions of a batch; see `ActionCodec`."""
        rows: list[list[int]] = np.asarray(actions).tolist()
        return rows

    def encode(self, move: Move) -> NDArray[np.int64]:
        """Return the action; see `ActionCodec`."""
        head = [_join(move), facs.EMOTIONS.index(move.emotion)]
        return np.array([*head, *_bits(move.aus, self.au_set)], np.int64)

    def mask(self, episode: Episode) -> Mask:
        """Return the mask; emotion and Action Units are always free."""
        return _joined_mask(episode.legal_tools(), episode.legal_regions(), self.mask_size)

    def sample_mask(self, mask: Mask, magnified: Magnified) -> tuple[Mask, ...]:
        """Return a tuple of int8 arrays, one for each entry of the action."""
        del magnified
        return tuple(mask[part] for part in self._parts)

    def draw(self, rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return a random legal action."""
        return np.array([_pick(rng, mask[part]) for part in self._parts], np.int64)


class DiscreteActions:
    """``Discrete(13)``: 0 detect_align, 1 to 4 zoom_in on a region, 5 to 12 answer with an emotion.

    The answer's Action Units are the emotion's FACS prototype.
    """

    derives_aus = True

    def __init__(self, au_set: Sequence[int]) -> None:
        self.au_set = tuple(au_set)
        self.mask_size = 1 + REGION_COUNT + EMOTION_COUNT
        self.space = spaces.Discrete(self.mask_size)
        self._answers = [Move(ANSWER, emotion=e, aus=facs.prototype_aus(e, self.au_set)) for e in facs.EMOTIONS]

    def decode(self, action: Any) -> Move:
        """Return the move; see `ActionCodec`."""
        number = _index(action, self.mask_size, "action")
        return _CALLS[number] if number in _CALLS else self._answers[number - 1 - REGION_COUNT]

    def rows(self, actions: Any) -> list[int]:
        """Return the single actions of a batch; see `ActionCodec`."""
        rows: list[int] = np.asarray(actions).tolist()
        return rows

    def encode(self, move: Move) -> np.int64:
        """Return the action; see `ActionCodec`."""
        if move.tool == ANSWER:
            return np.int64(1 + REGION_COUNT + facs.EMOTIONS.index(move.emotion))
        return np.int64(_join(move))

    def mask(self, episode: Episode) -> Mask:
        """Return the mask over the thirteen actions."""
        return _flat_mask(episode.legal_tools(), episode.legal_regions())

    def sample_mask(self, mask: Mask, magnified: Magnified) -> Mask:
        """Return the mask, int8 (13,)."""
        del magnified
        return mask

    def draw(self, rng: np.random.Generator, mask: NDArray[np.bool_]) -> np.int64:
        """Return a random legal action."""
        return np.int64(_pick(rng, mask))


CODECS: dict[ActionFormat, Callable[[Sequence[int]], ActionCodec]] = {
    "dict": DictActions, "multidiscrete": MultiDiscreteActions, "discrete": DiscreteActions,
}  # fmt: skip
"""Action format -> its codec."""


def codec_for(space: gym.Space[Any], au_set: Sequence[int] = facs.CORE_AUS) -> ActionCodec:
    """Return the codec of an environment's action space.

    Args:
        space: The (single) action space of one of the registered environments.
        au_set: Its Action Units.

    Raises:
        ValueError: the space is none of the three.
    """
    for make_codec in CODECS.values():
        codec = make_codec(au_set)
        if codec.space == space:
            return codec
    raise ValueError(f"action space {space} with {len(au_set)} Action Units is none of this package's three formats")


_CALLS: dict[int, Move] = {
    0: Move(DETECT_ALIGN), **{i: Move(ZOOM_IN, region) for i, region in enumerate(facs.REGIONS, start=1)},
}  # fmt: skip
"""The first entry of a flat action -> its move, for the calls of tools."""


def _index(value: Any, count: int, name: str) -> int:
    """Return a whole number from 0 to count - 1; a negative one would count from the end, and choose something else."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < count:
        raise ValueError(f"{name} {short(value)} must be a whole number from 0 to {count - 1}")
    return number


def _corners(box: Any) -> Box:
    """Return (cx, cy, w, h) as (x1, y1, x2, y2), clipped to the frame."""
    return Box.from_centre(*(float(value) for value in box)).clipped()


def _join(move: Move) -> int:
    if move.tool == DETECT_ALIGN:
        return 0
    return 1 + REGION_COUNT if move.tool == ANSWER else 1 + facs.REGIONS.index(str(move.region))


# An episode knows few sets of legal calls, so each mask is made once.
@lru_cache
def _tool_mask(tools: tuple[str, ...]) -> Mask:
    return _constant([tool in tools for tool in DictActions.tools])


@lru_cache
def _joined_mask(tools: tuple[str, ...], regions: tuple[str, ...], size: int) -> Mask:
    head = [DETECT_ALIGN in tools, *(ZOOM_IN in tools and name in regions for name in facs.REGIONS), ANSWER in tools]
    return _constant(head + [True] * (size - len(head)))


@lru_cache
def _flat_mask(tools: tuple[str, ...], regions: tuple[str, ...]) -> Mask:
    head = [DETECT_ALIGN in tools, *(ZOOM_IN in tools and name in regions for name in facs.REGIONS)]
    return _constant(head + [ANSWER in tools] * EMOTION_COUNT)


def _constant(values: Sequence[bool]) -> Mask:
    mask = np.array(values, np.int8)
    mask.setflags(write=False)
    return mask


def _pick(rng: np.random.Generator, mask: NDArray[np.bool_]) -> int:
    """Draw an allowed index; any, where nothing is (the episode is over, and the action will be ignored)."""
    allowed = np.flatnonzero(mask)
    return int(rng.choice(allowed if len(allowed) else len(mask)))


def _chosen(bits: Any, au_set: Sequence[int]) -> frozenset[int]:
    if len(bits) != len(au_set):
        raise ValueError(f"{len(bits)} bits for {len(au_set)} Action Units: give one for each")
    if not _BITS.issuperset(bits):
        raise ValueError(f"Action Units {short(bits)} must be bits, 0 or 1")
    return frozenset(compress(au_set, bits))


def _bits(aus: frozenset[int], au_set: Sequence[int]) -> NDArray[np.int8]:
    return np.array([au in aus for au in au_set], np.int8)
