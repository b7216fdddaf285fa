"""`Sample` and `Dataset`: a picture with its labels, and an ordered collection of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from actfer_env.errors import DataError
from actfer_env.tools.image import RGB, ImageSource, load_image


@dataclass(frozen=True)
class Sample:
    """One picture and its labels.

    Attributes:
        id: unique within the data set.
        source: what `load_image` reads, or a function without arguments that returns it.
        emotion: one of `facs.EMOTIONS`, or None where there is no label.
        aus: Action Units, or None where they were not annotated; an empty set means that none is active.
        split: "train", "val" or "test", or None.
        prealigned: the picture is an aligned face already.
        meta: JSON values: "dataset", "image" (a reference for people), "quality", and what the source says.
        annotate: returns the true faces of a drawn picture, for the detector "simulated"; None for photos.
    """

    id: str
    source: ImageSource | Callable[[], ImageSource] = field(repr=False)
    emotion: str | None = None
    aus: frozenset[int] | None = None
    split: str | None = None
    prealigned: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    annotate: Callable[[], Sequence[Any]] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def key(self) -> Hashable:
        """Identifies the picture and how it is taken, across data sets, for caches."""
        return (self.meta.get("dataset"), self.id, self.meta.get("image"), self.prealigned)

    @property
    def image(self) -> RGB:
        """The picture, uint8 (H, W, 3), decoded at each access.

        Raises:
            ImageError: it cannot be read.
        """
        return self.load()

    def load(self) -> RGB:
        """Decode the picture; see `image`."""
        source = self.source() if callable(self.source) else self.source
        name = str(source) if isinstance(source, str | os.PathLike) else self.id
        return load_image(source, name=name)


class Dataset(Sequence[Sample]):
    """An ordered, immutable collection of samples.

    Attributes:
        name: the loader's name.
        arguments: what the loader was called with, so that a stored run can load the same data again.

    Samples that are made on demand come as a sequence with a method ``position(id) -> int | None``.

    Raises:
        DataError: no samples, or two with one id.
    """

    def __init__(self, name: str, samples: Iterable[Sample], arguments: dict[str, Any] | None = None) -> None:
        self.name, self.arguments = name, arguments or {}
        lazy = isinstance(samples, Sequence) and hasattr(samples, "position")
        self._samples: Sequence[Sample] = samples if lazy else tuple(samples)  # type: ignore[assignment]
        self._index = {} if lazy else {sample.id: i for i, sample in enumerate(self._samples)}
        self._position: Callable[[str], int | None] = getattr(self._samples, "position", self._index.get)
        if not self._samples:
            raise DataError(f"data set {name!r} has no samples for {self.arguments or 'these arguments'}")
        if not lazy and len(self._index) < len(self._samples):
            raise DataError(f"data set {name!r} has two samples with one id")

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        return self._samples[index]

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} samples)"

    def find(self, which: int | str) -> int:
        """Return the index of a sample, given its index or id.

        Raises:
            DataError: there is no such sample.
        """
        if isinstance(which, str):
            index = self._position(which)
            if index is None:
                raise DataError(f"no sample {which!r} in data set {self.name!r}; the first id is {self[0].id!r}")
            return index
        if not 0 <= which < len(self):
            raise DataError(f"sample {which} is beyond the {len(self)} samples of data set {self.name!r}")
        return int(which)
