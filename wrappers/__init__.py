"""Gymnasium wrappers for this package's environments, and query groups as a vector environment."""

from actfer_env.wrappers.chat_group_vec import ChatGroupVectorEnv
from actfer_env.wrappers.group_vec import GroupVectorEnv
from actfer_env.wrappers.record import RecordRollouts

__all__ = ["ChatGroupVectorEnv", "GroupVectorEnv", "RecordRollouts"]
