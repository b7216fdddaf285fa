"""The task reward: emotion and AU-set F1 (ActFER section 3.4, eq. 7-8)."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Literal

from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rollout import Rollout

TaskCase = Literal["unanswered", "unlabelled", "aus_only", "right", "right_no_aus", "wrong", "wrong_no_aus"]
"""Line of the task reward that applies; the ``_no_aus`` cases have no AU target, or do not use it."""


def au_f1(predicted: Set[int] | None, target: Set[int]) -> float:
    """Return the set F1 ``2 |P & T| / (|P| + |T|)`` in [0, 1].

    Args:
        predicted: The answer's Action Units; None counts as the empty set.
        target: The target Action Units.

    Returns:
        The F1; 1 where both sets are empty.
    """
    predicted = predicted or frozenset()
    size = len(predicted) + len(target)
    return 2.0 * len(predicted & target) / size if size else 1.0


def task_case(rollout: Rollout, config: UCGRPOConfig) -> TaskCase:
    """Return the line of the task reward that applies to a rollout."""
    dense = config.dense_au and rollout.aus is not None
    if rollout.predicted_emotion is None:
        return "unanswered"
    if rollout.emotion is None:
        return "aus_only" if dense else "unlabelled"
    if rollout.correct:
        return "right" if dense else "right_no_aus"
    return "wrong" if dense else "wrong_no_aus"


def task_terms(rollout: Rollout, config: UCGRPOConfig) -> tuple[float, float]:
    """Return the task reward of one rollout, in [-gamma, 1] (ActFER eq. 8), and the F1 that enters it.

    Without AU target the AU term is dropped and the emotion counts alone; without emotion target the F1
    counts alone; with neither the reward is 0. Without an answer it is -gamma, whatever the target.

    Args:
        rollout: The rollout; its Action Units are sets of numbers.
        config: The constants.

    Returns:
        The reward, and the F1 in [0, 1] or NaN where none enters it.
    """
    case = task_case(rollout, config)
    if case in ("unanswered", "wrong_no_aus"):
        return -config.gamma, math.nan
    if case == "unlabelled":
        return 0.0, math.nan
    if case == "right_no_aus":
        return 1.0, math.nan
    f1 = au_f1(rollout.predicted_aus, rollout.aus or frozenset())
    if case == "aus_only":
        return f1, f1
    if case == "right":
        return config.alpha + config.beta * f1, f1
    return -config.gamma + config.wrong_au_share * config.beta * f1, f1


def task_reward(rollout: Rollout, config: UCGRPOConfig) -> float:
    """Return the task reward of one rollout, in [-gamma, 1]; see `task_terms`."""
    return task_terms(rollout, config)[0]
