"""Published rows of the benchmarks' tables, and what one must know to compare with them. Percentages, as printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actfer_env import facs


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table.

    Attributes:
        name: The system.
        values: Column -> percentage; what was not reported is left out.
        source: Table from which the row was taken.
        notes: Caveats for who compares with it.
    """

    name: str
    values: Mapping[str, float]
    source: str
    notes: tuple[str, ...] = field(default=())


ACTFER, TAG = "ActFER (arXiv 2604.08990)", "TAG, table 1"
FERBENCH_COLUMNS = ("RAF-DB F1", "FERPlus F1", "AffectNet F1", "SFEW 2.0 F1", "accuracy", "macro-F1", *facs.EMOTIONS)
"""Columns of ActFER's table 1: macro-F1 of each set, then pooled figures and pooled F1 of each emotion."""
_EIGHT = "its macro-F1 is the sum of the eight emotions' F1 over 8"
_NINE = "its macro-F1 is that sum over 9: a ninth class, for answers without a label, has an F1 of 0; over 8 it is {}"
_NEITHER = "its macro-F1 follows from its emotions' F1 neither over 8 ({}) nor over 9 ({})"
_SFT = "its ablation reports a macro-F1 of 54.83 for the same model"
_AGAIN = "run again by ActFER's authors"


def _ferbench(name: str, *values: float, again: bool = False, notes: tuple[str, ...] = ()) -> PublishedRow:
    row = dict(zip(FERBENCH_COLUMNS, values, strict=True))
    over = averaged_over(row)
    sums = [f"{sum(row[one] for one in facs.EMOTIONS) / count:.2f}" for count in (8, 9)]
    how = _EIGHT if over == 8 else _NINE.format(sums[0]) if over == 9 else _NEITHER.format(*sums)
    return PublishedRow(name, row, f"{ACTFER}, table 1", (how, *([_AGAIN] if again else []), *notes))


def averaged_over(row: Mapping[str, float]) -> int | None:
    """Return over how many classes a row of FERBench's table averages its emotions' F1: 8, 9, or None for neither."""
    total = sum(row[emotion] for emotion in facs.EMOTIONS)
    return next((count for count in (8, 9) if abs(total / count - row["macro-F1"]) <= 0.011), None)


FERBENCH_ROWS: tuple[PublishedRow, ...] = (
    _ferbench("InternVL3.5-4B", 60.69, 37.87, 44.51, 33.96, 50.40, 43.67,
              55.56, 81.89, 53.47, 55.06, 17.44, 35.59, 46.68, 3.70, again=True),
    _ferbench("Qwen3-VL-4B", 56.13, 47.37, 36.12, 38.57, 55.27, 44.03,
              60.12, 81.93, 54.01, 56.06, 22.97, 23.47, 50.00, 3.65, again=True),
    _ferbench("Qwen2.5-VL-7B", 50.26, 46.25, 26.97, 36.22, 53.78, 35.34,
              54.60, 67.29, 53.91, 52.70, 3.28, 22.26, 46.97, 0.37),
    _ferbench("InternVL3-8B", 52.69, 43.34, 39.33, 37.27, 60.59, 44.54,
              65.08, 85.56, 61.57, 40.02, 41.35, 38.31, 54.41, 14.55),
    _ferbench("LLaVA-Next-34B", 60.56, 48.43, 34.92, 37.76, 61.20, 44.36,
              60.62, 86.11, 64.00, 53.79, 3.01, 35.79, 51.22, 0.36),
    _ferbench("Gemini-2.5-Flash", 55.60, 44.95, 45.38, 37.20, 61.55, 45.47,
              62.25, 81.53, 59.69, 63.43, 42.52, 41.82, 48.86, 9.14),
    _ferbench("Gemini-2.5-Pro", 50.95, 39.78, 43.11, 36.33, 57.17, 44.29,
              47.43, 81.22, 57.78, 63.16, 42.42, 39.66, 46.44, 20.49),
    _ferbench("EmoLA 7B", 53.46, 45.29, 35.12, 37.91, 62.75, 43.19,
              55.13, 77.47, 47.05, 48.67, 28.70, 33.50, 38.37, 16.62, again=True),
    _ferbench("ExpLLM 7B", 84.80, 54.37, 46.86, 43.49, 69.33, 57.26,
              68.52, 84.78, 71.23, 69.58, 54.79, 46.83, 62.36, 0.00, again=True),
    _ferbench("UniFER-7B", 81.30, 58.55, 44.53, 39.70, 68.84, 55.32,
              72.80, 84.32, 72.46, 51.31, 51.57, 41.68, 65.08, 3.31),
    _ferbench("ActFER-SFT 4B", 74.87, 51.94, 45.53, 46.61, 65.70, 53.37,
              70.33, 84.60, 65.44, 64.78, 41.03, 41.54, 58.14, 1.11, notes=(_SFT,)),
    _ferbench("ActFER 4B", 82.72, 59.92, 57.66, 51.13, 73.89, 67.45,
              79.28, 89.34, 70.39, 70.90, 60.00, 54.71, 63.97, 51.00),
)  # fmt: skip
"""ActFER's table 1."""

_DISFA_UNITS = ("AU1", "AU2", "AU4", "AU6", "AU9", "AU12", "AU25", "AU26")


def _disfa(name: str, *values: float | None, again: bool = False, notes: tuple[str, ...] = ()) -> PublishedRow:
    *each, mean = values
    row = {unit: value for unit, value in zip(_DISFA_UNITS, each, strict=True) if value is not None}
    return PublishedRow(name, {**row, **({} if mean is None else {"mean F1": mean})}, f"{ACTFER}, table 2",
                        (*([_AGAIN] if again else []), *notes))  # fmt: skip


DISFA_ROWS: tuple[PublishedRow, ...] = (
    _disfa("Qwen2.5-VL-7B", 20.8, 19.2, 23.0, 17.9, 17.1, 26.3, 30.9, 21.6, 22.1),
    _disfa("Qwen3-VL-4B", 24.7, 27.1, 76.7, 3.1, 0.0, 73.7, 80.7, 18.6, 38.1, again=True),
    _disfa("InternVL3.5-4B", 36.9, 40.7, 71.8, 2.1, 35.3, 67.6, 67.2, 4.6, 40.8, again=True),
    _disfa("FEALLM 7B", 36.9, 29.7, 70.4, 30.2, None, 54.5, 51.9, 24.7, 42.6,
           notes=("its mean is over seven units, without AU9: compare it with the table of seven",)),
    _disfa("ActFER-SFT 4B", 30.2, 30.8, 70.2, 51.4, 44.1, 67.7, 82.0, 12.5, 48.6),
    _disfa("ActFER 4B", 37.1, 38.2, 77.3, 58.2, 52.3, 78.0, 92.4, 32.0, 58.2),
)  # fmt: skip
"""ActFER's table 2: F1 of presence, eight units."""

TAG_COLUMNS = ("RAF-DB", "FERPlus", "AffectNet", "average")
_TUNED = "one model for each data set"


def _tag(name: str, *values: float, notes: tuple[str, ...] = ()) -> PublishedRow:
    return PublishedRow(name, dict(zip(TAG_COLUMNS, values, strict=True)), TAG, notes)


TAG_ROWS: tuple[PublishedRow, ...] = (
    _tag("Qwen2.5-VL-7B", 56.75, 66.36, 33.89, 52.33),
    _tag("InternVL3.5-8B", 73.47, 69.41, 38.57, 60.48),
    _tag("LLaVA-Next-34B", 78.36, 69.38, 42.83, 63.52),
    _tag("InternVL3-38B", 79.95, 68.75, 46.63, 65.11),
    _tag("Gemini-2.5-Pro", 65.51, 56.33, 48.49, 56.78),
    _tag("Gemini-2.5-Flash", 68.84, 70.06, 50.14, 63.01),
    _tag("GPT-5", 74.05, 67.84, 46.91, 62.93),
    _tag("POSTER", 92.05, 91.62, 67.31, 83.66, notes=(_TUNED,)),
    _tag("ExpLLM", 91.03, 90.50, 65.93, 82.49, notes=(_TUNED,)),
    _tag("UniFER", 88.72, 76.49, 48.50, 71.24),
    _tag("TAG-7B, SFT", 89.02, 81.01, 50.00, 74.34, notes=("its three figures average 73.34",)),
    _tag("TAG-7B, RL", 92.80, 91.50, 67.03, 83.78, notes=(_TUNED,)),
)  # fmt: skip
"""TAG's table 1, a part: accuracy on seven classes."""
