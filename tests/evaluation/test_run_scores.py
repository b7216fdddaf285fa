"""A run's rewards are computed once, however many tables and files show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from endpoint_server import Server
from typer.testing import CliRunner

from actfer_env.cli import app
from actfer_env.data import load_dataset
from actfer_env.evaluation import Run, read_run, write_report, write_run
from actfer_env.evaluation.play import RolloutConfig, play
from actfer_env.evaluation.run import finished_run
from actfer_env.rewards import UCGRPO, UCGRPOConfig


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rollouts each call of the scorer was given."""
    sizes: list[int] = []
    score = UCGRPO.score

    def counted(self, rollouts, *args, **kwargs):
        sizes.append(len(list(rollouts)))
        return score(self, rollouts, *args, **kwargs)

    monkeypatch.setattr(UCGRPO, "score", counted)
    return sizes


@pytest.fixture(scope="module")
def run() -> Run:
    return play(
        load_dataset("synthetic", split="test", n=2), RolloutConfig(agents=("full:truth", "blind"), group_size=2)
    )


def actfer(*arguments: object) -> None:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("embed", [[], ["--embed"]], ids=["plain", "embed"])
def test_each_command_scores_its_run_once(tmp_path: Path, scored: list[int], embed: list[str]) -> None:
    out = tmp_path / "run"
    actfer("rollout", "synthetic", "-n", 3, "--group-size", 2, "--out", out, *embed)
    assert scored.count(6) == 1
    actfer("report", out, *embed)
    assert scored.count(6) == 2
    actfer("report", out, "--au-set", "DISFA", *embed)
    assert scored.count(6) == 3


@pytest.mark.parametrize("embed", [[], ["--embed"]], ids=["plain", "embed"])
def test_an_evaluation_scores_its_run_once(tmp_path: Path, scored: list[int], embed: list[str]) -> None:
    pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
    with Server() as server:
        actfer("eval", "synthetic", "--model", "tiny", "--endpoint", server.url, "-n", 3, "--repeats", 2, "--out",
               tmp_path / "run", *embed)  # fmt: skip
    assert scored == [6]


def test_a_report_after_a_run_scores_nothing_again(tmp_path: Path, run: Run, scored: list[int]) -> None:
    fresh = finished_run(run.rollouts, run.dataset, run.settings, run.reward)
    write_run(tmp_path, fresh)
    write_report(tmp_path, fresh)
    assert fresh.mismatches() == [] and scored == [4]


def test_a_changed_copy_keeps_the_scores_only_where_they_are_its_own(run: Run, scored: list[int]) -> None:
    assert run.replace(settings={"agent": "x"}).scores is run.scores
    assert run.replace(pictures={}, failures=()).scores is run.scores and scored == []
    other = run.replace(reward=UCGRPOConfig(structure_clean=0.5))
    assert other.scores.total.tolist() != run.scores.total.tolist()
    assert len(run.replace(rollouts=run.rollouts[:2]).scores) == 2
    assert run.replace(scorer_state=UCGRPO().state_dict()).scores is not run.scores


def test_scores_are_those_of_the_stored_rollouts(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path, run)
    assert read_run(tmp_path).scores.total.tolist() == run.scores.total.tolist()
