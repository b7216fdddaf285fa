"""Outcomes in journals, a shard of samples each, so that memory does not grow with the data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actfer_env.curate.lines import Outcome, parse_outcome
from actfer_env.files import Journal, make_folder

PIXELS = 1024
_MAPPED = 4096
"""Thumbnails that are written before the file is mapped anew, so that their pages do not stay in this process."""


class Outcomes:
    """Outcomes of the samples of a data set, in files of `shard_size` samples, and thumbnails beside them.

    Args:
        folder: The curation's folder.
        count: Samples in all.
        shard_size: Samples of a file.
        sync: Whether an outcome is on the disk when it is kept; those that cost nothing need not be.
    """

    def __init__(self, folder: Path, count: int, shard_size: int, sync: bool = True) -> None:
        self._sync = sync
        self.folder, self.count, self.shard_size = folder / "lines", count, shard_size
        self._path = folder / "thumbnails.npy"
        self._thumbnails: NDArray[np.int8] | None = None
        self._written = 0

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.count // self.shard_size)

    def journal(self, shard: int) -> Journal[Outcome]:
        """Return the journal of a shard."""
        return Journal(self.folder / f"{shard:05d}.jsonl", parse_outcome, key=lambda outcome: outcome.index,
                       sync=self._sync)  # fmt: skip

    def members(self, shard: int) -> range:
        """Return the indices of a shard's samples."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.count))

    def missing(self) -> Iterator[int]:
        """Yield the indices of samples that have no outcome yet, in order; one shard is read at a time."""
        for shard in range(self.shards):
            done = {outcome.index for outcome in self.journal(shard).read()}
            yield from (index for index in self.members(shard) if index not in done)

    def keep(self, outcome: Outcome, thumbnail: NDArray[np.int8] | None) -> None:
        """Keep an outcome; the thumbnail first, so that every line has one.

        Raises:
            DataError: the folder cannot be written.
        """
        if thumbnail is not None:
            self.thumbnails[outcome.index] = thumbnail
            self._written += 1
            if self._written % _MAPPED == 0:
                self._thumbnails = None
        self.journal(outcome.index // self.shard_size).append(outcome.to_json())

    def read(self) -> Iterator[Outcome]:
        """Yield all outcomes in the order of the samples; one shard is held in memory at a time."""
        for shard in range(self.shards):
            members = self.members(shard)
            yield from sorted((one for one in self.journal(shard).read() if one.index in members),
                              key=lambda one: one.index)  # fmt: skip

    @property
    def thumbnails(self) -> NDArray[np.int8]:
        """Thumbnails of all samples, int8 (at least count, 1024), mapped from a file that grows where it must."""
        if self._thumbnails is None or len(self._thumbnails) < self.count:
            make_folder(self._path.parent)
            old = np.load(self._path, mmap_mode="r") if self._path.exists() else np.zeros((0, PIXELS), np.int8)
            if len(old) < self.count:
                grown = self._path.with_suffix(".new.npy")
                made = np.lib.format.open_memmap(grown, "w+", np.int8, (self.count, PIXELS))
                made[: len(old)] = old
                made.flush()
                del made, old
                grown.replace(self._path)
            self._thumbnails = np.load(self._path, mmap_mode="r+")
        return self._thumbnails
