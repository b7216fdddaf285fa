"""Data sets by name."""

from __future__ import annotations

import inspect
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from actfer_env.errors import DataError, short
from actfer_env.plugins import Registry
from actfer_env.sample import Dataset, Sample
from actfer_env.splits import AUTO, SPLITS, lacks_split

Loader: TypeAlias = Callable[..., Iterable[Sample]]
"""Loader of a data set: called as ``loader(root, **options)``, where `root` is a folder or file or None,
it returns the samples of all splits; a loader with a parameter `split` gets it, and returns that split alone. One that
`loaders.base.described` marks also gets "auto", and what it returns has the split that was taken as `split`."""

PREPARED = "prepared"
"""The data set of kept pictures; "prepared:FOLDER" is short for it and its root."""
DATASETS: Registry[Loader] = Registry("data set", "actfer_env.datasets", DataError)
"""The data sets by name."""


def register_dataset(name: str, loader: Loader, *, replace: bool = False) -> None:
    """Make a data set known by name to `load_dataset` and the environments, here and in workers that start from here.

    The command line knows it where it imports the module that registers it: `actfer --import MODULE ...`.

    Args:
        name: The name.
        loader: See `Loader`.
        replace: Allow a name that is taken.

    Raises:
        DataError: the name is taken or holds a colon.
    """
    DATASETS.register(name, loader, replace=replace)


def registered_datasets() -> Mapping[str, Loader]:
    """Return the registered loaders by name, those of plug-ins among them."""
    return DATASETS


def load_dataset(
    name: str, root: str | os.PathLike[str] | None = None, split: str | None = None, **options: Any
) -> Dataset:
    """Load a data set by name.

    Args:
        name: A registered name: "synthetic", "photos", "rafdb", ..., or one of your own; official names with their
            capitals and signs, such as "RAF-DB", are understood. "prepared:FOLDER" is a folder of kept pictures.
        root: Folder or file, for those that need one.
        split: "train", "val" or "test"; None is all, of drawn faces the train split; "auto" is
            the train split where the data set has splits, and all where it has none. Samples that name no split,
            beside others that do, are in no split.
        **options: passed to the loader.

    Returns:
        The samples, in the loader's order.

    Raises:
        DataError: unknown name, wrong option, a split that the data set does not have, a picture that is in two
            splits, or nothing to load.
        ImageError: the root does not exist or holds no image.
    """
    if name.startswith(f"{PREPARED}:"):
        if root is not None:
            raise DataError(f"{name!r} names its folder: leave out the root, {short(os.fspath(root))}")
        name, _, root = name.partition(":")
    name = known_name(name)
    DATASETS.find(name)
    if split not in (None, AUTO, *SPLITS):
        raise DataError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")
    place = None if root is None else os.fspath(root)
    samples, taken = _load(name, place, split, options)
    found = os.path.realpath(place) if place is not None and Path(place).exists() else place
    return Dataset(name, samples, {"name": name, "root": found, "split": taken, **options})


def as_dataset(
    dataset: str | Dataset, root: str | os.PathLike[str] | None = None, split: str | None = AUTO,
    preset: str | None = None,
) -> Dataset:  # fmt: skip
    """Return the data set of an environment's arguments: loaded by its name, or the given one.

    Args:
        dataset: A registered name, or a data set.
        root: See `load_dataset`.
        split: See `load_dataset`; of a given data set it is not asked.
        preset: Preset of drawn data sets; None is the data set's own.

    Raises:
        DataError: it is neither, or cannot be loaded, or a given data set with a preset.
    """
    if isinstance(dataset, str):
        return load_dataset(dataset, root, split, **({} if preset is None else {"preset": preset}))
    if not hasattr(dataset, "find"):
        raise DataError(f"dataset must be a registered name or a Dataset, not {short(dataset)}")
    if preset is not None:
        raise DataError(f"preset={preset!r} goes with a data set's name; load this one with load_dataset(..., preset=)")
    return dataset


def known_name(name: str) -> str:
    """Return the registered name that a name stands for, whatever its capitals and signs; else the name itself."""

    def bare(text: str) -> str:
        return re.sub(r"[\W_]", "", text.lower().replace("+", "plus"))

    if not isinstance(name, str) or name in DATASETS:
        return name
    return next((known for known in DATASETS if bare(known) == bare(name)), name)


def call_loader(name: str, place: str | None, split: str | None, options: Mapping[str, Any]) -> Iterable[Sample]:
    """Return what a data set's loader gives: of a split where it takes one, else the samples of all splits.

    Args:
        name: A registered name.
        place: The root.
        split: "train", "val", "test", "auto" or None.
        options: Options of the loader.

    Raises:
        DataError: an unknown name or a wrong option, or what the loader refuses.
    """
    loader = DATASETS.find(name)
    parameters = inspect.signature(loader).parameters
    _check_options(name, parameters, options)
    try:
        if "split" not in parameters:
            return list(loader(place, **options))
        wanted = "train" if split == AUTO and not hasattr(loader, "info") else split
        return loader(place, split=wanted, **options)
    except TypeError as error:
        raise DataError(f"data set {name!r}: {error}") from error


def _load(
    name: str, place: str | None, split: str | None, options: dict[str, Any]
) -> tuple[Iterable[Sample], str | None]:
    """Return the samples of a split, and the split that was taken."""
    samples = call_loader(name, place, split, options)
    if "split" in inspect.signature(DATASETS.find(name)).parameters:
        return samples, getattr(samples, "split", "train" if split == AUTO else split)
    samples = list(samples)
    _check_leak(name, samples)
    return _choose_split(samples, split, name)


def _check_options(name: str, parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Any]) -> None:
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [option for option in list(parameters)[1:] if option != "split"]
    for option in options:
        if option not in known:
            raise DataError(f"data set {name!r} has no option {option!r}: it takes {', '.join(known) or 'none'}")


def _check_leak(name: str, samples: Sequence[Sample]) -> None:
    """Refuse a picture that lies in two splits, under whatever names."""
    if len({sample.split for sample in samples} - {None}) < 2:
        return
    first: dict[str, Sample] = {}
    for sample in samples:
        if sample.split is None or not isinstance(sample.source, str | os.PathLike):
            continue
        path = os.path.realpath(sample.source)
        other = first.setdefault(path, sample)
        if other.split != sample.split and Path(path).exists():
            raise DataError(
                f"data set {name!r}: {path} is in {other.split} (sample {other.id!r}) and in {sample.split} "
                f"(sample {sample.id!r}): leave it in one split alone"
            )


def _choose_split(samples: Sequence[Sample], split: str | None, name: str) -> tuple[list[Sample], str | None]:
    """Return the samples of a split, and its name; refuse a split that the data set cannot give."""
    counts = Counter(sample.split for sample in samples if sample.split)
    if split is None or (split == AUTO and not counts):
        return list(samples), None
    wanted = "train" if split == AUTO else split
    if wanted not in counts:
        raise DataError(lacks_split(name, wanted, counts))
    return [sample for sample in samples if sample.split == wanted], wanted
