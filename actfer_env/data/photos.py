"""Any folder of photos, or a single one, with labels where they can be found."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Literal

from actfer_env import facs
from actfer_env.data.jsonl import EmptyAUs, Manifest, OnError, check_option
from actfer_env.errors import DataError, LabelError, plain
from actfer_env.images import find_images
from actfer_env.sample import Sample
from actfer_env.splits import file_splits, folder_split, path_split

MANIFEST = "manifest.jsonl"
"""A file of this name in the folder, in Facial-R1's format, gives labels to the images that it lists."""

_TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".jsonl", ".pkl", ".mat", ".npy")
"""Endings of tables; labels stand in such files, beside photos little else does."""
_OURS = ("rollouts.jsonl", "episodes.jsonl")
_LABEL_FILE = re.compile(r"label|annot|(?<![a-z])emo|patition|partition|legend|expression|_au\d", re.IGNORECASE)
_UNSURE = ("unknown", "uncertain", "other", "nf", "no face", "noface", "no-face", "not a face")
"""Classes of data sets that name no emotion, and are not missed."""
_CURE = "name the folders after emotions (happiness/, sadness/, ...), or list the pictures in " + MANIFEST
_WORD = re.compile(r"[^\W\d_]+(?:[ _-][^\W\d_]+)?")
_ALBUMS = ("dcim", "camera", "screenshots", "downloads", "pictures", "photos", "images", "favourites", "favorites",
           "aligned", "original", "raw", "cropped", "face", "faces")  # fmt: skip


def load_photos(
    root: str | None, *, labels: Literal["auto", "none"] = "auto", prealigned: bool = False,
    on_error: OnError = "raise", empty_aus: EmptyAUs = "none",
) -> Iterator[Sample]:  # fmt: skip
    """Read the data set "photos".

    A sample's split is that of the manifest, or of the folders above it within the root, in any case and at any depth
    (`train/angry/1.jpg`, `Val_Aligned_Faces/Angry/1.png`), or of the files' names where all tell one
    (`train_00001.jpg`). The root's own name is none.

    Args:
        root: One image, or a folder that is searched with its sub-folders, in the order of the paths.
        labels: "auto" takes them from `manifest.jsonl` in the folder, else from sub-folders that are named after an
            emotion (happiness/, 3_sad/, ...); an image without either has none, and so has one in a folder "None".
            Where labels were plainly meant and none can be read, a warning says so. "none" ignores both.
        prealigned: The images are aligned faces already.
        on_error: Treatment of a broken line of the manifest; see "jsonl".
        empty_aus: Meaning of an empty list of AUs in the manifest; see "jsonl".

    Raises:
        ImageError: the root does not exist or holds no image.
        DataError: a broken manifest.
    """
    if root is None:
        raise DataError("data set 'photos' needs root=FOLDER or an image")
    base, auto = Path(root), labels == "auto"
    check_option("labels", labels, ("auto", "none"))
    check_option("on_error", on_error, ("raise", "skip"))
    check_option("empty_aus", empty_aus, ("none", "unlabelled", "unknown"))
    manifest = base / MANIFEST
    listed = _listed(Manifest(manifest, on_error, empty_aus)) if auto and manifest.is_file() else {}
    paths = find_images(base)
    folders = {path: path.relative_to(base).parts[:-1] if base.is_dir() else () for path in paths}
    splits = _splits(paths, folders)
    unlisted: dict[Path, str | None] = {}
    for path in paths:
        known = listed.pop(path.resolve(), None)
        if known is not None:
            yield replace(known, prealigned=known.prealigned or prealigned, split=known.split or splits[path])
            continue
        named = filter(None, map(_emotion_of, reversed(folders[path])))
        unlisted[path] = next(named, None) if auto else None
        yield Sample(
            id=path.name if base.is_file() else path.relative_to(base).as_posix(),
            source=path,
            emotion=unlisted[path],
            split=splits[path],
            prealigned=prealigned,
            meta={"dataset": "photos", "image": plain(str(path))},
        )
    for path in listed:
        warnings.warn(f"{manifest} lists {path}, which is not there", UserWarning, stacklevel=2)
    if auto and len(unlisted) == len(paths) and base.is_dir():
        missed = _missed_labels(base, {folders[path]: emotion for path, emotion in unlisted.items()})
        if missed:
            warnings.warn(f"{base}: {missed}", UserWarning, stacklevel=2)


def _listed(manifest: Manifest) -> dict[Path, Sample]:
    samples: dict[Path, Sample] = {}
    again: list[str] = []
    for number, sample in manifest.read():
        path = Path(sample.meta["image"]).resolve()
        other = samples.get(path)
        if other is None:
            samples[path] = sample
        elif other.split != sample.split:
            raise DataError(
                f"{manifest.path}, line {number}: {path.name} is in {sample.split or 'no split'}, and in "
                f"{other.split or 'no split'} further up: leave it in one split alone"
            )
        else:
            again.append(f"{path.name} (line {number})")
    if again:
        text = f"{manifest.path}: pictures that are listed again are taken once, by their first line: {again[0]}"
        warnings.warn(f"{text}, {len(again)} in all", UserWarning, stacklevel=3)
    return samples


def _splits(paths: Sequence[Path], folders: dict[Path, tuple[str, ...]]) -> dict[Path, str | None]:
    found = {path: path_split(folders[path]) for path in paths}
    if not any(found.values()) and (named := file_splits(path.stem for path in paths)):
        return dict(zip(paths, named, strict=True))
    return found


def _emotion_of(folder: str) -> str | None:
    """Return the emotion of a folder's name, which a number may precede: "3_sad"."""
    try:
        return facs.parse_emotion(re.sub(r"^\d+[\W_]*", "", folder))
    except LabelError:
        return None


def _missed_labels(base: Path, emotions: dict[tuple[str, ...], str | None]) -> str | None:
    """Return a warning where labels were plainly meant but not found, or None.

    Args:
        base: The folder.
        emotions: The folders of the pictures below it -> the emotion that they name.
    """
    named = {folders[:-1] for folders, emotion in emotions.items() if folders and emotion and _emotion_of(folders[-1])}
    without = sorted({folders[-1] for folders, emotion in emotions.items() if emotion is None and folders
                      and folders[:-1] in named and not _needs_none(folders[-1])})  # fmt: skip
    if without:
        return f"pictures in {_listing(without)} have no label, though the folders beside name emotions; {_CURE}"
    if any(emotions.values()):
        return None
    file = _label_file(base)
    if file is not None:
        line = '{"id": "a", "image": "a.jpg", "labels": ["happiness"]}'
        return f"no picture has a label, and {file} is not read; write {MANIFEST} with lines such as {line}"
    classes = _class_folders(list(emotions))
    if not classes:
        return None
    hint = ""
    if all(name.isdecimal() for name in classes) and {int(name) for name in classes} <= set(range(1, 8)):
        hint = " (RAF-DB's 1 to 7 are surprise, fear, disgust, happiness, sadness, anger, neutral)"
    return f"no picture has a label: the folders {_listing(classes)} name no emotion{hint}; {_CURE}"


def _needs_none(folder: str) -> bool:
    return facs.is_no_label(folder) or folder.lower() in _UNSURE or folder_split(folder) is not None


def _label_file(base: Path) -> str | None:
    """Return a table, or a text with a telling name, beside the pictures or in a folder beside them."""
    for pattern in ("*", "*/*", "*/*/*"):
        for path in sorted(base.glob(pattern)):
            kind = path.suffix.lower()
            if kind not in (*_TABLES, ".txt", ".json") or path.name in _OURS:
                continue
            inner = path.relative_to(base).as_posix()
            table = kind in _TABLES or _LABEL_FILE.search(inner)
            if table and inner != MANIFEST and not re.search(r"(^|/)[._]", inner) and path.is_file():
                return inner
    return None


def _class_folders(found: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the names of folders that are plainly classes, none if it is a mere collection of photos.

    That is: every picture lies in one folder below the same one, or below a split; and the folders are numbered from
    0 or 1, or have plain words as names. Years, dates, names of cameras and nested albums are none of these.
    """
    parts = [tuple(name for name in folders if folder_split(name) is None) for folders in found]
    first, last = min(folders[:-1] for folders in parts), max(folders[:-1] for folders in parts)
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))))
    classes = {folders[shared:] for folders in parts}
    if any(len(folders) != 1 for folders in classes):
        return []
    names = sorted(folders[0] for folders in classes if not _needs_none(folders[0]))
    split = any(path_split(folders) for folders in found)
    if all(name.isdecimal() and int(name) <= 10 for name in names):
        return names if split or len(names) > 2 else []
    words = all(_WORD.fullmatch(name) and name.lower() not in _ALBUMS for name in names)
    return names if words and (split or len(names) > 1) else []


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
