"""`actfer inspect`: the tools alone, on images."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.data import Sample
from actfer_env.envs.panel import Panel
from actfer_env.episode import Episode
from actfer_env.errors import ActFERError, DataError
from actfer_env.images import RGB, save_png
from actfer_env.plugins import parallel
from actfer_env.tools import Face, FaceTools, ZoomConfig
from actfer_env.tools.align import DEFAULT_SIZE, FaceChoice
from actfer_env.tools.detectors import LANDMARKS, Detector, make_detector
from actfer_env.tools.orientation import detect_in

Faces: TypeAlias = FaceChoice | Literal["all"]
"""Faces that are inspected: one, or every one that is found, in order of size."""

SAVED = ("faces", "crops")
"""Pictures that may be saved besides the panels."""

_SOURCE = "actfer-image"  # key of the text in a PNG that tells whose picture it is
_LONGEST = 120  # bytes of a name; with an ending and in a draft it stays below the 255 of most file systems
_PICTURE = re.compile(rf"(.*)\.(?:inspect|face|{'|'.join(facs.REGIONS)})(?:-\d+)?\.png", re.DOTALL)


@dataclass(frozen=True)
class InspectConfig:
    """Settings of an inspection.

    Attributes:
        detector: Its spec.
        size: Side of the aligned face, and long side of crops, in pixels, 16 to 4096.
        face: Choice of the face, or "all".
        out: Folder for the pictures.
        panels: Draw a picture of all that was found.
        save: Any of `SAVED`: the aligned face as ``NAME.face.png``, the crops as ``NAME.REGION.png``.

    Raises:
        DataError: something unknown in `save`.
        ValueError: a size out of bounds.
    """

    detector: str = "auto"
    size: int = bounded(DEFAULT_SIZE, ge=16, le=4096)
    face: Faces = "largest"
    out: Path = Path("actfer-inspect")
    panels: bool = True
    save: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for what in self.save:
            if what not in SAVED:
                raise DataError(f"cannot save {what!r}: use {' or '.join(SAVED)}, or both with a comma")

    @property
    def writes(self) -> bool:
        """True if any picture is written."""
        return self.panels or bool(self.save)


@dataclass(frozen=True)
class Inspected:
    """Outcome of the inspection of one image.

    Attributes:
        path: The image.
        records: JSON values, one for each face that was looked at, or a single one that says that there is none.
        error: Reason why there are none, in one line; None where all went well.
    """

    path: Path
    records: tuple[dict[str, Any], ...] = ()
    error: str | None = None


def parse_face(text: str) -> Faces:
    """Return the face choice that a command-line argument stands for.

    Raises:
        DataError: it is neither "largest" nor "all", nor an index, nor a point.
    """
    if text == "largest":
        return "largest"
    if text == "all":
        return "all"
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    if len(numbers) == 1 and numbers[0] >= 0 and numbers[0].is_integer():
        return int(numbers[0])
    raise DataError(f"--face {text!r}: use 'largest', 'all', an index such as 1, or a point such as 310,120")


def make_tools(detector: str | Detector, size: int, face: FaceChoice) -> FaceTools:
    """Return tools for looking at single images; `size` is the long side of crops in pixels."""
    return FaceTools(detector, zoom=ZoomConfig(size=size), face=face)


def picture_names(paths: Sequence[Path], out: Path | None = None) -> list[str]:
    """Return a name for each image's pictures, without ending; no two are the same on any file system.

    It is the image's stem, cut where it is too long, with a number where another image has that name: one of
    `paths`, or one whose picture an earlier run has left in `out`.

    Args:
        paths: The images.
        out: The folder for the pictures, which need not be there.
    """
    owners = _owners(out, {_folded(_cut(path.stem)) for path in paths}) if out else {}
    taken: set[str] = set()
    names = []
    for path in paths:
        stem, mine, number = _cut(path.stem), {source_mark(path)}, 1
        name = stem
        while _folded(name) in taken or owners.get(_folded(name), mine) != mine:
            number += 1
            name = f"{stem}-{number}"
        taken.add(_folded(name))
        names.append(name)
    return names


def source_mark(path: Path) -> str:
    """Return 16 hexadecimal digits that stand for an image's place; pictures of it carry them."""
    return hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def inspect_image(path: Path, tools: FaceTools, out: Path, name: str | None = None) -> dict[str, Any]:
    """Detect, align and zoom into all four regions of one image, and write the picture of it.

    Args:
        path: The image.
        tools: See `make_tools`.
        out: Folder for the pictures.
        name: Name of the picture, without its ending; default is the image's stem.

    Returns:
        JSON values: the image, what detect_align and zoom_in returned, and the picture's path.

    Raises:
        ImageError: the image cannot be read.
        DetectorError: the detector lacks its extra or weights, or there is no such face.
        DataError: the picture cannot be written.
    """
    config = InspectConfig(size=tools.zoom.size, face=tools.choice, out=out)
    return inspect_faces(path, tools.detector, config, name)[0]


def inspect_faces(
    path: Path, detector: Detector, config: InspectConfig, name: str | None = None
) -> list[dict[str, Any]]:
    """Detect, align and zoom into all four regions of the faces of one image, and write what is asked for.

    Args:
        path: The image; it is decoded and detected once.
        detector: The detector.
        config: Settings; its `detector` is not looked at.
        name: Name of the pictures, without ending; default is the image's stem.

    Returns:
        JSON values of each face: the image, what detect_align and zoom_in returned, and the paths of its pictures.
        Where no face is found there is one record with ``found`` false.

    Raises:
        ImageError: the image cannot be read.
        DetectorError: there is no such face.
        DataError: a picture cannot be written.
    """
    meta = {"dataset": "photos", "image": str(path)}
    image = Sample(path.name, path, meta=meta).load()
    sample = Sample(path.name, image, meta=meta)
    found = _Found(detect_in(detector, sample, image), detector.name)
    every = config.face == "all"
    choices: list[Any] = list(range(max(len(found.faces), 1))) if every else [config.face]
    record = {"image": str(path), "detector": detector.name}
    records = []
    for choice in choices:
        episode = Episode(sample, make_tools(found, config.size, choice))
        aligned = episode.detect_align().alignment
        crops = episode.zoom_in(list(facs.REGIONS)).crops if aligned else ()
        told = {"found": aligned is not None, **episode.calls[0].result, "crops": [crop.to_dict() for crop in crops]}
        pictures = _pictures(episode, config)
        ending = f"-{choice}.png" if every and len(choices) > 1 else ".png"
        files = {kind: config.out / f"{name or _cut(path.stem)}.{kind}{ending}" for kind in pictures}
        for kind, picture in pictures.items():
            save_png(picture, files[kind], quick=True, text={_SOURCE: source_mark(path)})
        shown = {"picture": str(files.pop("inspect"))} if config.panels else {}
        saved = {"saved": {kind: str(file) for kind, file in files.items()}} if config.save else {}
        records.append(record | told | shown | saved)
    return records


def inspect_all(paths: Sequence[Path], config: InspectConfig | None = None, *, workers: int = 1) -> Iterator[Inspected]:
    """Inspect many images; a broken one does not stop the others.

    Args:
        paths: The images.
        config: Settings.
        workers: Processes.

    Yields:
        What became of each image, in the order of `paths`.

    Raises:
        DetectorError: the detector is unknown, or lacks its extra or weights.
    """
    config = config or InspectConfig()
    _detector(config.detector)  # fails before any work
    names = picture_names(paths, config.out if config.writes else None)
    yield from parallel(_inspect, zip(paths, names, repeat(config)), workers, batch_size=1)


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of `inspect_faces` as a table's cells, the same ones for each record; None where it lacks one."""
    points = record.get("landmarks") or [[None, None]] * len(LANDMARKS)
    crops = {crop["region"]: crop for crop in record.get("crops", ())}
    pictures = record.get("saved", {})
    cells = {key: record.get(key) for key in _PLAIN}
    cells |= dict(zip(("x1", "y1", "x2", "y2"), record.get("box") or [None] * 4, strict=True))
    for name, (x, y) in zip(LANDMARKS, points, strict=True):
        cells |= {f"{name}_x": x, f"{name}_y": y}
    for region in facs.REGIONS:
        crop = crops.get(region, {})
        cells |= {f"{region}_{key}": crop.get(key) for key in ("inside", "native")}
    return (
        cells
        | {"picture": record.get("picture")}
        | {f"{key}_file": pictures.get(key) for key in ("face", *facs.REGIONS)}
    )


_PLAIN = ("image", "detector", "found", "faces", "index", "score", "rotated", "roll", "upright")


def _inspect(path: Path, name: str, config: InspectConfig) -> Inspected:
    try:
        return Inspected(path, tuple(inspect_faces(path, _detector(config.detector), config, name)))
    except ActFERError as error:
        return Inspected(path, error=str(error))


@lru_cache(maxsize=1)
def _detector(spec: str) -> Detector:
    return make_detector(spec)


class _Found:
    """A detector that knows the faces of the one picture that it is asked about."""

    def __init__(self, faces: list[Face], name: str) -> None:
        self.faces, self.name = faces, name

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        return self.faces


def _pictures(episode: Episode, config: InspectConfig) -> dict[str, RGB]:
    """Return the pictures to be written by their kind."""
    pictures: dict[str, RGB] = {}
    if "faces" in config.save and episode.alignment:
        pictures["face"] = episode.tools.face(episode.sample, episode.alignment, config.size)
    if "crops" in config.save:
        pictures |= {str(crop.region): crop.image for crop in episode.crops}
    if config.panels:
        pictures["inspect"] = Panel().draw(episode)
    return pictures


def _cut(stem: str) -> str:
    """Return a stem that leaves room for endings, its last character whole."""
    return os.fsencode(stem)[:_LONGEST].decode("utf-8", "ignore") if len(os.fsencode(stem)) > _LONGEST else stem


def _folded(name: str) -> str:
    """Return what is equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _owners(out: Path, wanted: set[str]) -> dict[str, set[str]]:
    """Return whose pictures lie in a folder: name -> marks of images, for names that begin as wanted ones do."""
    owners: dict[str, set[str]] = {}
    for file in out.iterdir() if out.is_dir() else ():
        match = _PICTURE.fullmatch(file.name)
        name = _folded(match[1]) if match else ""
        if match and (name in wanted or name.rpartition("-")[0] in wanted):
            owners.setdefault(name, set()).add(_owner(file))
    return owners


def _owner(file: Path) -> str:
    try:
        with Image.open(file) as picture:
            return str(picture.info.get(_SOURCE, ""))
    except Exception:  # not ours: what Pillow's decoders raise is not documented
        return ""
