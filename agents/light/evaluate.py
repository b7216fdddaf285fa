"""Figures of a light policy on held-out faces, beside those of the same weights forced to zoom never or always."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.agents.light.policy import Features, LightPolicy
from actfer_env.agents.light.rollouts import Zooming, play_groups
from actfer_env.evaluation.metrics import WITH_FACE, summarize
from actfer_env.rewards import UCGRPO, UCGRPOConfig
from actfer_env.rollout import Rollout
from actfer_env.wrappers.group_vec import GroupVectorEnv

ZOOM_MODES: tuple[Zooming, ...] = ("free", "never", "once", "always")


@dataclass(frozen=True)
class HeldOutResult:
    """Rollouts of one policy over a split, one a sample, in its order.

    Attributes:
        rollouts: Rollouts of the greedy policy.
        task: float (n,), task reward of each, less the zoom's cost where one is set.
    """

    rollouts: tuple[Rollout, ...]
    task: np.ndarray


def hold_out(
    policy: LightPolicy, venv: GroupVectorEnv, n: int, reward: UCGRPOConfig, known: Features | None = None
) -> dict[Zooming, HeldOutResult]:
    """Play the first n samples greedily, once in each of `ZOOM_MODES`.

    Args:
        policy: The policy.
        venv: Groups of one member for each mode, over the split.
        n: Samples.
        reward: Its task term is reported.
        known: See `play_groups`.
    """
    found: dict[tuple[str, int], Rollout] = {}
    for start in range(0, n, venv.num_groups):
        samples = [min(start + k, n - 1) for k in range(venv.num_groups)]
        batch = play_groups(venv, policy, None, samples, ZOOM_MODES, known)
        found |= {(one.sample_id, one.member): one for one in batch.rollouts}
        venv.pending.clear()
    names = [venv.dataset[index].id for index in range(n)]
    played = {mode: tuple(found[name, member] for name in names) for member, mode in enumerate(ZOOM_MODES)}
    return {mode: HeldOutResult(rollouts, task_of(rollouts, reward)) for mode, rollouts in played.items()}


def task_of(rollouts: Sequence[Rollout], reward: UCGRPOConfig) -> np.ndarray:
    """Return the task reward of each rollout, less the zoom's cost."""
    task = np.array(UCGRPO(reward).score(rollouts).task)
    return task - reward.zoom_cost * np.array([rollout.zoomed for rollout in rollouts])


def figures(held: dict[Zooming, HeldOutResult], good: Sequence[bool]) -> dict[str, Any]:
    """Return the table's row of one policy.

    Args:
        held: Its rollouts by mode.
        good: Whether each sample's picture is good.
    """
    free, part = held["free"], np.asarray(good)
    never, always = held["never"].task, held["always"].task
    return free_figures(free.rollouts, free.task, part) | {
        "task_never": float(never.mean()), "task_once": float(held["once"].task.mean()),
        "task_always": float(always.mean()), "task_privileged": float(np.where(part, always, never).mean()),
        "task_oracle": float(np.maximum(always, never).mean()),
    }  # fmt: skip


def free_figures(rollouts: Sequence[Rollout], task: np.ndarray, good: np.ndarray) -> dict[str, Any]:
    """Return what can be told of any policy: how it reads, whether it zooms and where.

    Args:
        rollouts: One a sample.
        task: Task reward of each, less the zoom's cost.
        good: Whether each sample's picture is good, bool (n,).
    """
    summary = summarize(rollouts)
    with_face = np.array([rollout.detection in WITH_FACE for rollout in rollouts])
    zoomed = np.array([rollout.zoomed for rollout in rollouts])
    row: dict[str, Any] = {
        "accuracy": summary.accuracy, "macro_f1": summary.macro_f1, "au_f1": summary.au_macro_f1,
        "zoom": _share(zoomed, with_face), "zoom_good": _share(zoomed, with_face & good),
        "zoom_poor": _share(zoomed, with_face & ~good), "task": float(task.mean()),
        "zooms": _zooms(rollouts, with_face & good),
    }  # fmt: skip
    row |= {f"zoom_{name}": _share(zoomed, [r.emotion == name for r in rollouts]) for name in facs.EMOTIONS}
    return row | _regions(rollouts)


def as_numbers(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures for a JSON file: None in the place of NaN, which JSON does not know."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in figures.items()}


def _zooms(rollouts: Sequence[Rollout], part: np.ndarray) -> float:
    """Return the mean number of regions that those of a part that zoom magnify."""
    counts = [len(zoomed_regions(rollout)) for rollout, chosen in zip(rollouts, part, strict=True) if chosen]
    seen = [count for count in counts if count]
    return float(np.mean(seen)) if seen else 0.0


def _share(values: np.ndarray, part: Sequence[bool] | np.ndarray) -> float:
    chosen = values[np.asarray(part)]
    return float(chosen.mean()) if len(chosen) else float("nan")


def _regions(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return how often each region is chosen, and how often a chosen region carries one of the sample's AUs.

    Chance is what choosing the same number of regions at random would give on the same samples. "First" is of the
    region that is looked at first: who looks at all four matches no better than chance.
    """
    chosen = [(rollout, name) for rollout in rollouts for name in zoomed_regions(rollout)]
    first = [(rollout, zoomed_regions(rollout)[0]) for rollout in rollouts if rollout.zoomed]
    counts = {
        f"region_{name}": sum(region == name for _, region in chosen) / max(len(chosen), 1) for name in facs.REGIONS
    }
    (match, chance), (hit, luck) = _matches(chosen), _matches(first)
    return {
        **counts, "region_match": match, "region_chance": chance, "region_gain": match - chance,
        "first_match": hit, "first_chance": luck, "first_gain": hit - luck,
    }  # fmt: skip


def _matches(chosen: Sequence[tuple[Rollout, str]]) -> tuple[float, float]:
    """Return the share of chosen regions that carry an AU, and of those chosen at random."""
    carries = []
    for rollout, name in chosen:
        if rollout.aus:
            chance = float(np.mean([bool(_carried(rollout, one)) for one in facs.REGIONS]))
            carries.append((bool(_carried(rollout, name)), chance))
    hits, luck = np.array(carries, float).reshape(-1, 2).T
    return (float(hits.mean()), float(luck.mean())) if carries else (float("nan"), float("nan"))


def zoomed_regions(rollout: Rollout) -> list[str]:
    """Return the regions that a rollout magnified, in order."""
    calls = [call for call in rollout.tool_calls if call.name == "zoom_in" and call.violation is None]
    return [name for call in calls for name in call.arguments.get("regions", ())]


def _carried(rollout: Rollout, region: str) -> frozenset[int]:
    return frozenset(au for au in rollout.aus or () if region in facs.AU_REGIONS.get(au, ()))
