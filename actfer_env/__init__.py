"""actfer_env: a Gymnasium environment for agentic facial expression recognition.

Importing the package registers the environments:

>>> import gymnasium as gym
>>> import actfer_env
>>> env = gym.make("ActFER-v0")
>>> obs, info = env.reset(seed=0)
>>> obs["image"].shape
(96, 96, 3)
"""

from actfer_env._version import __version__
from actfer_env.errors import ActFERError, DataError, DetectorError, ImageError, LabelError
from actfer_env.registration import register_envs

register_envs()

__all__ = ["ActFERError", "DataError", "DetectorError", "ImageError", "LabelError", "__version__", "register_envs"]
