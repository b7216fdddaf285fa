"""The claims of ActFER's table 3 as differences between two variants, beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actfer_env.evaluation.intervals import Interval

WARM_START = "warm_start"
"""The name under which the warm start, the paper's SFT row, stands among the variants."""

Results = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Claim:
    """The paper's difference of a metric between two rows of its table 3, FERBench columns unless said otherwise.

    Attributes:
        text: The claim.
        metric: Name of the metric among our figures.
        first: Variant.
        second: Variant that is taken off.
        paper: The paper's difference, as a share.
    """

    text: str
    metric: str
    first: str
    second: str
    paper: float


CLAIMS: tuple[Claim, ...] = (
    Claim("reinforcement learning raises accuracy", "accuracy", "full", WARM_START, 0.0819),
    Claim("and macro-F1", "macro_f1", "full", WARM_START, 0.1262),
    Claim("a dense AU reward raises AU F1 (DISFA)", "au_f1", "au_grounded", "emotion_only", 0.023),
    Claim("without contrast zooming dies out: emotion only", "zoom", "emotion_only", WARM_START, -0.326),
    Claim("without contrast zooming dies out: AU-grounded", "zoom", "au_grounded", WARM_START, -0.326),
    Claim("paying for zooms makes it zoom always", "zoom", "zoom_biased", WARM_START, 0.674),
    Claim("zooming always reads better than never zooming", "accuracy", "zoom_biased", "au_grounded", 0.0306),
    Claim("the contrast brings zooming back", "zoom", "no_ema", "au_grounded", 0.901),
    Claim("and raises accuracy", "accuracy", "no_ema", "au_grounded", 0.0121),
    Claim("and macro-F1", "macro_f1", "no_ema", "au_grounded", 0.0262),
    Claim("the EMA lowers the zoom ratio", "zoom", "full", "no_ema", -0.126),
    Claim("and raises accuracy", "accuracy", "full", "no_ema", 0.0388),
    Claim("and AU F1 (DISFA)", "au_f1", "full", "no_ema", 0.040),
    Claim("the full method reads better than zooming always", "accuracy", "full", "zoom_biased", 0.0203),
    Claim("and zooms less", "zoom", "full", "zoom_biased", -0.225),
)


def claims_table(results: Results) -> list[dict[str, str]]:
    """Return each claim whose variants were run, with our difference paired by seed and a verdict."""
    return [
        {"claim": claim.text, "difference": f"{claim.metric}: {claim.first} - {claim.second}",
         "paper": f"{claim.paper:+.3f}", "here": str(found), "verdict": verdict(claim.paper, found)}
        for claim in CLAIMS
        if {claim.first, claim.second} <= set(results)
        for found in [Interval.of(paired(results[claim.first], results[claim.second], claim.metric))]
    ]  # fmt: skip


def verdict(paper: float, found: Interval) -> str:
    """Return "agrees" or "disagrees" where the 95 % interval lies on one side of zero, else "undecided"."""
    if found.n < 2 or found.low <= 0 <= found.high:
        return "undecided"
    return "agrees" if found.mean * paper > 0 else "disagrees"


def paired(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """Return the differences of a metric, seed by seed; NaN where one of both has none, as without Action Units."""
    mine, theirs = (np.array([run["figures"][metric] for run in runs], float) for runs in (first, second))
    return list((mine - theirs).tolist())
