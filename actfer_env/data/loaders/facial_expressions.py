"""The public photos of the repository "facial_expressions"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

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
    read_table,
    refuse,
    repeated,
    stem_of,
    warn,
)
from actfer_env.errors import LabelError, short

FACIAL_EXPRESSIONS = Info(
    "facial_expressions", "facial_expressions", "data/legend.csv and images/", ("data/legend.csv",),
    "https://github.com/muxspace/facial_expressions (Apache-2.0; public)",
)  # fmt: skip
_SALT = "1303 "
"""Of 1,500 tried, one with which every class is in every split of the first fold; half of the pictures of disgust show
one person, and would else easily be missing."""
_TOTALS = {"neutral": 6864, "happiness": 5693, "surprise": 367, "sadness": 267, "anger": 252, "disgust": 208,
           "fear": 21, "contempt": 9}  # fmt: skip


@described(FACIAL_EXPRESSIONS)
def load_facial_expressions(
    root: str | None, *, split: str | None = None, folds: int = 5, fold: int = 0, validation: bool = True,
    totals: Totals = "auto", missing: Missing = "raise",
) -> RowSamples:  # fmt: skip
    """Read the data set "facial_expressions": photos in the wild, eight emotions; public (Apache-2.0).

    The names of the pictures begin with a person's, and the splits are by person: with the defaults about a fifth of
    the people are "test", 13 % "val", the rest "train", and every class is in every split. A person's split follows
    from the name alone, so that a part of the data set is split as the whole is. Emotions are written in small and in
    capital letters.

    A picture that the legend lists again with the same emotion is taken once; one that it lists with two emotions is
    left out, with a warning that names the line. Of the 13,690 lines 13,681 pictures are left.

    Args:
        root: The folder with data/ and images/.
        split: "train", "val", "test", "auto", or None for all.
        folds: Number of folds.
        fold: The fold that is "test", from 0.
        validation: False leaves "val" empty.
        totals: See `loaders.base.Totals`.
        missing: See `loaders.base.Missing`.

    Raises:
        DataError: another layout, a broken line (named by file and number), or a listed picture that is not there.
    """
    place = open_root(FACIAL_EXPRESSIONS, root)
    path, images = place / "data" / "legend.csv", place / "images"
    for one in (path, images):
        if not one.exists():
            no_layout(FACIAL_EXPRESSIONS, place, f"{one} is not there")
    splits, left_out = SubjectSplits(folds, fold, validation, salt=_SALT), Counter[str]()
    edition = Edition("photos", facs.EMOTIONS, totals={"all": {"all": sum(_TOTALS.values()), **_TOTALS}})
    rows = _rows(path, images, splits, left_out)
    return collect(FACIAL_EXPRESSIONS, edition, rows, split, totals, missing, left_out)


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, picture, emotion)."""
    for line, (_, name, label) in read_table(path, ("user.id", "image", "emotion")):
        if not re.search(r"\.(jpe?g|png)$", name, re.IGNORECASE):
            refuse(path, line, f"{short(name)} is no picture's name")
        try:
            yield line, name, facs.parse_emotion(label)
        except LabelError as error:
            refuse(path, line, str(error))


def _rows(path: Path, images: Path, splits: SubjectSplits, left_out: Counter[str]) -> Iterator[Row]:
    again = repeated(name for _, name, _ in _lines(path))
    twice: dict[str, set[str]] = {}
    for line, name, emotion in _lines(path) if again else ():
        if hash(name) in again:
            others = twice.setdefault(name, set())
            if others - {emotion}:
                warn(f"{path}, line {line}: {name} is {emotion} here and {min(others)} further up: left out")
            others.add(emotion)
    for line, name, emotion in _lines(path):
        labels = twice.get(name)
        if labels is not None and len(labels) != 1:
            left_out["two emotions" if labels else "listed again"] += 1
            continue
        if labels:
            twice[name] = set()  # taken now, and not again
        person = re.sub(r"_[^_]*$", "", stem_of(name))
        yield Row(name, join(images, name), emotion, split=splits(person), meta={"subject": person}, file=str(path),
                  line=line)  # fmt: skip
