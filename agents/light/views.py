"""Pictures that episodes show, drawn once and kept on disk, so that training does not wait for the renderer.

The pictures are those of `FaceTools`, made by it in parallel processes; `ViewTools` hands them to episodes, which play
exactly as they would without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.agents.prepare import in_processes, naming_broken, prepared, prepared_name, read_arrays, write_arrays
from actfer_env.bounds import bounded, check_fields
from actfer_env.boxes import Box
from actfer_env.data import Dataset, Sample
from actfer_env.identity import dataset_facts, detector_facts
from actfer_env.images import RGB
from actfer_env.tools import FaceTools
from actfer_env.tools.align import Alignment
from actfer_env.tools.face_tools import CacheConfig
from actfer_env.tools.zoom import Crop, ZoomConfig

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

    image_size: int = bounded(96, ge=16, le=4096)
    face_size: int = bounded(64, ge=16, le=4096)
    crop_size: int = bounded(48, ge=16, le=4096)
    detector: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)

    def tools(self) -> FaceTools:
        """Return fresh tools of these sizes that keep next to nothing."""
        zoom = ZoomConfig(size=self.crop_size, stretch=True)
        return FaceTools(self.detector, zoom=zoom, cache=CacheConfig(images=2, drawn_bytes=2**20))


@dataclass(frozen=True)
class PreparedImages:
    """The pictures of a data set, in its order; arrays may be memory-mapped.

    Attributes:
        image: uint8 (n, s, s, 3), the raw picture fitted into a square.
        face: uint8 (n, s, s, 3), the aligned face, black without one.
        crops: uint8 (n, 4, s, s, 3), the regions in the order of `facs.REGIONS`.
        found: bool (n,), whether a face was found.
        emotion: int (n,), index into `facs.EMOTIONS`.
        aus: bool (n, AUs of `facs.CORE_AUS`).
        good: bool (n,), whether the picture's quality is good.
        alignments: Alignment of each sample, or None.
        crop_facts: Facts of each sample and region (box, inside, native).
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
) -> PreparedImages:  # fmt: skip
    """Draw a data set's pictures, or read them where an earlier call has left them.

    Args:
        dataset: its samples have an emotion and Action Units.
        folder: Folder of all prepared data sets; each has a folder of its own, named by what it holds.
        config: sizes and detector.
        workers: processes; default is one for each core.
        advance: called with the number of samples drawn, for a progress bar.

    Raises:
        ImageError: a picture cannot be read.
        DataError: the folder cannot be written, or holds broken files.
    """
    config = config or ViewConfig()

    def write(draft: Path) -> None:
        rows = in_processes(len(dataset), partial(_draw, dataset, config), workers, advance)
        arrays = {name: np.stack([row[name] for row in rows]) for name in _ARRAYS}
        write_arrays(draft, arrays, [[row["alignment"], row["crops_at"]] for row in rows])

    return _read(prepared(folder, views_name(dataset, config), write))


def views_name(dataset: Dataset, config: ViewConfig) -> str:
    """Return the folder's name of a data set's views, which changes with whatever changes their bytes."""
    facts = [dataset_facts(dataset, content=True), vars(config), detector_facts(config.detector)]
    return prepared_name("views", VIEWS_VERSION, facts)


def _draw(dataset: Dataset, config: ViewConfig, chunk: Sequence[int]) -> list[dict[str, Any]]:
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
        "image": tools.overview(sample, config.image_size), "face": face, "crops": crops, "crops_at": facts,
        "found": alignment is not None, "alignment": _plain(alignment), "emotion": emotion,
        "aus": np.array([au in (sample.aus or ()) for au in facs.CORE_AUS]),
        "good": sample.meta.get("quality", "good") == "good",
    }  # fmt: skip


def _plain(alignment: Alignment | None) -> dict[str, Any] | None:
    """Return an alignment as JSON values that lose no bit; what follows from the others is left out."""
    if alignment is None:
        return None
    kept = alignment.to_dict() | {"score": alignment.score}
    return {name: value for name, value in kept.items() if name not in ("roll", "regions", "regions_original")}


def _read(folder: Path) -> PreparedImages:
    with naming_broken(folder):
        arrays, facts = read_arrays(folder, _ARRAYS, mapped=_ARRAYS)
        # Plain arrays over the mapped files: indexing a `memmap` costs more than the copy of a crop.
        plain = {name: np.asarray(values) for name, values in arrays.items()}
        alignments = tuple(None if kept is None else Alignment.from_dict(kept) for kept, _ in facts)
        crops = tuple(tuple((tuple(box), inside, native) for box, inside, native in places) for _, places in facts)
        return PreparedImages(**plain, alignments=alignments, crop_facts=crops)


class ViewTools(FaceTools):
    """Tools that take a data set's pictures from its views; anything else is worked out as usual.

    Args:
        dataset: the data set.
        views: its views.
        config: Settings with which they were prepared.
    """

    def __init__(self, dataset: Dataset, views: PreparedImages, config: ViewConfig | None = None) -> None:
        config = config or ViewConfig()
        super().__init__(config.detector, zoom=ZoomConfig(size=config.crop_size, stretch=True))
        self._views = views
        self._index = {dataset[i].id: i for i in range(len(dataset))}

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
