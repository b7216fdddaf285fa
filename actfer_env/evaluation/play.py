"""Playing episodes over a data set and keeping them as a `Run`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym

from actfer_env import facs
from actfer_env.agents import Agent, make_agent
from actfer_env.agents.registry import env_for
from actfer_env.bounds import bounded, check_fields
from actfer_env.data import Dataset
from actfer_env.envs.face import ActFEREnv
from actfer_env.episode import Zooming
from actfer_env.errors import ActFERError, AgentError, DataError, DetectorError, ImageError, short
from actfer_env.evaluation.journal import ROLLOUT_SETTINGS, SETTINGS, EpisodeJournal
from actfer_env.evaluation.run import Run, finished_run
from actfer_env.identity import as_json, dataset_facts, detector_facts
from actfer_env.progress import Watch
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rollout import Rollout

_SIZES = ("image_size", "face_size", "crop_size")
_USUAL = (*_SIZES, "zoom")


@dataclass(frozen=True)
class RolloutConfig:
    """Settings of `play`.

    Attributes:
        env_id: The environment.
        agents: Agent specs; member k of a group is played by the k-th, in turn.
        detector: The detector's spec, or "auto".
        group_size: Episodes of one sample, which form a query group.
        number: Samples to play, from the first on; None is all.
        seed: Fixes the agents.
        max_turns: See `ActFEREnv`.
        max_zooms: See `ActFEREnv`.
        reward: Constants of the reward.
        au_set: Action Units that count, in targets and answers.
        image_size: See `ActFEREnv`.
        face_size: See `ActFEREnv`.
        crop_size: See `ActFEREnv`.
        zoom: See `ActFEREnv`.
    """

    env_id: str = "ActFER-MultiDiscrete-v0"
    agents: tuple[str, ...] = ("full",)
    detector: str = "auto"
    group_size: int = bounded(1, ge=1)
    number: int | None = bounded(None, ge=1)
    seed: int = bounded(0, ge=0)
    max_turns: int = bounded(6, ge=1)
    max_zooms: int = bounded(4, ge=0)
    reward: UCGRPOConfig = field(default_factory=UCGRPOConfig)
    au_set: tuple[int, ...] = facs.CORE_AUS
    image_size: int = bounded(96, ge=16)
    face_size: int = bounded(64, ge=16)
    crop_size: int = bounded(48, ge=16)
    zoom: Zooming = "free"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.zoom not in get_args(Zooming):
            raise DataError(f"zoom {self.zoom!r} is unknown: use one of {', '.join(get_args(Zooming))}")
        if not self.agents:
            raise DataError("no agent is named")

    def settings(self) -> dict[str, Any]:
        """Return what a stored run says about its making, as JSON values; sizes and forced zooms where unusual."""
        usual = {one.name: one.default for one in fields(self) if one.name in _USUAL}
        kept = {key: value for key, value in asdict(self).items() if key not in ("reward", "agents", "au_set")}
        kept = {key: value for key, value in kept.items() if key not in usual or value != usual[key]}
        return {"agent": ", ".join(self.agents), **kept, "au_set": facs.format_au_set(self.au_set)}


def config_for(agents: Sequence[str], **given: Any) -> RolloutConfig:
    """Return settings that are those of the environment that the agents want, unless they are given.

    Args:
        agents: Agent specs; trained ones, such as "light:FOLDER", bring those of their training, toolkits a size.
        **given: fields of `RolloutConfig`; None leaves one to the agents, or to its default.

    Raises:
        DataError: an agent cannot be loaded, or two want different environments.
    """
    found = env_for(agents)
    found = {"env_id" if name == "id" else name: value for name, value in found.items()}
    return RolloutConfig(agents=tuple(agents), **{**found, **{k: v for k, v in given.items() if v is not None}})


def play(
    dataset: Dataset, config: RolloutConfig, watch: Watch | None = None,
    out: str | os.PathLike[str] | None = None, *, evaluation: bool = False,
) -> Run:  # fmt: skip
    """Play episodes over a data set.

    A sample whose picture cannot be read is left out and listed in the run's failures. An interrupt (Ctrl-C), or a
    detector or an agent that fails on the way, ends the playing; what was finished is returned, its last group perhaps
    incomplete.

    Args:
        dataset: The samples.
        config: Agents, group size and budgets.
        watch: Called after each episode with "episodes", how many are over, and how many there are; at once for those
            that were kept.
        out: Folder in which every finished episode is kept at once. Called again with the same agents, data and config,
            `play` goes on there: what comes out is what would have come out without a stop. None keeps nothing.
        evaluation: Keep the episodes as `evaluate` does, with its file of settings; else as those of an unfinished run,
            which `actfer_env.evaluation.journal.forget` deletes when the run is stored.

    Returns:
        The run, scored as one step of a fresh scorer.

    Raises:
        DetectorError: the detector lacks its extra or weights, or fails on the first sample.
        DataError: an agent is unknown, or was trained in another environment; the folder holds episodes of other
            settings, or a kept sample's picture has changed.
        AgentError: an agent returned what is no action, in the first episode.
    """
    env = make_env(dataset, config)
    failures: list[dict[str, str]] = []
    count = min(config.number or len(dataset), len(dataset))
    players = _players(env, dataset, config)
    journal = open_journal(dataset, config, players, out, evaluation)
    base = env.unwrapped
    assert isinstance(base, ActFEREnv)
    told = any(spec.endswith(":truth") for spec in config.agents)
    journal.compare(dataset, count, config.group_size, base.config, told=told)
    for place, state in journal.draws.items():
        players[int(place)].set_random_state(state)  # type: ignore[attr-defined]
    try:
        for done, (name, result) in enumerate(_episodes(env, dataset, config, players, journal), start=1):
            if isinstance(result, ImageError):
                failures.append({"sample_id": name, "error": str(result)})
            if watch is not None:
                watch("episodes", done, count * config.group_size, {})
    except KeyboardInterrupt:
        failures.append({"sample_id": "", "error": "interrupted: the samples after this were not played"})
    except (AgentError, DetectorError) as error:
        if not journal.kept:
            raise
        failures.append({"sample_id": "", "error": f"{error}; the samples after this were not played"})
    finally:
        env.close()
        journal.leave()
    keys = ((dataset[index].id, member) for index in range(count) for member in range(config.group_size))
    rollouts = [journal.kept[key] for key in keys if key in journal.kept]
    return finished_run(rollouts, dataset.arguments, config.settings(), config.reward, failures)


def open_journal(
    dataset: Dataset, config: RolloutConfig, players: Sequence[Agent], out: str | os.PathLike[str] | None,
    evaluation: bool,
) -> EpisodeJournal:  # fmt: skip
    """Return the journal of a folder; see `play`.

    How many samples are played, and the constants of the reward, are left open: both may change on the way.
    """
    if out is None:
        return EpisodeJournal(None, {})
    settings = {key: value for key, value in asdict(config).items() if key not in ("detector", "number", "reward")}
    try:
        detector = detector_facts(config.detector)
    except DetectorError:  # it is not needed where pictures are kept or aligned; else the first detection raises
        detector = {"spec": config.detector}
    facts = as_json({
        **settings, "identity": [getattr(player, "identity", {}) for player in players],
        "dataset": dataset_facts(dataset), "detector": detector,
    })  # fmt: skip
    # Not synchronised: what a power cut takes is quickly played again.
    return EpisodeJournal(Path(out), facts, SETTINGS if evaluation else ROLLOUT_SETTINGS, sync=False)


def make_env(dataset: Dataset, config: RolloutConfig, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Return the environment that `play` uses; `render_mode` as of `ActFEREnv`."""
    return gym.make(
        config.env_id, **env_arguments(dataset, config), render_mode=render_mode,
        disable_env_checker=True,  # gymnasium's checker loses its state when reset raises, as on a broken image
    )  # fmt: skip


def env_arguments(dataset: Dataset, config: RolloutConfig) -> dict[str, Any]:
    """Return the arguments of `ActFEREnv` that a data set and settings stand for."""
    return {
        "dataset": dataset, "detector": config.detector, "max_turns": config.max_turns, "max_zooms": config.max_zooms,
        "reward": config.reward, "au_set": config.au_set, "zoom": config.zoom,
        **{name: getattr(config, name) for name in _SIZES},
    }  # fmt: skip


def play_episode(env: gym.Env[Any, Any], agent: Agent, options: dict[str, Any], seed: int | None = None) -> Rollout:
    """Play one episode and return its record.

    Args:
        env: An environment of this package.
        agent: The policy.
        options: Passed to `reset`.
        seed: Passed to `reset`.

    Raises:
        AgentError: The agent returned what is no action.
    """
    agent.reset(1)
    obs, info = env.reset(seed=seed, options=options)
    base = env.unwrapped
    if isinstance(base, ActFEREnv) and base.episode is not None:
        base.episode.looked = getattr(agent, "looks", True)
    while "rollout" not in info:
        action = agent.act(obs, info)
        try:
            obs, _, _, _, info = env.step(action)
        except ActFERError:
            raise
        except ValueError as error:  # the action is not of the space
            raise AgentError(f"{type(agent).__name__}: {short(str(error), 200)[1:-1]}") from error
    rollout: Rollout = info["rollout"]
    return rollout


def _episodes(
    env: gym.Env[Any, Any], dataset: Dataset, config: RolloutConfig, players: Sequence[Agent], journal: EpisodeJournal
) -> Iterator[tuple[str, Rollout | ImageError]]:
    for index in range(min(config.number or len(dataset), len(dataset))):
        sample = dataset[index]
        for member in range(config.group_size):
            if (sample.id, member) in journal.kept:
                yield sample.id, journal.kept[sample.id, member]
                continue
            options = {"sample": index, "group": sample.id, "member": member}
            place = member % len(players)
            player = players[place]
            try:
                rollout = play_episode(env, player, options, config.seed)
            except ImageError as error:
                yield sample.id, error
                break
            meta = {**rollout.meta, **getattr(player, "meta", {}), "agent": config.agents[place]}
            if config.agents[place].endswith(":truth"):
                meta["answer"] = "label"
            state = player.random_state() if hasattr(player, "set_random_state") else None  # type: ignore[attr-defined]
            journal.keep(replace(rollout, meta=meta), sample, {str(place): state} if state else None)
            yield sample.id, journal.kept[sample.id, member]


def _players(env: gym.Env[Any, Any], dataset: Dataset, config: RolloutConfig) -> list[Agent]:
    base = env.unwrapped
    assert isinstance(base, ActFEREnv)
    players = []
    for i, spec in enumerate(config.agents):
        player = make_agent(spec, base.action_space, dataset=dataset, seed=config.seed + i, au_set=base.au_set)
        if callable(check := getattr(player, "check", None)):
            check(env)
        players.append(player)
    return players
