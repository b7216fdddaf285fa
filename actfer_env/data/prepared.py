"""Data sets of kept pictures: "prepared:FOLDER".

`prepare_dataset` detects and aligns every picture of a data set once, and keeps what environments show: the raw picture
at their size, the aligned face, the crops of the four regions, boxes, labels and ids. The files are mapped into memory,
and all processes share them. A box of one's own, the panel, and pictures of other sizes come from the original data
set, which must then still be there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actfer_env.data.loaders.base import Info
from actfer_env.data.registry import load_dataset
from actfer_env.data.subset import subset
from actfer_env.errors import DataError
from actfer_env.files import expand
from actfer_env.identity import refuse_other
from actfer_env.images import RGB
from actfer_env.prepare import prepared
from actfer_env.progress import Watch
from actfer_env.sample import Dataset, Sample, SampleSequence
from actfer_env.splits import AUTO, SPLITS, lacks_split

if TYPE_CHECKING:
    from actfer_env.data.views import PreparedImages, ViewConfig

PREPARED = Info(
    "prepared", "a prepared data set", "what 'actfer data prepare' wrote", (), "your own folder",
)  # fmt: skip


def prepare_dataset(
    dataset: Dataset | Sequence[Dataset], folder: str | os.PathLike[str], config: ViewConfig | None = None, *,
    number: int | None = None, workers: int | None = None, watch: Watch | None = None,
) -> Dataset:  # fmt: skip
    """Keep the pictures of a data set in a folder, for `load_dataset("prepared:FOLDER")`.

    A call that was killed goes on where it stopped; a folder that is ready is opened.

    Args:
        dataset: A data set of `load_dataset`, or several with ids of their own, such as splits.
        folder: Folder to write; it must not hold other files.
        config: Sizes and detector; the defaults are those of the environments.
        number: Samples of each split, from the first on; None is all.
        workers: Processes; None is one for each core.
        watch: Called with "pictures", how many samples are done, and how many there are.

    Returns:
        The data set of kept pictures.

    Raises:
        ImageError: a picture cannot be read.
        DataError: the folder holds something else, or cannot be written.
    """
    from actfer_env.data.views import ViewConfig, read_views, views_facts, write_views  # it loads Pillow

    config, target = config or ViewConfig(), expand(folder)
    given = [dataset] if isinstance(dataset, Dataset) else list(dataset)
    parts = [part for one in given for part in _by_split(one, number)]
    facts = views_facts(parts, config)
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    elif target.exists():
        kept = read_views(target)
        refuse_other(target, "data set", {name: kept.facts[name] for name in facts}, facts)
        return load_dataset("prepared", target)
    write = partial(write_views, parts, config, facts, target.parent / f"{target.name}.parts", workers, watch)
    return load_dataset("prepared", prepared(target.parent, target.name, write))


def _by_split(dataset: Dataset, number: int | None) -> list[Dataset]:
    """Return a data set's splits, so that the samples of each lie together."""
    splits = np.array([sample.split or "" for sample in dataset])
    names = [name for name in (*SPLITS, "") if (splits == name).any()]
    if len(names) == 1 and (number is None or number >= len(dataset)):
        return [dataset]
    return [subset(dataset, np.flatnonzero(splits == name)[:number]) for name in names]


def load_prepared(root: str | None, *, split: str | None = None, n: int | None = None) -> PreparedSamples:
    """Read a folder of kept pictures, written by `actfer data prepare`.

    Args:
        root: The folder.
        split: "train", "val", "test", "auto", or None for all.
        n: Samples, from the first on; None is all.

    Raises:
        DataError: it is no such folder, of another version or broken, or lacks the split.
    """
    if root is None:
        raise DataError("data set 'prepared' needs a folder: prepared:FOLDER, written by 'actfer data prepare'")
    from actfer_env.data.views import read_views

    views = read_views(os.path.realpath(expand(root)))
    names = np.repeat([name or "" for name, _ in views.facts["splits"]], [size for _, size in views.facts["splits"]])
    if split == AUTO:
        split = "train" if (names != "").any() else None
    rows = np.arange(len(views)) if split is None else np.flatnonzero(names == split)
    if not len(rows):
        raise DataError(lacks_split("prepared", str(split), Counter(name for name in names.tolist() if name)))
    return PreparedSamples(views, rows[:n], split)


load_prepared.info = PREPARED  # type: ignore[attr-defined]  # it takes split="auto"


class PreparedSamples(SampleSequence):
    """The samples of a folder of kept pictures, or some of them.

    Args:
        whole: The folder.
        rows: int (n,), which samples, ascending.
        split: The split that they are, or None.
    """

    def __init__(self, whole: PreparedImages, rows: NDArray[np.int64], split: str | None) -> None:
        self._whole, self._rows, self.split = whole, rows, split
        self.views = whole if len(rows) == len(whole) else whole.take(rows)
        self._made = lru_cache(maxsize=16_384)(self._sample)

    def __reduce__(self) -> Any:
        return PreparedSamples, (self._whole, self._rows, self.split)

    @property
    def splits(self) -> Counter[str | None]:
        """Number of samples of each split in the folder, or of the one that was taken."""
        if self.split is not None:
            return Counter({self.split: len(self)})
        counts: Counter[str | None] = Counter()
        for name, size in self._whole.facts["splits"]:
            counts[name] += size
        return counts

    def __len__(self) -> int:
        return len(self._rows)

    def _at(self, index: int) -> Sample:
        return self._made(int(self._rows[index]))

    def position(self, name: str) -> int | None:
        """Return the index of a sample id, or None."""
        records: Any = self._whole.records
        row = records.position(name)
        if row is None:
            return None
        place = int(np.searchsorted(self._rows, row))
        return place if place < len(self._rows) and self._rows[place] == row else None

    def _sample(self, row: int) -> Sample:
        kept = self._whole.records[row]
        original = partial(_original, json.dumps(self._whole.facts["arguments"][kept["source"]]), kept["id"])
        drawn = kept["drawn"]
        return Sample(
            id=kept["id"], source=kept["path"] or partial(_picture, original), emotion=kept["emotion"],
            aus=None if kept["aus"] is None else frozenset(kept["aus"]), split=kept["split"],
            prealigned=kept["prealigned"],
            meta={"image": f"{kept['id']} in {self._whole.folder}", **kept["meta"]},
            annotate=partial(_annotated, original) if drawn else None,
            landmarks=partial(_landmarks, original) if drawn else None,
        )  # fmt: skip


@lru_cache(maxsize=8)
def _opened(arguments: str) -> Dataset:
    return load_dataset(**json.loads(arguments))


def _original(arguments: str, name: str) -> Sample:
    dataset = _opened(arguments)
    return dataset[dataset.find(name)]


def _picture(original: Callable[[], Sample]) -> RGB:
    return original().load()


def _annotated(original: Callable[[], Sample]) -> Any:
    annotate = original().annotate
    return () if annotate is None else annotate()


def _landmarks(original: Callable[[], Sample]) -> Any:
    landmarks = original().landmarks
    return ({}, (0, 0)) if landmarks is None else landmarks()
