"""The names of splits, as people write them in files and as folders name them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from actfer_env.errors import DataError, short

SPLITS = ("train", "val", "test")
"""The names of splits."""
AUTO = "auto"
"""Stands for the train split where a data set has splits, and for all of its samples where it has none."""

_WORDS = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "valset": "val", "publictest": "val",
    "test": "test", "testing": "test", "testset": "test", "privatetest": "test",
}  # fmt: skip
"""Names that people give the splits; FER2013 tunes on its "public test" and reports the "private" one."""
_BESIDE = frozenset({
    "set", "sets", "data", "dataset", "datasets", "split", "image", "images", "img", "imgs", "picture", "pictures",
    "photo", "photos", "face", "faces", "aligned", "original", "cropped", "crops", "raw", "jpg", "png",
    "fer", "ferplus", "raf", "rafdb", "db", "affectnet", "sfew", "expw", "ck", "kdef", "disfa",
})  # fmt: skip
"""Words that stand beside a split's name in a folder's: Train_Aligned_Faces, val_set, FER2013Test."""
_FILE = re.compile(r"(train|training|val|valid|validation|test)_\d{3,}(_aligned)?", re.IGNORECASE)
"""Names of files that tell the split, as RAF-DB's train_00001_aligned.jpg."""


def parse_split(name: object) -> str:
    """Return the split that a text in a file names.

    Raises:
        DataError: it names none.
    """
    found = _WORDS.get(re.sub(r"[\s_-]+", "", str(name).lower()))
    if found is None:
        raise DataError(f"unknown split {short(name)}: use one of {', '.join(SPLITS)}")
    return found


def folder_split(name: str) -> str | None:
    """Return the split that a folder's name stands for, or None.

    >>> folder_split("Train_Aligned_Faces"), folder_split("train station")
    ('train', None)
    """
    if not re.fullmatch(r"[A-Za-z0-9 _.-]+", name):
        return None
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return _WORDS.get("".join(word for word in words if word not in _BESIDE))


def path_split(folders: Sequence[str]) -> str | None:
    """Return the split that the folders above a picture name; of several the one nearest to the picture counts."""
    return next((split for folder in reversed(folders) if (split := folder_split(folder))), None)


def file_splits(stems: Iterable[str]) -> list[str] | None:
    """Return the splits that the names of files tell, where all tell one and they differ; None otherwise."""
    matches = [_FILE.fullmatch(stem) for stem in stems]
    found = [_WORDS[match[1].lower()] for match in matches if match]
    return found if len(found) == len(matches) and len(set(found)) > 1 else None


def format_splits(splits: Iterable[str | None] | Counter[str | None]) -> str:
    """Return how many samples are in which split, of the split of each: ``"train 8, test 2"``, or ``"no splits"``."""
    counts = splits if isinstance(splits, Counter) else Counter(splits)
    if set(counts) <= {None}:
        return "no splits"
    named = [f"{split} {counts[split]}" for split in SPLITS if split in counts]
    return ", ".join(named + [f"in none {counts[None]}"] * (None in counts))


def lacks_split(name: str, wanted: str, counts: Counter[str]) -> str:
    """Return what to say of a split that a data set does not have, given the number of samples in those it has."""
    if not counts:
        return (
            f"data set {name!r} names no splits, so there is no {wanted!r}: leave the split out to take every sample, "
            "or name splits by folders (train/, test/) or by 'split' in its lines"
        )
    there = ", ".join(f"{split} ({counts[split]})" for split in SPLITS if split in counts)
    return f"data set {name!r} has no split {wanted!r}; it has {there}: use one of these, or no split to take all"
