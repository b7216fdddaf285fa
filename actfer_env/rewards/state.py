"""The checks on reading the emotion-wise EMA back from JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from actfer_env import facs
from actfer_env.rewards.config import RewardError

STATE_VERSION = 1
"""Version of `UCGRPO.state_dict`; a scorer refuses newer ones."""


def parse_state(data: Any) -> tuple[dict[str, float], dict[str, int], int]:
    """Return EMA, counts and number of commits from what `UCGRPO.state_dict` returned.

    Raises:
        RewardError: the state is of another version, incomplete or malformed; one line.
    """
    if not isinstance(data, Mapping):
        raise RewardError(f"scorer state must be a mapping, got {type(data).__name__}")
    if data.get("version") != STATE_VERSION:
        raise RewardError(f"scorer state has version {data.get('version')!r}, this package reads {STATE_VERSION}")
    if not _is_count(data.get("commits")):
        raise RewardError(f"commits of the scorer state must be a count, got {data.get('commits')!r}")
    ema = _per_emotion(data, "ema")
    counts = _per_emotion(data, "counts")
    for emotion in facs.EMOTIONS:
        if not _is_finite(ema[emotion]):
            raise RewardError(f"ema of {emotion} must be a finite number, got {ema[emotion]!r}")
        if not _is_count(counts[emotion]):
            raise RewardError(f"counts of {emotion} must be a count, got {counts[emotion]!r}")
    return {key: float(value) for key, value in ema.items()}, counts, data["commits"]


def _per_emotion(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    values = data.get(name)
    if not isinstance(values, Mapping) or set(values) != set(facs.EMOTIONS):
        raise RewardError(f"{name} of the scorer state must have one value for each of {', '.join(facs.EMOTIONS)}")
    return {emotion: values[emotion] for emotion in facs.EMOTIONS}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
