"""Published rules for when to use a tool, against numbers worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from helpers import answered, aus, portraits, right, wrong

from actfer_env import make_group_vec
from actfer_env.rewards import TOOL_RULES, RewardError
from actfer_env.rewards.other_papers import reward_facts
from actfer_env.rewards.registry import OTHER_REWARDS
from actfer_env.rewards.tool_rules import (
    AdaToolerReward,
    AutoToolReward,
    DeepEyesReward,
    HDPOReward,
    NeMoGymReward,
    VisionThinkReward,
    tool_benefits,
)
from actfer_env.rollout import ToolCall
from actfer_env.verl_plugin.scoring import StepScorer, reward_config

LOOK = ToolCall("zoom_in")
BROKEN = {"texts": ("x",), "meta": {"chat": [{"turn": 0, "problem": "bad_json"}]}}
GROUP = (right(zoomed=True), right(), wrong(zoomed=True), wrong())
"""One group in which looking closer made no difference: right and wrong, with and without it."""


def close(values: object) -> object:
    return pytest.approx(values, abs=1e-12)


def totals(reward: object, *rollouts: object) -> list[float]:
    return reward.score(rollouts).total.tolist()  # type: ignore[attr-defined]


# --- DeepEyes -----------------------------------------------------------------------------------------------


def test_deepeyes_pays_a_tool_on_the_way_to_a_right_answer():
    assert totals(DeepEyesReward(), *GROUP) == close([0.8 + 1.2, 0.8, 0.0, 0.0])
    assert totals(DeepEyesReward(bonus=0.4, always=True), *GROUP) == close([1.2, 0.8, 0.4, 0.0])
    assert totals(DeepEyesReward(), right(zoomed=True, **BROKEN), answered(None)) == close([0.8 - 0.2 + 1.2, -0.2])
    scores = DeepEyesReward().score(GROUP)
    assert scores.terms(0) == {"task": 0.8, "structure": 0.0, "utility": 1.2, "quality": 0.0, "total": 2.0}
    # mean 0.7; deviations 1.3, 0.1, -0.7, -0.7: sum of squares 2.68, over 3, root 0.9451631...
    assert scores.advantage == pytest.approx(np.array([1.3, 0.1, -0.7, -0.7]) / (math.sqrt(2.68 / 3) + 1e-6))
    assert scores.delta["g0"] == 0.0


def test_an_answer_may_count_as_in_uc_grpo():
    one = right(zoomed=True, aus=aus(12), predicted_aus=aus(6, 12))  # 0.6 + 0.4 * 2/3
    assert totals(DeepEyesReward(answer="task"), one, wrong()) == close([0.8 * (0.6 + 0.4 * 2 / 3) + 1.2, 0.0])


# --- AdaTooler-V --------------------------------------------------------------------------------------------


def test_adatooler_weighs_the_calls_by_what_they_bring(tmp_path):
    two, six = right(tool_calls=(LOOK,) * 2), right(tool_calls=(LOOK,) * 6)
    path = tmp_path / "benefits.json"
    path.write_text(json.dumps({"s0": 0.5}))
    reward = AdaToolerReward(benefits=str(path))
    # 0.6 * 0.5 = 0.3, times exp(-2 (4/6)^2) = exp(-8/9) for two calls, 1 for six, exp(-2) for none
    assert totals(reward, two, six, right(), wrong(zoomed=True)) == close(
        [1 + 0.3 * math.exp(-8 / 9), 1.3, 1 + 0.3 * math.exp(-2), 0.3 * math.exp(-2 * (5 / 6) ** 2)]
    )
    assert totals(reward, right(sample_id="other")) == [1.0]
    path.write_text(json.dumps({"s0": -0.5}))
    harm = AdaToolerReward(benefits=str(tmp_path / "." / "benefits.json"))
    harm.score([right()])
    with pytest.raises(RewardError, match="cannot read the benefits in nowhere"):
        AdaToolerReward(benefits="nowhere").score([right()])


def test_adatooler_takes_the_contrast_of_the_group_where_nothing_was_measured():
    group = (right(zoomed=True), right(zoomed=True), wrong(), right())  # 1 against 0.5
    look, none = 0.6 * 0.5 * math.exp(-2 * (5 / 6) ** 2), 0.6 * 0.5 * math.exp(-2)
    assert totals(AdaToolerReward(), *group) == close([1 + look, 1 + look, none, 1 + none])
    assert totals(AdaToolerReward(), right(), wrong()) == [1.0, 0.0]


def test_the_benefit_of_a_tool_is_measured_from_rollouts():
    lost = right(sample_id="b", zoomed=True, detection="failed")
    played = [right(zoomed=True), wrong(), right(), wrong(sample_id="b"), lost]
    assert tool_benefits(played) == {"s0": 0.5}


# --- HDPO ---------------------------------------------------------------------------------------------------


def test_hdpo_ranks_economy_among_the_right_alone():
    group = (right(tool_calls=(LOOK,)), right(), wrong(zoomed=True), wrong())
    scores = HDPOReward().score(group)
    assert scores.total == close([1.0, 1.0, 0.1, 0.1])
    # First channel: mean 0.55, deviations 0.45 each way, std sqrt(4 * 0.2025 / 3). Second: 1/2 and 1, mean 3/4,
    # deviations 1/4, std sqrt(2 / 16) = 0.35355...; the wrong ones get none of it.
    first, second = 0.45 / (math.sqrt(0.27) + 1e-6), 0.25 / (math.sqrt(0.125) + 1e-6)
    assert scores.advantage == close([first - 0.15 * second, first + 0.15 * second, -first, -first])
    alone = HDPOReward().score([right(zoomed=True), wrong()])  # one right answer has nothing to be compared with
    half = 0.45 / (math.sqrt(0.405) + 1e-6)
    assert alone.advantage == close([half, -half])
    assert HDPOReward().score([right(zoomed=True, **BROKEN)]).total == close([0.9])


# --- VisionThink --------------------------------------------------------------------------------------------


def test_visionthink_charges_the_habit_that_the_group_shows_to_be_worse():
    # Half of the right answers came without a look, 0.5 >= 0.2: looking costs.
    assert totals(VisionThinkReward(), *GROUP) == close([1.4, 1.5, 0.4, 0.5])
    # None of them did: not looking costs.
    assert totals(VisionThinkReward(), right(zoomed=True), wrong()) == close([1.5, 0.4])
    # Exactly at the threshold looking costs; nothing is charged without a right answer.
    fifth = [right(zoomed=True)] * 4 + [right()]
    assert totals(VisionThinkReward(), *fifth) == close([1.4] * 4 + [1.5])
    assert totals(VisionThinkReward(), wrong(zoomed=True), wrong()) == close([0.5, 0.5])


# --- AutoTool -----------------------------------------------------------------------------------------------


def test_autotool_balances_its_modes_by_the_last_update():
    reward = AutoToolReward()
    assert totals(reward, *GROUP) == close([0.8 + 1.2, 0.8 + 1.2, -0.6, 0.0])
    scores = reward.score([right(zoomed=True)] * 3 + [right()])
    reward.commit(scores)
    assert reward.share == 0.75
    # Three of four used it: 1.2 + 0.5 - 0.75 = 0.95 with it, 1.45 without.
    assert totals(reward, *GROUP) == close([0.8 + 0.95, 0.8 + 1.45, -0.475, 0.0])
    assert totals(AutoToolReward(balance=False), *GROUP) == close([2.0, 2.0, -0.6, 0.0])
    twin = AutoToolReward()
    twin.load_state_dict(json.loads(json.dumps(reward.state_dict())))
    assert totals(twin, *GROUP) == totals(reward, *GROUP)
    for wrong_state in ({}, {"share": 2}, {"share": True}, {"share": "x"}, {"ema": {}}):
        with pytest.raises(RewardError, match="one share in"):
            twin.load_state_dict(wrong_state)
    assert reward_facts(twin) == reward_facts(AutoToolReward())  # the state is no setting


# --- NeMo Gym -----------------------------------------------------------------------------------------------


def test_nemo_pays_calls_and_charges_refused_ones():
    twice, bad = ToolCall("zoom_in", violation="repeated_call"), ToolCall("zoom_in", violation="bad_arguments")
    many = right(tool_calls=(LOOK,) * 3)  # 0.06, at most 0.05
    calls = wrong(tool_calls=(ToolCall("detect_align"), LOOK, twice, twice, bad))  # 0.02 - 0.04 - 0.05
    assert totals(NeMoGymReward(), many, calls, right(zoomed=True)) == close([1.05, -0.07, 1.02])


# --- All ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TOOL_RULES))
def test_every_rule_is_a_variant_that_explains_itself(name):
    reward = TOOL_RULES[name]()
    assert OTHER_REWARDS[name] is TOOL_RULES[name] and reward_config({"variant": name}) == reward
    scores = reward.score(GROUP)
    lines = reward.explain(GROUP, scores, 0)
    assert [line.partition(":")[0] for line in lines] == ["answer", "format", "tool", "total"]
    assert scores.total == close(scores.task + scores.structure + scores.utility)
    assert reward.score([answered(None, emotion=None)]).task.tolist() == [0.0] and reward.score([]).total.tolist() == []
    fields = [{"rollout": json.dumps(one.to_dict())} for one in GROUP]
    step = StepScorer(reward_config({"variant": name}))
    _, rollouts, stepped = step.score(["u"] * 4, fields, [False] * 4)
    assert stepped.advantage.tolist() == scores.advantage.tolist()
    assert step.metrics(rollouts, stepped)["ucgrpo/zoom"] == 0.5
    with pytest.raises(RewardError, match=f"unknown field 'x' of ucgrpo.variant '{name}'"):
        reward_config({"variant": name, "x": 1})
    with pytest.raises(RewardError, match="answer must be one of emotion, task"):
        TOOL_RULES[name](answer="all")


def test_autotool_counts_every_rollout_of_groups_of_one():
    """Four environments of one: blind answers end first, those that zoom later; the share is that of all."""
    shares = []
    for size, groups in ((1, 4), (4, 1)):
        envs = make_group_vec("ActFER-Discrete-v0", num_groups=groups, group_size=size, dataset=portraits())
        envs.scorer = AutoToolReward()
        envs.reset(seed=0)
        plans = [[5], [5], [0, 4, 5], [0, 3, 5]]
        played = []
        for turn in range(3):
            *_, info = envs.step(np.array([plan[min(turn, len(plan) - 1)] for plan in plans]))
            played += [one for one in info.get("rollout", ()) if one is not None]
        envs.commit()
        shares.append((envs.scorer.share, np.mean([one.zoomed for one in played])))
    assert all(found == pytest.approx(share) for found, share in shares)
