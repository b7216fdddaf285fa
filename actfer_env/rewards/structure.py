"""The structure term: a bounded score of legality and form (ActFER section 3.4, FSM-constrained structural reward)."""

from __future__ import annotations

from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rewards.thoughts import bare_turns, lacks_section, repairs
from actfer_env.rollout import Rollout


def is_unlooked(rollout: Rollout) -> bool:
    """Tell whether an answer was given on a raw image without calling detect_align."""
    return rollout.detection == "not_called" and rollout.predicted_emotion is not None


def is_clean(rollout: Rollout) -> bool:
    """Tell whether the rollout looked, broke no rule and answered within its turns."""
    answered = rollout.predicted_emotion is not None and not rollout.truncated
    return answered and not rollout.violations and rollout.detection != "not_called"


def form_faults(rollout: Rollout, config: UCGRPOConfig) -> list[tuple[int, float, str]]:
    """Return what the rollout is charged for the form of its turns, as (how often, each, what for).

    Empty under the defaults, which do not look at it, and for a policy that does not write.
    """
    charges = (
        (config.structure_thought, bare_turns, "turns without a thought"),
        (config.structure_section, lacks_section, "an answer without Global or Local Analysis"),
        (config.structure_repair, repairs, "repairs of the parser"),
    )
    counted = [(int(count(rollout)), charge, what) for charge, count, what in charges if charge]
    return [fault for fault in counted if fault[0]]


def structure_reward(rollout: Rollout, config: UCGRPOConfig) -> float:
    """Return the structure term of one rollout, in [structure_floor, structure_clean].

    It adds up over the violations, whatever their names, the answer without looking, and the faults of form that the
    constants charge for; a clean trajectory without such a fault earns the bonus instead.
    """
    faults = form_faults(rollout, config)
    if not faults and is_clean(rollout):
        return config.structure_clean
    value = len(rollout.violations) * config.structure_violation
    value += config.structure_unlooked if is_unlooked(rollout) else 0.0
    value += sum(count * charge for count, charge, _ in faults)
    return max(config.structure_floor, value) + 0.0
