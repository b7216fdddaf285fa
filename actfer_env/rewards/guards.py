"""Collapse guards: what a policy update should say of itself, so that a run that learns nothing is seen at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rewards.scores import Scores
from actfer_env.rollout import Rollout

FLAT = 1e-9
"""Spread of rewards below which a group counts as without spread: all its advantages are zero."""
PROBS_DIFF = 0.01
"""Mean difference of a sampled token's probability between engine and trainer beyond which it is warned of.

Chosen here: more than twice what others report of sound runs in bfloat16 (0.004); in float32 it is about 1e-6.
"""


def collapse_figures(rollouts: Sequence[Rollout], scores: Scores) -> dict[str, float]:
    """Return the shares by which a collapse shows, each in [0, 1].

    Args:
        rollouts: The n rollouts of one policy update.
        scores: Their scores, in the same order.

    Returns:
        "flat_groups": query groups whose rewards do not differ, so that nothing is learnt from them.
        "wrong_groups": query groups in which every answer is wrong; what they teach comes from shaped terms alone.
        Groups without an emotion are none of them.
        "zoom": rollouts that zoomed, of those whose face detection did not fail: the others cannot, and are left out of
        the contrast. At 0 and at 1 no group has a contrast, and the symmetric fallback is all there is.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(scores.group_ids):
        members.setdefault(group, []).append(row)
    groups = list(members.values())
    if not groups:
        return {"flat_groups": 0.0, "wrong_groups": 0.0, "zoom": 0.0}
    flat = [float(np.ptp(scores.total[rows])) < FLAT for rows in groups]
    wrong = [all(rollouts[row].correct is False for row in rows) for rows in groups]
    able = [rollout.detection != "failed" for rollout in rollouts[: len(scores)]]
    zoom = float(scores.zoomed[able].mean()) if any(able) else 0.0
    return {"flat_groups": float(np.mean(flat)), "wrong_groups": float(np.mean(wrong)), "zoom": zoom}


def collapse_warnings(figures: Mapping[str, float]) -> list[str]:
    """Return a line, with what to do, for each sign of a collapse; empty if there is none.

    Args:
        figures: Output of `collapse_figures`; where a trainer knows them also "rollout_probs_diff", the mean difference
            of a sampled token's probability between the engine that sampled it and the trainer, and "sessions_failed",
            the share of rollouts that were lost.
    """
    lines = []
    if figures["zoom"] in (0.0, 1.0):
        lines.append(
            f"{'every' if figures['zoom'] else 'no'} rollout zoomed: no group has a contrast; raise the entropy bonus "
            "or the temperature, or begin from a warm start that zooms in about half of its episodes"
        )
    if figures["flat_groups"] == 1.0:
        lines.append("no group has rewards that differ: nothing is learnt; raise the temperature or the group size")
    if figures["wrong_groups"] == 1.0:
        lines.append(
            "every answer is wrong: what is learnt comes from shaped terms alone; begin from a better start, or set "
            "outcome_gate=True"
        )
    if figures.get("rollout_probs_diff", 0.0) > PROBS_DIFF:
        lines.append(
            f"engine and trainer differ by {figures['rollout_probs_diff']:.3g} in the probability of a sampled token, "
            f"more than {PROBS_DIFF}: what is trained on is not what was sampled; use one precision and one kind of "
            "attention on both sides, or weigh tokens (algorithm.rollout_correction.rollout_is=token)"
        )
    if figures.get("sessions_failed", 0.0) > 0:
        lines.append(
            f"{figures['sessions_failed']:.1%} of the rollouts failed: where it is those that zoom, the contrast is "
            "biased; read why in the agent loop's log"
        )
    return lines


def idle_terms(rollouts: Iterable[Rollout], config: UCGRPOConfig) -> list[str]:
    """Return a line for each term of the reward that the data leave without effect; empty if there is none.

    Args:
        rollouts: Rollouts, or any that stand for the data; only their targets are read.
        config: The constants.
    """
    targets = [rollout.aus for rollout in rollouts]
    return [IDLE_AUS] if config.dense_au and targets and all(target is None for target in targets) else []


IDLE_AUS = (
    "no sample has Action Units, so the AU term of the reward is idle: the emotion alone counts, with the utility, "
    "which is not the paper's setting; 'actfer data curate' writes pseudo-AUs, dense_au=False says that it is meant"
)
"""Line for a reward with an AU term on data without Action Units."""


def picture_mismatch(sample: str, placeholders: int, features: int, pictures: int) -> str:
    """Return the line for a sample whose text has room for other pictures than are shown; "" where they agree.

    A model's forward pass would stop at it, without the sample's name, or put features at the wrong places.

    Args:
        sample: Its id.
        placeholders: Picture tokens in the text.
        features: Rows that the pictures fill, patches of which several are merged into one.
        pictures: Number of pictures.
    """
    if placeholders == features:
        return ""
    return f"sample {sample!r} has {placeholders} picture placeholders for {features} features of {pictures} pictures"
