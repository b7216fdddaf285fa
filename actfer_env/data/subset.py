"""Some samples of a data set, in an order of their own."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DataError
from actfer_env.sample import Dataset, Sample, SampleSequence


class Subset(SampleSequence):
    """Samples of a data set, looked up when they are asked for.

    Args:
        dataset: The data set.
        rows: int (k,), their indices in it, each once.
        again: int (m,), indices among the k of samples that come again after them, for those who draw uniformly.
    """

    picked = True

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64], again: NDArray[np.int64] | None = None) -> None:
        self.dataset, self.rows = dataset, np.asarray(rows, np.int64)
        self._order = self.rows if again is None else np.concatenate([self.rows, self.rows[again]])

    def __len__(self) -> int:
        return len(self._order)

    def _at(self, index: int) -> Sample:
        return self.dataset[int(self._order[index])]

    def position(self, name: str) -> int | None:
        """Return the first index of a sample id, or None."""
        try:
            return self._places.get(self.dataset.find(name))
        except DataError:
            return None

    @cached_property
    def _places(self) -> dict[int, int]:
        return {row: place for place, row in enumerate(self.rows.tolist())}

    @cached_property
    def views(self) -> Any:
        """The kept pictures of the k samples, or None; see `Dataset.views`."""
        return None if self.dataset.views is None else self.dataset.views.take(self.rows)


def subset(dataset: Dataset, rows: NDArray[np.int64], again: NDArray[np.int64] | None = None) -> Dataset:
    """Return a `Subset` as a data set, with the arguments of the whole, among which its samples are found by id."""
    return Dataset(dataset.name, Subset(dataset, rows, again), dataset.arguments)
