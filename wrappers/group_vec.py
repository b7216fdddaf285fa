"""`GroupVectorEnv`: query groups of episodes side by side, scored as UC-GRPO scores them."""

from __future__ import annotations

# Longer than 400 lines: a fifth of them is the page of the class, and its step and reset are read with what they call.
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from actfer_env.boxes import Box
from actfer_env.data import Dataset
from actfer_env.envs.actions import Magnified
from actfer_env.envs.face import ActFEREnv
from actfer_env.envs.observations import BufferPool
from actfer_env.envs.panel import show_window
from actfer_env.envs.registration import arguments
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import WorkerError
from actfer_env.limits import limited
from actfer_env.rewards import TERMS, UCGRPO, Scores
from actfer_env.rewards.other_papers import AnswerReward
from actfer_env.tools import FaceTools
from actfer_env.tools.au_areas import ground
from actfer_env.wrappers.blocks import Start, Turn
from actfer_env.wrappers.workers import LocalBlock, WorkerPool

Observations = dict[str, Any]
AUTORESET_MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)


class GroupVectorEnv(gym.vector.VectorEnv[Observations, Any, NDArray[Any]]):
    """Groups of episodes over one sample each, in this process or in workers, with the same results.

    ## Description
    Environment i belongs to group ``i // group_size``. The members of a group start from the same sample and see
    the same first observation. A member that has answered, or has used up its turns, is frozen: its observation
    stays, its actions are ignored, its reward and its end are withheld. When the last member is done, the group
    ends: every member gets its UC-GRPO reward, and its termination or truncation, in that step. The next step
    resets the group to a new sample and ignores its actions (`AutoresetMode.NEXT_STEP`, the default), or the same
    step does (`AutoresetMode.SAME_STEP`). With groups of one this is an ordinary vector environment.

    ## Info
    Arrays over the n environments, as in gymnasium's vector environments:

    | key | meaning |
    |-----|---------|
    | `sample_id`, `group_id` | object (n,) |
    | `active` | bool (n,): False where a member is frozen or its group has ended |
    | `action_mask` | int8 (n, k) |
    | `message`, `violation` | after a step, object (n,): as in `ActFEREnv`; None where no turn was played |
    | `tool` | after a step, object (n,): the name of what was called; None where no turn was played |
    | `result` | after a step, object (n,): a dict of what it found, as in `ActFEREnv`; None where no turn was played |
    | `rollout`, `_rollout` | object (n,) and bool (n,): the rollouts of the groups that end in this step |
    | `scores`, `reward_terms` | term -> float64 (n,), and "_" + term -> bool (n,), for those groups |
    | `advantage`, `_advantage` | float64 (n,) and bool (n,), for those groups |
    | `delta` | float64 (n,), the contrast of a member's group; `_delta` is False where it is undefined |
    | `rule` | object (n,), the rule behind a member's utility, such as "agreed" or "missed" |
    | `lambda` | float64 (n,), the factor on its penalty: that of the rule, 1 where there is none |
    | `lambda_miss`, `lambda_over` | float64 (n,), both factors of the group's emotion |
    | `final_obs`, `final_info` | with SAME_STEP, as gymnasium has them: observation and info before the reset |

    From `message` on, "_" + key is bool (n,): where there is a value.

    ## Scorer
    `scorer` holds the emotion-wise EMA. Rewards use it as it stood at the last `commit`; call `commit` once per
    policy update.

    ## Errors
    An error in a worker is raised here as itself. After any error in `step`, call `reset`; after a `WorkerError`, or
    an interrupt while workers play, make a new environment.

    Args:
        env_id: A registered id; None is `ActFEREnv` with the arguments alone.
        num_groups: Groups side by side, at least 1.
        group_size: Members of a group, at least 1.
        num_workers: Processes that play the groups, at most one a group; 0 plays them in this one. Each worker
            keeps its own cache of pictures, and decodes and detects for its own groups.
        autoreset_mode: NEXT_STEP or SAME_STEP.
        copy: Return observations of their own memory; False returns the arrays that the next step overwrites.
        context: Start method of the workers, "spawn", "forkserver" or "fork".
        max_episode_steps: gymnasium's name for a bound on turns; the smaller of it and `max_turns` holds.
        **kwargs: arguments of `ActFEREnv`; the data set and the tools are shared by all members.

    Raises:
        ValueError: an unknown id, or a number below 1.
        WorkerError: a worker process has ended before its time.
    """

    def __init__(
        self,
        env_id: str | None,
        num_groups: int,
        group_size: int,
        *,
        num_workers: int = 0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        context: str = "spawn",
        max_episode_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        if num_groups < 1 or group_size < 1:
            raise ValueError(f"num_groups {num_groups} and group_size {group_size} must be at least 1")
        if num_workers < 0:
            raise ValueError(f"num_workers {num_workers} must be at least 0; 0 plays in this process")
        made, first = self._make_template(env_id, _bounded(kwargs, max_episode_steps))
        self._template = first
        self.num_groups, self.group_size, self.num_workers = num_groups, group_size, num_workers
        self.num_envs, self.copy = num_groups * group_size, copy
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        if self.autoreset_mode not in AUTORESET_MODES:
            raise ValueError(f"autoreset_mode {self.autoreset_mode.value} is not supported: use NextStep or SameStep")
        self.metadata = {**first.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = first.render_mode
        self.single_observation_space, self.single_action_space = first.observation_space, first.action_space
        self.observation_space = batch_space(first.observation_space, self.num_envs)
        self.action_space = batch_space(first.action_space, self.num_envs)
        self.scorer: UCGRPO | AnswerReward = first.scorer
        """May be replaced, before the first reset, by another reward with the same calls; one that is `grounded` finds
        the boxes of Action Units and of zooms in the rollouts."""
        self.pending: list[Scores] = []
        """Scores of the groups that have ended since the last commit."""
        self._pool = BufferPool(first.layout, self.num_envs)
        self._seed: int | None = None
        self._groups = 0
        self._ended: NDArray[np.bool_] = np.zeros(num_groups, bool)
        self._ready = False
        self._shown: list[tuple[Scores, int] | None] = [None] * self.num_envs
        self._names: NDArray[Any] = np.full((2, self.num_envs), None, object)
        self._blocks: LocalBlock | WorkerPool = LocalBlock(first, num_groups, group_size)
        if num_workers:
            sent = {**made, "dataset": first.dataset, "root": None, "split": None, "preset": None, "render_mode": None}
            self._blocks = WorkerPool(first, sent, num_groups, group_size, num_workers, context)

    @property
    def dataset(self) -> Dataset:
        """The data set from which groups draw their samples."""
        return self._template.dataset

    @property
    def tools(self) -> FaceTools:
        """The tools of this process; workers have their own."""
        return self._template.tools

    @property
    def config(self) -> EpisodeConfig:
        """Budgets and Action Units of the episodes."""
        return self._template.config

    @property
    def au_set(self) -> tuple[int, ...]:
        """The Action Units of targets and answers, in the order of the answer's bits."""
        return self._template.au_set

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start every group anew.

        Args:
            seed: Fixes which samples follow; one number for all groups. It begins a new run: scores that were not
                committed are dropped.
            options: {"samples": one index or id for each group} chooses the first samples.

        Raises:
            DataError: no such sample.
            ImageError: a sample's picture cannot be read.
            ValueError: a list of seeds, an unknown option, or a wrong number of samples.
        """
        if isinstance(seed, list):
            raise ValueError("give one seed for all groups: their samples come from one stream")
        unknown = set(options or {}) - {"samples"}
        if unknown:
            raise ValueError(f"unknown reset option {min(unknown)!r}: use 'samples'")
        samples = (options or {}).get("samples", [None] * self.num_groups)
        if len(samples) != self.num_groups:
            raise ValueError(f"{len(samples)} samples for {self.num_groups} groups: give one for each")
        if seed is not None:
            self._np_random, self._np_random_seed = gym.utils.seeding.np_random(seed)
            self._groups, self.pending, self._seed = 0, [], seed
        self._ready = False
        turn = self._blocks.start(self._draw(range(self.num_groups), list(samples)))
        self._ready = True
        self._begin(turn)
        return self._observe(), self._info()

    def step(
        self, actions: Any
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Play one turn of every active member; see the class for frozen members and the end of groups.

        Args:
            actions: The batch of n actions, as the `action_space` has it; those of frozen members are ignored.

        Returns:
            Observations with a leading axis of n, rewards float64 (n,), terminated and truncated bool (n,), info.

        Raises:
            RuntimeError: `reset` was not called, or an error came since.
            ValueError: there is not one action for each environment, or an active member's is not of the space.
        """
        # One turn of every active member; groups that ended in the step before begin anew.
        batch = self._checked(actions)
        starts = self._draw(np.flatnonzero(self._ended).tolist())
        self._ready = False
        turn = self._blocks.turn(starts, batch)
        self._begin(turn)
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        truncated = terminated.copy()
        played = np.array([tool is not None for tool in turn.tools], bool)
        told = {"message": turn.messages, "violation": turn.violations, "tool": turn.tools, "result": turn.results}
        info: dict[str, Any] = {name: np.array(values, object) for name, values in told.items()}
        info |= {f"_{name}": played.copy() for name in told}

        # The groups whose last member is done are scored; `index` are the rows of their members.
        index = self._rows(turn.over)
        if turn.over:
            if getattr(self.scorer, "grounded", False):
                turn.rollouts = [ground(one, self.dataset[self.dataset.find(one.sample_id)], self.tools)
                                 for one in turn.rollouts]  # fmt: skip
            scores = self.scorer.score(turn.rollouts)
            # Groups of one move no EMA: beyond the first their scores change nothing at the next commit, and a trainer
            # that never commits must not fill the memory with them. A rule that balances calls counts all of them.
            if self.group_size > 1 or not self.pending or getattr(self.scorer, "counts_every", False):
                self.pending.append(scores)
            self._ended[turn.over] = True
            rewards[index] = scores.total
            truncated[index] = [rollout.truncated for rollout in turn.rollouts]
            terminated[index] = ~truncated[index]
            if self.render_mode is not None:
                for place, i in enumerate(index):
                    self._shown[i] = (scores, place)
            terms: dict[str, Any] = {}
            for name in TERMS:
                terms |= self._some(name, index, getattr(scores, name))
            info |= self._some("rollout", index, turn.rollouts, object)
            info |= self._some("advantage", index, scores.advantage)
            info |= {"scores": terms, "reward_terms": terms}
            info |= {f"_{name}": info["_rollout"].copy() for name in ("scores", "reward_terms")}
            for name, values in scores.readings().items():  # known of some members only
                known = [value is not None for value in values]
                kept = [value for value in values if value is not None]
                info |= self._some(name, index[known], kept, object if name == "rule" else float)

        # With SAME_STEP, new groups begin at once in place of those that are over.
        if turn.over and self.autoreset_mode is AutoresetMode.SAME_STEP:
            last = {key: values[index] for key, values in self._blocks.arrays.items()}
            final = [{key: values[i] for key, values in last.items()} for i in range(len(index))]
            there = info["_rollout"].copy()
            info |= {"final_info": {**self._info(), **info}, "_final_info": there}
            info |= self._some("final_obs", index, final, object)
            self._begin(self._blocks.start(self._draw(turn.over)))
        self._ready = True
        return self._observe(), rewards, terminated, truncated, {**self._info(), **info}

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
        rng = self.np_random.bit_generator.state
        return {"scorer": self.scorer.state_dict(), "groups": self._groups, "rng": rng, "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of `state_dict`; call `reset` without a seed next.

        Args:
            state: JSON values that `state_dict` returned.

        Raises:
            RewardError: the scorer's state is malformed.
        """
        self.scorer.load_state_dict(state["scorer"])
        self._groups, self.pending, self._seed = int(state["groups"]), [], state.get("seed")
        generator = np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = deepcopy(state["rng"])
        self._np_random, self._np_random_seed = generator, -1

    def _make_template(self, env_id: str | None, given: dict[str, Any]) -> tuple[dict[str, Any], ActFEREnv]:
        """Return the arguments of the environment whose episodes are played, and that environment."""
        made = given if env_id is None else arguments(env_id, **given)
        return made, ActFEREnv(**made)

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the action masks as booleans (n, k), the way sb3-contrib's MaskablePPO asks for them."""
        return self._blocks.arrays["action_mask"].astype(bool)

    def sample_masks(self) -> list[Any]:
        """Return for each member the mask that `single_action_space.sample(mask)` takes; see `ActFEREnv.sample_mask`.

        A frozen member's action is ignored, whatever it is.
        """
        arrays, template = self._blocks.arrays, self._template
        rows = zip(arrays["action_mask"], arrays["crop_boxes"], arrays["crop_mask"], strict=True)
        return [
            template.codec.sample_mask(
                mask.copy(), Magnified(tuple(Box(*box) for box in boxes[shown == 1]), self.tools.zoom)
            )
            for mask, boxes, shown in rows
        ]

    def render(self) -> tuple[Any, ...] | None:
        """Return the panels of all members for "rgb_array", each uint8 (540, 960, 3)."""
        return tuple(self._blocks.panels(self._shown)) if self.render_mode == "rgb_array" else None

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers, and close the window of "human"."""
        if hasattr(self, "_blocks"):
            self._blocks.close()
            self._template.close()

    def members(self, group: int) -> range:
        """Return the indices of a group's environments.

        Args:
            group: Number of the group, from 0.

        Returns:
            The indices, in order.
        """
        return range(group * self.group_size, (group + 1) * self.group_size)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along.

        Raises:
            WorkerError: worker processes hold the episodes, and cannot be copied.
        """
        if self.num_workers:
            raise WorkerError(
                "an environment with worker processes cannot be copied or pickled: make another one, and give it this "
                "one's state_dict()"
            )
        return dict(vars(self))

    def _draw(self, groups: Sequence[int], chosen: Sequence[int | str | None] | None = None) -> list[Start]:
        """Draw the next samples; a chosen one takes its draw's place, so that those after it stay the same."""
        drawn = self.np_random.integers(len(self.dataset), size=len(groups)).tolist()
        indices = [index if sample is None else self.dataset.find(sample)
                   for index, sample in zip(drawn, chosen or [None] * len(groups), strict=True)]  # fmt: skip
        numbers = range(self._groups, self._groups + len(groups))
        self._groups += len(groups)
        return [Start(group, index, number, self._seed)
                for group, index, number in zip(groups, indices, numbers, strict=True)]  # fmt: skip

    def _begin(self, turn: Turn) -> None:
        if not turn.begun:
            return
        groups, sample_ids, group_ids = (list(column) for column in zip(*turn.begun, strict=True))
        index = self._rows(groups)
        self._names[0, index] = np.array(sample_ids, object).repeat(self.group_size)
        self._names[1, index] = np.array(group_ids, object).repeat(self.group_size)
        self._ended[groups] = False
        if self.render_mode is not None:
            for i in index:
                self._shown[i] = None

    def _rows(self, groups: Sequence[int]) -> NDArray[np.intp]:
        """Return the rows of the members of some groups, in order."""
        return (np.array(groups, np.intp)[:, None] * self.group_size + np.arange(self.group_size)).ravel()

    def _some(self, name: str, index: Any, values: Any, dtype: type = float) -> dict[str, NDArray[Any]]:
        """Return the info that some members have, as gymnasium writes it: values by member, and where there is one.

        Args:
            name: Key of the values; that of where they are has an underscore before it.
            index: Rows of the members.
            values: A value for each of these.
            dtype: Type of the values; None stands elsewhere if it is object, else zero.
        """
        column: NDArray[Any] = np.full(self.num_envs, None if dtype is object else 0, dtype)
        there = np.zeros(self.num_envs, bool)
        column[index], there[index] = values, True
        return {name: column, f"_{name}": there}

    def _checked(self, actions: Any) -> Any:
        if not self._ready:
            raise RuntimeError("call reset() before step()")
        keys = getattr(self.single_action_space, "spaces", None)
        if keys is not None and (not isinstance(actions, Mapping) or set(actions) != set(keys)):
            raise ValueError(f"give the actions as one dict of arrays: {', '.join(keys)}")
        batch = dict(actions) if isinstance(actions, Mapping) else np.asarray(actions)
        for part in batch.values() if isinstance(batch, dict) else (batch,):
            if len(part) != self.num_envs:
                raise ValueError(f"{len(part)} actions for {self.num_envs} environments: give one for each")
        return batch

    def _observe(self) -> Observations:
        """Return all members' observations as they are now, and show the first one's panel where that is wanted."""
        if self.render_mode == "human":
            show_window(self._blocks.panels(self._shown)[0], self.metadata["render_fps"])
        arrays = self._blocks.arrays
        return self._pool.copy(arrays) if self.copy else dict(arrays)

    def _info(self) -> dict[str, Any]:
        sample_ids, group_ids = self._names
        return {
            "sample_id": sample_ids.copy(),
            "group_id": group_ids.copy(),
            "active": self._blocks.active.copy(),
            "action_mask": self._blocks.arrays["action_mask"].copy(),
        }


def make_vector(num_envs: int, group_size: int = 1, **kwargs: Any) -> GroupVectorEnv:
    """Return the vector environment behind `gymnasium.make_vec`.

    Args:
        num_envs: Members of all groups together, a multiple of `group_size`.
        group_size: Members of a group; 1 is an ordinary vector environment.
        **kwargs: as for `GroupVectorEnv`, with those that the id was registered with.

    Returns:
        The vector environment.

    Raises:
        ValueError: as `GroupVectorEnv`, or the members make no whole groups.
    """
    if group_size < 1 or num_envs % group_size:
        raise ValueError(f"num_envs {num_envs} is no multiple of group_size {group_size}")
    return GroupVectorEnv(None, num_envs // group_size, group_size, **kwargs)


def _bounded(kwargs: dict[str, Any], max_episode_steps: int | None) -> dict[str, Any]:
    """Return the arguments of an environment with `max_turns` within a bound."""
    if max_episode_steps is None:
        return kwargs
    config = kwargs.get("config") or EpisodeConfig()
    if kwargs.get("max_turns") is not None:
        config = replace(config, max_turns=kwargs["max_turns"])
    return {**kwargs, "max_turns": limited(config, max_episode_steps).max_turns}
