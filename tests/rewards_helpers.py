"""Builders shared by the tests of the rewards."""

from __future__ import annotations

from typing import Any

from actfer_env.rollout import Rollout, ToolCall

ZOOM = ToolCall("zoom_in", {"regions": ["nose"]}, boxes=((0.3, 0.3, 0.7, 0.7),))


def broken(*violations: str) -> tuple[ToolCall, ...]:
    return tuple(ToolCall("zoom_in", violation=name) for name in violations)


def make(predicted: str | None = "happiness", *, zoomed: bool = False, **changes: Any) -> Rollout:
    """A rollout of one happy sample without AU target, detection ok; `changes` replace fields."""
    values: dict[str, Any] = {
        "sample_id": "s0", "group_id": "g0", "emotion": "happiness", "aus": None,
        "predicted_emotion": predicted, "predicted_aus": None,
        "tool_calls": (ZOOM,) if zoomed else (), "detection": "ok",
    }  # fmt: skip
    return Rollout(**{**values, **changes})


def right(**changes: Any) -> Rollout:
    return make("happiness", **changes)


def wrong(**changes: Any) -> Rollout:
    return make("anger", **changes)


def aus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)
