"""`Scores`: what a reward gives for a batch of rollouts, term by term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from actfer_env.rewards.groups import Floats
from actfer_env.rollout import Rollout

TERMS: tuple[str, ...] = ("task", "structure", "utility", "quality", "total")
"""The terms of a reward; the first four add up to the last."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Rewards and advantages of n rollouts, in their order; arrays are float64 and read-only.

    Attributes:
        task: Task reward, shape (n,).
        structure: Structure term, shape (n,).
        utility: Utility term, shape (n,).
        quality: Quality term, shape (n,).
        total: Their sum, shape (n,).
        advantage: Group-relative advantage, shape (n,).
        gated: True where the outcome gate has zeroed structure, utility and quality; bool, shape (n,).
        zoomed: True where a legal zoom_in was executed; bool, shape (n,).
        group_ids: The group of each rollout.
        rules: The `utility.Rule` behind each rollout's utility; empty for rewards without one.
        delta: Group id -> contrast, or None where undefined.
        delta_emotion: Group id -> target emotion, or None without label.
        lambda_miss: Emotion -> factor for a missed zoom that was in force.
        lambda_over: Emotion -> factor for an unnecessary zoom that was in force.
        parts: Further arrays of shape (n,), such as "f1"; NaN where a part does not apply.
        scored_at: Number of commits that the scorer had seen.
    """

    task: Floats
    structure: Floats
    utility: Floats
    quality: Floats
    total: Floats
    advantage: Floats
    gated: npt.NDArray[np.bool_]
    zoomed: npt.NDArray[np.bool_]
    group_ids: tuple[str, ...]
    rules: tuple[str, ...] = ()
    delta: Mapping[str, float | None] = field(default_factory=dict)
    delta_emotion: Mapping[str, str | None] = field(default_factory=dict)
    lambda_miss: Mapping[str, float] = field(default_factory=dict)
    lambda_over: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, Floats] = field(default_factory=dict)
    scored_at: int = 0

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        arrays = [getattr(self, item.name) for item in fields(self)]
        for array in (*arrays, *self.parts.values()):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """Return the scores of several batches of one policy update as one, their rollouts one after the other.

        Args:
            parts: Scores to join, at least one; each group is in one of them, and all were made at the same commit.

        Returns:
            The scores of all rollouts.
        """
        arrays = ("task", "structure", "utility", "quality", "total", "advantage", "gated", "zoomed")
        maps = ("delta", "delta_emotion", "lambda_miss", "lambda_over")
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        joined |= {name: {key: value for part in parts for key, value in getattr(part, name).items()} for name in maps}
        return cls(
            **joined,
            group_ids=tuple(group for part in parts for group in part.group_ids),
            rules=tuple(rule for part in parts for rule in part.rules),
            parts={name: np.concatenate([part.parts[name] for part in parts]) for name in parts[0].parts},
            scored_at=parts[0].scored_at,
        )

    def __len__(self) -> int:
        """Return the number of rollouts."""
        return len(self.group_ids)

    def terms(self, i: int) -> dict[str, float]:
        """Return the terms of rollout `i` as Python floats, under the names in `TERMS`.

        Args:
            i: Number of the rollout, from 0.

        Returns:
            Name -> value.
        """
        return {name: float(getattr(self, name)[i]) for name in TERMS}

    def readings(self) -> dict[str, list[Any]]:
        """Return where the utility of each rollout comes from, as columns of n JSON values.

        Returns:
            `delta` of its group (None where undefined); `rule` (None for rewards without one); `lambda`, the factor on
            its penalty (1 where its rule has none); `lambda_miss` and `lambda_over`, the factors of its emotion (1
            without label).
        """
        emotions = [self.delta_emotion[group] or "" for group in self.group_ids]
        miss = [self.lambda_miss.get(emotion, 1.0) for emotion in emotions]
        over = [self.lambda_over.get(emotion, 1.0) for emotion in emotions]
        rules: list[str | None] = [*self.rules] if self.rules else [None] * len(emotions)
        factors = [
            m if rule == "missed" else o if rule == "overused" else 1.0
            for rule, m, o in zip(rules, miss, over, strict=True)
        ]
        delta = [self.delta[group] for group in self.group_ids]
        return {"delta": delta, "rule": rules, "lambda": factors, "lambda_miss": miss, "lambda_over": over}

    def reading(self, i: int) -> dict[str, Any]:
        """Return where the utility of rollout `i` comes from; see `readings`."""
        return {name: column[i] for name, column in self.readings().items()}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: arrays as lists, NaN as None."""
        return {item.name: _to_json(getattr(self, item.name)) for item in fields(self)}


def totals(task: Floats, structure: Floats, utility: Floats, quality: Floats) -> Floats:
    """Return the sum of the terms, shape (n,), always added in the same order.

    Args:
        task: Task rewards, shape (n,).
        structure: Structure terms, shape (n,).
        utility: Utility terms, shape (n,).
        quality: Quality terms, shape (n,).
    """
    return task + structure + utility + quality


def to_array(values: Sequence[float]) -> Floats:
    """Return a float64 array of shape (n,)."""
    return np.asarray(values, dtype=np.float64).reshape(-1)


def zoom_mask(rollouts: Sequence[Rollout]) -> npt.NDArray[np.bool_]:
    """Return where a legal zoom_in was executed, shape (n,)."""
    return np.array([rollout.zoomed for rollout in rollouts], dtype=np.bool_)


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_to_json(item) for item in value.tolist()]
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
