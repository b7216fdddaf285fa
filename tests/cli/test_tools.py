"""A tool of one's own from the command line: `--tools`, with the module that registers it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import Server
from helpers import ANSWER, DETECT, ROOT, actfer, one_line

from actfer_env.evaluation import read_run

THREE = "detect_align,zoom_in,brighten"
OWN = {"PYTHONPATH": str(ROOT / "examples"), "ACTFER_IMPORT": "own_tool"}
TURNS = (DETECT, '<tool_call>{"name": "brighten", "arguments": {"gain": 2}}</tool_call>', ANSWER)


class Brightens(Server):
    """Calls the tool of examples/own_tool.py after detect_align."""

    def message(self, turn: int) -> dict[str, Any]:
        return {"role": "assistant", "content": TURNS[min(turn, 2)]}


def test_a_model_is_evaluated_with_it(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
    with Brightens() as server:
        command = ["eval", "synthetic", "--model", "m", "--endpoint", server.url, "-n", 2, "--out", tmp_path / "run"]
        done = actfer("--import", "own_tool", *command, "--tools", THREE, PYTHONPATH=OWN["PYTHONPATH"],
                      OPENAI_API_KEY="k")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "call brighten" in json.dumps(server.requests[0]["messages"][0])
        again = actfer(*command, OPENAI_API_KEY="k")
        assert again.returncode == 1 and "episode.tools" in again.stderr  # the folder is of other tools
    run = read_run(tmp_path / "run")
    assert [[call.name for call in rollout.tool_calls] for rollout in run.rollouts] == [
        ["detect_align", "brighten"]
    ] * 2
    assert not any(rollout.violations for rollout in run.rollouts) and run.scores.zoomed.all()
    assert run.settings["tools"] == "detect_align, zoom_in, brighten"
    assert "brighten gain: 2" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_data_for_verl_is_written_with_it(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'actfer-env[verl]'")
    done = actfer("data", "verl", "synthetic", "-n", 1, "--out", tmp_path, "--tools", THREE, **OWN)
    assert done.returncode == 0, done.stderr
    assert "episode: {tools: [detect_align, zoom_in, brighten]}" in done.stdout
    (row,) = parquet.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert "call brighten" in row["prompt"][0]["content"]


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ("detect_align,brighten", "unknown tool 'brighten'"),
        ("zoom_in,zoom_in", "each once"),
        (",", "at least one tool"),
    ],
)
@pytest.mark.parametrize("command", [["eval", "synthetic", "--model", "m", "--dry-run"], ["data", "verl", "synthetic"]])
def test_a_wrong_name_is_refused_before_any_work(command: list[str], tools: str, message: str, tmp_path: Path) -> None:
    done = actfer(*command, "-n", 1, "--out", tmp_path / "out", "--tools", tools)
    assert done.returncode == 1 and one_line(done.stderr) and message in done.stderr
    assert not (tmp_path / "out").exists()


def test_agents_without_language_have_no_further_tools() -> None:
    done = actfer("eval", "synthetic", "-n", 1, "--agent", "random", "--tools", THREE, **OWN)
    assert done.returncode == 1 and one_line(done.stderr) and "--tools goes with --model" in done.stderr
