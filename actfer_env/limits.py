"""Bounds on an episode's turns that wrappers set from outside, such as gymnasium's `TimeLimit`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral
from types import FrameType
from typing import Any

import gymnasium as gym

from actfer_env.episode import EpisodeConfig
from actfer_env.errors import short


def limited(config: EpisodeConfig, steps: int | None) -> EpisodeConfig:
    """Return the budgets with at most `steps` turns; None and gymnasium's -1 leave them as they are.

    Args:
        config: The budgets.
        steps: Bound on the turns; None and -1 set none.

    Raises:
        ValueError: `steps` is no whole number of at least 1.
    """
    if steps is None or steps == -1:
        return config
    if not isinstance(steps, Integral) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"max_episode_steps {short(steps)} must be a whole number of at least 1")
    return replace(config, max_turns=min(config.max_turns, int(steps)))


def under_wrappers(config: EpisodeConfig, env: gym.Env[Any, Any]) -> EpisodeConfig:
    """Return the budgets of an episode that begins now, within the limits of the wrappers around `env`.

    A limit that only the wrapper knows would cut an episode off before it is scored, and never to answer would pay. A
    wrapped environment holds no reference to its wrappers, but they are in the call that brings the reset about.

    Args:
        config: The environment's own budgets.
        env: The environment, while its `reset` runs.
    """
    steps = [left for wrapper, stepping in _callers(env) if (left := _left(wrapper, stepping)) is not None]
    return limited(config, max(min(steps), 1)) if steps else config


def _callers(env: gym.Env[Any, Any]) -> Iterator[tuple[Any, bool]]:
    """Give the wrappers of `env` in the running call, and whether they are in `step` rather than in `reset`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("reset", "step") and code.co_argcount:
            caller = frame.f_locals.get(code.co_varnames[0])
            if isinstance(caller, gym.Wrapper) and caller.unwrapped is env:
                yield caller, code.co_name == "step"
        frame = frame.f_back


def _left(wrapper: Any, stepping: bool) -> int | None:
    """Return the steps that a wrapper still allows, or None where it has no limit.

    A reset sets its count to zero; a reset within its `step`, as by `gymnasium.wrappers.Autoreset` inside it, goes on
    counting, and is one of the steps.
    """
    most = getattr(wrapper, "_max_episode_steps", None)
    if not isinstance(most, Integral):
        return None
    return int(most) - (int(getattr(wrapper, "_elapsed_steps", None) or 0) + 1 if stepping else 0)
