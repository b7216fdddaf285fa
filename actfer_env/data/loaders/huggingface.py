"""Data sets of the library `datasets`: a folder that it wrote or can read, or the name of one on the hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.data.loaders.base import (
    Edition,
    Info,
    described,
)
from actfer_env.errors import DataError, ImageError, LabelError
from actfer_env.packages import needs
from actfer_env.sample import Sample, SampleSequence
from actfer_env.splits import AUTO, lacks_split, parse_split

HUGGINGFACE = Info(
    "huggingface", "a data set of the library 'datasets'", "a folder of save_to_disk(), of parquet, JSON or CSV files, "
    "or a name such as owner/name", ("dataset_info.json", "dataset_dict.json"), "its card on the hub",
)  # fmt: skip


@described(HUGGINGFACE)
def load_huggingface(  # noqa: PLR0913  (each argument names a column or a part of the data set)
    root: str | None, *, split: str | None = None, image: str = "image", label: str | None = "label",
    aus: str | None = None, subject: str | None = None, classes: Sequence[str | None] | str | None = None,
    config: str | None = None, revision: str | None = None, prealigned: bool = False,
) -> TableSamples:  # fmt: skip
    """Read the data set "huggingface": a folder or hub name of the library `datasets`, with the columns that you name.

    Its tables stay on the disk, where every process maps them; nothing but the labels is read before a picture is.

    Args:
        root: A folder that `save_to_disk` wrote, one of parquet, JSON or CSV files, or "owner/name" on the hub.
        split: "train", "val", "test", "auto", or None for all that have one of these names.
        image: The column of pictures: of the type Image, or bytes, or paths.
        label: The column of emotions: names, or the numbers of a ClassLabel, or of `classes`; None is none.
        aus: The column of Action Units, lists or texts as `facs.parse_aus` takes them; None is none.
        subject: The column that tells who it is; None is none.
        classes: The emotions of the numbers 0, 1, ..., as a list or a text with commas; None or "none" among them is a
            class without emotion, and its pictures have no label.
        config: Configuration of a data set on the hub.
        revision: Version of a data set on the hub.
        prealigned: The pictures are aligned faces.

    Raises:
        DataError: `datasets` is not installed, there is no such data set, column or class, or a label is unknown.
    """
    if root is None:
        raise DataError("data set 'huggingface' needs root=FOLDER or owner/name, and the names of its columns")
    if not Path(root).exists() and (root.count("/") != 1 or root.startswith((".", "/", "~"))):
        raise DataError(f"{root}: no such folder, and no name of a data set such as owner/name")
    with needs("data"):
        import datasets
    tables = {
        name: _columns(table, root, [image, label, aus, subject]) for name, table in _open(root, config, revision)
    }
    counted = Counter({name: len(table) for name, table in tables.items()})
    taken = ("train" if "train" in tables else None) if split == AUTO else split
    if taken is not None and taken not in tables:
        raise DataError(lacks_split("huggingface", taken, counted))
    if isinstance(classes, str):
        classes = [name.strip() for name in classes.split(",")]
    samples = TableSamples(root, taken, prealigned, {"image": image, "label": label, "aus": aus, "subject": subject})
    for name, table in tables.items():
        codes = None if label is None else _codes(table, label, classes, f"{root}, split {name}")
        decodes = isinstance(table.features[image], datasets.Image)
        samples.add(name, table.cast_column(image, datasets.Image(decode=False)) if decodes else table, codes)
    return samples


def _open(root: str, config: str | None, revision: str | None) -> list[tuple[str, Any]]:
    """Return (split, table) of a data set."""
    import datasets

    place = Path(root)
    try:
        kept = place.is_dir() and any((place / mark).exists() for mark in ("dataset_info.json", "dataset_dict.json"))
        found = datasets.load_from_disk(root) if kept else datasets.load_dataset(root, config, revision=revision)
    except Exception as error:  # what the library raises is not documented, and reaches from OSError to pyarrow's own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{root}: cannot be read by 'datasets': {reason[0][:300]}") from error
    if not isinstance(found, dict):
        try:
            return [(parse_split(str(found.split)), found)]
        except DataError:
            return [("train", found)]
    named: dict[str, Any] = {}
    for name, table in found.items():
        try:
            part = parse_split(name)
        except DataError:
            continue
        if part in named:
            raise DataError(f"{root}: two of its parts {', '.join(map(str, found))} are {part}: leave one out")
        named[part] = table
    if not named:
        raise DataError(f"{root}: its parts {', '.join(map(str, found))} are not named train, val or test")
    return list(named.items())


def _columns(table: Any, root: str, wanted: Sequence[str | None]) -> Any:
    for name in wanted:
        if name is not None and name not in table.column_names:
            raise DataError(f"{root}: no column {name!r}; the columns are {', '.join(table.column_names)}: "
                            "name them by image=, label=, aus=, subject=")  # fmt: skip
    return table


def _codes(table: Any, label: str, classes: Sequence[str | None] | None, where: str) -> NDArray[np.int8]:
    """Return each row's place in `facs.EMOTIONS`, int8, -1 where there is none; reads the labels alone."""
    import datasets

    feature = table.features[label]
    names = classes if classes is not None else feature.names if isinstance(feature, datasets.ClassLabel) else None
    known: dict[Any, int] = {}
    codes = np.empty(len(table), np.int8)
    at = 0
    for batch in table.select_columns([label]).iter(batch_size=4096):
        for value in batch[label]:
            if value not in known:
                known[value] = _code(value, names, label, f"{where}, row {at}")
            codes[at] = known[value]
            at += 1
    return codes


def _code(value: Any, names: Sequence[str | None] | None, label: str, where: str) -> int:
    name = value
    if isinstance(value, int) and not isinstance(value, bool):
        if names is None:
            raise DataError(f"{where}: {label} is the number {value}: name the classes by classes=, in their order")
        if value == -1:  # as the library writes a label that is not given
            return -1
        if not 0 <= value < len(names):
            raise DataError(f"{where}: {label} {value} is not 0 to {len(names) - 1}")
        name = names[value]
    if facs.is_no_label(name):
        return -1
    try:
        return facs.EMOTIONS.index(facs.parse_emotion(name))
    except LabelError as error:
        raise DataError(f"{where}: {error}; name the classes by classes=") from error


class TableSamples(SampleSequence):
    """The samples of tables of `datasets`, made when they are asked for.

    Attributes:
        info: Facts about the data set.
        edition: Its classes.
        split: The split that was taken; None is all.
        counts: Split -> class -> number of rows.
    """

    info = HUGGINGFACE

    def __init__(self, root: str, split: str | None, prealigned: bool, columns: dict[str, str | None]) -> None:
        self.root, self.split, self.prealigned, self.columns = root, split, prealigned, columns
        self.counts: dict[str | None, Counter[str | None]] = {}
        self.left_out: Counter[str] = Counter()
        self.edition = Edition("columns " + ", ".join(f"{use}={name}" for use, name in columns.items() if name))
        self._parts: list[tuple[str, Any, NDArray[np.int8] | None]] = []
        self._ends: list[int] = []

    @property
    def splits(self) -> Counter[str | None]:
        """Number of samples of each split, among those that were taken."""
        return Counter({name: len(table) for name, table, _ in self._parts})

    def add(self, split: str, table: Any, codes: NDArray[np.int8] | None) -> None:
        """Add a table; of other splits than the wanted one only its labels are counted."""
        tally = self.counts.setdefault(split, Counter())
        if codes is None:
            tally[None] += len(table)
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True) if codes is not None else ():
            tally[None if code < 0 else facs.EMOTIONS[code]] += int(count)
        if self.split in (None, split):
            self._parts.append((split, table, codes))
            self._ends.append(len(self) + len(table))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _at(self, index: int) -> Sample:
        part = next(i for i, end in enumerate(self._ends) if index < end)
        split, table, codes = self._parts[part]
        at = index - (self._ends[part - 1] if part else 0)
        wanted = [self.columns[use] for use in ("aus", "subject") if self.columns[use]]
        row = table.select_columns(wanted)[at] if wanted else {}
        name = f"{split}-{at:07d}"
        meta: dict[str, Any] = {"dataset": "huggingface", "image": f"{self.root}, {split}, {at}"}
        if self.columns["subject"]:
            meta["subject"] = str(row[self.columns["subject"]])
        emotion = None if codes is None or codes[at] < 0 else facs.EMOTIONS[codes[at]]
        return Sample(
            id=name, source=partial(_picture, table, at, str(self.columns["image"]), self.root), emotion=emotion,
            aus=row[self.columns["aus"]] if self.columns["aus"] else None, split=split, prealigned=self.prealigned,
            meta=meta,
        )  # fmt: skip

    def position(self, name: str) -> int | None:
        """Return the index of a sample id, or None."""
        split, _, digits = name.rpartition("-")
        start = 0
        for known, table, _ in self._parts:
            if (
                known == split
                and digits.isdecimal()
                and int(digits) < len(table)
                and name == f"{split}-{int(digits):07d}"
            ):
                return start + int(digits)
            start += len(table)
        return None

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def _picture(table: Any, at: int, column: str, root: str) -> Any:
    """Return what `load_image` reads: a path, bytes, or an array."""
    value = table.select_columns([column])[at][column]
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and not Path(value).is_absolute() and Path(root).is_dir():
        return Path(root) / value
    if value is None:
        raise ImageError(f"{root}, row {at}: column {column!r} is empty")
    return np.asarray(value, np.uint8) if isinstance(value, list) else value
