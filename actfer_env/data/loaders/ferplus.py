"""FERPlus: ten people's votes over the pictures of FER2013."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from actfer_env import facs
from actfer_env.data.jsonl import check_option
from actfer_env.data.loaders.base import (
    Edition,
    Info,
    Missing,
    Row,
    RowSamples,
    Totals,
    collect,
    described,
    first_folder,
    join,
    no_layout,
    open_root,
    pictures_in,
    read_table,
    refuse,
    subfolders,
    whole,
)
from actfer_env.errors import DataError, ImageError, LabelError
from actfer_env.images import RGB
from actfer_env.splits import folder_split, parse_split

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""The emotions in the order of FERPlus's columns."""
FERPLUS = Info(
    "ferplus", "FERPlus", "fer2013new.csv with fer2013.csv, or FER2013Train/ with label.csv and pictures, or class "
    "folders train/happiness/fer0000001.png", ("fer2013new.csv", "FER2013Train/label.csv", "FER2013Test/label.csv"),
    "votes: https://github.com/microsoft/FERPlus (MIT); pictures: FER2013, the Kaggle challenge of 2013",
)  # fmt: skip
FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
_COUNTS = {
    ("fer2013new.csv", "plurality", "first"): (
        (10387, 7539, 3588, 3548, 2477, 194, 656, 167), (1347, 899, 459, 418, 320, 36, 75, 25),
        (1278, 929, 446, 448, 326, 23, 94, 29)),
    ("fer2013new.csv", "plurality", "drop"): (
        (9470, 7427, 3407, 3452, 2425, 188, 654, 167), (1258, 882, 445, 404, 314, 33, 75, 25),
        (1180, 911, 427, 433, 317, 23, 94, 29)),
    ("fer2013new.csv", "majority", "first"): (
        (8739, 7287, 3149, 3013, 2099, 119, 532, 119), (1182, 865, 415, 351, 287, 24, 62, 13),
        (1090, 893, 396, 384, 273, 18, 83, 16)),
    ("label.csv", "plurality", "first"): (
        (10377, 7537, 3583, 3559, 2476, 195, 659, 170), (1341, 899, 461, 419, 326, 34, 72, 27),
        (1274, 929, 450, 449, 322, 21, 98, 30)),
    ("label.csv", "plurality", "drop"): (
        (9465, 7425, 3399, 3464, 2424, 189, 657, 170), (1257, 879, 445, 402, 320, 33, 72, 27),
        (1172, 910, 429, 431, 313, 21, 98, 30)),
    ("label.csv", "majority", "first"): (
        (8733, 7284, 3136, 3022, 2098, 116, 536, 120), (1180, 862, 411, 348, 289, 25, 60, 16),
        (1083, 892, 394, 382, 269, 16, 86, 15)),
}  # fmt: skip
"""(file, rule, ties) -> counts of train, val and test by COLUMNS, computed from the two published files of votes."""
_SIDE = 48
Rule = Literal["plurality", "majority"]
Ties = Literal["first", "drop"]


@described(FERPLUS)
def load_ferplus(
    root: str | None, *, split: str | None = None, rule: Rule = "plurality", ties: Ties = "first",
    totals: Totals = "auto", missing: Missing = "raise",
) -> RowSamples:  # fmt: skip
    """Read the data set "ferplus": FERPlus, eight emotions by ten votes each, 48 x 48 grey pixels.

    Editions: "votes, pixels of fer2013.csv" (rows of both files in one order), "votes, pictures" (FER2013Train,
    FER2013Valid and FER2013Test with fer0000000.png, by fer2013new.csv or a label.csv in each), and "class folders"
    without votes. Splits are train (Training), val (PublicTest) and test (PrivateTest).

    Rows without a picture's name show no face and are left out; so are rows without a vote for an emotion, and the
    second of the rows that name one picture twice (fer2013new.csv has four such pairs). `meta["votes"]` holds the ten
    numbers, `meta["distribution"]` the shares of the eight emotions.

    Args:
        root: The folder with the files.
        split: "train", "val", "test", "auto", or None for all.
        rule: Rule for a label. "plurality": the emotion with most votes, whatever "unknown" and "NF" have;
            28,556 / 3,579 / 3,573 pictures of either file of votes. Papers that report 28,558 count the lines of
            label.csv, two of which have no vote for an emotion. "majority": the rule of Barsoum et al. (2016): single
            votes are dropped, and the emotion must have more than half of the rest, "unknown" and "NF" counted;
            25,057 / 3,199 / 3,153 of fer2013new.csv, 25,045 / 3,191 / 3,137 of label.csv.
        ties: Rule of "plurality" where two emotions have most votes: "first" takes the one whose column comes first, as
            numpy's argmax does; "drop" leaves the picture out.
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`.

    Raises:
        DataError: another layout, a broken line (named by file and number), or a listed picture that is not there.
    """
    place = open_root(FERPLUS, root)
    check_option("rule", rule, ("plurality", "majority"))
    check_option("ties", ties, ("first", "drop"))
    votes, pixels, left_out = place / "fer2013new.csv", place / "fer2013.csv", Counter[str]()
    folders = {part: first_folder(place, name, f"data/{name}") for part, name in FOLDERS.items()}
    named = {part: folder for part, folder in folders.items() if folder}
    if votes.is_file() and pixels.is_file() and not any(pictures_in(folder) for folder in named.values()):
        edition = Edition(
            "votes of fer2013new.csv, pixels of fer2013.csv", COLUMNS, prealigned=True, read=read_pixels,
            totals=_official("fer2013new.csv", rule, ties),
        )  # fmt: skip
        rows = _pixel_rows(votes, pixels, rule, ties, left_out)
        return collect(FERPLUS, edition, rows, split, totals, "keep", left_out)
    if named and (votes.is_file() or any((folder / "label.csv").is_file() for folder in named.values())):
        file = "fer2013new.csv" if votes.is_file() else "label.csv"
        edition = Edition(f"votes of {file}, pictures", COLUMNS, totals=_official(file, rule, ties), prealigned=True)
        rows = _picture_rows(votes, named, rule, ties, left_out)
        return collect(FERPLUS, edition, rows, split, totals, missing, left_out)
    if votes.is_file():
        no_layout(FERPLUS, place, f"{votes} holds votes, but neither fer2013.csv with the pixels nor folders of "
                  f"pictures such as {place / FOLDERS['train']} are there")  # fmt: skip
    classes = [one for one in subfolders(place) if folder_split(one.name)]
    if not classes:
        no_layout(FERPLUS, place)
    edition = Edition("class folders", COLUMNS, totals=_COMMON, prealigned=True)
    return collect(FERPLUS, edition, _class_rows(classes), split, totals, missing)


_COMMON = {"train": {"all": 28558}, "val": {"all": 3579}, "test": {"all": 3573}}


def _official(file: str, rule: Rule, ties: Ties) -> dict[str, dict[str, int]]:
    counts = _COUNTS[file, rule, "first" if rule == "majority" else ties]
    return {
        part: {"all": sum(numbers), **dict(zip(COLUMNS, numbers, strict=True))}
        for part, numbers in zip(FOLDERS, counts, strict=True)
    }


def label_of(votes: list[int], rule: Rule, ties: Ties) -> tuple[str | None, str]:
    """Return the emotion of ten votes, and why there is none: "" where there is one.

    >>> label_of([4, 4, 0, 0, 0, 0, 0, 0, 2, 0], "plurality", "first")
    ('neutral', '')
    """
    if rule == "majority":
        kept = [number if number > 1 else 0 for number in votes]
        most = max(kept)
        at = kept.index(most)
        return (COLUMNS[at], "") if 2 * most > sum(kept) and at < len(COLUMNS) else (None, "no majority")
    emotions = votes[: len(COLUMNS)]
    most = max(emotions)
    if most == 0:
        return None, "no vote for an emotion"
    if ties == "drop" and emotions.count(most) > 1:
        return None, "tied votes"
    return COLUMNS[emotions.index(most)], ""


def _vote_row(
    path: Path, line: int, name: str, texts: list[str], rule: Rule, ties: Ties, left_out: Counter[str], seen: set[str]
) -> tuple[str | None, dict[str, object]]:  # fmt: skip
    """Return the emotion of a line's votes (None: left out, and counted) and what is kept beside it."""
    if not name or name in seen:
        left_out["named again" if name else "no face"] += 1
        return None, {}
    seen.add(name)
    votes = [whole(path, line, text, "a number of votes", 0, 10) for text in texts]
    if sum(votes) > 10:
        refuse(path, line, f"{sum(votes)} votes where ten people voted; are columns swapped?")
    emotion, why = label_of(votes, rule, ties)
    if emotion is None:
        left_out[why] += 1
        return None, {}
    shares = {
        name: round(number / sum(votes[:8]), 4) for name, number in zip(COLUMNS, votes[:8], strict=True) if number
    }
    return emotion, {"votes": votes, "distribution": shares}


def _pixel_rows(
    votes: Path, pixels: Path, rule: Rule, ties: Ties, left_out: Counter[str]
) -> Iterator[Row]:  # fmt: skip
    """Read both files side by side; a picture's place is where its line begins in fer2013.csv."""
    seen = set[str]()
    table = read_table(votes, ("Usage", "Image name", *COLUMNS, "unknown", "NF"))
    with pixels.open("rb") as handle:
        head = [cell.strip().strip('"') for cell in handle.readline().decode("utf-8-sig", "replace").split(",")]
        if head[:2] != ["emotion", "pixels"]:
            refuse(pixels, 1, f"the columns are {', '.join(head)}, not emotion, pixels, Usage")
        at = handle.tell()
        for line, text in enumerate(handle, start=2):
            number, (usage, name, *cells) = next(table, (0, ["", ""]))
            if not number:
                refuse(pixels, line, f"{votes.name} has no line for it; both files have 35,887 in one order")
            written = text.decode("utf-8", "replace").strip().split(",")
            if len(written) < 3 or written[1].count(" ") != _SIDE * _SIDE - 1:
                refuse(pixels, line, f"no picture of {_SIDE} x {_SIDE} numbers")
            if written[2].strip() != usage:
                refuse(pixels, line, f"Usage {written[2].strip()!r}, but {usage!r} in {votes.name}, line {number}: the "
                       "files are in different orders")  # fmt: skip
            emotion, meta = _vote_row(votes, number, name, cells, rule, ties, left_out, seen)
            if emotion is not None:
                yield Row(name, str(pixels), emotion, split=_usage(votes, number, usage), meta=meta, at=at)
            at += len(text)
    rest = next(table, None)
    if rest is not None:
        refuse(votes, rest[0], f"{pixels.name} has no line for it; both files have 35,887 in one order")


def read_pixels(path: str, at: int) -> RGB:
    """Return the picture of a line of fer2013.csv, uint8 (48, 48, 3).

    Args:
        path: The file.
        at: Offset of the line's beginning, bytes.

    Raises:
        ImageError: the line holds no picture.
    """
    try:
        with open(path, "rb") as handle:  # noqa: PTH123  (a path as text, from the index)
            handle.seek(at)
            row = next(csv.reader([handle.readline().decode()]))
        grey = np.array(row[1].split(), np.int64)
        if grey.min() < 0 or grey.max() > 255:
            raise ValueError("values beyond 0 to 255")
        return np.repeat(grey.astype(np.uint8).reshape(_SIDE, _SIDE, 1), 3, axis=2)
    except (OSError, ValueError, IndexError) as error:
        raise ImageError(f"{path}, byte {at}: no picture of {_SIDE} x {_SIDE} pixels ({error})") from error


def _usage(path: Path, line: int, text: str) -> str:
    try:
        return parse_split(text)
    except DataError as error:
        refuse(path, line, str(error))


def _picture_rows(
    votes: Path, folders: dict[str, Path], rule: Rule, ties: Ties, left_out: Counter[str]
) -> Iterator[Row]:  # fmt: skip
    seen = set[str]()
    if votes.is_file():
        for line, (usage, name, *cells) in read_table(votes, ("Usage", "Image name", *COLUMNS, "unknown", "NF")):
            split = _usage(votes, line, usage)
            emotion, meta = _vote_row(votes, line, name, cells, rule, ties, left_out, seen)
            if emotion is not None and split in folders:
                yield Row(name, join(folders[split], name), emotion, split=split, meta=meta, file=str(votes),
                          line=line)  # fmt: skip
        return
    for split, folder in folders.items():
        path = folder / "label.csv"
        columns = ("Image name", "box", *COLUMNS, "unknown", "NF")
        for line, (name, _, *cells) in read_table(path, columns, header="may"):
            emotion, meta = _vote_row(path, line, name, cells, rule, ties, left_out, seen)
            if emotion is not None:
                yield Row(name, join(folder, name), emotion, split=split, meta=meta, file=str(path), line=line)


def _class_rows(bases: list[Path]) -> Iterator[Row]:
    for base in bases:
        split = folder_split(base.name)
        for folder in subfolders(base):
            try:
                emotion = facs.parse_emotion(folder.name)
            except LabelError:
                refuse(folder, None, f"FERPlus has no class {folder.name!r}; its classes are {', '.join(COLUMNS)}")
            for name in pictures_in(folder):
                yield Row(name, join(folder, name), emotion, split=split)
