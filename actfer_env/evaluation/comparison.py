"""Two runs over the same samples: paired differences with bootstrap intervals over samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.errors import DataError
from actfer_env.evaluation.costs import token_cost
from actfer_env.evaluation.intervals import bootstrap
from actfer_env.evaluation.run import Run
from actfer_env.identity import differences, listed
from actfer_env.rewards import au_f1
from actfer_env.rollout import Rollout

_DRAWS_AT_ONCE = 100
"""Draws whose weights are in memory together (chosen here)."""


@dataclass(frozen=True)
class Difference:
    """One metric of two runs over the same samples.

    Attributes:
        metric: Its name.
        n: Samples that both runs have.
        first: The first run's value.
        second: The second run's value.
        difference: Second minus first.
        low: Lower end of the 95 % bootstrap interval over samples.
        high: Upper end.
    """

    metric: str
    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """True where the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


_Value: TypeAlias = Callable[[Rollout], float | None]
_METRICS: Mapping[str, _Value] = {
    "accuracy": lambda rollout: None if rollout.correct is None else float(rollout.correct),
    "zoom_ratio": lambda rollout: float(rollout.zoomed),
    "violation_rate": lambda rollout: float(bool(rollout.violations)),
    "turns": lambda rollout: float(rollout.turns),
    "tokens": lambda rollout: _cost(rollout, (1e6, 1e6)),  # a token costs one
}
"""Metrics that are means over samples."""


def compare(first: Run, second: Run, *, draws: int = 2000, seed: int = 0) -> tuple[Difference, ...]:
    """Compare two runs on the samples that both have, pair by pair; repeats of a sample are averaged first.

    Besides means over samples, which are drawn with replacement in pairs, there are `macro_f1` and `au_macro_f1`,
    computed anew in each draw; Action Units are those that both runs count. `tokens` and `cost` of a conversation are
    told where both runs tell them.

    Args:
        first: The baseline.
        second: The other run.
        draws: Bootstrap draws over samples.
        seed: Random seed of the draws.

    Raises:
        DataError: the runs share no sample.
    """
    found: dict[str, Difference] = {}
    units = _shared_units(first, second)
    metrics: dict[str, tuple[_Value, _Value]] = {name: (value, value) for name, value in _METRICS.items()}
    metrics["au_instance_f1"] = (partial(_au_score, units=units),) * 2
    if any(first.price) and any(second.price):
        metrics["cost"] = partial(_cost, price=first.price), partial(_cost, price=second.price)
    for metric, (one_value, other_value) in metrics.items():
        one, two = _by_sample(first, one_value), _by_sample(second, other_value)
        shared = sorted(one.keys() & two.keys())
        if shared:
            pairs = np.array([(one[name], two[name]) for name in shared])
            found[metric] = _difference(metric, pairs, draws, seed)
    if not found:
        raise DataError("the two runs share no sample: compare runs of the same data set")
    for metric, counts, needs_target in (
        ("macro_f1", _emotion_counts, True),
        ("au_macro_f1", lambda rollout: _unit_counts(rollout, sorted(units)), False),
    ):
        paired = _paired_counts(first, second, counts)
        if paired is not None:
            found[metric] = _macro_difference(metric, paired, needs_target, draws, seed)
    order = ("accuracy", "macro_f1", "au_instance_f1", "au_macro_f1")
    return tuple(found[name] for name in dict.fromkeys([*order, *found]) if name in found)


def check_same_samples(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Refuse to compare runs over different samples.

    Args:
        runs: The runs; the first is the baseline.
        names: Their names in messages.

    Raises:
        DataError: a run is of another data set, has other samples, or had other labels than the first.
    """
    first = runs[0]
    for run, name in zip(runs[1:], names[1:], strict=True):
        cure = f"compare runs over the same samples, or give --shared to compare {name} on those that both have"
        mine, theirs = ({key: value for key, value in one.dataset.items() if key not in ("cache", "root")}
                        for one in (first, run))  # fmt: skip
        found = next(differences(mine, theirs), None)
        if found is not None:
            what, wanted, other = found
            shown = [repr(value) if isinstance(value, str | int | float) else "none" for value in (wanted, other)]
            raise DataError(f"{name} is of another data set than {names[0]}: {what} is {shown[0]}, there {shown[1]}")
        units = _shared_units(first, run)
        known, labels = _labels(first, units), _labels(run, units)
        more, less = labels.keys() - known.keys(), known.keys() - labels.keys()
        if more or less:
            raise DataError(f"{name} has {len(more)} samples that {names[0]} has not, and lacks {len(less)} of its "
                            f"{len(known)}: {cure}")  # fmt: skip
        changed = [sample for sample, label in labels.items() if label != known[sample]]
        if changed:
            raise DataError(f"{name} and {names[0]} were scored by different labels of {listed(changed)}: run the "
                            "older one again, which takes over the new labels")  # fmt: skip


def _labels(run: Run, units: frozenset[int]) -> dict[str, tuple[str | None, frozenset[int] | None]]:
    return {one.sample_id: (one.emotion, None if one.aus is None else one.aus & units) for one in run.rollouts}


def _shared_units(first: Run, second: Run) -> frozenset[int]:
    """Return the Action Units that both runs count."""
    sets = [frozenset(facs.AU_NAMES if run.au_set is None else run.au_set) for run in (first, second)]
    return sets[0] & sets[1]


def _difference(metric: str, pairs: NDArray[np.float64], draws: int, seed: int) -> Difference:
    gaps = pairs[:, 1] - pairs[:, 0]
    first, second = pairs.mean(0)
    ends = bootstrap(gaps, draws, seed)
    return Difference(metric, len(pairs), float(first), float(second), float(gaps.mean()), *ends)


def _by_sample(run: Run, value: _Value) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for rollout in run.rollouts:
        number = value(rollout)
        if number is not None:
            values.setdefault(rollout.sample_id, []).append(number)
    return {name: float(np.mean(many)) for name, many in values.items()}


_Counts: TypeAlias = Callable[[Rollout], NDArray[np.float64] | None]
"""Returns float (3, classes) of one rollout: hits, targets and answers; None where it has no target."""


def _emotion_counts(rollout: Rollout) -> NDArray[np.float64] | None:
    if rollout.emotion is None:
        return None
    target = np.array([rollout.emotion == name for name in facs.EMOTIONS], float)
    answer = np.array([rollout.predicted_emotion == name for name in facs.EMOTIONS], float)
    return np.stack([target * answer, target, answer])


def _unit_counts(rollout: Rollout, units: Sequence[int]) -> NDArray[np.float64] | None:
    if rollout.aus is None:
        return None
    target = np.array([unit in rollout.aus for unit in units], float)
    answer = np.array([unit in (rollout.predicted_aus or ()) for unit in units], float)
    return np.stack([target * answer, target, answer])


def _paired_counts(first: Run, second: Run, counts: _Counts) -> NDArray[np.float64] | None:
    """Return the counts of the samples that both runs have, float (samples, 2, 3, classes), or None without any."""
    sums: list[dict[str, list[NDArray[np.float64]]]] = [{}, {}]
    for run, found in zip((first, second), sums, strict=True):
        for rollout in run.rollouts:
            one = counts(rollout)
            if one is not None:
                found.setdefault(rollout.sample_id, []).append(one)
    shared = sorted(sums[0].keys() & sums[1].keys())
    if not shared:
        return None
    return np.array([[np.mean(found[name], axis=0) for found in sums] for name in shared])


def _macro_difference(
    metric: str, counts: NDArray[np.float64], needs_target: bool, draws: int, seed: int
) -> Difference:  # fmt: skip
    n, rng = len(counts), np.random.default_rng(seed)
    flat = counts.reshape(n, -1)
    first, second = _macro_f1(flat.sum(0).reshape(1, *counts.shape[1:]), needs_target)[0]
    gaps = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(_DRAWS_AT_ONCE, draws - start))
        values = _macro_f1((weights @ flat).reshape(-1, *counts.shape[1:]), needs_target)
        gaps.append(values[:, 1] - values[:, 0])
    low, high = np.percentile(np.concatenate(gaps), [2.5, 97.5])
    return Difference(metric, n, float(first), float(second), float(second - first), float(low), float(high))


def _macro_f1(sums: NDArray[np.float64], needs_target: bool) -> NDArray[np.float64]:
    """Return macro-F1 (draws, 2) of sums (draws, 2, 3, classes); as `summarize` averages, 0 where no class occurs."""
    hits, targets, answers = sums[:, :, 0], sums[:, :, 1], sums[:, :, 2]
    sizes = targets + answers
    f1 = np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=sizes > 0)
    counted = targets > 0 if needs_target else sizes > 0
    return np.asarray((f1 * counted).sum(-1) / np.maximum(counted.sum(-1), 1))


def _au_score(rollout: Rollout, units: frozenset[int]) -> float | None:
    """Return the F1 of one answer over some Action Units; None without a target."""
    if rollout.aus is None:
        return None
    if rollout.predicted_emotion is None:
        return 0.0
    return au_f1((rollout.predicted_aus or frozenset()) & units, rollout.aus & units)


def _cost(rollout: Rollout, price: Sequence[float]) -> float | None:
    """Return what a conversation cost; None where it does not say what it used."""
    used = rollout.meta.get("usage")
    return None if used is None else token_cost(used["prompt_tokens"], used["completion_tokens"], price)
