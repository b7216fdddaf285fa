"""The rewards of two other systems, Facial-R1 and TAG, behind the same calls as UC-GRPO.

Both answer in one turn and keep no state, so that `commit` does nothing. In their `Scores` the answer and the
AU reward stand together in `task`, the format reward in `structure`; `parts` has them one by one.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.rewards.config import RewardError, UCGRPOConfig
from actfer_env.rewards.grounding import evidence_boxes, grounding_score, target_boxes
from actfer_env.rewards.groups import group_advantages, group_rollouts
from actfer_env.rewards.quality import broken_turns
from actfer_env.rewards.scores import Scores, to_array, totals, zoom_mask
from actfer_env.rewards.task import au_f1
from actfer_env.rewards.uc_grpo import UCGRPO
from actfer_env.rollout import Rollout

_TAG = re.compile(r"</?(?:think|tool_call|answer)>")
_NUMBER = r"\s*-?\d+(?:\.\d+)?\s*"
_BOX = re.compile(rf"<bbox>\s*\[{_NUMBER}(?:,{_NUMBER}){{3}}\]\s*</bbox>")
TAG_EMOTIONS: tuple[str, ...] = tuple(emotion for emotion in facs.EMOTIONS if emotion != "contempt")
"""The seven labels of TAG."""


@dataclass(frozen=True)
class AnswerReward(ABC):
    """Sum of an answer, an AU and a format reward for systems that answer in one turn.

    Attributes:
        std_ddof: Delta degrees of freedom of the group's std, 0 or 1; the papers leave it open, chosen here.
        std_eps: Added to the group's std; chosen here.
    """

    std_ddof: int = bounded(1, choices=(0, 1))
    std_eps: float = bounded(1e-6, gt=0)
    grounded: ClassVar[bool] = False
    """True where the reward reads the boxes that `tools.au_areas.ground` adds to a rollout."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_fields(self, RewardError)

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

    R_AU is the AU-set F1, R_acc and R_format are 0 or 1; the format does not depend on the label. This is the paper's
    version; the released code has an AU reward of 2 F1 - 1, and 0.5 as the accuracy of samples without label. Chosen
    here: a sample without AU target has no AU reward, an unlabelled one no accuracy; no answer at all earns no AU
    reward; a rollout without text (a policy that does not write) is well-formed if it answered.
    """

    def au_reward(self, rollout: Rollout) -> float:
        """Return the AU-set F1 (eq. 3), NaN without AU target, 0 without any answer.

        The units of the reasoning count whatever the label is: a label that is no emotion ends the episode without
        answer, and they are then read from ``meta["reasoning_aus"]``.
        """
        if rollout.aus is None:
            return math.nan
        predicted, named = rollout.predicted_aus, rollout.meta.get("reasoning_aus")
        if rollout.predicted_emotion is None and predicted is None:
            if named is None:
                return 0.0
            predicted = facs.parse_aus(named)
        return au_f1(predicted, rollout.aus)

    def format_reward(self, rollout: Rollout) -> float:
        """Return 1 for a text of one think block, then one answer block, whatever the label, 0 otherwise (eq. 5)."""
        if not rollout.texts:
            return float(rollout.predicted_emotion is not None)
        return float(is_well_formed(rollout))


@dataclass(frozen=True)
class TAGReward(AnswerReward):
    """TAG's ``R_AU + R_ans + R_fmt`` (its section 3.3), in [0, 2 + format_bonus].

    R_AU is the mean of the best min(n, k) values of max-IoU (eq. 3-4) between the k boxes of the reasoning,
    ``Rollout.meta["evidence_boxes"]`` (a list of [x1, y1, x2, y2]), and the n boxes of active AUs,
    ``Rollout.meta["au_boxes"]`` ({"AU12": [x1, y1, x2, y2]}, or a list of boxes per AU), both as shares of the picture.
    Conversations with the chat preset "tag" hold both, and group environments whose scorer is this reward add them
    (`tools.au_areas.ground`). Samples without boxes of active AUs skip it.

    Attributes:
        format_bonus: Reward of a well-formed output; the paper says small and positive, value chosen here.
        max_boxes: Boxes that the format allows; TAG 3.3.
    """

    format_bonus: float = bounded(0.1, ge=0)
    max_boxes: int = bounded(3, ge=0)
    grounded: ClassVar[bool] = True

    def au_reward(self, rollout: Rollout) -> float:
        """Return the mean of the best IoUs in [0, 1], NaN without target boxes, 0 without predicted ones.

        A malformed predicted box counts as a box with IoU 0.

        Raises:
            DataError: a target box is malformed; one line that names the rollout.
        """
        targets = target_boxes(rollout)
        return grounding_score(evidence_boxes(rollout), targets) if targets else math.nan

    def format_reward(self, rollout: Rollout) -> float:
        """Return the bonus for one think block with at most `max_boxes` readable boxes and one known label, else 0."""
        if rollout.predicted_emotion not in TAG_EMOTIONS:
            return 0.0
        if not rollout.texts:
            return self.format_bonus if len(evidence_boxes(rollout)) <= self.max_boxes else 0.0
        text = "\n".join(rollout.texts)
        thought = text.partition("</think>")[0]
        boxes = text.count("<bbox>")
        readable = boxes == len(_BOX.findall(thought)) and boxes <= self.max_boxes
        return self.format_bonus if readable and is_well_formed(rollout) else 0.0


def is_well_formed(rollout: Rollout) -> bool:
    """Tell whether a rollout's text is a thought and an answer; what the chat's parser could not read is not."""
    return not broken_turns(rollout) and is_think_answer("\n".join(rollout.texts))


def is_think_answer(text: str) -> bool:
    """Tell whether a text is one ``<think>`` block, then one ``<answer>`` block, with only space around them.

    As for the chat's parser, the first ``</think>`` ends the thought, and what stands inside it is no tag.
    """
    thought, closed, rest = text.strip().partition("</think>")
    answer = rest.strip()
    inside = answer.removeprefix("<answer>").removesuffix("</answer>")
    whole = thought.startswith("<think>") and closed and answer == f"<answer>{inside}</answer>"
    return bool(whole) and _TAG.search(inside) is None


def reward_facts(scorer: UCGRPO | AnswerReward) -> dict[str, Any]:
    """Return a reward's name and constants as JSON values, by which a checkpoint tells it from others."""
    constants = scorer.config.to_dict() if isinstance(scorer, UCGRPO) else asdict(scorer)
    return {"name": type(scorer).__name__, **constants}


def whole_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return kept `reward_facts` with the constants that their version did not know yet, at what they stood for."""
    known = UCGRPOConfig().to_dict() if facts.get("name") == UCGRPO.__name__ else {}
    return {**known, **facts}
