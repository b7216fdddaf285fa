"""Class-aware sampling into disjoint SFT and RL sets (ActFER 3.2): by sample, by subject and by near-duplicate.

The RL set is drawn first, re-balanced toward hard and rare emotions. Whoever or whatever it shows is then left out of
the SFT set, which keeps the natural distribution.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from actfer_env import facs
from actfer_env.curate.lines import Line
from actfer_env.curate.options import CurateOptions
from actfer_env.data.duplicates import ALIKE, near_pairs
from actfer_env.errors import DataError

PAPER_SHARE = 6.8 / 54.8
"""The RL set's share of both sets in the paper, 6.8K beside 48K (ActFER 3.2)."""
EASY = 0.05
"""Weight of a sample that a pilot always gets right; one that it never does has 1 more (chosen here)."""
_MARGIN = 0.01
"""Most that a compacted thumbnail's correlation is off."""


@dataclass(frozen=True)
class Pool:
    """Kept lines, as arrays of n values in order; about 40 bytes a line.

    Attributes:
        index: Places in the data set.
        emotion: Places in `facs.EMOTIONS`.
        block: Number of the group of lines that belong together: of one subject, or of equal pictures.
        hash: Perceptual hashes; 0 where there is none.
        hashed: Whether there is one.
        first: Whether no line before shows the same picture.
        hardness: 0 to 1.
    """

    index: NDArray[np.int64]
    emotion: NDArray[np.int8]
    block: NDArray[np.int64]
    hash: NDArray[np.uint64]
    hashed: NDArray[np.bool_]
    first: NDArray[np.bool_]
    hardness: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.index)

    def counts(self, rows: NDArray[Any] | None = None) -> NDArray[np.int64]:
        """Return the number of lines of each emotion, int64 (8,), among some rows or all."""
        emotions = self.emotion if rows is None else self.emotion[rows]
        return np.bincount(emotions, minlength=len(facs.EMOTIONS)).astype(np.int64)


@dataclass
class Choice:
    """Rows of the pool that were drawn.

    Attributes:
        sft: Rows of the SFT set, ascending.
        rl: Rows of the RL set, ascending.
        asked_sft: Lines asked for of each emotion, int64 (8,); of a set that takes all that are left, what it got.
        asked_rl: Lines asked for of each emotion, int64 (8,).
        left_out: Reason -> number of lines that are in neither set.
    """

    sft: NDArray[np.int64]
    rl: NDArray[np.int64]
    asked_sft: NDArray[np.int64]
    asked_rl: NDArray[np.int64]
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass
class Pilot:
    """Accuracy of a pilot, by sample and by emotion.

    Attributes:
        samples: Sample id -> (right, all).
        emotions: Emotion -> (right, all).
    """

    samples: dict[str, tuple[int, int]] = field(default_factory=dict)
    emotions: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, places: Iterable[Path]) -> Pilot:
        """Read finished rollouts of a pilot, line by line.

        Args:
            places: Folders of runs, or files of rollouts.

        Raises:
            DataError: a file cannot be read, or a line is no rollout.
        """
        pilot = cls()
        for place in places:
            path = place / "rollouts.jsonl" if place.is_dir() else place
            try:
                with path.open(encoding="utf-8") as lines:
                    for number, line in enumerate(lines, 1):
                        try:
                            found = json.loads(line)
                            pilot.add(found["sample_id"], found["emotion"], found["predicted_emotion"])
                        except (ValueError, KeyError, TypeError) as error:
                            raise DataError(f"{path}, line {number}: not a rollout ({error})") from error
            except OSError as error:
                raise DataError(f"cannot read the pilot {path}: {error.strerror or error}") from error
        return pilot

    def add(self, sample: str, emotion: str | None, predicted: str | None) -> None:
        """Count one answer; of a sample without a label there is nothing to count."""
        if emotion is not None:
            for table, key in ((self.samples, sample), (self.emotions, emotion)):
                right, every = table.get(key, (0, 0))
                table[key] = right + (predicted == emotion), every + 1

    def hardness(self, sample: str, emotion: str) -> float:
        """Return 1 - the accuracy on a sample, or else on its emotion; 0.5 where the pilot says nothing."""
        right, every = self.samples.get(sample) or self.emotions.get(emotion) or (1, 2)
        return 1.0 - right / every


def pool_of(lines: Iterable[Line], pilot: Pilot) -> Pool:
    """Return the arrays of some lines, which are read once."""
    columns: dict[str, array[Any]] = {
        "first": array("b"), "picture": array("q"), "subject": array("q"), "index": array("q"),
        "emotion": array("b"), "hash": array("Q"), "hashed": array("b"), "hardness": array("f"),
    }  # fmt: skip
    subjects: dict[tuple[str, str], int] = {}
    pictures: dict[bytes, int] = {}
    for line in lines:
        picture = bytes.fromhex(line.picture)[:12]
        columns["first"].append(picture not in pictures)
        columns["picture"].append(pictures.setdefault(picture, len(pictures)))
        owner = -1 if line.subject is None else subjects.setdefault((line.dataset, line.subject), len(subjects))
        columns["subject"].append(owner)
        columns["index"].append(line.index)
        columns["emotion"].append(facs.EMOTIONS.index(line.emotion))
        columns["hash"].append(int(line.hash or "0", 16))
        columns["hashed"].append(line.hash is not None)
        columns["hardness"].append(pilot.hardness(line.id, line.emotion))
    count = len(columns["index"])
    if not count:
        raise DataError("no line was kept: see the reasons in report.json")
    subject, picture_of = np.array(columns["subject"], np.int64), np.array(columns["picture"], np.int64)
    rows, named = np.arange(count), subject >= 0
    # Lines, subjects and pictures are nodes of a graph; what is connected belongs together.
    start = count + len(subjects)
    ends = np.concatenate([count + subject[named], start + picture_of])
    graph = coo_matrix((np.ones(len(ends), np.int8), (np.concatenate([rows[named], rows]), ends)),
                       shape=(start + len(pictures),) * 2)  # fmt: skip
    block = connected_components(graph, directed=False)[1][:count].astype(np.int64)
    return Pool(
        np.array(columns["index"], np.int64), np.array(columns["emotion"], np.int8), block,
        np.array(columns["hash"], np.uint64), np.array(columns["hashed"], bool), np.array(columns["first"], bool),
        np.array(columns["hardness"], np.float32),
    )  # fmt: skip


def draw(pool: Pool, options: CurateOptions, thumbnails: NDArray[np.int8]) -> Choice:
    """Draw the RL set and the SFT set.

    Args:
        pool: The kept lines.
        options: Sizes and balances.
        thumbnails: Thumbnails of all samples, int8 (samples, 1024), by which near hashes are believed.

    Returns:
        The choice; no subject, picture or near-duplicate is in both sets.
    """
    rng = np.random.default_rng(options.seed)
    usable = np.flatnonzero(pool.first)
    available = pool.counts(usable)
    asked_rl = _rl_histogram(pool, usable, available, options)

    # Hard samples first, with a weight: the keys of weighted sampling without replacement.
    keys = rng.random(len(pool)) ** (1.0 / (EASY + pool.hardness))
    rl = _take_blocks(pool, usable, asked_rl, keys)
    taken = np.isin(pool.block, pool.block[rl])
    rest = usable[~taken[usable]]
    near = _near_rows(pool, rl, rest, options.distance, thumbnails)
    rest = np.setdiff1d(rest, near)

    natural = largest_remainder(available, options.sft_size) if options.sft_size is not None else pool.counts(rest)
    shuffled = rng.permutation(rest)
    sft = np.sort(np.concatenate([
        shuffled[pool.emotion[shuffled] == number][:wanted] for number, wanted in enumerate(natural.tolist())
    ]))  # fmt: skip
    left_out = {
        "an equal picture is there": int((~pool.first).sum()),
        "of a subject of the RL set": int(taken[usable].sum()) - len(rl),
        "near a picture of the RL set": len(near),
        "more than the SFT set takes": len(rest) - len(sft),
    }
    return Choice(sft, rl, natural, asked_rl, {why: number for why, number in left_out.items() if number})


def _rl_histogram(
    pool: Pool, usable: NDArray[np.int64], available: NDArray[np.int64], options: CurateOptions
) -> NDArray[np.int64]:
    """Return how many lines of each emotion the RL set should have."""
    if options.rl_histogram is not None:
        return np.array([options.rl_histogram.get(name, 0) for name in facs.EMOTIONS], np.int64)
    most = np.floor(available * options.rl_cap).astype(np.int64)
    size = round(len(usable) * PAPER_SHARE) if options.rl_size is None else options.rl_size
    hardness = np.array([
        pool.hardness[usable][pool.emotion[usable] == number].mean() if count else 0.0
        for number, count in enumerate(available)
    ])  # fmt: skip
    weights = np.where(available > 0, available.astype(float) ** (1.0 - options.rl_flatten) * (EASY + hardness), 0.0)
    return largest_remainder(weights, min(size, int(most.sum())), most)


def largest_remainder(
    weights: NDArray[Any], size: int, most: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:  # fmt: skip
    """Return whole numbers in proportion to weights that add up to `size`, none above its bound.

    Args:
        weights: Weights of at least 0, (n,).
        size: Their sum.
        most: Bounds, (n,); what one cannot take, the others share.

    >>> largest_remainder(np.array([3, 2, 1]), 10)
    array([5, 3, 2])
    """
    found = np.zeros(len(weights), np.int64)
    bound = np.full(len(weights), size, np.int64) if most is None else most
    open_, left = np.asarray(weights, float) > 0, size
    while left > 0 and open_.any():
        exact = np.where(open_, weights, 0) / np.where(open_, weights, 0).sum() * left
        part = np.floor(exact).astype(np.int64)
        order = np.argsort(-(exact - part), kind="stable")
        part[[n for n in order if open_[n]][: left - int(part.sum())]] += 1
        part = np.minimum(part, bound - found)
        found, left = found + part, left - int(part.sum())
        open_ &= found < bound
    return found


def _take_blocks(
    pool: Pool, usable: NDArray[np.int64], asked: NDArray[np.int64], keys: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Draw blocks by the keys of their lines, rare emotions first, and take from each all that is still asked for."""
    order = usable[np.argsort(-keys[usable], kind="stable")]
    by_block = order[np.argsort(pool.block[order], kind="stable")]
    starts = np.searchsorted(pool.block[by_block], np.arange(pool.block.max() + 2))
    need, taken, seen = asked.copy(), list[int](), set[int]()
    available = pool.counts(usable)
    scarce = sorted(range(len(asked)), key=lambda number: available[number] / max(int(asked[number]), 1))
    for number in scarce:
        for row in order[pool.emotion[order] == number].tolist():
            block = int(pool.block[row])
            if need[number] <= 0:
                break
            if block in seen:
                continue
            seen.add(block)
            for member in by_block[starts[block] : starts[block + 1]].tolist():
                emotion = int(pool.emotion[member])
                if need[emotion] > 0:
                    need[emotion] -= 1
                    taken.append(member)
    return np.array(sorted(taken), np.int64)


def _near_rows(
    pool: Pool, rl: NDArray[np.int64], rest: NDArray[np.int64], distance: int, thumbnails: NDArray[np.int8]
) -> NDArray[np.int64]:
    """Return the rows of `rest` whose picture is nearly that of a row of `rl`."""
    side = np.zeros(len(pool), np.int8)
    side[rl], side[rest] = 1, 2
    rows = np.flatnonzero((side > 0) & pool.hashed)
    unique, groups = np.unique(pool.hash[rows], return_inverse=True)
    members = np.split(
        rows[np.argsort(groups, kind="stable")], np.cumsum(np.bincount(groups, minlength=len(unique)))[:-1]
    )
    has = [np.zeros(len(unique), bool), np.zeros(len(unique), bool)]
    for kind in (1, 2):
        has[kind - 1][groups[side[rows] == kind]] = True
    same, found = np.arange(len(unique)), set[int]()
    for one, other in chain([(same, same)], near_pairs(unique, distance)):
        across = (has[0][one] & has[1][other]) | (has[1][one] & has[0][other])
        for first, second in zip(one[across].tolist(), other[across].tolist(), strict=True):
            for here, there in _crossing(members[first], members[second], side):
                if there not in found and _alike(thumbnails, int(pool.index[here]), int(pool.index[there])):
                    found.add(there)
    return np.array(sorted(found), np.int64)


def _crossing(one: NDArray[np.int64], other: NDArray[np.int64], side: NDArray[np.int8]) -> Iterator[tuple[int, int]]:
    """Yield (row of the RL set, row of the rest) of each pair across the sets."""
    both = ((one, other),) if one is other else ((one, other), (other, one))
    for first, second in both:
        for here in first[side[first] == 1].tolist():
            yield from ((here, there) for there in second[side[second] == 2].tolist())


def _alike(thumbnails: NDArray[np.int8], one: int, other: int) -> bool:
    first, second = thumbnails[one].astype(np.float32), thumbnails[other].astype(np.float32)
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return size == 0 or float(first @ second) / size >= ALIKE - _MARGIN


def histogram(counts: Sequence[int] | NDArray[np.int64]) -> dict[str, int]:
    """Return counts by the emotions' names, those of none left out."""
    return {name: int(number) for name, number in zip(facs.EMOTIONS, counts, strict=True) if number}


def shortfalls(choice: Choice, pool: Pool, options: CurateOptions) -> Mapping[str, str]:
    """Return a line for each set that has fewer lines, or fewer of an emotion, than were asked for."""
    told: dict[str, str] = {}
    size = int(choice.asked_rl.sum())
    if options.rl_histogram is None and options.rl_size is not None and size < options.rl_size:
        told["size"] = (f"the RL set has room for {size} of the {options.rl_size} lines asked for: it takes at most "
                        f"{options.rl_cap:.0%} of an emotion's lines (rl_cap)")  # fmt: skip
    for name, rows, asked in (("RL", choice.rl, choice.asked_rl), ("SFT", choice.sft, choice.asked_sft)):
        got = pool.counts(rows)
        lacking = [f"{facs.EMOTIONS[n]} {got[n]} of {asked[n]}" for n in np.flatnonzero(got < asked)]
        if lacking:
            told[name] = f"the {name} set has fewer lines than asked for: {', '.join(lacking)}"
    return told
