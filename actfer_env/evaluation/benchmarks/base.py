"""Benchmarks by name: their parts, labels and notes. A part is played as any data set, and leaves a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.data import Dataset, load_dataset
from actfer_env.data.loaders.disfa import PER_LABEL
from actfer_env.data.loaders.ferbench import FERBENCH_SETS, list_of, parts_of
from actfer_env.data.subset import subset
from actfer_env.errors import DataError
from actfer_env.evaluation.benchmarks.published import DISFA_ROWS, FERBENCH_ROWS, TAG_ROWS, PublishedRow
from actfer_env.identity import file_facts
from actfer_env.rewards.other_papers import TAG_EMOTIONS


@dataclass(frozen=True)
class Part:
    """One test set of a benchmark.

    Attributes:
        name: Name of its folder among the results.
        title: Name in print.
        dataset: The samples.
        labels: Emotions that an answer may be, in the set's order; empty where emotions are not scored.
        spelled: The same labels as the set's own files spell them.
        count: Official number of items, or None where it is not known.
        facts: Digest of the list of its items, as JSON values, where there is one.
    """

    name: str
    title: str
    dataset: Dataset
    labels: tuple[str, ...] = ()
    spelled: tuple[str, ...] = ()
    count: int | None = None
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark, opened below a root.

    Attributes:
        name: Registered name.
        title: Name in print.
        parts: Test sets, in the order of its tables.
        units: Names of the sets of Action Units that its tables average, the main one first; empty without units.
        asked: Action Units that the policy is asked for.
        compatible: Whether FERBench's own scorer stands beside the strict one.
        published: Published rows.
        notes: Caveats for who compares with them.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    units: tuple[str, ...] = ()
    asked: tuple[int, ...] = facs.CORE_AUS
    compatible: bool = False
    published: tuple[PublishedRow, ...] = ()
    notes: tuple[str, ...] = ()


STRICT_NOTE = (
    "strict: the answer must name one label of the set; an item without a readable answer, with another label, or that "
    "could not be run is wrong, over all items"
)
FERBENCH_NOTES = (
    STRICT_NOTE,
    "FERBench's scorer: the first label of the set that stands in the answer, else anywhere in the response, the "
    "reasoning included, else a synonym; items that failed are left out; an answer without a label adds a class with "
    "an F1 of 0 to the mean",
    "where a policy answers in JSON or without text, its label is given to FERBench's scorer in the set's spelling",
    "AffectNet's CSV edition is meant (4,000 items); the npy edition has other numbers and 3,999 faces",
)


def _ferbench(root: Path) -> Benchmark:
    parts = []
    for name in parts_of(root):
        spec = FERBENCH_SETS[name]
        path = list_of(root, name)
        facts = None if path is None else {"list": file_facts(path)["digest"]}
        found = load_dataset("ferbench", root, part=name)
        parts.append(Part(name, spec.title, found, spec.emotions, spec.labels, spec.count, facts))
    if not parts:
        names = ", ".join(f"{spec.folders[0]}/" for spec in FERBENCH_SETS.values())
        raise DataError(f"{root}: no list of FERBench (rafdb_qa.json, ...) and no folder of its sets ({names}) is here")
    lacking = [spec.title for name, spec in FERBENCH_SETS.items() if name not in {part.name for part in parts}]
    notes: tuple[str, ...] = FERBENCH_NOTES
    if lacking:
        notes = (f"pooled figures are without {', '.join(lacking)}: published ones are over all four sets", *notes)
    return Benchmark("ferbench", "FERBench", tuple(parts), compatible=True, published=FERBENCH_ROWS, notes=notes)


def _disfa(root: Path) -> Benchmark:
    place = next((one for one in (root, root / "DISFA") if (one / "ActionUnit_Labels").is_dir()), root)
    part = Part("disfa", "DISFA", load_dataset("disfa", place, subsample="paper"))
    notes = (
        "a unit is present from intensity 2 on",
        f"at most {PER_LABEL} frames of one subject with the same label of the eight units, spread evenly; the paper "
        "does not say which five",
        "F1 of each unit over all frames; one that occurs in no label and no answer is left out of the mean",
        "the published rows are of all 27 subjects without training on them",
    )
    units = ("disfa", "disfa7", "disfa12")
    return Benchmark("disfa", "DISFA", (part,), units, facs.AU_SETS["disfa12"], published=DISFA_ROWS, notes=notes)


_TAG_PARTS = (("rafdb", "RAF-DB", "test", 3068), ("ferplus", "FERPlus", "test", 3517), ("affectnet", "AffectNet",
              "val", 3500))  # fmt: skip


def _tag(root: Path) -> Benchmark:
    parts = []
    for name, title, split, count in _TAG_PARTS:
        spec = FERBENCH_SETS[name]
        place = next((root / one for one in spec.folders if (root / one).is_dir()), None)
        if place is None:
            continue
        whole = load_dataset(name, place, split)
        kept = [at for at, sample in enumerate(whole) if sample.emotion in TAG_EMOTIONS]
        order = tuple(label for label in spec.emotions if label in TAG_EMOTIONS)
        parts.append(Part(name, title, subset(whole, np.array(kept)), order, order, count))
    if not parts:
        raise DataError(f"{root}: none of RAF-DB/, FERPlus/ and AffectNet/ is here")
    notes = (
        STRICT_NOTE,
        "seven classes: items of contempt are left out",
        "TAG counts 3,517 items of FERPlus; the two published files of votes give other numbers, by how ties are taken",
        "AU IoU: mean overlap of the boxes in the reasoning with those of active units, by --preset tag; these sets "
        "name no units, and TAG takes its from a detector, so there is none here unless the labels have them",
    )
    return Benchmark("tag", "Seven classes (TAG)", tuple(parts), published=TAG_ROWS, notes=notes)


def _fea20k(root: Path) -> Benchmark:
    files = [root] if root.is_file() else sorted(root.glob("*.jsonl"))
    if not files:
        raise DataError(f"{root}: no .jsonl file in Facial-R1's format is here")
    parts = []
    for path in files:
        found = load_dataset("jsonl", path)
        tested = [at for at, sample in enumerate(found) if sample.split == "test"]
        if tested:
            found = subset(found, np.array(tested))
        parts.append(Part(path.stem, path.stem, found, facs.EMOTIONS, facs.EMOTIONS))
    notes = (
        STRICT_NOTE,
        "of a file that names splits, the test split",
        "ROUGE-L: F-measure of the reasoning against the description (rouge-score, no stemming), over all items that "
        "have one; an item without an answer has 0",
        "Facial-R1's paper names these metrics; its FEA-20K table could not be read, so no row is printed beside yours",
    )
    return Benchmark("fea20k", "FEA-20K (Facial-R1's format)", tuple(parts), ("facial_r1", "core", "disfa"),
                     facs.FACIAL_R1_AUS, notes=notes)  # fmt: skip


BENCHMARKS: Mapping[str, Callable[[Path], Benchmark]] = MappingProxyType({
    "ferbench": _ferbench, "disfa": _disfa, "tag": _tag, "fea20k": _fea20k,
})  # fmt: skip
"""Name -> the function that opens a benchmark below a root."""


def check_benchmark(name: str, root: Path | None) -> Path:
    """Return the folder of a benchmark's data, before anything else is asked for.

    Raises:
        DataError: the name is unknown, or there is no such folder.
    """
    if name not in BENCHMARKS:
        raise DataError(f"unknown benchmark {name!r}: use one of {', '.join(BENCHMARKS)}")
    if root is None or not root.exists():
        gone = f"; {root} is not there" if root else ""
        raise DataError(f"--benchmark {name} needs --root FOLDER with its data{gone}")
    return root


def open_benchmark(name: str, root: Path | None, number: int | None = None) -> Benchmark:
    """Open a benchmark.

    Args:
        name: A key of `BENCHMARKS`.
        root: Folder with its data sets, or with its lists.
        number: Items of each part, spread evenly over it; None is all.

    Raises:
        DataError: the name is unknown, or the root lacks what the benchmark needs.
    """
    found = BENCHMARKS[name](check_benchmark(name, root))
    if number is None:
        return found
    parts = []
    for part in found.parts:
        rows = np.linspace(0, len(part.dataset) - 1, min(number, len(part.dataset))).round().astype(np.int64)
        parts.append(replace(part, dataset=subset(part.dataset, rows)))
    return replace(found, parts=tuple(parts))
