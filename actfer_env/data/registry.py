"""Data sets by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from actfer_env.data.sample import Dataset, Sample
from actfer_env.errors import DataError

SPLITS = ("train", "val", "test")
"""The names of splits."""


Loader: TypeAlias = Callable[..., Iterable[Sample]]
"""What is registered for a data set: called as ``loader(root, **options)``, where `root` is a folder or file or None,
it returns the samples of all splits; a loader with a parameter `split` gets it, and returns that split alone."""

_LOADERS: dict[str, Loader] = {}


def register_dataset(name: str, loader: Loader, *, replace: bool = False) -> None:
    """Make a data set known by name to `load_dataset`, the environments and the command line.

    Args:
        name: the name.
        loader: see `Loader`.
        replace: allow a name that is taken.

    Raises:
        DataError: the name is taken.
    """
    if name in _LOADERS and not replace:
        raise DataError(f"data set {name!r} is registered already: pass replace=True to replace it")
    _LOADERS[name] = loader


def registered_datasets() -> Mapping[str, Loader]:
    """Return the registered loaders by name."""
    return dict(_LOADERS)


def load_dataset(
    name: str, root: str | os.PathLike[str] | None = None, split: str | None = None, **options: Any
) -> Dataset:
    """Load a data set by name.

    Args:
        name: a registered name: "portrait", "photos", "jsonl", or one of your own.
        root: folder or file, for those that need one.
        split: "train", "val" or "test"; None is all, of "synthetic" and "synthetic-mixed" the train split. A data set
            none of whose samples names a split gives all of them; where some do, the others are in no split.
        **options: passed to the loader.

    Returns:
        The samples, in the loader's order.

    Raises:
        DataError: unknown name, wrong option, or nothing to load.
        ImageError: the root does not exist or holds no image.
    """
    if name not in _LOADERS:
        raise DataError(f"unknown data set {name!r}: use one of {', '.join(sorted(_LOADERS))}")
    if split is not None and split not in SPLITS:
        raise DataError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    place = None if root is None else os.fspath(root)
    found = os.path.realpath(place) if place is not None and Path(place).exists() else place
    return Dataset(name, _load(name, place, split, options), {"name": name, "root": found, "split": split, **options})


def _load(name: str, place: str | None, split: str | None, options: dict[str, Any]) -> Iterable[Sample]:
    loader = _LOADERS[name]
    try:
        if "split" in inspect.signature(loader).parameters:
            return loader(place, split=split, **options)
        samples = list(loader(place, **options))
    except TypeError as error:
        raise DataError(f"data set {name!r}: {error}") from error
    named = any(sample.split for sample in samples)
    return [sample for sample in samples if split is None or not named or sample.split == split]
