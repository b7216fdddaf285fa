"""`GroupVectorEnv`: query groups of episodes side by side, scored as UC-GRPO scores them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from actfer_env.env import ActFEREnv
from actfer_env.registration import IDS
from actfer_env.rewards import TERMS, UCGRPO, Scores
from actfer_env.rollout import Rollout

Batch = dict[str, Any]


class GroupVectorEnv(gym.vector.VectorEnv[Batch, Any, NDArray[Any]]):
    """Groups of episodes over one sample each, in one process.

    ## Description
    Environment i belongs to group ``i // group_size``. The members of a group start from the same sample and see
    the same first observation. A member that has answered, or has used up its turns, is frozen: its observation
    stays, its actions are ignored, its reward and its end are withheld. When the last member is done, the group
    ends: every member gets its UC-GRPO reward, and its termination or truncation, in that step. The next step
    resets the group to a new sample and ignores its actions (`AutoresetMode.NEXT_STEP`).

    ## Info
    Arrays over the n environments, as in gymnasium's vector environments:

    | key | meaning |
    |-----|---------|
    | `sample_id`, `group_id` | object (n,) |
    | `active` | bool (n,): False where a member is frozen or its group has ended |
    | `action_mask` | int8 (n, k) |
    | `rollout`, `_rollout` | object (n,) and bool (n,): the rollouts of the groups that end in this step |
    | `scores` | term -> float64 (n,), and "_" + term -> bool (n,), for those groups |
    | `advantage`, `_advantage` | float64 (n,) and bool (n,), for those groups |

    ## Scorer
    `scorer` holds the emotion-wise EMA. Rewards use it as it stood at the last `commit`; call `commit` once per
    policy update.

    Args:
        env_id: a registered id.
        num_groups: groups side by side, at least 1.
        group_size: members of a group, at least 1.
        **kwargs: arguments of `ActFEREnv`; the data set and the tools are shared by all members.

    Raises:
        ValueError: an unknown id, or a number below 1.
    """

    def __init__(self, env_id: str, num_groups: int, group_size: int, **kwargs: Any) -> None:
        if env_id not in IDS:
            raise ValueError(f"unknown id {env_id!r}: use one of {', '.join(IDS)}")
        if num_groups < 1 or group_size < 1:
            raise ValueError(f"num_groups {num_groups} and group_size {group_size} must be at least 1")
        first = ActFEREnv(**{**IDS[env_id], **kwargs})
        shared = {**IDS[env_id], **kwargs, "dataset": first.dataset, "tools": first.tools}
        self.envs = [first, *(ActFEREnv(**shared) for _ in range(num_groups * group_size - 1))]
        self.num_groups, self.group_size = num_groups, group_size
        self.num_envs = num_groups * group_size
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = first.render_mode
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(first.observation_space, self.num_envs)
        self.action_space = batch_space(first.action_space, self.num_envs)
        self.scorer: UCGRPO = first.scorer
        self.pending: list[Scores] = []
        """Scores of the groups that have ended since the last commit."""
        self._observations: list[Batch] = [{} for _ in self.envs]
        self._infos: list[Batch] = [{} for _ in self.envs]
        self._finished: list[Rollout | None] = [None] * self.num_envs
        self._ended = np.zeros(num_groups, bool)
        self._groups = 0

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Batch, dict[str, Any]]:
        """Start every group anew.

        Args:
            seed: fixes which samples follow; one number for all groups. It begins a new run: scores that were not
                committed are dropped.
            options: {"samples": one index or id for each group} chooses the first samples.

        Raises:
            DataError: no such sample.
            ValueError: a list of seeds, an unknown option, or a wrong number of samples.
        """
        if isinstance(seed, list):
            raise ValueError("give one seed for all groups: their samples come from one stream")
        if seed is not None:
            self._np_random, self._np_random_seed = gym.utils.seeding.np_random(seed)
            self._groups, self.pending = 0, []
        for group, sample in enumerate(self._first_samples(options or {})):
            self._start(group, sample)
        return self._batch(), self._info()

    def step(
        self, actions: Any
    ) -> tuple[Batch, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Play one turn of every active member; see the class for frozen members and the end of groups."""
        chosen = list(iterate(self.action_space, actions))
        rewards, info = np.zeros(self.num_envs), {}
        ends = np.zeros((2, self.num_envs), bool)
        over: list[int] = []
        for group in range(self.num_groups):
            if self._ended[group]:
                self._start(group, None)
            elif self._play(group, chosen):
                over.append(group)
        if over:
            info = self._close(over, rewards, ends)
        return self._batch(), rewards, ends[0], ends[1], {**self._info(), **info}

    def commit(self) -> None:
        """Move the scorer's EMA by one step, with every group that has ended since the last commit.

        Without such a group nothing happens.
        """
        if self.pending:
            self.scorer.commit(*self.pending)
            self.pending = []

    def state_dict(self) -> dict[str, Any]:
        """Return the scorer's state and the position in the stream of samples, as JSON values.

        Taken between groups (right after `reset`, or when all groups have ended and were committed), it lets
        another environment go on with the same samples and rewards.
        """
        return {"scorer": self.scorer.state_dict(), "groups": self._groups, "rng": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of `state_dict`; call `reset` without a seed next.

        Raises:
            RewardError: the scorer's state is malformed.
        """
        self.scorer.load_state_dict(state["scorer"])
        self._groups, self.pending = int(state["groups"]), []
        generator = np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = deepcopy(state["rng"])
        self._np_random, self._np_random_seed = generator, -1

    def render(self) -> tuple[Any, ...] | None:
        """Return the panels of all members, as `ActFEREnv.render` draws them."""
        return tuple(env.render() for env in self.envs) if self.render_mode is not None else None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the members."""
        for env in self.envs:
            env.close()

    def members(self, group: int) -> range:
        """Return the indices of a group's environments."""
        return range(group * self.group_size, (group + 1) * self.group_size)

    def _first_samples(self, options: dict[str, Any]) -> Sequence[int | str | None]:
        unknown = set(options) - {"samples"}
        if unknown:
            raise ValueError(f"unknown reset option {min(unknown)!r}: use 'samples'")
        samples = options.get("samples", [None] * self.num_groups)
        if len(samples) != self.num_groups:
            raise ValueError(f"{len(samples)} samples for {self.num_groups} groups: give one for each")
        return list(samples)

    def _start(self, group: int, sample: int | str | None) -> None:
        dataset = self.envs[0].dataset
        drawn = int(self.np_random.integers(len(dataset)))
        index = drawn if sample is None else dataset.find(sample)
        name = f"{dataset[index].id}#{self._groups}"
        self._groups += 1
        self._ended[group] = False
        for member, i in enumerate(self.members(group)):
            options = {"sample": index, "group": name, "member": member}
            self._observations[i], self._infos[i] = self.envs[i].reset(options=options)
            self._finished[i] = None

    def _play(self, group: int, actions: list[Any]) -> bool:
        """Step a group's active members; return whether the last of them is done."""
        for i in self.members(group):
            if self._finished[i] is None:
                self._observations[i], _, _, _, self._infos[i] = self.envs[i].step(actions[i])
                self._finished[i] = self._infos[i].get("rollout")
        return all(self._finished[i] is not None for i in self.members(group))

    def _close(self, over: list[int], rewards: NDArray[np.float64], ends: NDArray[np.bool_]) -> dict[str, Any]:
        """Score the groups that end, write their rewards and ends, and return their info."""
        index = np.array([i for group in over for i in self.members(group)])
        rollouts = [rollout for i in index if (rollout := self._finished[i]) is not None]
        scores = self.scorer.score(rollouts)
        self.pending.append(scores)
        self._ended[over] = True
        rewards[index] = scores.total
        ends[1, index] = [rollout.truncated for rollout in rollouts]
        ends[0, index] = ~ends[1, index]
        return self._end_info(index, rollouts, scores)

    def _end_info(self, index: NDArray[np.intp], rollouts: list[Rollout], scores: Scores) -> dict[str, Any]:
        there = np.zeros(self.num_envs, bool)
        there[index] = True
        kept = np.full(self.num_envs, None, object)
        kept[index] = rollouts
        columns = {name: self._column(index, getattr(scores, name)) for name in (*TERMS, "advantage")}
        advantage = columns.pop("advantage")
        masks = {f"_{name}": there.copy() for name in columns}
        return {"rollout": kept, "_rollout": there, "scores": {**columns, **masks}, "_scores": there.copy(),
                "advantage": advantage, "_advantage": there.copy()}  # fmt: skip

    def _column(self, index: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
        column = np.zeros(self.num_envs)
        column[index] = values
        return column

    def _batch(self) -> Batch:
        empty: Any = create_empty_array(self.single_observation_space, self.num_envs, np.empty)
        batch: Any = concatenate(self.single_observation_space, self._observations, empty)
        return dict(batch)

    def _info(self) -> dict[str, Any]:
        episodes = [env.episode for env in self.envs]
        return {
            "sample_id": np.array([episode.sample.id for episode in episodes if episode], object),
            "group_id": np.array([episode.group_id for episode in episodes if episode], object),
            "active": np.array([rollout is None for rollout in self._finished]),
            "action_mask": np.stack([info["action_mask"] for info in self._infos]),
        }
