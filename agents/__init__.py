"""Policies for the environments: anything with `reset(n)` and `act(obs, info)` will do."""

from typing import TYPE_CHECKING, Any

from actfer_env.agents.base import Agent, Batch, is_batch, join, rows, sample_ids
from actfer_env.agents.random import RandomAgent
from actfer_env.agents.registry import make_agent, register_agent, registered_agents
from actfer_env.agents.scripted import BLIND, MODES, Mode, ScriptedAgent, truth

if TYPE_CHECKING:
    from actfer_env.agents.light.agent import LightAgent

__all__ = [
    "BLIND", "MODES", "Agent", "Batch", "LightAgent", "Mode", "RandomAgent", "ScriptedAgent", "is_batch", "join",
    "make_agent", "register_agent", "registered_agents", "rows", "sample_ids", "truth",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    if name != "LightAgent":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from actfer_env.packages import needs

    with needs("torch"):
        from actfer_env.agents.light.agent import LightAgent
    return LightAgent
