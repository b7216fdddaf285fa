"""A random policy, the floor of every table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from actfer_env import facs
from actfer_env.agents.base import Batch, join, rows
from actfer_env.envs.actions import codec_for


class RandomAgent:
    """Draws uniformly from the action space.

    Args:
        action_space: The single action space of an environment of this package.
        seed: Fixes the draws.
        masked: Draw among the legal tools or regions only. An answer is one of them, so masked random episodes
            never break a rule, and end by themselves.
        au_set: The environment's Action Units.
    """

    looks = False

    def __init__(
        self,
        action_space: gym.Space[Any],
        seed: int | None = None,
        masked: bool = True,
        au_set: Sequence[int] = facs.CORE_AUS,
    ) -> None:
        self.space = action_space
        self.masked = masked
        self._codec = codec_for(action_space, au_set)
        self._rng = np.random.default_rng(seed)

    def reset(self, n: int) -> None:
        """Nothing to prepare; the random stream goes on."""

    def random_state(self) -> dict[str, Any]:
        """Return where the random stream stands, as JSON values."""
        return dict(self._rng.bit_generator.state)

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `random_state`."""
        self._rng.bit_generator.state = state

    def act(self, obs: Batch, info: Batch) -> Any:
        """Return random actions; see `Agent.act`."""
        return join([self._draw(row) for row in rows(obs)], obs)

    def _draw(self, row: dict[str, Any]) -> Any:
        mask = np.asarray(row["action_mask"], bool) if self.masked else np.ones(self._codec.mask_size, bool)
        return self._codec.draw(self._rng, mask)
