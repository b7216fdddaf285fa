"""Summary metrics of finished episodes.

Everything here is a few lines of NumPy: scikit-learn is not a core dependency, and the counts are small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.rewards import TERMS, Scores, au_f1
from actfer_env.rewards.grounding import evidence_boxes, grounding_score, target_boxes
from actfer_env.rollout import Rollout

WITH_FACE = ("ok", "prealigned")


@dataclass(frozen=True)
class Summary:
    """Summary of a set of rollouts; shares lie in [0, 1], and what cannot be computed is None, never NaN.

    Attributes:
        n: Rollouts.
        labelled: Rollouts with an emotion target.
        answered: Rollouts with an answer.
        accuracy: Share of right emotions among the labelled; no answer counts as wrong.
        macro_f1: Mean of `emotion_f1`.
        emotion_f1: F1 of each emotion that occurs as a target.
        au_labelled: Rollouts with an Action Unit target.
        au_set: The set of Action Units that count on both sides; None is those that occur.
        au_macro_f1: Mean of `au_f1`, over the units of the set that occur.
        au_instance_f1: Mean over rollouts of the F1 of answer and target as sets; no answer counts as 0.
        au_f1: F1 of each Action Unit of the set that occurs in a target or an answer (it is undefined for the others).
        aus_derived: The Action Units follow from the emotion for some rollouts, and say nothing beyond it.
        zoom_ratio: Share of rollouts with a legal zoom_in.
        with_face: Rollouts with an aligned face.
        zoom_ratio_with_face: Share of those with a legal zoom_in.
        violations: Name -> how many calls.
        violation_rates: Name -> share of rollouts with at least one.
        violation_rate: Share of rollouts with any violation.
        detections: Outcome of face-detect-align -> rollouts.
        truncated: Share of rollouts that used up their turns.
        mean_turns: Turns used, on average.
        terms: Mean of each reward term; empty without scores.
        parse_failure_rate: Share of conversations with a turn that could not be read; None without conversations.
        cut_turns: Turns that ended at the bound on their tokens, in all conversations.
        outcomes: Ending of conversations -> number of them; empty without conversations.
        usage: Calls, tokens and seconds of a conversation, on average; empty without conversations.
        scripted: Rollouts whose answers are those of a script that looks at no picture. Beside policies that look they
            are left out of accuracy and F1; alone, these figures are the script's.
        au_boxed: Rollouts with boxes of active Action Units.
        au_iou: Mean over those of TAG's AU reward, the overlap of the policy's boxes with them; None without any.
    """

    n: int
    labelled: int
    answered: int
    accuracy: float | None
    macro_f1: float | None
    emotion_f1: Mapping[str, float]
    au_labelled: int
    au_macro_f1: float | None
    au_instance_f1: float | None
    au_f1: Mapping[str, float]
    aus_derived: bool
    zoom_ratio: float | None
    with_face: int
    zoom_ratio_with_face: float | None
    violations: Mapping[str, int]
    violation_rates: Mapping[str, float]
    violation_rate: float | None
    detections: Mapping[str, int]
    truncated: float | None
    mean_turns: float | None
    terms: Mapping[str, float] = field(default_factory=dict)
    parse_failure_rate: float | None = None
    cut_turns: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    au_set: tuple[int, ...] | None = None
    scripted: int = 0
    au_boxed: int = 0
    au_iou: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def summarize(
    rollouts: Iterable[Rollout], scores: Scores | None = None, au_set: str | Iterable[int] | None = None
) -> Summary:
    """Summarise finished episodes, labelled or not.

    Args:
        rollouts: Finished episodes.
        scores: Their scores, in the same order; gives the mean reward terms.
        au_set: Action Units that count, as of `facs.parse_au_set`: others are ignored in targets and answers, so that a
            unit which nobody annotated costs nothing. None is all that occur.

    Raises:
        LabelError: an unknown set or unit.
        ValueError: the scores are of another number of rollouts.
    """
    rollouts = tuple(rollouts)
    if scores is not None and len(scores) != len(rollouts):
        raise ValueError(f"{len(scores)} scores for {len(rollouts)} rollouts: pass the scores of these rollouts")
    units = None if au_set is None else facs.parse_au_set(au_set)
    read = [rollout for rollout in rollouts if rollout.looked] or rollouts
    return Summary(
        au_set=units, n=len(rollouts), answered=sum(rollout.predicted_emotion is not None for rollout in rollouts),
        scripted=sum(not rollout.looked for rollout in rollouts),
        **_emotions([rollout for rollout in read if rollout.emotion is not None]),
        **_units([rollout for rollout in read if rollout.aus is not None], units),
        **_zooms(rollouts), **_violations(rollouts),
        detections=dict(Counter(rollout.detection for rollout in rollouts)),
        truncated=_mean(rollout.truncated for rollout in rollouts),
        mean_turns=_mean(rollout.turns for rollout in rollouts),
        terms={name: float(np.mean(getattr(scores, name))) for name in TERMS} if scores and rollouts else {},
        **_conversations([rollout for rollout in rollouts if "outcome" in rollout.meta]), **grounding(rollouts),
    )  # fmt: skip


def _emotions(labelled: Sequence[Rollout]) -> dict[str, Any]:
    present = {rollout.emotion for rollout in labelled}
    names = [name for name in facs.EMOTIONS if name in present]
    target = np.array([[rollout.emotion == name for name in names] for rollout in labelled], bool)
    answer = np.array([[rollout.predicted_emotion == name for name in names] for rollout in labelled], bool)
    each = _f1(names, target, answer)
    return {
        "labelled": len(labelled), "accuracy": _mean(bool(rollout.correct) for rollout in labelled),
        "macro_f1": _mean(each.values()), "emotion_f1": each,
    }  # fmt: skip


def _units(labelled: Sequence[Rollout], au_set: tuple[int, ...] | None) -> dict[str, Any]:
    pairs = [(rollout.aus or frozenset(), rollout.predicted_aus or frozenset()) for rollout in labelled]
    units = sorted(frozenset().union(*(one | two for one, two in pairs)) if au_set is None else au_set)
    known = frozenset(units)
    target = np.array([[unit in pair[0] for unit in units] for pair in pairs], bool)
    answer = np.array([[unit in pair[1] for unit in units] for pair in pairs], bool)
    each = _f1([facs.format_au(unit) for unit in units], target, answer)
    instances = (
        0.0 if rollout.predicted_emotion is None else au_f1(predicted & known, wanted & known)
        for rollout, (wanted, predicted) in zip(labelled, pairs, strict=True)
    )
    return {
        "au_labelled": len(labelled), "au_macro_f1": _mean(each.values()), "au_instance_f1": _mean(instances),
        "au_f1": each, "aus_derived": any(rollout.meta.get("aus_derived") for rollout in labelled),
    }  # fmt: skip


def _zooms(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    faces = [rollout for rollout in rollouts if rollout.detection in WITH_FACE]
    return {
        "zoom_ratio": _mean(rollout.zoomed for rollout in rollouts), "with_face": len(faces),
        "zoom_ratio_with_face": _mean(rollout.zoomed for rollout in faces),
    }  # fmt: skip


def _violations(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    counts = Counter(name for rollout in rollouts for name in rollout.violations)
    rates = Counter(name for rollout in rollouts for name in set(rollout.violations))
    return {
        "violations": dict(sorted(counts.items())),
        "violation_rates": {name: count / len(rollouts) for name, count in sorted(rates.items())},
        "violation_rate": _mean(bool(rollout.violations) for rollout in rollouts),
    }


def _conversations(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    used = [rollout.meta["usage"] for rollout in rollouts if "usage" in rollout.meta]
    return {
        "parse_failure_rate": _mean(bool(rollout.meta.get("parse_failures")) for rollout in rollouts),
        "cut_turns": sum(rollout.meta.get("cut_turns", 0) for rollout in rollouts),
        "outcomes": dict(Counter(rollout.meta["outcome"] for rollout in rollouts)),
        "usage": {name: float(np.mean([each[name] for each in used])) for name in (used[0] if used else ())},
    }


def grounding(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Return the overlap of boxes with those of active Action Units (TAG eq. 3-4), and how many rollouts have these."""
    boxed = [(evidence_boxes(rollout), boxes) for rollout in rollouts if (boxes := target_boxes(rollout))]
    return {"au_boxed": len(boxed), "au_iou": _mean(grounding_score(*pair) for pair in boxed)}


def _f1(names: Sequence[str], target: NDArray[np.bool_], answer: NDArray[np.bool_]) -> dict[str, float]:
    """Return the F1 of each column; those that occur in neither array are left out."""
    if not target.size:
        return {}
    hits, sizes = (target & answer).sum(0), target.sum(0) + answer.sum(0)
    return {name: 2 * int(hit) / int(size) for name, hit, size in zip(names, hits, sizes, strict=True) if size}


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return float(np.mean(listed)) if listed else None
