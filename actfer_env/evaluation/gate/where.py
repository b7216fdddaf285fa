"""Looks of a policy: at regions that carry the sample's Action Units, or at the one that helps most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.evaluation.gate.outcomes import ALWAYS, FREE, PassTable, only
from actfer_env.evaluation.gate.statistics import estimate, estimate_mean

BUDGETS = (1, 2, 4)
"""Numbers of looks, from the first on, that are counted."""
_HELPED = 1e-9


def carrying(aus: Iterable[int] | None) -> frozenset[str] | None:
    """Return the regions that carry one of some Action Units; None where none are labelled, or none is active."""
    if not aus:
        return None
    return frozenset(name for name in facs.REGIONS if any(name in facs.AU_REGIONS.get(unit, ()) for unit in aus))


def helping(quality: NDArray[np.float64], never: float) -> frozenset[str] | None:
    """Return the regions with the largest gain; None where no region helps, or all help the same.

    Args:
        quality: Worth of a zoom into each region alone, float (4,).
        never: Worth of no zoom.
    """
    best = quality >= quality.max() - _HELPED
    if quality.max() - never <= _HELPED or best.all():
        return None
    return frozenset(name for name, chosen in zip(facs.REGIONS, best, strict=True) if chosen)


def hits(looks: Sequence[Sequence[str]], targets: Sequence[frozenset[str] | None]) -> NDArray[np.float64]:
    """Return for each sample the looks that hit, those that would by chance, and all of them, float (n, 3).

    Samples without a target, or without a look, have zeros.

    Args:
        looks: Regions that each sample's episode looked at.
        targets: The regions to be hit.
    """
    found = np.zeros((len(looks), 3))
    for row, (seen, target) in enumerate(zip(looks, targets, strict=True)):
        if target is not None:
            found[row] = sum(name in target for name in seen), len(seen) * len(target) / len(facs.REGIONS), len(seen)
    return found


def share_of_hits(counts: NDArray[np.float64]) -> dict[str, Any]:
    """Return the share of looks that hit, that of random looks, and their difference with its interval.

    Args:
        counts: Counts of `hits`.
    """
    total = counts.sum(0)
    if not total[2]:
        return {"looks": 0, "share": None, "chance": None, "gain": estimate(lambda rows: np.nan, 1).to_dict()}

    def gain(rows: NDArray[np.int64]) -> float:
        hit, luck, all_ = counts[rows].sum(0)
        return float((hit - luck) / all_) if all_ else float("nan")

    return {"looks": int(total[2]), "share": float(total[0] / total[2]), "chance": float(total[1] / total[2]),
            "gain": estimate(gain, len(counts)).to_dict()}  # fmt: skip


def where_figures(table: PassTable, measure: str = "accuracy") -> dict[str, Any]:
    """Return where a policy looks, against chance.

    Args:
        table: Its passes.
        measure: Worth of an episode, see `quality_of`.

    Returns:
        "regions": share of looks at each; "units" and "uplift": by pass ("free", "always"), share of the first looks
        within each budget that land on a region which carries an Action Unit, or on the one that gains most; "first":
        quality with one look, at the region of the policy's choice, at the best fixed one, a random one, and the best
        for each sample. What was not labelled or not played is None.
    """
    found: dict[str, Any] = {}
    looks = {way: table.looks(way) for way in (FREE, ALWAYS)}
    counts = {name: sum(seen.count(name) for seen in looks[ALWAYS]) for name in facs.REGIONS}
    total = sum(counts.values())
    found["regions"] = {name: count / total if total else None for name, count in counts.items()}
    units = [carrying(one.aus) for one in table.samples]
    found["units"] = _by_budget(looks, units) if any(units) else None
    alone = [only(name) for name in facs.REGIONS]
    found["uplift"] = found["first"] = None
    if all(way in table.ways for way in alone):
        quality = np.stack([table.quality(way, measure).mean(1) for way in alone], 1)
        never = table.quality("never", measure).mean(1)
        targets = [
            helping(row, base) if face else None for row, base, face in zip(quality, never, table.face, strict=True)
        ]
        found["uplift"] = _by_budget(looks, targets)
        found["first"] = _first_look(table, looks[ALWAYS], quality, never)
    return found


def _by_budget(
    looks: dict[str, list[tuple[str, ...]]], targets: Sequence[frozenset[str] | None]
) -> dict[str, dict[str, Any]]:
    return {
        way: {str(budget): share_of_hits(hits([one[:budget] for one in seen], targets)) for budget in BUDGETS}
        for way, seen in looks.items()
    }


def _first_look(
    table: PassTable, looks: Sequence[Sequence[str]], quality: NDArray[np.float64], never: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the quality of one look, by who chooses the region; the best fixed one is chosen on the other half."""
    n = len(table)
    chosen = np.array([facs.REGIONS.index(seen[0]) if seen else -1 for seen in looks], np.int64)
    own = np.where(chosen >= 0, quality[np.arange(n), np.maximum(chosen, 0)], never)
    half = halves_of([one.id for one in table.samples])
    fixed = np.empty(n)
    for scored in (half, ~half):
        pool = quality[~scored] if (~scored).any() else quality
        fixed[scored] = quality[scored, int(pool.mean(0).argmax())]
    chance, best = quality.mean(1), quality.max(1)
    worth = {
        "policy": own, "fixed": fixed, "random": chance, "best": best, "policy_less_random": own - chance,
        "policy_less_fixed": own - fixed,
    }  # fmt: skip
    each = {name: float(quality[:, place].mean()) for place, name in enumerate(facs.REGIONS)}
    return {**{name: estimate_mean(values).to_dict() for name, values in worth.items()}, "each": each}


def halves_of(names: Sequence[str]) -> NDArray[np.bool_]:
    """Return a half of some samples, bool (n,), that depends on their ids alone."""
    import zlib

    return np.array([zlib.crc32(name.encode("utf-8", "surrogatepass")) % 2 == 0 for name in names], bool)
