"""The second pass of UC-GRPO over the rows of a verl step, and what it leaves in checkpoints; needs no verl."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT

from actfer_env.errors import DataError
from actfer_env.rewards import UCGRPO, UCGRPOConfig
from actfer_env.rewards.config import RewardError
from actfer_env.rollout import Rollout, ToolCall
from actfer_env.verl_plugin import TRAINER
from actfer_env.verl_plugin.check import check_agent_loop, check_launch, split_options
from actfer_env.verl_plugin.scoring import (
    StepScorer,
    compute_score,
    cost_metrics,
    reward_config,
    spent_seconds,
    write_step,
    write_tokens,
)

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
    found = compute_score("actfer", "", "", row)
    assert found.pop("reward_seconds") >= 0
    assert found == {"score": 1.0, "acc": 1.0, "zoomed": 1.0, "violations": 0.0}
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
    write_tokens(tmp_path, 3, [{"responses": [1], "loss_mask": [1]}])
    assert json.loads((tmp_path / "step_000003.tokens.json").read_text()) == [{"responses": [1], "loss_mask": [1]}]


def test_costs_are_shares_of_the_step() -> None:
    rows = [{"tool_seconds": 0.25, "reward_extra_info": {"reward_seconds": 0.01}}, {"tool_seconds": 0.25}]
    tools, rewards = spent_seconds(rows)
    assert (tools, rewards) == (0.5, 0.01)
    found = cost_metrics({"step": 10.0, "gen": 5.0, "update_actor": 3.5, "save_checkpoint": 1.0}, tools, 0.5)
    assert [found[f"ucgrpo/cost/{name}_s"] for name in ("model", "tools", "rewards", "rest")] == [8.0, 0.5, 0.5, 1.0]
    assert found["ucgrpo/cost/tools_share"] == pytest.approx(0.05)
    assert sum(value for name, value in found.items() if name.endswith("share")) == pytest.approx(1.0)


def launch(**changes: Any) -> Any:
    """Return the part of verl's configuration that is checked, with changes such as ``algorithm__gamma=1``."""
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({
        "algorithm": {"adv_estimator": "grpo", "use_kl_in_reward": False, "filter_groups": {"enable": False}},
        "trainer": {"use_v1": True, "v1": {"trainer_mode": TRAINER}},
        "reward": {"custom_reward_function": {"path": "pkg://actfer_env.verl_plugin.scoring"}},
        "actor_rollout_ref": {"rollout": {"agent": {"agent_loop_config_path": None}}},
    })  # fmt: skip
    for name, value in changes.items():
        omegaconf.OmegaConf.update(config, name.replace("__", "."), value, force_add=True)
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ucgrpo__variant": "typo"}, r"unknown ucgrpo\.variant 'typo': use one of"),
        ({"ucgrpo__alhpa": 0.5}, "unknown field 'alhpa'"),
        ({"ucgrpo__gamma": -1.0}, "gamma must be a number above 0, got -1.0"),
        ({"ucgrpo__record_tokens": "often"}, r"ucgrpo\.record_tokens"),
        ({"trainer__v1__trainer_mode": "sync"}, "trainer_mode is 'sync': set it to ucgrpo_sync"),
        ({"trainer__use_v1": False}, "use_v1=True"),
        ({"algorithm__adv_estimator": "gae"}, "adv_estimator=grpo"),
        ({"algorithm__use_kl_in_reward": True}, "use_kl_loss"),
        ({"algorithm__filter_groups__enable": True}, "filter_groups"),
        ({"reward__custom_reward_function__path": "mine.py"}, "set it to pkg://actfer_env.verl_plugin.scoring"),
        ({"actor_rollout_ref__rollout__agent__agent_loop_config_path": "no.yaml"}, "there is no file no.yaml"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_before_anything_starts(changes: dict[str, Any], message: str) -> None:
    check_launch(launch(ucgrpo__variant="no_ema"))
    with pytest.raises(RewardError, match=message) as caught:
        check_launch(launch(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: other\n", "must hold one entry whose name is actfer_agent"),
        ("- [", "is no YAML"),
        ("- {name: actfer_agent, turns: 3}", "unknown field 'turns'"),
        ("- {name: actfer_agent, chat: {side: 3}}", "chat has no field 'side'"),
        ("- {name: actfer_agent, chat: {face_side: 0}}", "face_side"),
        ("- {name: actfer_agent, episode: {max_turns: 0}}", "max_turns"),
    ],
)
def test_a_wrong_agent_loop_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("omegaconf")
    path = tmp_path / "loop.yaml"
    path.write_text(text)
    with pytest.raises(RewardError, match=message) as caught:
        check_agent_loop(str(path))
    assert "\n" not in str(caught.value)


def test_the_examples_agent_loops_pass_the_check() -> None:
    pytest.importorskip("omegaconf")
    found = sorted((ROOT / "examples" / "verl_grpo").glob("agent_loop*.yaml"))
    assert len(found) >= 3
    for path in found:
        check_agent_loop(str(path))
    assert split_options({"variant": "no_ema", "record_tokens": True}) == (reward_config({"variant": "no_ema"}), True)


def test_a_checkpoint_of_another_reward_is_not_gone_on_with(tmp_path: Path) -> None:
    StepScorer().save(tmp_path)
    StepScorer().load(tmp_path)
    with pytest.raises(DataError, match=r"^ucgrpo\.zoom_cost is 0\.1 \(the run in .* has 0\.0\)"):
        StepScorer(UCGRPOConfig(zoom_cost=0.1)).load(tmp_path)
    (tmp_path / "ucgrpo_reward.json").unlink()  # as an older version left it
    StepScorer(UCGRPOConfig(zoom_cost=0.1)).load(tmp_path)


def test_the_format_is_chosen_beside_the_variant() -> None:
    assert reward_config({"variant": "full"}) == UCGRPOConfig()
    strict = reward_config({"variant": "full", "format": "strict"})
    assert isinstance(strict, UCGRPOConfig)
    assert (strict.structure_thought, strict.structure_repair) == (-0.1, -0.05)
    assert reward_config({"format": "strict", "structure_repair": 0.0}).structure_repair == 0.0  # type: ignore[union-attr]
    assert reward_config({"variant": "task_only", "format": "strict"}) == UCGRPOConfig.variant("task_only")
    assert type(reward_config({"variant": "tag", "format": "strict"})).__name__ == "TAGReward"
    with pytest.raises(RewardError, match=r"unknown ucgrpo\.format 'loose': use one of lenient, strict"):
        reward_config({"format": "loose"})


def test_a_checkpoint_of_a_version_without_the_newer_constants_is_resumed(tmp_path: Path) -> None:
    scorer = StepScorer(UCGRPOConfig())
    scorer.save(tmp_path)
    path = tmp_path / "ucgrpo_reward.json"
    kept = json.loads(path.read_text())
    for name in ("structure_thought", "structure_section", "structure_repair", "contrast_members"):
        del kept[name]
    path.write_text(json.dumps(kept))
    StepScorer(UCGRPOConfig()).load(tmp_path)
    with pytest.raises(DataError, match="contrast_members is legal"):
        StepScorer(UCGRPOConfig(contrast_members="legal")).load(tmp_path)


def test_metrics_tell_of_thoughts_repairs_and_who_was_contrasted() -> None:
    group = [replace(rollout("fear", True), texts=("<think>a</think>x", "y")), rollout(None)]
    scorer = StepScorer(UCGRPOConfig(contrast_members="legal"))
    _, rollouts, scores = scorer.score(["u"] * 2, fields(*group), [False] * 2)
    found = scorer.metrics(rollouts, scores)
    assert (
        found["ucgrpo/thoughts"] == 0.5 and found["ucgrpo/repairs"] == 0.0 and found["ucgrpo/contrast_members"] == 0.5
    )


def test_each_papers_reward_needs_its_own_way_of_asking(tmp_path: Path) -> None:
    pytest.importorskip("omegaconf", reason="needs verl: pip install 'actfer-env[verl]'")
    from actfer_env.verl_plugin.check import _preset_problems

    def told(variant: str | None, chat: str) -> str:
        path = tmp_path / "loop.yaml"
        path.write_text(f"- {{name: actfer_agent, chat: {chat}}}\n")
        return "".join(_preset_problems(None if variant is None else {"variant": variant}, str(path)))

    assert told(None, "{}") == told("full", "{}") == told("tag", "{preset: tag}") == ""
    assert "ucgrpo.variant is tag" in told("tag", "{}") and "set its chat to {preset: tag}" in told("tag", "{}")
    assert "which has no tools" in told("full", "{preset: facial_r1}")
    assert told("deepeyes", "{}") == "" and "which has no tools" in told("hdpo", "{preset: tag}")
