"""Agents by spec string, for the command line and for configuration files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, get_args

import gymnasium as gym

from actfer_env import facs
from actfer_env.agents.base import Agent
from actfer_env.agents.random import RandomAgent
from actfer_env.agents.scripted import Answer, Mode, ScriptedAgent, truth
from actfer_env.data import Dataset
from actfer_env.errors import DataError
from actfer_env.plugins import Registry

AgentFactory: TypeAlias = Callable[..., Agent]
"""Builds an agent from the part of its spec behind the colon: called as ``factory(argument, action_space, dataset=...,
seed=..., au_set=...)``."""

AGENTS: Registry[AgentFactory] = Registry("agent", "actfer_env.agents", DataError)
"""The agents by name."""


def register_agent(name: str, factory: AgentFactory, *, replace: bool = False) -> None:
    """Make an agent known by name to `make_agent`, here and in workers that start from here.

    The command line knows it where it imports the module that registers it: `actfer --import MODULE ...`.

    Raises:
        DataError: the name is taken or holds a colon.
    """
    AGENTS.register(name, factory, replace=replace)


def registered_agents() -> tuple[str, ...]:
    """Return the names of the registered agents, those of plug-ins among them."""
    return tuple(AGENTS)


def make_agent(
    spec: str, action_space: gym.Space[Any], *, dataset: Dataset, seed: int = 0, au_set: tuple[int, ...] = facs.CORE_AUS
) -> Agent:
    """Build an agent from its spec.

    Args:
        spec: "random", "random:unmasked", or a mode of trajectory ("full", "simplified", "degraded", "blind"), which
            answers "neutral", with ":truth" the data set's own label, or with ":EMOTION" that emotion; or a registered
            agent.
        action_space: The environment's single action space.
        dataset: The data set that is played.
        seed: Fixes a random agent's draws.
        au_set: The environment's Action Units.

    Raises:
        DataError: unknown agent or argument.
    """
    name, _, argument = spec.partition(":")
    return AGENTS.find(name)(argument, action_space, dataset=dataset, seed=seed, au_set=au_set)


def _random(argument: str, space: gym.Space[Any], *, dataset: Dataset, seed: int, au_set: tuple[int, ...]) -> Agent:
    if argument not in ("", "masked", "unmasked"):
        raise DataError(f"agent 'random:{argument}' is unknown: use 'random' or 'random:unmasked'")
    return RandomAgent(space, seed, argument != "unmasked", au_set)


def _scripted(
    mode: Mode, argument: str, space: gym.Space[Any], *, dataset: Dataset, seed: int, au_set: tuple[int, ...]
) -> Agent:
    if argument == "truth":
        answers: Callable[[str], Answer] = truth(dataset)
        return ScriptedAgent(space, mode, answers=answers, au_set=au_set)
    return ScriptedAgent(space, mode, emotion=argument or "neutral", au_set=au_set)


register_agent("random", _random)
for _mode in get_args(Mode):
    register_agent(_mode, partial(_scripted, _mode))
AGENTS.seal()
