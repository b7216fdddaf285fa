"""Figures of the gate report, from the passes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env._version import __version__
from actfer_env.errors import DataError
from actfer_env.evaluation.gate.outcomes import ALL, ALWAYS, FREE, NEVER, SWAPS, PassTable, Plays
from actfer_env.evaluation.gate.statistics import (
    Estimate,
    Floats,
    Rows,
    bins_of,
    estimate,
    estimate_mean,
    gain_and_harm,
    oracle,
    qini,
    rank_correlation,
    regret,
    threshold_gate,
    uplift_curve,
)
from actfer_env.evaluation.gate.where import halves_of, where_figures
from actfer_env.evaluation.intervals import Interval

GATE_SCHEMA = 1
COSTS = (0.0, 0.05, 0.1, 0.2)
"""Prices of a zoom at which regret is told."""
COLLAPSED = (0.02, 0.98)
"""Zoom ratios below and above which a gate counts as collapsed."""
WITHIN = "95 % percentile bootstrap over samples, passes paired"
OVER_SEEDS = "95 % interval of Student's t over seeds"
GATES = ("never", "always", "all", "random", "privileged", "focus", "size", "oracle")
"""Reference gates, with the policy's own outcomes."""


def gate_figures(plays: Plays, measure: str = "accuracy") -> dict[str, Any]:
    """Return the gate report as JSON values.

    Args:
        plays: The passes of one policy, or of several seeds of one.
        measure: Worth of an episode: "accuracy", or "task", the task reward.

    Returns:
        "regret" and "reference_gates" (by cost), "qini", "calibration", "gain_and_harm", "evidence", "where",
        "zoom_ratio", "stability", "values", and what they are of. A figure is a dict of "value", "low" and "high"; one
        that is not defined has None. Of several seeds each figure is their mean, and "seeds" holds theirs.

    Raises:
        DataError: there is no labelled sample that was played in all passes.
    """
    each = []
    for number, name in enumerate(plays.agents):
        table = plays.table(number)
        if not len(table):
            raise DataError(f"{name}: no sample with an emotion was played in all of free, never and always")
        each.append({"agent": name, **policy_figures(table, measure)})
    whole = each[0] if len(each) == 1 else over_seeds(each)
    ratios = [one["zoom_ratio"] for one in each]
    over = Interval.of([one for one in ratios if one is not None])
    stability = {
        "zoom_ratios": ratios, "collapsed": sum(one is not None and is_collapsed(one) for one in ratios),
        "seeds": len(ratios), "zoom_ratio": _t_interval(over),
    }  # fmt: skip
    found = {
        "schema": GATE_SCHEMA, "actfer_env": __version__, "agents": list(plays.agents), "dataset": plays.dataset,
        "settings": plays.settings, "looks": plays.looks, "quality": measure,
        "intervals": WITHIN if len(each) == 1 else OVER_SEEDS, **{k: v for k, v in whole.items() if k != "agent"},
        "stability": stability,
    }  # fmt: skip
    if len(each) > 1:
        found["seeds"] = each
    return found


def is_collapsed(ratio: float) -> bool:
    """Tell whether a gate zooms always the same."""
    return ratio < COLLAPSED[0] or ratio > COLLAPSED[1]


def policy_figures(table: PassTable, measure: str = "accuracy") -> dict[str, Any]:
    """Return the figures of one policy; see `gate_figures`."""
    zoomed = table.zoomed(FREE)[table.face]
    values, gates, regrets = _by_cost(table, measure)
    return {
        "n": len(table), "with_face": int(table.face.sum()), "repeats": table.repeats,
        "zoom_ratio": float(zoomed.mean()) if zoomed.size else None, "values": values, "regret": regrets,
        "unanswered": {way: float((table.answers(way) == "").mean()) for way in (FREE, NEVER, ALWAYS)},
        "reference_gates": gates, "qini": _qini(table, measure), "calibration": _calibration(table, measure),
        "gain_and_harm": _gain_and_harm(table), "evidence": _evidence(table, measure),
        "where": where_figures(table, measure),
    }  # fmt: skip


def _by_cost(
    table: PassTable, measure: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the worth of the passes, that of each reference gate by cost, and regrets by cost and gate."""
    n, half = len(table), halves_of([one.id for one in table.samples])
    quality = {way: table.quality(way, measure) for way in (FREE, NEVER, ALWAYS, ALL) if way in table.ways}
    zoomed = {way: table.zoomed(way) for way in quality}
    focus, size = (np.array([getattr(one, name) for one in table.samples], float) for name in ("focus", "size"))
    labels = [one.quality for one in table.samples]
    good = None if None in labels else np.array([label == "good" for label in labels])
    rate = zoomed[FREE][table.face].mean() if table.face.any() else 0.0
    gates: dict[str, dict[str, Any]] = {}
    regrets: dict[str, dict[str, Any]] = {}
    for cost in COSTS:
        paid = {way: quality[way] - cost * zoomed[way] for way in quality}
        mean = {way: each.mean(1) for way, each in paid.items()}
        worth: dict[str, Floats] = {"policy": mean[FREE], "never": mean[NEVER], "always": mean[ALWAYS]}
        if ALL in mean:
            worth["all"] = mean[ALL]
        worth["random"] = np.where(table.face, (1 - rate) * mean[NEVER] + rate * mean[ALWAYS], mean[NEVER])
        if good is not None and 0 < good.sum() < n:
            worth["privileged"] = np.where(good, mean[ALWAYS], mean[NEVER])
        for name, signal in (("focus", focus), ("size", size)):
            if np.ptp(signal) > 0:
                worth[name] = threshold_gate(signal, mean[NEVER], mean[ALWAYS], half)
        worth["oracle"] = oracle(paid[NEVER], paid[ALWAYS])
        name = f"{cost:g}"
        gates[name] = {gate: _mean(each) for gate, each in worth.items()}
        gates[name] |= {f"policy_less_{gate}": _mean(worth["policy"] - worth[gate]) for gate in ("never", "always")}
        regrets[name] = _regret(worth, "policy").to_dict()
        regrets[name]["gates"] = {gate: _regret(worth, gate).value for gate in worth if gate != "policy"}
        if cost == 0:
            values = {way: _mean(each) for way, each in mean.items()}
            values["oracle"] = _mean(worth["oracle"])
    return values, gates, regrets


def _regret(worth: Mapping[str, Floats], gate: str) -> Estimate:
    names = (gate, "never", "always", "oracle")

    def of(rows: Rows) -> float:
        return regret(*(float(worth[name][rows].mean()) for name in names))

    return estimate(of, len(worth[gate]))


def _mean(values: Floats) -> dict[str, float | None]:
    return estimate_mean(values).to_dict()


def _orders(table: PassTable, measure: str) -> tuple[Floats, Floats, Floats]:
    """Return the chance to zoom, the uplift, and the best order, of the samples whose face was found.

    With several repeats the best order is that of one half of them, and the uplift that of the other.
    """
    gap = (table.quality(ALWAYS, measure) - table.quality(NEVER, measure))[table.face]
    chance = table.chance[table.face]
    if table.repeats == 1:
        return chance, gap[:, 0], gap[:, 0]
    return chance, gap[:, 1::2].mean(1), gap[:, ::2].mean(1)


def _qini(table: PassTable, measure: str) -> dict[str, Any]:
    """Return the normalised area of the uplift curve, and the curves."""
    chance, uplift, best = _orders(table, measure)
    found = estimate(lambda rows: qini(chance[rows], uplift[rows], best[rows]), len(chance)).to_dict()
    curves = {}
    for name, order in (("policy", chance), ("oracle", best)):
        rates, gains = uplift_curve(order, uplift) if len(order) else (np.zeros(1), np.zeros(1))
        keep = np.unique(np.linspace(0, len(rates) - 1, min(len(rates), 101)).round().astype(int))
        curves[name] = {"rate": _rounded(rates[keep]), "gain": _rounded(gains[keep])}
    told = "the policy's own probability" if table.says_chance else "the share of its repeats that zoomed"
    return {**found, "ordered_by": told, "curves": curves}


def _calibration(table: PassTable, measure: str) -> dict[str, Any]:
    """Return the observed uplift by bins of the chance to zoom, and their rank correlation."""
    gap = (table.quality(ALWAYS, measure) - table.quality(NEVER, measure)).mean(1)[table.face]
    chance, rows = table.chance[table.face], []
    which = bins_of(chance) if len(chance) else np.zeros(0, int)
    for number in np.unique(which):
        chosen = which == number
        rows.append({"n": int(chosen.sum()), "chance": float(chance[chosen].mean()), "uplift": _mean(gap[chosen])})
    found = estimate(lambda rows: rank_correlation(chance[rows], gap[rows]), len(chance))
    return {"bins": rows, "rank_correlation": found.to_dict()}


def _gain_and_harm(table: PassTable) -> dict[str, Any]:
    """Return call gain, call harm, schema gain and schema harm, by the right emotion."""
    without, free = (table.quality(way) > 0.5 for way in (NEVER, FREE))
    called = table.zoomed(FREE)
    found = gain_and_harm(without.ravel(), free.ravel(), called.ravel())

    def term(name: str) -> Callable[[Rows], float]:
        return lambda rows: gain_and_harm(without[rows].ravel(), free[rows].ravel(), called[rows].ravel())[name][
            "value"
        ]

    return {name: {**parts, **estimate(term(name), len(table)).to_dict()} for name, parts in found.items()}


def _evidence(table: PassTable, measure: str) -> dict[str, Any] | None:
    """Return how far quality falls, and how many answers move, when crops show something else.

    A policy whose answers do not move has not looked at its crops. What moves anyhow is told by two repeats with the
    same crops.
    """
    swaps = [swap for swap in SWAPS if swap in table.ways]
    if not swaps:
        return None
    zoomed = table.zoomed(ALWAYS).any(1)
    real, answers = table.quality(ALWAYS, measure).mean(1), table.answers(ALWAYS)
    anyhow = (answers != np.roll(answers, 1, axis=1)).mean(1)[zoomed] if table.repeats > 1 else np.zeros(zoomed.sum())
    found: dict[str, Any] = {"zoomed": int(zoomed.sum()), "moved_anyhow": float(anyhow.mean()) if len(anyhow) else None}
    moved_most = 0.0
    for swap in swaps:
        fall = (real - table.quality(swap, measure).mean(1))[zoomed]
        moved = (answers != table.answers(swap)).mean(1)[zoomed]
        beyond = estimate_mean(moved - anyhow)
        found[swap] = {"fall": _mean(fall), "moved": _mean(moved), "moved_beyond_anyhow": beyond.to_dict()}
        moved_most = max(moved_most, beyond.low if beyond.low is not None else 0.0)
    found["looks"] = moved_most > 0 if zoomed.any() else None
    return found


def over_seeds(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean figures of several seeds; intervals are of Student's t over them.

    Curves, bins and counts that differ between seeds stay with the seeds.
    """
    found = {key: _merged([one.get(key) for one in figures]) for key in figures[0]}
    return {key: value for key, value in found.items() if value is not None or key == "zoom_ratio"}


def _merged(values: Sequence[Any]) -> Any:
    """Return what several seeds' values amount to: numbers and figures their mean, dicts by key, others if equal."""
    known = [one for one in values if one is not None]
    first = known[0] if known else None
    if isinstance(first, Mapping):
        if len(known) < len(values):
            return None
        keys = dict.fromkeys(key for one in values for key in one if key not in ("value", "low", "high"))
        inner = {key: _merged([one.get(key) for one in values]) for key in keys}
        inner = {key: value for key, value in inner.items() if value is not None}
        if "value" in first:
            numbers = [one["value"] for one in values if one.get("value") is not None]
            return {**_t_interval(Interval.of(numbers)), **inner}
        return inner
    if isinstance(first, bool) or first is None:
        return first if all(one == first for one in values) else None
    if isinstance(first, int | float):
        mean = float(np.mean([float(one) for one in known]))
        return int(mean) if all(isinstance(one, int) for one in values) and mean == int(mean) else mean
    return first if all(one == first for one in values) else None


def _t_interval(interval: Interval) -> dict[str, float | None]:
    """Return an interval as a figure; without values all is None, of a single one the ends are."""
    numbers = (interval.mean, interval.low, interval.high)
    value, low, high = (float(one) if np.isfinite(one) else None for one in numbers)
    return {"value": value, "low": low, "high": high}


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(one), 5) for one in values]
