"""UC-GRPO against numbers worked out by hand, one test a branch."""

from __future__ import annotations

import json
import math

import pytest
from helpers import answered, aus, broken, right, wrong

from actfer_env import facs
from actfer_env.errors import ActFERError, DataError
from actfer_env.rewards import TERMS, UCGRPO, VARIANTS, RewardError, Scores, UCGRPOConfig, au_f1
from actfer_env.rewards.guards import collapse_figures, collapse_warnings
from actfer_env.rewards.quality import foreign_share, measure_quality, repeated_share
from actfer_env.rollout import VIOLATIONS, Rollout

APPROX = 1e-12


def term(name: str, *rollouts: Rollout, i: int = 0, config: UCGRPOConfig | None = None) -> float:
    return UCGRPO(config).score(rollouts).terms(i)[name]


def close(value: float) -> object:
    return pytest.approx(value, abs=APPROX)


# --- task ---------------------------------------------------------------------------------------------------


def test_right_emotion_adds_the_f1():
    # P = {6, 12}, T = {12}: F1 = 2 * 1 / (2 + 1)
    rollout = right(aus=aus(12), predicted_aus=aus(6, 12))
    assert term("task", rollout) == close(0.6 + 0.4 * 2 / 3)


def test_wrong_emotion_keeps_half_of_the_au_term():
    rollout = wrong(aus=aus(12), predicted_aus=aus(6, 12))
    assert term("task", rollout) == close(-0.2 + 0.5 * 0.4 * 2 / 3)


def test_disjoint_sets_give_no_au_credit():
    assert term("task", right(aus=aus(12), predicted_aus=aus(4))) == close(0.6)


def test_no_au_target_drops_the_au_term():
    assert term("task", right(aus=None, predicted_aus=aus(4))) == 1.0
    assert term("task", wrong(aus=None, predicted_aus=aus(4))) == close(-0.2)


def test_two_empty_sets_count_as_f1_one():
    assert au_f1(frozenset(), frozenset()) == 1.0
    assert term("task", right(aus=aus(), predicted_aus=aus())) == close(0.6 + 0.4 * 1)


def test_missing_predicted_aus_count_as_the_empty_set():
    assert term("task", right(aus=aus(12), predicted_aus=None)) == close(0.6)
    assert term("task", right(aus=aus(), predicted_aus=None)) == close(1.0)


@pytest.mark.parametrize("emotion", ["happiness", None])
@pytest.mark.parametrize("target", [None, aus(12), aus()])
def test_no_answer_costs_gamma_whatever_the_target(emotion, target):
    rollout = answered(None, emotion=emotion, aus=target, predicted_aus=aus(12), truncated=True)
    assert term("task", rollout) == close(-0.2)


def test_unlabelled_sample_is_paid_by_the_f1_alone():
    assert term("task", right(emotion=None, aus=aus(12), predicted_aus=aus(6, 12))) == close(2 / 3)
    assert term("task", right(emotion=None, aus=None)) == 0.0


# --- structure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detection", ["ok", "failed", "prealigned"])
def test_clean_trajectory_earns_the_bonus(detection):
    assert term("structure", right(detection=detection)) == 0.05


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_each_violation_costs_and_forfeits_the_bonus(violation):
    assert term("structure", right(tool_calls=broken(violation))) == close(-0.1)


def test_violations_add_up_with_the_answer_without_looking():
    rollout = right(tool_calls=broken("illegal_order", "parse_error"), detection="not_called")
    assert term("structure", rollout) == close(2 * -0.1 - 0.1)


def test_structure_is_clipped_at_the_floor():
    assert term("structure", right(tool_calls=broken(*["parse_error"] * 7))) == -0.5  # 7 * -0.1 = -0.7


def test_answer_without_looking_costs():
    assert term("structure", right(detection="not_called")) == close(-0.1)


def test_truncated_rollout_earns_no_bonus_and_never_looking_alone_costs_nothing():
    assert term("structure", answered(None, truncated=True)) == 0.0
    assert term("structure", answered(None, truncated=True, detection="not_called")) == 0.0
    assert term("structure", right(truncated=True)) == 0.0


# --- contrastive utility ------------------------------------------------------------------------------------


def helped() -> list[Rollout]:
    """Zooming helps: delta = 1 - (-0.2) = 1.2."""
    return [right(zoomed=True), wrong(), wrong()]


def harmed() -> list[Rollout]:
    """Zooming harms: delta = -0.2 - 1 = -1.2."""
    return [wrong(zoomed=True), right(), right()]


def test_delta_is_the_difference_of_means():
    group = [right(zoomed=True), wrong(zoomed=True), wrong(), wrong(), right()]
    # zoomed (1 - 0.2) / 2 = 0.4; not zoomed (-0.2 - 0.2 + 1) / 3 = 0.2
    assert UCGRPO().score(group).delta["g0"] == close(0.4 - 0.2)


def test_helpful_zoom_is_paid_and_a_missed_one_penalised():
    scores = UCGRPO().score(helped())
    assert scores.delta["g0"] == close(1.2)
    assert scores.utility[0] == close(0.1)
    assert scores.utility[1] == close(-1.0 * 0.3 * math.tanh(1.2 / 0.3))
    assert scores.rules == ("agreed", "missed", "missed")


def test_harmful_zoom_is_penalised_and_abstaining_paid():
    scores = UCGRPO().score(harmed())
    assert scores.delta["g0"] == close(-1.2)
    assert scores.utility[0] == close(-1.0 * 0.3 * math.tanh(1.2 / 0.3))
    assert scores.utility[1] == close(0.1)
    assert scores.rules == ("overused", "agreed", "agreed")


@pytest.mark.parametrize("margin", [0.2 - 5e-13, 0.2, 0.25])
def test_inside_and_at_the_margin_everyone_is_paid(margin):
    # F1 1 against 0.5: delta = (0.6 + 0.4) - (0.6 + 0.4 * 0.5) = 0.2, up to float noise
    with_zoom = right(zoomed=True, aus=aus(12), predicted_aus=aus(12))
    without = right(aus=aus(12), predicted_aus=aus(6, 7, 12))
    scores = UCGRPO(UCGRPOConfig(margin=margin)).score([with_zoom, without])
    assert scores.delta["g0"] == close(0.2)
    assert scores.utility.tolist() == [0.1, 0.1]
    assert scores.rules == ("neutral", "neutral")


def test_just_beyond_the_margin_the_contrast_counts():
    with_zoom = right(zoomed=True, aus=aus(12), predicted_aus=aus(12))
    without = right(aus=aus(12), predicted_aus=aus(6, 7, 12))
    scores = UCGRPO(UCGRPOConfig(margin=0.19)).score([with_zoom, without])
    assert scores.utility[0] == close(0.1)
    assert scores.utility[1] == close(-0.3 * math.tanh(0.2 / 0.3))


def test_failed_detection_is_left_out_of_delta_and_falls_back():
    group = [*helped(), right(detection="failed"), wrong(detection="failed")]
    scores = UCGRPO().score(group)
    assert scores.delta["g0"] == close(1.2)  # the failed right answer would have made it 1 - 0.2
    assert scores.utility[3:].tolist() == [0.1, -0.1]
    assert scores.rules[3:] == ("fallback", "fallback")


def test_a_group_whose_only_contrast_failed_has_no_delta():
    scores = UCGRPO().score([right(zoomed=True), right(detection="failed")])
    assert scores.delta == {"g0": None}


@pytest.mark.parametrize("detection", ["not_called", "prealigned"])
def test_other_detections_count_as_usual(detection):
    scores = UCGRPO().score([right(zoomed=True), wrong(detection=detection)])
    assert scores.delta["g0"] == close(1.2)


def test_a_refused_zoom_is_no_zoom():
    scores = UCGRPO().score([right(tool_calls=broken("illegal_order")), wrong()])
    assert not scores.zoomed.any()
    assert scores.delta["g0"] is None


@pytest.mark.parametrize("zoomed", [True, False])
def test_fallback_without_zoom_diversity_ignores_zooming(zoomed):
    group = [right(zoomed=zoomed), wrong(zoomed=zoomed), answered(None, zoomed=zoomed)]
    scores = UCGRPO().score(group)
    assert scores.delta["g0"] is None
    assert scores.utility.tolist() == [0.1, -0.1, -0.1]


def test_fallback_gives_nothing_without_emotion_target():
    assert term("utility", right(emotion=None)) == 0.0


def test_a_fallback_that_judges_the_unzoomed_answers():
    config = UCGRPOConfig.variant("au_grounded", fallback_of="unzoomed")
    easy = [right(zoomed=False), right(zoomed=False), wrong(zoomed=True)]
    assert [term("utility", *easy, i=i, config=config) for i in range(3)] == [0.1, 0.1, -0.1]
    hard = [wrong(zoomed=False), right(zoomed=True)]
    assert [term("utility", *hard, i=i, config=config) for i in range(2)] == [-0.1, 0.1]
    alone = [right(zoomed=True), wrong(zoomed=True)]
    assert [term("utility", *alone, i=i, config=config) for i in range(2)] == [0.1, -0.1]
    with pytest.raises(RewardError, match="fallback_of must be one of own, unzoomed"):
        UCGRPOConfig(fallback_of="mine")


def test_unlabelled_group_uses_lambda_one_and_stays_out_of_the_ema():
    scorer = warm_scorer(0.5)
    target = {"emotion": None, "aus": aus(12)}
    group = [right(zoomed=True, predicted_aus=aus(12), **target), right(predicted_aus=aus(4), **target)]
    scores = scorer.score(group)
    assert scores.delta["g0"] == close(1.0)
    assert scores.utility[1] == close(-1.0 * 0.3 * math.tanh(1.0 / 0.3))
    before = scorer.state_dict()
    scorer.commit(scores)
    assert (scorer.ema, scorer.counts) == (before["ema"], before["counts"])


def test_groups_are_separate():
    other = [right(group_id="g1", sample_id="s1", zoomed=True), right(group_id="g1", sample_id="s1")]
    scores = UCGRPO().score([*helped(), *other])
    assert scores.delta == {"g0": close(1.2), "g1": close(0.0)}


# --- EMA ----------------------------------------------------------------------------------------------------


def warm_scorer(value: float, count: int = 8, **fields: object) -> UCGRPO:
    scorer = UCGRPO(UCGRPOConfig(**fields))
    scorer.ema["happiness"], scorer.counts["happiness"] = value, count
    return scorer


def test_lambdas_are_one_until_enough_deltas():
    scorer = warm_scorer(0.5, count=7)
    assert (scorer.lambda_miss("happiness"), scorer.lambda_over("happiness")) == (1.0, 1.0)


def test_lambdas_at_a_known_ema():
    scorer = warm_scorer(0.5)
    # k U = 4 * 0.5 = 2
    assert scorer.lambda_miss("happiness") == close(0.5 + 1 / (1 + math.exp(-2)))
    assert scorer.lambda_over("happiness") == close(0.5 + 1 / (1 + math.exp(2)))
    assert scorer.lambda_miss("fear") == 1.0
    assert scorer.lambda_miss(None) == 1.0


def test_both_lambdas_are_one_at_zero():
    scorer = warm_scorer(0.0)
    assert (scorer.lambda_miss("happiness"), scorer.lambda_over("happiness")) == (1.0, 1.0)


def test_active_lambdas_scale_the_penalties():
    cost = 0.3 * math.tanh(1.2 / 0.3)
    missed = warm_scorer(0.5).score(helped()).utility[1]
    overused = warm_scorer(-0.25).score(harmed()).utility[0]
    assert missed == close(-(0.5 + 1 / (1 + math.exp(-2))) * cost)
    assert overused == close(-(0.5 + 1 / (1 + math.exp(-1))) * cost)  # -k U = 1


def test_commit_moves_each_emotion_once_by_the_mean_of_all_deltas():
    scorer = UCGRPO()
    one = scorer.score(helped())  # delta 1.2
    even = [right(group_id="g1", zoomed=True), right(group_id="g1")]  # delta 0
    none = [right(group_id="g2"), wrong(group_id="g2")]  # undefined
    two = scorer.score([*even, *none])
    scorer.commit(one, two)
    assert scorer.ema["happiness"] == close(0.9 * 0 + 0.1 * (1.2 + 0.0) / 2)
    assert scorer.counts["happiness"] == 2
    assert scorer.ema["anger"] == 0.0
    scorer.commit(scorer.score(harmed()))
    assert scorer.ema["happiness"] == close(0.9 * 0.06 + 0.1 * -1.2)
    assert scorer.counts["happiness"] == 3


def test_this_steps_rewards_use_the_ema_before_the_step():
    scorer = warm_scorer(0.0)
    first = scorer.score(helped())
    scorer.commit(first)
    second = scorer.score(helped())
    assert first.utility[1] == close(-0.3 * math.tanh(4.0))
    # U = 0.1 * 1.2 = 0.12, k U = 0.48
    assert second.utility[1] == close(-(0.5 + 1 / (1 + math.exp(-0.48))) * 0.3 * math.tanh(4.0))


def test_score_is_pure():
    scorer = warm_scorer(0.5)
    before = json.dumps(scorer.state_dict())
    first, second = scorer.score(helped()), scorer.score(helped())
    assert first.to_dict() == second.to_dict()
    assert json.dumps(scorer.state_dict()) == before


def test_the_same_scores_cannot_be_committed_twice():
    scorer = UCGRPO()
    scores = scorer.score(helped())
    scorer.commit(scores)
    with pytest.raises(RewardError, match="commit each scores once") as caught:
        scorer.commit(scores)
    assert "\n" not in str(caught.value)
    assert scorer.counts["happiness"] == 1


def test_a_group_in_two_scores_of_one_commit_is_refused():
    scorer = UCGRPO()
    with pytest.raises(RewardError, match="group 'g0' occurs twice"):
        scorer.commit(scorer.score(helped()), scorer.score(harmed()))
    assert (scorer.commits, scorer.counts["happiness"]) == (0, 0)


def test_an_empty_commit_is_refused():
    with pytest.raises(RewardError, match="needs the scores"):
        UCGRPO().commit()


def test_state_survives_json():
    scorer = UCGRPO()
    for _ in range(9):
        scorer.commit(scorer.score(helped()))
    copy = UCGRPO()
    copy.load_state_dict(json.loads(json.dumps(scorer.state_dict())))
    assert copy.state_dict() == scorer.state_dict()
    assert copy.lambda_miss("happiness") == scorer.lambda_miss("happiness") > 1
    assert copy.score(helped()).to_dict() == scorer.score(helped()).to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"commits": -1}, "commits"),
        ({"ema": {"happiness": 0.0}}, "ema of the scorer state"),
        ({"counts": None}, "counts of the scorer state"),
        ({"ema": dict.fromkeys(facs.EMOTIONS, math.nan)}, "ema of neutral must be a finite number"),
        ({"counts": dict.fromkeys(facs.EMOTIONS, 1.5)}, "counts of neutral must be a count"),
    ],
)
def test_malformed_state_is_refused_in_one_line(change, message):
    scorer = UCGRPO()
    scorer.commit(scorer.score(helped()))
    before = scorer.state_dict()
    with pytest.raises(RewardError, match=message) as caught:
        scorer.load_state_dict({**before, **change})
    assert "\n" not in str(caught.value)
    assert scorer.state_dict() == before


def test_state_that_is_no_mapping_is_refused():
    with pytest.raises(RewardError, match="must be a mapping"):
        UCGRPO().load_state_dict([1])


def test_changing_a_saved_state_does_not_change_the_scorer():
    scorer = UCGRPO()
    scorer.state_dict()["ema"]["fear"] = 3.0
    assert scorer.ema["fear"] == 0.0


# --- advantages and the gate --------------------------------------------------------------------------------


def test_advantage_is_standardised_within_the_group():
    # equal texts, tools and zooming: totals 1 + 0.05 + 0.1 and -0.2 + 0.05 - 0.1
    scores = UCGRPO().score([right(), wrong()])
    high, low = 1.15, -0.25
    mean = (high + low) / 2
    std = math.sqrt((high - mean) ** 2 + (low - mean) ** 2)  # ddof 1: divided by n - 1 = 1
    assert scores.total.tolist() == [close(high), close(low)]
    assert scores.advantage.tolist() == [
        close((high - mean) / (std + 1e-6)),
        close((low - mean) / (std + 1e-6)),
    ]


def test_advantage_options():
    group = [right(), wrong()]
    plain = UCGRPO(UCGRPOConfig(normalize_std=False)).score(group)
    assert plain.advantage.tolist() == [close(0.7), close(-0.7)]
    population = UCGRPO(UCGRPOConfig(std_ddof=0)).score(group)
    assert population.advantage[0] == close(0.7 / (0.7 + 1e-6))


def test_zero_spread_and_single_rollout_give_exact_zeros():
    assert UCGRPO().score([right(), right(), right()]).advantage.tolist() == [0.0, 0.0, 0.0]
    assert UCGRPO().score([right()]).advantage.tolist() == [0.0]


def all_wrong() -> list[Rollout]:
    return [wrong(), wrong(tool_calls=broken("parse_error")), answered(None, truncated=True)]


def test_all_wrong_group_without_gate_gets_advantages_from_shaping_alone():
    scores = UCGRPO().score(all_wrong())
    assert len({round(value, 9) for value in scores.task}) == 1
    assert scores.structure.tolist() == [0.05, close(-0.1), 0.0]
    assert scores.advantage[0] > 0 > scores.advantage[1]
    assert not scores.gated.any()


def test_all_wrong_group_with_gate_keeps_the_task_term_alone():
    scores = UCGRPO(UCGRPOConfig(outcome_gate=True)).score([*all_wrong(), right(group_id="g1")])
    assert scores.gated.tolist() == [True, True, True, False]
    for name in ("structure", "utility", "quality"):
        assert getattr(scores, name)[:3].tolist() == [0.0, 0.0, 0.0]
    assert scores.total[:3].tolist() == [-0.2, -0.2, -0.2]
    assert scores.advantage.tolist() == [0.0] * 4
    assert scores.total[3] == close(1.15)


def test_gate_leaves_mixed_and_unlabelled_groups_alone():
    gate = UCGRPO(UCGRPOConfig(outcome_gate=True))
    assert not gate.score([right(), wrong()]).gated.any()
    assert not gate.score([right(emotion=None)]).gated.any()


# --- variants and configuration -----------------------------------------------------------------------------


def variant_scores(name: str, group: list[Rollout]) -> Scores:
    return UCGRPO(UCGRPOConfig.variant(name)).score(group)


def with_aus(group: list[Rollout]) -> list[Rollout]:
    """The same group with target {12} and the prediction {6, 12}: F1 2/3."""
    return [Rollout.from_dict({**one.to_dict(), "aus": [12], "predicted_aus": [6, 12]}) for one in group]


def test_emotion_only_variant():
    scores = variant_scores("emotion_only", with_aus(helped()))
    assert scores.task.tolist() == [1.0, -0.2, -0.2]
    assert scores.utility.tolist() == [0.1, -0.1, -0.1]


def test_au_grounded_variant():
    scores = variant_scores("au_grounded", with_aus(helped()))
    assert scores.task.tolist() == [close(0.6 + 0.4 * 2 / 3), *[close(-0.2 + 0.2 * 2 / 3)] * 2]
    assert scores.utility.tolist() == [0.1, -0.1, -0.1]


def test_zoom_biased_variant_has_no_fallback():
    scores = variant_scores("zoom_biased", with_aus(harmed()))
    assert scores.task[1] == close(0.6 + 0.4 * 2 / 3)
    assert scores.utility.tolist() == [0.1, -0.1, -0.1]
    assert variant_scores("zoom_biased", [right(), right(detection="failed")]).utility.tolist() == [
        -0.1,
        -0.1,
    ]


def test_no_ema_variant_keeps_the_lambdas_at_one():
    scorer = UCGRPO(UCGRPOConfig.variant("no_ema"))
    scorer.ema["happiness"], scorer.counts["happiness"] = 0.5, 100
    assert (scorer.lambda_miss("happiness"), scorer.lambda_over("happiness")) == (1.0, 1.0)
    assert scorer.score(helped()).utility[1] == close(-0.3 * math.tanh(4.0))


def test_full_variant_is_the_default_and_takes_overrides():
    assert UCGRPOConfig.variant("full") == UCGRPOConfig()
    assert UCGRPOConfig.variant("no_ema", r=0.2) == UCGRPOConfig(use_ema=False, r=0.2)


def test_unknown_variant_or_field_is_one_line():
    with pytest.raises(RewardError, match="unknown variant 'best': use one of emotion_only, au_grounded"):
        UCGRPOConfig.variant("best")
    with pytest.raises(RewardError, match="unknown field 'delta'"):
        UCGRPOConfig.variant("full", delta=1)


@pytest.mark.parametrize("name", VARIANTS)
def test_config_survives_json(name):
    config = UCGRPOConfig.variant(name, gamma=0.3)
    assert UCGRPOConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 1.5), ("alpha", math.nan), ("gamma", 0.0), ("gamma", -1), ("gamma", math.inf), ("r", -0.1),
        ("margin", -0.1), ("phi_scale", 0), ("phi_width", 0), ("ema_decay", 1.0), ("ema_decay", -0.1),
        ("ema_gain", 0), ("ema_span", 1.1), ("ema_min_count", 1.5), ("ema_min_count", -1), ("fallback", -1),
        ("wrong_au_share", 2), ("structure_violation", 0.1), ("structure_floor", 0.1),
        ("structure_unlooked", 1), ("structure_clean", -0.1), ("quality_floor", 0.1), ("quality_format", -1),
        ("quality_script", "latin"), ("quality_script", 3), ("std_ddof", 2), ("std_eps", 0), ("dense_au", 1),
        ("utility", "off"), ("zoom_cost", -0.1), ("use_ema", None), ("outcome_gate", "no"), ("r", "0.1"), ("r", True),
    ],
)  # fmt: skip
def test_bad_fields_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"^{field} must be") as caught:
        UCGRPOConfig(**{field: value})
    assert isinstance(caught.value, ActFERError)
    assert "\n" not in str(caught.value)


def test_alpha_and_beta_must_sum_to_one():
    with pytest.raises(ValueError, match=r"alpha \+ beta must be 1"):
        UCGRPOConfig(alpha=0.7)
    assert UCGRPOConfig(alpha=0.7, beta=0.3).alpha == 0.7


# --- quality ------------------------------------------------------------------------------------------------

CALL = '<tool_call>{"name": "zoom_in", "arguments": {"regions": ["nose"]}}</tool_call>'


def quality(*texts: str, config: UCGRPOConfig | None = None) -> float:
    return term("quality", right(texts=texts), config=config)


def test_no_text_and_sound_text_cost_nothing():
    assert quality() == 0.0
    assert quality(f"<think>The brows are relaxed.</think>{CALL}", "<answer>happiness</answer>") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "<think>open",
        "closed</think>",
        "<think><answer>x</think></answer>",
        "<think><think></think>",
    ],
)
def test_severe_format_errors_cost_by_the_share_of_turns(text):
    assert quality(text) == close(-0.1)
    assert quality(text, "a sound turn") == close(-0.1 / 2)


def test_repetition_counts_repeated_4_grams():
    # 8 words, 5 windows, of which "a b c d" occurs twice: 1 / 5
    assert repeated_share(["a b c d A b c D"]) == close(1 / 5)
    assert quality("a b c d a b c d") == close(-0.2 / 5)
    assert repeated_share(["a b c", "a b c", "ha ha ha"]) == 0.0


def test_repeated_tool_calls_are_not_repetition():
    assert quality(f"{CALL}", f"{CALL} {CALL}") == 0.0


def test_language_mixing_counts_letters_outside_the_script():
    assert foreign_share(["ab \u5634\u89d2 12!"]) == close(2 / 4)
    assert quality("smil \u5634\u89d2\u4e0a\u626c") == close(-0.2 * 4 / 8)
    chinese = UCGRPOConfig(quality_script="CJK")
    assert quality("\u5634\u89d2\u4e0a\u626c", config=chinese) == 0.0
    assert repeated_share(["\u5634\u89d2\u4e0a\u626c" * 2]) == close(1 / 5)


def test_quality_is_clipped_at_the_floor():
    assert quality("<think>" + "\u5634\u89d2\u4e0a\u626c " * 50) == -0.2


def test_any_unicode_is_accepted_in_linear_time():
    strange = "\ud800\x00\U0001f600\u202e\u0301" * 2000
    assert -0.2 <= quality(strange) <= 0
    assert measure_quality(["<tool_call>" * 100_000]).format_errors == 1.0
    assert measure_quality(["</think>" * 100_000, "x" * 500_000]).format_errors == 0.5


# --- refusals and records -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emotion": "happy"}, "unknown target emotion 'happy'"),
        ({"emotion": math.nan}, "unknown target emotion nan"),
        ({"predicted_emotion": "joy"}, "unknown predicted emotion 'joy'"),
        ({"predicted_emotion": math.inf}, "unknown predicted emotion inf"),
        ({"aus": frozenset({math.nan})}, "Action Unit nan"),
        ({"predicted_aus": frozenset({"AU12"})}, "Action Unit 'AU12'"),
        ({"detection": "maybe"}, "unknown detection 'maybe'"),
    ],
)
def test_malformed_rollouts_are_refused_by_name(change, message):
    with pytest.raises(DataError, match=message) as caught:
        UCGRPO().score([right(**change)])
    assert "sample 's0', group 'g0'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"sample_id": "s9"}, {"emotion": "fear"}, {"emotion": None}])
def test_a_group_that_mixes_queries_is_refused(change):
    with pytest.raises(DataError, match=r"group 'g0' mixes (sample_id|emotion)"):
        UCGRPO().score([right(), right(**change)])


def test_no_rollouts_give_empty_scores():
    scorer = UCGRPO()
    scores = scorer.score([])
    assert len(scores) == 0
    assert scores.total.shape == scores.advantage.shape == (0,)
    scorer.commit(scores)


def test_scores_are_json_and_read_only():
    scores = UCGRPO().score(iter(helped()))
    data = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert data["parts"]["f1"] == [None, None, None]
    assert data["zoomed"] == [True, False, False]
    with pytest.raises(ValueError, match="read-only"):
        scores.total[0] = 1.0


def test_terms_are_python_floats_that_add_up():
    terms = UCGRPO().score(helped()).terms(1)
    assert tuple(terms) == TERMS
    assert all(type(value) is float for value in terms.values())
    assert terms["task"] + terms["structure"] + terms["utility"] + terms["quality"] == terms["total"]


# --- explanations -------------------------------------------------------------------------------------------


def explain(group: list[Rollout], i: int = 0, **fields: object) -> str:
    scorer = UCGRPO(UCGRPOConfig(**fields))
    return "\n".join(scorer.explain(group, scorer.score(group), i))


def test_explanation_of_a_right_answer():
    text = explain([right(aus=aus(12), predicted_aus=aus(6, 12))])
    assert "task: right emotion: 0.60 + 0.40 x F1 0.67 = 0.87" in text
    assert "structure: a clean, legal trajectory: +0.05" in text
    assert "utility: no zoom contrast in the group, fallback for a right emotion: +0.10" in text
    assert "quality: no text to judge: 0.00" in text
    assert text.endswith("total: +0.87 +0.05 +0.10 +0.00 = 1.02; advantage in its group +0.00")


def test_explanation_of_penalties():
    group = [
        *helped()[:2],
        wrong(detection="not_called", tool_calls=broken(*["parse_error"] * 6), texts=("",)),
    ]
    text = explain(group, 2)
    assert "task: wrong emotion (anger, target happiness), no AU target in use: -gamma = -0.20" in text
    assert "6 x -0.10 for parse_error" in text
    assert "-0.10 for an answer without detect_align, not below -0.50 = -0.50" in text
    assert "delta +1.20 > 0.05 but it did not zoom: -lambda_miss 1.00 x phi(1.20) 0.30 = -0.30" in text
    assert "quality: 100% of turns with format errors" in text


@pytest.mark.parametrize(
    ("group", "i", "fields", "expected"),
    [
        (harmed(), 0, {}, "delta -1.20 < -0.05 but it zoomed: -lambda_over 1.00"),
        (harmed(), 1, {}, "delta -1.20 < -0.05 and it did not zoom: +0.10"),
        ([right(zoomed=True), right()], 0, {}, "delta +0.00 within +-0.05"),
        (helped(), 0, {"utility": "zoom"}, "it zoomed, and this variant rewards zooming alone: +0.10"),
        (
            helped(),
            1,
            {"utility": "fallback"},
            "does not contrast zooming, fallback for a wrong",
        ),
        ([right(detection="failed")], 0, {}, "face detection failed, fallback for a right emotion"),
        ([right(emotion=None)], 0, {}, "no emotion target for the fallback: +0.00"),
        ([answered(None, truncated=True)], 0, {}, "task: no answer: -gamma = -0.20"),
        (
            [answered(None, truncated=True)],
            0,
            {},
            "no violation, but no finished answer either = 0.00",
        ),
        (all_wrong(), 0, {"outcome_gate": True}, "gate: no rollout of the group has the right emotion"),
    ],
)
def test_explanation_of_each_rule(group, i, fields, expected):
    assert expected in explain(group, i, **fields)


def test_explain_refuses_other_rollouts():
    scorer = UCGRPO()
    scores = scorer.score(helped())
    with pytest.raises(RewardError, match="the rollouts that were scored"):
        scorer.explain(helped()[:2], scores, 0)
    with pytest.raises(RewardError, match="there is no rollout 3"):
        scorer.explain(helped(), scores, 3)


def test_a_zoom_costs_what_is_set_and_only_those_who_zoomed():
    group = [right(zoomed=True), right(zoomed=False)]
    plain, costly = (UCGRPO(UCGRPOConfig(zoom_cost=cost)).score(group) for cost in (0.0, 0.1))
    assert (plain.total - costly.total).tolist() == pytest.approx([0.1, 0.0], abs=1e-12)
    assert "less 0.10 for zooming" in "\n".join(UCGRPO(UCGRPOConfig(zoom_cost=0.1)).explain(group, costly, 0))


def test_task_only_is_the_task_reward_alone():
    group = [wrong(zoomed=True), right(zoomed=False)]
    scorer = UCGRPO(UCGRPOConfig.variant("task_only"))
    scores = scorer.score(group)
    assert scores.total.tolist() == scores.task.tolist()
    assert "none in this variant" in "\n".join(scorer.explain(group, scores, 0))


def test_reasoning_may_speak_of_tags():
    assert quality('<think>I might write <answer> later</think><answer>{"emotion": "fear", "aus": []}</answer>') == 0


def test_a_policy_that_zooms_wherever_it_can_counts_as_one_that_always_zooms():
    rows = [right(zoomed=True), right(zoomed=True, member=1), wrong(detection="failed", member=2)]
    figures = collapse_figures(rows, UCGRPO().score(rows))
    assert figures == {"flat_groups": 0.0, "wrong_groups": 0.0, "zoom": 1.0}
    assert [line.split(":")[0] for line in collapse_warnings(figures)] == ["every rollout zoomed"]


def test_scores_of_two_batches_are_those_of_both_at_once():
    first = [right(), wrong(zoomed=True)]
    second = [wrong(group_id="g1"), right(group_id="g1", zoomed=True)]
    scorer = UCGRPO()
    joined = Scores.joined([scorer.score(first), scorer.score(second)])
    assert joined.to_dict() == scorer.score([*first, *second]).to_dict()
