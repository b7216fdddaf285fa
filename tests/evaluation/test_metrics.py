"""Golden numbers of the summary, worked out by hand in the comments."""

import json

import pytest

from actfer_env.evaluation.metrics import summarize
from actfer_env.rewards import TERMS, UCGRPO
from actfer_env.rollout import Rollout, ToolCall

ZOOM = ToolCall("zoom_in", {"regions": ["nose"]}, turn=1, boxes=((0.2, 0.2, 0.4, 0.4),))
BAD_ZOOM = ToolCall("zoom_in", violation="illegal_order", result={"error": "no"})


def rollout(emotion, answer, aus=None, answer_aus=None, calls=(), detection="ok", turns=2, **fields):
    group = f"g{id(object())}-{emotion}-{answer}-{turns}-{len(calls)}"
    return Rollout("s", fields.pop("group", group), emotion, units(aus), answer, units(answer_aus), calls, detection,
                   turns=turns, **fields)  # fmt: skip


def units(aus):
    return None if aus is None else frozenset(aus)


FIVE = [
    rollout("happiness", "happiness", {6, 12}, {6, 12}, (ZOOM,), turns=3, group="a"),
    rollout("happiness", "fear", {6, 12}, {12, 4}, (BAD_ZOOM, BAD_ZOOM), group="b"),
    rollout("sadness", "sadness", None, {1}, detection="failed", group="c"),
    rollout("sadness", None, {1}, None, (BAD_ZOOM,), "not_called", 6, truncated=True, group="d"),
    rollout(None, "anger", None, None, (ZOOM,), "prealigned", 1, group="e"),
]


def test_emotion_numbers():
    summary = summarize(FIVE)
    assert (summary.n, summary.labelled, summary.answered) == (5, 4, 4)
    # Two of four labelled are right; the one without an answer counts as wrong.
    assert summary.accuracy == pytest.approx(0.5)
    # happiness: 1 hit of 2 targets and 1 answer, 2/3; sadness: the same; fear is no target and has no F1 of its own.
    assert summary.emotion_f1 == pytest.approx({"happiness": 2 / 3, "sadness": 2 / 3})
    assert summary.macro_f1 == pytest.approx(2 / 3)


def test_au_numbers():
    summary = summarize(FIVE)
    # Three with targets. AU1: 0 of (1 + 0); AU4: 0 of (0 + 1); AU6: 2*1/(2+1); AU12: 2*2/(2+2).
    assert summary.au_f1 == pytest.approx({"AU1": 0, "AU4": 0, "AU6": 2 / 3, "AU12": 1})
    assert (summary.au_labelled, summary.au_macro_f1) == (3, pytest.approx(5 / 12))
    # Per episode: 1, 2*1/(2+2), and 0 for no answer.
    assert summary.au_instance_f1 == pytest.approx(0.5)
    assert not summary.aus_derived


def test_au_set_restricts_both_sides():
    summary = summarize(FIVE, au_set=(12, 25))
    # AU25 occurs nowhere and has no F1; the episode without an answer stays 0.
    assert summary.au_f1 == {"AU12": 1.0}
    assert summary.au_instance_f1 == pytest.approx(2 / 3)


def test_no_answer_is_wrong_even_where_no_unit_is_active():
    summary = summarize([rollout("neutral", None, (), None), rollout("neutral", "neutral", (), ())])
    assert summary.au_instance_f1 == pytest.approx(0.5)
    assert summary.au_macro_f1 is None


def test_behaviour_numbers():
    summary = summarize(FIVE)
    assert summary.zoom_ratio == pytest.approx(2 / 5)
    assert (summary.with_face, summary.zoom_ratio_with_face) == (3, pytest.approx(2 / 3))
    assert summary.violations == {"illegal_order": 3}
    assert summary.violation_rates == pytest.approx({"illegal_order": 2 / 5})
    assert summary.violation_rate == pytest.approx(2 / 5)
    assert summary.detections == {"ok": 2, "failed": 1, "not_called": 1, "prealigned": 1}
    assert (summary.truncated, summary.mean_turns) == (pytest.approx(1 / 5), pytest.approx(14 / 5))


def test_terms_are_means_of_the_scores():
    scores = UCGRPO().score(FIVE)
    summary = summarize(FIVE, scores)
    assert tuple(summary.terms) == TERMS
    # By hand: 1, -0.2 + 0.5*0.4*0.5, 1 (no AU target), -0.2, 0.
    assert summary.terms["task"] == pytest.approx((1 - 0.1 + 1 - 0.2 + 0) / 5)
    assert summarize(FIVE).terms == {}
    with pytest.raises(ValueError, match="5 scores for 1 rollouts"):
        summarize(FIVE[:1], scores)


def test_derived_units_are_marked():
    assert summarize([rollout("fear", "fear", {1}, {1}, meta={"aus_derived": True})]).aus_derived


@pytest.mark.parametrize("rollouts", [[], FIVE[4:], FIVE], ids=["empty", "unlabelled", "mixed"])
def test_json_has_none_but_never_nan(rollouts):
    scores = UCGRPO().score(rollouts)
    data = json.loads(json.dumps(summarize(rollouts, scores).to_dict(), allow_nan=False))
    if len(rollouts) < 5:
        assert data["accuracy"] is data["macro_f1"] is data["au_macro_f1"] is data["au_instance_f1"] is None
