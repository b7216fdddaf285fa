"""UC-GRPO: the composition of the reward terms and the emotion-wise EMA (ActFER section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.rewards.config import RewardError, UCGRPOConfig
from actfer_env.rewards.explain import explain_rollout
from actfer_env.rewards.groups import group_advantages, group_rollouts
from actfer_env.rewards.quality import broken_turns, quality_reward
from actfer_env.rewards.scores import Scores, to_array, totals, zoom_mask
from actfer_env.rewards.state import STATE_VERSION, parse_state
from actfer_env.rewards.structure import structure_reward
from actfer_env.rewards.task import task_terms
from actfer_env.rewards.utility import (
    coarse_right,
    contrast,
    in_contrast,
    lambda_factor,
    utility_reward,
    utility_rule,
)
from actfer_env.rollout import Rollout

__all__ = ["UCGRPO", "Scores"]


class UCGRPO:
    """Scores query groups, and follows the utility of zooming emotion by emotion.

    `score` changes nothing; `commit` moves the EMA by one step and is called once per policy update, with
    everything that was scored since the last commit. A step's rewards therefore use the EMA before the step.

    Example:
        >>> from actfer_env.rollout import Rollout
        >>> scorer = UCGRPO()
        >>> answer = Rollout("s", "g", "fear", None, "fear", None, (), "ok")
        >>> scores = scorer.score([answer])
        >>> round(scores.terms(0)["total"], 2)
        1.15
        >>> scorer.commit(scores)

    Attributes:
        config: The constants.
        ema: Emotion -> U_e, the running mean of its contrasts; 0 at the start.
        counts: Emotion -> number of valid contrasts so far.
        commits: Number of commits so far.
    """

    def __init__(self, config: UCGRPOConfig | None = None) -> None:
        self.config = config if config is not None else UCGRPOConfig()
        self.ema: dict[str, float] = dict.fromkeys(facs.EMOTIONS, 0.0)
        self.counts: dict[str, int] = dict.fromkeys(facs.EMOTIONS, 0)
        self.commits = 0

    def lambda_miss(self, emotion: str | None) -> float:
        """Return the factor for a missed zoom, rising with the EMA; 1 while inactive or for None."""
        return self._lambda(emotion, 1.0)

    def lambda_over(self, emotion: str | None) -> float:
        """Return the factor for an unnecessary zoom, falling with the EMA; 1 while inactive or for None."""
        return self._lambda(emotion, -1.0)

    def score(self, rollouts: Iterable[Rollout]) -> Scores:
        """Return rewards and advantages; the scorer's state does not change.

        Args:
            rollouts: Finished episodes, in any order; those with the same group_id form a query group.

        Returns:
            The scores, arrays of shape (n,) in the rollouts' order.

        Raises:
            DataError: a rollout is malformed, or a group mixes queries; one line that names it.
        """
        rollouts, config = tuple(rollouts), self.config
        groups = group_rollouts(rollouts)
        emotions = {group: rollouts[members[0]].emotion for group, members in groups.items()}
        lambda_miss = {emotion: self.lambda_miss(emotion) for emotion in facs.EMOTIONS}
        lambda_over = {emotion: self.lambda_over(emotion) for emotion in facs.EMOTIONS}

        # Pass 1, rollout by rollout: the task with its AU-set F1 (eq. 7-8), the checks of the finite-state machine,
        # and the mild regulariser of texts.
        terms = [task_terms(rollout, config) for rollout in rollouts]
        task, f1 = to_array([reward for reward, _ in terms]), to_array([f1 for _, f1 in terms])
        structure = to_array([structure_reward(rollout, config) for rollout in rollouts])
        quality = to_array([quality_reward(rollout.texts, config, broken_turns(rollout)) for rollout in rollouts])

        # Pass 2, group by group: was it worth zooming on this sample?
        counts = [in_contrast(rollout, config) for rollout in rollouts]
        delta: dict[str, float | None] = {}
        rules: list[str] = [""] * len(rollouts)
        values, gated = [0.0] * len(rollouts), np.zeros(len(rollouts), dtype=np.bool_)
        for group, members in groups.items():
            # The contrast of the task reward (eq. 9-10), without the members whose face was not found, and without
            # those that `contrast_members` leaves out.
            valid = [i for i in members if counts[i]]
            delta[group] = contrast([terms[i][0] for i in valid], [rollouts[i].zoomed for i in valid])
            # Each member's zooming against that contrast, or the symmetric fallback without one (eq. 12-14).
            emotion = emotions[group] or ""
            factors = lambda_miss.get(emotion, 1.0), lambda_over.get(emotion, 1.0)
            coarse = coarse_right([rollouts[i] for i in valid]) if config.fallback_of == "unzoomed" else None
            for i in members:
                known, unzoomed = (delta[group], coarse) if counts[i] else (None, None)
                rule = rules[i] = utility_rule(rollouts[i], known, config)
                values[i] = utility_reward(rollouts[i], rule, known, factors, config, unzoomed)
            # An option of ours: a group that is wrong throughout learns from the task alone.
            if config.outcome_gate and all(rollouts[i].correct is False for i in members):
                gated[members] = True
        utility = to_array(values)
        for term in (structure, utility, quality):
            term[gated] = 0.0

        # The sum (eq. 6 and 15), and the advantage within each group (eq. 16).
        total = totals(task, structure, utility, quality)
        advantage = group_advantages(
            total, groups.values(), ddof=config.std_ddof, eps=config.std_eps, normalize=config.normalize_std
        )
        return Scores(
            task=task, structure=structure, utility=utility, quality=quality, total=total, advantage=advantage,
            gated=gated, zoomed=zoom_mask(rollouts), group_ids=tuple(rollout.group_id for rollout in rollouts),
            rules=tuple(rules), delta=delta, delta_emotion=emotions, lambda_miss=lambda_miss, lambda_over=lambda_over,
            parts={"f1": f1}, scored_at=self.commits,
        )  # fmt: skip

    def commit(self, *scores: Scores) -> None:
        """Move the EMA by one step; call it once per policy update.

        Each emotion with valid contrasts moves once, to ``rho U + (1 - rho) mean`` over all of them. Groups
        without emotion target are left out. Variants without EMA follow it too, for reports.

        Args:
            scores: Everything that was scored since the last commit, each group in one of them.

        Raises:
            RewardError: nothing was given, scores are older than the last commit (or committed already), or a
                group occurs twice; nothing changes then.
        """
        if not scores:
            raise RewardError("commit needs the scores of the step: pass what score() returned")
        seen: set[str] = set()
        deltas: dict[str, list[float]] = {}
        for one in scores:
            if one.scored_at != self.commits:
                raise RewardError(
                    f"scores were made at commit {one.scored_at}, the scorer is at {self.commits}: "
                    "commit each scores once, in its own step"
                )
            for group, delta in one.delta.items():
                if group in seen:
                    raise RewardError(f"group {group!r} occurs twice in one commit: group ids are unique in a step")
                seen.add(group)
                emotion = one.delta_emotion[group]
                if delta is not None and emotion is not None:
                    deltas.setdefault(emotion, []).append(delta)
        # Eq. 11, once a step with the mean over all of the step's contrasts of an emotion.
        rho = self.config.ema_decay
        for emotion, values in deltas.items():
            self.ema[emotion] = rho * self.ema[emotion] + (1.0 - rho) * math.fsum(values) / len(values)
            self.counts[emotion] += len(values)
        self.commits += 1

    def state_dict(self) -> dict[str, Any]:
        """Return EMA, counts and number of commits as JSON values, with a version."""
        kept = {"commits": self.commits, "ema": dict(self.ema), "counts": dict(self.counts)}
        return {"version": STATE_VERSION, **kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `state_dict`.

        Args:
            state: JSON values that `state_dict` returned.

        Raises:
            RewardError: it is of another version or malformed; nothing changes then.
        """
        self.ema, self.counts, self.commits = parse_state(state)

    def explain(self, rollouts: Sequence[Rollout], scores: Scores, i: int) -> list[str]:
        """Return, a line a term, in plain words where the reward of rollout `i` comes from.

        Args:
            rollouts: The rollouts.
            scores: Their scores.
            i: Number of the rollout, from 0.

        Returns:
            The lines.

        Raises:
            RewardError: the scores are not of these rollouts, or there is no rollout `i`.
        """
        if tuple(rollout.group_id for rollout in rollouts) != scores.group_ids:
            raise RewardError("explain needs the rollouts that were scored, in the same order")
        if not 0 <= i < len(scores):
            raise RewardError(f"there is no rollout {i}: {len(scores)} were scored")
        return explain_rollout(rollouts[i], scores, i, self.config)

    def _lambda(self, emotion: str | None, sign: float) -> float:
        if emotion is None or not self.config.use_ema or self.counts[emotion] < self.config.ema_min_count:
            return 1.0
        return lambda_factor(sign * self.ema[emotion], self.config)
