"""What a policy update says of itself: golden numbers by hand, and the warnings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from actfer_env.rewards import UCGRPO
from actfer_env.rewards.guards import PROBS_DIFF, collapse_figures, collapse_warnings, picture_mismatch
from actfer_env.rollout import Rollout, ToolCall
from actfer_env.verl_plugin.scoring import StepScorer, engine_figures

SOUND = {"flat_groups": 0.25, "wrong_groups": 0.5, "zoom": 0.5}


def rollout(group: str, member: int, predicted: str, zoomed: bool) -> Rollout:
    calls = (ToolCall("detect_align"), *([ToolCall("zoom_in")] if zoomed else []))
    return Rollout("s", group, "fear", None, predicted, None, calls, "ok", member=member)


def test_collapse_figures_by_hand() -> None:
    rows = [
        rollout("flat and right", 0, "fear", False), rollout("flat and right", 1, "fear", False),
        rollout("mixed", 0, "fear", True), rollout("mixed", 1, "anger", False),
        rollout("flat and wrong", 0, "anger", False), rollout("flat and wrong", 1, "anger", False),
        rollout("wrong, one zoomed", 0, "anger", True), rollout("wrong, one zoomed", 1, "disgust", False),
    ]  # fmt: skip
    figures = collapse_figures(rows, UCGRPO().score(rows))
    # The contrast of the last group is zero, so that both of its rollouts earn the same: it is flat, too.
    assert figures == {"flat_groups": 0.75, "wrong_groups": 0.5, "zoom": 0.25}
    assert collapse_warnings(figures) == []


@pytest.mark.parametrize(("zoomed", "word"), [(True, "every rollout zoomed"), (False, "no rollout zoomed")])
def test_a_policy_that_zooms_always_or_never_is_warned_of(zoomed: bool, word: str) -> None:
    rows = [rollout("g", member, "fear" if member else "anger", zoomed) for member in range(4)]
    lines = collapse_warnings(collapse_figures(rows, UCGRPO().score(rows)))
    assert len(lines) == 1 and lines[0].startswith(word)


def test_groups_without_spread_and_without_a_right_answer_are_warned_of() -> None:
    rows = [rollout(group, member, "anger", member == 0) for group in "ab" for member in range(2)]
    figures = collapse_figures(rows, UCGRPO().score(rows))
    assert figures["flat_groups"] == figures["wrong_groups"] == 1.0
    assert [line.split(":")[0] for line in collapse_warnings(figures)] == [
        "no group has rewards that differ", "every answer is wrong",
    ]  # fmt: skip
    assert np.isfinite(list(figures.values())).all()


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_flat_where_no_rollout_has_an_advantage(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers = ("fear", "anger")
    rows = [rollout(f"g{group}", member, answers[rng.integers(2)], bool(rng.integers(2)))
            for group in range(40) for member in range(rng.integers(1, 4))]  # fmt: skip
    scores = UCGRPO().score(rows)
    by_group: dict[str, list[int]] = {}
    for row, one in enumerate(rows):
        by_group.setdefault(one.group_id, []).append(row)
    idle = [not scores.advantage[members].any() for members in by_group.values()]
    wrong = [all(rows[row].predicted_emotion != "fear" for row in members) for members in by_group.values()]
    figures = collapse_figures(rows, scores)
    assert (figures["flat_groups"], figures["wrong_groups"]) == (np.mean(idle), np.mean(wrong))
    assert 0 < figures["flat_groups"] < 1 and 0 < figures["wrong_groups"] < 1


def test_an_engine_that_disagrees_with_the_trainer_is_warned_of() -> None:
    assert collapse_warnings(SOUND | {"rollout_probs_diff": PROBS_DIFF}) == []
    (line,) = collapse_warnings(SOUND | {"rollout_probs_diff": 2 * PROBS_DIFF})
    assert line.startswith("engine and trainer differ by 0.02") and "rollout_is=token" in line


def test_lost_sessions_are_warned_of() -> None:
    (line,) = collapse_warnings(SOUND | {"sessions_failed": 0.125})
    assert line.startswith("12.5% of the rollouts failed")


def test_verls_own_metrics_are_read_where_they_are_valid() -> None:
    own = {"ucgrpo/sessions_failed": 2.0}
    assert engine_figures(own, 16) == {"sessions_failed": 0.125}
    diff = {"training/rollout_probs_diff_mean": 0.5, "training/rollout_probs_diff_valid": 1}
    assert engine_figures(own | diff, 16) == {"sessions_failed": 0.125, "rollout_probs_diff": 0.5}
    nothing = {"training/rollout_probs_diff_mean": float("nan"), "training/rollout_probs_diff_valid": 0}
    assert "rollout_probs_diff" not in engine_figures(own | nothing, 16)


def test_pictures_that_do_not_fit_their_text_are_named_by_their_sample() -> None:
    assert picture_mismatch("s", 12, 12, 3) == ""
    line = "sample 's' has 13 picture placeholders for 12 features of 3 pictures"
    assert picture_mismatch("s", 13, 12, 3) == line


def test_groups_without_an_emotion_are_not_called_wrong() -> None:
    units = {"emotion": None, "aus": frozenset({12})}
    rows = [replace(rollout("g", member, "fear", bool(member)), **units) for member in range(2)]
    assert collapse_figures(rows, UCGRPO().score(rows))["wrong_groups"] == 0.0
    assert StepScorer().metrics(rows, UCGRPO().score(rows))["ucgrpo/lost_share"] == 0.0
