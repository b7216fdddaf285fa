"""Published rules for when to use a tool, behind the same calls as UC-GRPO.

Each pays for an answer, for its form, and for the use of a tool. The answer is 1 or 0, as in the papers, unless
`answer` says "task". The tool is the closer look (`Rollout.zoomed`): alignment is no tool here, since every rollout
begins with it. In `Scores`, `task` is the answer's part, `structure` that of the form and `utility` that of the tool;
`parts` has what they are made of. None follows emotions one by one, and only AutoTool keeps a state.
"""

# Longer than 400 lines: a third of them are the pages of the rules, which are compared side by side.
from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from actfer_env.bounds import bounded
from actfer_env.rewards.config import RewardError, UCGRPOConfig
from actfer_env.rewards.groups import Floats, group_advantages, group_rollouts
from actfer_env.rewards.other_papers import AnswerReward
from actfer_env.rewards.quality import broken_turns
from actfer_env.rewards.scores import Scores, to_array, totals, zoom_mask
from actfer_env.rewards.task import task_reward
from actfer_env.rewards.utility import contrast
from actfer_env.rollout import Rollout

Answer = Literal["emotion", "task"]
"""Worth of an answer: 1 for the right emotion, or UC-GRPO's task reward (with the AU-set F1), not below 0."""

Groups = Sequence[Sequence[int]]


@dataclass(frozen=True)
class ToolRule(AnswerReward):
    """Sum of an answer, a form and a tool term.

    Attributes:
        answer: Worth of an answer; the papers know right and wrong alone.
    """

    answer: Answer = bounded("emotion", choices=get_args(Answer))

    def score(self, rollouts: Iterable[Rollout]) -> Scores:
        """Return rewards and advantages; what depends on a step is measured over the rollouts of this call.

        Raises:
            DataError: a rollout is malformed, or a group mixes queries; one line that names it.
            RewardError: a file that the rule needs cannot be read.
        """
        rollouts = tuple(rollouts)
        groups = group_rollouts(rollouts)
        config = UCGRPOConfig()
        right = to_array([float(bool(rollout.correct)) for rollout in rollouts])
        if self.answer == "task":
            right = to_array([max(task_reward(rollout, config), 0.0) for rollout in rollouts])
        zoomed = zoom_mask(rollouts)
        delta: dict[str, float | None] = {}
        for group, members in groups.items():
            valid = [i for i in members if rollouts[i].detection != "failed"]
            delta[group] = contrast([float(right[i]) for i in valid], [bool(zoomed[i]) for i in valid])

        task = self.answer_weight * right
        form = to_array([self.format_reward(rollout) for rollout in rollouts])
        tool = self.tool_reward(rollouts, right, list(groups.values()), delta)
        total = totals(task, form, tool, np.zeros_like(task))
        advantage = self.advantages(rollouts, total, right, list(groups.values()))
        return Scores(
            task=task, structure=form, utility=tool, quality=np.zeros_like(task), total=total, advantage=advantage,
            gated=np.zeros(len(rollouts), dtype=np.bool_), zoomed=zoomed,
            group_ids=tuple(rollout.group_id for rollout in rollouts), delta=delta,
            delta_emotion={group: rollouts[members[0]].emotion for group, members in groups.items()},
            parts={"accuracy": right, "format": form.copy(), "tool": tool.copy(), "looks": looks(rollouts)},
        )  # fmt: skip

    @property
    def answer_weight(self) -> float:
        """Weight of a right answer."""
        return 1.0

    @abstractmethod
    def tool_reward(
        self, rollouts: Sequence[Rollout], right: Floats, groups: Groups, delta: Mapping[str, float | None]
    ) -> Floats:
        """Return the tool term of each rollout.

        Args:
            rollouts: The n rollouts.
            right: Worth of each answer, in [0, 1], shape (n,).
            groups: The indices of each query group.
            delta: Group id -> mean of `right` with a closer look minus that without; None where undefined.

        Returns:
            The terms, shape (n,).
        """

    def advantages(self, rollouts: Sequence[Rollout], total: Floats, right: Floats, groups: Groups) -> Floats:
        """Return the advantages, shape (n,): those of the totals within each group."""
        return group_advantages(total, groups, ddof=self.std_ddof, eps=self.std_eps)

    def au_reward(self, rollout: Rollout) -> float:
        """Return NaN: these rules have no reward of Action Units of their own."""
        return math.nan

    def format_reward(self, rollout: Rollout) -> float:
        """Return 0; some rules have a term of their own."""
        return 0.0

    def explain(self, rollouts: Sequence[Rollout], scores: Scores, i: int) -> list[str]:
        """Return, a line a term, where the reward of rollout `i` comes from."""
        one, terms = rollouts[i], scores.terms(i)
        did = f"{int(scores.parts['looks'][i])} closer looks" if one.zoomed else "no closer look"
        return [
            f"answer: {'right' if one.correct else 'wrong, missing or without target'}: {terms['task']:.2f}",
            f"format: {terms['structure']:+.2f}",
            f"tool: {did}: {terms['utility']:+.2f}",
            f"total: {terms['total']:.2f}; advantage in its group {scores.advantage[i]:+.2f}",
        ]


@dataclass(frozen=True)
class DeepEyesReward(ToolRule):
    """DeepEyes' bonus for a tool on the way to a right answer (arXiv 2505.14362, "Reward design").

    ``R = R_acc + R_format + 1[R_acc > 0] R_tool``. The weights, the threshold and the format's -1 are those of the
    released code, which the paper leaves open: 0.8, 0.2 and 1.2. An earlier release paid 0.4 for any use of the tool,
    right or wrong, which the paper warns of: `always` is that. The code also calls answers of 1,000 characters and more
    wrong; ours are labels.

    Attributes:
        accuracy: Weight of a right answer.
        form: Taken for a broken format or no answer.
        bonus: Reward of a tool.
        threshold: The answer must earn more than this for the bonus.
        always: Pay the bonus whatever the answer.
    """

    accuracy: float = bounded(0.8, ge=0)
    form: float = bounded(0.2, ge=0)
    bonus: float = bounded(1.2, ge=0)
    threshold: float = bounded(0.5, ge=0, le=1)
    always: bool = False

    @property
    def answer_weight(self) -> float:
        """Weight of a right answer."""
        return self.accuracy

    def format_reward(self, rollout: Rollout) -> float:
        """Return minus `form` for a broken format, else 0."""
        return -self.form if is_broken(rollout) else 0.0

    def tool_reward(
        self, rollouts: Sequence[Rollout], right: Floats, groups: Groups, delta: Mapping[str, float | None]
    ) -> Floats:
        """Return the bonus of each rollout that looked closer and answered right."""
        earned = zoom_mask(rollouts) & ((right > self.threshold) | self.always)
        return earned.astype(np.float64) * self.bonus


@dataclass(frozen=True)
class AdaToolerReward(ToolRule):
    """AdaTooler-V's benefit of a tool, measured beforehand for each sample (arXiv 2512.16918, AT-GRPO).

    ``R = R_answer + alpha dS exp(-gamma ((n - n_max) / n_max)^2)`` with n calls: where looking closer helps (dS > 0)
    the term grows with the calls up to n_max, where it harms it falls. That is the released code's form; a short form
    that one meets, ``exp(-gamma (n / n_max)^2)``, is another rule. A rollout without a call has ``exp(-gamma)`` of it,
    as there. The paper measures dS with a large model, answering each sample several times with and without tools.

    Attributes:
        alpha: Weight of the term; the paper's.
        gamma: Width of its bell; the paper's.
        n_max: Calls at its peak; the paper's is 6, an episode here has `max_zooms` (4).
        benefits: JSON file of sample id -> dS, as `tool_benefits` measures them; samples that it lacks have 0. None
            takes the contrast within the group instead, 0 where there is none (chosen here).
    """

    alpha: float = bounded(0.6, ge=0)
    gamma: float = bounded(2.0, ge=0)
    n_max: int = bounded(6, ge=1)
    benefits: str | None = None

    def tool_reward(
        self, rollouts: Sequence[Rollout], right: Floats, groups: Groups, delta: Mapping[str, float | None]
    ) -> Floats:
        """Return the benefit term of each rollout."""
        if self.benefits is None:
            gain = to_array([delta[rollout.group_id] or 0.0 for rollout in rollouts])
        else:
            known = _benefits(self.benefits)
            gain = to_array([known.get(rollout.sample_id, 0.0) for rollout in rollouts])
        return self.alpha * gain * np.exp(-self.gamma * ((looks(rollouts) - self.n_max) / self.n_max) ** 2)


@dataclass(frozen=True)
class HDPOReward(ToolRule):
    """HDPO's two channels: accuracy over all rollouts, efficiency over the right ones (arXiv 2604.08545).

    ``R_acc = 0.9 R_answer + 0.1 R_format`` gives one advantage, within the whole group. ``R_tool = 1 / (T + 1)`` of
    the right rollouts gives another, within these alone (0 for the wrong ones, and where fewer than two are right).
    `Scores.advantage` is ``w_acc A_acc + w_tool A_tool``; the paper adds two clipped losses with these weights, which
    is the same where the policy that sampled is the one that learns. `total` is R_acc, since no one reward has these
    advantages: a trainer that makes its own advantages from rewards, such as TRL's, sees the first channel only.

    Attributes:
        accuracy: Weight of the answer in R_acc.
        form: Weight of the format in R_acc.
        w_acc: Weight of the first channel.
        w_tool: Weight of the second.
    """

    accuracy: float = bounded(0.9, ge=0)
    form: float = bounded(0.1, ge=0)
    w_acc: float = bounded(1.0, ge=0)
    w_tool: float = bounded(0.15, ge=0)

    @property
    def answer_weight(self) -> float:
        """Weight of a right answer."""
        return self.accuracy

    def format_reward(self, rollout: Rollout) -> float:
        """Return `form` for a sound format, else 0."""
        return 0.0 if is_broken(rollout) else self.form

    def tool_reward(
        self, rollouts: Sequence[Rollout], right: Floats, groups: Groups, delta: Mapping[str, float | None]
    ) -> Floats:
        """Return zeros: efficiency has a channel of its own."""
        return np.zeros_like(right)

    def advantages(self, rollouts: Sequence[Rollout], total: Floats, right: Floats, groups: Groups) -> Floats:
        """Return the weighted sum of both channels."""
        economy = np.where(right > 0, 1.0 / (looks(rollouts) + 1.0), 0.0)
        qualified = [[i for i in members if rollouts[i].correct] for members in groups]
        first = group_advantages(total, groups, ddof=self.std_ddof, eps=self.std_eps)
        second = group_advantages(economy, qualified, ddof=self.std_ddof, eps=self.std_eps)
        return self.w_acc * first + self.w_tool * second


@dataclass(frozen=True)
class VisionThinkReward(ToolRule):
    """VisionThink's penalty on what the group shows to be the worse habit (arXiv 2507.13348, "Reward design").

    ``R = R_acc + R_format - P``. Of the right answers in a group, r is the share that came without a closer look. Where
    r >= theta, a closer look costs `penalty`; where it is smaller, answering without one does, lest the model stops
    asking. Without a right answer nothing is charged (chosen here). The threshold is quoted without the paper at hand.
    The released code multiplies the accuracy by 1 - 0.1 after a request instead, or takes from the data which samples
    need one.

    Attributes:
        form: Reward of a sound format; that of the released code's example.
        penalty: Cost of the worse habit.
        theta: Share of right answers without a closer look from which looking is the worse habit.
    """

    form: float = bounded(0.5, ge=0)
    penalty: float = bounded(0.1, ge=0)
    theta: float = bounded(0.2, ge=0, le=1)

    def format_reward(self, rollout: Rollout) -> float:
        """Return `form` for a sound format, else 0."""
        return 0.0 if is_broken(rollout) else self.form

    def tool_reward(
        self, rollouts: Sequence[Rollout], right: Floats, groups: Groups, delta: Mapping[str, float | None]
    ) -> Floats:
        """Return minus the penalty where a rollout has its group's worse habit."""
        zoomed, cost = zoom_mask(rollouts), np.zeros_like(right)
        for members in groups:
            solved = [i for i in members if rollouts[i].correct]
            if solved:
                looking_is_worse = sum(not zoomed[i] for i in solved) / len(solved) >= self.theta
                cost[list(members)] = self.penalty * (zoomed[list(members)] == looking_is_worse)
        return -cost


@dataclass(frozen=True)
class AutoToolReward(ToolRule):
    """AutoTool's rewards for two modes, and the factor that balances them (arXiv 2605.19852, MSPO and AMB).

    ``R = R_acc + R_format + lambda R_tool``. With the tool R_tool is 1 for a right answer and -0.5 for a wrong one;
    without it, 1 for a right answer and 0 for a wrong one. Lambda is ``base + 0.5 - F`` with the tool and
    ``base - 0.5 + F`` without, F being the share of rollouts with it. The weights 0.8 and 0.2 and the format's -1 are
    the released code's. There a token at the head of the turn says the mode, and a wrong token earns no tool reward;
    here the mode is what the rollout did (chosen here). F is the share in the policy update before, one half before
    the first (chosen here): the paper takes that of the same update, which a vector environment does not know while
    its groups end one by one. So this rule keeps a state, and `commit` moves it. The paper balances until 20 steps
    before the end: set `balance` to False for those.

    Attributes:
        accuracy: Weight of a right answer.
        form: Taken for a broken format or no answer.
        base: Lambda where both modes are equally frequent.
        wrong: R_tool of a wrong answer with the tool.
        balance: Whether lambda follows the share; False keeps it at `base`.
        counts_every: True: `commit` wants the scores of all rollouts, of groups of one too.
    """

    counts_every: ClassVar[bool] = True
    accuracy: float = bounded(0.8, ge=0)
    form: float = bounded(0.2, ge=0)
    base: float = bounded(1.2, ge=0)
    wrong: float = bounded(-0.5, le=0)
    balance: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep(0.5)

    @property
    def share(self) -> float:
        """Share of the rollouts with the tool in the last policy update, in [0, 1]."""
        return float(vars(self)["_share"])

    def commit(self, *scores: Scores) -> None:
        """Take over the share of the rollouts with the tool; call it once per policy update."""
        if scores:
            self._keep(float(np.concatenate([one.zoomed for one in scores]).mean()))

    def state_dict(self) -> dict[str, Any]:
        """Return the share as JSON values."""
        return {"share": self.share}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `state_dict`.

        Raises:
            RewardError: it is malformed, or belongs to another reward.
        """
        share = state.get("share") if set(state) == {"share"} else None
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise RewardError(f"the state of AutoToolReward is one share in [0, 1], got {dict(state)}")
        self._keep(float(share))

    def _keep(self, share: float) -> None:
        object.__setattr__(self, "_share", share)  # the settings are frozen, the state moves

    @property
    def answer_weight(self) -> float:
        """Weight of a right answer."""
        return self.accuracy

    def format_reward(self, rollout: Rollout) -> float:
        """Return minus `form` for a broken format, else 0."""
        return -self.form if is_broken(rollout) else 0.0

    def tool_reward(
        self, rollouts: Sequence[Rollout], right: Floats, groups: Groups, delta: Mapping[str, float | None]
    ) -> Floats:
        """Return the balanced reward of each rollout's mode."""
        on, solved = zoom_mask(rollouts), right > 0.5
        tilt = 0.5 - self.share if self.balance else 0.0
        return np.where(on, (self.base + tilt) * np.where(solved, 1.0, self.wrong), (self.base - tilt) * solved)


@dataclass(frozen=True)
class NeMoGymReward(ToolRule):
    """NeMo Gym's small rewards of single calls (its `image_tools_agent`; there is no paper).

    The answer earns 1; each executed call adds `success`, at most `cap` in all; each repeated call and each invalid one
    costs. The numbers are the defaults of its classes; its example configuration has 0.01, -0.02 and -0.01. There an
    invalid call ends the episode, and a box that overlaps an earlier one by an IoU of 0.5 is a repetition; here the
    episode goes on, and its own rules say what is repeated. Calls that look closer are counted, not the alignment.

    Attributes:
        success: Reward of an executed call.
        cap: Most that executed calls earn.
        repeated: Cost of a repeated call, <= 0.
        invalid: Cost of any other refused call or unreadable turn, <= 0.
    """

    success: float = bounded(0.02, ge=0)
    cap: float = bounded(0.05, ge=0)
    repeated: float = bounded(-0.02, le=0)
    invalid: float = bounded(-0.05, le=0)

    def tool_reward(
        self, rollouts: Sequence[Rollout], right: Floats, groups: Groups, delta: Mapping[str, float | None]
    ) -> Floats:
        """Return what each rollout's calls earn and cost."""
        twice = to_array([rollout.violations.count("repeated_call") for rollout in rollouts])
        refused = to_array([len(rollout.violations) for rollout in rollouts]) - twice
        return np.minimum(self.success * looks(rollouts), self.cap) + self.repeated * twice + self.invalid * refused


TOOL_RULES: Mapping[str, type[ToolRule]] = {
    "deepeyes": DeepEyesReward, "adatooler": AdaToolerReward, "hdpo": HDPOReward, "visionthink": VisionThinkReward,
    "autotool": AutoToolReward, "nemo_gym": NeMoGymReward,
}  # fmt: skip
"""Name -> a published rule for when to use a tool."""


def looks(rollouts: Sequence[Rollout]) -> Floats:
    """Return how many closer looks each rollout took: legal calls, shape (n,)."""
    return to_array([sum(call.zoomed for call in rollout.tool_calls) for rollout in rollouts])


def is_broken(rollout: Rollout) -> bool:
    """Tell whether a rollout has no answer, or a turn that the chat's parser could not read."""
    return rollout.predicted_emotion is None or bool(broken_turns(rollout))


def tool_benefits(rollouts: Iterable[Rollout]) -> dict[str, float]:
    """Return sample id -> accuracy with a closer look minus that without, from rollouts of a reference policy.

    Written as JSON it is what `AdaToolerReward.benefits` reads. Samples that were played in one way only are left out,
    and so are rollouts whose detection failed.

    Args:
        rollouts: Rollouts with and without closer looks, such as those of an agent played "always" and "never".
    """
    played: dict[str, tuple[list[float], list[bool]]] = {}
    for rollout in rollouts:
        if rollout.detection != "failed" and rollout.correct is not None:
            right, zoomed = played.setdefault(rollout.sample_id, ([], []))
            right.append(float(rollout.correct))
            zoomed.append(rollout.zoomed)
    found = {name: contrast(*both) for name, both in played.items()}
    return {name: gain for name, gain in found.items() if gain is not None}


@lru_cache(maxsize=4)
def _benefits(path: str) -> Mapping[str, float]:
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        return {str(name): float(gain) for name, gain in data.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RewardError(f"cannot read the benefits in {path}: {error}: write sample id -> number as JSON") from None
