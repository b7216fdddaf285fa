"""Any folder of photos, or a single one, with labels where they can be found."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from actfer_env import facs
from actfer_env.data.jsonl import OnError, check_option, read_records, read_sample
from actfer_env.data.sample import Sample
from actfer_env.errors import DataError, LabelError, plain
from actfer_env.tools.image import find_images

MANIFEST = "manifest.jsonl"
"""A file of this name in the folder, in Facial-R1's format, gives labels to the images that it lists."""


def load_photos(
    root: str | None, *, labels: Literal["auto", "none"] = "auto", prealigned: bool = False, on_error: OnError = "raise"
) -> Iterator[Sample]:
    """Read the data set "photos".

    Args:
        root: one image, or a folder that is searched with its sub-folders, in the order of the paths.
        labels: "auto" takes them from `manifest.jsonl` in the folder, else from sub-folders that are named after an
            emotion (happiness/, sad/, ...); an image without either has none. "none" ignores both.
        prealigned: the images are aligned faces already.
        on_error: what to do about a broken line of the manifest; see "jsonl".

    Raises:
        ImageError: the root does not exist or holds no image.
        DataError: a broken manifest.
    """
    if root is None:
        raise DataError("data set 'photos' needs root=FOLDER or an image")
    base = Path(root)
    check_option("labels", labels, ("auto", "none"))
    check_option("on_error", on_error, ("raise", "skip"))
    listed = _manifest(base, on_error) if labels == "auto" and base.is_dir() else {}
    for path in find_images(base):
        known = listed.pop(path.resolve(), None)
        if known is not None:
            yield replace(known, prealigned=known.prealigned or prealigned)
            continue
        relative = path.name if base.is_file() else path.relative_to(base).as_posix()
        yield Sample(
            id=relative,
            source=path,
            emotion=_folder_label(path, base) if labels == "auto" else None,
            prealigned=prealigned,
            meta={"dataset": "photos", "image": plain(str(path))},
        )
    for path in listed:
        warnings.warn(f"{base / MANIFEST} lists {path}, which is not there", UserWarning, stacklevel=2)


def _manifest(base: Path, on_error: OnError) -> dict[Path, Sample]:
    path = base / MANIFEST
    if not path.is_file():
        return {}
    samples: dict[Path, Sample] = {}
    for number, record in read_records(path, on_error):
        sample = read_sample(record, path, number, on_error)
        if sample is None:
            continue
        samples[Path(sample.meta["image"]).resolve()] = sample
    return samples


def _folder_label(path: Path, base: Path) -> str | None:
    folders = path.relative_to(base).parts[:-1] if base.is_dir() else ()
    for folder in reversed(folders):
        try:
            return facs.parse_emotion(folder)
        except LabelError:
            continue
    return None
