"""Forcing a policy of actions: which tools a pass leaves it, by the mask that it reads and, if it does not, by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.boxes import Box
from actfer_env.envs.actions import ActionCodec, DictActions, DiscreteActions
from actfer_env.envs.observations import crop_regions
from actfer_env.episode import State
from actfer_env.errors import AgentError
from actfer_env.evaluation.gate.outcomes import ALL, ALWAYS, FREE, NEVER, only

REGIONS = len(facs.REGIONS)
DETECT, ANSWER = 0, REGIONS + 1
"""Columns of a choice: detect_align, the four regions, an answer."""
Mask = NDArray[np.bool_]


class Steer:
    """Restricts what the members of a batch may do, each by its pass.

    A policy that reads the action mask keeps to it by itself. Of one that does not, a choice that its pass forbids is
    replaced: a zoom by an answer, an answer by the zoom that it rates highest, or else by the first region that is
    left. The answer is the one that the same action holds. In `ActFER-Discrete-v0` an action that zooms holds none;
    there a policy must rate its actions (`tool_scores`, see `agents.base.Agent`) or read the mask.

    Args:
        codec: Form of the environment's actions.
        ways: Pass of each member (n,).
    """

    def __init__(self, codec: ActionCodec, ways: Sequence[str]) -> None:
        self.codec, self.ways = codec, np.array(ways)
        self._alone = np.array([[way in (FREE, ALWAYS, ALL, only(name)) for name in facs.REGIONS] for way in ways])

    def choices(self, obs: Mapping[str, Any]) -> tuple[Mask, Mask]:
        """Return what is legal, and what the passes leave of it, both bool (n, 6): detect, four regions, answer."""
        mask = np.asarray(obs["action_mask"], bool)
        if isinstance(self.codec, DictActions):
            fresh = mask[:, 1:2] & ~crop_regions(obs)[1]
            legal = np.column_stack([mask[:, :1], fresh, mask[:, 2:3]])
        elif isinstance(self.codec, DiscreteActions):
            legal = np.column_stack([mask[:, :ANSWER], mask[:, ANSWER:].any(1)])
        else:
            legal = mask[:, : ANSWER + 1]
        state, left, seen = obs["state"], obs["turns_left"], np.asarray(obs["crop_mask"]).any(1)
        forced = ~np.isin(self.ways, (FREE, NEVER))
        alone = forced & ~np.isin(self.ways, (ALWAYS, ALL))
        allowed = legal.copy()
        allowed[:, 1:ANSWER] &= self._alone & ~(alone & seen)[:, None]
        due = forced & (left > 1) & allowed[:, 1:ANSWER].any(1) & (~seen | (self.ways == ALL))
        due |= forced & (left > 2) & (state == State.RAW)
        allowed[due, ANSWER] = False
        return legal, allowed

    def mask(self, obs: Mapping[str, Any], allowed: Mask) -> NDArray[np.int8]:
        """Return the action mask as the policy reads it, without what its pass forbids."""
        mask = np.array(obs["action_mask"], np.int8)
        if isinstance(self.codec, DictActions):
            return mask & np.column_stack([allowed[:, :1], allowed[:, 1:ANSWER].any(1), allowed[:, ANSWER:]])
        if isinstance(self.codec, DiscreteActions):
            ends = np.repeat(allowed[:, ANSWER:], len(facs.EMOTIONS), 1)
            return mask & np.column_stack([allowed[:, :ANSWER], ends])
        mask[:, : ANSWER + 1] &= allowed
        return mask

    def obey(self, actions: Any, obs: Mapping[str, Any], allowed: Mask, scores: NDArray[np.float64] | None) -> Any:
        """Return the actions, with those that a pass forbids replaced, and in all passes but "free" illegal ones too.

        Args:
            actions: Choices of the policy, a batch.
            obs: Observations that it saw.
            allowed: Choices of `choices`.
            scores: Its `tool_scores`, or None.

        Raises:
            AgentError: it zooms where it may not, and no answer of it is known.
        """
        chosen, rows = self._chosen(actions), np.arange(len(allowed))
        forbidden = ~allowed[rows, chosen]
        if isinstance(self.codec, DictActions):  # a box of one's own is not the region of the pass
            elsewhere = ~allowed[:, 1:ANSWER].any(1) | ~self._alone.all(1)
            forbidden = np.where(chosen == 1, elsewhere, forbidden)
        wrong = np.flatnonzero(forbidden & allowed.any(1) & (self.ways != FREE))
        if not len(wrong):
            return actions
        if isinstance(self.codec, DictActions):
            actions = {key: np.array(value) for key, value in actions.items()}
        else:
            actions = np.array(actions)
        for row in wrong.tolist():
            place = _best(allowed[row], None if scores is None else scores[row, : ANSWER + 1])
            self._replace(actions, row, place, obs, None if scores is None else scores[row])
        return actions

    def _chosen(self, actions: Any) -> NDArray[np.int64]:
        """Return the column of `choices` that each action stands for; of a free box the first region's."""
        if isinstance(self.codec, DictActions):
            return np.array([DETECT, 1, ANSWER])[np.asarray(actions["tool"])]
        heads = np.asarray(actions)
        return np.minimum(heads if isinstance(self.codec, DiscreteActions) else heads[:, 0], ANSWER)

    def _replace(
        self, actions: Any, row: int, place: int, obs: Mapping[str, Any], scores: NDArray[np.float64] | None
    ) -> None:
        if isinstance(self.codec, DictActions):
            actions["tool"][row] = 0 if place == DETECT else 2 if place == ANSWER else 1
            if 0 < place < ANSWER:
                actions["box"][row] = Box(*map(float, obs["region_boxes"][row][place - 1])).to_centre()
        elif isinstance(self.codec, DiscreteActions):
            if place == ANSWER and scores is None:
                raise AgentError("this agent zooms where its action mask forbids it, and Discrete actions hold no "
                                 "answer beside: let it read obs['action_mask'], or give it tool_scores")  # fmt: skip
            actions[row] = place if place < ANSWER or scores is None else ANSWER + int(np.argmax(scores[ANSWER:]))
        else:
            actions[row, 0] = place


def _best(allowed: Mask, scores: NDArray[np.float64] | None) -> int:
    """Return the choice that is rated highest of those that are allowed; else the first, an answer last."""
    places = np.flatnonzero(allowed)
    return int(places[0] if scores is None else places[np.argmax(scores[places])])


def zoom_chance(scores: NDArray[np.float64], legal: Mask) -> NDArray[np.float64]:
    """Return the share of zooms (n,) in a softmax of scores over what is legal.

    Args:
        scores: Logits of the policy, float (n, 6), or (n, 13) with one for each answer.
        legal: Choices of `Steer.choices`, bool (n, 6); something is legal in every row.
    """
    from scipy.special import softmax

    wide = np.column_stack([legal[:, :ANSWER], np.repeat(legal[:, ANSWER:], scores.shape[1] - ANSWER, 1)])
    shares = softmax(np.where(wide, scores, -np.inf), axis=1)
    found: NDArray[np.float64] = shares[:, 1:ANSWER].sum(1)
    return found
