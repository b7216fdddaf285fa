"""What episodes show, drawn once and kept on disk, so that training does not wait for the renderer.

The pictures are those of `FaceTools`, made by it in parallel processes; `ViewTools` hands them to episodes, which play
exactly as they would without it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.boxes import Box
from actfer_env.data import Dataset, Sample
from actfer_env.errors import DataError
from actfer_env.files import draft_folder
from actfer_env.identity import dataset_facts, detector_facts, digest
from actfer_env.plugins import Carrying
from actfer_env.tools import FaceTools
from actfer_env.tools.align import Alignment
from actfer_env.tools.cache import CacheConfig
from actfer_env.tools.image import RGB
from actfer_env.tools.zoom import Crop, ZoomConfig

_CHUNK = 64
VIEWS_VERSION = 1
"""Raised whenever the same data and sizes give other files."""


@dataclass(frozen=True)
class ViewConfig:
    """Sizes of the pictures; the defaults are those of the environments (DESIGN).

    Attributes:
        image_size: side of the raw picture's square, pixels.
        face_size: side of the aligned face.
        crop_size: side of a crop.
        detector: the detector's spec.
    """

    image_size: int = 96
    face_size: int = 64
    crop_size: int = 48
    detector: str = "auto"

    def tools(self) -> FaceTools:
        """Return fresh tools of these sizes that keep next to nothing."""
        zoom = ZoomConfig(size=self.crop_size, stretch=True)
        return FaceTools(self.detector, zoom=zoom, cache=CacheConfig(images=2, drawn_bytes=2**20))


@dataclass(frozen=True)
class Views:
    """The pictures of a data set, in its order; arrays may be memory-mapped.

    Attributes:
        image: uint8 (n, s, s, 3), the raw picture fitted into a square.
        face: uint8 (n, s, s, 3), the aligned face, black without one.
        crops: uint8 (n, 4, s, s, 3), the regions in the order of `facs.REGIONS`.
        found: bool (n,), whether a face was found.
        emotion: int (n,), index into `facs.EMOTIONS`.
        aus: bool (n, AUs of `facs.CORE_AUS`).
        good: bool (n,), whether the picture's quality is good.
        alignments: of each sample, or None.
        crop_facts: of each sample and region (box, inside, native).
    """

    image: NDArray[np.uint8]
    face: NDArray[np.uint8]
    crops: NDArray[np.uint8]
    found: NDArray[np.bool_]
    emotion: NDArray[np.int64]
    aus: NDArray[np.bool_]
    good: NDArray[np.bool_]
    alignments: tuple[Alignment | None, ...]
    crop_facts: tuple[tuple[tuple[Box, float, float], ...], ...]

    def __len__(self) -> int:
        return len(self.emotion)


_ARRAYS = ("image", "face", "crops", "found", "emotion", "aus", "good")


def prepare(
    dataset: Dataset, folder: str | os.PathLike[str], config: ViewConfig | None = None, *, workers: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Views:  # fmt: skip
    """Draw a data set's pictures, or read them where an earlier call has left them.

    Args:
        dataset: its samples have an emotion and Action Units.
        folder: of all prepared data sets; each has a folder of its own, named by what it holds.
        config: sizes and detector.
        workers: processes; default is one for each core.
        advance: called with the number of samples drawn, for a progress bar.

    Raises:
        ImageError: a picture cannot be read.
        DataError: the folder cannot be written, or holds broken files.
    """
    config = config or ViewConfig()
    target = Path(folder) / views_name(dataset, config)
    if not target.is_dir():
        with draft_folder(target) as draft:
            _draw_all(dataset, config, draft, workers or os.cpu_count() or 1, advance)
    return _read(target)


def views_name(dataset: Dataset, config: ViewConfig) -> str:
    """Return the folder's name of a data set's views, which changes with whatever changes their bytes."""
    facts = [VIEWS_VERSION, dataset_facts(dataset, content=True), vars(config), detector_facts(config.detector)]
    return f"views-{digest(facts)}"


def _draw_all(
    dataset: Dataset, config: ViewConfig, folder: Path, workers: int, advance: Callable[[int], None] | None
) -> None:
    from joblib import Parallel, delayed

    chunks = [range(start, min(start + _CHUNK, len(dataset))) for start in range(0, len(dataset), _CHUNK)]
    draw = delayed(Carrying(_draw))
    jobs = (draw(dataset, chunk, config) for chunk in chunks)
    rows: list[dict[str, Any]] = []
    for part in Parallel(n_jobs=min(workers, len(chunks)), return_as="generator")(jobs):
        rows += part
        if advance is not None:
            advance(len(rows))
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", np.stack([row[name] for row in rows]))
    facts = tuple(row["alignment"] for row in rows), tuple(row["facts"] for row in rows)
    (folder / "facts.pickle").write_bytes(pickle.dumps(facts))


def _draw(dataset: Dataset, chunk: Iterable[int], config: ViewConfig) -> list[dict[str, Any]]:
    import cv2

    cv2.setNumThreads(1)
    tools = config.tools()
    return [_row(dataset[index], tools, config) for index in chunk]


def _row(sample: Sample, tools: FaceTools, config: ViewConfig) -> dict[str, Any]:
    alignment, side = tools.alignment(sample), config.crop_size
    face = np.zeros((config.face_size, config.face_size, 3), np.uint8)
    crops = np.zeros((len(facs.REGIONS), side, side, 3), np.uint8)
    facts: list[tuple[Box, float, float]] = []
    if alignment is not None:
        face = tools.face(sample, alignment, config.face_size)
        made = [tools.crop(sample, alignment, alignment.regions[name], name) for name in facs.REGIONS]
        crops = np.stack([crop.image for crop in made])
        facts = [(crop.box, crop.inside, crop.native) for crop in made]
    emotion = facs.EMOTIONS.index(sample.emotion or "neutral")
    return {
        "image": tools.overview(sample, config.image_size), "face": face, "crops": crops, "facts": tuple(facts),
        "found": alignment is not None, "alignment": alignment, "emotion": emotion,
        "aus": np.array([au in (sample.aus or ()) for au in facs.CORE_AUS]),
        "good": sample.meta.get("quality", "good") == "good",
    }  # fmt: skip


def _read(folder: Path) -> Views:
    try:
        # Plain arrays over the mapped files: indexing a `memmap` costs more than the copy of a crop.
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _ARRAYS}
        alignments, facts = pickle.loads((folder / "facts.pickle").read_bytes())
    except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{folder} is broken ({error}): delete it and run again") from error
    return Views(**arrays, alignments=alignments, crop_facts=facts)


class ViewTools(FaceTools):
    """Tools that take a data set's pictures from its views; anything else is worked out as usual.

    Args:
        dataset: the data set.
        views: its views.
        config: as they were prepared.
    """

    def __init__(self, dataset: Dataset, views: Views, config: ViewConfig | None = None) -> None:
        self._view_config = config = config or ViewConfig()
        super().__init__(config.detector, zoom=ZoomConfig(size=config.crop_size, stretch=True))
        self._dataset, self._views = dataset, views
        self._index = {dataset[i].id: i for i in range(len(dataset))}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the views."""
        return ViewTools, (self._dataset, self._views, self._view_config)

    def alignment(self, sample: Sample) -> Alignment | None:
        """Return the sample's alignment, or None if no face was found."""
        return self._views.alignments[self._index[sample.id]]

    def overview(self, sample: Sample, side: int) -> RGB:
        """Return the sample's picture in a square."""
        image = self._views.image[self._index[sample.id]]
        return image if len(image) == side else super().overview(sample, side)

    def face(self, sample: Sample, alignment: Alignment, side: int) -> RGB:
        """Return the sample's aligned face."""
        face = self._views.face[self._index[sample.id]]
        return face if len(face) == side else super().face(sample, alignment, side)

    def crop(self, sample: Sample, alignment: Alignment, box: Box, region: str | None) -> Crop:
        """Return the crop of a region as it was prepared, or draw that of a box."""
        if region is None:
            return super().crop(sample, alignment, box, region)
        index, place = self._index[sample.id], facs.REGIONS.index(region)
        where, inside, native = self._views.crop_facts[index][place]
        return Crop(self._views.crops[index, place], where, inside, native, region)
