"""AffectNet, in both editions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actfer_env import facs
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
    read_table,
    refuse,
    whole,
)
from actfer_env.errors import DataError, short

ORDER = facs.EMOTIONS
"""AffectNet's labels 0 to 7."""
NO_EMOTION = ("none", "uncertain", "no face")
"""AffectNet's labels 8 to 10, which name no emotion."""
_COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
            "valence", "arousal")  # fmt: skip
_TRAIN = dict(zip(ORDER, (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750), strict=True))
AFFECTNET = Info(
    "affectnet", "AffectNet", "training.csv and validation.csv with Manually_Annotated/, or train_set/ and val_set/ "
    "with images/ and annotations/", ("**/training.csv", "**/validation.csv", "*_set/annotations"),
    "http://mohammadmahoor.com/pages/databases/affectnet/ (research; by the head of a laboratory)",
)  # fmt: skip


@described(AFFECTNET)
def load_affectnet(
    root: str | None, *, split: str | None = None, classes: Literal[7, 8] = 8, valence: bool = False,
    totals: Totals = "auto", missing: Missing = "raise",
) -> RowSamples:  # fmt: skip
    """Read the data set "affectnet": AffectNet's manually annotated part, eight emotions in the wild.

    Editions: "CSV" (training.csv and validation.csv; whole photos; 287,651 and 4,000 with an emotion), which
    FERBench's paths need, and "npy" (train_set/ and val_set/, faces of 224 x 224 pixels; 287,651 and 3,999). The
    pictures of the npy edition are numbered anew and cannot be matched with those of the other. Labels 8 to 10 (none,
    uncertain, no face) are left out. Splits are train and val; the test split is not public.

    `meta` keeps valence and arousal (-1 to 1) and, of the CSV edition, the face's box in pixels (x, y, width, height).

    Args:
        root: The folder with the lists or the sets. Pictures of the CSV edition are looked for in it, in
            Manually_Annotated/ and Manually_Annotated/Manually_Annotated_Images/, there also below training/ and
            validation/.
        split: "train", "val", "auto", or None for both.
        classes: 7 leaves out contempt, as many papers do.
        valence: Also read valence and arousal of the npy edition, which takes two files more for each picture.
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`.

    Raises:
        DataError: another layout, a broken line (named by file and number), or a listed picture that is not there.
    """
    place = open_root(AFFECTNET, root)
    if classes not in (7, 8):
        raise DataError(f"classes={short(classes)} is unknown: AffectNet has 8, or 7 without contempt")
    if split == "test":
        raise DataError("AffectNet's test split is not public: use split='val', on which papers report")
    order, left_out = ORDER[:classes], Counter[str]()
    train = {name: _TRAIN[name] for name in order}
    sets = {part: first_folder(place, f"{part}_set", f"AffectNet/{part}_set") for part in ("train", "val")}
    if any(sets.values()):
        val = {name: 499 if name == "contempt" else 500 for name in order}
        edition = Edition("npy, faces", order, totals=_official(train, val))
        rows = _npy_rows({part: one for part, one in sets.items() if one}, order, valence, left_out)
        return collect(AFFECTNET, edition, rows, split, totals, missing, left_out)
    lists = {part: _list_of(place, name) for part, name in (("train", "training.csv"), ("val", "validation.csv"))}
    if not any(lists.values()):
        no_layout(AFFECTNET, place)
    edition = Edition("CSV, photos", order, totals=_official(train, dict.fromkeys(order, 500)))
    wanted = {part: one for part, one in lists.items() if one and (split not in lists or split == part)}
    return collect(AFFECTNET, edition, _csv_rows(place, wanted, order, left_out), split, totals, missing, left_out)


def _official(train: dict[str, int], val: dict[str, int]) -> dict[str, dict[str, int]]:
    return {part: {"all": sum(one.values()), **one} for part, one in (("train", train), ("val", val))}


def _list_of(place: Path, name: str) -> Path | None:
    folders = (".", "Manually_Annotated_file_lists", "Manually_Annotated/Manually_Annotated_file_lists",
               "Manually_Annotated", "lists")  # fmt: skip
    return next((place / folder / name for folder in folders if (place / folder / name).is_file()), None)


def _csv_rows(place: Path, lists: dict[str, Path], order: tuple[str, ...], left_out: Counter[str]) -> Iterator[Row]:
    names = (".", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated_Images", "Manually_Annotated",
             "Manually_Annotated_compressed", "images")  # fmt: skip
    for split, path in lists.items():
        part, folder = path.stem, None
        there = [one for base in names for one in (place / base / part, place / base) if one.is_dir()]
        for line, cells in read_table(path, _COLUMNS, header="may"):
            name, x, y, width, height, _, label, valence, arousal = cells
            number = whole(path, line, label, "expression", 0, len(ORDER) + len(NO_EMOTION) - 1)
            if number >= len(order):
                left_out[(*ORDER, *NO_EMOTION)[number]] += 1
                continue
            if "/" not in name.replace("\\", "/"):
                refuse(path, line, f"{short(name)} is no path such as 689/0a1b.jpg")
            name = name.replace("\\", "/")
            if folder is None:  # the folder in which the first picture that is there lies
                folder = next((one for one in there if (one / name).is_file()), None)
            box = [whole(path, line, text, "the face's box", -9999, 99999) for text in (x, y, width, height)]
            meta: dict[str, Any] = {"face_box": box}
            for kind, text in (("valence", valence), ("arousal", arousal)):
                meta[kind] = _share(path, line, kind, text)
            yield Row(name, join(folder or there[-1], name), order[number], split=split, meta=meta, file=str(path),
                      line=line)  # fmt: skip


def _share(path: Path, line: int | None, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1.0001 <= value <= 1.0001:
        refuse(path, line, f"{name} {short(text)} is not within -1 to 1")
    return round(value, 6)


def _npy_rows(
    sets: dict[str, Path], order: tuple[str, ...], valence: bool, left_out: Counter[str]
) -> Iterator[Row]:  # fmt: skip
    for split, base in sets.items():
        notes, images = base / "annotations", base / "images"
        for folder in (notes, images):
            if not folder.is_dir():
                no_layout(AFFECTNET, base, f"folder {folder} is not there")
        with os.scandir(notes) as entries:
            stems = [one.name[: -len("_exp.npy")] for one in entries if one.name.endswith("_exp.npy")]
        for stem in sorted(stems, key=lambda one: (len(one), one)):
            path = notes / f"{stem}_exp.npy"
            number = whole(path, 1, _value(path), "expression", 0, len(ORDER) + len(NO_EMOTION) - 1)
            if number >= len(order):
                left_out[(*ORDER, *NO_EMOTION)[number]] += 1
                continue
            meta: dict[str, Any] = {}
            for name, ending in (("valence", "val"), ("arousal", "aro")) if valence else ():
                meta[name] = _share(notes / f"{stem}_{ending}.npy", None, name, _value(notes / f"{stem}_{ending}.npy"))
            yield Row(f"{split}-{stem}", join(images, f"{stem}.jpg"), order[number], split=split, meta=meta,
                      file=str(path), line=1)  # fmt: skip


def _value(path: Path) -> str:
    """Return the single value of an npy file, which AffectNet writes as text."""
    try:
        found = np.load(path, allow_pickle=False)
        return str(found.item())
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a single value in numpy's format ({str(error).splitlines()[0]})") from error
