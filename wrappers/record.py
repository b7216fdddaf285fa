"""`RecordRollouts`: keep every finished episode of any environment of this package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gymnasium as gym

from actfer_env.errors import DataError
from actfer_env.rollout import Rollout


class RecordRollouts(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Appends each finished episode's `Rollout` to a list and, if asked, to a JSON-lines file.

    Args:
        env: an environment of this package.
        path: the file, extended line by line so that a killed run keeps what it finished; None keeps a list only.

    Attributes:
        rollouts: the finished episodes, in order.

    Raises:
        DataError: the file cannot be written.

    Example:
        >>> import gymnasium as gym
        >>> from actfer_env.wrappers import RecordRollouts
        >>> env = RecordRollouts(gym.make("ActFER-Discrete-v0"))
        >>> _ = env.reset(seed=0)
        >>> _ = env.step(6)
        >>> env.rollouts[0].predicted_emotion
        'happiness'
    """

    def __init__(self, env: gym.Env[Any, Any], path: str | os.PathLike[str] | None = None) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, path=path)
        super().__init__(env)
        self.rollouts: list[Rollout] = []
        self.path = None if path is None else Path(path)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment and keep the rollout that ends."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        if "rollout" in info:
            self.rollouts.append(info["rollout"])
            self._append(info["rollout"])
        return obs, reward, terminated, truncated, info

    def _append(self, rollout: Rollout) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(rollout.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise DataError(
                f"cannot write {self.path}: {error.strerror}; choose a folder that can be written"
            ) from error
