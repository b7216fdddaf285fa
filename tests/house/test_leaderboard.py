"""The leaderboard's page is what its files say, and a run becomes a row."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from helpers import ROOT, answered, benchmark

from actfer_env.evaluation import write_run
from actfer_env.evaluation.run import finished_run
from actfer_env.rewards import UCGRPOConfig

leaderboard = benchmark("leaderboard")


def test_the_page_is_built_from_the_files() -> None:
    assert leaderboard.PAGE.read_text(encoding="utf-8") == leaderboard.page()


def test_every_result_says_what_made_it() -> None:
    found = leaderboard.read_results()
    assert found
    for one in found:
        assert one["task"] in leaderboard.TASKS and one["command"].startswith("actfer ")
        assert one["version"]["actfer-env"] and one["machine"] and one["samples"] > 0
        assert all(len(values) == one["seeds"] for values in one["metrics"].values())
        assert "task" in one["metrics"] and set(one["metrics"]) <= set(leaderboard.METRICS)


def test_rows_are_those_of_the_reference_scores() -> None:
    kept = json.loads((ROOT / "benchmarks/reference_scores.json").read_text())["tasks"]["quality-newer"]["runs"]
    (full,) = [one for one in leaderboard.read_results()
               if (one["task"], one["system"]) == ("ActFER-Quality-v0", "light policy, full")]  # fmt: skip
    assert full["metrics"]["task"] == [row["task"] for row in kept["full"]]


def test_a_run_becomes_a_row(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(leaderboard, "RESULTS", tmp_path / "results")
    for seed, zoomed in ((0, True), (1, False)):
        # One right of two: task rewards 1 and -0.2, less 0.1 where the episode zoomed.
        rollouts = [answered("happiness", zoomed=zoomed, group_id="a", sample_id="a"),
                    answered("fear", zoomed=zoomed, group_id="b", sample_id="b")]  # fmt: skip
        run = finished_run(rollouts, {"name": "synthetic-mixed"}, {"agent": "x"}, UCGRPOConfig(zoom_cost=0.1))
        write_run(tmp_path / str(seed), run)
    path = leaderboard.add([str(tmp_path / "0"), str(tmp_path / "1")], "ActFER-Cost-v0", "My policy", "actfer eval x")
    assert path.name == "cost-my-policy.json"
    found = json.loads(path.read_text())
    assert found["metrics"]["task"] == pytest.approx([0.3, 0.4]) and found["metrics"]["zoom"] == [1.0, 0.0]
    assert (found["samples"], found["seeds"]) == (2, 2)
    assert "| My policy | 0.350 ± 0.635 | 0.500 ± 0.000 |" in leaderboard.page()


def test_the_command_refuses_an_unknown_task() -> None:
    command = [sys.executable, "-m", "benchmarks.leaderboard", "add", "x", "--task", "Chess", "--system", "s",
               "--command", "c"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "no stored run here" in done.stderr
