"""Figures of a benchmark from the runs of its parts: what `table.json` holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env._version import __version__
from actfer_env.errors import DataError
from actfer_env.evaluation.benchmarks.base import Benchmark, Part
from actfer_env.evaluation.benchmarks.scores import (
    UNKNOWN,
    ferbench_label,
    ferbench_scores,
    label_scores,
    rouge_l,
    unit_scores,
)
from actfer_env.evaluation.costs import cost_of
from actfer_env.evaluation.metrics import grounding
from actfer_env.evaluation.run import Run
from actfer_env.rewards import TERMS
from actfer_env.rollout import Rollout
from actfer_env.sample import Sample

TABLE_SCHEMA = 1
_THOUGHT = re.compile(r"<think>(.*?)(?:</think>|<answer>|<tool_call>|$)", re.DOTALL)


@dataclass(frozen=True)
class Item:
    """An item of a benchmark, and what became of it.

    Attributes:
        target: The emotion, or None where the item has none.
        units: The active Action Units, or None.
        rollout: The episode, or None where the item could not be run.
        read: The label that FERBench's scorer reads in the answer, in the taxonomy's spelling; None where the scorer
            leaves the item out, or is not asked.
        description: The data set's description of the face, or None.
    """

    target: str | None
    units: frozenset[int] | None
    rollout: Rollout | None
    read: str | None
    description: str | None

    @property
    def answer(self) -> str | None:
        """The emotion that was answered, or None."""
        return None if self.rollout is None else self.rollout.predicted_emotion

    @property
    def answered_units(self) -> frozenset[int] | None:
        """The Action Units that were answered; None without an answer."""
        if self.rollout is None or self.rollout.predicted_emotion is None:
            return None
        return self.rollout.predicted_aus or frozenset()


def benchmark_figures(benchmark: Benchmark, runs: Mapping[str, Run]) -> dict[str, Any]:
    """Return the figures of a benchmark, as JSON values.

    Args:
        benchmark: The benchmark, opened.
        runs: Name of a part -> its run; parts without one are left out.

    Raises:
        DataError: there is no run.
    """
    played = [part for part in benchmark.parts if part.name in runs]
    if not played:
        raise DataError(f"no part of {benchmark.title} was played")
    items = {part.name: _items(part, runs[part.name], benchmark.compatible) for part in played}
    labels = [label for label in facs.EMOTIONS if any(label in part.labels for part in played)]
    first = runs[played[0].name]
    parts = {
        part.name: {"title": part.title, "official": part.count, "labels": list(part.labels)}
        | _figures(benchmark, items[part.name], part.labels, [runs[part.name]])
        for part in played
    }
    every = [item for part in played for item in items[part.name]]
    return {
        "schema": TABLE_SCHEMA, "benchmark": benchmark.name, "title": benchmark.title, "actfer_env": __version__,
        "agent": str(first.settings.get("agent", "")), "settings": first.settings,
        "looked": all(rollout.looked for run in runs.values() for rollout in run.rollouts),
        "parts": parts, "pooled": _figures(benchmark, every, labels, [runs[part.name] for part in played]),
        "published": [asdict(row) for row in benchmark.published], "notes": list(benchmark.notes),
    }  # fmt: skip


def add_gain(figures: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Add to each emotion how its pooled F1 differs from another run's of the benchmark, such as one without zooming.

    Args:
        figures: Result of `benchmark_figures`; changed in place.
        other: That of the other run.

    Raises:
        DataError: it is of another benchmark, or of other items.
    """
    mine, theirs = ({name: part["items"] for name, part in one["parts"].items()} for one in (figures, other))
    if figures["benchmark"] != other.get("benchmark") or mine != theirs:
        raise DataError(f"the table to compare with is of {other.get('title')} with items {theirs}, this one of "
                        f"{figures['title']} with {mine}: play both over the same items")  # fmt: skip
    figures["against"] = other["agent"]
    for emotion, row in figures["pooled"]["emotions"].items():
        before = other["pooled"]["emotions"].get(emotion, {}).get("f1")
        row["f1_gain"] = None if before is None or row["f1"] is None else row["f1"] - before


def thought_of(rollout: Rollout) -> str:
    """Return what a policy wrote as its reasoning, over all turns; empty where it wrote none."""
    return " ".join(part.strip() for text in rollout.texts for part in _THOUGHT.findall(text)).strip()


def _items(part: Part, run: Run, compatible: bool) -> list[Item]:
    """Return every item of a part, in order; repeats of a sample are items of their own."""
    repeats = int(run.settings.get("repeats", run.settings.get("group_size", 1)))
    known = None if run.au_set is None else frozenset(run.au_set)
    found = {(rollout.sample_id, rollout.member): rollout for rollout in run.rollouts}
    items = []
    for sample in part.dataset:
        units = sample.aus if sample.aus is None or known is None else sample.aus & known
        for member in range(repeats):
            rollout = found.get((sample.id, member))
            read = _read_by_ferbench(part, sample, rollout) if compatible and rollout is not None else None
            items.append(Item(sample.emotion, units, rollout, read, sample.meta.get("description")))
    return items


def _read_by_ferbench(part: Part, sample: Sample, rollout: Rollout) -> str:
    spelled = dict(zip(part.labels, part.spelled, strict=True))
    if rollout.predicted_emotion in spelled and ("preset" not in rollout.meta or rollout.meta["preset"] == "actfer"):
        response = f"<answer>{spelled[rollout.predicted_emotion]}</answer>"
    else:
        response = rollout.texts[-1] if rollout.texts else ""
    label = ferbench_label(response, part.spelled, part.name)
    return label if label == UNKNOWN else facs.parse_emotion(label)


def _figures(benchmark: Benchmark, items: Sequence[Item], labels: Sequence[str], runs: Sequence[Run]) -> dict[str, Any]:
    rollouts = [item.rollout for item in items if item.rollout is not None]
    labelled = [item for item in items if item.target is not None and item.target in labels]
    failed = sum(bool(rollout.meta.get("parse_failures")) for rollout in rollouts)
    strict = label_scores([str(item.target) for item in labelled], [item.answer for item in labelled], labels)
    read = [(str(item.target), item.read) for item in labelled if item.read is not None]
    coded = [item for item in items if item.units is not None]
    found: dict[str, Any] = {
        "items": len(items), "errors": len(items) - len(rollouts), "parse_failures": failed,
        "no_answer": sum(rollout.predicted_emotion is None for rollout in rollouts),
        "other_label": sum(item.answer is not None and item.answer not in labels for item in labelled),
        "parse_failure_rate": failed / len(items) if items else None,
        "strict": asdict(strict) if labelled else None,
        "ferbench": asdict(ferbench_scores([one for one, _ in read], [two for _, two in read])) if read else None,
        "units": {
            name: asdict(unit_scores([item.units or frozenset() for item in coded],
                                     [item.answered_units for item in coded], facs.AU_SETS[name]))
            for name in benchmark.units if coded and set(facs.AU_SETS[name]) <= _asked(runs)
        },
        "zoom_ratio": _mean(rollout.zoomed for rollout in rollouts),
        "emotions": _by_emotion(labelled, strict.f1),
        "terms": _terms(runs), **_evidence(items),
    }  # fmt: skip
    costs = [cost for run in runs if (cost := cost_of(run.rollouts, run.price)) is not None]
    sums = {name: sum(asdict(cost)[name] for cost in costs) for name in (asdict(costs[0]) if costs else ())}
    return found | {"cost": sums or None}


def _asked(runs: Sequence[Run]) -> frozenset[int]:
    """Return the Action Units that every run asked for."""
    asked = [frozenset(run.au_set) for run in runs if run.au_set is not None]
    return frozenset.intersection(*asked) if asked else frozenset(facs.AU_NAMES)


def _by_emotion(labelled: Sequence[Item], f1: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return what the paper's figure 4 shows of each emotion: how often the policy zoomed, and its F1."""
    rows = {}
    for emotion in facs.EMOTIONS:
        here = [item for item in labelled if item.target == emotion]
        if here:
            zoomed = [item.rollout.zoomed for item in here if item.rollout is not None]
            rows[emotion] = {"items": len(here), "zoom_ratio": _mean(zoomed), "f1": f1.get(emotion)}
    return rows


def _terms(runs: Sequence[Run]) -> dict[str, float]:
    values = {name: np.concatenate([getattr(run.scores, name) for run in runs]) for name in TERMS}
    return {name: float(value.mean()) for name, value in values.items() if len(value)}


def _evidence(items: Sequence[Item]) -> dict[str, Any]:
    """Return the overlap of boxes with those of active units, and of reasoning with descriptions."""
    rollouts = [item.rollout for item in items if item.rollout is not None]
    described = [item for item in items if item.description]
    wrote = any(rollout.texts for rollout in rollouts)
    texts = ["" if item.rollout is None or item.answer is None else thought_of(item.rollout) for item in described]
    return {
        **grounding(rollouts),
        "described": len(described),
        "rouge_l": rouge_l([str(item.description) for item in described], texts) if described and wrote else None,
    }  # fmt: skip


def _mean(values: Any) -> float | None:
    listed = list(values)
    return float(np.mean(listed)) if listed else None
