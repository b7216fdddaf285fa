"""Rewards and advantages, computed from stored rollouts alone."""

from actfer_env.rewards.config import FORMATS, VARIANTS, RewardError, UCGRPOConfig
from actfer_env.rewards.other_papers import FacialR1Reward, TAGReward
from actfer_env.rewards.scores import TERMS, Scores
from actfer_env.rewards.task import au_f1
from actfer_env.rewards.uc_grpo import UCGRPO

__all__ = [
    "FORMATS",
    "TERMS",
    "UCGRPO",
    "VARIANTS",
    "FacialR1Reward",
    "RewardError",
    "Scores",
    "TAGReward",
    "UCGRPOConfig",
    "au_f1",
]
