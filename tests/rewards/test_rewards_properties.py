"""Properties of UC-GRPO's scores over random groups."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest
from helpers import ZOOM_CALL, broken
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env import facs
from actfer_env.rewards import UCGRPO, VARIANTS, Scores, UCGRPOConfig, au_f1
from actfer_env.rewards.quality import quality_reward
from actfer_env.rollout import VIOLATIONS, Rollout

SETTINGS = settings(deadline=None, max_examples=40)

EMOTIONS = st.sampled_from(facs.EMOTIONS)
AUS = st.frozensets(st.sampled_from(facs.CORE_AUS), max_size=5)
TEXTS = st.lists(st.text(max_size=40) | st.sampled_from(["<think>a b c d a b c d</think>", "<answer>"]), max_size=3)
DETECTIONS = st.sampled_from(["ok", "failed", "not_called", "prealigned"])
CALLS = st.tuples(st.booleans(), st.lists(st.sampled_from(VIOLATIONS), max_size=7))


@st.composite
def groups(draw: st.DrawFn, group_id: str = "g") -> list[Rollout]:
    emotion, target = draw(st.none() | EMOTIONS), draw(st.none() | AUS)
    members = []
    for index in range(draw(st.integers(1, 6))):
        zoomed, violations = draw(CALLS)
        predicted = draw(st.none() | EMOTIONS | st.just(emotion))
        members.append(
            Rollout(
                "sample", group_id, emotion, target, predicted, draw(st.none() | AUS),
                ((ZOOM_CALL,) if zoomed else ()) + broken(*violations), draw(DETECTIONS),
                truncated=predicted is None, texts=tuple(draw(TEXTS)), member=index,
            )
        )  # fmt: skip
    return members


@st.composite
def batches(draw: st.DrawFn) -> list[Rollout]:
    return [one for index in range(draw(st.integers(1, 4))) for one in draw(groups(f"g{index}"))]


@st.composite
def scorers(draw: st.DrawFn) -> UCGRPO:
    options = {"outcome_gate": draw(st.booleans()), "normalize_std": draw(st.booleans())}
    scorer = UCGRPO(UCGRPOConfig.variant(draw(st.sampled_from(list(VARIANTS))), **options))
    for emotion in facs.EMOTIONS:
        scorer.ema[emotion] = draw(st.floats(-1.2, 1.2))
        scorer.counts[emotion] = draw(st.integers(0, 20))
    return scorer


def by_group(scores: Scores) -> list[list[int]]:
    members = defaultdict(list)
    for index, group in enumerate(scores.group_ids):
        members[group].append(index)
    return list(members.values())


@SETTINGS
@given(scorers(), batches())
def test_every_term_keeps_its_bounds(scorer, rollouts):
    scores, config = scorer.score(rollouts), scorer.config
    largest = max(config.r, config.fallback, (1 + config.ema_span) * config.phi_scale)
    for name, low, high in (
        ("task", -config.gamma, 1.0),
        ("structure", config.structure_floor, config.structure_clean),
        ("utility", -largest, max(config.r, config.fallback)),
        ("quality", config.quality_floor, 0.0),
    ):
        values = getattr(scores, name)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert (values >= low - 1e-12).all()
        assert (values <= high + 1e-12).all()
    assert np.isfinite(scores.advantage).all()


@SETTINGS
@given(scorers(), batches())
def test_terms_sum_to_the_total(scorer, rollouts):
    scores = scorer.score(rollouts)
    for index in range(len(rollouts)):
        terms = scores.terms(index)
        assert terms["task"] + terms["structure"] + terms["utility"] + terms["quality"] == terms["total"]


@SETTINGS
@given(scorers(), batches(), st.data())
def test_order_does_not_matter(scorer, rollouts, data):
    order = data.draw(st.permutations(range(len(rollouts))))
    scores, shuffled = scorer.score(rollouts), scorer.score([rollouts[index] for index in order])
    for name in ("task", "structure", "utility", "quality", "total", "gated", "zoomed"):
        assert (getattr(shuffled, name) == getattr(scores, name)[order]).all()
    assert shuffled.advantage == pytest.approx(scores.advantage[order], abs=1e-9)
    assert dict(shuffled.delta) == dict(scores.delta)


@SETTINGS
@given(scorers(), batches())
def test_scoring_a_group_alone_gives_the_same(scorer, rollouts):
    scores = scorer.score(rollouts)
    for members in by_group(scores):
        alone = scorer.score([rollouts[index] for index in members])
        assert (alone.total == scores.total[members]).all()
        assert (alone.advantage == scores.advantage[members]).all()


@SETTINGS
@given(scorers(), batches())
def test_advantages_have_mean_zero_and_bounded_std(scorer, rollouts):
    scores = scorer.score(rollouts)
    for members in by_group(scores):
        values = scores.advantage[members]
        assert abs(values.mean()) < 1e-9
        if np.ptp(scores.total[members]) <= 1e-12:
            assert (values == 0.0).all()
        elif scorer.config.normalize_std:
            assert values.std(ddof=1) <= 1 + 1e-9


@SETTINGS
@given(scorers(), batches())
def test_score_is_pure_and_deterministic(scorer, rollouts):
    before = json.dumps(scorer.state_dict())
    assert scorer.score(rollouts).to_dict() == scorer.score(rollouts).to_dict()
    assert json.dumps(scorer.state_dict()) == before


@SETTINGS
@given(scorers(), batches())
def test_splitting_a_step_into_calls_moves_the_ema_alike(scorer, rollouts):
    whole, parts = UCGRPO(scorer.config), UCGRPO(scorer.config)
    whole.load_state_dict(scorer.state_dict())
    parts.load_state_dict(scorer.state_dict())
    scores = whole.score(rollouts)
    whole.commit(scores)
    parts.commit(*(parts.score([rollouts[i] for i in members]) for members in reversed(by_group(scores))))
    assert whole.state_dict() == parts.state_dict()


@SETTINGS
@given(scorers())
def test_lambdas_are_bounded_and_move_apart(scorer):
    for emotion in facs.EMOTIONS:
        miss, over = scorer.lambda_miss(emotion), scorer.lambda_over(emotion)
        assert 0.5 <= over <= 1.5
        assert miss + over == pytest.approx(2.0)
        assert (miss >= over) == (scorer.ema[emotion] >= 0) or miss == over


@SETTINGS
@given(scorers(), batches())
def test_scores_and_explanations_are_printable(scorer, rollouts):
    scores = scorer.score(rollouts)
    json.dumps(scores.to_dict(), allow_nan=False)
    for index in range(len(rollouts)):
        lines = scorer.explain(rollouts, scores, index)
        assert lines[0].startswith("task: ")
        assert lines[-1].startswith("total: ")
        assert "nan" not in "".join(lines)


@SETTINGS
@given(AUS, AUS)
def test_f1_is_symmetric_and_bounded(predicted, target):
    assert au_f1(predicted, target) == au_f1(target, predicted)
    assert 0.0 <= au_f1(predicted, target) <= 1.0
    assert (au_f1(predicted, target) == 1.0) == (predicted == target)


@SETTINGS
@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=4))
def test_quality_accepts_any_text(texts):
    assert -0.2 <= quality_reward(texts, UCGRPOConfig()) <= 0.0
