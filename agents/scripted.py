"""Scripted policies: the paper's three modes of trajectory, and one that does not look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import gymnasium as gym

from actfer_env import facs
from actfer_env.agents.base import Batch, join, rows, sample_ids
from actfer_env.boxes import Box
from actfer_env.data import Dataset
from actfer_env.envs.actions import DictActions, Move, codec_for
from actfer_env.episode import ANSWER, State
from actfer_env.tools.schema import DETECT_ALIGN, ZOOM_IN

Mode = Literal["full", "simplified", "degraded", "blind"]
MODES: tuple[Mode, ...] = ("full", "simplified", "degraded")
"""The three modes of trajectory (ActFER 3.2): detect and zoom; detect only; detect, fail, and answer from the raw
picture."""
BLIND: Mode = "blind"
"""Answers at once, without calling a tool; no mode of the paper, whose policies normalise first."""

Answer = tuple[str, frozenset[int]]


class ScriptedAgent:
    """Follows one of the paper's three modes of trajectory (ActFER, section 3.2), or does not look at all.

    "full" detects and zooms into `regions` in order. "simplified" detects and does not zoom. "degraded" is the mode of
    pictures without a reliable face: it tries to detect, and answers from the raw picture; where a face is found after
    all, it answers without zooming, as "simplified" does. "blind" answers without a call, which the structure term
    charges. Where no face is found, every mode answers. The agent does not look at pictures: its answer is fixed, or
    comes from `answers`.

    Args:
        action_space: The single action space of an environment of this package.
        mode: The mode.
        regions: Regions into which "full" zooms.
        emotion: The fixed answer; its FACS prototype is the Action Units.
        answers: Sample id -> (emotion, Action Units), used instead of the fixed answer; see `truth`.
        au_set: The environment's Action Units.
    """

    looks = False

    def __init__(
        self,
        action_space: gym.Space[Any],
        mode: Mode = "full",
        regions: Sequence[str] = ("eye-periorbital", "mouth-chin"),
        emotion: str = "neutral",
        answers: Callable[[str], Answer] | None = None,
        au_set: Sequence[int] = facs.CORE_AUS,
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"unknown mode {mode!r}: use one of {', '.join(get_args(Mode))}")
        self.mode = mode
        self.regions = tuple(map(facs.parse_region, regions))
        self._fixed: Answer = (facs.parse_emotion(emotion), facs.prototype_aus(emotion, au_set))
        self._answers = answers
        self._codec = codec_for(action_space, au_set)

    def reset(self, n: int) -> None:
        """Nothing to prepare: what to do next follows from the observation."""

    def act(self, obs: Batch, info: Batch) -> Any:
        """Return the script's next actions; see `Agent.act`."""
        single = rows(obs)
        names = sample_ids(info, len(single))
        return join([self._codec.encode(self._next(row, name)) for row, name in zip(single, names, strict=True)], obs)

    def _next(self, row: dict[str, Any], sample_id: str) -> Move:
        if self.mode != BLIND and row["state"] == State.RAW:
            return Move(DETECT_ALIGN)
        done = int(sum(row["crop_mask"]))
        slots = min(len(self.regions), len(row["crop_mask"]), done + int(row["turns_left"]) - 1)
        region = self.regions[done] if done < slots else None
        if self.mode == "full" and row["state"] == State.ALIGNED and region is not None and self._may_zoom(row, region):
            return Move(ZOOM_IN, region, _box(row["region_boxes"][facs.REGIONS.index(region)]))
        emotion, aus = self._fixed if self._answers is None else self._answers(sample_id)
        return Move(ANSWER, emotion=emotion, aus=aus)

    def _may_zoom(self, row: dict[str, Any], region: str) -> bool:
        """Tell whether the action mask allows a zoom into a region; of free boxes, any zoom."""
        place = 1 if isinstance(self._codec, DictActions) else 1 + facs.REGIONS.index(region)
        return bool(row["action_mask"][place])


def truth(dataset: Dataset) -> Callable[[str], Answer]:
    """Return the data set's own labels as answers, for demonstrations and warm starts.

    An unlabelled sample is answered with "neutral"; missing Action Units with the emotion's prototype.
    """
    return partial(_label, dataset)


def _label(dataset: Dataset, sample_id: str) -> Answer:
    sample = dataset[dataset.find(sample_id)]
    emotion = sample.emotion or "neutral"
    return emotion, facs.prototype_aus(emotion) if sample.aus is None else sample.aus


def _box(values: Any) -> Box:
    return Box(*map(float, values))
