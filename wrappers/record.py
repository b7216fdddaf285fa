"""`RecordRollouts`: keep every finished episode of any environment of this package."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym

from actfer_env.files import Journal
from actfer_env.rollout import Rollout


class RecordRollouts(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Appends each finished episode's `Rollout` to a list and, if asked, to a JSON-lines file.

    Args:
        env: An environment of this package.
        path: The file, extended line by line so that a killed run keeps what it finished; None keeps a list only.

    Attributes:
        rollouts: The finished episodes, in order. A query group that is played again, as after another
            `reset(seed=0)`, is kept under an id of its own ("...~2").

    Raises:
        DataError: the file cannot be written, or holds something else.

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
        self._journal = None if path is None else Journal(path, Rollout.from_dict, sync=False)
        kept = () if self._journal is None else self._journal.read()
        self._seen = Counter((re.sub(r"~\d+$", "", one.group_id), one.member) for one in kept)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment and keep the rollout that ends.

        Args:
            action: An action of the environment, or the batch of a vector environment.

        Returns:
            The environment's own values.
        """
        obs, reward, terminated, truncated, info = self.env.step(action)
        if "rollout" in info:
            rollout: Rollout = info["rollout"]
            member = (rollout.group_id, rollout.member)
            self._seen[member] += 1
            if self._seen[member] > 1:  # two plays are not one group
                rollout = replace(rollout, group_id=f"{rollout.group_id}~{self._seen[member]}")
            self.rollouts.append(rollout)
            if self._journal is not None:
                self._journal.append(self.rollouts[-1].to_dict())
        return obs, reward, terminated, truncated, info
