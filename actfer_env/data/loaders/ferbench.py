"""FERBench (UniFER): four test sets of facial expressions, each with labels, order and spelling of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from actfer_env import facs
from actfer_env.data.loaders.affectnet import load_affectnet
from actfer_env.data.loaders.base import Missing, RowSamples, warn
from actfer_env.data.loaders.ferplus import load_ferplus
from actfer_env.data.loaders.rafdb import load_rafdb
from actfer_env.data.loaders.sfew import load_sfew
from actfer_env.errors import DataError, plain, short
from actfer_env.sample import Sample


@dataclass(frozen=True)
class FERBenchSet:
    """One of the four sets.

    Attributes:
        title: Name in print.
        count: Items of the benchmark.
        labels: Labels in the benchmark's order and spelling.
        file: Name of its list of items.
        folders: Names under which people keep its data set, below the root.
        moved: Beginnings of the paths in the list -> places where the official editions have these pictures.
        split: Split of the data set from which the items come.
        prealigned: The listed pictures are faces already.
    """

    title: str
    count: int
    labels: tuple[str, ...]
    file: str
    folders: tuple[str, ...]
    moved: Mapping[str, tuple[str, ...]]
    split: str
    prealigned: bool = True

    @property
    def emotions(self) -> tuple[str, ...]:
        """The labels in the taxonomy's spelling, in the benchmark's order."""
        return tuple(facs.parse_emotion(label) for label in self.labels)


FERBENCH_SETS: Mapping[str, FERBenchSet] = MappingProxyType({
    "rafdb": FERBenchSet(
        "RAF-DB", 3068, ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), "rafdb_qa.json",
        ("RAF-DB", "RAFDB", "rafdb", "raf-db"),
        {"RAF-DB/aligned/": ("RAF-DB/basic/Image/aligned/", "RAF-DB/Image/aligned/")}, "test",
    ),
    "ferplus": FERBenchSet(
        "FERPlus", 3573, ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
        "ferplus_qa.json", ("FERPlus", "ferplus", "FER+", "FERplus"), {}, "test",
    ),
    "affectnet": FERBenchSet(
        "AffectNet", 4000, facs.EMOTIONS, "affectnet_qa.json", ("AffectNet", "affectnet", "Affectnet"),
        {"AffectNet/Manually_Annotated/validation/": (
            "AffectNet/Manually_Annotated/", "AffectNet/Manually_Annotated/Manually_Annotated_Images/")},
        "val", prealigned=False,
    ),
    "sfew": FERBenchSet(
        "SFEW 2.0", 431, ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"), "sfew_2.0_qa.json",
        ("SFEW-2.0", "SFEW_2.0", "SFEW2.0", "SFEW", "sfew"),
        {"SFEW-2.0/Val/Val_Aligned_Faces/": ("SFEW-2.0/Val_Aligned_Faces/", "SFEW-2.0/Val_Aligned_Faces_new/")}, "val",
    ),
})  # fmt: skip
"""The sets by name, in the order of the published tables; numbers, labels and paths as in the benchmark's own files."""

Part = Literal["rafdb", "ferplus", "affectnet", "sfew"]
_LOADERS: Mapping[str, Callable[..., RowSamples]] = {
    "rafdb": load_rafdb, "ferplus": load_ferplus, "affectnet": load_affectnet, "sfew": load_sfew,
}  # fmt: skip
_KEYS = ("image_path", "true_label", "prompt", "candidate_labels")


def load_ferbench(root: str | None, *, part: Part = "rafdb", missing: Missing = "raise") -> list[Sample]:
    """Read the data set "ferbench": one of FERBench's four test sets, by its own list or from the official folders.

    The list (`rafdb_qa.json` and its like, also below `eval_rafdb/data/` as in the benchmark's repository) names the
    pictures by paths such as /RAF-DB/aligned/test_0001_aligned.jpg, which are looked for below the root; its prompt is
    asked where the chat preset is "ferbench". Without a list, the data set's own folder below the root is read by its
    own loader, and that preset's prompt names the labels in the benchmark's order and spelling.

    `meta` holds "set", "candidate_labels" and, by the list, "prompt".

    Args:
        root: The folder with the lists, the data sets, or both.
        part: "rafdb", "ferplus", "affectnet" or "sfew".
        missing: See `loaders.base.Missing`.

    Raises:
        DataError: neither list nor folder is there, or an item of the list is broken (named by its number), or lists
            other labels than the benchmark's.
    """
    if part not in FERBENCH_SETS:
        raise DataError(f"part={short(part)} is unknown: FERBench has {', '.join(FERBENCH_SETS)}")
    spec = FERBENCH_SETS[part]
    if root is None or not Path(root).is_dir():
        raise DataError(f"FERBench needs root=FOLDER with {spec.file} and the pictures, or with {spec.folders[0]}/")
    place = Path(root)
    path = list_of(place, part)
    samples = _official(place, part, missing) if path is None else _listed(place, path, part, missing)
    if len(samples) != spec.count:
        warn(f"FERBench's {spec.title}: {len(samples):,} of {spec.count:,} items")
    return samples


def list_of(root: Path, part: str) -> Path | None:
    """Return the list of a set's items below a root, or None."""
    name = FERBENCH_SETS[part].file
    below = f"eval_{name.removesuffix('_qa.json')}/data"
    folders = ("", "data", below, "FERBench", f"FERBench/{below}", f"UniFER/{below}")
    return next((root / folder / name for folder in folders if (root / folder / name).is_file()), None)


def parts_of(root: Path) -> tuple[str, ...]:
    """Return the sets that a root has a list or a folder of."""
    return tuple(part for part in FERBENCH_SETS if list_of(root, part) or _folder_of(root, part))


def _folder_of(root: Path, part: str) -> Path | None:
    return next((root / name for name in FERBENCH_SETS[part].folders if (root / name).is_dir()), None)


def _listed(root: Path, path: Path, part: str, missing: Missing) -> list[Sample]:
    spec = FERBENCH_SETS[part]
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(items, list) or not items:
        raise DataError(f"{path}: a list of items is wanted, each with {', '.join(_KEYS)}")
    samples: list[Sample] = []
    gone = 0
    for number, item in enumerate(items, 1):
        written = _check_item(path, number, item, spec)
        picture = _find(root, written, spec)
        if picture is None:
            gone += 1
            if missing == "raise":
                raise DataError(f"{path}, item {number}: {item['image_path']} is not below {root}; put it there, or "
                                "leave such items out by missing='skip'")  # fmt: skip
            if missing == "skip":
                continue
            picture = root / written
        samples.append(Sample(
            id=written, source=picture, emotion=item["true_label"], split=spec.split, prealigned=spec.prealigned,
            meta={"dataset": "ferbench", "set": part, "image": plain(str(picture)), "prompt": item["prompt"],
                  "candidate_labels": list(spec.labels)},
        ))  # fmt: skip
    if gone and missing == "skip":
        warn(f"FERBench's {spec.title}: {gone:,} listed pictures are not there and left out")
    return samples


def _check_item(path: Path, number: int, item: Any, spec: FERBenchSet) -> str:
    """Return the path of an item's picture below the root."""
    lacking = [key for key in _KEYS if not isinstance(item, dict) or not item.get(key)]
    if lacking:
        raise DataError(f"{path}, item {number}: no {lacking[0]}; an item has {', '.join(_KEYS)}")
    if tuple(item["candidate_labels"]) != spec.labels:
        raise DataError(f"{path}, item {number}: labels {short(item['candidate_labels'])}; FERBench's {spec.title} has "
                        f"{', '.join(spec.labels)}: another edition, or another order")  # fmt: skip
    if item["true_label"] not in spec.labels:
        raise DataError(f"{path}, item {number}: true_label {short(item['true_label'])} is none of its labels")
    return str(item["image_path"]).replace("\\", "/").lstrip("/")


def _find(root: Path, written: str, spec: FERBenchSet) -> Path | None:
    paths = [written]
    for start, others in spec.moved.items():
        if written.startswith(start):
            paths += [other + written[len(start) :] for other in others]
    own = spec.folders[0] + "/"
    paths += [f"{name}/{one[len(own) :]}" for one in paths if one.startswith(own) for name in spec.folders[1:]]
    places = (base / one for base in (root, root / "data") for one in paths)
    return next((place for place in places if place.is_file()), None)


def _official(root: Path, part: str, missing: Missing) -> list[Sample]:
    spec, folder = FERBENCH_SETS[part], _folder_of(root, part)
    if folder is None:
        raise DataError(f"{root} has neither {spec.file} nor a folder {spec.folders[0]}/ for FERBench's {spec.title}")
    own = {"set": part, "candidate_labels": list(spec.labels)}
    found = _LOADERS[part](str(folder), split=spec.split, missing=missing)
    return [replace(sample, meta={**sample.meta, **own}) for sample in found]
