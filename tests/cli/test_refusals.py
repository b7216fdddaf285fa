"""Commands that refuse: in one line, before any work, and without touching what is there."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from actfer_env.cli import app

PACKAGES = ("pandas", "pyarrow", "sklearn", "rouge_score", "torch")


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    error = result.stderr if result.exception is None or isinstance(result.exception, SystemExit) else ""
    return result.exit_code, result.stdout, error or str(result.exception or "")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the packages of the extras."""
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)


def test_an_unknown_name_is_refused_before_its_packages_are_asked_for(bare: None, tmp_path: Path) -> None:
    code, _, error = run("eval", "--benchmark", "none", "--agent", "full", "--root", tmp_path)
    assert code and "unknown benchmark 'none': use one of ferbench, disfa" in error
    code, _, error = run("eval", "--benchmark", "disfa", "--agent", "full", "--root", tmp_path / "gone")
    assert code and "is not there" in error
    code, _, error = run("export-policy", tmp_path, "--to", "none")
    assert code and "unknown format 'none': use one of onnx, torchscript" in error


def test_a_run_is_exported_without_pandas_but_for_parquet(bare: None, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("rollout", "synthetic", "-n", 2, "--agent", "simplified,blind", "--group-size", 2, "--out", out)[0] == 0
    for kind in ("csv", "jsonl", "latex"):
        code, said, error = run("export", out, "--to", kind)
        assert code == 0, error
        assert "4 episodes" in said
    rows = [json.loads(line) for line in (out / "export.jsonl").read_text(encoding="utf-8").splitlines()]
    with (out / "export.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [list(row) for row in table] == [list(row) for row in rows]
    for row, cells in zip(rows, table, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == cells
    assert table[1]["FaceScore"] == "" and float(table[0]["FaceScore"]) > 0  # "blind" does not look for the face
    code, _, error = run("export", out, "--to", "parquet")
    assert code and "pip install 'actfer-env[tables]'" in error


def test_a_finished_run_is_not_replaced_by_another(tmp_path: Path) -> None:
    words = ("rollout", "synthetic", "-n", 1, "--out", tmp_path)
    assert run(*words)[0] == 0
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for others in (
        (*words, "--seed", 3), (*words, "--agent", "blind"), ("rollout", "portrait", "--out", tmp_path),
        ("demo", "--out", tmp_path), ("play", "--out", tmp_path),
        ("eval", "synthetic", "--agent", "full", "--gate", "--seed", 3, "--out", tmp_path),
        ("eval", "synthetic", "--agent", "full", "--out", tmp_path),
    ):  # fmt: skip
        code, _, error = run(*others)
        assert code and "choose another folder" in error
        assert ("seed is 3" in error) is ("--seed" in others)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    code, said, _ = run(*words, "-n", 2, "--set", "gamma=0.3")  # both may change, as in an evaluation
    assert code == 0 and "the earlier run in" in said
    (tmp_path / "run.json").write_text("{}")
    code, _, error = run(*words)
    assert code and "not a stored run" in error


def test_pictures_that_cannot_be_read_give_one_line_where_there_is_nothing_else(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"no picture")
    for words in (("rollout", photos), ("eval", photos, "--agent", "full")):
        code, _, error = run(*words, "--out", tmp_path / "out")
        assert code and "no episode could be played" in error and "a.jpg" in error
        assert len(error.strip().splitlines()) == 1
    (photos / "b.jpg").write_bytes(b"")
    code, _, error = run("rollout", photos, "--out", tmp_path / "out")
    assert code and len(error.strip().splitlines()) == 1 and "and 1 more" in error
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photos / "c.png")
    code, _, error = run("rollout", photos, "--out", tmp_path / "out")
    assert code == 0 and len(error.strip().splitlines()) == 2  # one for each that was left out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("synthetic", "--agent", "full", "--against", "x"), "--against goes with --benchmark"),
        (("--benchmark", "disfa", "--agent", "full", "--split", "test"), "--split goes with a data set"),
        (("--benchmark", "disfa", "--agent", "full", "--skip-broken"), "--skip-broken goes with a data set"),
        (("synthetic", "--agent", "full", "--temperature", "0.5"), "--temperature goes with --model"),
        (("synthetic", "--agent", "full", "--price", "1", "2"), "--price goes with --model"),
        (("synthetic", "--model", "m", "--cache", "x"), "--cache goes with --endpoint"),
        (("synthetic", "--model", "m", "--token-budget", "5"), "--token-budget goes with --endpoint"),
        (("synthetic", "--model", "m", "--endpoint", "http://localhost:1", "--device", "cpu"),
         "--device goes with a local model"),
    ],
)  # fmt: skip
def test_options_that_would_be_passed_over_are_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, _, error = run("eval", *words, "--out", tmp_path / "out")
    assert code and said in error and not (tmp_path / "out").exists()


def test_a_broken_side_file_is_named(tmp_path: Path) -> None:
    assert run("rollout", "synthetic", "-n", 1, "--out", tmp_path)[0] == 0
    for content in ("{", "{}", "[]"):
        (tmp_path / "gate.json").write_text(content)
        code, _, error = run("report", tmp_path)
        assert code and "gate.json is no gate report of this version" in error and "actfer gate" in error


@pytest.mark.parametrize("word", [("--split", "test"), ("--dataset-root", "x")])
def test_a_server_without_a_data_set_has_no_split(tmp_path: Path, word: tuple[str, str]) -> None:
    code, _, error = run("mcp", "--root", tmp_path, *word)
    assert code and "--split and --dataset-root go with --dataset" in error


def test_conversations_without_their_settings_are_not_taken_over(tmp_path: Path) -> None:
    words = ("eval", "synthetic", "-n", 1, "--agent", "full", "--out", tmp_path)
    assert run(*words)[0] == 0
    for name in ("eval.json", "run.json"):
        (tmp_path / name).unlink()
    code, _, error = run(*words)
    assert code and "holds conversations, and eval.json does not say whose: choose another folder" in error
