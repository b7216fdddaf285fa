"""Records of the passes of a gate report: facts of each sample, and the outcome of each episode."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env._version import __version__
from actfer_env.boxes import Box, iou
from actfer_env.errors import DataError
from actfer_env.files import write_text_atomic
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rewards.task import task_reward
from actfer_env.rollout import Rollout
from actfer_env.sample import Sample
from actfer_env.tools.face_tools import FaceTools
from actfer_env.tools.sampling import sharpness

SCHEMA = 1
FOLDER, HEAD, PLAYS = "gate", "plays.json", "plays.jsonl"
"""In a run's folder: where its passes lie, what they are of, and their outcomes."""

FREE, NEVER, ALWAYS, ALL = "free", "never", "always", "all"
"""Passes: the policy decides; it never zooms; it zooms once at least, then decides; it zooms while it can."""
Swap: TypeAlias = Literal["blurred", "person", "region"]
SWAPS: tuple[Swap, ...] = get_args(Swap)
"""Pictures in the place of the crops of a pass "always": blurred crops of the same boxes, the same region of another
person, or another region of the same face."""


def only(region: str) -> str:
    """Return the name of the pass that zooms into one region alone."""
    return f"only {region}"


@dataclass(frozen=True)
class SampleFacts:
    """Facts of a sample by which its episodes are ordered and grouped.

    Attributes:
        id: The sample's id.
        emotion: Target, one of `facs.EMOTIONS`.
        aus: Target Action Units, or None.
        face: Whether a face was found.
        quality: Label of the picture's quality, or None.
        focus: Variance of the Laplacian of the aligned face at 64 pixels; 0 without one.
        size: Shorter side of the picture in pixels; 0 where no face was found.
        subject: Person, where it is known.
    """

    id: str
    emotion: str | None
    aus: tuple[int, ...] | None = None
    face: bool = True
    quality: str | None = None
    focus: float = 0.0
    size: int = 0
    subject: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Outcome of one episode.

    Attributes:
        sample: The sample's id.
        way: Name of the pass.
        emotion: Answer; None without one.
        aus: Action Units of the answer; None if it names none.
        zoomed: Whether a zoom was made.
        looks: Regions that were magnified, in order; of a free box the region that it overlaps most.
        repeat: Number of the repeat.
        policy: Number of the policy, where several seeds were played.
        chance: The policy's own probability of a zoom after the face was aligned; None where it does not say.
    """

    sample: str
    way: str
    emotion: str | None
    aus: tuple[int, ...] | None
    zoomed: bool
    looks: tuple[str, ...] = ()
    repeat: int = 0
    policy: int = 0
    chance: float | None = None

    @classmethod
    def of(cls, rollout: Rollout, way: str, repeat: int = 0, policy: int = 0, chance: float | None = None) -> Outcome:
        """Return what a rollout amounts to."""
        aus = None if rollout.predicted_aus is None else tuple(sorted(rollout.predicted_aus))
        return cls(rollout.sample_id, way, rollout.predicted_emotion, aus, rollout.zoomed, looked_at(rollout), repeat,
                   policy, chance)  # fmt: skip


def looked_at(rollout: Rollout) -> tuple[str, ...]:
    """Return the regions that an episode magnified, in order; of a free box the region that it overlaps most."""
    regions = {name: Box(*box) for call in rollout.tool_calls for name, box in call.result.get("regions", {}).items()}
    found = []
    for call in rollout.tool_calls:
        if not call.zoomed:
            continue
        crops = call.result.get("crops") or [{"box": box} for box in call.boxes]
        for crop in crops:
            name, box = crop.get("region"), Box(*crop["box"])
            if name is None and regions:
                name = max(regions, key=lambda one: iou(regions[one], box))
            found += [] if name is None else [str(name)]
    return tuple(found)


def facts_of(sample: Sample, tools: FaceTools, au_set: Sequence[int] = facs.CORE_AUS) -> SampleFacts:
    """Return a sample's facts; its face is searched for, unless that is known already."""
    alignment = tools.alignment(sample)
    aus = None if sample.aus is None else tuple(sorted(sample.aus & frozenset(au_set)))
    quality = sample.meta.get("quality")
    about = {"quality": None if quality is None else str(quality), "subject": sample.subject}
    if alignment is None:
        return SampleFacts(sample.id, sample.emotion, aus, False, **about)  # type: ignore[arg-type]
    focus = round(sharpness(tools.face(sample, alignment, 64)), 3)
    size = min(alignment.image_size)
    return SampleFacts(sample.id, sample.emotion, aus, True, focus=focus, size=size, **about)


@dataclass(frozen=True)
class Plays:
    """All passes of one or several policies over the same samples.

    Attributes:
        samples: Their facts, in the order of the data set.
        outcomes: The episodes, in any order.
        agents: Names of the policies; several are seeds of one.
        dataset: Arguments of `load_dataset`.
        settings: Further settings of the passes, as JSON values.
        looks: Whether the policies look at pictures.
        failures: Samples that could not be played: {"sample_id", "error"}.
        version: Version of the package that played.
    """

    samples: tuple[SampleFacts, ...]
    outcomes: tuple[Outcome, ...]
    agents: tuple[str, ...]
    dataset: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    looks: bool = True
    failures: tuple[dict[str, str], ...] = ()
    version: str = __version__

    def table(self, policy: int = 0) -> PassTable:
        """Return the outcomes of one policy as arrays."""
        return PassTable(self.samples, [one for one in self.outcomes if one.policy == policy])


class PassTable:
    """Outcomes of one policy as arrays, a row a sample and a column a repeat.

    Only samples with an emotion that were played in all of "free", "never" and "always" count.

    Attributes:
        samples: Facts of those samples.
        repeats: Repeats that all of them have.
        ways: Names of the passes that all of them have.
    """

    def __init__(self, samples: Sequence[SampleFacts], outcomes: Iterable[Outcome]) -> None:
        self._kept: dict[tuple[str, str], dict[int, Outcome]] = {}
        for one in outcomes:
            self._kept.setdefault((one.way, one.sample), {})[one.repeat] = one
        needed = (FREE, NEVER, ALWAYS)
        self.samples = [
            one for one in samples
            if one.emotion is not None and all((way, one.id) in self._kept for way in needed)
        ]  # fmt: skip
        counts = [len(self._kept[way, one.id]) for one in self.samples for way in needed]
        self.repeats = min(counts, default=0)
        names = dict.fromkeys(way for way, _ in self._kept)
        self.ways = [way for way in names if all((way, one.id) in self._kept for one in self.samples)]

    def __len__(self) -> int:
        return len(self.samples)

    def column(self, way: str, value: Any) -> NDArray[Any]:
        """Return a value of each episode of a pass, (n, k); passes that were played fewer times repeat."""
        rows = []
        for one in self.samples:
            played = self._kept[way, one.id]
            repeats = [played[key] for key in sorted(played)]
            rows.append([value(repeats[k % len(repeats)], one) for k in range(self.repeats)])
        return np.array(rows).reshape(len(self.samples), self.repeats)

    def quality(self, way: str, measure: str = "accuracy") -> NDArray[np.float64]:
        """Return what each episode of a pass was worth, float (n, k): see `quality_of`."""
        return self.column(way, lambda outcome, facts: quality_of(outcome, facts, measure)).astype(float)

    def zoomed(self, way: str) -> NDArray[np.bool_]:
        """Return whether each episode of a pass zoomed, bool (n, k)."""
        return self.column(way, lambda outcome, _: outcome.zoomed).astype(bool)

    def answers(self, way: str) -> NDArray[Any]:
        """Return the emotions that were answered (n, k), "" without an answer."""
        return self.column(way, lambda outcome, _: outcome.emotion or "")

    def looks(self, way: str) -> list[tuple[str, ...]]:
        """Return the regions that the first repeat of each sample looked at, in order."""
        return [self._kept[way, one.id][min(self._kept[way, one.id])].looks for one in self.samples]

    @cached_property
    def face(self) -> NDArray[np.bool_]:
        """Samples whose face was found, bool (n,)."""
        return np.array([one.face for one in self.samples], bool)

    @cached_property
    def chance(self) -> NDArray[np.float64]:
        """The policy's chance to zoom (n,): its own probability, or else the share of its free repeats that zoomed."""
        said = self.column(FREE, lambda outcome, _: np.nan if outcome.chance is None else outcome.chance)
        known = ~np.isnan(said.astype(float)).any(1)
        found = self.zoomed(FREE).mean(1)
        found[known] = said.astype(float)[known].mean(1)
        return np.where(self.face, found, 0.0)

    @property
    def says_chance(self) -> bool:
        """True if the policy tells its probability of a zoom."""
        said = self.column(FREE, lambda outcome, _: outcome.chance is not None)
        return bool(said[self.face].all()) if self.face.any() else False


def quality_of(outcome: Outcome, facts: SampleFacts, measure: str = "accuracy") -> float:
    """Return what an episode was worth.

    Args:
        outcome: The episode.
        facts: Its sample.
        measure: "accuracy" is 1 where the emotion is right and else 0; "task" is the task reward of UC-GRPO by its
            default constants, with the Action Units where these are labelled.
    """
    if measure == "accuracy":
        return float(outcome.emotion is not None and outcome.emotion == facts.emotion)
    target, units = (None if aus is None else frozenset(aus) for aus in (facts.aus, outcome.aus))
    rollout = Rollout(facts.id, facts.id, facts.emotion, target, outcome.emotion, units, (), "ok")
    return task_reward(rollout, UCGRPOConfig())


def joined(plays: Sequence[Plays]) -> Plays:
    """Return the passes of several runs as seeds of one policy; each may have its own samples of one data set.

    Raises:
        DataError: they know the same sample by different labels or pictures, as of different data sets.
    """
    first, *others = plays
    if not others:
        return first
    samples: dict[str, SampleFacts] = {}
    outcomes, agents = list[Outcome](), list[str]()
    for one in plays:
        for facts in one.samples:
            if samples.setdefault(facts.id, facts) != facts:
                both = f"{', '.join(one.agents)} and {', '.join(agents)}"
                raise DataError(f"{both}: sample {facts.id!r} is not the same: seeds are played on one data set")
        outcomes += [replace(outcome, policy=outcome.policy + len(agents)) for outcome in one.outcomes]
        agents += one.agents
    looks = all(one.looks for one in plays)
    return replace(first, samples=tuple(samples.values()), outcomes=tuple(outcomes), agents=tuple(agents), looks=looks)


def write_plays(folder: str | os.PathLike[str], plays: Plays) -> None:
    """Write the passes into a run's folder.

    Raises:
        DataError: it cannot be written.
    """
    place = Path(folder) / FOLDER
    head = {
        "schema": SCHEMA, "actfer_env": plays.version, "agents": list(plays.agents), "dataset": plays.dataset,
        "settings": plays.settings, "looks": plays.looks, "failures": list(plays.failures),
        "samples": [asdict(one) for one in plays.samples],
    }  # fmt: skip
    lines = "".join(json.dumps(asdict(one), allow_nan=False) + "\n" for one in plays.outcomes)
    write_text_atomic(place / PLAYS, lines)
    write_text_atomic(place / HEAD, json.dumps(head, indent=1) + "\n")


def holds_plays(folder: str | os.PathLike[str]) -> bool:
    """True if a folder holds the passes of a gate report, whole or not."""
    return (Path(folder) / FOLDER / HEAD).is_file()


def read_plays(folder: str | os.PathLike[str]) -> Plays:
    """Read the passes of a run's folder.

    Raises:
        DataError: the folder has none, or they are broken or of a newer version.
    """
    place = Path(folder) / FOLDER
    if not holds_plays(folder):
        raise DataError(f"{folder} holds no passes of a gate report: play them with 'actfer eval ... --gate --out'")
    try:
        head = json.loads((place / HEAD).read_text(encoding="utf-8"))
        if head["schema"] > SCHEMA:
            raise DataError(f"{place / HEAD}: schema {head['schema']} is newer than {SCHEMA}; update actfer-env")
        lines = (place / PLAYS).read_text(encoding="utf-8").splitlines()
        return Plays(
            tuple(_record(SampleFacts, one) for one in head["samples"]),
            tuple(_record(Outcome, json.loads(line)) for line in lines), tuple(head["agents"]), head["dataset"],
            head["settings"], head["looks"], tuple(head["failures"]), head["actfer_env"],
        )  # fmt: skip
    except DataError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{place} holds broken passes ({error}): play them again") from error


def _record(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return a record of its JSON values; fields that this version does not know are ignored."""
    known = {one.name: values[one.name] for one in fields(kind) if one.name in values}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})


__all__ = [
    "ALL", "ALWAYS", "FREE", "NEVER", "SWAPS", "Outcome", "PassTable", "Plays", "SampleFacts", "facts_of",
    "only", "quality_of", "read_plays", "write_plays",
]  # fmt: skip
