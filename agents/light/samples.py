"""Choice of the samples of a data set that teach, tune and measure a light policy."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.agents.light.settings import SessionConfig
from actfer_env.data import Dataset, load_dataset, registered_datasets
from actfer_env.data.registry import known_name
from actfer_env.data.subset import subset
from actfer_env.errors import DataError
from actfer_env.splits import SPLITS

TEST_SHARE, VAL_SHARE, RL_SHARE = 0.2, 0.13, 0.4
"""Shares of the samples (chosen here) for test, of the others for val where the data set has none, and of the training
samples for UC-GRPO alone: those that the warm start has learned by heart would all be read right."""
MOST_REPEATS = 10
"""Most repeats of a sample in balanced drawing, and the most that a rare emotion weighs, the commonest being 1 (chosen
here)."""
WEIGHTED = (
    "emotions are drawn as often as they come in the data; in the warm start's loss each weighs by the inverse of its "
    f"number, a rare one at most {MOST_REPEATS} times as much as the commonest; UC-GRPO does not weigh"
)
PARTS = ("train", "rl", "val", "test")


@dataclass(frozen=True)
class TrainingData:
    """The samples of a run.

    Attributes:
        parts: "train" (the warm start's), "rl" (those of UC-GRPO), "val" and "test"; parts may be the same samples.
        held: The part that measures, "test" or "val".
        balanced: Whether rare emotions are drawn as often as common ones.
        weighted: Whether rare emotions weigh more in the warm start's loss.
        notes: Remarks for the user, a line each.
        facts: Choice of the samples, and their counts, as JSON values; empty for drawn faces.
    """

    parts: Mapping[str, Dataset]
    held: str
    balanced: bool = False
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    weighted: bool = False


def is_sized(name: str) -> bool:
    """Tell whether a data set makes as many samples of each split as are asked for, as drawn ones do."""
    name = known_name(name.partition(":")[0])
    if name not in registered_datasets():
        return False
    loader = registered_datasets()[name]
    parameters = inspect.signature(loader).parameters
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return not hasattr(loader, "info") and "split" in parameters and (takes_any or "n" in parameters)


def training_data(config: SessionConfig) -> TrainingData:
    """Choose the samples of a run.

    Raises:
        DataError: the data set cannot be loaded, has no emotions, or is too small.
    """
    if is_sized(config.dataset):
        return _drawn_data(config)
    options = {} if config.data_preset is None else {"preset": config.data_preset}
    sizes = {"train": config.train, "val": config.val, "test": config.test}
    whole = load_dataset(config.dataset, config.root, **options)
    labels = _Labels.of(whole)
    notes: list[str] = []
    usable = np.flatnonzero(labels.emotion >= 0)
    if not len(usable):
        raise DataError(f"data set {whole.name!r} has no emotions: training needs a data set with emotion labels")
    if len(usable) < len(whole):
        notes.append(f"{len(whole) - len(usable)} samples without an emotion are left out")

    # Train, val and test; no person is in two of them but where the data set's own splits have it so.
    drawn = whole[0].annotate is not None
    rows, how = _split(labels, usable, config)
    for name in rows:
        if len(rows[name]) > (sizes[name] or len(whole)):
            order = np.random.default_rng(config.split_seed).permutation(rows[name])
            rows[name] = rows[name][: sizes[name]] if drawn else np.sort(order[: sizes[name]])
    held = "test" if len(rows["test"]) else "val"
    notes.append(f"splits: {how}")

    # The warm start and UC-GRPO learn from different samples, or both from all.
    share = (0.0 if drawn else RL_SHARE) if config.rl_share is None else config.rl_share
    rows["rl"] = rows["train"]
    if share:
        rows["train"], rows["rl"] = _two(labels, rows["train"], share, config.split_seed)
        notes.append(_apart_note(rows))
    counts = {name: len(rows[name]) for name in PARTS}
    for name in ("train", "rl", "val"):
        if not counts[name]:
            raise DataError(f"data set {whole.name!r} has {len(usable)} samples with an emotion, and none is left for "
                            f"{name}: too few, or too few people")  # fmt: skip

    # What is uneven or missing is told.
    classes = {name: labels.counts(rows[name]) for name in PARTS}
    notes += _missing(classes, held)
    balanced = config.balance == "draw" or (config.balance == "auto" and not drawn)
    if balanced:
        notes.append("emotions are drawn equally often, in the warm start and in UC-GRPO: a rare one's samples come "
                     f"again, up to {MOST_REPEATS} times")  # fmt: skip
    elif config.balance == "weights":
        notes.append(WEIGHTED)
    elif not drawn:
        notes.append("emotions are drawn as often as they come in the data")
    facts = {"splitting": how, "samples": counts, "classes": classes, "balanced": balanced, "rl_share": share,
             "notes": notes}  # fmt: skip
    return TrainingData({name: subset(whole, rows[name]) for name in PARTS if len(rows[name])}, held, balanced,
                        tuple(notes), facts, config.balance == "weights")  # fmt: skip


def _drawn_data(config: SessionConfig) -> TrainingData:
    """Return the samples of a data set that makes as many as are asked for."""
    if config.split not in ("auto", "own"):
        raise DataError(f"split {config.split!r}: {config.dataset} has splits of its own; leave it out")
    options = {} if config.data_preset is None else {"preset": config.data_preset}
    sizes = {"train": config.train, "val": config.val, "test": config.test}
    parts = {name: load_dataset(config.dataset, config.root, name, n=n, **options) for name, n in sizes.items() if n}
    held, balanced, notes = "test" if config.test else "val", config.balance == "draw", []
    if balanced:
        notes.append(f"emotions are drawn equally often: a rare one's samples come again, up to {MOST_REPEATS} times")
    weighted = config.balance == "weights"
    if weighted:
        notes.append(WEIGHTED)
    if not config.rl_share:
        return TrainingData({**parts, "rl": parts["train"]}, held, balanced, tuple(notes), weighted=weighted)
    whole = parts["train"]
    rows = dict(zip(("train", "rl"), _two(_Labels.of(whole), np.arange(len(whole)), config.rl_share, config.split_seed),
                    strict=True))  # fmt: skip
    for name, taken in rows.items():
        if not len(taken):
            raise DataError(f"none of {len(whole)} training samples is left for {name}: choose another rl_share")
    parts |= {name: subset(whole, taken) for name, taken in rows.items()}
    return TrainingData(parts, held, balanced, (*notes, _apart_note(rows)), weighted=weighted)


def _missing(classes: Mapping[str, Mapping[str, int]], held: str) -> list[str]:
    """Return a line for each part that lacks an emotion which others have, and one for those that all lack."""
    there = [emotion for emotion in facs.EMOTIONS if any(counts.get(emotion) for counts in classes.values())]
    notes = []
    for name in ("train", "rl", held):
        lacking = [emotion for emotion in there if not classes[name].get(emotion)]
        if lacking:
            told = "cannot be measured" if name == held else "cannot be learned there"
            notes.append(f"no {' and no '.join(lacking)} among the samples of {name}: {told}")
    never = [emotion for emotion in facs.EMOTIONS if emotion not in there]
    return [*notes, f"the data set has no {' and no '.join(never)}"] if never else notes


@dataclass(frozen=True)
class _Labels:
    """Labels that splitting looks at: of n samples the emotion's index (-1 is none), the split, and who it shows."""

    emotion: NDArray[np.int64]
    split: NDArray[np.str_]
    person: NDArray[np.str_]
    ids: NDArray[np.str_]

    @classmethod
    def of(cls, dataset: Dataset) -> _Labels:
        found = [(sample.emotion, sample.split or "", sample.subject or "", sample.id) for sample in dataset]
        emotion = [-1 if one[0] is None else facs.EMOTIONS.index(one[0]) for one in found]
        columns = [np.array([one[k] for one in found]) for k in (1, 2, 3)]
        return cls(np.array(emotion), *columns)

    def keys(self, rows: NDArray[np.int64]) -> tuple[list[str], str]:
        """Return what keeps samples together: the person where all are known, else the sample; and its name."""
        if (self.person[rows] != "").all():
            return self.person[rows].tolist(), "person"
        return self.ids[rows].tolist(), "sample"

    def counts(self, rows: NDArray[np.int64]) -> dict[str, int]:
        found = Counter(self.emotion[rows].tolist())
        return {name: found[place] for place, name in enumerate(facs.EMOTIONS) if found[place]}


def _split(
    labels: _Labels, usable: NDArray[np.int64], config: SessionConfig
) -> tuple[dict[str, NDArray[np.int64]], str]:
    """Return the rows of train, val and test, and in words where they come from."""
    named = labels.split[usable]
    rows = {name: usable[named == name] for name in SPLITS}
    own = [name for name in SPLITS if len(rows[name])]
    rule = config.split
    if rule == "auto":
        rule = (
            "own"
            if len(own) > 1 and "train" in own
            else ("subject" if (labels.person[usable] != "").all() else "share")
        )
    seed = config.split_seed
    if rule == "own":
        if "train" not in own or len(own) < 2:
            raise DataError(f"data set {config.dataset!r} has {' and '.join(own) or 'no splits'}, which is not enough "
                            "to train and to measure: use --split subject or --split share")  # fmt: skip
        if "val" in own:
            return rows, f"the data set's own ({', '.join(own)})"
        keys, kind = labels.keys(rows["train"])
        part = apart(keys, VAL_SHARE, seed)
        rows["val"], rows["train"] = rows["train"][part], rows["train"][~part]
        return rows, f"the data set's own, val taken from train by {kind} (seed {seed})"
    keys, kind = labels.keys(usable)
    if rule == "subject" and kind == "sample":
        raise DataError(f"data set {config.dataset!r} does not say who all of its pictures show: use --split share")
    if rule == "share":
        keys, kind = labels.ids[usable].tolist(), "sample"
    test = apart(keys, TEST_SHARE, seed)
    left = [key for key, taken in zip(keys, test, strict=True) if not taken]
    val = np.zeros(len(usable), bool)
    val[~test] = apart(left, VAL_SHARE, seed + 1)
    rows = {"train": usable[~test & ~val], "val": usable[val], "test": usable[test]}
    return rows, f"by {kind} (seed {seed})"


def apart(keys: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose about a share of some samples, those with one key all or none.

    Args:
        keys: Key of each sample, such as the person.
        share: Share of the samples, in [0, 1].
        seed: The draw's.
    """
    counts, chosen, taken = Counter(keys), set[str](), 0
    for key in sorted(counts, key=lambda one: hashlib.blake2b(f"{seed} {one}".encode(), digest_size=8).digest()):
        if taken + counts[key] / 2 <= share * len(keys):
            chosen.add(key)
            taken += counts[key]
    return np.array([key in chosen for key in keys], bool)


def _two(
    labels: _Labels, rows: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the warm start's rows and those of UC-GRPO; no person is in both where all are known."""
    part = apart(labels.keys(rows)[0], share, seed + 2)
    return rows[~part], rows[part]


def _apart_note(rows: Mapping[str, NDArray[np.int64]]) -> str:
    return f"the warm start learns from {len(rows['train'])} samples, UC-GRPO from {len(rows['rl'])} others"


def class_weights(emotion: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a weight for each emotion, float32 (8,): by the inverse of its number, 1 for the commonest.

    Args:
        emotion: int (k,), indices into `facs.EMOTIONS`; others are not counted.
    """
    counts = np.bincount(emotion[emotion >= 0], minlength=len(facs.EMOTIONS))
    weights = counts.max() / np.maximum(counts, 1)
    return np.minimum(weights, MOST_REPEATS).astype(np.float32)


def named_weights(emotion: NDArray[np.int64]) -> dict[str, float]:
    """Return the weight of each emotion by its name, for a result."""
    return dict(zip(facs.EMOTIONS, (round(value, 4) for value in class_weights(emotion).tolist()), strict=True))


def repeats(emotion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which samples come again so that emotions are drawn equally often: all k samples and these.

    Args:
        emotion: int (k,).
    """
    counts = Counter(emotion.tolist())
    again = []
    for label, count in sorted(counts.items()):
        wanted = min(max(counts.values()), MOST_REPEATS * count)
        again.append(np.resize(np.flatnonzero(emotion == label), wanted - count))
    return np.concatenate(again).astype(np.int64)
