"""Confusion matrix and figures by class of a run, with intervals, as a page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.evaluation.episodes import answer_source
from actfer_env.evaluation.intervals import bootstrap_sums
from actfer_env.evaluation.tables import DASH, counted, number
from actfer_env.rollout import Rollout

NO_ANSWER = "-"
"""Value of the answer's filter where there is none, or none that may be shown."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix.

    Attributes:
        count: Episodes.
        share: Their percentage of the row.
        hit: Whether the answer is the target.
        link: Filters that lead to these episodes, as an address after "#".
        title: The cell in words.
    """

    count: int
    share: float
    hit: bool
    link: str
    title: str


@dataclass(frozen=True)
class MatrixRow:
    """The episodes of one target, by answer."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ClassRow:
    """Figures of one emotion or Action Unit, in words; `n` counts its targets."""

    name: str
    note: str
    n: int
    precision: str
    recall: str
    f1: str
    interval: str
    zoomed: str = ""


@dataclass(frozen=True)
class ClassTables:
    """All that a page shows of a run's classes.

    Attributes:
        whose: "Answers", or whose they are if no policy looked.
        answers: Columns of the confusion matrix.
        matrix: Its rows; those of emotions that occur as a target.
        emotions: Figures of these emotions.
        units: Figures of the Action Units that occur.
        derived: Whether the answers' Action Units follow from their emotions.
        intervals: Name of a headline figure -> its 95 % interval in words.
        note: Line that says how the intervals were made.
    """

    whose: str
    answers: tuple[str, ...] = ()
    matrix: tuple[MatrixRow, ...] = ()
    emotions: tuple[ClassRow, ...] = ()
    units: tuple[ClassRow, ...] = ()
    derived: bool = False
    intervals: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def class_tables(rollouts: Sequence[Rollout], au_set: Iterable[int] | None = None) -> ClassTables:
    """Return confusion matrix, figures by class and intervals of finished episodes.

    Scripts that look at no picture are left out where other policies play beside them, as in `summarize`, and where
    their answers are not shown.

    Args:
        rollouts: Finished episodes.
        au_set: Action Units that count; None is those that occur.
    """
    looked = [rollout for rollout in rollouts if rollout.looked]
    prefix = "" if looked or not rollouts else "script’s "
    read = looked or [rollout for rollout in rollouts if answer_source(rollout) != "hidden"]
    labelled = [rollout for rollout in read if rollout.emotion is not None]
    names = [name for name in facs.EMOTIONS if any(rollout.emotion == name for rollout in labelled)]
    with_units = [rollout for rollout in read if rollout.aus is not None]
    occur = {unit for one in with_units for unit in (one.aus or frozenset()) | (one.predicted_aus or frozenset())}
    units = sorted(occur if au_set is None else occur & set(au_set))

    # What each episode adds to the sums: hits, targets and answers of each class, then right, labelled, zoomed, all.
    emotions = np.array([_marks({one.emotion}, {one.predicted_emotion}, names) for one in labelled])
    unit_marks = np.array([_marks(one.aus or (), one.predicted_aus or (), units) for one in with_units])
    right = np.array([[bool(one.correct), 1] for one in labelled], float)
    zoomed = np.array([[one.zoomed, 1] for one in rollouts], float)
    blocks = [(labelled, emotions), (with_units, unit_marks), (labelled, right), (rollouts, zoomed)]
    samples = {name: i for i, name in enumerate(dict.fromkeys(one.sample_id for one in rollouts))}
    columns = []
    for members, values in blocks:
        column = np.zeros((len(samples), values.shape[-1] if len(members) else 0))
        if len(members):
            np.add.at(column, [samples[one.sample_id] for one in members], values.reshape(len(members), -1))
        columns.append(column)
    ends = np.cumsum([0, *(column.shape[1] for column in columns)])

    def figures(sums: Floats) -> Floats:
        """Return F1 of each emotion and unit, their means, accuracy and zoom ratio; (draws, m)."""
        each = [_f1(sums[:, ends[k] : ends[k + 1]]) for k in (0, 1)]
        means = [_mean_defined(one) for one in each]
        ratios = [_ratio(sums[:, ends[k] : ends[k + 1]]) for k in (2, 3)]
        return np.concatenate([*each, *means, *ratios], axis=1)

    counts = np.concatenate(columns, axis=1) if rollouts else np.zeros((0, 0))
    found = ["" for _ in range(len(names) + len(units) + 4)]
    if len(samples) > 1:
        low, high = bootstrap_sums(counts, figures)
        whole = figures(counts.sum(0, keepdims=True))[0]
        found = [f"{one:.2f}–{two:.2f}" if not np.isnan(value) else ""
                 for one, two, value in zip(low, high, whole, strict=True)]  # fmt: skip
        for k in (-2, -1):
            found[k] = "" if np.isnan(whole[k]) else f"{low[k]:.1%} to {high[k]:.1%}"
    head = dict(zip((f"{prefix}macro-F1", f"{prefix}AU F1", f"{prefix}accuracy", "zoomed"), found[-4:], strict=True))
    answers, matrix = _matrix(labelled, names)
    return ClassTables(
        whose="The script’s answers" if prefix else "Answers", answers=answers, matrix=matrix,
        emotions=tuple(
            _row(name, "", marks, interval, f"{np.mean([one.zoomed for one in labelled if one.emotion == name]):.0%}")
            for name, marks, interval in zip(names, _totals(emotions, names), found, strict=False)
        ),
        units=tuple(
            _row(facs.format_au(unit), facs.AU_NAMES.get(unit, ""), marks, interval)
            for unit, marks, interval in zip(units, _totals(unit_marks, units), found[len(names) :], strict=False)
        ),
        derived=any(one.meta.get("aus_derived") for one in with_units),
        intervals={name: text for name, text in head.items() if text},
        note=f"Intervals: percentile bootstrap over {counted(len(samples), 'sample')} with all their episodes."
        if len(samples) > 1 else "No intervals: there is one sample.",
    )  # fmt: skip


def _marks(target: Iterable[object], answer: Iterable[object], classes: Sequence[object]) -> list[float]:
    """Return hit, target and answer of each class as 0 or 1: all hits, then all targets, then all answers."""
    wanted, given = set(target), set(answer)
    sets = (wanted & given, wanted, given)
    return [float(one in marked) for marked in sets for one in classes]


def _totals(marks: Floats, classes: Sequence[object]) -> Iterable[Floats]:
    """Yield (hits, targets, answers) of each class."""
    if not classes:
        return ()
    return marks.sum(0).reshape(3, len(classes)).T


def _row(name: str, note: str, marks: Floats, interval: str, zoomed: str = "") -> ClassRow:
    hits, targets, answers = marks
    precision, recall = (hits / size if size else None for size in (answers, targets))
    f1 = 2 * hits / (targets + answers) if targets + answers else None
    return ClassRow(name, note, int(targets), number(precision), number(recall), number(f1), interval or DASH, zoomed)


def _matrix(labelled: Sequence[Rollout], names: Sequence[str]) -> tuple[tuple[str, ...], tuple[MatrixRow, ...]]:
    """Return the columns and rows of the confusion matrix; "none" is the last column, where an answer is missing."""
    given = [one.predicted_emotion or NO_ANSWER for one in labelled]
    columns = [name for name in facs.EMOTIONS if name in names or name in given]
    columns += [NO_ANSWER] * (NO_ANSWER in given)
    words = {name: "none" if name == NO_ANSWER else name for name in columns}
    rows = []
    for name in names:
        mine = [answer for one, answer in zip(labelled, given, strict=True) if one.emotion == name]
        cells = []
        for column in columns:
            count = mine.count(column)
            title = f"target {name}, answer {words[column]}: {counted(count, 'episode')}"
            link = urlencode({"emotion": name, "answer": column})
            cells.append(Cell(count, round(100 * count / len(mine), 1), column == name, link, title))
        rows.append(MatrixRow(name, tuple(cells)))
    return tuple(words.values()), tuple(rows)


def _f1(sums: Floats) -> Floats:
    hits, targets, answers = np.split(sums, 3, axis=1)
    with np.errstate(invalid="ignore"):
        return 2 * hits / (targets + answers)


def _ratio(sums: Floats) -> Floats:
    if not sums.shape[1]:
        return np.full((len(sums), 1), np.nan)
    with np.errstate(invalid="ignore"):
        return sums[:, :1] / sums[:, 1:]


def _mean_defined(figures: Floats) -> Floats:
    """Return the mean over the classes that are defined, (draws, 1); NaN where none is."""
    defined = ~np.isnan(figures)
    with np.errstate(invalid="ignore"):
        return np.where(defined, figures, 0).sum(1, keepdims=True) / defined.sum(1, keepdims=True)
