"""Statistics of a gate: regret, uplift curve, calibration, gain and harm.

Everything here works on arrays of outcomes: `quality` is what an episode was worth, 1 where the emotion is right and
else 0, or its task reward; one row a sample, one column a repeat.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from actfer_env.evaluation.intervals import bootstrap as resampled

Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]
DRAWS = 1000
"""Bootstrap draws of each figure (chosen here)."""
BINS = 5
"""Bins of the gate's calibration, of equally many samples each (chosen here)."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where it is not defined.

    Attributes:
        value: Figure on all samples.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Return the fields as JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def estimate(statistic: Callable[[Rows], float], n: int, draws: int | None = None, seed: int = 0) -> Estimate:
    """Return a figure and its percentile bootstrap interval over samples.

    A draw takes whole samples, with all that was played on them: differences between passes are paired.

    Args:
        statistic: Figure of some samples, given their rows; NaN where it is not defined.
        n: Number of samples.
        draws: Draws of n samples, with replacement; `DRAWS` if left out.
        seed: Random seed of the draws.
    """
    from scipy.stats import bootstrap

    if n == 0:
        return Estimate(None)
    rows = np.arange(n)
    value = float(statistic(rows))
    if not np.isfinite(value):
        return Estimate(None)
    if n == 1:
        return Estimate(value)
    rng, draws = np.random.default_rng(seed), draws or DRAWS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a figure may be the same in all draws, or undefined in some
        found = bootstrap(
            (rows,), statistic, vectorized=False, n_resamples=draws, method="percentile", random_state=rng
        )
    drawn = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) > draws // 2 else (np.nan, np.nan)
    return Estimate(value, *(float(end) if np.isfinite(end) else None for end in (low, high)))


def estimate_mean(values: Floats) -> Estimate:
    """Return a mean and its percentile bootstrap interval over samples.

    Args:
        values: One a sample (n,).
    """
    if len(values) == 0:
        return Estimate(None)
    value = float(values.mean())
    return Estimate(value) if len(values) == 1 else Estimate(value, *resampled(values, DRAWS))


def oracle(never: Floats, always: Floats) -> Floats:
    """Return what each sample is worth (n,) when the better of two ways is chosen for it.

    The better of two noisy outcomes looks better than it is. So with several repeats the choice is made by one half of
    them and scored on the other, both ways round; what ties in the choosing half counts half each. A single repeat, as
    of a policy without chance, is chosen and scored by itself.

    Args:
        never: Quality without a zoom (n, k).
        always: Quality with zooms, less their cost (n, k).
    """
    if never.shape[1] == 1:
        return np.maximum(never, always)[:, 0]
    halves = slice(0, None, 2), slice(1, None, 2)
    found = np.zeros(len(never))
    for chosen, scored in (halves, halves[::-1]):
        gap = always[:, chosen].mean(1) - never[:, chosen].mean(1)
        share = np.where(np.isclose(gap, 0), 0.5, gap > 0)
        found += (share * always[:, scored].mean(1) + (1 - share) * never[:, scored].mean(1)) / 2
    return found


def regret(policy: float, never: float, always: float, best: float) -> float:
    """Return the normalised regret of a gate: 0 is the oracle's, 1 that of the better fixed gate.

    It is (best - policy) / (best - max(never, always)): more than 1 where a fixed gate does better than the policy, NaN
    where the oracle gains nothing over the fixed ones.
    """
    room = best - max(never, always)
    return (best - policy) / room if room > 1e-12 else float("nan")


def uplift_curve(score: Floats, uplift: Floats) -> tuple[Floats, Floats]:
    """Return what zooming into the samples with the highest scores gains, at every rate.

    Samples of one score come together: between them the curve is a straight line, as of a random order.

    Args:
        score: Order of the samples, the highest first (n,), such as the policy's chance to zoom.
        uplift: Gain in quality by zooming (n,).

    Returns:
        Rates from 0 to 1, and the mean gain over all n samples at each.
    """
    order = np.argsort(-score, kind="stable")
    gains, ends = np.cumsum(uplift[order]), np.flatnonzero(np.diff(score[order], append=-np.inf) != 0)
    n = len(score)
    return np.concatenate([[0.0], (ends + 1) / n]), np.concatenate([[0.0], gains[ends] / n])


def qini(score: Floats, uplift: Floats, best: Floats | None = None) -> float:
    """Return the area between a gate's uplift curve and the chord of random zooming, over that of the best order.

    0 is no better than random, 1 is the best order, below 0 worse than random; NaN where all samples gain the same.

    Args:
        score: See `uplift_curve`.
        uplift: See `uplift_curve`.
        best: Scores of the best order (n,); the uplift itself if left out, which is right where it has no noise.
    """
    areas = []
    for order in (score, uplift if best is None else best):
        rates, gains = uplift_curve(order, uplift)
        areas.append(float(np.sum(np.diff(rates) * (gains[1:] + gains[:-1])) / 2) - gains[-1] / 2)
    return areas[0] / areas[1] if areas[1] > 1e-12 else float("nan")


def bins_of(score: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin (n,) of each score, in bins of about equally many samples; equal scores share one."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, score, side="right")


def rank_correlation(score: Floats, uplift: Floats) -> float:
    """Return Spearman's rank correlation; NaN where either is constant."""
    from scipy.stats import rankdata

    if len(score) < 2 or np.ptp(score) == 0 or np.ptp(uplift) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(score), rankdata(uplift))[0, 1])


def gain_and_harm(
    without: NDArray[np.bool_], free: NDArray[np.bool_], called: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Split what offering the tool changes into gains and harms (arXiv 2602.01334).

    Episodes that are wrong without the tool can gain, those that are right can be harmed; either with a call of the
    tool, or without one, since offering it alone can change the answer (its schema). Each of the four terms is mass x
    policy x quality: the share of such episodes, the share of them in which the policy calls (or does not), and the
    share of these whose answer changes sides. Call gain + schema gain - call harm - schema harm is the difference of
    the accuracies.

    Args:
        without: Right without the tool, bool (n,).
        free: Right with the tool on offer, of the same samples.
        called: Whether the tool was called then.

    Returns:
        "call_gain", "schema_gain", "call_harm" and "schema_harm", each with "value", "mass", "policy", "quality".
    """
    found = {}
    for name, start in (("gain", ~without), ("harm", without)):
        for kind, chosen in (("call", start & called), ("schema", start & ~called)):
            turned = chosen & (free if name == "gain" else ~free)
            found[f"{kind}_{name}"] = {
                "value": float(turned.mean()), "mass": float(start.mean()), "policy": _share(chosen, start),
                "quality": _share(turned, chosen),
            }  # fmt: skip
    return found


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else 0.0


def threshold_gate(signal: Floats, never: Floats, always: Floats, halves: NDArray[np.bool_]) -> Floats:
    """Return what each sample is worth (n,) by a gate that zooms beyond a threshold of a signal.

    The threshold and its side are chosen on one half of the samples and scored on the other, both ways round.

    Args:
        signal: Values that the gate sees, such as a measure of focus (n,).
        never: Quality without a zoom (n,).
        always: Quality with zooms, less their cost (n,).
        halves: Half of each sample, bool (n,).
    """
    found = np.array(never)
    for scored in (halves, ~halves):
        chosen = ~scored
        if not chosen.any():
            continue
        uplift, options = (always - never)[chosen], []
        for side in (1.0, -1.0):
            _, gains = uplift_curve(side * signal[chosen], uplift)
            place = int(gains.argmax())
            values = np.unique(side * signal[chosen])[::-1]
            options.append((float(gains[place]), side, values[place - 1] if place else np.inf))
        _, side, least = max(options)
        found[scored] = np.where(side * signal[scored] >= least, always[scored], never[scored])
    return found
