"""Detection of a data set once and for all, into a folder that the detector "cached:FOLDER" reads.

Memory does not grow with the data set, but for 12 bytes a sample. A killed run loses the shards in work, one a worker.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env.bounds import bounded, check_fields
from actfer_env.data.references import reference, sample_of
from actfer_env.errors import DataError, DetectorError, ImageError
from actfer_env.files import sweep
from actfer_env.plugins import changes, parallel
from actfer_env.progress import Watch
from actfer_env.sample import Dataset, Sample
from actfer_env.tools.detectors.base import Detector, make_detector
from actfer_env.tools.detectors.cached import DetectionStore, Row, picture_digest
from actfer_env.tools.orientation import detect_in


@dataclass(frozen=True)
class PrecomputeConfig:
    """Settings of the detection; sizes chosen here.

    Attributes:
        detector: Its spec.
        shard_size: Samples of a shard, about; of a new folder.
        number: Samples in all; None is the whole data set.
        workers: Processes.
        part: (i, n) makes the i-th of n parts, from 0, for several machines on one folder.
    """

    detector: str = "auto"
    shard_size: int = bounded(512, ge=1)
    number: int | None = bounded(None, ge=1)
    workers: int = bounded(1, ge=1)
    part: tuple[int, int] = bounded((0, 1), ge=0)

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.part[0] < self.part[1]:
            raise DataError(f"part {self.part[0]} of {self.part[1]} does not exist: parts count from 0")


@dataclass
class Precomputed:
    """Figures of a finished run.

    Attributes:
        detected: Samples on which the detector ran.
        kept: Samples that were there already.
        prealigned: Samples that need no detection.
        faceless: Number of samples without a face among the detected ones.
        unread: Pictures that could not be read.
        failures: One line for each of these, and for each broken shard that was made again.
    """

    detected: int = 0
    kept: int = 0
    prealigned: int = 0
    faceless: int = 0
    unread: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Precomputed) -> None:
        """Add another run's counts to these."""
        for name in ("detected", "kept", "prealigned", "faceless", "unread"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures += other.failures

    @property
    def total(self) -> int:
        """Samples seen, but for those that could not be read."""
        return self.detected + self.kept + self.prealigned


def precompute(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    config: PrecomputeConfig | None = None,
    watch: Watch | None = None,
) -> Precomputed:
    """Detect every sample of a data set once; a later call goes on where this one stopped.

    Shards of pictures that have changed are made again. Several processes may work on one folder.

    Args:
        dataset: A data set of `load_dataset`.
        folder: Folder to write; several data sets may share it, for one detector.
        config: Detector and sizes.
        watch: Called after each shard with "pictures", how many are done, how many there are, and the counts so far.

    Returns:
        The counts.

    Raises:
        DetectorError: the folder holds another detector's work, or the detector lacks its extra or weights.
        DataError: the folder cannot be written.
    """
    config, done = config or PrecomputeConfig(), Precomputed()
    _detector.cache_clear()
    count = min(len(dataset), config.number or len(dataset))
    store = DetectionStore.create(folder, config.detector, -(-count // config.shard_size))
    shards = _shards(dataset, store, count, config)
    try:
        for counts in _parallel(shards, dataset, store, config.workers):
            done.add(counts)
            if watch is not None:
                names = ("detected", "kept", "prealigned", "faceless", "unread")
                watch("pictures", done.total, sum(map(len, shards)), {name: getattr(done, name) for name in names})
    finally:  # workers that were killed leave drafts
        for bucket in store.folder.iterdir():
            sweep(bucket)
    return done


def _shards(dataset: Dataset, store: DetectionStore, count: int, config: PrecomputeConfig) -> list[NDArray[np.int32]]:
    """Return the indices of each shard of this part; processes begin at different ones, so that they share the work."""
    buckets = np.fromiter((store.bucket(dataset[index].id) for index in range(count)), np.int32, count)
    order = np.argsort(buckets, kind="stable").astype(np.int32)
    shards = np.split(order, np.flatnonzero(np.diff(buckets[order])) + 1)[config.part[0] :: config.part[1]]
    start = os.getpid() % max(1, len(shards))
    return shards[start:] + shards[:start]


def _parallel(
    shards: Sequence[NDArray[np.int32]], dataset: Dataset, store: DetectionStore, workers: int
) -> Iterator[Precomputed]:
    def jobs() -> Iterator[tuple[Any, ...]]:
        for indices in shards:
            samples: list[Any] = [dataset[int(index)] for index in indices]
            if workers > 1:  # a reference travels to another process, a sample need not
                samples = [reference(sample, dataset) for sample in samples]
            yield samples, store

    yield from parallel(_make, jobs(), workers)


def _make(found: Sequence[Any], store: DetectionStore) -> Precomputed:
    """Make the shard of these samples or references, unless it is there and whole."""
    samples = [sample if isinstance(sample, Sample) else sample_of(sample) for sample in found]
    wanted = [sample for sample in samples if not sample.prealigned]
    done = Precomputed(prealigned=len(samples) - len(wanted))
    # The shard's name changes with its samples and with their files.
    name = hashlib.sha256(json.dumps([_state(sample) for sample in wanted]).encode()).hexdigest()[:24]
    path = store.shard(store.bucket(samples[0].id), name)
    if not wanted or _whole(path, done):
        done.kept += len(wanted)
    else:
        detector = _detector(store.spec, changes())
        store.write(path, (row for sample in wanted for row in _row(sample, store, detector, done)))
    return done


def _state(sample: Sample) -> list[Any]:
    state: list[Any] = [sample.id, repr(sample.meta.get("image"))]
    if isinstance(sample.source, str | os.PathLike) and Path(sample.source).exists():
        found = Path(sample.source).stat()
        state += [found.st_size, found.st_mtime_ns]
    return state


def _whole(path: Path, done: Precomputed) -> bool:
    """Tell whether a shard is there, can be read and lacks nothing; a broken one is removed, to be made again."""
    if not path.exists():
        return False
    try:
        return DetectionStore.counts(path)[1] == 0
    except DetectorError as error:
        done.failures.append(f"{str(error).partition(':')[0]}: made again")
        path.unlink(missing_ok=True)
        return False


def _row(sample: Sample, store: DetectionStore, detector: Detector, done: Precomputed) -> Iterator[Row]:
    """Give a sample's row: found in a shard of other samples, or detected."""
    try:
        image = sample.load()
    except ImageError as error:
        done.failures.append(str(error))
        done.unread += 1
        yield Row(sample.id, "", None)
        return
    picture = picture_digest(image)
    faces = store.find(sample.id, picture)
    done.kept += faces is not None
    if faces is None:
        faces = detect_in(detector, sample, image)
        done.detected += 1
        done.faceless += not faces
    yield Row(sample.id, picture, faces)


@lru_cache(maxsize=1)
def _detector(spec: str, registered: int) -> Detector:
    return make_detector(spec)
