"""actfer_env: a Gymnasium environment for agentic facial expression recognition.

Importing the package registers the environments:

>>> import gymnasium as gym
>>> import actfer_env
>>> env = gym.make("ActFER-v0")
>>> obs, info = env.reset(seed=0)
>>> obs["image"].shape
(96, 96, 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actfer_env import _moved
from actfer_env._version import __version__
from actfer_env.envs.registration import CHAT_ID, register_envs
from actfer_env.errors import ActFERError, DataError, DetectorError, ImageError, LabelError

if TYPE_CHECKING:
    from actfer_env.wrappers.group_vec import GroupVectorEnv

_moved.install()
register_envs()


def make_group_vec(env_id: str, num_groups: int, group_size: int, **kwargs: Any) -> GroupVectorEnv:
    """Return a vector environment of query groups.

    Args:
        env_id: A registered id. Those with numbered actions give a `actfer_env.wrappers.GroupVectorEnv`,
            "ActFER-Chat-v0" gives a `actfer_env.wrappers.ChatGroupVectorEnv`, which takes texts.
        num_groups: Groups side by side, at least 1.
        group_size: Members of a group, at least 1.
        **kwargs: as for these classes.

    Returns:
        The vector environment.

    Raises:
        ValueError: an unknown id, or a number below 1.
    """
    from actfer_env.wrappers import ChatGroupVectorEnv, GroupVectorEnv

    kind = ChatGroupVectorEnv if env_id == CHAT_ID else GroupVectorEnv
    return kind(env_id, num_groups, group_size, **kwargs)


__all__ = [
    "ActFERError",
    "DataError",
    "DetectorError",
    "ImageError",
    "LabelError",
    "__version__",
    "make_group_vec",
    "register_envs",
]
