"""The second pass of UC-GRPO over the rows of a verl step, and what it leaves in checkpoints; needs no verl."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actfer_env.errors import DataError
from actfer_env.rewards import UCGRPO
from actfer_env.rewards.config import RewardError
from actfer_env.rollout import Rollout, ToolCall
from actfer_env.verl_plugin.scoring import StepScorer, compute_score, reward_config, write_step

ZOOM = (ToolCall("detect_align"), ToolCall("zoom_in"))


def rollout(answer: str | None, zoomed: bool = False, detection: str = "ok") -> Rollout:
    calls = ZOOM if zoomed else ZOOM[:1]
    return Rollout("s", "-", "fear", None, answer, None, calls, detection, truncated=answer is None, turns=2)  # type: ignore[arg-type]


def fields(*rollouts: Rollout) -> list[dict[str, str]]:
    return [{"rollout": json.dumps(one.to_dict())} for one in rollouts]


def test_a_step_scores_as_the_library_does() -> None:
    group = [rollout("fear", True), rollout("anger"), rollout("fear", True), rollout("anger")]
    kept, rollouts, scores = StepScorer().score(["u"] * 4, fields(*group), [False] * 4)
    alone = UCGRPO().score([replace(one, group_id="u") for one in group])
    assert kept == [0, 1, 2, 3] and [one.group_id for one in rollouts] == ["u"] * 4
    np.testing.assert_array_equal(scores.total, alone.total)
    np.testing.assert_array_equal(scores.advantage, alone.advantage)
    # fear right 1.0, wrong -0.2: contrast 1.2; utility +0.1 for the zooms, -0.3 tanh(1.2 / 0.3) without; bonus 0.05
    missed = -0.3 * np.tanh(4.0)
    np.testing.assert_allclose(scores.total, [1.15, -0.15 + missed, 1.15, -0.15 + missed])
    assert scores.delta["u"] == pytest.approx(1.2)


def test_padding_and_failed_sessions_do_not_count() -> None:
    group = [rollout("fear", True), rollout("anger"), rollout("fear", True), rollout("fear", True)]
    with_padding = StepScorer()
    kept, rollouts, _ = with_padding.score(["u", "u", "v", "u"], fields(*group), [False, False, False, True])
    assert kept == [0, 1, 2] and len(rollouts) == 3
    without = StepScorer()
    without.score(["u", "u", "v"], fields(*group[:3]), [False] * 3)
    assert with_padding.scorer.state_dict() == without.scorer.state_dict()
    with pytest.raises(DataError, match="every session failed"):
        StepScorer().score(["u"], fields(group[0]), [True])


def test_one_alone_and_all_alike_have_no_advantage() -> None:
    one = rollout("fear", True)
    _, _, scores = StepScorer().score(["u", "v", "v"], fields(one, one, one), [False] * 3)
    assert scores.advantage.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("group", "utility"),
    [
        ([rollout("fear", True), rollout("anger", True)], [0.1, -0.1]),  # all zoomed: the fallback
        ([rollout("anger", True), rollout("anger")], [0.1, 0.1]),  # all wrong: no contrast worth speaking of
        ([rollout("fear", True), rollout("anger", detection="failed")], [0.1, -0.1]),  # one detection failed
    ],
)  # fmt: skip
def test_groups_without_contrast(group: list[Rollout], utility: list[float]) -> None:
    _, _, scores = StepScorer().score(["u", "u"], fields(*group), [False] * 2)
    np.testing.assert_allclose(scores.utility, utility)


def test_the_state_survives_a_checkpoint(tmp_path: Path) -> None:
    first, second = StepScorer(), StepScorer()
    group = fields(rollout("fear", True), rollout("anger"))
    first.score(["u", "u"], group, [False] * 2)
    first.save(tmp_path / "global_step_1")
    second.load(tmp_path / "global_step_1")
    assert second.scorer.state_dict() == first.scorer.state_dict()
    assert second.scorer.ema["fear"] == pytest.approx(0.1 * 1.2)
    with pytest.raises(DataError, match="cannot resume"):
        second.load(tmp_path / "global_step_2")


def test_metrics_tell_what_a_run_needs() -> None:
    scorer = StepScorer()
    group = [rollout("fear", True), rollout("anger"), rollout("anger"), rollout(None)]
    _, rollouts, scores = scorer.score(["u", "u", "v", "v"], fields(*group), [False] * 4)
    found = scorer.metrics(rollouts, scores)
    assert (found["ucgrpo/accuracy"], found["ucgrpo/zoom"], found["ucgrpo/zoom/fear"]) == (0.25, 0.25, 0.25)
    assert (found["ucgrpo/contrasts"], found["ucgrpo/lost_share"]) == (1.0, 0.5)
    assert found["ucgrpo/ema/fear"] == pytest.approx(0.12)


def test_the_first_pass_is_the_task_reward() -> None:
    (row,) = fields(rollout("fear", True))
    assert compute_score("actfer", "", "", row) == {"score": 1.0, "acc": 1.0, "zoomed": 1.0, "violations": 0.0}
    with pytest.raises(DataError, match="default_agent_loop"):
        compute_score("actfer", "", "", {})


def test_wrong_settings_give_one_line() -> None:
    assert reward_config(None) == reward_config({"variant": "full"})
    with pytest.raises(RewardError, match=r"ucgrpo\.variant"):
        reward_config({"variant": "best"})
    with pytest.raises(RewardError, match="unknown field"):
        reward_config({"alhpa": 1.0})


def test_a_step_is_written_for_audit(tmp_path: Path) -> None:
    write_step(tmp_path, 3, [rollout("fear")], {"total": [1.0]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000003.json", "step_000003.jsonl"]
