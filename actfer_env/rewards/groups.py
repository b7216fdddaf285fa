"""Query groups: the checks on their rollouts, and group-relative advantages (ActFER section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import get_args

import numpy as np
import numpy.typing as npt

from actfer_env import facs
from actfer_env.errors import DataError
from actfer_env.rollout import Detection, Rollout

Floats = npt.NDArray[np.float64]
_TOLERANCE = 1e-12
_DETECTIONS: tuple[str, ...] = get_args(Detection)


def group_rollouts(rollouts: Sequence[Rollout]) -> dict[str, list[int]]:
    """Return group id -> indices of its rollouts, in order of appearance.

    Raises:
        DataError: a rollout has an unknown emotion, Action Unit or detection, or the members of a group do
            not share sample and target emotion; one line that names sample and group.
    """
    groups: dict[str, list[int]] = {}
    for index, rollout in enumerate(rollouts):
        if fault := _fault(rollout):
            raise DataError(f"rollout of sample {rollout.sample_id!r}, group {rollout.group_id!r}: {fault}")
        members = groups.setdefault(rollout.group_id, [])
        members.append(index)
        first = rollouts[members[0]]
        for name, one, two in (
            ("sample_id", first.sample_id, rollout.sample_id), ("emotion", first.emotion, rollout.emotion),
        ):  # fmt: skip
            if one != two:
                raise DataError(f"group {rollout.group_id!r} mixes {name} {one!r} and {two!r}: one group is one query")
    return groups


def _fault(rollout: Rollout) -> str | None:
    """Return in words what is malformed in a rollout, or None."""
    for kind, emotion in (("target", rollout.emotion), ("predicted", rollout.predicted_emotion)):
        if emotion is not None and emotion not in facs.EMOTIONS:
            return f"unknown {kind} emotion {emotion!r}: use one of {', '.join(facs.EMOTIONS)}"
    for au in (rollout.aus or frozenset()) | (rollout.predicted_aus or frozenset()):
        if type(au) is not int and not isinstance(au, Integral):
            return f"Action Unit {au!r} is not an integer: read it with facs.parse_au"
    if rollout.detection not in _DETECTIONS:
        return f"unknown detection {rollout.detection!r}: use one of {', '.join(_DETECTIONS)}"
    return None


def group_advantages(
    totals: Floats,
    groups: Iterable[Sequence[int]],
    *,
    ddof: int = 1,
    eps: float = 1e-6,
    normalize: bool = True,
) -> Floats:
    """Return ``(R - mean) / (std + eps)`` within each group.

    Args:
        totals: Total rewards, shape (n,).
        groups: The indices of each group.
        ddof: The std's delta degrees of freedom, 0 or 1.
        eps: Added to the std.
        normalize: False leaves out the division.

    Returns:
        Advantages, shape (n,); exactly 0 in groups of one and in groups without spread.
    """
    advantages = np.zeros_like(totals)
    for members in groups:
        if len(members) < 2 or np.ptp(values := totals[list(members)]) <= _TOLERANCE:
            continue
        centred = values - values.mean()
        advantages[list(members)] = centred / (values.std(ddof=ddof) + eps) if normalize else centred
    return advantages
