"""`UCGRPOReward`: the rewards of this package over whole groups in TRL, and the callback that keeps their state."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env.errors import DataError
from actfer_env.identity import refuse_other
from actfer_env.integrations.trl.checkpoints import replay_order
from actfer_env.integrations.trl.environment import FaceEnv
from actfer_env.packages import needs
from actfer_env.rewards import UCGRPO, RewardError, Scores, UCGRPOConfig
from actfer_env.rewards.guards import collapse_figures, collapse_warnings
from actfer_env.rewards.other_papers import AnswerReward, reward_facts
from actfer_env.rewards.tool_rules import HDPOReward
from actfer_env.rollout import Rollout, write_rollouts
from actfer_env.verl_plugin.scoring import StepScorer, reward_config

logger = logging.getLogger(__name__)


class UCGRPOReward:
    """UC-GRPO, or another reward of this package, over whole groups in TRL.

    Pass it as `reward_funcs`, and its `callback` to the trainer's callbacks: that checks that groups are whole, moves
    the emotion-wise EMA once a policy update, and keeps it in checkpoints. Metrics are those of verl (``ucgrpo/...``).

    Args:
        reward: Constants of UC-GRPO, another reward, or a name: a variant of UC-GRPO or a key of `OTHER_REWARDS`.
        returns: "total" lets TRL make the advantages of the rewards; "advantage" gives it the library's own, which
            stay what they are with ``scale_rewards="none"``.
        out: Folder for the rollouts of each step, as JSON lines; None keeps none.

    Attributes:
        scorer: The library's scorer.
        last: Rollouts and scores of the last call, for tests and notebooks.

    Raises:
        RewardError: an unknown name, or a reward whose advantages no total has, such as HDPO's, with "total".
    """

    __name__ = "ucgrpo"

    def __init__(
        self, reward: UCGRPOConfig | AnswerReward | str = "full", returns: str = "total", out: str | Path | None = None
    ) -> None:
        chosen = reward_config({"variant": reward}) if isinstance(reward, str) else reward
        if returns not in ("total", "advantage"):
            raise RewardError(f"unknown returns {returns!r}: use total or advantage")
        if isinstance(chosen, HDPOReward) and returns == "total":
            raise RewardError("HDPO's advantages are those of no total: pass returns='advantage'")
        self._step = StepScorer(chosen)
        self.returns, self.out = returns, out
        self.last: tuple[list[Rollout], Scores] | None = None
        self.group_size: int | None = None
        self._held_out_size: int | None = None
        self._pending: list[Scores] = []
        self._calls, self._rank = 0, 0
        self._training: Callable[[], bool] = lambda: True

    @property
    def scorer(self) -> UCGRPO | AnswerReward:
        """The library's scorer."""
        return self._step.scorer

    def __call__(
        self, completions: Sequence[Any], environments: Sequence[FaceEnv] | None = None, log_metric: Any = None,
        trainer_state: Any = None, **columns: Any,
    ) -> list[float]:  # fmt: skip
        """Score the completions of whole groups.

        Raises:
            RewardError: the callback was not passed, the environment is not `FaceEnv`, or a group is not whole.
        """
        if self.group_size is None:
            raise RewardError("pass reward.callback() to the trainer's callbacks: it knows the groups")
        if not environments or not all(isinstance(one, FaceEnv) for one in environments):
            raise RewardError("pass environment_factory=FaceEnv: rewards are computed from its episodes")
        training = self._training()
        size = self.group_size if training or self._held_out_size is None else self._held_out_size
        if len(completions) % size and training:
            raise RewardError(
                f"{len(completions)} completions make no whole groups of {size}: see the callback's check"
            )
        step = int(getattr(trainer_state, "global_step", 0))
        self._calls += 1
        rollouts = []
        for row, (completion, environment) in enumerate(zip(completions, environments, strict=True)):
            group = f"{step}.{self._calls}.{self._rank}.{row // size}"
            rollouts.append(_renamed(environment._finish(completion).rollout(), group, row % size, step))
        _check_groups(rollouts)
        scores = self.scorer.score(rollouts)
        self.last = rollouts, scores
        if training:
            self._pending.append(scores)
            if self.out is not None:
                write_rollouts(Path(self.out) / f"step_{step:06d}_{self._calls:06d}_{self._rank}.jsonl", rollouts)
            for line in collapse_warnings(collapse_figures(rollouts, scores)):
                logger.warning("step %d: %s", step, line)
        if log_metric is not None:
            for name, value in {**self._step.metrics(rollouts, scores), "ucgrpo/spread": _spread(scores)}.items():
                log_metric(name, value)
        return [float(value) for value in getattr(scores, self.returns)]

    def commit(self) -> None:
        """Move the EMA by one step with everything that was scored since the last; the callback calls it."""
        everywhere = _gathered(self._pending)
        self._pending = []
        if everywhere:
            self.scorer.commit(*everywhere)

    def state_dict(self) -> dict[str, Any]:
        """Return the scorer's state and the reward's constants as JSON values."""
        return {"scorer": self.scorer.state_dict(), "reward": reward_facts(self.scorer), "calls": self._calls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `state_dict`.

        Raises:
            DataError: it belongs to a reward with other constants.
            RewardError: it is malformed.
        """
        refuse_other("the checkpoint", "run", {"reward": state["reward"]}, {"reward": reward_facts(self.scorer)})
        self.scorer.load_state_dict(state["scorer"])
        self._calls, self._pending = int(state["calls"]), []

    def callback(self) -> Any:
        """Return the callback for the trainer.

        Raises:
            DataError: transformers is missing.
        """
        return _callback(self)

    def _meet(self, args: Any, model: Any) -> None:
        """Note what the trainer's groups are, in training and in evaluation."""
        self.group_size, self._rank = int(args.num_generations), int(getattr(args, "process_index", 0))
        self._held_out_size = int(getattr(args, "num_generations_eval", None) or args.num_generations)
        if model is not None:
            self._training = lambda: bool(model.training)

    def _begin(self, args: Any, model: Any, saved: Mapping[str, Any] | None) -> None:
        """Check the trainer's settings at the start, and take over a checkpoint's state."""
        self._meet(args, model)
        assert self.group_size is not None
        each = int(args.per_device_train_batch_size) * int(args.steps_per_generation)
        if each % self.group_size:
            raise RewardError(
                f"per_device_train_batch_size {args.per_device_train_batch_size} x steps_per_generation "
                f"{args.steps_per_generation} is no multiple of num_generations {self.group_size}: a process would see "
                "parts of groups, and UC-GRPO contrasts whole ones"
            )
        if self.returns == "advantage" and args.scale_rewards != "none":
            raise RewardError("returns='advantage' needs scale_rewards='none': TRL would scale the advantages again")
        if self.returns == "advantage" and getattr(args, "multi_objective_aggregation", None) == "normalize_then_sum":
            raise RewardError("returns='advantage' needs multi_objective_aggregation='sum_then_normalize', its default")
        if saved is not None:
            self.load_state_dict(saved)


@lru_cache(maxsize=1)
def _callback_class() -> type[Any]:
    with needs("trl"):
        from transformers import TrainerCallback
        from transformers.trainer_callback import ExportableState

    class UCGRPOCallback(TrainerCallback, ExportableState):
        """Keeps the scorer's state in each checkpoint's ``trainer_state.json``, and moves the EMA after each update."""

        def __init__(self, reward: UCGRPOReward) -> None:
            self.reward = reward

        def state(self) -> dict[str, Any]:
            return {"args": {}, "attributes": {"saved": self.reward.state_dict()}}

        def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            self.reward._meet(args, model)  # an evaluation may come before any training

        def on_train_begin(
            self, args: Any, state: Any, control: Any, model: Any = None, train_dataloader: Any = None, **kwargs: Any
        ) -> None:
            kept = (state.stateful_callbacks or {}).get(type(self).__name__)
            if state.global_step and kept is None:
                raise DataError("cannot resume: the checkpoint was made without this callback, and has no EMA")
            replay_order(train_dataloader, state.global_step, args.gradient_accumulation_steps)
            self.reward._begin(args, model, kept["attributes"]["saved"] if kept and state.global_step else None)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.reward.commit()

    return UCGRPOCallback


def _callback(reward: UCGRPOReward) -> Any:
    return _callback_class()(reward)


def _renamed(rollout: Rollout, group: str, member: int, step: int) -> Rollout:
    return replace(rollout, group_id=group, member=member, step=step)


def _check_groups(rollouts: Sequence[Rollout]) -> None:
    for one in rollouts:
        first = next(other for other in rollouts if other.group_id == one.group_id)
        if first.sample_id != one.sample_id:
            raise RewardError(
                f"a group holds samples {first.sample_id!r} and {one.sample_id!r}: TRL did not keep groups together; "
                "leave its sampler as it is"
            )


def _spread(scores: Scores) -> float:
    """Return the mean over groups of the largest minus the smallest total."""
    groups: dict[str, list[float]] = {}
    for group, total in zip(scores.group_ids, scores.total, strict=True):
        groups.setdefault(group, []).append(float(total))
    return float(np.mean([max(values) - min(values) for values in groups.values()])) if groups else math.nan


def _gathered(pending: list[Scores]) -> list[Scores]:
    """Return the scores of all processes: each moves the same EMA by the same step."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return pending
    everywhere: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everywhere, pending)
    return [scores for part in everywhere for scores in part]
