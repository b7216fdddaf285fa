"""Benchmarks from a folder to tables, by one command each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loader_trees as trees
import pytest
import typer
from helpers import pictures

from actfer_env.agents.base import ChatTrajectory, Usage
from actfer_env.chat import ChatConfig
from actfer_env.cli import app
from actfer_env.data import load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation import EvalConfig, evaluate, read_run

pytest.importorskip("sklearn", reason="needs the extra tables")
pytest.importorskip("rouge_score", reason="needs the extra tables")

from actfer_env.evaluation.benchmarks import benchmark_figures, open_benchmark, read_benchmark
from actfer_env.evaluation.benchmarks.files import write_benchmark

SERVER = """
import json, sys, threading, time, zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log, most, lock = open(sys.argv[1], "a"), int(sys.argv[2]), threading.Lock()
answers = ["<answer>happiness</answer>", "<think>no surprise</think><answer>happy</answer>", "<answer>sad</answer>",
           "I cannot tell."]

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            print(1, file=log, flush=True)
            served = sum(1 for _ in open(sys.argv[1]))
        if served > most:
            time.sleep(600)
        parts = body["messages"][-1]["content"]
        picture = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        text = answers[zlib.crc32(picture.encode()) % len(answers)]
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        data = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [message],
                           "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
"""An OpenAI-compatible server whose answer follows from the picture; after some requests it answers no more."""


@contextmanager
def served(log: Path, most: int = 10**6, port: int = 0) -> Iterator[int]:
    command = [sys.executable, "-c", SERVER, str(log), str(most), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def actfer(*arguments: Any) -> int:
    """Run the command line here; what loaders warn of parts of data sets is not the matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return int(app(list(map(str, arguments)), standalone_mode=False) or 0)
        except typer.Exit as ending:
            return int(ending.exit_code)


@pytest.fixture(scope="module")
def ferbench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(trees.fresh(tmp_path_factory.mktemp("ferbench"), trees.ferbench))


def without_time(figures: dict[str, Any]) -> dict[str, Any]:
    parts = {name: {**part, "cost": {**part["cost"], "seconds": 0}} for name, part in figures["parts"].items()}
    pooled = {**figures["pooled"], "cost": {**figures["pooled"]["cost"], "seconds": 0}}
    return {**figures, "parts": parts, "pooled": pooled}


def test_ferbench_by_an_endpoint_killed_in_the_middle_and_resumed(
    ferbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
    log, out = tmp_path / "requests", tmp_path / "out"
    options = ["eval", "--benchmark", "ferbench", "--root", ferbench, "--model", "m", "--preset", "ferbench",
               "--batch", 2, "--price", 1000, 10000]  # fmt: skip
    with served(log, most=11) as port:
        address = ["--endpoint", f"http://127.0.0.1:{port}/v1"]
        command = [sys.executable, "-m", "actfer_env", *map(str, options), *address, "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 13):
                time.sleep(0.1)
            os.kill(process.pid, signal.SIGKILL)
    assert len(read_run(out / "rafdb").rollouts) == 7 and not (out / "table.json").exists()
    kept = len((out / "ferplus" / "episodes.jsonl").read_text().splitlines())
    assert 0 < kept < 8
    asked = len(log.read_text().splitlines())
    with served(log, port=port):
        assert actfer(*options, *address, "--out", out) == 0
        assert len(log.read_text().splitlines()) == asked + (8 - kept) + 8 + 14  # nothing was asked twice
        assert actfer(*options, *address, "--dry-run") == 0
        dry = capsys.readouterr().out.splitlines()[-1]
        assert dry.startswith("37 conversations, about 37 calls, ") and not dry.endswith("cost 0.00; nothing was sent")
        whole = tmp_path / "whole"
        assert actfer(*options, *address, "--out", whole) == 0
    figures = read_benchmark(out)
    assert without_time(figures) == without_time(read_benchmark(whole))
    assert {name: part["items"] for name, part in figures["parts"].items()} == {
        "rafdb": 7, "ferplus": 8, "affectnet": 8, "sfew": 14,
    }  # fmt: skip
    assert figures["parts"]["rafdb"]["labels"] == list(trees.RAF)
    pooled = figures["pooled"]
    # 37 answers at 100 and 10 tokens, at 1,000 and 10,000 a million.
    assert (pooled["cost"]["calls"], pooled["cost"]["prompt_tokens"]) == (37, 3700)
    assert pooled["cost"]["cost"] == pytest.approx(37 * (0.1 + 0.1))
    used = json.loads((out / "rafdb" / "summary.json").read_text())["cost"]
    assert (used["calls"], used["completion_tokens"], used["cost"]) == (7, 70, pytest.approx(7 * 0.2))
    assert "used:     7 calls, 700 tokens read, 70 written, cost 1.40" in capsys.readouterr().out
    # "I cannot tell" has no label by either rule, and FERBench reads "surprise" in a thought of RAF-DB's.
    assert 0 < pooled["no_answer"] == pooled["ferbench"]["unknown"] == pooled["parse_failures"]
    assert pooled["parse_failure_rate"] == pytest.approx(pooled["parse_failures"] / 37)
    assert pooled["ferbench"]["averaged"] > len(pooled["ferbench"]["f1"]) >= 1
    first = json.loads((out / "rafdb" / "rollouts.jsonl").read_text().splitlines()[0])
    assert first["sample_id"] == "RAF-DB/aligned/test_00007_aligned.jpg"
    texts = {ending: (out / f"table.{ending}").read_text() for ending in ("md", "csv", "tex", "html")}
    assert all("ActFER 4B" in text and "67.45" in text and "m, strict" in text for text in texts.values())
    assert "over 8 it is 51.15" in texts["md"] and r"\midrule" in texts["tex"]
    assert "Confusion matrix, RAF-DB" in texts["html"] and 'class="bar"' in texts["html"]


def test_the_items_own_question_is_asked_in_the_sets_order(ferbench: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        listed, folder = (load_dataset("ferbench", ferbench, part=part) for part in ("ferplus", "affectnet"))
    asked = []

    class Listener:
        name = "listener"

        def play(self, episodes: Any) -> Iterator[tuple[ChatTrajectory, Usage]]:
            for episode in episodes:
                asked.append(episode.messages[1]["content"][1]["text"])
                episode.step("<answer>sad</answer>")
                yield ChatTrajectory(episode), Usage(calls=1)

    for data in (listed, folder):
        evaluate(Listener(), data, EvalConfig(ChatConfig(preset="ferbench"), number=1))
        evaluate(Listener(), data, EvalConfig(ChatConfig(preset="facial_r1"), number=1))
    assert asked[0] == f"Which of {', '.join(trees.FERPLUS)} is it?"
    assert ", ".join(trees.EMOTIONS) in asked[2]
    assert not any("Which of" in asked[at] for at in (1, 3))


def test_broken_lists_and_other_labels_are_refused_by_item(ferbench: Path, tmp_path: Path) -> None:
    trees.rafdb(tmp_path / "RAF-DB")
    path = tmp_path / "rafdb_qa.json"
    items = json.loads((ferbench / "eval_rafdb/data/rafdb_qa.json").read_text())
    for change, told in (
        ({"candidate_labels": sorted(trees.RAF)}, "item 2: labels .* another edition, or another order"),
        ({"true_label": "joy"}, "item 2: true_label 'joy' is none of its labels"),
        ({"prompt": ""}, "item 2: no prompt"),
        ({"image_path": "/RAF-DB/aligned/gone.jpg"}, "item 2: .*gone.jpg is not below"),
    ):
        path.write_text(json.dumps([items[0], {**items[1], **change}]))
        with pytest.raises(DataError, match=told):
            load_dataset("ferbench", tmp_path, part="rafdb")
    with pytest.warns(UserWarning, match="FERBench's RAF-DB: 1") as told:
        assert len(load_dataset("ferbench", tmp_path, part="rafdb", missing="skip")) == 1
    assert len(told) == 2  # that a picture is not there, and that 1 of 3,068 items is left
    with pytest.raises(DataError, match=r"neither ferplus_qa.json nor a folder FERPlus/"):
        load_dataset("ferbench", tmp_path, part="ferplus")


def test_disfa_by_an_agent_gives_eight_seven_and_twelve_units(tmp_path: Path) -> None:
    root = trees.fresh(tmp_path, lambda place: trees.disfa(place, ("SN001", "SN002"), frames=12))
    assert actfer("eval", "--benchmark", "disfa", "--root", root, "--agent", "blind:happiness", "--out", tmp_path) == 0
    figures = read_benchmark(tmp_path)
    # Of each subject's six frames with AU6 and AU12, and six without, five are kept; the script always names both.
    assert figures["pooled"]["items"] == 20 and set(figures["pooled"]["units"]) == {"disfa", "disfa7", "disfa12"}
    assert figures["pooled"]["units"]["disfa"]["f1"]["AU12"] == pytest.approx(2 * 10 / (10 + 20))
    assert figures["pooled"]["units"]["disfa"]["mean_f1"] == pytest.approx(2 / 3)
    assert figures["pooled"]["strict"] is None and not figures["looked"]
    text = (tmp_path / "table.md").read_text()
    assert "DISFA, twelve Action Units" in text and "its mean is over seven units" in text and "a script" in text
    head, own, *published = (tmp_path / "table.csv").read_text().splitlines()
    assert head.startswith("system,kind,AU1,AU2,AU4,AU6,AU9,AU12,AU25,AU26,mean F1") and "66.67" in own
    assert next(line for line in published if line.startswith("FEALLM")).split(",")[6] == ""


@pytest.mark.slow
def test_disfa_by_a_local_model(model: Path, tmp_path: Path) -> None:
    root = trees.fresh(tmp_path, lambda place: trees.disfa(place, ("SN001",), frames=4))
    options = ["--model", model, "--preset", "facial_r1", "--max-new-tokens", 4, "-n", 3, "--device", "cpu"]
    assert actfer("eval", "--benchmark", "disfa", "--root", root, *options, "--out", tmp_path / "out") == 0
    figures = read_benchmark(tmp_path / "out")
    assert figures["pooled"]["items"] == 3 and figures["pooled"]["cost"]["prompt_tokens"] > 0
    assert read_run(tmp_path / "out" / "disfa").settings["au_set"] == "disfa12"


def test_seven_classes_leave_contempt_out_and_take_the_average_of_the_sets(ferbench: Path, tmp_path: Path) -> None:
    assert actfer("eval", "--benchmark", "tag", "--root", ferbench, "--agent", "blind:fear", "--out", tmp_path) == 0
    figures = read_benchmark(tmp_path)
    assert {name: part["items"] for name, part in figures["parts"].items()} == {
        "rafdb": 14,
        "ferplus": 7,
        "affectnet": 7,
    }
    assert all("contempt" not in part["labels"] for part in figures["parts"].values())
    assert (tmp_path / "table.csv").read_text().splitlines()[1].split(",")[-5:-1] == ["14.29"] * 4


def test_an_item_that_cannot_be_run_is_wrong_and_the_gain_needs_the_same_items(ferbench: Path, tmp_path: Path) -> None:
    root = Path(trees.fresh(tmp_path, trees.sfew)).rename(tmp_path / "SFEW")
    options = ["eval", "--benchmark", "ferbench", "--root", tmp_path, "--agent", "blind:anger"]
    assert actfer(*options, "--out", tmp_path / "a") == 0
    (root / "Val_Aligned_Faces/Angry/film_0.png").write_bytes(b"")
    code = actfer(*options, "--out", tmp_path / "b", "--against", tmp_path / "a")
    before, after = (read_benchmark(tmp_path / name) for name in "ab")
    assert code in (0, 1) and after["pooled"]["errors"] == 1 and after["pooled"]["items"] == 14
    assert after["pooled"]["strict"]["accuracy"] == pytest.approx(1 / 14)
    assert after["pooled"]["ferbench"]["accuracy"] == pytest.approx(1 / 13)  # FERBench leaves it out
    gain = after["pooled"]["emotions"]["anger"]["f1_gain"]
    # anger before: 2 hits, 2 targets, 14 answers; after: 1 hit, 2 targets, 13 answers.
    assert before["pooled"]["strict"]["f1"]["anger"] == pytest.approx(4 / 16)
    assert gain == pytest.approx(2 / 15 - 4 / 16)
    assert "F1 gain over blind:anger" in (tmp_path / "b" / "table.html").read_text()
    with pytest.raises(DataError, match="play both over the same items"):
        actfer(*options, "--out", tmp_path / "c", "-n", 3, "--against", tmp_path / "a")


class Describer:
    """Writes the same turn for every face, and nothing of use for the third."""

    name = "describer"

    def __init__(self, text: str = "<think>The lip corners rise (AU12).</think><answer>happiness</answer>") -> None:
        self.text = text

    def play(self, episodes: Any) -> Iterator[tuple[ChatTrajectory, Usage]]:
        for at, episode in enumerate(episodes):
            episode.step("nothing" if at == 2 else self.text)
            yield ChatTrajectory(episode), Usage(calls=1)


def test_facial_r1s_format_gives_units_emotions_and_rouge_l(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{name}.png" for name in "abcd"))
    faces = [("happiness", ["AU6", "AU12"]), ("sadness", []), ("happiness", ["AU12"]), ("fear", ["AU1"])]
    lines = [{"id": name, "dataset": "x", "image": f"{name}.png", "labels": [emotion], "AUs": units,
              "description": "The lip corners rise (AU12).", "split": "train" if name == "d" else "test"}
             for name, (emotion, units) in zip("abcd", faces, strict=True)]  # fmt: skip
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        benchmark = open_benchmark("fea20k", tmp_path)
    (part,) = benchmark.parts
    assert [sample.id for sample in part.dataset] == ["a", "b", "c"]
    config = EvalConfig(ChatConfig(preset="facial_r1"))
    run = evaluate(Describer(), part.dataset, config)
    figures = benchmark_figures(benchmark, {part.name: run})
    found = figures["pooled"]
    assert found["strict"]["accuracy"] == pytest.approx(1 / 3) and found["no_answer"] == 1
    assert found["rouge_l"] == pytest.approx(2 / 3) and found["described"] == 3
    # Asked for the core set: AU12 has 1 hit, 2 targets and 2 answers; AU6 none of one.
    assert "facial_r1" not in found["units"]
    assert found["units"]["core"]["f1"]["AU12"] == pytest.approx(2 / 4) and found["units"]["core"]["f1"]["AU6"] == 0
    assert found["units"]["core"]["image_f1"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    names = {path.name for path in write_benchmark(tmp_path / "out", figures)}
    assert names == {f"table.{ending}" for ending in ("json", "md", "csv", "tex", "html")}


def test_boxes_of_the_reasoning_are_measured_against_those_of_active_units(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{name}.png" for name in "abcd"))
    boxes = {"a": {"AU12": [0.25, 0.5, 0.75, 0.75]}, "b": {"AU12": [0, 0, 0.25, 0.25]}, "d": None,
             "c": {"AU12": [0.25, 0.5, 0.75, 0.75]}}  # fmt: skip
    lines = [{"id": name, "dataset": "x", "image": f"{name}.png", "labels": ["happiness"], "AUs": ["AU12"],
              "split": "test", **({"meta_info": {"au_boxes": boxes[name]}} if boxes[name] else {"AUs": []})}
             for name in "abcd"]  # fmt: skip
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        benchmark = open_benchmark("fea20k", tmp_path)
    (part,) = benchmark.parts
    # Written on TAG's canvas of 512.
    text = "<think>The mouth <bbox>[128, 256, 384, 384]</bbox> smiles.</think><answer>happiness</answer>"
    run = evaluate(Describer(text), part.dataset, EvalConfig(ChatConfig(preset="tag")))
    found = benchmark_figures(benchmark, {part.name: run})["pooled"]
    # Overlap 1 on the first face, 0 on the second, no box written on the third; the fourth has none to be found.
    assert found["au_boxed"] == 3 and found["au_iou"] == pytest.approx(1 / 3)
    write_benchmark(tmp_path / "out", benchmark_figures(benchmark, {part.name: run}))
    assert "33.33" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--benchmark", "imagenet", "--root", "."], "unknown benchmark 'imagenet': use one of ferbench, disfa"),
        (["--benchmark", "ferbench"], "needs --root FOLDER"),
        (["--benchmark", "ferbench", "--root", "nowhere"], "nowhere is not there"),
        (["--benchmark", "ferbench", "--root", "."], "no list of FERBench"),
        (["synthetic", "--benchmark", "ferbench", "--root", "."], "give a data set, or --benchmark"),
        ([], "give a data set, or --benchmark"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=told) as caught:
        actfer("eval", *arguments, "--agent", "random", "--out", "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
