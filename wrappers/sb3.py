"""Stable-Baselines3: query groups as its vector environment, a feature extractor, and a callback that sees collapses.

Needs the extra "sb3"; importing this module loads torch.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from actfer_env.rewards import TERMS, Scores
from actfer_env.rewards.guards import collapse_figures, collapse_warnings
from actfer_env.rewards.scores import to_array, zoom_mask
from actfer_env.wrappers.group_vec import GroupVectorEnv

Observations = dict[str, Any]


def make_sb3_vec(env_id: str, num_groups: int, group_size: int = 1, **kwargs: Any) -> SB3GroupVecEnv:
    """Return a Stable-Baselines3 vector environment.

    Args:
        env_id: "ActFER-MultiDiscrete-v0" for PPO, A2C and MaskablePPO; "ActFER-Discrete-v0" for these and DQN.
        num_groups: Groups side by side.
        group_size: Members of a group; 1 makes ordinary independent environments.
        **kwargs: as for `GroupVectorEnv`.

    Returns:
        The vector environment, of num_groups x group_size members.
    """
    kwargs["autoreset_mode"] = AutoresetMode.SAME_STEP
    return SB3GroupVecEnv(GroupVectorEnv(env_id, num_groups, group_size, **kwargs))


class SB3GroupVecEnv(VecEnv):
    """A `GroupVectorEnv` as Stable-Baselines3's algorithms take it, with the same rewards.

    Every reward is the member's UC-GRPO reward; it comes when the group ends, for all members at once. `infos` of
    members that played hold "tool", "result", "message" and "violation", as of `ActFEREnv`; those of members that end
    also "rollout", "reward_terms", "advantage", "delta", "rule", "lambda", "terminal_observation", and the "episode" of
    SB3's `Monitor`. Used-up turns count as an end, not as SB3's time limit: `turns_left` is observed, so that the
    horizon belongs to the task and nothing is to be bootstrapped.

    Args:
        envs: Made with `AutoresetMode.SAME_STEP`, and copying its observations.

    Attributes:
        envs: The environment; `envs.commit()` once per policy update moves the EMA.

    Raises:
        ValueError: it resets in the next step, or does not copy.
    """

    def __init__(self, envs: GroupVectorEnv) -> None:
        if envs.autoreset_mode is not AutoresetMode.SAME_STEP or not envs.copy:
            raise ValueError("SB3 resets in the same step and keeps observations: pass autoreset_mode='SameStep'")
        self.envs = envs
        self._actions: NDArray[Any] = np.zeros(0)
        self._start = time.time()
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> Observations:
        """Start every group anew; see `GroupVectorEnv.reset`."""
        (options, *_), (seed, *_) = self._options, self._seeds
        obs, info = self.envs.reset(seed=seed, options=options)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{"sample_id": name} for name in info["sample_id"]]
        return obs

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions; `step_wait` plays them.

        Args:
            actions: The batch of n actions.
        """
        self._actions = actions

    def step_wait(self) -> tuple[Observations, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Play one turn; see `GroupVectorEnv.step`."""
        obs, rewards, terminated, truncated, info = self.envs.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        dones = terminated | truncated
        for i in np.flatnonzero(info["_tool"]):
            infos[i] = {name: info[name][i] for name in ("tool", "result", "message", "violation")}
        for i in np.flatnonzero(dones):
            rollout = info["rollout"][i]
            infos[i] |= {
                "rollout": rollout,
                "sample_id": rollout.sample_id,
                "reward_terms": {name: float(info["scores"][name][i]) for name in TERMS},
                "advantage": float(info["advantage"][i]),
                **{name: info[name][i] if info[f"_{name}"][i] else None for name in ("delta", "rule", "lambda")},
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": False,
                "episode": {"r": float(rewards[i]), "l": rollout.turns, "t": time.time() - self._start},
            }
        return obs, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environment, once for each index."""
        value = getattr(self.envs, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environment, for all members."""
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the environment that returns one value for each member, such as `action_masks`."""
        values = getattr(self.envs, method_name)(*args, **kwargs)
        return [values[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        """Tell whether members are wrapped: for `Monitor` yes, as its infos are there; for others no."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return the panels of all members."""
        return self.envs.render() or [None] * self.num_envs


class CollapseCallback(BaseCallback):
    """Logs the shares by which a policy's collapse shows, and warns once of each kind.

    After each batch of rollouts in which enough episodes have ended since the last time, SB3's logger gets
    "collapse/zoom", "collapse/wrong_groups" and "collapse/flat_groups" (0 for groups of one); see
    `actfer_env.rewards.guards`.

    Args:
        least: Episodes that a figure is of, at least; fewer would warn of chance.

    Example:
        ``model.learn(100_000, callback=CollapseCallback())``
    """

    def __init__(self, least: int = 64) -> None:
        super().__init__()
        self.least = least
        self._ended: list[dict[str, Any]] = []
        self._warned: set[str] = set()

    def _on_step(self) -> bool:
        self._ended += [info for info in self.locals["infos"] if "rollout" in info]
        return True

    def _on_rollout_end(self) -> None:
        if len(self._ended) < self.least:
            return
        rollouts = [info["rollout"] for info in self._ended]
        terms: dict[str, Any] = {name: to_array([info["reward_terms"][name] for info in self._ended]) for name in TERMS}
        scores = Scores(
            **terms, advantage=to_array([info["advantage"] for info in self._ended]),
            gated=np.zeros(len(rollouts), bool), zoomed=zoom_mask(rollouts),
            group_ids=tuple(rollout.group_id for rollout in rollouts),
        )  # fmt: skip
        self._ended = []
        figures = collapse_figures(rollouts, scores)
        if len(set(scores.group_ids)) == len(rollouts):  # in a group of one there is nothing to differ
            figures["flat_groups"] = 0.0
        for name, value in figures.items():
            self.logger.record(f"collapse/{name}", value)
        for line in collapse_warnings(figures):
            if line not in self._warned:
                self._warned.add(line)
                warnings.warn(f"after {self.num_timesteps} steps: {line}", RuntimeWarning, stacklevel=2)


class ViewExtractor(BaseFeaturesExtractor):
    """Features of the `Dict` observation: three small CNNs, for image, face and crops, and all the rest as it is.

    The crops share one CNN. It is much cheaper than SB3's default, which builds a NatureCNN for every picture.

    Args:
        observation_space: The environment's.
        features_dim: Features in the end.
        width: Channels of the first layer.
    """

    def __init__(self, observation_space: spaces.Dict, features_dim: int = 128, width: int = 16) -> None:
        super().__init__(observation_space, features_dim)
        self._crops = [key for key in observation_space if key.startswith("crop_") and key[5:].isdecimal()]
        self._vectors = [key for key in observation_space if key not in ("image", "face", *self._crops)]
        self.image, self.face, self.crop = (_small_cnn(width) for _ in range(3))
        pictures = (2 + len(self._crops)) * 2 * width * 9
        vectors = sum(spaces.flatdim(observation_space[key]) for key in self._vectors)
        self.join = nn.Sequential(nn.Linear(pictures + vectors, features_dim), nn.ReLU())

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the features, (n, features_dim).

        Args:
            observations: As SB3 prepares them: pictures (n, 3, H, W) in [0, 1], the rest as floats or one-hot.

        Returns:
            The features, float32.
        """
        n = len(observations["image"])
        crops = torch.stack([observations[key] for key in self._crops], 1).flatten(0, 1)
        parts = [self.image(observations["image"]), self.face(observations["face"]), self.crop(crops).reshape(n, -1)]
        return self.join(torch.cat(parts + [observations[key].flatten(1) for key in self._vectors], 1))


def _small_cnn(width: int) -> nn.Sequential:
    layers: Iterable[nn.Module] = (
        nn.Conv2d(3, width, 5, stride=3), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(),
    )  # fmt: skip
    return nn.Sequential(*layers)


POLICY: dict[str, Any] = {"features_extractor_class": ViewExtractor}
"""The `policy_kwargs` for SB3's "MultiInputPolicy"."""
