"""`Sample` and `Dataset`: a picture with its labels, and an ordered collection of them."""

from __future__ import annotations

import operator
import os
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

from actfer_env import facs
from actfer_env.errors import DataError, LabelError, plain, short
from actfer_env.images import RGB, ImageSource, load_image
from actfer_env.splits import format_splits


@dataclass(frozen=True)
class Sample:
    """One picture and its labels; labels may come in any known spelling.

    Attributes:
        id: Unique within the data set.
        source: Anything that `load_image` reads, or a function without arguments that returns it.
        emotion: One of `facs.EMOTIONS`, or None where there is no label.
        aus: Action Units, or None where they were not annotated; an empty set means that none is active.
        split: "train", "val" or "test", or None.
        prealigned: The picture is an aligned face already.
        meta: JSON values: "dataset", "image" (a reference for people), "quality", "au_sides" (Action Units on one side
            of the face, {"AU12": "L"}), "intensities" (of coded units, {"AU12": 3} on the scale 0 to 5), "subject"
            (who it shows), and what the source says.
        annotate: Returns the true faces of a drawn picture, the labelled one last, for the detector "simulated"; None
            for photos.
        landmarks: Returns the labelled face's landmarks by name, in pixels (pixel centres at whole numbers), and the
            picture's (width, height), where both are known without drawing it; None where not.

    Raises:
        LabelError: an emotion or Action Unit that the taxonomy does not know.
    """

    id: str
    source: ImageSource | Callable[[], ImageSource] = field(repr=False)
    emotion: str | None = None
    aus: frozenset[int] | None = None
    split: str | None = None
    prealigned: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    annotate: Callable[[], Sequence[Any]] | None = field(default=None, repr=False, compare=False)
    landmarks: Callable[[], tuple[Mapping[str, Sequence[float]], tuple[int, int]]] | None = field(
        default=None, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Bring the labels into the taxonomy's spelling."""
        try:
            emotion = None if self.emotion is None else facs.parse_emotion(self.emotion)
            aus = None if self.aus is None else facs.parse_aus(self.aus)
            sides = {} if self.aus is None or self.aus == aus else facs.parse_au_sides(self.aus)
        except (LabelError, TypeError) as error:
            raise LabelError(f"sample {self.id!r}: {error}") from error
        object.__setattr__(self, "id", plain(str(self.id)))
        object.__setattr__(self, "emotion", emotion)
        object.__setattr__(self, "aus", aus)
        if sides:
            spelled = {facs.format_au(unit): side for unit, side in sides.items()}
            object.__setattr__(self, "meta", {**self.meta, "au_sides": spelled})

    @cached_property
    def key(self) -> Hashable:
        """Identifies the picture and how it is taken, across data sets, for caches."""
        picture: Hashable = self.meta.get("image")
        if picture is None:
            source = self.source
            picture = os.fspath(source) if isinstance(source, str | os.PathLike) else _Same(source)
        return (self.meta.get("dataset"), self.id, picture, self.prealigned)

    @property
    def subject(self) -> str | None:
        """Person whom the picture shows, by the data set's own name or number; None where that is not known."""
        found = self.meta.get("subject", self.meta.get("identity"))
        return None if found is None else str(found)

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


class _Same:
    """Compares an object that has no value to compare by as itself, and keeps it alive."""

    def __init__(self, it: object) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)


class SampleSequence(Sequence[Sample]):
    """Base of sequences that make a sample when it is asked for: they define `__len__`, `position` and `_at`."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._at(index % len(self))

    @abstractmethod
    def position(self, name: str) -> int | None:
        """Return the index of a sample id, or None."""

    @abstractmethod
    def _at(self, index: int) -> Sample:
        """Return the sample at 0 <= index < len(self)."""


class Dataset(Sequence[Sample]):
    """An ordered, immutable collection of samples.

    Attributes:
        name: The loader's name.
        arguments: Arguments that the loader was called with, so that a stored run can load the same data again.

    Samples that are made on demand come as a sequence with a method ``position(id) -> int | None``, and may count
    themselves in an attribute ``splits``.

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
            twice = next(sample.id for i, sample in enumerate(self._samples) if self._index[sample.id] != i)
            raise DataError(f"data set {name!r} has two samples with one id, {twice!r}")

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

    @property
    def views(self) -> Any:
        """The kept pictures of the samples, an `data.views.PreparedImages`, of "prepared:FOLDER"; else None."""
        return getattr(self._samples, "views", None)

    @property
    def picked(self) -> bool:
        """True if these are some samples of what the arguments load; see `actfer_env.data.subset`."""
        return getattr(self._samples, "picked", False)

    def describe(self, number: int | None = None) -> str:
        """Return in one line how many samples of which split these are.

        Args:
            number: Number of samples that are taken, from the first on; None is all.
        """
        count = min(number or len(self), len(self))
        split = self.arguments.get("split")
        counts = getattr(self._samples, "splits", None)  # of samples that are made on demand
        if split is None and (self._index or counts):
            if counts is not None and count == len(self):
                split = format_splits(counts)
            else:
                split = format_splits(self[index].split for index in range(count))
            split = f"splits: {split}" if "no splits" not in split else split
        else:
            split = f"split {split or self[0].split}"
        of = "" if count == len(self) else f" of {len(self)}"
        return f"{self.name}: {count}{of} sample{'' if count == 1 and not of else 's'}, {split}"

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
        try:
            place = operator.index(which)
        except TypeError:
            raise DataError(f"sample {short(which)} is neither an index nor an id of data set {self.name!r}") from None
        if not 0 <= place < len(self):
            raise DataError(f"sample {place} is beyond the {len(self)} samples of data set {self.name!r}")
        return place
