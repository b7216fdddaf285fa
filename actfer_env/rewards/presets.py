"""The rewards of two other systems, Facial-R1 and TAG, behind the same calls as UC-GRPO.

Both answer in one turn and keep no state, so that `commit` does nothing. In their `Scores` the answer and the
AU reward stand together in `task`, the format reward in `structure`; `parts` has them one by one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.rewards.config import RewardError, check_field
from actfer_env.rewards.grounding import evidence_boxes, grounding_score, target_boxes
from actfer_env.rewards.groups import group_advantages, group_rollouts
from actfer_env.rewards.scores import Scores, to_array, totals, zoom_mask
from actfer_env.rewards.task import au_f1
from actfer_env.rollout import Rollout

TAG_EMOTIONS: tuple[str, ...] = tuple(emotion for emotion in facs.EMOTIONS if emotion != "contempt")
"""The seven labels of TAG."""


@dataclass(frozen=True)
class AnswerReward(ABC):
    """Sum of an answer, an AU and a format reward for systems that answer in one turn.

    Attributes:
        std_ddof: delta degrees of freedom of the group's std, 0 or 1; the papers leave it open, chosen here.
        std_eps: added to the group's std; chosen here.
    """

    std_ddof: int = 1
    std_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Check the two fields."""
        check_field("std_ddof", "int", self.std_ddof)
        check_field("std_eps", "float", self.std_eps)

    def score(self, rollouts: Iterable[Rollout]) -> Scores:
        """Return rewards and group-relative advantages.

        Raises:
            DataError: a rollout is malformed, or a group mixes queries; one line that names it.
        """
        rollouts = tuple(rollouts)
        groups = group_rollouts(rollouts)
        accuracy = to_array([float(bool(rollout.correct)) for rollout in rollouts])
        aus = to_array([self.au_reward(rollout) for rollout in rollouts])
        form = to_array([self.format_reward(rollout) for rollout in rollouts])
        task, zero = accuracy + np.nan_to_num(aus), np.zeros_like(form)
        total = totals(task, form, zero, zero)
        advantage = group_advantages(total, groups.values(), ddof=self.std_ddof, eps=self.std_eps)
        return Scores(
            task=task, structure=form, utility=zero, quality=zero.copy(), total=total, advantage=advantage,
            gated=np.zeros(len(rollouts), dtype=np.bool_), zoomed=zoom_mask(rollouts),
            group_ids=tuple(rollout.group_id for rollout in rollouts), delta=dict.fromkeys(groups),
            delta_emotion={group: rollouts[members[0]].emotion for group, members in groups.items()},
            parts={"accuracy": accuracy, "au": aus, "format": form.copy()},
        )  # fmt: skip

    def commit(self, *scores: Scores) -> None:
        """Do nothing: the reward keeps no state."""
        del scores

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Accept an empty state.

        Raises:
            RewardError: the state is not empty, so it belongs to another reward.
        """
        if state:
            raise RewardError(f"{type(self).__name__} keeps no state: this one belongs to another reward")

    def explain(self, rollouts: Sequence[Rollout], scores: Scores, i: int) -> list[str]:
        """Return, a line a term, where the reward of rollout `i` comes from."""
        answer, form = scores.parts["accuracy"][i], scores.parts["format"][i]
        aus = scores.parts["au"][i]
        right = "right" if rollouts[i].correct else "wrong, missing or without target"
        measured = "no AU target, left out" if math.isnan(aus) else f"{aus:.2f}"
        total = f"total: {scores.total[i]:.2f}; advantage in its group {scores.advantage[i]:+.2f}"
        return [f"answer: emotion {right}: {answer:.0f}", f"AU: {measured}", f"format: {form:.2f}", total]

    @abstractmethod
    def au_reward(self, rollout: Rollout) -> float:
        """Return the AU reward of one rollout in [0, 1], NaN where the sample has no AU target."""

    @abstractmethod
    def format_reward(self, rollout: Rollout) -> float:
        """Return the format reward of one rollout."""


@dataclass(frozen=True)
class FacialR1Reward(AnswerReward):
    """Facial-R1's ``R_AU + R_acc + R_format`` (its section 3.2, eq. 2-5), in [0, 3].

    R_AU is the AU-set F1, R_acc and R_format are 0 or 1. This is the paper's version; the released code
    has an AU reward of 2 F1 - 1, and 0.5 as the accuracy of samples without label. Chosen here: a sample
    without AU target has no AU reward, an unlabelled one no accuracy; no answer at all earns no AU reward; a
    rollout without text (a policy that does not write) is well-formed if it answered.
    """

    def au_reward(self, rollout: Rollout) -> float:
        """Return the AU-set F1 (eq. 3), NaN without AU target, 0 without any answer."""
        if rollout.aus is None:
            return math.nan
        if rollout.predicted_emotion is None and rollout.predicted_aus is None:
            return 0.0
        return au_f1(rollout.predicted_aus, rollout.aus)

    def format_reward(self, rollout: Rollout) -> float:
        """Return 1 for a text of one think block, then one answer block, 0 otherwise (eq. 5)."""
        answered = rollout.predicted_emotion is not None
        return float(answered and (not rollout.texts or is_think_answer("\n".join(rollout.texts))))


@dataclass(frozen=True)
class TAGReward(AnswerReward):
    """TAG's ``R_AU + R_ans + R_fmt`` (its section 3.3), in [0, 2 + format_bonus].

    R_AU is the mean of the best min(n, k) values of max-IoU (eq. 3-4) between the k boxes of the reasoning,
    ``Rollout.meta["evidence_boxes"]`` (a list of [x1, y1, x2, y2]), and the n boxes of active AUs,
    ``Rollout.meta["au_boxes"]`` ({"AU12": [x1, y1, x2, y2]}, or a list of boxes per AU), in the same frame.
    Samples without boxes of active AUs skip it.

    Attributes:
        format_bonus: reward of a well-formed output; the paper says small and positive, value chosen here.
        max_boxes: boxes that the format allows; TAG 3.3.
    """

    format_bonus: float = 0.1
    max_boxes: int = 3

    def au_reward(self, rollout: Rollout) -> float:
        """Return the mean of the best IoUs in [0, 1], NaN without target boxes, 0 without predicted ones.

        A malformed predicted box counts as a box with IoU 0.

        Raises:
            DataError: a target box is malformed; one line that names the rollout.
        """
        targets = target_boxes(rollout)
        return grounding_score(evidence_boxes(rollout), targets) if targets else math.nan

    def format_reward(self, rollout: Rollout) -> float:
        """Return the bonus for one think block with at most `max_boxes` boxes and one known label, else 0."""
        text = "\n".join(rollout.texts)
        boxes = text.count("<bbox>") if rollout.texts else len(evidence_boxes(rollout))
        known = rollout.predicted_emotion in TAG_EMOTIONS and boxes <= self.max_boxes
        inside = "<bbox>" not in text[text.find("</think>") :]
        valid = known and (not rollout.texts or (inside and is_think_answer(text)))
        return self.format_bonus if valid else 0.0


def is_think_answer(text: str) -> bool:
    """Whether a text is one ``<think>`` block, then one ``<answer>`` block, with only space around them."""
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    if any(text.count(tag) != 1 for tag in tags):
        return False
    places = [text.find(tag) for tag in tags]
    between = text[places[1] + len(tags[1]) : places[2]] if places == sorted(places) else "out of order"
    bare = text.strip()
    return not between.strip() and bare.startswith(tags[0]) and bare.endswith(tags[3])
