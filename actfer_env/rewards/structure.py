"""The structure term: a bounded score of legality (ActFER section 3.4, FSM-constrained structural reward)."""

from __future__ import annotations

from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rollout import Rollout


def is_unlooked(rollout: Rollout) -> bool:
    """Tell whether an answer was given on a raw image without calling detect_align."""
    return rollout.detection == "not_called" and rollout.predicted_emotion is not None


def is_clean(rollout: Rollout) -> bool:
    """Tell whether the rollout looked, broke no rule and answered within its turns."""
    answered = rollout.predicted_emotion is not None and not rollout.truncated
    return answered and not rollout.violations and rollout.detection != "not_called"


def structure_reward(rollout: Rollout, config: UCGRPOConfig) -> float:
    """Return the structure term of one rollout, in [structure_floor, structure_clean].

    It adds up over the violations, whatever their names, and the answer without looking; a clean trajectory
    earns the bonus instead.
    """
    if is_clean(rollout):
        return config.structure_clean
    value = len(rollout.violations) * config.structure_violation
    value += config.structure_unlooked if is_unlooked(rollout) else 0.0
    return max(config.structure_floor, value) + 0.0
