"""Policies for the environments: anything with `reset(n)` and `act(obs, info)` will do."""

from actfer_env.agents.base import Agent, Batch, is_batch, join, rows, sample_ids
from actfer_env.agents.random import RandomAgent
from actfer_env.agents.registry import make_agent, register_agent, registered_agents
from actfer_env.agents.scripted import BLIND, MODES, Mode, ScriptedAgent, truth

__all__ = [
    "BLIND", "MODES", "Agent", "Batch", "Mode", "RandomAgent", "ScriptedAgent", "is_batch", "join", "make_agent",
    "register_agent", "registered_agents", "rows", "sample_ids", "truth",
]  # fmt: skip
