"""Evaluating language policies: finished conversations are kept at once, and a second start plays what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools, system_prompt, user_prompt
from actfer_env.data import Dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import AgentError, ImageError
from actfer_env.evaluation.comparison import Difference, compare
from actfer_env.evaluation.gate.evidence import SwappedTools
from actfer_env.evaluation.gate.outcomes import Swap
from actfer_env.evaluation.journal import JOURNAL, SETTINGS, EpisodeJournal, relabelled
from actfer_env.evaluation.run import Run, finished_run
from actfer_env.identity import (
    as_json,
    dataset_facts,
    detector_facts,
    digest,
)
from actfer_env.progress import Watch
from actfer_env.rewards import UCGRPOConfig
from actfer_env.tools.schema import tool_schemas

if TYPE_CHECKING:
    from actfer_env.agents.base import ChatAgent

__all__ = [
    "JOURNAL", "SETTINGS", "Difference", "EvalConfig", "compare", "evaluate", "fresh_episodes", "relabelled",
]  # fmt: skip


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
        price: Price of a million tokens read and written; kept with the run, for its cost.
        swap: Content of crops instead of their box, a name in `evaluation.gate.outcomes.SWAPS`; None is what is there.
    """

    chat: ChatConfig = field(default_factory=ChatConfig)
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    detector: str = "auto"
    number: int | None = bounded(None, ge=1)
    repeats: int = bounded(1, ge=1)
    reward: UCGRPOConfig = field(default_factory=UCGRPOConfig)
    price: tuple[float, float] = bounded((0.0, 0.0), ge=0)
    swap: Swap | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def evaluate(
    agent: ChatAgent,
    dataset: Dataset,
    config: EvalConfig | None = None,
    out: str | os.PathLike[str] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Play a data set with a language policy.

    Args:
        agent: A `QwenVLAgent`, an `OpenAIChatAgent`, or your own.
        dataset: The samples.
        config: Formats, budgets and repeats.
        out: Folder in which every finished conversation is kept at once (`episodes.jsonl`). Called again with the
            same agent, data and config, `evaluate` plays only what is missing there. Labels may have been mended in
            between: kept answers are scored by the data set's labels of today. None keeps nothing.
        watch: Called after each conversation with "conversations", how many are finished, and how many there are.

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
    journal = EpisodeJournal(None if out is None else Path(out), settings)
    journal.compare(dataset, _count(dataset, config), config.repeats, config.episode)
    failures: list[dict[str, str]] = []
    refused: list[tuple[str, bool]] = []
    try:
        for played, usage in agent.play(_missing(dataset, config, journal, failures, watch)):
            error, begun = _fault(played)
            if error is not None:
                failures.append({"sample_id": played.episode.sample.id, "error": error})
                refused.append((error, begun))
                continue
            journal.keep(played.episode.rollout({"usage": asdict(usage)}), played.episode.sample)
            if watch is not None:
                watch("conversations", len(journal.kept), _count(dataset, config) * config.repeats, {})
        failures += _causes(journal, refused)
    except KeyboardInterrupt:
        failures.append({"sample_id": "", "error": "interrupted: run again to play what is missing", "stopped": "yes"})
    except AgentError as error:
        failures.append({"sample_id": "", "error": str(error), "stopped": "yes"})
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


def _causes(journal: EpisodeJournal, refused: list[tuple[str, bool]]) -> list[dict[str, str]]:
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


def _missing(
    dataset: Dataset, config: EvalConfig, journal: EpisodeJournal, failures: list[dict[str, str]],
    watch: Watch | None,
) -> Iterator[ChatEpisode]:  # fmt: skip
    """Yield a fresh episode for every conversation that is not kept; unreadable pictures are listed and left out."""
    tools = chat_tools(config.detector, config.chat)
    if config.swap is not None:
        tools = SwappedTools(tools, dataset, config.swap)
    if watch is not None:
        watch("conversations", len(journal.kept), _count(dataset, config) * config.repeats, {})
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
    return _missing(dataset, config, EpisodeJournal(None, {}), [], None)


def _count(dataset: Dataset, config: EvalConfig) -> int:
    return min(config.number or len(dataset), len(dataset))


def _to_run(
    journal: EpisodeJournal, dataset: Dataset, config: EvalConfig, settings: dict[str, Any],
    failures: list[dict[str, str]],
) -> Run:  # fmt: skip
    names = [dataset[index].id for index in range(_count(dataset, config))]
    keys = [(name, member) for name in names for member in range(config.repeats)]
    rollouts = tuple(journal.kept[key] for key in keys if key in journal.kept)
    sampling = {name: value for name, value in settings["sampling"].items() if value is not None}
    shown = {"agent": settings["agent"], **sampling, "detector": config.detector, "preset": config.chat.preset,
             "parsing": config.chat.parsing, "coordinates": config.chat.coordinates, "repeats": config.repeats,
             "max_turns": config.episode.max_turns, "max_zooms": config.episode.max_zooms,
             "au_set": facs.format_au_set(config.episode.au_set),
             **({"price": list(config.price)} if any(config.price) else {}),
             **({} if config.episode.zoom == "free" else {"zoom": config.episode.zoom}),
             **({} if config.swap is None else {"swap": config.swap})}  # fmt: skip
    told, usual = asdict(config.chat), asdict(ChatConfig())
    shown |= {
        name: told[name] for name in ("brief", "image_side", "face_side", "crop_side") if told[name] != usual[name]
    }
    if "tools" in config.episode.facts():
        shown["tools"] = ", ".join(config.episode.toolkit)
    return finished_run(rollouts, dataset.arguments, shown, config.reward, failures)
