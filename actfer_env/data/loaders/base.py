"""Shared parts of the loaders: facts, rows, tables with line numbers, splits by person, the compact index.

A loader finds the edition that lies in a folder and gives its rows one by one; `collect` checks and counts them and
packs them into `RowSamples`, whose memory does not grow with the data set but for 12 bytes a sample.
"""

from __future__ import annotations

# Longer than 400 lines: the loaders import all that they share from one place.
import csv
import hashlib
import io
import mmap
import os
import pickle
import re
import tempfile
import warnings
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.errors import DataError, LabelError, plain, short
from actfer_env.images import RGB, readable_suffixes
from actfer_env.sample import Sample, SampleSequence
from actfer_env.splits import AUTO, lacks_split

Totals: TypeAlias = Literal["auto", "exact", "ignore"]
"""Comparison of counts with the official ones: "auto" warns of a part of the data set and refuses more pictures of a
class than it has, which no part can show; "exact" refuses any difference; "ignore" asks nothing."""
Missing: TypeAlias = Literal["raise", "skip", "keep"]
"""Treatment of a listed picture that is not there: refuse, leave out with a warning, or keep without a look."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Info:
    """Facts about a data set that are known before its folder is opened.

    Attributes:
        name: The registered name.
        title: Its name in print.
        layout: Files that a folder must hold, such as "EmoLabel/list_patition_label.txt with Image/aligned".
        marks: Patterns of paths below the root, of which one tells this data set from others.
        licence: Address at which to ask for the data.
    """

    name: str
    title: str
    layout: str
    marks: tuple[str, ...]
    licence: str


INFOS: dict[str, Info] = {}
"""The data sets with a known layout, by name; `described` adds to it."""


def described(info: Info) -> Callable[[F], F]:
    """Mark a loader with what is known of its data set: it takes split="auto", and `actfer data check` shows the rest.

    Args:
        info: The facts.
    """
    INFOS[info.name] = info

    def mark(loader: F) -> F:
        loader.info = info  # type: ignore[attr-defined]
        return loader

    return mark


@dataclass(frozen=True)
class Edition:
    """One of the forms in which a data set is handed out.

    Attributes:
        name: Name for people, such as "basic, aligned".
        order: The classes as its files number or list them, from `facs.EMOTIONS`; empty without emotions.
        aus: The Action Units that it annotates, ascending; empty without.
        totals: Split -> class -> official number of pictures; the split "all" counts over the splits, the class "all"
            over the classes. What is not known is left out.
        prealigned: The pictures are aligned faces.
        read: Reads a picture that is not a file of its own, called as ``read(path, at)``.
    """

    name: str
    order: tuple[str, ...] = ()
    aus: tuple[int, ...] = ()
    totals: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    prealigned: bool = False
    read: Callable[[str, int], RGB] | None = None


class Row(NamedTuple):
    """One sample as a loader reads it.

    Attributes:
        id: Unique within the data set.
        path: The picture's file, or the file that holds it.
        emotion: One of `facs.EMOTIONS`, or None.
        aus: Active Action Units as a list or a text with sides; None where they were not annotated.
        split: "train", "val", "test" or None.
        meta: Further JSON values for `Sample.meta`.
        at: Place of the picture in `path` (a frame, an offset), or None where the file is the picture.
        file: The list that names the picture, for messages; None where the picture was found in its folder.
        line: The line in that list, from 1.
    """

    id: str
    path: str
    emotion: str | None = None
    aus: str | tuple[int, ...] | None = None
    split: str | None = None
    meta: dict[str, Any] | None = None
    at: int | None = None
    file: str | None = None
    line: int = 0


def refuse(path: str | os.PathLike[str], line: int | None, problem: str) -> NoReturn:
    """Raise the error about a line of a file.

    Raises:
        DataError: always.
    """
    raise DataError(f"{plain(os.fspath(path))}{'' if line is None else f', line {line}'}: {problem}")


def open_root(info: Info, root: str | os.PathLike[str] | None) -> Path:
    """Return the folder of a data set.

    Raises:
        DataError: there is none.
    """
    if root is None:
        raise DataError(f"data set {info.name!r} needs root=FOLDER with {info.layout}; ask for it at {info.licence}")
    place = Path(root)
    if not place.is_dir():
        raise DataError(f"{place}: no such folder; data set {info.name!r} needs one with {info.layout}")
    return place


def no_layout(info: Info, root: Path, detail: str = "") -> NoReturn:
    """Raise the error about a folder that holds no known edition of a data set, naming the one that it may hold.

    Args:
        info: The data set.
        root: The folder.
        detail: The part that is missing.

    Raises:
        DataError: always.
    """
    others = [other for other in INFOS.values() if other is not info and any(any(root.glob(m)) for m in other.marks)]
    hint = f"; it looks like {others[0].title}: load_dataset({others[0].name!r})" if others else ""
    raise DataError(f"{root}: no {info.title} here: {detail or f'it needs {info.layout}'}{hint}")


def first_folder(root: Path, *names: str) -> Path | None:
    """Return the first of several folders below `root` that is there."""
    return next((root / name for name in names if (root / name).is_dir()), None)


def join(folder: str | os.PathLike[str], *names: str) -> str:
    """Return a path as text: a million of them as `Path` would take ten times as long."""
    return os.path.join(folder, *names)  # noqa: PTH118


def stem_of(name: str) -> str:
    """Return a file's name without its ending."""
    return name.rpartition(".")[0] or name


def repeated(names: Iterable[str]) -> frozenset[int]:
    """Return the `hash` of every name that comes more than once, in 8 bytes a name; another may rarely share it."""
    hashes = np.sort(np.frombuffer(array("q", (hash(name) for name in names)), np.int64))
    return frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def pictures_in(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the pictures in a folder, not below it, in order."""
    kinds = readable_suffixes()
    with os.scandir(folder) as entries:
        return sorted(
            one.name for one in entries if one.name[0] != "." and f".{one.name.rpartition('.')[2].lower()}" in kinds
        )


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in order, but hidden ones and what systems leave behind."""
    return sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] not in "._")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text without its end) of a text file, blank lines left out.

    Raises:
        DataError: it cannot be read or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as handle:
            for number, line in enumerate(handle, start=1):
                if text := line.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_table(
    path: Path, columns: Sequence[str], *, header: Literal["must", "may"] = "must"
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, the values of `columns`) of a CSV file, line by line.

    Args:
        path: The file.
        columns: The names of the wanted columns, in the official order.
        header: "may" takes a file without a header by position, if it has as many columns as are named.

    Raises:
        DataError: it cannot be read, lacks a column, has the columns in another order, or has a line that is short.
    """
    wanted = [name.lower() for name in columns]
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            first = [name.strip() for name in next(reader, [])]
            places = [at for name in wanted for at, known in enumerate(first) if known.lower() == name]
            if not places and header == "may" and len(first) == len(columns):
                places = list(range(len(columns)))
                yield 1, first
            elif twice := next((name for name in columns if list(map(str.lower, first)).count(name.lower()) > 1), None):
                refuse(path, 1, f"column {twice!r} comes twice: which one counts?")
            elif len(places) < len(wanted):
                lacking = next(name for name in columns if name.lower() not in map(str.lower, first))
                refuse(path, 1, f"no column {lacking!r}; the columns are {short(', '.join(first), 200)[1:-1]}")
            elif places != sorted(places):
                refuse(path, 1, f"the columns are in another order than the official one, {', '.join(columns)}: "
                       "names or values may be swapped; give the file as it was handed out")  # fmt: skip
            for row in reader:
                try:
                    yield reader.line_num, [row[at].strip() for at in places]
                except IndexError:
                    if row:
                        refuse(path, reader.line_num, f"{len(row)} values where there are {len(first)} columns")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def whole(path: Path, line: int, text: str, name: str, low: int, high: int) -> int:
    """Return a whole number of a file, within bounds.

    Raises:
        DataError: it is none, or out of bounds.
    """
    if text.isdecimal() and len(text) < 10 and low <= int(text) <= high:
        return int(text)
    if re.fullmatch(r"[+-]?\d{1,9}(\.0*)?", text) and low <= (value := int(float(text))) <= high:
        return value
    refuse(path, line, f"{name} {short(text)} is not a whole number from {low} to {high}")


@dataclass(frozen=True)
class SubjectSplits:
    """Splits in which no person is in two: one fold is "test"; of the others about every sixth person is "val".

    A person's split follows from the name alone, or from the place in a fixed list: it does not change with the files
    that are there.

    Attributes:
        folds: Number of folds, at least 2.
        fold: The fold that is "test", from 0.
        validation: False leaves "val" empty, and "train" holds all other folds.
        subjects: All persons of the data set, in order; they are dealt to the folds in turn. Without it a digest of
            the name decides.
        salt: Stands before the name in that digest.

    Raises:
        DataError: a fold that does not exist.
    """

    folds: int = 5
    fold: int = 0
    validation: bool = True
    subjects: tuple[str, ...] = ()
    salt: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.folds, int) and self.folds >= 2 and self.fold in range(self.folds)):
            raise DataError(f"fold {self.fold} of {self.folds} does not exist: folds is at least 2, and fold from 0")

    def __call__(self, subject: str) -> str:
        """Return a person's split."""
        named = f"{self.salt}{subject}".encode("utf-8", "surrogatepass")
        digest = int.from_bytes(hashlib.sha256(named).digest()[:8], "big")
        number = self.subjects.index(subject) if self.subjects else digest
        if number % self.folds == self.folds - 1 - self.fold:
            return "test"
        return "val" if self.validation and number // self.folds % 6 == 3 else "train"


GONE = "not there"
"""The reason under which listed pictures that are not there are counted."""
_BLOCK = 64
"""Rows that are packed and unpacked together (chosen here)."""
_OPEN_BLOCKS = 32


class RowSamples(SampleSequence):
    """The samples of one edition and split, made from packed rows when they are asked for.

    Rows lie in a temporary file that has no name and that child processes share; in memory are 12 bytes a sample.

    Attributes:
        info: The data set.
        edition: Edition that lies in its folder.
        split: The split that was taken; None is all.
        counts: Split -> class -> number of samples, of all rows that were read; None stands for no split, no class.
        left_out: Reason -> number of rows that were left out.
        first_gone: The first listed picture that is not there, or "".
    """

    def __init__(self, info: Info, edition: Edition) -> None:
        self.info, self.edition = info, edition
        self.split: str | None = None
        self.counts: dict[str | None, Counter[str | None]] = {}
        self.left_out: Counter[str] = Counter()
        self.first_gone = ""
        self._data: bytes | mmap.mmap = b""
        self._starts: NDArray[np.int64] = np.zeros(1, np.int64)
        self._hashes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._places: NDArray[np.int32] = np.zeros(0, np.int32)
        self._open: OrderedDict[int, list[tuple[Any, ...]]] = OrderedDict()

    @property
    def splits(self) -> Counter[str | None]:
        """Number of samples of each split, among those that were taken."""
        sums = {split: sum(classes.values()) for split, classes in self.counts.items()}
        return Counter(sums if self.split is None else {self.split: sums[self.split]})

    def pack(self, rows: Iterable[Row]) -> None:
        """Store the rows.

        Raises:
            DataError: two rows have one id, or the folder for temporary files is full.
        """
        hashes, starts, block = array("Q"), array("q", [0]), list[tuple[Any, ...]]()
        try:
            store: Any = tempfile.TemporaryFile()  # noqa: SIM115  (opened below)
        except OSError:  # nowhere to write: the packed rows stay in memory
            store = io.BytesIO()
        with store:
            try:
                for row in rows:
                    hashes.append(_hash(row.id))
                    block.append(tuple(row[:7]))
                    if len(block) == _BLOCK:
                        starts.append(starts[-1] + store.write(_packed(block)))
                        block = []
                if block:
                    starts.append(starts[-1] + store.write(_packed(block)))
                store.flush()
            except OSError as error:
                where = error.filename or tempfile.gettempdir()
                raise DataError(f"cannot index {self.info.title}, at {where}: {error.strerror or error}") from error
            if isinstance(store, io.BytesIO):
                self._data = store.getvalue()
            elif starts[-1]:
                self._data = mmap.mmap(store.fileno(), 0, access=mmap.ACCESS_READ)
        self._starts = np.frombuffer(starts, np.int64)
        found = np.frombuffer(hashes, np.uint64)
        self._places = np.argsort(found, kind="stable").astype(np.int32)
        self._hashes = found[self._places]
        self._refuse_twins()

    def _refuse_twins(self) -> None:
        for place in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]):
            first, second = (self._row(int(self._places[place + i])) for i in (0, 1))
            if first[0] == second[0]:
                raise DataError(f"{self.info.title} has {first[0]!r} twice: {first[1]} and {second[1]}")

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, index: int) -> Sample:
        name, path, emotion, aus, split, meta, at = self._row(index)
        shown, read = path if at is None else f"{path}, {at}", self.edition.read
        return Sample(
            id=name, source=path if at is None or read is None else partial(read, path, at),
            emotion=emotion, aus=aus, split=split, prealigned=self.edition.prealigned,
            meta={"dataset": self.info.name, "image": plain(shown), **(meta or {})},
        )  # fmt: skip

    def position(self, name: str) -> int | None:
        """Return the index of a sample id, or None."""
        wanted = np.uint64(_hash(name))
        low, high = (int(np.searchsorted(self._hashes, wanted, side)) for side in ("left", "right"))
        places = (int(self._places[at]) for at in range(low, high))
        return next((place for place in places if self._row(place)[0] == name), None)

    def _row(self, index: int) -> tuple[Any, ...]:
        number, within = divmod(index, _BLOCK)
        rows = self._open.get(number)
        if rows is None:
            from lz4 import frame

            rows = pickle.loads(frame.decompress(self._data[self._starts[number] : self._starts[number + 1]]))
            self._open[number] = rows
            if len(self._open) > _OPEN_BLOCKS:
                self._open.popitem(last=False)
        return rows[within]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_data": self._data[:], "_open": OrderedDict()}


def _packed(rows: list[tuple[Any, ...]]) -> bytes:
    from lz4 import frame

    return bytes(frame.compress(pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)))


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def collect(
    info: Info, edition: Edition, rows: Iterable[Row], split: str | None, totals: Totals = "auto",
    missing: Missing = "raise", left_out: Counter[str] | None = None,
) -> RowSamples:  # fmt: skip
    """Check, count and pack the rows of an edition.

    Args:
        info: The data set.
        edition: Edition that was found in its folder.
        rows: One by one; those of other splits are counted and left.
        split: "train", "val", "test"; "auto" is "train" where there are splits, else all; None is all.
        totals: See `Totals`.
        missing: See `Missing`.
        left_out: Reason -> number of rows that the loader itself leaves out; read when the rows are at their end.

    Raises:
        DataError: a picture is not there, a label is unknown, the counts contradict the official ones, or the split is
            not there.
    """
    for name, value, known in (("totals", totals, ("auto", "exact", "ignore")),
                               ("missing", missing, ("raise", "skip", "keep"))):  # fmt: skip
        if value not in known:
            raise DataError(f"{name}={value!r} is unknown: use one of {', '.join(known)}")
    samples = RowSamples(info, edition)
    samples.left_out = Counter() if left_out is None else left_out
    samples.split = split
    samples.pack(_wanted(samples, rows, missing))
    if not samples.counts:
        raise DataError(f"{info.title} has no picture to give: {samples.first_gone or 'its folders are empty'}")
    if samples.first_gone:
        gone = samples.left_out[GONE]
        warn(f"{info.title}: {gone:,} listed picture{'' if gone == 1 else 's'} left out; {samples.first_gone}")
    counted = Counter({part: sum(classes.values()) for part, classes in samples.counts.items() if part})
    if samples.split is not None and not len(samples):
        raise DataError(lacks_split(info.name, samples.split, counted))
    if totals != "ignore":
        _hold(info, edition, samples, totals)
    return samples


def _wanted(samples: RowSamples, rows: Iterable[Row], missing: Missing) -> Iterator[Row]:
    """Count the rows whose pictures are there, check their Action Units, and yield those of the wanted split."""
    for row in rows:
        # Found pictures, which no list names, need no look.
        if missing != "keep" and row.file is not None and not os.path.isfile(row.path):  # noqa: PTH113  (a million)
            gone = f"{row.file}, line {row.line}: {row.path} is not there"
            if missing == "raise":
                raise DataError(f"{gone}; put it there, or leave such lines out by missing='skip'")
            samples.left_out[GONE] += 1
            samples.first_gone = samples.first_gone or gone
            continue
        if samples.split == AUTO:
            samples.split = None if row.split is None else "train"
        if isinstance(row.aus, str):
            try:
                facs.parse_aus(row.aus)
            except LabelError as error:
                refuse(row.file or row.path, row.line or None, str(error))
        samples.counts.setdefault(row.split, Counter())[row.emotion] += 1
        if samples.split is None or row.split == samples.split:
            yield row


def differences(
    edition: Edition, counts: Mapping[str | None, Mapping[str | None, int]]
) -> Iterator[tuple[str, str, int, int]]:
    """Yield (split, class, number found, official number) wherever the two differ, of the splits that were found.

    Args:
        edition: Has the official numbers.
        counts: Split -> class -> number found.
    """
    for split, official in edition.totals.items():
        if split != "all" and split not in counts:
            continue
        parts = counts.values() if split == "all" else [counts[split]]
        found = sum((Counter(part) for part in parts), Counter[str | None]())
        for name, number in official.items():
            here = sum(found.values()) if name == "all" else found[name]
            if here != number:
                yield split, name, here, number


def _hold(info: Info, edition: Edition, samples: RowSamples, totals: Totals) -> None:
    """Hold the counts to the official ones."""
    found = list(differences(edition, samples.counts))
    beyond = next((one for one in found if one[2] > one[3]), None)
    if beyond or (found and totals == "exact"):
        split, name, here, number = beyond or found[0]
        what = f"{'all splits' if split == 'all' else split}{'' if name == 'all' else f', {name}'}"
        raise DataError(
            f"{info.title} ({edition.name}): {here:,} pictures in {what}, officially {number:,}: another edition, or "
            "labels in another order; pass totals='ignore' if this is meant"
        )
    if found:
        sums = [one for one in found if one[1] == "all"] or found
        text = ", ".join(f"{'' if split == 'all' else f'{split} '}{'' if name == 'all' else f'{name} '}{here:,} of "
                         f"{number:,}" for split, name, here, number in sums[:4])  # fmt: skip
        warn(f"{info.title} ({edition.name}): a part of the official data set: {text}")


def warn(text: str) -> None:
    """Warn the user in one line."""
    warnings.warn(text, UserWarning, stacklevel=4)
