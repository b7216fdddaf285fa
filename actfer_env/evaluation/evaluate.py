"""Evaluating language policies: finished conversations are kept at once, and a second start plays what is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import Dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import AgentError, DataError, ImageError
from actfer_env.evaluation.run import RUN_FILE, Run, scored_columns
from actfer_env.files import append_line, write_text_atomic
from actfer_env.rewards import UCGRPO, UCGRPOConfig, au_f1
from actfer_env.rollout import Rollout

if TYPE_CHECKING:
    from actfer_env.agents.base import ChatAgent

JOURNAL, SETTINGS = "episodes.jsonl", "eval.json"


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated.

    Attributes:
        chat: formats and picture sizes.
        episode: budgets and Action Units.
        detector: the detector's spec, or "auto".
        number: samples, from the first on; None is all.
        repeats: conversations of each sample, which form a query group.
        reward: constants of the reward.
    """

    chat: ChatConfig = field(default_factory=ChatConfig)
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    detector: str = "auto"
    number: int | None = None
    repeats: int = 1
    reward: UCGRPOConfig = field(default_factory=UCGRPOConfig)

    def __post_init__(self) -> None:
        if self.repeats < 1 or (self.number is not None and self.number < 1):
            raise DataError(f"number {self.number} and repeats {self.repeats} must be at least 1")


def evaluate(
    agent: ChatAgent,
    dataset: Dataset,
    config: EvalConfig | None = None,
    out: str | os.PathLike[str] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Run:
    """Play a data set with a language policy.

    Args:
        agent: a `QwenVLAgent`, an `OpenAIChatAgent`, or your own.
        dataset: the samples.
        config: formats, budgets and repeats.
        out: folder in which every finished conversation is kept at once (`episodes.jsonl`). Called again with the
            same agent, data and config, `evaluate` plays only what is missing there. None keeps nothing.
        advance: called with the number of finished conversations, for a progress bar.

    Returns:
        The run, in the data set's order, scored as one step of a fresh scorer. After Ctrl-C it holds what was
        finished. A conversation that the endpoint refuses, while it answers others, is listed in `failures`.

    Raises:
        DataError: the folder holds another evaluation, or cannot be written.
        AgentError: the agent cannot play on; finished conversations are kept, and its `run` holds them.
        ActFERError: what else the agent raises; finished conversations are kept.
    """
    config = config or EvalConfig()
    settings = _settings(agent, dataset, config)
    journal = _Journal(None if out is None else Path(out), settings)
    failures: list[dict[str, str]] = []
    try:
        for played, usage in agent.play(_missing(dataset, config, journal, failures, advance)):
            error = getattr(played, "error", None)
            if error is not None:
                failures.append({"sample_id": played.episode.sample.id, "error": error})
                continue
            journal.keep(played.episode.rollout({"usage": asdict(usage)}))
            if advance is not None:
                advance(len(journal.kept))
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
    """Return what identifies an evaluation, as JSON values; how many samples is left open, so that it may grow."""
    chosen = {"chat": asdict(config.chat), "episode": asdict(config.episode), "detector": config.detector,
              "sampling": getattr(agent, "settings", {})}  # fmt: skip
    return json.loads(json.dumps({"agent": agent.name, "dataset": dataset.arguments, **chosen}, default=str))


class _Journal:
    """Finished rollouts by (sample, member), in memory and appended to a file."""

    def __init__(self, folder: Path | None, settings: dict[str, Any]) -> None:
        self.kept: dict[tuple[str, int], Rollout] = {}
        self._path = None if folder is None else folder / JOURNAL
        if folder is not None:
            _claim(folder, settings)
            self._read()

    def keep(self, rollout: Rollout) -> None:
        """Keep a rollout; it is on the disk when this returns."""
        self.kept[rollout.sample_id, rollout.member] = rollout
        if self._path is None:
            return
        append_line(self._path, json.dumps(rollout.to_dict(), ensure_ascii=True, allow_nan=False))

    def leave(self) -> None:
        """Leave no trace of an evaluation of which nothing could be kept."""
        if self._path is not None and not self.kept:
            (self._path.parent / SETTINGS).unlink(missing_ok=True)
            with suppress(OSError):  # it is not there, or holds other things
                self._path.parent.rmdir()

    def _read(self) -> None:
        """Read what an earlier start has kept; a torn last line is cut off."""
        assert self._path is not None
        if not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8", errors="surrogateescape")  # one bad byte spoils no other line
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text_atomic(self._path, whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                rollout = Rollout.from_dict(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{self._path}, line {number}: {error}; delete the line or the file") from error
            self.kept[rollout.sample_id, rollout.member] = rollout


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
    other = [name for name in settings if found.get(name) != settings[name]]
    if other:
        raise DataError(f"{folder} holds an evaluation with another {other[0]}: choose another folder")


def _missing(
    dataset: Dataset, config: EvalConfig, journal: _Journal, failures: list[dict[str, str]],
    advance: Callable[[int], None] | None,
) -> Iterator[ChatEpisode]:  # fmt: skip
    """Yield a fresh episode for every conversation that is not kept; unreadable pictures are listed and left out."""
    tools = chat_tools(config.detector, config.chat)
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
    scorer = UCGRPO(config.reward)
    sampling = {name: value for name, value in settings["sampling"].items() if value is not None}
    shown = {"agent": settings["agent"], **sampling, "detector": config.detector, "preset": config.chat.preset,
             "parsing": config.chat.parsing, "coordinates": config.chat.coordinates, "repeats": config.repeats,
             "max_turns": config.episode.max_turns, "max_zooms": config.episode.max_zooms}  # fmt: skip
    return Run(
        rollouts=rollouts, dataset=dataset.arguments, settings=shown, reward=config.reward,
        scorer_state=scorer.state_dict(), stored_scores=scored_columns(scorer.score(rollouts)),
        failures=tuple(failures),
    )  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One metric of two runs over the same samples.

    Attributes:
        metric: its name.
        n: samples that both runs have.
        first: the first run's mean.
        second: the second run's mean.
        difference: second minus first.
        low: lower end of the 95 % bootstrap interval over samples.
        high: upper end.
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
        first: the baseline.
        second: the other run.
        draws: bootstrap draws over samples.
        seed: of the draws.

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
    rng = np.random.default_rng(seed)
    means = gaps[rng.integers(len(gaps), size=(draws, len(gaps)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    first, second = pairs.mean(0)
    return Difference(metric, len(pairs), float(first), float(second), float(gaps.mean()), float(low), float(high))


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
