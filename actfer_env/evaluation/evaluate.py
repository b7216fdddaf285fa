"""Evaluating language policies: finished conversations are kept at once, and a second start plays what is missing."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools, system_prompt, user_prompt
from actfer_env.data import Dataset, Sample
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import AgentError, DataError, ImageError
from actfer_env.evaluation.gate.evidence import SwappedTools
from actfer_env.evaluation.gate.outcomes import Swap
from actfer_env.evaluation.intervals import bootstrap
from actfer_env.evaluation.run import RUN_FILE, Run, finished_run
from actfer_env.files import Journal, write_text_atomic
from actfer_env.identity import (
    as_json,
    dataset_facts,
    detector_facts,
    digest,
    listed,
    refuse_other,
    same_picture,
    sample_facts,
)
from actfer_env.rewards import UCGRPOConfig, au_f1
from actfer_env.rollout import Rollout
from actfer_env.tools.schema import tool_schemas

if TYPE_CHECKING:
    from actfer_env.agents.base import ChatAgent

JOURNAL, SETTINGS = "episodes.jsonl", "eval.json"


@dataclass(frozen=True)
class EvalConfig:
    """Settings of an evaluation.

    Attributes:
        chat: Formats and picture sizes.
        episode: Budgets and Action Units.
        detector: The detector's spec, or "auto".
        number: Samples, from the first on; None is all.
        repeats: Conversations of each sample, which form a query group.
        reward: Constants of the reward.
        swap: Content of crops instead of their box, a name in `evaluation.gate.outcomes.SWAPS`; None is what is there.
    """

    chat: ChatConfig = field(default_factory=ChatConfig)
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    detector: str = "auto"
    number: int | None = bounded(None, ge=1)
    repeats: int = bounded(1, ge=1)
    reward: UCGRPOConfig = field(default_factory=UCGRPOConfig)
    swap: Swap | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def evaluate(
    agent: ChatAgent,
    dataset: Dataset,
    config: EvalConfig | None = None,
    out: str | os.PathLike[str] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Run:
    """Play a data set with a language policy.

    Args:
        agent: A `QwenVLAgent`, an `OpenAIChatAgent`, or your own.
        dataset: The samples.
        config: Formats, budgets and repeats.
        out: Folder in which every finished conversation is kept at once (`episodes.jsonl`). Called again with the
            same agent, data and config, `evaluate` plays only what is missing there. Labels may have been mended in
            between: kept answers are scored by the data set's labels of today. None keeps nothing.
        advance: Called with the number of finished conversations, for a progress bar.

    Returns:
        The run, in the data set's order, scored as one step of a fresh scorer. After Ctrl-C it holds what was
        finished. A conversation that the endpoint refuses, while it answers others, is listed in `failures`; so is,
        without a sample, a cause on the server's side that ended most conversations.

    Raises:
        DataError: the folder holds another evaluation, a kept sample's picture has changed, or the folder cannot be
            written.
        AgentError: the agent cannot play on, or most conversations cannot even begin, as with a bound on tokens that
            the model has not; finished conversations are kept, and its `run` holds them.
        ActFERError: what else the agent raises; finished conversations are kept.
    """
    config = config or EvalConfig()
    settings = _settings(agent, dataset, config)
    journal = _Journal(None if out is None else Path(out), settings)
    journal.compare(dataset, config)
    failures: list[dict[str, str]] = []
    refused: list[tuple[str, bool]] = []
    try:
        for played, usage in agent.play(_missing(dataset, config, journal, failures, advance)):
            error, begun = _fault(played)
            if error is not None:
                failures.append({"sample_id": played.episode.sample.id, "error": error})
                refused.append((error, begun))
                continue
            journal.keep(played.episode.rollout({"usage": asdict(usage)}), played.episode.sample)
            if advance is not None:
                advance(len(journal.kept))
        failures += _causes(journal, refused)
    except KeyboardInterrupt:
        failures.append({"sample_id": "", "error": "interrupted: run again to play what is missing"})
    except AgentError as error:
        failures.append({"sample_id": "", "error": str(error)})
        error.run = _to_run(journal, dataset, config, settings, failures) if journal.kept else None
        raise
    finally:
        journal.leave()
    return _to_run(journal, dataset, config, settings, failures)


def _settings(agent: ChatAgent, dataset: Dataset, config: EvalConfig) -> dict[str, Any]:
    """Return what identifies an evaluation, as JSON values; how many samples is left open, so that it may grow.

    What each sample shows is kept with its conversation.
    """
    chat, episode = config.chat, config.episode
    prompts = [
        system_prompt(chat, episode),
        user_prompt(chat, emotions=episode.emotions),
        tool_schemas(chat.coordinates, tools=episode.tools),
    ]
    return dict(as_json({
        "agent": agent.name, "model": getattr(agent, "identity", {}), "sampling": getattr(agent, "settings", {}),
        "dataset": dataset_facts(dataset), "detector": detector_facts(config.detector), "chat": asdict(chat),
        "episode": episode.facts(), "prompts": digest(prompts),
        **({} if config.swap is None else {"swap": config.swap}),
    }))  # fmt: skip


def _fault(played: Any) -> tuple[str | None, bool]:
    """Return why a conversation is not the policy's own, or None, and whether one of its turns was answered."""
    error, episode = getattr(played, "error", None), played.episode
    if error is None and episode.outcome == "too_long" and not episode.texts:
        return f"{episode.why or 'the first question does not fit'}; lower --max-new-tokens or --max-pixels", False
    return error, getattr(played, "begun", True)


def _causes(journal: _Journal, refused: list[tuple[str, bool]]) -> list[dict[str, str]]:
    """Return a line for each cause on the server's side that ended most conversations: no policy was measured then.

    Raises:
        AgentError: most could not even begin.
    """
    count = len(journal.kept) + len(refused)
    unbegun = [error for error, begun in refused if not begun]
    if 2 * len(unbegun) > count:
        raise AgentError(f"{len(unbegun)} of {count} conversations could not begin: {unbegun[-1]}")
    ended: dict[str, list[str]] = {"failed": [error for error, _ in refused]}
    for rollout in journal.kept.values():
        stop, outcome = rollout.meta.get("stop") or {}, str(rollout.meta.get("outcome"))
        if stop.get("status") is not None or outcome == "too_long":  # not the policy ended it
            ended.setdefault(outcome, []).append(str(stop.get("why", "")))
    cures = {"too_long": "; serve the model with a longer context, or lower --max-new-tokens or --max-zooms"}
    return [
        {"sample_id": "", "error": f"{len(whys)} of {count} conversations ended as {outcome!r}: {whys[-1]}"
         + cures.get(outcome, "")}
        for outcome, whys in ended.items() if 2 * len(whys) > count
    ]  # fmt: skip


@dataclass(frozen=True)
class _Kept:
    """A finished conversation, and what its sample showed."""

    rollout: Rollout
    sample: dict[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        return self.rollout.sample_id, self.rollout.member

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> _Kept:
        return cls(Rollout.from_dict(record), record.get("sample", {}))


class _Journal:
    """Finished rollouts by (sample, member), in memory and appended to a file."""

    def __init__(self, folder: Path | None, settings: dict[str, Any]) -> None:
        self.kept: dict[tuple[str, int], Rollout] = {}
        self._pictures: dict[str, dict[str, Any]] = {}
        self._folder, self._file = folder, None
        if folder is not None:
            _claim(folder, settings)
            self._file = Journal(folder / JOURNAL, _Kept.from_dict, key=lambda one: one.key)
            for one in self._file.read():
                self.kept[one.key] = one.rollout
                self._pictures[one.rollout.sample_id] = one.sample

    def keep(self, rollout: Rollout, sample: Sample) -> None:
        """Keep a rollout, and what its sample showed; it is on the disk when this returns."""
        if (rollout.sample_id, rollout.member) in self.kept:
            return
        self.kept[rollout.sample_id, rollout.member] = rollout
        if self._file is not None:
            self._file.append({**rollout.to_dict(), "sample": sample_facts(sample)})

    def compare(self, dataset: Dataset, config: EvalConfig) -> None:
        """Compare what was kept with the samples of today: pictures must be the same, mended labels are taken over.

        Raises:
            DataError: a picture has changed since its conversation was kept.
        """
        if not self.kept:
            return
        changed: list[str] = []
        mended: list[str] = []
        for sample in (dataset[index] for index in range(_count(dataset, config))):
            keys = [key for key in ((sample.id, member) for member in range(config.repeats)) if key in self.kept]
            if keys and not _same(self._pictures[sample.id], sample):
                changed.append(sample.id)
            today = {key: relabelled(self.kept[key], sample, config.episode) for key in keys}
            if any(self.kept[key] is not rollout for key, rollout in today.items()):
                mended.append(sample.id)
            self.kept |= today
        if changed:
            raise DataError(f"{listed(changed)}: the picture has changed since its conversation was kept in "
                            f"{self._folder}: choose another folder, or put the old picture back")  # fmt: skip
        if mended:
            warnings.warn(f"{listed(mended)}: labels have changed since; the kept answers are scored by the "
                          "new ones", UserWarning, stacklevel=3)  # fmt: skip

    def leave(self) -> None:
        """Leave no trace of an evaluation of which nothing could be kept."""
        if self._folder is not None and not self.kept:
            (self._folder / SETTINGS).unlink(missing_ok=True)
            with suppress(OSError):  # it is not there, or holds other things
                self._folder.rmdir()


def _same(kept: Mapping[str, Any], sample: Sample) -> bool:
    return kept.get("prealigned", sample.prealigned) == sample.prealigned and same_picture(
        kept.get("picture", {}), sample
    )


def relabelled(rollout: Rollout, sample: Sample, config: EpisodeConfig) -> Rollout:
    """Return a rollout with its sample's labels of today; the same object where they are the old ones."""
    aus = None if sample.aus is None else sample.aus & config.known_aus
    if (rollout.emotion, rollout.aus) == (sample.emotion, aus):
        return rollout
    dropped = [facs.format_au(unit) for unit in sorted((sample.aus or frozenset()) - config.known_aus)]
    return replace(rollout, emotion=sample.emotion, aus=aus, meta={**rollout.meta, "dropped_aus": dropped})


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings into a new folder; refuse a folder of other settings."""
    path, journal = folder / SETTINGS, folder / JOURNAL
    if (folder / RUN_FILE).exists() and not path.exists():
        raise DataError(f"{folder} holds a run of another kind: choose another folder")
    begun = journal.exists() and journal.stat().st_size > 0
    if not (begun and path.exists()):
        write_text_atomic(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} is broken ({error}): delete it or choose another folder") from error
    refuse_other(folder, "evaluation", found, settings)


def _missing(
    dataset: Dataset, config: EvalConfig, journal: _Journal, failures: list[dict[str, str]],
    advance: Callable[[int], None] | None,
) -> Iterator[ChatEpisode]:  # fmt: skip
    """Yield a fresh episode for every conversation that is not kept; unreadable pictures are listed and left out."""
    tools = chat_tools(config.detector, config.chat)
    if config.swap is not None:
        tools = SwappedTools(tools, dataset, config.swap)
    if advance is not None:
        advance(len(journal.kept))
    for index in range(_count(dataset, config)):
        sample = dataset[index]
        for member in range(config.repeats):
            if (sample.id, member) in journal.kept:
                continue
            try:
                yield ChatEpisode(sample, tools, config.chat, config.episode, member=member)
            except ImageError as error:
                failures.append({"sample_id": sample.id, "error": str(error)})
                break


def fresh_episodes(dataset: Dataset, config: EvalConfig) -> Iterator[ChatEpisode]:
    """Yield every conversation of an evaluation, unplayed; unreadable pictures are left out."""
    return _missing(dataset, config, _Journal(None, {}), [], None)


def _count(dataset: Dataset, config: EvalConfig) -> int:
    return min(config.number or len(dataset), len(dataset))


def _to_run(
    journal: _Journal, dataset: Dataset, config: EvalConfig, settings: dict[str, Any], failures: list[dict[str, str]]
) -> Run:
    names = [dataset[index].id for index in range(_count(dataset, config))]
    keys = [(name, member) for name in names for member in range(config.repeats)]
    rollouts = tuple(journal.kept[key] for key in keys if key in journal.kept)
    sampling = {name: value for name, value in settings["sampling"].items() if value is not None}
    shown = {"agent": settings["agent"], **sampling, "detector": config.detector, "preset": config.chat.preset,
             "parsing": config.chat.parsing, "coordinates": config.chat.coordinates, "repeats": config.repeats,
             "max_turns": config.episode.max_turns, "max_zooms": config.episode.max_zooms,
             "au_set": facs.format_au_set(config.episode.au_set),
             **({} if config.episode.zoom == "free" else {"zoom": config.episode.zoom}),
             **({} if config.swap is None else {"swap": config.swap})}  # fmt: skip
    return finished_run(rollouts, dataset.arguments, shown, config.reward, failures)


@dataclass(frozen=True)
class Difference:
    """One metric of two runs over the same samples.

    Attributes:
        metric: Its name.
        n: Samples that both runs have.
        first: The first run's mean.
        second: The second run's mean.
        difference: Second minus first.
        low: Lower end of the 95 % bootstrap interval over samples.
        high: Upper end.
    """

    metric: str
    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float


_METRICS: Mapping[str, Callable[[Rollout], float | None]] = {
    "accuracy": lambda rollout: None if rollout.correct is None else float(rollout.correct),
    "au_instance_f1": lambda rollout: None if rollout.aus is None else _au_score(rollout),
    "zoom_ratio": lambda rollout: float(rollout.zoomed),
    "violation_rate": lambda rollout: float(bool(rollout.violations)),
    "turns": lambda rollout: float(rollout.turns),
}


def compare(first: Run, second: Run, *, draws: int = 2000, seed: int = 0) -> tuple[Difference, ...]:
    """Compare two runs on the samples that both have, pair by pair; repeats of a sample are averaged first.

    Args:
        first: The baseline.
        second: The other run.
        draws: Bootstrap draws over samples.
        seed: Random seed of the draws.

    Raises:
        DataError: the runs share no sample.
    """
    found = []
    for metric, value in _METRICS.items():
        one, two = _by_sample(first, value), _by_sample(second, value)
        shared = sorted(one.keys() & two.keys())
        if shared:
            pairs = np.array([(one[name], two[name]) for name in shared])
            found.append(_difference(metric, pairs, draws, seed))
    if not found:
        raise DataError("the two runs share no sample: compare runs of the same data set")
    return tuple(found)


def _difference(metric: str, pairs: np.ndarray, draws: int, seed: int) -> Difference:
    gaps = pairs[:, 1] - pairs[:, 0]
    first, second = pairs.mean(0)
    ends = bootstrap(gaps, draws, seed)
    return Difference(metric, len(pairs), float(first), float(second), float(gaps.mean()), *ends)


def _by_sample(run: Run, value: Callable[[Rollout], float | None]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for rollout in run.rollouts:
        number = value(rollout)
        if number is not None:
            values.setdefault(rollout.sample_id, []).append(number)
    return {name: float(np.mean(many)) for name, many in values.items()}


def _au_score(rollout: Rollout) -> float:
    if rollout.predicted_emotion is None:
        return 0.0
    return au_f1(rollout.predicted_aus or frozenset(), rollout.aus or frozenset())
