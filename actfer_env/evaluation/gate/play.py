"""Playing a policy of actions in every pass of a gate report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.agents import Agent, make_agent
from actfer_env.data import Dataset
from actfer_env.episode import State
from actfer_env.errors import AgentError, DataError, ImageError, short
from actfer_env.evaluation.gate.evidence import SwappedTools
from actfer_env.evaluation.gate.outcomes import (
    ALL,
    ALWAYS,
    FREE,
    NEVER,
    SWAPS,
    Outcome,
    Plays,
    SampleFacts,
    facts_of,
    only,
)
from actfer_env.evaluation.gate.steer import Steer, zoom_chance
from actfer_env.evaluation.play import RolloutConfig, env_arguments
from actfer_env.progress import Watch
from actfer_env.rollout import Rollout
from actfer_env.tools.face_tools import FaceTools
from actfer_env.wrappers.group_vec import GroupVectorEnv

WAYS: tuple[str, ...] = (FREE, NEVER, ALWAYS, ALL, *(only(name) for name in facs.REGIONS))
SIDE_BY_SIDE = 16
"""Samples that are played side by side, each in all passes (chosen here); it changes the draws of sampling policies,
and nothing else."""


def play_gate(
    dataset: Dataset, config: RolloutConfig, *, repeats: int = 1, ways: Sequence[str] = WAYS, swaps: bool = True,
    watch: Watch | None = None,
) -> tuple[Plays, tuple[Rollout, ...]]:  # fmt: skip
    """Play every sample in every pass, with each of the agents.

    Args:
        dataset: The samples.
        config: Agents, which are seeds of one policy; detector, budgets, and sizes.
        repeats: Episodes of each sample and pass, for policies that draw their actions.
        ways: Names of the passes, "free", "never" and "always" among them; fewer tell less of where it looks.
        swaps: Play the passes with other crops, too.
        watch: Called after each batch of samples with "episodes", how many are over, and how many there are.

    Returns:
        The passes, and the rollouts of the first agent's pass "free", first repeats, in the order of the samples.

    Raises:
        DataError: an agent is unknown, or was trained in another environment.
        AgentError: an agent returned what is no action, or cannot be forced.
        DetectorError: the detector lacks its extra or weights.
    """
    count = min(config.number or len(dataset), len(dataset))
    arguments = {**env_arguments(dataset, config), "env_id": config.env_id, "num_groups": min(SIDE_BY_SIDE, count),
                 "copy": False}  # fmt: skip
    venv = GroupVectorEnv(group_size=len(ways), **arguments)
    failures: list[dict[str, str]] = []
    facts = list(_facts(dataset, count, venv.tools, config, failures))
    rows = [dataset.find(one.id) for one in facts]
    if not rows:
        raise DataError(f"no sample could be played: {failures[-1]['error'] if failures else 'there is none'}")
    played: list[tuple[GroupVectorEnv, Sequence[str]]] = [(venv, tuple(ways))]
    for swap in SWAPS if swaps else ():
        tools = SwappedTools(venv.tools, dataset, swap, config.seed)
        other = GroupVectorEnv(group_size=1, **{**arguments, "tools": tools})
        played.append((other, (swap,)))
    agents = [_ready(spec, number, dataset, config, played) for number, spec in enumerate(config.agents)]
    outcomes: list[Outcome] = []
    free: list[Rollout] = []
    total = len(rows) * repeats * len(agents) * sum(len(names) for _, names in played)
    try:
        for number, agent in enumerate(agents):
            for repeat in range(repeats):
                for envs, names in played:
                    for batch in _played(envs, agent, rows, names, config.seed):
                        for rollout, way, chance in batch:
                            outcomes.append(Outcome.of(rollout, way, repeat, number, chance))
                            if way == FREE and number == repeat == 0:
                                looked = {} if getattr(agent, "looks", True) else {"looked": False}
                                meta = {**rollout.meta, "agent": config.agents[0], **looked}
                                free.append(replace(rollout, group_id=rollout.sample_id, member=0, meta=meta))
                        if watch is not None:
                            watch("episodes", len(outcomes), total, {})
    finally:
        for envs, _ in played:
            envs.close()
    looks = all(getattr(agent, "looks", True) for agent in agents)
    settings = {**config.settings(), "repeats": repeats}
    plays = Plays(tuple(facts), tuple(outcomes), config.agents, dataset.arguments, settings, looks, tuple(failures))
    return plays, tuple(free)


def _facts(
    dataset: Dataset, count: int, tools: FaceTools, config: RolloutConfig, failures: list[dict[str, str]]
) -> Iterator[SampleFacts]:
    """Yield the facts of each sample; a picture that cannot be read is listed and left out."""
    for index in range(count):
        try:
            yield facts_of(dataset[index], tools, config.au_set)
        except ImageError as error:
            failures.append({"sample_id": dataset[index].id, "error": str(error)})


def _ready(
    spec: str, number: int, dataset: Dataset, config: RolloutConfig, ways: Sequence[tuple[GroupVectorEnv, Any]]
) -> Agent:
    venv = ways[0][0]
    agent = make_agent(spec, venv.single_action_space, dataset=dataset, seed=config.seed + number, au_set=venv.au_set)
    if callable(check := getattr(agent, "check", None)):
        check(venv)
    return agent


def _played(
    venv: GroupVectorEnv, agent: Agent, rows: Sequence[int], ways: Sequence[str], seed: int
) -> Iterator[list[tuple[Rollout, str, float | None]]]:
    """Yield the episodes of some samples, each with its pass and the policy's chance to zoom, in the samples' order."""
    steer = Steer(venv._template.codec, [forced_as(way) for way in ways] * venv.num_groups)
    agent.reset(venv.num_envs)
    for start in range(0, len(rows), venv.num_groups):
        batch = list(rows[start : start + venv.num_groups])
        filled = batch + [batch[-1]] * (venv.num_groups - len(batch))
        found, chances = _chunk(venv, agent, steer, filled, seed)
        venv.pending.clear()
        passes = [way for _ in batch for way in ways]
        yield [(found[i], way, chances[i] if way == FREE else None) for i, way in enumerate(passes)]


def forced_as(way: str) -> str:
    """Return what a pass forces: passes with other crops zoom as "always" does."""
    return ALWAYS if way in SWAPS else way


def _chunk(
    venv: GroupVectorEnv, agent: Agent, steer: Steer, samples: list[int], seed: int
) -> tuple[list[Rollout], list[float | None]]:
    """Play one group for each sample to its end."""
    obs, info = venv.reset(seed=seed, options={"samples": samples})
    names = list(info["group_id"])
    found: list[Rollout | None] = [None] * venv.num_envs
    chances: list[float | None] = [None] * venv.num_envs
    rate = getattr(agent, "tool_scores", None)
    while any(one is None for one in found):
        legal, allowed = steer.choices(obs)
        seen = {**obs, "action_mask": steer.mask(obs, allowed)}
        told = {**info, "action_mask": seen["action_mask"]}
        actions = agent.act(seen, told)
        first = info["active"] & (obs["state"] == State.ALIGNED) & ~np.asarray(obs["crop_mask"]).any(1)
        first &= np.array([one is None for one in chances]) & np.array(
            [a == b for a, b in zip(info["group_id"], names, strict=True)]
        )
        scores: NDArray[np.float64] | None = None
        if rate is not None:
            scores = np.asarray(rate(seen, told), float)
            free = np.asarray(rate(obs, info), float) if first.any() else scores
            shown = np.flatnonzero(first & legal[:, 1:-1].any(1))
            for i, value in zip(shown.tolist(), zoom_chance(free[shown], legal[shown]).tolist(), strict=True):
                chances[i] = value
        try:
            actions = steer.obey(actions, obs, allowed, scores)
            obs, _, _, _, info = venv.step(actions)
        except (TypeError, IndexError, KeyError, ValueError) as error:  # the actions are not of the space
            raise AgentError(f"{type(agent).__name__}: {short(str(error), 200)[1:-1]}") from error
        if "rollout" in info:
            for i in np.flatnonzero(info["_rollout"]).tolist():
                if found[i] is None and info["rollout"][i].group_id == names[i]:
                    found[i] = info["rollout"][i]
    return [one for one in found if one is not None], chances
