"""The registered environments, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

IDS: Mapping[str, dict[str, Any]] = {
    "ActFER-v0": {"action_format": "dict"},
    "ActFER-MultiDiscrete-v0": {"action_format": "multidiscrete"},
    "ActFER-Discrete-v0": {"action_format": "discrete"},
}
"""Id -> the keyword arguments that it fixes; see `actfer_env.env.ActFEREnv` for the others."""


CHAT_ID = "ActFER-Chat-v0"
"""The environment of text turns; see `actfer_env.chat.env.ActFERChatEnv`."""


def register_envs() -> None:
    """Register every id with gymnasium; ids that are registered already are left alone."""
    for name, kwargs in IDS.items():
        if name not in gym.registry:
            gym.register(
                name,
                entry_point="actfer_env.env:ActFEREnv",
                vector_entry_point="actfer_env.wrappers.group_vec:make_vector",
                kwargs=kwargs,
            )
    if CHAT_ID not in gym.registry:
        gym.register(CHAT_ID, entry_point="actfer_env.chat.env:ActFERChatEnv")
