"""Inspection of a data set: edition, counts, missing and broken pictures, and what is in two splits."""

from __future__ import annotations

# Longer than 400 lines: one check is added beside the others, and all share what was read of a data set.
import hashlib
import inspect
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.data.duplicates import ALIKE, near_pairs, perceptual_hash, thumbnail
from actfer_env.data.loaders.base import GONE, Edition, Info, differences
from actfer_env.data.registry import DATASETS, call_loader, known_name
from actfer_env.errors import ActFERError, DataError, ImageError
from actfer_env.packages import needs
from actfer_env.progress import Watch
from actfer_env.sample import Sample
from actfer_env.splits import SPLITS

_EXAMPLES = 5
_DRAWN = 100
"""Samples of each split that are looked at where pictures are drawn without end (chosen here)."""
_CONFIRMED = 20_000
"""Pairs across splits of which both pictures are read again at most (chosen here)."""


@dataclass(frozen=True)
class CheckConfig:
    """Extent of a check.

    Attributes:
        pictures: Read every picture: broken ones, equal files, near-duplicates.
        distance: Bits in which perceptual hashes of near-duplicates differ at most, 0 to 8.
        number: Samples, from the first on; None is all.
        workers: Threads that read pictures.
    """

    pictures: bool = True
    distance: int = bounded(4, ge=0, le=8)
    number: int | None = bounded(None, ge=1)
    workers: int = bounded(1, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: Its name, such as "missing files".
        fault: Whether it makes results wrong; else it is worth a look.
        count: Number of times.
        text: One line for people.
        examples: The first few, by id or path.
    """

    kind: str
    fault: bool
    count: int
    text: str
    examples: tuple[str, ...] = ()


@dataclass
class CheckReport:
    """Findings of a check of a data set.

    Attributes:
        name: The registered name.
        root: Its folder or file, or None.
        title: Its name in print.
        licence: Address at which to ask for it, or None.
        edition: Edition that lies in the folder, or None where nothing could be loaded or no edition is known.
        order: The classes in the order of the data set's own numbers or lists.
        aus: The Action Units that it annotates.
        counts: Split -> class -> number of samples; "none" stands for no split, "no emotion" for no label.
        official: Split -> class -> official number, where known; "all" counts over splits or classes.
        units: Split -> Action Unit -> number of samples in which it is active.
        coded: Split -> number of samples whose Action Units are annotated.
        subjects: Split -> number of subjects, where they are known.
        findings: Faults first.
    """

    name: str
    root: str | None
    title: str
    licence: str | None = None
    edition: str | None = None
    order: tuple[str, ...] = ()
    aus: tuple[int, ...] = ()
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    official: dict[str, dict[str, int]] = field(default_factory=dict)
    units: dict[str, dict[str, int]] = field(default_factory=dict)
    coded: dict[str, int] = field(default_factory=dict)
    subjects: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if no fault was found."""
        return not any(finding.fault for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        values = {
            **vars(self),
            "ok": self.ok,
            "order": list(self.order),
            "aus": [facs.format_au(au) for au in self.aus],
        }
        values["samples"] = sum(sum(classes.values()) for classes in self.counts.values())
        values["findings"] = [{**vars(one), "examples": list(one.examples)} for one in self.findings]
        return values

    def add(self, kind: str, fault: bool, examples: Sequence[str], text: str, count: int | None = None) -> None:
        """Note a finding, unless there are no examples."""
        if examples:
            self.findings.append(Finding(kind, fault, count or len(examples), text, tuple(examples[:_EXAMPLES])))


def check_dataset(
    name: str, root: str | os.PathLike[str] | None = None, config: CheckConfig | None = None,
    options: Mapping[str, Any] | None = None, watch: Watch | None = None,
) -> CheckReport:  # fmt: skip
    """Inspect a data set.

    Faults are: it cannot be loaded, or a line of it cannot be read; listed pictures that are not there; pictures that
    cannot be read; more pictures of a class than the edition has; and a subject, an equal file, or a near-duplicate in
    two splits. A part of the official data set, equal or near pictures within a split, and samples without a label are
    only noted.

    Args:
        name: A registered name.
        root: Folder or file, for those that need one.
        config: Extent of the check.
        options: Options of its loader.
        watch: Called after each picture with "pictures", how many were read, and how many there are.

    Returns:
        The report; the same for the same files.

    Raises:
        DataError: the name is unknown, or an option.
    """
    config, place = config or CheckConfig(), None if root is None else os.fspath(root)
    name = known_name(name)
    if name.startswith("prepared:") and root is None:
        name, _, place = name.partition(":")
    loader = DATASETS.find(name)
    info: Info | None = getattr(loader, "info", None)
    found = os.path.realpath(place) if place is not None and Path(place).exists() else place
    report = CheckReport(name, found, info.title if info else name, info.licence if info else None)
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            samples = _load(name, place, dict(options or {}), config)
            records = _read_labels(report, samples, None if _is_drawn(name) else config.number)
        except ActFERError as error:
            report.add("cannot be loaded", True, [str(error)], str(error))
            return report
        finally:
            told += [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    broken = [text for text in told if text.endswith("line skipped")]
    report.add("broken lines", True, broken, f"{_count(broken, 'line')} cannot be read: {_first(broken)}")
    for text in told:
        if text not in broken:
            report.add("warning", False, [text], text)
    _hold_counts(report, samples)
    _hold_subjects(report, records)
    if config.pictures:
        _check_pictures(report, records, samples, config, watch)
    report.findings.sort(key=lambda finding: not finding.fault)
    return report


@dataclass
class _Records:
    """Notes of the first pass on each sample: a split's number, and of the whole the ids that come twice."""

    splits: NDArray[np.int8]
    names: tuple[str, ...]
    subjects: dict[str, set[str]]
    missing: list[str]
    gone: set[int]


def _load(name: str, place: str | None, options: dict[str, Any], config: CheckConfig) -> Sequence[Sample]:
    """Return all samples, of whatever split, held to nothing yet."""
    loader = DATASETS.find(name)
    known = inspect.signature(loader).parameters
    for option, value in (("totals", "ignore"), ("missing", "keep"), ("on_error", "skip")):
        if option in known:
            options.setdefault(option, value)
    if _is_drawn(name):
        parts = [call_loader(name, place, split, options) for split in SPLITS]
        return [sample for part in parts for sample in _head(part, config.number or _DRAWN)]
    samples = call_loader(name, place, None, options)
    return samples if isinstance(samples, Sequence) else list(samples)


def _is_drawn(name: str) -> bool:
    """Tell whether a data set has no end: it takes a split, and its samples are drawn by code."""
    loader = DATASETS.find(name)
    return "split" in inspect.signature(loader).parameters and not hasattr(loader, "info")


def _head(samples: Iterable[Sample], number: int) -> Iterator[Sample]:
    return (sample for sample, _ in zip(samples, range(number), strict=False))


def _read_labels(report: CheckReport, samples: Sequence[Sample], number: int | None) -> _Records:
    """Count classes, Action Units and subjects, and look for each picture's file."""
    count = len(samples) if number is None else min(number, len(samples))
    edition: Edition | None = getattr(samples, "edition", None)
    names = (*SPLITS, "none")
    splits, missing, gone = np.zeros(count, np.int8), list[str](), set[int]()
    subjects: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    units: dict[str, Counter[int]] = defaultdict(Counter)
    bare: list[str] = []
    for index in range(count):
        sample = samples[index]
        split = sample.split or "none"
        splits[index] = names.index(split)
        counts[split][sample.emotion or "no emotion"] += 1
        if sample.aus is not None:
            units[split].update(sample.aus)
            report.coded[split] = report.coded.get(split, 0) + 1
        elif sample.emotion is None:
            bare.append(sample.id)
        if sample.subject is not None:
            subjects[sample.subject].add(split)
        if isinstance(sample.source, str | os.PathLike) and not os.path.isfile(sample.source):  # noqa: PTH113
            gone.add(index)
            missing.append(os.fspath(sample.source))
    if edition:
        report.edition, report.order, report.aus = edition.name, edition.order, edition.aus
        report.official = {split: dict(classes) for split, classes in edition.totals.items()}
    classes = report.order or facs.EMOTIONS
    for split in (one for one in names if one in counts):
        listed = [*classes, *sorted(set(counts[split]) - {*classes, "no emotion"}), "no emotion"]
        report.counts[split] = {one: counts[split][one] for one in listed if counts[split][one] or one in report.order}
        coded = sorted({*units[split], *report.aus}) if report.coded.get(split) else ()
        report.units[split] = {facs.format_au(au): units[split][au] for au in coded}
    report.aus = report.aus or tuple(sorted({au for part in units.values() for au in part}))
    report.add("missing files", True, missing, f"{_count(missing, 'picture')} not there: {_first(missing)}")
    report.add(
        "no label", False, bare, f"{_count(bare, 'sample')} with neither emotion nor Action Units: {_first(bare)}"
    )
    return _Records(splits, names, subjects, missing, gone)


def _hold_counts(report: CheckReport, samples: Sequence[Sample]) -> None:
    """Compare with the official numbers, and say what the loader left out."""
    edition: Edition | None = getattr(samples, "edition", None)
    left_out: Mapping[str, int] = getattr(samples, "left_out", {})
    for reason, number in sorted(left_out.items()):
        if number and reason != GONE:
            report.add("left out", False, [reason], f"{number:,} left out: {reason}", number)
    found = list(differences(edition, getattr(samples, "counts", {}))) if edition else []
    for split, name, here, number in found:
        where = " ".join(part for part in (split, name) if part != "all") or "all"
        if here > number:
            report.add("too many", True, [where], f"{where}: {here:,} pictures, officially {number:,}: another "
                       "edition, or labels in another order", here - number)  # fmt: skip
    parts = [one for one in found if one[1] == "all" and one[2] < one[3]]
    text = ", ".join(
        f"{'' if split == 'all' else f'{split} '}{here:,} of {number:,}" for split, _, here, number in parts
    )
    report.add("a part", False, [one[0] for one in parts], f"a part of the official data set: {text}")
    absent = [name for name in report.order if not any(classes.get(name) for classes in report.counts.values())]
    report.add("empty classes", False, absent, f"no picture of {', '.join(absent)}")


def _hold_subjects(report: CheckReport, records: _Records) -> None:
    named = {who: splits - {"none"} for who, splits in sorted(records.subjects.items())}
    for split in records.names:
        number = sum(split in splits for splits in records.subjects.values())
        if number:
            report.subjects[split] = number
    both = [who for who, splits in named.items() if len(splits) > 1]
    report.add("subjects in two splits", True, both, f"{_count(both, 'subject')} in two splits: {_first(both)}")


def _check_pictures(
    report: CheckReport, records: _Records, samples: Sequence[Sample], config: CheckConfig,
    watch: Watch | None,
) -> None:  # fmt: skip
    """Read every picture; name the broken ones, and what is the same or nearly the same."""
    count = len(records.splits)
    digests, hashes = np.zeros(count, "V16"), np.zeros(count, np.uint64)
    readable, structured = np.zeros(count, bool), np.zeros(count, bool)
    try:
        with needs("data"):
            import imagehash  # noqa: F401
        hashing = True
    except DataError as error:
        hashing = False
        report.add("no near-duplicates", False, [str(error)], f"near-duplicates are not searched: {error}")
    broken: list[str] = []
    todo = [index for index in range(count) if index not in records.gone]
    for at, (index, digest, value, problem) in enumerate(_read_all(samples, todo, hashing, config.workers), start=1):
        if problem is not None:
            broken.append(problem)
        else:
            digests[index], readable[index] = np.void(digest), True
            if value is not None:
                hashes[index], structured[index] = value, True
        if watch is not None:
            watch("pictures", at, len(todo), {})
    report.add("broken pictures", True, broken, f"{_count(broken, 'picture')} that cannot be read: {_first(broken)}")
    first = _equal_files(report, records, samples, digests, readable)
    kept = np.flatnonzero(structured & first)
    if hashing and len(kept):
        _near_duplicates(report, records, samples, kept, hashes, digests, config.distance)


def _read_all(
    samples: Sequence[Sample], todo: Sequence[int], hashing: bool, workers: int
) -> Iterator[tuple[int, bytes, int | None, str | None]]:  # fmt: skip
    """Yield (index, digest, hash, problem) of each picture, in order."""
    if workers == 1:
        yield from (_read_one(samples[index], index, hashing) for index in todo)
        return
    from joblib import Parallel, delayed

    jobs = (delayed(_read_one)(samples[index], index, hashing) for index in todo)
    yield from Parallel(n_jobs=workers, prefer="threads", return_as="generator")(jobs)


def _read_one(sample: Sample, index: int, hashing: bool) -> tuple[int, bytes, int | None, str | None]:
    try:
        image = sample.load()
        source = sample.source
        content = Path(source).read_bytes() if isinstance(source, str | os.PathLike) else image.tobytes()
    except ImageError as error:
        return index, b"", None, str(error)
    except OSError as error:
        return index, b"", None, f"{sample.meta.get('image', sample.id)}: {error.strerror}"
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return index, digest, perceptual_hash(image) if hashing else None, None


def _equal_files(
    report: CheckReport, records: _Records, samples: Sequence[Sample], digests: NDArray[Any],
    readable: NDArray[np.bool_],
) -> NDArray[np.bool_]:  # fmt: skip
    """Name equal pictures, and return for each picture whether it is the first of its equals in its split."""
    first = readable.copy()
    places = np.flatnonzero(readable)
    _, groups = np.unique(digests[places], return_inverse=True)
    order = np.argsort(groups, kind="stable")
    across, within = list[str](), list[str]()
    for equal in np.split(places[order], np.flatnonzero(np.diff(groups[order])) + 1):
        if len(equal) < 2:
            continue
        kinds = records.splits[equal]
        for at in range(1, len(equal)):
            if kinds[at] in kinds[:at]:
                first[equal[at]] = False
                within.append(_pair(samples, equal[0], equal[at]))
        named = [int(equal[np.argmax(kinds == kind)]) for kind in np.unique(kinds) if records.names[kind] != "none"]
        across += [_pair(samples, named[0], other, records) for other in named[1:]]
    report.add("equal pictures in two splits", True, across,
               f"{_count(across, 'picture')} in two splits: {_first(across)}")  # fmt: skip
    report.add("equal pictures", False, within, f"{_count(within, 'equal picture')} within a split: {_first(within)}")
    return first


def _near_duplicates(
    report: CheckReport, records: _Records, samples: Sequence[Sample], kept: NDArray[np.int64],
    hashes: NDArray[np.uint64], digests: NDArray[Any], distance: int,
) -> None:  # fmt: skip
    """Name pictures with near hashes; those across splits are read again, to be sure."""
    unique, groups = np.unique(hashes[kept], return_inverse=True)
    kinds = range(len(records.names))
    first = np.full((len(kinds), len(unique)), -1)  # split, hash -> the first picture
    within = np.zeros((len(kinds), len(unique)), bool)  # split, hash -> whether another picture is near
    for kind in kinds:
        here = records.splits[kept] == kind
        first[kind, groups[here][::-1]] = kept[here][::-1]
        within[kind] = np.bincount(groups[here], minlength=len(unique)) > 1
    found: set[tuple[int, int]] = set()
    same = np.arange(len(unique))
    for one, other in chain([(same, same)], near_pairs(unique, distance)):
        for kind, second in product(kinds, kinds):
            both = (first[kind, one] >= 0) & (first[second, other] >= 0)
            if kind == second and one is not other:
                within[kind, one[both]] = within[kind, other[both]] = True
            elif kind != second and "none" not in (records.names[kind], records.names[second]):
                found.update(zip(first[kind, one[both]].tolist(), first[second, other[both]].tolist(), strict=True))
    ordered = {(min(pair), max(pair)) for pair in found}
    candidates = sorted(pair for pair in ordered if digests[pair[0]] != digests[pair[1]])

    @lru_cache(maxsize=4096)
    def small(index: int) -> NDArray[np.float32]:
        return thumbnail(samples[index].load())

    equal = [pair for pair in candidates[:_CONFIRMED] if float(small(pair[0]) @ small(pair[1])) >= ALIKE]
    across = [_pair(samples, *pair, records) for pair in equal]
    report.add("near-duplicates across splits", True, across,
               f"{_count(across, 'pair')} of nearly equal pictures in two splits: {_first(across)}")  # fmt: skip
    rest = [_pair(samples, *pair, records) for pair in candidates[_CONFIRMED:]]
    report.add("near hashes across splits", False, rest,
               f"{_count(rest, 'further pair')} with near hashes were not compared: {_first(rest)}")  # fmt: skip
    inside = [samples[int(index)].id for index in kept[within[records.splits[kept], groups]]]
    report.add("near-duplicates within a split", False, inside,
               f"{_count(inside, 'picture')} with a near hash within the split: {_first(inside)}")  # fmt: skip


def _pair(samples: Sequence[Sample], one: int, other: int, records: _Records | None = None) -> str:
    texts = [samples[int(index)].id for index in (one, other)]
    if records is not None:
        texts = [
            f"{records.names[records.splits[index]]} {text}" for index, text in zip((one, other), texts, strict=True)
        ]
    return " = ".join(texts)


def _count(found: Sequence[str], what: str) -> str:
    return f"{len(found):,} {what}{'' if len(found) == 1 else 's'}"


def _first(found: Sequence[str]) -> str:
    return f"{found[0]}{'' if len(found) == 1 else ', ...'}" if found else ""
