"""Finished runs: paired differences, and tables for other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import answered
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env import facs
from actfer_env.cli import app
from actfer_env.data import load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import Run, compare, read_run, summarize, write_run
from actfer_env.evaluation.comparison import check_same_samples
from actfer_env.evaluation.costs import cost_of
from actfer_env.evaluation.export import read_results
from actfer_env.evaluation.run import finished_run
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rollout import Rollout, ToolCall

UNITS = frozenset({6, 12})
FACE = ToolCall("detect_align", {}, result={"faces": 1, "index": 0, "score": 0.75, "box": [10.0, 20.0, 110.0, 170.0]})
DATA = {"name": "photos", "root": "/somewhere", "split": None}


def episode(number: int, answer: str | None, **changes: Any) -> Rollout:
    target = "happiness" if number % 2 else "sadness"
    fields: dict[str, Any] = {
        "sample_id": f"s{number}", "group_id": f"s{number}", "emotion": target, "aus": UNITS,
        "predicted_aus": None if answer is None else UNITS if answer == "happiness" else frozenset(),
        "meta": {"image": f"faces/s{number}.jpg", "usage": {"calls": 2, "prompt_tokens": 100 * number,
                                                            "completion_tokens": 10, "seconds": 0.5}},
    }  # fmt: skip
    return answered(answer, **{**fields, **changes})


def run_of(answers: list[str | None], **settings_: Any) -> Run:
    rollouts = [episode(number, answer) for number, answer in enumerate(answers)]
    shown = {"agent": "a", "au_set": "core", **settings_}
    return finished_run(rollouts, DATA, shown, UCGRPOConfig())


def test_differences_by_hand() -> None:
    worse = run_of(["happiness", "happiness", None, "sadness"], price=[1000.0, 10000.0])
    better = run_of(["sadness", "happiness", "sadness", "sadness"], price=[1000.0, 20000.0])
    found = {one.metric: one for one in compare(worse, better)}
    # Targets: sadness, happiness, sadness, happiness.
    assert (found["accuracy"].first, found["accuracy"].second) == (0.25, 0.75)
    # First: happiness 2*1/(2+2), sadness 0; second: happiness 2/3, sadness 2*2/(2+3).
    assert found["macro_f1"].first == pytest.approx((0.5 + 0) / 2)
    assert found["macro_f1"].second == pytest.approx((2 / 3 + 4 / 5) / 2)
    # Units 6 and 12, each in all four targets; named in 2 of the first run's answers and in 1 of the second's.
    assert found["au_macro_f1"].first == pytest.approx(2 * 2 / (4 + 2))
    assert found["au_macro_f1"].second == pytest.approx(2 * 1 / (4 + 1))
    assert found["tokens"].first == pytest.approx(150 + 10) and found["tokens"].difference == 0
    assert found["cost"].first == pytest.approx(0.15 + 0.1) and found["cost"].second == pytest.approx(0.15 + 0.2)
    assert found["cost"].clear and not found["tokens"].clear and found["accuracy"].low <= 0.5 <= found["accuracy"].high


def test_a_cost_that_one_run_does_not_tell_is_not_compared_and_units_are_those_of_both() -> None:
    priced, free = run_of(["happiness"] * 3, price=[1.0, 2.0]), run_of(["happiness"] * 3)
    assert "cost" not in {one.metric for one in compare(priced, free)}
    assert "cost" in {one.metric for one in compare(priced, priced)}
    more = [replace(episode(number, "happiness"), aus=UNITS | {25}) for number in range(3)]
    wide = finished_run(more, DATA, {"agent": "a", "au_set": "6,12,25"}, UCGRPOConfig())
    narrow = run_of(["happiness"] * 3, au_set="6,12")
    found = {one.metric: one for one in compare(narrow, wide)}
    assert [(found[name].first, found[name].second) for name in ("au_instance_f1", "au_macro_f1")] == [(1, 1)] * 2


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.none() | st.sampled_from(facs.EMOTIONS)] * 2), min_size=1, max_size=12))
def test_macro_f1_is_that_of_the_summaries(pairs: list[tuple[str | None, str | None]]) -> None:
    first, second = (run_of([pair[at] for pair in pairs]) for at in (0, 1))
    found = {one.metric: one for one in compare(first, second, draws=150)}
    for run, side in ((first, "first"), (second, "second")):
        summary = summarize(run.rollouts, au_set=run.au_set)
        assert getattr(found["macro_f1"], side) == pytest.approx(summary.macro_f1)
        assert getattr(found["au_macro_f1"], side) == pytest.approx(summary.au_macro_f1)
    assert found["macro_f1"].low <= found["macro_f1"].high


def test_a_run_equals_itself_and_repeats_are_averaged() -> None:
    one = run_of(["happiness", "fear", "sadness"])
    assert all((row.difference, row.low, row.high) == (0, 0, 0) for row in compare(one, one))
    again = [replace(rollout, member=1) for rollout in one.rollouts]
    twice = finished_run([*one.rollouts, *again], DATA, one.settings, UCGRPOConfig())
    assert all(row.difference == pytest.approx(0) for row in compare(one, twice))


def test_runs_over_other_samples_are_refused_in_one_line() -> None:
    one = run_of(["happiness", "fear", "sadness"])
    relabelled = [replace(one.rollouts[0], emotion="fear"), *one.rollouts[1:]]
    for other, told in (
        (run_of(["happiness", "fear"]), r"B has 0 samples that A has not, and lacks 1 of its 3: .* or give --shared"),
        (run_of(["happiness"] * 5), r"B has 2 samples that A has not, and lacks 0 of its 3"),
        (
            one.replace(dataset={**DATA, "split": "test"}),
            "B is of another data set than A: split is 'test', there none",
        ),
        (one.replace(rollouts=tuple(relabelled)), "scored by different labels of s0"),
    ):
        with pytest.raises(DataError, match=told) as caught:
            check_same_samples([one, other], ["A", "B"])
        assert "\n" not in str(caught.value)
    check_same_samples([one, one.replace(dataset={**DATA, "root": "/elsewhere"})], ["A", "B"])


def test_the_command_writes_a_table_for_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, answers in (("a", ["happiness"] * 4), ("b", ["sadness"] * 4), ("c", ["sadness"] * 3)):
        write_run(tmp_path / name, run_of(answers))
    words = ["compare", *(str(tmp_path / name) for name in "ab"), "--out", str(tmp_path / "out")]
    assert not app(words, standalone_mode=False)
    assert "macro F1" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/compare.json").read_text())
    rows = {row["metric"]: row for row in found["differences"][str(tmp_path / "b")]}
    assert rows["accuracy"]["difference"] == 0 and rows["au_macro_f1"]["difference"] == pytest.approx(-1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"compare.{e}" for e in ("json", "md", "csv", "tex")
    }
    first = (tmp_path / "out/compare.csv").read_text().splitlines()
    assert first[0] == "run,metric,n,first,second,difference,low,high" and first[1].endswith(
        ",accuracy,4,0.5,0.5,0.0,-1.0,1.0"  # each answer of one is right where the other's is wrong
    )
    with pytest.raises(DataError, match="lacks 1 of its 4"):
        app([*words[:2], str(tmp_path / "c")], standalone_mode=False)
    assert not app([*words[:2], str(tmp_path / "c"), "--shared"], standalone_mode=False)


def test_costs_are_sums_and_none_without_conversations() -> None:
    run = run_of(["fear"] * 3)
    found = cost_of(run.rollouts, (1000.0, 10000.0))
    assert found is not None and (found.calls, found.prompt_tokens, found.completion_tokens) == (6, 300, 30)
    assert found.cost == pytest.approx(0.3 + 0.3) and str(found).endswith("cost 0.60")
    assert cost_of([replace(one, meta={}) for one in run.rollouts]) is None


def test_rows_are_in_py_feats_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the extra tables")
    run = run_of(["happiness", None])
    faced = replace(run.rollouts[0], tool_calls=(FACE, ToolCall("zoom_in", {"regions": ["nose"]}, turn=1)))
    run = run.replace(rollouts=(faced, replace(run.rollouts[1], detection="failed", aus=None)))
    frame = run.to_pandas()
    assert list(frame.columns[:5]) == ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"]
    assert list(frame.loc[0, frame.columns[:5]]) == [10, 20, 100, 150, 0.75]
    units = [f"AU{unit:02d}" for unit in facs.CORE_AUS]
    assert list(frame.columns[5 : 5 + len(units)]) == units
    assert list(frame.columns[5 + len(units) :][:10]) == [
        "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt", "input", "frame",
    ]  # fmt: skip
    assert frame.loc[0, "AU12"] == 1 and frame.loc[0, "AU01"] == 0 and frame.loc[0, "AU12_target"] == 1
    # Without a face and an answer a row is empty there, as py-feat's are; without annotation the targets are.
    assert frame.loc[1, ["FaceRectX", "FaceScore", "AU12", "happiness", "AU12_target"]].isna().all()
    assert frame.loc[0, "regions"] == "nose" and frame.loc[0, "zooms"] == 1 and bool(frame.loc[0, "zoomed"])
    assert list(frame["total"]) == pytest.approx(run.scores.total.tolist())
    assert "AU12" in run.rollouts.to_pandas() and "total" not in run.rollouts.to_pandas()
    write_run(tmp_path, run)
    assert read_run(tmp_path).rollouts == run.rollouts
    for kind, ending in (("csv", "csv"), ("jsonl", "jsonl"), ("parquet", "parquet"), ("latex", "tex")):
        if kind == "parquet":
            pytest.importorskip("pyarrow", reason="needs the extra tables")
        assert not app(["export", str(tmp_path), "--to", kind], standalone_mode=False)
        assert (tmp_path / f"export.{ending}").stat().st_size > 100
    for again in (pandas.read_csv(tmp_path / "export.csv"), pandas.read_parquet(tmp_path / "export.parquet"),
                  pandas.read_json(tmp_path / "export.jsonl", lines=True)):  # fmt: skip
        assert list(again.columns) == list(frame.columns) and len(again) == 2
        assert np.allclose(again["AU12"].astype(float), frame["AU12"], equal_nan=True)
    assert r"\begin{tabular}" in (tmp_path / "export.tex").read_text()
    with pytest.raises(DataError, match="unknown kind 'xml': use one of csv"):
        app(["export", str(tmp_path), "--to", "xml"], standalone_mode=False)


def test_a_real_run_exports_the_detected_face(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="needs the extra tables")
    from actfer_env.evaluation.play import RolloutConfig, play

    run = play(load_dataset("synthetic", split="test", n=3), RolloutConfig(agents=("simplified",)))
    frame = run.to_pandas()
    found = frame[frame["detection"] == "ok"]
    assert len(found) and (found["FaceRectWidth"] > 10).all() and found["FaceScore"].notna().all()


def test_a_broken_benchmark_file_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "rafdb", run_of(["happiness"]))
    (tmp_path / "benchmark.json").write_text("{")
    with pytest.raises(DataError, match=r"benchmark\.json is broken .* run 'actfer eval --benchmark' again"):
        read_results(tmp_path)
