"""Rollouts as a table: a row for each episode, in py-feat's columns and some of our own; plain, or of pandas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from actfer_env.packages import needs
from actfer_env.rewards import TERMS, Scores
from actfer_env.rollout import Rollout

PYFEAT_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""The emotions in the order of py-feat's columns; it has no contempt, which comes behind them here."""
PYFEAT_BOX = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore")


def rollouts_frame(
    rollouts: Iterable[Rollout], scores: Scores | None = None, au_set: Iterable[int] | None = None
) -> Any:
    """Return `rollout_rows` as a `pandas.DataFrame`, in which None is NaN among numbers.

    Args:
        rollouts: Finished rollouts.
        scores: Their scores; adds the reward terms and the advantage.
        au_set: Action Units that get columns; None is those that occur.

    Raises:
        DataError: pandas is not installed.
    """
    with needs("tables"):
        import pandas as pd

    return pd.DataFrame(rollout_rows(rollouts, scores, au_set))


def rollout_rows(
    rollouts: Iterable[Rollout], scores: Scores | None = None, au_set: Iterable[int] | None = None
) -> list[dict[str, Any]]:
    """Return a row for each rollout, column -> plain value; all rows have the same columns.

    First come py-feat's columns: the face's box in pixels and its score (NaN where no face was detected), `AU01` and
    its like, and the emotions, each 1 or 0 as it was answered (NaN without an answer), `input` (the picture) and
    `frame` (the row's number). Then ours: ids, `emotion` and `predicted_emotion`, `correct`, targets as `AU01_target`
    (NaN where units were not annotated), what the episode did, and what it cost.

    Args:
        rollouts: Finished rollouts.
        scores: Their scores; adds the reward terms and the advantage.
        au_set: Action Units that get columns; None is those that occur.
    """
    listed = tuple(rollouts)
    occurring = frozenset().union(*((one.aus or frozenset()) | (one.predicted_aus or frozenset()) for one in listed))
    units = sorted(occurring if au_set is None else au_set)
    rows = [_row(rollout, number, units) for number, rollout in enumerate(listed)]
    if scores is not None:
        for name in (*TERMS, "advantage"):
            for row, value in zip(rows, getattr(scores, name).tolist(), strict=True):
                row[name] = value
    return rows


def _row(rollout: Rollout, number: int, units: Sequence[int]) -> dict[str, Any]:
    given, answer, target = rollout.predicted_emotion is not None, rollout.predicted_aus or frozenset(), rollout.aus
    zooms = [call for call in rollout.tool_calls if call.zoomed]
    used = rollout.meta.get("usage") or {}
    return {
        **dict(zip(PYFEAT_BOX, _face(rollout), strict=True)),
        **{f"AU{unit:02d}": float(unit in answer) if given else math.nan for unit in units},
        **{name: float(rollout.predicted_emotion == name) if given else math.nan
           for name in (*PYFEAT_EMOTIONS, "contempt")},
        "input": str(rollout.meta.get("image", rollout.sample_id)), "frame": number,
        "sample_id": rollout.sample_id, "group_id": rollout.group_id, "member": rollout.member,
        "dataset": rollout.meta.get("dataset"), "emotion": rollout.emotion,
        "predicted_emotion": rollout.predicted_emotion, "correct": rollout.correct,
        **{f"AU{unit:02d}_target": math.nan if target is None else float(unit in target) for unit in units},
        "detection": rollout.detection, "zoomed": rollout.zoomed, "zooms": len(zooms),
        "regions": " ".join(str(region) for call in zooms for region in call.arguments.get("regions") or ()),
        "turns": rollout.turns, "truncated": rollout.truncated, "violations": " ".join(rollout.violations),
        "outcome": rollout.meta.get("outcome"), "parse_failures": rollout.meta.get("parse_failures"),
        **{name: used.get(name, math.nan) for name in ("calls", "prompt_tokens", "completion_tokens", "seconds")},
    }  # fmt: skip


def _face(rollout: Rollout) -> tuple[float, ...]:
    """Return x, y, width, height and score of the detected face; NaN where there is none."""
    for call in rollout.tool_calls:
        if call.violation is None and "box" in call.result and "score" in call.result:
            x1, y1, x2, y2 = map(float, call.result["box"])
            return x1, y1, x2 - x1, y2 - y1, float(call.result["score"])
    return (math.nan,) * 5
