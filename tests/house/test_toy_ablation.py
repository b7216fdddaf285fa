"""The toy ablation counts what it says: thoughts that are left out, groups that change, differences over seeds."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ZOOM_CALL, answered, benchmark

from actfer_env.rollout import ToolCall, write_rollouts

toy = benchmark("toy_ablation")
LOOK = ToolCall("detect_align")
ZOOM = (LOOK, ZOOM_CALL)


def test_thoughts_leave_the_assistant_turns_alone(tmp_path) -> None:
    def turn(role, text):
        return {"role": role, "content": [{"type": "text", "text": text}]}

    talk = [turn("user", "<think>asked</think>"), turn("assistant", "<think>a\nb</think>\n<answer>{}</answer>")]
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist([{"id": "a", "messages": talk}]), tmp_path / "rows" / "train-00000.parquet")
    assert toy.without_thoughts(tmp_path / "rows", tmp_path / "bare") == 1
    row = pq.read_table(tmp_path / "bare" / "train-00000.parquet").to_pylist()[0]
    assert row["id"] == "a"
    assert [m["content"][0]["text"] for m in row["messages"]] == ["<think>asked</think>", "<answer>{}</answer>"]


def run(folder, right: int, zoomed: int):
    """A run of the path in which, of four episodes each, so many are right and so many zoom."""
    rows = [
        answered("happiness" if i < right else "fear", sample_id=f"s{i}", group_id=f"s{i}",
                 tool_calls=ZOOM if i < zoomed else (LOOK,))
        for i in range(4)
    ]  # fmt: skip
    (folder / "rl" / "rollouts").mkdir(parents=True)
    for step in range(1, 8):  # the figures are those of the last five steps: nothing zooms in the first two
        early = [answered(tool_calls=(LOOK,))] * 4
        write_rollouts(folder / "rl" / "rollouts" / f"step_{step:06d}.jsonl", rows if step > 2 else early)
    for name in ("ucgrpo", "ucgrpo-sampled"):
        (folder / "eval" / name).mkdir(parents=True)
        write_rollouts(folder / "eval" / name / "episodes.jsonl", rows)
    return folder


def test_differences_are_taken_seed_by_seed(tmp_path) -> None:
    first = [run(tmp_path / f"a{seed}", right, 4) for seed, right in enumerate((1, 2, 3))]
    second = [run(tmp_path / f"b{seed}", right, 2) for seed, right in enumerate((2, 3, 4))]
    lines = toy.over_seeds(first, second).splitlines()
    # Every seed gains a quarter, so the interval over seeds has no width, though the seeds differ among themselves.
    assert "| accuracy, greedy | 0.500 | 0.750 | +0.250 [+0.250, +0.250] |" in lines
    assert "| zoomed, while training | 1.000 | 0.500 | -0.500 [-0.500, -0.500] |" in lines


def test_an_uneven_comparison_is_one_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["toy_ablation", "seeds", "a", "b", "--against", "c"])
    with pytest.raises(SystemExit, match="2"):
        toy.main()
    assert "2 folders against 1: give one a seed on both sides" in capsys.readouterr().err


def test_a_setting_that_changes_who_is_contrasted_changes_advantages(tmp_path) -> None:
    # The one member that zoomed broke a rule: "legal" leaves it out, so that no contrast is left.
    broken = (*ZOOM, ToolCall("zoom_in", {}, violation="bad_arguments", turn=2))
    group = [answered("happiness" if i % 2 else "fear", member=i, tool_calls=calls)
             for i, calls in enumerate([broken, (LOOK,), (LOOK,), (LOOK,)])]  # fmt: skip
    write_rollouts(tmp_path / "step_000001.jsonl", group)
    found = toy.rescored(tmp_path)
    assert [contrast for _, contrast in found["strict, detected"]] == [True]
    assert [contrast for _, contrast in found["strict, legal"]] == [False]
    assert (found["strict, detected"][0][0] != found["strict, legal"][0][0]).any()
