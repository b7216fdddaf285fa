"""The utility term: contrast, its bounded factors and its rules (ActFER section 3.4, eq. 9-14)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rewards.structure import is_unlooked
from actfer_env.rollout import Rollout

Rule = Literal["neutral", "agreed", "missed", "overused", "fallback", "zoom", "none"]
"""Origin of a rollout's utility: the three outcomes of the contrast, a neutral one, or no contrast."""

_TOLERANCE = 1e-12


def contrast(task: Sequence[float], zoomed: Sequence[bool]) -> float | None:
    """Return delta(q), the mean task reward with zooming minus that without it (ActFER eq. 9-10).

    Args:
        task: Task rewards of a group's rollouts that are `in_contrast`, shape (n,).
        zoomed: Whether each of them zoomed, shape (n,).

    Returns:
        The difference, or None where one of the two sides is empty. It does not depend on the order.
    """
    pairs = list(zip(task, zoomed, strict=True))
    with_zoom, without = [value for value, zoom in pairs if zoom], [value for value, zoom in pairs if not zoom]
    if not with_zoom or not without:
        return None
    return math.fsum(with_zoom) / len(with_zoom) - math.fsum(without) / len(without)


def in_contrast(rollout: Rollout, config: UCGRPOConfig) -> bool:
    """Tell whether a rollout's task reward enters its group's delta; see `UCGRPOConfig.contrast_members`.

    "detected" leaves out those whose detection failed; "answered" also those without an answer; "looked" also those
    that answered without calling detect_align; "legal" also those with a violation.
    """
    members = config.contrast_members
    if rollout.detection == "failed":
        return False
    if members == "detected":
        return True
    if rollout.predicted_emotion is None or rollout.truncated:
        return False
    if members == "answered":
        return True
    return not is_unlooked(rollout) and (members == "looked" or not rollout.violations)


def phi(size: float, config: UCGRPOConfig) -> float:
    """Return the penalty for ignoring a contrast of `size` >= 0; increasing, in [0, phi_scale].

    Args:
        size: Size of the contrast, at least 0.
        config: The constants.
    """
    return config.phi_scale * math.tanh(size / config.phi_width)


def lambda_factor(signed_ema: float, config: UCGRPOConfig) -> float:
    """Return ``1 + span (2 sigmoid(k U) - 1)``, in [1 - span, 1 + span] and increasing in U.

    With the default span of 0.5 this is ``0.5 + sigmoid(k U)``. Pass U for lambda_miss, -U for lambda_over.

    Args:
        signed_ema: U_e or -U_e, the emotion-wise EMA of contrasts.
        config: The constants.
    """
    return 1.0 + config.ema_span * math.tanh(0.5 * config.ema_gain * signed_ema)


def utility_rule(rollout: Rollout, delta: float | None, config: UCGRPOConfig) -> Rule:
    """Return the rule that gives a rollout's utility.

    Args:
        rollout: The rollout.
        delta: Contrast of its group; None where that is undefined, and for a rollout that is not `in_contrast`.
        config: The constants.
    """
    if config.utility == "zoom":
        return "zoom"
    if config.utility == "none":
        return "none"
    if config.utility == "fallback" or delta is None:
        return "fallback"
    if abs(delta) <= config.margin + _TOLERANCE:
        return "neutral"
    if rollout.zoomed == (delta > 0):
        return "agreed"
    return "overused" if rollout.zoomed else "missed"


def coarse_right(members: Sequence[Rollout]) -> bool | None:
    """Return whether most members that did not zoom are right, ties counting as right; None without such members.

    Args:
        members: A group's rollouts that are `in_contrast`.
    """
    right = [bool(rollout.correct) for rollout in members if not rollout.zoomed]
    return 2 * sum(right) >= len(right) if right else None


def utility_reward(
    rollout: Rollout, rule: Rule, delta: float | None, lambdas: tuple[float, float], config: UCGRPOConfig,
    coarse: bool | None = None,
) -> float:  # fmt: skip
    """Return the utility term of one rollout (ActFER eq. 12-14).

    Args:
        rollout: The rollout.
        rule: Its `utility_rule`.
        delta: Its group's contrast, or None where undefined.
        lambdas: Lambda_miss and lambda_over of its emotion, (1, 1) where there is none.
        config: The constants.
        coarse: `coarse_right` of its group, for the fallback; None for a rollout that is not `in_contrast`.

    Returns:
        A value of size at most max(r, fallback, (1 + ema_span) phi_scale) + zoom_cost.
    """
    lambda_miss, lambda_over = lambdas
    if rule == "none":
        value = 0.0
    elif rule == "zoom":  # the zoom-biased variant
        value = config.r if rollout.zoomed else -config.r
    elif rule in ("neutral", "agreed"):
        value = config.r
    elif rule in ("missed", "overused"):
        factor = lambda_miss if rule == "missed" else lambda_over
        value = -factor * phi(abs(delta or 0.0), config)
    elif rollout.correct is None:  # the fallback (eq. 13) without a target
        value = 0.0
    else:
        good = rollout.correct
        if config.fallback_of == "unzoomed" and coarse is not None:
            good = rollout.zoomed != coarse
        value = config.fallback if good else -config.fallback
    return value - (config.zoom_cost if rollout.zoomed else 0.0)
