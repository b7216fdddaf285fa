"""Image folders with splits and classes, as torchvision's ImageFolder reads them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

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
    join,
    no_layout,
    open_root,
    pictures_in,
    refuse,
    subfolders,
)
from actfer_env.errors import DataError, LabelError, short
from actfer_env.splits import folder_split

FOLDERS = Info(
    "folders", "an image folder", "train/happiness/1.jpg, test/..., or happiness/1.jpg", ("train/*", "test/*"),
    "your own pictures",
)  # fmt: skip


@described(FOLDERS)
def load_folders(
    root: str | None, *, split: str | None = None, classes: Mapping[str, str | None] | str | None = None,
    prealigned: bool = False, totals: Totals = "auto", missing: Missing = "raise",
) -> RowSamples:  # fmt: skip
    """Read the data set "folders": pictures in class folders, below folders of splits where there are any.

    Every folder must be a class: "photos" is for collections in which only some pictures have labels. Pictures may lie
    deeper than the class folder.

    Args:
        root: The folder.
        split: "train", "val", "test", "auto", or None for all.
        classes: Folder -> emotion, such as {"1": "surprise"}, of folders whose names are no emotions; None as the
            emotion leaves a class out. A text is read as "1=surprise,2=fear".
        prealigned: The pictures are aligned faces.
        totals: Not used; there are no official numbers.
        missing: Not used; pictures are found, not listed.

    Raises:
        DataError: a folder that is no class, or pictures that lie in none.
    """
    place = open_root(FOLDERS, root)
    names = _classes(classes)
    bases = [(one, folder_split(one.name)) for one in subfolders(place)]
    parted: list[tuple[Path, str | None]] = [(one, part) for one, part in bases if part]
    if parted and (odd := [one for one, part in bases if not part and any(True for _ in _below(one))]
                   + [place / name for name in pictures_in(place)]):  # fmt: skip
        refuse(odd[0], None, "beside folders of splits; put it into one of them, or elsewhere")
    bases = parted or [(place, None)]
    left_out = Counter[str]()

    def rows() -> Iterator[Row]:
        for base, part in bases:
            loose = pictures_in(base)
            if loose:
                refuse(base / loose[0], None, "a picture in no class folder; put it into one such as happiness/")
            for folder in subfolders(base):
                emotion = _emotion(folder, names)
                for path in _below(folder):
                    if emotion is None:
                        left_out["class left out"] += 1
                        continue
                    name = os.path.relpath(path, place).replace(os.sep, "/")
                    yield Row(name, path, emotion, split=part)

    if not any(subfolders(base) for base, _ in bases):
        no_layout(FOLDERS, place)
    edition = Edition("splits and classes" if bases[0][1] else "classes", prealigned=prealigned)
    return collect(FOLDERS, edition, rows(), split, totals, missing, left_out)


def _classes(given: Mapping[str, str | None] | str | None) -> dict[str, str | None]:
    if isinstance(given, str):
        pairs = [part.partition("=") for part in given.split(",") if part.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise DataError(f"classes {short(given)} must be FOLDER=EMOTION,..., such as 1=surprise,2=fear")
        given = {name.strip(): emotion.strip() for name, _, emotion in pairs}
    return {
        str(name): None if facs.is_no_label(emotion) else facs.parse_emotion(str(emotion))
        for name, emotion in (given or {}).items()
    }


def _emotion(folder: Path, names: Mapping[str, str | None]) -> str | None:
    if folder.name in names:
        return names[folder.name]
    try:
        return facs.parse_emotion(re.sub(r"^\d+[\W_]+", "", folder.name))
    except LabelError:
        known = ", ".join([*facs.EMOTIONS, *names])
        name = repr(folder.name)
        refuse(folder, None, f"{name} is no class ({known}); name it in classes={{{name}: 'happiness'}}, or leave it "
               f"out by classes={{{name}: None}}")  # fmt: skip


def _below(folder: Path) -> Iterator[str]:
    """Yield the pictures of a folder and those below it, in order."""
    for name in pictures_in(folder):
        yield join(folder, name)
    for inner in subfolders(folder):
        yield from _below(inner)
