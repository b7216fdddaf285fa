"""BP4D: occurrence of Action Units in the frames of eight tasks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actfer_env import facs
from actfer_env.data.loaders.base import (
    Edition,
    Info,
    Missing,
    Row,
    RowSamples,
    SubjectSplits,
    Totals,
    collect,
    described,
    join,
    no_layout,
    open_root,
    pictures_in,
    read_lines,
    refuse,
    stem_of,
    whole,
)
from actfer_env.errors import short

SUBJECTS = (*(f"F{number:03d}" for number in range(1, 24)), *(f"M{number:03d}" for number in range(1, 19)))
"""BP4D's 23 women and 18 men."""
AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
"""The twelve units on which papers report; files code more."""
UNKNOWN = 9
_FILE = re.compile(r"([FM]\d{3})_(T\d)\.csv")
BP4D = Info(
    "bp4d", "BP4D", "AUCoding/AU_OCC/F001_T1.csv with folders of frames F001/T1/", ("**/AU_OCC/*_T?.csv", "AU_OCC"),
    "https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html (research; a licence of the university)",
)  # fmt: skip


@described(BP4D)
def load_bp4d(
    root: str | None, *, split: str | None = None, all_aus: bool = False, folds: int = 3, fold: int = 0,
    validation: bool = True, totals: Totals = "auto", missing: Missing = "skip",
) -> RowSamples:  # fmt: skip
    """Read the data set "bp4d": BP4D-Spontaneous, 41 people in eight tasks, occurrence of Action Units; no emotions.

    A table has the units' numbers in its first line and the frame's number in its first column. 0 means absent, 1
    present, and 9 unknown: a frame in which one of the wanted units is unknown has no AU target (`aus` is None), for
    unknown is not absent; its known units stand in `meta["known_aus"]`, unit -> 0 or 1.

    Frames are looked for in folders SUBJECT/TASK at any depth, by the number in their names; the 41 subjects are dealt
    to `folds` folds in turn, which is no published list.

    Verified in published code that reads the data (that of ME-GraphAU and of others): the tables' folder and names, the
    first line ("0" over the frames, then the units), people, tasks, SUBJECT/TASK/FRAME.jpg, and 9 for what was not
    coded. Not verified on the data themselves, which need a licence: whether all tables have the same units, how the
    frames' names are padded, and the official number of frames, which is not compared.

    Args:
        root: The folder with AUCoding/.
        split: "train", "val", "test", "auto", or None for all.
        all_aus: Take all coded units, not the twelve of the literature.
        folds: Number of folds.
        fold: The fold that is "test", from 0.
        validation: False leaves "val" empty.
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`; coded frames without a picture are left out by default.

    Raises:
        DataError: another layout, an unknown subject, or a broken line (named by file and number).
    """
    place = open_root(BP4D, root)
    tables = next((one for name in ("AUCoding/AU_OCC", "AU_OCC", "AUCoding", "AUCoding/AU_OCC/AU_OCC")
                   if any((one := place / name).glob("*_T?.csv"))), None)  # fmt: skip
    if tables is None:
        no_layout(BP4D, place)
    splits, left_out = SubjectSplits(folds, fold, validation, SUBJECTS), Counter[str]()

    def rows() -> Iterator[Row]:
        for path in sorted(tables.glob("*.csv")):
            match = _FILE.fullmatch(path.name)
            if match is None or match[1] not in SUBJECTS:
                refuse(path, None, "no table of BP4D, F001_T1.csv to M018_T8.csv")
            subject, task = match.groups()
            pictures = _frames(place, subject, task)
            for line, frame, codes in _codes(path, all_aus):
                known = {unit: value for unit, value in codes.items() if value != UNKNOWN}
                meta: dict[str, Any] = {"subject": subject, "task": task, "frame": frame}
                if len(known) < len(codes):
                    meta["known_aus"] = {facs.format_au(unit): value for unit, value in known.items()}
                aus = tuple(unit for unit, value in known.items() if value) if len(known) == len(codes) else None
                picture = pictures.get(frame, join(place, subject, task, f"frame {frame}"))
                yield Row(f"{subject}_{task}-{frame:04d}", picture, aus=aus, split=splits(subject), meta=meta,
                          file=str(path), line=line)  # fmt: skip

    return collect(BP4D, Edition("occurrence", aus=AUS), rows(), split, totals, missing, left_out)


def _frames(place: Path, subject: str, task: str) -> dict[int, str]:
    """Return the pictures of a task by frame."""
    for depth in ("", "*/", "*/*/"):
        for folder in sorted(place.glob(f"{depth}{subject}/{task}")):
            found = {int(number[0]): join(folder, name) for name in pictures_in(folder)
                     if (number := re.findall(r"\d+", stem_of(name))[-1:])}  # fmt: skip
            if found:
                return found
    return {}


def _codes(path: Path, all_aus: bool) -> Iterator[tuple[int, int, dict[int, int]]]:
    """Yield (line, frame, unit -> 0, 1 or 9)."""
    units: dict[int, int] = {}
    width = 0
    for line, text in read_lines(path):
        cells = [cell.strip() for cell in text.split(",")]
        if not width:
            width, last = len(cells), -1
            for place, cell in enumerate(cells[1:], start=1):
                match = re.fullmatch(r"(?:AU)?0*(\d+)", cell, re.IGNORECASE)
                if match is None or int(match[1]) <= last:
                    refuse(path, line, f"the first line must name the units in ascending order, and has {short(cell)}")
                last = int(match[1])
                if last in facs.AU_NAMES and (all_aus or last in AUS):
                    units[last] = place
            lacking = [unit for unit in AUS if unit not in units]
            if lacking:
                refuse(path, line, f"no column for AU{lacking[0]}")
            continue
        if len(cells) != width:
            refuse(path, line, f"{len(cells)} values where the first line has {width}")
        frame = whole(path, line, cells[0], "frame", 0, 999999)
        codes = {}
        for unit, place in units.items():
            if cells[place] not in ("0", "1", "9"):
                refuse(path, line, f"AU{unit} is {short(cells[place])}, not 0 (absent), 1 (present) or 9 (unknown)")
            codes[unit] = int(cells[place])
        yield line, frame, codes
