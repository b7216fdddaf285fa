"""Pictures that episodes show, made once and kept on disk, so that nothing waits for the renderer or the detector.

The pictures are those of `FaceTools`, made by it in parallel processes; `ViewTools` hands them to episodes, which play
exactly as they would without it. A folder of views also holds ids and labels: as "prepared:FOLDER" it is a data set,
see `actfer_env.data.prepared`.
"""

from __future__ import annotations

# Longer than 400 lines: what a folder holds is written, read and shown in one place, so that the three agree.
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.boxes import Box
from actfer_env.errors import DataError
from actfer_env.files import draft_file
from actfer_env.identity import as_json, dataset_facts, detector_facts, refuse_other
from actfer_env.images import RGB
from actfer_env.prepare import (
    FACTS,
    LAYOUT_VERSION,
    in_processes,
    naming_broken,
    new_array,
    prepared,
    prepared_name,
    read_arrays,
    read_facts,
    write_arrays,
)
from actfer_env.progress import Watch
from actfer_env.sample import Dataset, Sample
from actfer_env.tools import FaceTools
from actfer_env.tools.align import Alignment
from actfer_env.tools.face_tools import CacheConfig
from actfer_env.tools.sampling import sharpness
from actfer_env.tools.zoom import Crop, ZoomConfig

VIEWS_VERSION = 2
"""Raised whenever the same data and sizes give other files."""


@dataclass(frozen=True)
class ViewConfig:
    """Sizes of the pictures; the defaults are those of the environments (DESIGN).

    Attributes:
        image_size: Side of the raw picture's square, pixels.
        face_size: Side of the aligned face.
        crop_size: Side of a crop.
        detector: The detector's spec.
    """

    image_size: int = bounded(96, ge=16, le=4096)
    face_size: int = bounded(64, ge=16, le=4096)
    crop_size: int = bounded(48, ge=16, le=4096)
    detector: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def sides(self) -> tuple[int, int, int]:
        """Sides of the raw picture, the face and the crops."""
        return self.image_size, self.face_size, self.crop_size

    def tools(self) -> FaceTools:
        """Return fresh tools of these sizes that keep next to nothing."""
        zoom = ZoomConfig(size=self.crop_size, stretch=True)
        return FaceTools(self.detector, zoom=zoom, cache=CacheConfig(images=2, drawn_bytes=2**20))


@dataclass(frozen=True)
class PreparedImages:
    """The pictures of a data set, in its order; arrays are mapped from files, which all processes share.

    Attributes:
        image: uint8 (n, s, s, 3), the raw picture fitted into a square.
        face: uint8 (n, s, s, 3), the aligned face, black without one.
        crops: uint8 (n, 4, s, s, 3), the regions in the order of `facs.REGIONS`.
        found: bool (n,), whether a face was found.
        emotion: int (n,), index into `facs.EMOTIONS`; -1 where there is no label.
        aus: bool (n, AUs of `facs.CORE_AUS`).
        coded: Bool (n,), whether Action Units were annotated.
        quality: Int (n,), 1 where the picture is labelled good, 0 where it is labelled otherwise, -1 without a label.
        focus: Float (n,), variance of the Laplacian of the aligned face; 0 without one.
        records: Facts of each sample that are no array, as JSON values; see `_row`.
        folder: Folder that holds them.
        facts: Facts of the folder.
        rows: Rows of the folder that these are; None is all.
    """

    image: NDArray[np.uint8]
    face: NDArray[np.uint8]
    crops: NDArray[np.uint8]
    found: NDArray[np.bool_]
    emotion: NDArray[np.int64]
    aus: NDArray[np.bool_]
    coded: NDArray[np.bool_]
    quality: NDArray[np.int8]
    focus: NDArray[np.float32]
    records: Sequence[dict[str, Any]]
    folder: Path
    facts: Mapping[str, Any]
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.emotion)

    def __reduce__(self) -> Any:
        """Travel as the folder's name: the process at the other end maps the same files."""
        return _reopen, (self.folder, self.rows)

    @property
    def config(self) -> ViewConfig:
        """Sizes and detector."""
        return ViewConfig(**self.facts["config"])

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Good quality of each picture, bool (n,).

        Where there is no label of quality, a picture is good whose face is at least as sharp as the median one.
        """
        sharp = self.focus >= (np.median(self.focus[self.found]) if self.found.any() else 0)
        return np.where(self.quality < 0, sharp, self.quality == 1)

    @property
    def alignments(self) -> Sequence[Alignment | None]:
        """The alignment of each sample, or None; read when it is asked for."""
        return _Each(self.records, _alignment)

    @property
    def crop_facts(self) -> Sequence[tuple[tuple[Box, float, float], ...]]:
        """Of each sample and region (box, inside, native); read when it is asked for."""
        return _Each(self.records, _crop_facts)

    def take(self, rows: NDArray[np.int64]) -> PreparedImages:
        """Return some of them, without a copy of the pictures.

        Args:
            rows: Indices of the samples, int (m,).

        Returns:
            Their pictures and facts, in the order of the indices.
        """
        parts = {name: getattr(self, name) for name in _ARRAYS}
        small = {name: values[rows] for name, values in parts.items() if name not in _PICTURES}
        large: dict[str, Any] = {name: _Rows(parts[name], rows) for name in _PICTURES}
        kept = rows if self.rows is None else self.rows[rows]
        records: Any = _Rows(self.records, rows)
        return PreparedImages(**large, **small, records=records, folder=self.folder, facts=self.facts, rows=kept)

    def check(self, detector: Any = "auto", **sizes: int) -> None:
        """Compare what an environment asks for with what is kept here.

        Args:
            detector: A spec; "auto" is the folder's own.
            **sizes: `image_size`, `face_size`, `crop_size`.

        Raises:
            DataError: they differ; the message names each that does.
        """
        from actfer_env.tools.detectors.cached import absolute_spec

        found, wanted = {name: self.facts["config"][name] for name in sizes}, dict[str, Any](sizes)
        if detector != "auto":
            spec = absolute_spec(detector) if isinstance(detector, str) else type(detector).__name__
            kept = self.facts["detector"]["spec"]
            if kept == "auto":
                kept = "simulated" if self.records[0]["drawn"] else "mtcnn"
            found["detector"], wanted["detector"] = kept, spec
        refuse_other(self.folder, "data set", found, wanted)

    def tools(self, dataset: Dataset) -> ViewTools:
        """Return tools that show these pictures.

        Args:
            dataset: The samples that they are of.
        """
        return ViewTools(dataset, self, self.config)


_PICTURES = ("image", "face", "crops")
_ARRAYS = (*_PICTURES, "found", "emotion", "aus", "coded", "quality", "focus")
_TABLE = ("records", "starts", "hashes", "places")


class _Rows:
    """Some rows of an array or a sequence, which are looked up when they are asked for."""

    def __init__(self, values: Any, rows: NDArray[np.int64]) -> None:
        self._values, self._rows = values, rows

    def __getitem__(self, index: Any) -> Any:
        return self._values[self._rows[index]]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *self._values.shape[1:])


class _Each(Sequence[Any]):
    """Values made of the records, each when it is asked for."""

    def __init__(self, records: Sequence[dict[str, Any]], make: Callable[[dict[str, Any]], Any]) -> None:
        self._records, self._make = records, make

    def __getitem__(self, index: Any) -> Any:
        return self._make(self._records[index])

    def __len__(self) -> int:
        return len(self._records)


class Records(Sequence[dict[str, Any]]):
    """The records of a folder, read one by one from mapped bytes, and found by the sample's id.

    Args:
        data: uint8, their JSON texts one after the other.
        starts: int (n + 1,), where each begins.
        hashes: uint64 (n,), of the ids, ascending.
        places: int (n,), the index of the sample with each of these.
    """

    def __init__(
        self, data: NDArray[np.uint8], starts: NDArray[np.int64], hashes: NDArray[np.uint64], places: NDArray[np.int64]
    ) -> None:
        self._data, self._starts, self._hashes, self._places = data, starts, hashes, places
        self._read = lru_cache(maxsize=4096)(self._parse)

    def __getitem__(self, index: Any) -> Any:
        return self._read(int(index))

    def __len__(self) -> int:
        return len(self._places)

    def position(self, name: str) -> int | None:
        """Return the index of a sample id, or None."""
        wanted = _hash(name)
        low, high = (int(np.searchsorted(self._hashes, wanted, side)) for side in ("left", "right"))
        return next((place for place in self._places[low:high].tolist() if self[place]["id"] == name), None)

    def _parse(self, index: int) -> dict[str, Any]:
        return dict(json.loads(self._data[self._starts[index] : self._starts[index + 1]].tobytes()))


def _hash(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()))


def prepare(
    dataset: Dataset, folder: str | os.PathLike[str], config: ViewConfig | None = None, *, workers: int | None = None,
    watch: Watch | None = None,
) -> PreparedImages:  # fmt: skip
    """Draw a data set's pictures, or read them where an earlier call has left them.

    Args:
        dataset: Its samples; one of kept pictures ("prepared:FOLDER") has them already.
        folder: Folder of all prepared data sets; each has a folder of its own, named by what it holds.
        config: Sizes and detector.
        workers: Processes; default is one for each core.
        watch: Called with "pictures", how many samples are drawn, and how many there are.

    Raises:
        ImageError: a picture cannot be read.
        DataError: the folder cannot be written, holds broken files, or the kept pictures are of other sizes.
    """
    config = config or ViewConfig()
    if dataset.views is not None:
        kept: PreparedImages = dataset.views
        sizes = {name: value for name, value in vars(config).items() if name != "detector"}
        kept.check(config.detector, **sizes)
        return kept
    facts = views_facts([dataset], config)
    name = prepared_name("views", VIEWS_VERSION, facts)
    write = partial(write_views, [dataset], config, facts, Path(folder) / f"{name}.parts", workers, watch)
    return read_views(prepared(folder, name, write))


def views_name(dataset: Dataset, config: ViewConfig) -> str:
    """Return the folder's name of a data set's views, which changes with whatever changes their bytes."""
    return prepared_name("views", VIEWS_VERSION, views_facts([dataset], config))


def views_facts(datasets: Sequence[Dataset], config: ViewConfig) -> dict[str, Any]:
    """Return what views are of, as JSON values."""
    return dict(as_json({
        "sources": [dataset_facts(one, content=True) for one in datasets], "config": asdict(config),
        "detector": detector_facts(config.detector),
    }))  # fmt: skip


def write_views(
    datasets: Sequence[Dataset], config: ViewConfig, facts: Mapping[str, Any], parts: Path, workers: int | None,
    watch: Watch | None, draft: Path,
) -> None:  # fmt: skip
    """Make the pictures of data sets, and write them into a folder as one.

    The work is kept in parts, so that a killed one goes on where it stopped; they are removed at the end.

    Args:
        datasets: Their samples come one after the other.
        config: Sizes and detector.
        facts: Facts of `views_facts`.
        parts: Folder of the parts.
        workers: Processes; None is one for each core.
        watch: Called with "pictures", how many samples are done, and how many there are.
        draft: An empty folder.

    Raises:
        DataError: two samples with one id, or the folder cannot be written.
    """
    sizes = [len(dataset) for dataset in datasets]
    n, mark = sum(sizes), prepared_name("part", VIEWS_VERSION, facts)
    done = in_processes(n, partial(_make_part, datasets, config, parts, mark), workers, watch)
    if parts.is_dir():  # what a run with other settings has left does not belong to this one
        wanted = set(done)
        for path in parts.iterdir():
            if path.name.startswith("part-") and path.name not in wanted:
                path.unlink()
    arrays: dict[str, NDArray[Any]] = {}
    lines: list[bytes] = []
    at = 0
    for name in dict.fromkeys(done):
        with np.load(parts / name, allow_pickle=False) as part:
            size = len(part["found"])
            for key in _ARRAYS:
                values = part[key]
                if key not in arrays:
                    arrays[key] = new_array(draft, key, (n, *values.shape[1:]), values.dtype)
                arrays[key][at : at + size] = values
            text = part["records"].tobytes()
        lines += text.splitlines(keepends=True)
        at += size
    labels = [json.loads(line) for line in lines]
    hashes = np.array([_hash(one["id"]) for one in labels])
    twice = [name for name, count in Counter(one["id"] for one in labels).items() if count > 1]
    if twice:
        raise DataError(f"two samples have one id, {twice[0]!r}: prepare these data sets in two folders")
    table: dict[str, NDArray[Any]] = {
        "records": np.frombuffer(b"".join(lines), np.uint8), "places": np.argsort(hashes, kind="stable"),
        "starts": np.cumsum([0, *map(len, lines)]), "hashes": np.sort(hashes, kind="stable"),
    }  # fmt: skip
    for values in arrays.values():
        values.flush()  # type: ignore[attr-defined]
    splits = [[split, len(list(ones))] for split, ones in groupby(one["split"] for one in labels)]
    ends = np.cumsum([len(dataset) for dataset in datasets]).tolist()
    arguments = [dataset.arguments for dataset in datasets]
    write_arrays(draft, table, {
        **facts, "layout": LAYOUT_VERSION, "version": VIEWS_VERSION, "samples": n, "splits": splits, "ends": ends,
        "arguments": as_json(arguments),
    })  # fmt: skip
    shutil.rmtree(parts, ignore_errors=True)


def _make_part(
    datasets: Sequence[Dataset], config: ViewConfig, parts: Path, mark: str, chunk: Sequence[int]
) -> list[str]:
    """Make the part of some samples, unless it is there; return its name for each of them."""
    path = parts / f"{mark}-{chunk[0]:08d}-{len(chunk)}.npz"
    if not path.exists():
        tools, rows = config.tools(), []
        ends = np.cumsum([len(dataset) for dataset in datasets])
        for index in chunk:
            which = int(np.searchsorted(ends, index, "right"))
            dataset = datasets[which]
            rows.append(_row(dataset[index - int(ends[which])], tools, config, which))  # counted from the end
        text = "".join(json.dumps(row.pop("record"), default=str, allow_nan=False) + "\n" for row in rows)
        arrays: dict[str, Any] = {name: np.stack([row[name] for row in rows]) for name in _ARRAYS}
        with draft_file(path) as draft, draft.open("wb") as handle:
            np.savez(handle, records=np.frombuffer(text.encode(), np.uint8), **arrays)
    return [path.name] * len(chunk)


def _row(sample: Sample, tools: FaceTools, config: ViewConfig, source: int) -> dict[str, Any]:
    alignment, side = tools.alignment(sample), config.crop_size
    face, focus = np.zeros((config.face_size, config.face_size, 3), np.uint8), 0.0
    crops = np.zeros((len(facs.REGIONS), side, side, 3), np.uint8)
    facts: list[tuple[Box, float, float]] = []
    if alignment is not None:
        face = tools.face(sample, alignment, config.face_size)
        made = [tools.crop(sample, alignment, alignment.regions[name], name) for name in facs.REGIONS]
        crops = np.stack([crop.image for crop in made])
        facts = [(crop.box, crop.inside, crop.native) for crop in made]
        focus = sharpness(face)
    emotion = -1 if sample.emotion is None else facs.EMOTIONS.index(sample.emotion)
    quality = sample.meta.get("quality")
    path = os.path.realpath(sample.source) if isinstance(sample.source, str | os.PathLike) else None
    record = {
        "id": sample.id, "emotion": sample.emotion, "aus": None if sample.aus is None else sorted(sample.aus),
        "split": sample.split, "prealigned": sample.prealigned, "meta": sample.meta, "path": path,
        "drawn": sample.annotate is not None, "source": source, "alignment": _plain(alignment), "crops": facts,
    }  # fmt: skip
    return {
        "image": tools.overview(sample, config.image_size), "face": face, "crops": crops,
        "found": alignment is not None, "emotion": np.int64(emotion),
        "aus": np.array([au in (sample.aus or ()) for au in facs.CORE_AUS]), "coded": sample.aus is not None,
        "quality": np.int8(-1 if quality is None else quality == "good"), "focus": np.float32(focus), "record": record,
    }  # fmt: skip


def _plain(alignment: Alignment | None) -> dict[str, Any] | None:
    """Return an alignment as JSON values that lose no bit; what follows from the others is left out."""
    if alignment is None:
        return None
    kept = alignment.to_dict() | {"score": float(alignment.score)}
    return {name: value for name, value in kept.items() if name not in ("roll", "regions", "regions_original")}


def _alignment(record: Mapping[str, Any]) -> Alignment | None:
    return None if record["alignment"] is None else Alignment.from_dict(record["alignment"])


def _crop_facts(record: Mapping[str, Any]) -> tuple[tuple[Box, float, float], ...]:
    return tuple((Box(*box), inside, native) for box, inside, native in record["crops"])


def read_views(folder: str | os.PathLike[str]) -> PreparedImages:
    """Open a folder of views; pictures and records stay on the disk.

    Raises:
        DataError: it is no such folder, is of another version, or a file is missing or broken.
    """
    place = Path(folder)
    again = f"prepare it again: actfer data prepare NAME --out {place}"
    if not (place / FACTS).is_file() and not any(place.glob("*.npy")):
        raise DataError(f"{place} holds no prepared data set ({FACTS} is missing): {again}")
    with naming_broken(place):
        facts = read_facts(place)
        found = {name: facts[name] for name in ("layout", "version")}
    if found != {"layout": LAYOUT_VERSION, "version": VIEWS_VERSION}:
        raise DataError(f"{place} was prepared as version {found['layout']}.{found['version']}, this package reads "
                        f"{LAYOUT_VERSION}.{VIEWS_VERSION}: {again}")  # fmt: skip
    with naming_broken(place):
        arrays, _ = read_arrays(place, (*_ARRAYS, *_TABLE), mapped=(*_PICTURES, *_TABLE))
        # Plain arrays over the mapped files: indexing a `memmap` costs more than the copy of a crop.
        plain: dict[str, Any] = {name: np.asarray(values) for name, values in arrays.items()}
        config, n = ViewConfig(**facts["config"]), facts["samples"]
        shapes = {
            "image": (n, config.image_size, config.image_size, 3), "face": (n, config.face_size, config.face_size, 3),
            "crops": (n, len(facs.REGIONS), config.crop_size, config.crop_size, 3), "found": (n,), "emotion": (n,),
            "aus": (n, len(facs.CORE_AUS)), "coded": (n,), "quality": (n,), "focus": (n,),
            "hashes": (n,), "places": (n,), "starts": (n + 1,), "records": (int(plain["starts"].flat[-1]),),
        }  # fmt: skip
        for name, shape in shapes.items():
            if plain[name].shape != shape:
                raise ValueError(f"{name}.npy has the shape {plain[name].shape}, not {shape}")
        records = Records(*(plain.pop(name) for name in _TABLE))
        return PreparedImages(**plain, records=records, folder=place, facts=facts)


def _reopen(folder: Path, rows: NDArray[np.int64] | None) -> PreparedImages:
    whole = read_views(folder)
    return whole if rows is None else whole.take(rows)


class ViewTools(FaceTools):
    """Tools that take a data set's pictures from its views; anything else is worked out as usual.

    Args:
        dataset: The data set.
        views: Its views.
        config: Settings with which they were prepared.
    """

    def __init__(self, dataset: Dataset, views: PreparedImages, config: ViewConfig | None = None) -> None:
        config = config or ViewConfig()
        super().__init__(config.detector, zoom=ZoomConfig(size=config.crop_size, stretch=True))
        self._views, self._dataset = views, dataset
        self._index: dict[str, int] = {}

    def alignment(self, sample: Sample) -> Alignment | None:
        """Return the sample's alignment, or None if no face was found."""
        index = self._at(sample)
        with self._lock:
            return self._alignments.get(index, lambda: (_alignment(self._views.records[index]),))[0]

    def overview(self, sample: Sample, side: int) -> RGB:
        """Return the sample's picture in a square.

        Args:
            sample: A sample of the data set.
            side: Side of the square, pixels.

        Returns:
            The picture, RGB uint8 (side, side, 3); read-only.
        """
        image = self._views.image[self._at(sample)]
        return image if len(image) == side else super().overview(sample, side)

    def face(self, sample: Sample, alignment: Alignment, side: int) -> RGB:
        """Return the sample's aligned face.

        Args:
            sample: A sample of the data set.
            alignment: Its alignment.
            side: Side of the result, pixels.

        Returns:
            The face, RGB uint8 (side, side, 3); read-only.
        """
        face = self._views.face[self._at(sample)]
        return face if len(face) == side else super().face(sample, alignment, side)

    def crop(self, sample: Sample, alignment: Alignment, box: Box, region: str | None) -> Crop:
        """Return the crop of a region as it was prepared, or draw that of a box."""
        if region is None:
            return super().crop(sample, alignment, box, region)
        index, place = self._at(sample), facs.REGIONS.index(region)

        def kept() -> Crop:
            where, inside, native = _crop_facts(self._views.records[index])[place]
            return Crop(self._views.crops[index][place], where, inside, native, region)

        with self._lock:
            return self._crops.get((index, region), kept)

    def _at(self, sample: Sample) -> int:
        index = self._index.get(sample.id)
        if index is None:
            index = self._index[sample.id] = self._dataset.find(sample.id)
        return index
