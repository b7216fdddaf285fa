"""Rewards by name, beside the variants of UC-GRPO."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from actfer_env.rewards.other_papers import AnswerReward, FacialR1Reward, TAGReward
from actfer_env.rewards.tool_rules import TOOL_RULES

OTHER_REWARDS: Mapping[str, type[AnswerReward]] = MappingProxyType({
    "facial_r1": FacialR1Reward, "tag": TAGReward, **TOOL_RULES,
})  # fmt: skip
"""Name -> a reward of another paper."""
