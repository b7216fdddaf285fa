"""Figures of a benchmark's answers, by scikit-learn: labels, FERBench's own rule, Action Units, and descriptions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.packages import needs

NO_ANSWER, OTHER_LABEL = "no answer", "other label"
"""Columns of a confusion matrix beside the labels: nothing that could be read, and a label that the set has not."""
UNKNOWN = "unknown"
"""FERBench's word for an answer in which it finds no label."""


@dataclass(frozen=True)
class LabelScores:
    """Figures of one label an item; no answer, and a label that the set has not, count as wrong.

    Attributes:
        items: Items that are counted.
        accuracy: Share of right answers.
        macro_f1: Mean of `f1`.
        f1: F1 of each label that is the target of an item.
        support: Items of each label.
        columns: Labels of the confusion matrix's columns: the set's, `NO_ANSWER` and `OTHER_LABEL`.
        confusion: Label -> number of items by answer, in the order of `columns`.
    """

    items: int
    accuracy: float | None
    macro_f1: float | None
    f1: Mapping[str, float]
    support: Mapping[str, int]
    columns: tuple[str, ...]
    confusion: Mapping[str, tuple[int, ...]]


def label_scores(targets: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]) -> LabelScores:
    """Score one label an item, over all items.

    Args:
        targets: The label of each item.
        answers: The answer to each; None where there was none.
        labels: The labels of the set, in its order. Averaged are those that occur as targets.
    """
    with needs("tables"):
        from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    known = frozenset(labels)
    read = [NO_ANSWER if one is None else one if one in known else OTHER_LABEL for one in answers]
    present = [label for label in labels if label in set(targets)]
    columns = (*labels, NO_ANSWER, OTHER_LABEL)
    if not present:
        return LabelScores(0, None, None, {}, {}, columns, {})
    each = f1_score(targets, read, labels=present, average=None, zero_division=0.0)
    counts = confusion_matrix(targets, read, labels=columns)
    rows = {label: tuple(map(int, counts[columns.index(label)])) for label in present}
    return LabelScores(
        len(read), float(accuracy_score(targets, read)), float(np.mean(each)),
        dict(zip(present, map(float, each), strict=True)), {label: sum(row) for label, row in rows.items()}, columns,
        rows,
    )  # fmt: skip


@dataclass(frozen=True)
class FERBenchScores:
    """Figures by FERBench's own rule, for comparison with published rows; items that failed are left out.

    Attributes:
        items: Items that are counted.
        unknown: Answers in which the rule finds no label; wrong.
        accuracy: Share of right answers.
        macro_f1: Mean over all labels that occur as target or answer, among them `UNKNOWN` with an F1 of 0.
        averaged: Number of these labels.
        f1: F1 of each label that is a target.
    """

    items: int
    unknown: int
    accuracy: float | None
    macro_f1: float | None
    averaged: int
    f1: Mapping[str, float]


def ferbench_scores(targets: Sequence[str], answers: Sequence[str]) -> FERBenchScores:
    """Score labels that `ferbench_label` has read, as FERBench does.

    Args:
        targets: The label of each item that did not fail.
        answers: The label that was read in each answer, or `UNKNOWN`.
    """
    with needs("tables"):
        from sklearn.metrics import accuracy_score, f1_score

    if not targets:
        return FERBenchScores(0, 0, None, None, 0, {})
    found = sorted({*targets, *answers})
    each = f1_score(targets, answers, labels=found, average=None, zero_division=0.0)
    f1 = {label: float(value) for label, value in zip(found, each, strict=True) if label in set(targets)}
    macro = float(f1_score(targets, answers, average="macro", zero_division=0.0))
    unknown = sum(answer == UNKNOWN for answer in answers)
    return FERBenchScores(len(targets), unknown, float(accuracy_score(targets, answers)), macro, len(found), f1)


_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "anger": ("angry",), "angry": ("anger",), "contempt": ("scorn", "disdain"), "disgust": ("revulsion", "repulsion"),
    "fear": ("terror", "fright"), "happiness": ("joy", "happy"), "happy": ("joy", "happiness"), "sadness": ("sad",),
    "sad": ("sorrow", "unhappy"), "neutral": ("normal", "calm", "blank"), "surprise": ("shock", "astonishment"),
}  # fmt: skip
"""Label -> words that FERBench's scorer takes for it where no label is found, in the order of its search."""
_MAD = ("affectnet", "sfew")
"""Sets in which it takes "mad" for anger as well."""


def ferbench_label(response: str, labels: Sequence[str], part: str) -> str:
    """Return the label that FERBench's scorer finds in an answer, its known defects included, or `UNKNOWN`.

    It takes the first label of the set's list that is, or stands in, the ``<answer>``; else the first that stands
    anywhere in the response, the reasoning included; else the first of which a synonym does.

    Args:
        response: The whole text of the turn.
        labels: The set's labels in its order and spelling.
        part: The set's name, a key of `FERBENCH_SETS`.

    >>> rafdb = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    >>> ferbench_label("<think>no surprise, a smile</think><answer>happy</answer>", rafdb, "rafdb")
    'surprise'
    """
    answer = re.search(r"<answer>\s*(.*?)\s*</answer>", response, re.IGNORECASE)
    places = [answer[1].lower()] if answer else []
    for text in (*places, response.lower()):
        for label in labels:
            if label in text:
                return label
    text = response.lower()
    for label, words in _SYNONYMS.items():
        more = ("mad",) if part in _MAD and label in ("anger", "angry") else ()
        if label in labels and any(word in text for word in (*words, *more)):
            return label
    return UNKNOWN


@dataclass(frozen=True)
class UnitScores:
    """Figures of Action Units over a set of them; no answer counts as one that names none.

    Attributes:
        items: Items with a target.
        units: Units of the set.
        f1: F1 of each unit of the set; None where it occurs in no target and no answer.
        mean_f1: Mean of those that are defined.
        image_f1: Mean over items of the F1 of both sets; two empty ones have 1, and an item without an answer 0.
        support: Items in which each unit is active.
    """

    items: int
    units: tuple[int, ...]
    f1: Mapping[str, float | None]
    mean_f1: float | None
    image_f1: float | None
    support: Mapping[str, int]


def unit_scores(
    targets: Sequence[frozenset[int]], answers: Sequence[frozenset[int] | None], units: Iterable[int]
) -> UnitScores:
    """Score sets of Action Units; units outside the set are ignored on both sides.

    Args:
        targets: The active units of each item.
        answers: The units of each answer; None where there was no answer.
        units: The units that count.
    """
    with needs("tables"):
        from sklearn.metrics import f1_score

    known = tuple(sorted(units))
    names = [facs.format_au(unit) for unit in known]
    if not targets:
        return UnitScores(0, known, dict.fromkeys(names), None, None, dict.fromkeys(names, 0))
    target = _indicators(targets, known)
    answer = _indicators([one or frozenset() for one in answers], known)
    each = f1_score(target, answer, average=None, zero_division=np.nan)[:-1]
    answered = np.array([one is not None for one in answers])
    image = 0.0
    if answered.any():  # the others have 0
        shared = f1_score(target[answered], answer[answered], average="samples", zero_division=1.0)
        image = float(shared) * float(answered.mean())
    defined = [float(value) for value in each if not math.isnan(value)]
    return UnitScores(
        len(target), known,
        {name: None if math.isnan(value) else float(value) for name, value in zip(names, each, strict=True)},
        float(np.mean(defined)) if defined else None, image,
        dict(zip(names, map(int, target.sum(0)[:-1]), strict=True)),
    )  # fmt: skip


def _indicators(sets: Iterable[frozenset[int]], units: Sequence[int]) -> NDArray[np.int64]:
    """Return a column for each unit, and one of zeros: scikit-learn takes a single column for labels, not for a set."""
    return np.array([[*(int(unit in one) for unit in units), 0] for one in sets], np.int64)


def rouge_l(references: Sequence[str], texts: Sequence[str]) -> float | None:
    """Return the mean ROUGE-L (F-measure, no stemming) of texts against references, by the library rouge-score.

    Args:
        references: Descriptions of the data set.
        texts: The policy's reasoning, in the same order; an empty text has 0.
    """
    with needs("tables"):
        from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    pairs = zip(references, texts, strict=True)
    values = [scorer.score(reference, text)["rougeL"].fmeasure for reference, text in pairs]
    return float(np.mean(values)) if values else None
