"""A control for learn_on_cpu.sh: the trainer of UC-GRPO with rewards that know nothing of the rollouts.

Whatever a run with it gains is no learning from rewards, but sharpening or chance. Use with
``VERL_USE_EXTERNAL_MODULES=actfer_env.verl_plugin.register,random_rewards trainer.v1.trainer_mode=random_rewards``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import _installed  # noqa: F401
import numpy as np
from verl.trainer.ppo.v1.trainer_base import register_trainer

from actfer_env.rewards import Scores
from actfer_env.rewards.groups import group_advantages, group_rollouts
from actfer_env.rollout import Rollout
from actfer_env.verl_plugin.scoring import StepScorer
from actfer_env.verl_plugin.trainer import UCGRPOTrainer

NAME = "random_rewards"


class RandomScorer(StepScorer):
    """Scores as usual, then puts standard normal numbers in place of rewards, normalised in each group as GRPO does."""

    def __init__(self, config: Any = None, seed: int = 0) -> None:
        super().__init__(config)
        self._seed = seed

    def score(
        self, uids: Sequence[str], fields: Sequence[Mapping[str, Any]], padding: Sequence[bool]
    ) -> tuple[list[int], list[Rollout], Scores]:
        kept, rollouts, scores = super().score(uids, fields, padding)
        rng = np.random.default_rng([self._seed, scores.scored_at])  # so that a resumed run draws what it would have
        total = rng.standard_normal(len(kept))
        advantage = group_advantages(total, group_rollouts(rollouts).values())
        return kept, rollouts, replace(scores, total=total, advantage=advantage)


@register_trainer(NAME)
class RandomRewardTrainer(UCGRPOTrainer):
    """UC-GRPO's trainer under `RandomScorer`; its seed is ``data.seed``."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.step_scorer = RandomScorer(self.step_scorer.scorer.config, int(config.data.get("seed") or 0))
