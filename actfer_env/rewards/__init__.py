"""Rewards and advantages, computed from stored rollouts alone."""

from typing import TYPE_CHECKING, Any

from actfer_env.rewards.config import FORMATS, VARIANTS, RewardError, UCGRPOConfig
from actfer_env.rewards.scores import TERMS, Scores
from actfer_env.rewards.task import au_f1
from actfer_env.rewards.uc_grpo import UCGRPO

if TYPE_CHECKING:
    from actfer_env.rewards.other_papers import FacialR1Reward, TAGReward
    from actfer_env.rewards.tool_rules import TOOL_RULES

__all__ = [
    "FORMATS",
    "TERMS",
    "TOOL_RULES",
    "UCGRPO",
    "VARIANTS",
    "FacialR1Reward",
    "RewardError",
    "Scores",
    "TAGReward",
    "UCGRPOConfig",
    "au_f1",
]


def __getattr__(name: str) -> Any:
    """Import the rewards of other papers when they are asked for: most starts do without."""
    if name in ("FacialR1Reward", "TAGReward"):
        from actfer_env.rewards import other_papers

        return getattr(other_papers, name)
    if name == "TOOL_RULES":
        from actfer_env.rewards.tool_rules import TOOL_RULES

        return TOOL_RULES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
