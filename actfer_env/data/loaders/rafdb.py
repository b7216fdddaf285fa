"""RAF-DB (basic emotions) and RAF-AU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from actfer_env.data.jsonl import EmptyAUs, check_option
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
    read_lines,
    refuse,
    subfolders,
    whole,
)
from actfer_env.errors import short
from actfer_env.splits import folder_split

ORDER = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""RAF-DB's labels 1 to 7."""
_TOTALS = {
    "train": {"all": 12271, **dict(zip(ORDER, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True))},
    "test": {"all": 3068, **dict(zip(ORDER, (329, 74, 160, 1185, 478, 162, 680), strict=True))},
}
_LISTS = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt", "list_patition_label.txt",
          "list_partition_label.txt")  # fmt: skip
_NAME = re.compile(r"(train|test)_(\d+)(_aligned)?\.(jpg|jpeg|png)", re.IGNORECASE)

RAFDB = Info(
    "rafdb", "RAF-DB", "basic/EmoLabel/list_patition_label.txt with basic/Image/aligned or original, or "
    "DATASET/train/1 to 7", ("**/list_patition_label.txt", "DATASET/train/[1-7]", "train/[1-7]"),
    "http://www.whdeng.cn/RAF/model1.html (research; by e-mail of a faculty member)",
)  # fmt: skip
RAFAU = Info(
    "rafau", "RAF-AU", "RAFAU_label.txt with the pictures beside it or in aligned/ or original/",
    ("RAFAU_label.txt", "*/RAFAU_label.txt"), "http://www.whdeng.cn/RAF/model3.html (research; by e-mail)",
)  # fmt: skip


@described(RAFDB)
def load_rafdb(
    root: str | None, *, split: str | None = None, images: Literal["auto", "aligned", "original"] = "auto",
    totals: Totals = "auto", missing: Missing = "raise",
) -> RowSamples:  # fmt: skip
    """Read the data set "rafdb": RAF-DB's single-label part, seven emotions.

    Editions: "basic, aligned" and "basic, original" by the official list, and "mirror", class folders 1 to 7 below
    train/ and test/ as public copies have them. Label 7 is neutral; there is no contempt. Splits are train and test.
    The numbers of each class are those of the published tables.

    Args:
        root: The folder with basic/, or basic/ itself, or the mirror's DATASET/ or the folder above it.
        split: "train", "test", "auto", or None for both.
        images: "aligned" (faces of 100 x 100 pixels), "original" (whole photos), or "auto", aligned where they are.
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`.

    Raises:
        DataError: another layout, a broken line (named by file and number), or a listed picture that is not there.
    """
    place = open_root(RAFDB, root)
    check_option("images", images, ("auto", "aligned", "original"))
    for base in (place, place / "basic"):
        lists = [base / name for name in _LISTS if (base / name).is_file()]
        if not lists:
            continue
        kinds = ("aligned", "original") if images == "auto" else (images,)
        folders = {kind: first_folder(base, f"Image/{kind}", kind) for kind in kinds}
        kind, folder = next(((kind, one) for kind, one in folders.items() if one), (kinds[0], None))
        if folder is None:
            no_layout(RAFDB, place, f"{lists[0]} is there, but no folder {base / 'Image' / kinds[0]}")
        edition = Edition(f"basic, {kind}", ORDER, totals=_TOTALS, prealigned=kind == "aligned")
        return collect(RAFDB, edition, _listed(lists[0], folder, kind == "aligned"), split, totals, missing)
    mirror = next(
        (one for one in (place / "DATASET", place) if (one / "train").is_dir() or (one / "test").is_dir()), None
    )
    if mirror is None:
        no_layout(RAFDB, place)
    if images == "original":
        no_layout(RAFDB, place, "class folders hold the aligned pictures alone, and images='original' was asked for")
    edition = Edition("mirror, aligned", ORDER, totals=_TOTALS, prealigned=True)
    return collect(RAFDB, edition, _mirrored(mirror), split, totals, missing)


def _listed(path: Path, folder: Path, aligned: bool) -> Iterator[Row]:
    """Read lines such as "train_00001.jpg 5"; an aligned picture's file is train_00001_aligned.jpg."""
    seen = False
    for line, text in read_lines(path):
        parts = text.split()
        match = _NAME.fullmatch(parts[0])
        if len(parts) != 2 or match is None:
            refuse(path, line, f"{short(text)} is no line such as 'train_00001.jpg 5'")
        label = whole(path, line, parts[1], "label", 1, len(ORDER))
        split, number, _, kind = match.groups()
        name, other = (f"{split}_{number}{mark}.{kind}" for mark in (("_aligned", "") if aligned else ("", "_aligned")))
        if not seen and not (folder / name).is_file() and (folder / other).is_file():
            found = "original" if aligned else "aligned"
            refuse(path, line, f"{folder} holds {other} instead of {name}: these are the {found} pictures, another "
                   f"edition; rename the folder to {found}")  # fmt: skip
        seen = True
        yield Row(f"{split}_{number}", join(folder, name), ORDER[label - 1], split=split.lower(),
                  file=str(path), line=line)  # fmt: skip


def _mirrored(base: Path) -> Iterator[Row]:
    for folder in subfolders(base):
        split = folder_split(folder.name)
        if split is None:
            continue
        for number in subfolders(folder):
            if not (number.name.isdecimal() and 1 <= int(number.name) <= len(ORDER)):
                refuse(number, None, f"RAF-DB's class folders are 1 to {len(ORDER)}, not {number.name!r}")
            for name in pictures_in(number):
                match = _NAME.fullmatch(name)
                if match and folder_split(match[1]) != split and match[1].lower() == "test":
                    refuse(number / name, None, f"a picture of RAF-DB's test split in {folder.name}/")
                stem = f"{match[1]}_{match[2]}" if match else f"{split}/{number.name}/{name}"
                yield Row(stem, join(number, name), ORDER[int(number.name) - 1], split=split)


@described(RAFAU)
def load_rafau(
    root: str | None, *, split: str | None = None, empty_aus: EmptyAUs = "none", totals: Totals = "auto",
    missing: Missing = "raise",
) -> RowSamples:  # fmt: skip
    """Read the data set "rafau": RAF-AU, Action Units of blended expressions in the wild, with sides; no emotions.

    It has no official splits and names no persons. About 2 % of its pictures are near-duplicates of RAF-DB's test
    split, so do not train on it and test there without `actfer data check`. The list is verified, where the pictures
    lie is not: beside the list, or in aligned/ (as 0001.jpg or 0001_aligned.jpg) or original/.

    Args:
        root: The folder with RAFAU_label.txt.
        split: None or "auto"; there are no splits.
        empty_aus: Meaning of "null": "none" (is active) or "unlabelled".
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`.

    Raises:
        DataError: another layout, a broken line (named by file and number), or a listed picture that is not there.
    """
    place = open_root(RAFAU, root)
    check_option("empty_aus", empty_aus, ("none", "unlabelled", "unknown"))
    path = next((one for one in (place / "RAFAU_label.txt", *place.glob("*/RAFAU_label.txt")) if one.is_file()), None)
    if path is None:
        no_layout(RAFAU, place)
    names = ("aligned", "Image/aligned", "images/aligned", "original", "Image/original", "images/original", "images",
             "Image")  # fmt: skip
    folder = first_folder(path.parent, *names) or path.parent
    kind = "aligned" if folder.name == "aligned" else "original" if folder.name == "original" else "pictures"
    edition = Edition(kind, totals={"all": {"all": 4601}}, prealigned=kind == "aligned")

    def rows() -> Iterator[Row]:
        marked = None
        for line, text in read_lines(path):
            name, _, units = text.partition(" ")
            stem, dot, kind = name.rpartition(".")
            if not (stem and dot and units.strip()):
                refuse(path, line, f"{short(text)} is no line such as '0007.jpg 4+25+L12'")
            if marked is None:  # until one of both is there
                marked = next((one for one in ("", "_aligned") if (folder / f"{stem}{one}.{kind}").is_file()), None)
            null = units.strip().lower() == "null"
            aus = None if null and empty_aus != "none" else () if null else units.strip()
            yield Row(name, join(folder, f"{stem}{marked or ''}.{kind}"), aus=aus, file=str(path), line=line)

    return collect(RAFAU, edition, rows(), split, totals, missing)
