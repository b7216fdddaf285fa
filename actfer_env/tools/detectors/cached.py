"""Detections kept in a folder, for every process that reads it: "cached:FOLDER" and "cached-only:FOLDER".

`actfer_env.data.precompute` fills the folder. It belongs to one detector, named in ``detector.json``, and holds
shards ``0012/5f3c....sqlite``. SQLite comes with Python and finds a row without reading the rest of its file. A shard
is written once, renamed into its place and opened read-only without locks, so that any number of processes may read
and write at once, on network folders too, where SQLite's locks cannot be relied upon.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DataError, DetectorError
from actfer_env.files import draft_file, expand
from actfer_env.tools.detectors.base import Detector, Face, make_detector
from actfer_env.tools.orientation import detect_in, settings_of

if TYPE_CHECKING:
    from actfer_env.sample import Sample

FORMAT = 1
ABOUT = "detector.json"
"""Name of the file that says whose detections a folder holds."""
PRECOMPUTE = "actfer data precompute DATASET --detector DETECTOR --out FOLDER"
"""Command that fills a folder, for messages."""

_TABLE = "CREATE TABLE faces (sample TEXT, picture TEXT, faces TEXT, PRIMARY KEY (sample, picture)) WITHOUT ROWID"


@dataclass(frozen=True)
class Row:
    """Kept detections of one sample.

    Attributes:
        sample: Its id.
        picture: `picture_digest` of its picture.
        faces: The faces found, or None where the picture could not be read.
    """

    sample: str
    picture: str
    faces: list[Face] | None


class DetectionStore:
    """A folder of detections; `open` and `create` make it.

    Attributes:
        folder: The folder.
        spec: The detector's spec.
        settings: Settings of the detector, as `settings_of` returns them.
        buckets: Into how many sub-folders samples are spread, by their ids.
    """

    def __init__(self, folder: Path, spec: str, settings: dict[str, Any], buckets: int) -> None:
        self.folder, self.spec, self.settings, self.buckets = folder, spec, settings, buckets

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> DetectionStore:
        """Open a folder.

        Args:
            folder: Folder that `create` made.

        Returns:
            The store.

        Raises:
            DetectorError: it holds no detections, or those of another version.
        """
        path = expand(folder)
        try:
            about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
            version, known = about["format"], (str(about["spec"]), about["settings"], int(about["buckets"]))
        except OSError as error:
            raise DetectorError(f"{str(path)!r} holds no detections: run: {PRECOMPUTE}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DetectorError(f"{str(path / ABOUT)!r} is broken: delete the folder, and run: {PRECOMPUTE}") from error
        if version != FORMAT:
            raise DetectorError(f"{str(path)!r} holds detections of format {version}, not {FORMAT}: make them again")
        return cls(path, *known)

    @classmethod
    def create(cls, folder: str | os.PathLike[str], spec: str, buckets: int) -> DetectionStore:
        """Open a folder, or make it.

        Args:
            folder: Folder of the store.
            spec: Spec of the detector; the path of a file in it is made absolute.
            buckets: Number of buckets of a new folder; an old one keeps its own.

        Raises:
            DetectorError: the folder holds another detector's work, or there is no such detector.
            DataError: the folder cannot be written.
        """
        spec, path = absolute_spec(spec), expand(folder)
        settings = settings_of(make_detector(spec))
        about = {"format": FORMAT, "spec": spec, "settings": settings, "buckets": buckets}
        if not (path / ABOUT).exists():
            with draft_file(path / ABOUT, replace=False) as draft:
                draft.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        store = cls.open(path)
        store.check(spec, settings)
        return store

    def check(self, spec: str, settings: dict[str, Any]) -> None:
        """Compare a detector with the one whose detections are here.

        Args:
            spec: Spec of the detector.
            settings: Its settings, as `settings_of` returns them.

        Raises:
            DetectorError: they differ.
        """
        if settings != self.settings:
            raise DetectorError(
                f"{str(self.folder)!r} holds detections of {self.spec!r} with other settings or weights than {spec!r}: "
                "choose another folder, or the same detector"
            )

    def bucket(self, sample: str) -> int:
        """Return the sub-folder of a sample's id, from 0.

        Args:
            sample: The sample.
        """
        return int.from_bytes(hashlib.blake2b(sample.encode(), digest_size=8).digest(), "big") % self.buckets

    def shard(self, bucket: int, name: str) -> Path:
        """Return the path of a shard, which need not exist."""
        return self.folder / f"{bucket:04d}" / f"{name}.sqlite"

    def find(self, sample: str, picture: str) -> list[Face] | None:
        """Return the faces of a sample's picture, or None where they are not known.

        Args:
            sample: The sample.
            picture: Digest of its picture, of `picture_digest`.

        Raises:
            DetectorError: a shard is broken.
        """
        for path in sorted((self.folder / f"{self.bucket(sample):04d}").glob("*.sqlite")):
            with _reading(path) as base:
                query = "SELECT faces FROM faces WHERE sample = ? AND picture = ? AND faces IS NOT NULL"
                found = base.execute(query, (sample, picture)).fetchone()
            if found:
                return [_face(data) for data in json.loads(found[0])]
        return None

    @staticmethod
    def counts(path: Path) -> tuple[int, int]:
        """Return how many rows a shard holds, and how many of them are of pictures that could not be read.

        Args:
            path: The shard.

        Returns:
            Number of rows, and number of unread pictures among them.

        Raises:
            DetectorError: the shard is broken or not there.
        """
        with _reading(path) as base:
            rows, failed = base.execute("SELECT count(*), count(*) - count(faces) FROM faces").fetchone()
        return int(rows), int(failed)

    @staticmethod
    def write(path: Path, rows: Iterable[Row]) -> None:
        """Write a shard; it appears when it is whole, and replaces one of its name.

        Args:
            path: The shard.
            rows: Its rows.

        Raises:
            DetectorError: the folder cannot be written.
        """
        try:
            with draft_file(path) as draft:
                _fill(draft, rows)
        except (DataError, sqlite3.Error) as error:
            raise DetectorError(f"cannot write {path}: {error}; choose a folder that can be written") from error


class CachedDetector:
    """Reads a sample's faces from a folder, and detects where the folder does not know them.

    Attributes:
        hits: Number of samples that were read.
        misses: Number of times that the detector itself ran.

    Args:
        folder: Folder that `actfer data precompute` wrote.
        miss: "detect" runs the folder's detector and says so once; "error" refuses.

    Raises:
        DetectorError: the folder holds no detections, or `miss` is unknown.
    """

    def __init__(self, folder: str | os.PathLike[str], miss: Literal["detect", "error"] = "detect") -> None:
        if miss not in ("detect", "error"):
            raise DetectorError(f"unknown miss {miss!r}: use detect or error")
        self.store, self.miss = DetectionStore.open(folder), miss
        self.name = f"cached:{self.store.spec}"
        self.hits, self.misses = 0, 0
        self._inner: Detector | None = None

    @property
    def inner(self) -> Detector:
        """The folder's detector, built on first use.

        Raises:
            DetectorError: it is not here, or its weights or settings are others by now.
        """
        if self._inner is None:
            inner = make_detector(self.store.spec)
            self.store.check(self.store.spec, settings_of(inner))
            self._inner = inner
        return self._inner

    @property
    def turns(self) -> bool:
        """True if the folder's detector is asked about turned copies of a bare picture."""
        return "orientation" in self.store.settings

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of an RGB image (H, W, 3), always by the detector: a bare picture has no id.

        Args:
            image: RGB picture, uint8 (H, W, 3).

        Returns:
            The faces, in pixels of the image.

        Raises:
            DetectorError: `miss` is "error".
        """
        self._missed("a picture without a sample")
        return self.inner.detect(image)

    def detect_sample(self, sample: Sample, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of a sample.

        Args:
            sample: The sample.
            image: Its picture, RGB uint8 (H, W, 3).

        Returns:
            The faces, in pixels of the image.

        Raises:
            DetectorError: they are not kept and `miss` is "error", or a shard is broken.
        """
        found = self.store.find(sample.id, picture_digest(image))
        if found is not None:
            self.hits += 1
            return found
        self._missed(f"sample {sample.id!r} with this picture")
        return detect_in(self.inner, sample, image)

    def settings(self) -> dict[str, Any]:
        """Return those of the folder's detector, whose results these are."""
        return self.store.settings

    def _missed(self, what: str) -> None:
        where = f"{what} is not in {str(self.store.folder)!r}"
        if self.miss == "error":
            raise DetectorError(f"{where}: run: {PRECOMPUTE}")
        if not self.misses:
            warnings.warn(f"{where}: detecting this and any other that is missing", RuntimeWarning, stacklevel=3)
        self.misses += 1


def picture_digest(image: NDArray[np.uint8]) -> str:
    """Return 32 hexadecimal digits that stand for the pixels of an RGB image (H, W, 3).

    Args:
        image: RGB picture, uint8 (H, W, 3).
    """
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def absolute_spec(spec: str) -> str:
    """Make a file in a spec absolute: workers have other working directories.

    Args:
        spec: Spec of a detector, such as "yunet:model.onnx".

    Returns:
        The spec with an absolute path.
    """
    name, colon, argument = spec.partition(":")
    if name == "unturned" and colon:
        return f"{name}:{absolute_spec(argument)}"
    path = expand(argument)
    return f"{name}:{path.resolve()}" if colon and path.exists() else spec


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as base:
            yield base
    except sqlite3.Error as error:
        raise DetectorError(f"cannot read {path} ({error}): delete it, and run: {PRECOMPUTE}") from error


def _fill(path: Path, rows: Iterable[Row]) -> None:
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = OFF")  # a draft that fails is thrown away, and leaves no journal beside it
        base.execute(_TABLE)
        base.executemany("INSERT OR REPLACE INTO faces VALUES (?, ?, ?)", (_values(row) for row in rows))
        base.commit()


def _values(row: Row) -> tuple[str, str, str | None]:
    return row.sample, row.picture, None if row.faces is None else json.dumps([_plain(face) for face in row.faces])


def _plain(face: Face) -> dict[str, Any]:
    """Return JSON values; Python writes floats so that they read back as they were."""
    dense = None if face.landmarks_106 is None else face.landmarks_106.tolist()
    return {"box": [float(value) for value in face.box], "landmarks": face.landmarks.tolist(),
            "score": float(face.score), "landmarks_106": dense, "meta": face.meta}  # fmt: skip


def _face(data: dict[str, Any]) -> Face:
    x1, y1, x2, y2 = data["box"]
    dense = None if data["landmarks_106"] is None else np.asarray(data["landmarks_106"], np.float64)
    return Face((x1, y1, x2, y2), np.asarray(data["landmarks"], np.float64), data["score"], dense, data["meta"])
