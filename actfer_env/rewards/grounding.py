"""Boxes that ground an answer: reading them from `Rollout.meta`, and their overlap (TAG section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from actfer_env.boxes import Box, BoxError, iou
from actfer_env.errors import DataError
from actfer_env.rollout import Rollout


def evidence_boxes(rollout: Rollout) -> list[Box | None]:
    """Return the boxes of the rollout's reasoning, ``meta["evidence_boxes"]``; None for a malformed one."""
    boxes = rollout.meta.get("evidence_boxes")
    return [parse_box(box) for box in boxes] if isinstance(boxes, list | tuple) else []


def target_boxes(rollout: Rollout) -> list[Box]:
    """Return the boxes of active AUs, ``meta["au_boxes"]``: one box or a list of boxes for each AU.

    Raises:
        DataError: one of them is malformed; one line that names the rollout.
    """
    by_au = rollout.meta.get("au_boxes") or {}
    where = f"rollout of sample {rollout.sample_id!r}, group {rollout.group_id!r}"
    if not isinstance(by_au, Mapping):
        raise DataError(f"{where}: au_boxes must map each AU to its box, got {by_au!r}")
    boxes = []
    for au, value in by_au.items():
        for item in _as_list(value):
            box = parse_box(item)
            if box is None:
                raise DataError(f"{where}: au_boxes[{au!r}] must hold [x1, y1, x2, y2], got {item!r}")
            boxes.append(box)
    return boxes


def parse_box(value: Any) -> Box | None:
    """Return (x1, y1, x2, y2) with x1 < x2 and y1 < y2, or None for anything else."""
    try:
        return Box.parse(value)
    except BoxError:
        return None


def grounding_score(predicted: Sequence[Box | None], targets: Sequence[Box]) -> float:
    """Return the mean of the best min(n, k) values of max-IoU (TAG eq. 3-4), in [0, 1]; 0 where k is 0."""
    ious = (max(iou(box, target) for target in targets) if box else 0.0 for box in predicted)
    best = sorted(ious, reverse=True)[: len(targets)]
    return math.fsum(best) / len(best) if best else 0.0


def _as_list(value: Any) -> Sequence[Any]:
    """Return the boxes of one AU, whether it came with one box or with a list of them."""
    nested = isinstance(value, list | tuple) and all(isinstance(item, list | tuple) for item in value)
    return value if nested else [value]
