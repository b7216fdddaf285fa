"""The registered environments, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from actfer_env.rewards import UCGRPOConfig

IDS: Mapping[str, dict[str, Any]] = {
    "ActFER-v0": {"action_format": "dict"},
    "ActFER-MultiDiscrete-v0": {"action_format": "multidiscrete"},
    "ActFER-Discrete-v0": {"action_format": "discrete"},
    "ActFER-Quality-v0": {"action_format": "multidiscrete", "dataset": "synthetic-mixed"},
    "ActFER-Cost-v0": {
        "action_format": "multidiscrete",
        "dataset": "synthetic-mixed",
        "reward": UCGRPOConfig(zoom_cost=0.1),
    },
    "ActFER-Budget1-v0": {"action_format": "multidiscrete", "dataset": "synthetic-subtle", "max_zooms": 1},
    "ActFER-Budget2-v0": {"action_format": "multidiscrete", "dataset": "synthetic-subtle", "max_zooms": 2},
    "ActFER-Micro-v0": {"action_format": "multidiscrete", "dataset": "synthetic-micro"},
}
"""Id -> the keyword arguments that it fixes; see `actfer_env.envs.face.ActFEREnv` for the others.

`ActFER-Quality-v0` and `ActFER-Cost-v0` are the benchmark tasks, on the frozen generator's preset "mixed": on the
poor half of the pictures a zoom shows little that is new and can mislead; in the second a rollout that zooms also pays
0.1 (ours, not the paper's). In `ActFER-Budget1-v0` and `ActFER-Budget2-v0`, on subtle faces, one or two crops are all
that an episode has, so that it matters *where* to look. `ActFER-Micro-v0` shows micro-expressions as motion maps. Tune
on split "val", report split "test" once."""


CHAT_ID = "ActFER-Chat-v0"
"""The environment of text turns; see `actfer_env.envs.chat.ActFERChatEnv`."""


def arguments(env_id: str, **given: Any) -> dict[str, Any]:
    """Return the arguments of `ActFEREnv` that an id stands for, with those that are given in their place.

    Args:
        env_id: A key of `IDS`.
        **given: Arguments of `ActFEREnv`.

    Returns:
        The arguments, by name.

    Raises:
        ValueError: an unknown id.
    """
    if env_id not in IDS:
        raise ValueError(f"unknown id {env_id!r}: use one of {', '.join(IDS)}")
    return {**IDS[env_id], **given}


def register_envs() -> None:
    """Register every id with gymnasium; ids that are registered already are left alone."""
    for name, kwargs in IDS.items():
        if name not in gym.registry:
            gym.register(
                name,
                entry_point="actfer_env.envs.face:ActFEREnv",
                vector_entry_point="actfer_env.wrappers.group_vec:make_vector",
                kwargs=kwargs,
            )
    if CHAT_ID not in gym.registry:
        gym.register(CHAT_ID, entry_point="actfer_env.envs.chat:ActFERChatEnv")
