"""Agents by spec string, for the command line and for configuration files."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, get_args

import gymnasium as gym

from actfer_env import facs
from actfer_env.agents.base import Agent
from actfer_env.agents.random import RandomAgent
from actfer_env.agents.scripted import Answer, Mode, ScriptedAgent, truth
from actfer_env.data import Dataset
from actfer_env.errors import ActFERError, DataError, PluginError
from actfer_env.packages import needs
from actfer_env.plugins import Registry, import_module

AgentFactory: TypeAlias = Callable[..., Agent]
"""Builds an agent from the part of its spec behind the colon: called as ``factory(argument, action_space, dataset=...,
seed=..., au_set=...)``."""

AGENTS: Registry[AgentFactory] = Registry("agent", "actfer_env.agents", DataError)
"""The agents by name."""

TOOLKIT_AGENTS = ("pyfeat", "emotiefflib", "deepface", "libreface", "openface3")
"""The agents that a toolkit of `actfer_env.agents.toolkits` answers for."""


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
            answers "neutral", with ":truth" the data set's own label, or with ":EMOTION" that emotion; "light:FOLDER",
            what `actfer train` wrote, or "sb3:FILE", a model of Stable-Baselines3, both with ":sample" to draw actions
            by `seed`; a toolkit that reads faces ("pyfeat", "emotiefflib", "deepface", "libreface", "openface3"; see
            `actfer_env.agents.toolkits`); a registered agent; or "module:Class", any class with the `Agent` protocol,
            which is called with the action space and with those of `dataset`, `seed` and `au_set` that it accepts.
        action_space: The environment's single action space.
        dataset: The data set that is played.
        seed: Fixes a random agent's draws.
        au_set: The environment's Action Units.

    Raises:
        DataError: unknown agent or argument, or a trained agent that does not fit the action space.
    """
    name, _, argument = spec.partition(":")
    factory = AGENTS.find(name) if name in AGENTS else _imported(name, argument)
    return factory(argument, action_space, dataset=dataset, seed=seed, au_set=au_set)


def env_for(specs: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of `gym.make` that agents want: those of their training; `id` is the environment's.

    Args:
        specs: The agents; those that were trained, and toolkits, want something.

    Raises:
        DataError: one cannot be loaded, or two want different environments.
    """
    found: dict[str, Any] = {}
    first: dict[str, str] = {}
    for spec in dict.fromkeys(specs):
        name, _, argument = spec.partition(":")
        factory = AGENTS.find(name) if name in AGENTS else None
        wanted = factory.env_arguments(argument) if isinstance(factory, _Trained | _Reader) else {}
        for key, value in wanted.items():
            if found.setdefault(key, value) != value:
                raise DataError(f"{first[key]} plays with {key} {found[key]}, {spec} with {value}: "
                                "play them in runs of their own")  # fmt: skip
            first.setdefault(key, spec)
    return found


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


class _Trained:
    """The factory of agents that are read from files; "FILE:sample" draws actions."""

    def __init__(self, read: Callable[..., Any]) -> None:
        self._read = read

    def load(self, argument: str, seed: int = 0) -> Any:
        """Return the agent; the argument is its folder or file."""
        place = argument.removesuffix(":sample")
        if not place:
            raise DataError("a trained agent needs its folder or file: light:FOLDER or sb3:FILE")
        return self._read(place, sample=argument.endswith(":sample"), seed=seed)

    def env_arguments(self, argument: str) -> dict[str, Any]:
        """Return the arguments of `gym.make` of the training."""
        return dict(self.load(argument).env_arguments)

    def __call__(
        self, argument: str, space: gym.Space[Any], *, dataset: Dataset, seed: int, au_set: tuple[int, ...]
    ) -> Agent:
        agent: Any = self.load(argument, seed)
        agent.check_space(space, au_set)
        return agent


class _Reader:
    """The factory of a toolkit's agent."""

    def __init__(self, name: str) -> None:
        self._name = name

    def env_arguments(self, argument: str) -> dict[str, Any]:
        """Return the arguments of `gym.make` by which it sees enough pixels."""
        from actfer_env.agents.toolkits import ToolkitAgent

        return ToolkitAgent.env_arguments

    def __call__(
        self, argument: str, space: gym.Space[Any], *, dataset: Dataset, seed: int, au_set: tuple[int, ...]
    ) -> Agent:
        from actfer_env.agents.toolkits import ToolkitAgent, open_toolkit

        return ToolkitAgent(space, open_toolkit(self._name, argument), au_set)


def _light(folder: str, **options: Any) -> Any:
    with needs("torch"):
        from actfer_env.agents.light.agent import LightAgent
    return LightAgent.load(folder, **options)


def _sb3(path: str, **options: Any) -> Any:
    with needs("sb3"):
        from actfer_env.agents.sb3_agent import SB3Agent
    return SB3Agent.load(path, **options)


def _imported(module: str, name: str) -> AgentFactory:
    """Return the factory of "module:Class"; see `make_agent`."""
    dotted = all(part.isidentifier() for part in module.split("."))
    if not dotted or not name.isidentifier():
        AGENTS.find(module)  # raises: there is none of that name
    try:
        import_module(module)
    except PluginError as error:
        known = ", ".join(sorted(AGENTS))
        raise DataError(f"unknown agent '{module}:{name}': {error}; agents by name are {known}") from error
    kind = getattr(sys.modules[module], name, None)
    if not callable(kind):
        raise DataError(f"agent '{module}:{name}': the module has no class {name}")
    return partial(_made, kind, f"{module}:{name}")


def _made(
    kind: Callable[..., Any], spec: str, argument: str, space: gym.Space[Any], *, dataset: Dataset, seed: int,
    au_set: tuple[int, ...],
) -> Agent:  # fmt: skip
    """Call a class with the action space and the settings that it accepts."""
    settings = {"dataset": dataset, "seed": seed, "au_set": au_set}
    known = inspect.signature(kind).parameters.values()
    open_ended = any(one.kind is one.VAR_KEYWORD for one in known)
    placed = [one for one in known if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)]
    takes_space = bool(placed) and placed[0].name not in settings
    accepted = {one.name for one in known if one.kind is not one.POSITIONAL_ONLY}
    chosen = {name: value for name, value in settings.items() if open_ended or name in accepted}
    try:
        agent = kind(*[space][: int(takes_space)], **chosen)
    except ActFERError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())
        raise DataError(f"agent '{spec}' cannot be made ({type(error).__name__}: {why}): "
                        "it is called with the action space, and with dataset, seed and au_set") from error  # fmt: skip
    if not isinstance(agent, Agent):
        raise DataError(f"agent '{spec}' needs methods reset(n) and act(obs, info): "
                        "actfer_env.testing.check_agent tells what else")  # fmt: skip
    return agent


register_agent("random", _random)
register_agent("light", _Trained(_light))
register_agent("sb3", _Trained(_sb3))
for _name in TOOLKIT_AGENTS:
    register_agent(_name, _Reader(_name))
for _mode in get_args(Mode):
    register_agent(_mode, partial(_scripted, _mode))
AGENTS.seal()
