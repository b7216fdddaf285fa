"""Curation by models, against a real server process: killed, resumed, and answered with garbage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from curate_data import SMALL, write_set
from helpers import ROOT, one_line

pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
pytest.importorskip("pydantic", reason="needs pydantic: pip install 'actfer-env[data]'")
pytest.importorskip("imagehash", reason="needs imagehash: pip install 'actfer-env[data]'")

from actfer_env.agents.endpoint import EndpointConfig, EndpointError
from actfer_env.curate.curate import Curation, curate
from actfer_env.curate.lines import read_lines
from actfer_env.curate.options import CurateOptions
from actfer_env.data import load_dataset

SERVER = ROOT / "tests" / "curate_server.py"
FIELDS: dict[str, Any] = {"writer": "endpoint", "detector": "curate-middle", "chat": SMALL, "views": "none",
                          "attempts": 6, "rl_size": 4, "seed": 3}  # fmt: skip


class Remote:
    """A server process, and what it was asked."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log, port = folder / "log", folder / "port"
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(port), str(self.log), *options])
        for _ in range(600):
            if port.exists() and port.read_text():
                break
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{port.read_text()}/v1"

    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Remote]]:
    started: list[Remote] = []

    def start(*options: str) -> Remote:
        started.append(Remote(tmp_path_factory.mktemp("server"), *options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def run(server: Remote, data: Path, out: Path, concurrency: int = 4, **fields: Any) -> Curation:
    endpoint = EndpointConfig(server.url, "m", concurrency=concurrency, seed=3, temperature=0.7, retries=0)
    return curate(load_dataset("jsonl", data), out, CurateOptions.build(**{**FIELDS, **fields}), endpoint=endpoint)


def responses(out: Path) -> dict[str, dict[str, Any]]:
    rows = [
        json.loads(line) for path in sorted((out / "responses").iterdir()) for line in path.read_text().splitlines()
    ]
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row for row in rows}


def test_a_third_garbage_costs_retries_and_not_samples(serve: Callable[..., Remote], tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 24, units=False, dark=3, labels=("happiness", "sadness"))
    server = serve("--garbage", "0.33")
    found = run(server, data, tmp_path / "out")
    asked = server.asked()
    assert 0.2 < sum(one["bad"] for one in asked) / len(asked) < 0.5
    assert found.kept == 24 and not found.reasons and found.modes["degraded"] == 3
    assert found.units_from == {"pseudo": 24}
    kept = responses(tmp_path / "out")
    for line in (*read_lines(tmp_path / "out" / "sft.jsonl"), *read_lines(tmp_path / "out" / "rl.jsonl")):
        # Every line leads back to the answers that made it, the last of which holds its thoughts.
        stages = [kept[key]["stage"] for key in line.responses]
        assert stages == [*(["describe raw"] if line.mode == "degraded" else ["describe raw", "describe views"]),
                          "units", "write"]  # fmt: skip
        thoughts = json.loads(kept[line.responses[-1]]["text"])["thoughts"]
        assert all(thought in turn for thought, turn in zip(thoughts, line.turns, strict=True))
        assert line.aus == ["AU6", "AU12"] and line.evidence["AU12"] == "lip corners are drawn up and out"
        assert line.descriptions["raw"] == kept[line.responses[0]]["text"]


def test_killed_and_resumed_without_a_lost_or_doubled_sample(serve: Callable[..., Remote], tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 18, labels=("happiness", "fear"))
    whole = run(serve("--garbage", "0.33"), data, tmp_path / "whole", shard_size=5)
    server, out = serve("--garbage", "0.33", "--slow", "0.1"), tmp_path / "out"
    options = f"--writer endpoint --endpoint {server.url} --model m --detector curate-middle --out {out} --seed 3"
    options += " --attempts 6 --views none --rl-size 4 --concurrency 2 --set shard_size=5"
    options += "".join(f" --chat {name}={value}" for name, value in SMALL.items())
    command = [sys.executable, "-m", "actfer_env", "--import", "curate_data", "data", "curate", str(data)]
    command += options.split()
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OPENAI_API_KEY": ""}
    for wanted in (12, 30):  # killed twice, in the middle of answers
        process = subprocess.Popen(command, env=surroundings, stderr=subprocess.DEVNULL, cwd=tmp_path)
        while len(server.asked()) < wanted and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = len(server.asked())
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    indices = [json.loads(line)["index"] for path in sorted((out / "lines").iterdir()) for line in path.open()]
    assert sorted(indices) == list(range(18))
    for name in ("sft.jsonl", "rl.jsonl", "report.json"):
        mine, theirs = ((folder / name).read_text() for folder in (out, tmp_path / "whole"))
        assert plain(mine) == plain(theirs), name
    assert whole.kept == 18 and len(server.asked()) > before
    # What had been answered was not asked again, but for the calls under way at a kill, two each time, and for answers
    # that were none of a chat endpoint's.
    answered = [one for one in server.asked() if not one["odd"]]
    assert 0 <= len(answered) - len(responses(out)) <= 4


def plain(text: str) -> str:
    """Leave out the keys of answers, which name the server's address."""
    rows = (
        [json.loads(line) for line in text.splitlines()]
        if text.startswith('{"schema": 1, "id"')
        else [json.loads(text)]
    )
    return json.dumps([{**row, "responses": None} for row in rows])


def test_a_finished_curation_asks_nothing_and_other_settings_are_refused(
    serve: Callable[..., Remote], tmp_path: Path
) -> None:
    data = write_set(tmp_path / "data", 8, labels=("anger",))
    server = serve()
    run(server, data, tmp_path / "out")
    count = len(server.asked())
    run(server, data, tmp_path / "out", rl_size=2)  # other sizes of the sets need no answers
    assert len(server.asked()) == count and len(list(read_lines(tmp_path / "out" / "rl.jsonl"))) == 2
    with pytest.raises(Exception, match=r"options.strategy is eliminate .* given.*: choose another folder"):
        run(server, data, tmp_path / "out", strategy="eliminate")


def test_wrong_emotions_are_struck_off_and_the_truth_is_never_told(
    serve: Callable[..., Remote], tmp_path: Path
) -> None:
    """The server always takes the first candidate, so that the last but one is reached by exclusion."""
    data = write_set(tmp_path / "data", 3, labels=("neutral", "anger", "contempt"))
    found = run(serve(), data, tmp_path / "out", strategy="eliminate", rl_size=0)
    lines = {line.emotion: line for line in read_lines(tmp_path / "out" / "sft.jsonl")}
    assert set(lines) == {"neutral", "anger"} and lines["neutral"].attempts == 1 and lines["anger"].attempts == 7
    assert found.reasons == {"write: eliminated": 1}  # what would have been left is the truth itself
    assert lines["anger"].strategy == "eliminate"


@pytest.mark.parametrize("preset", ["facial_r1", "tag"])
def test_other_papers_formats(preset: str, serve: Callable[..., Remote], tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 6, labels=("happiness", "fear"))
    found = run(serve("--garbage", "0.3"), data, tmp_path / "out", chat={**SMALL, "preset": preset})
    assert found.kept == 6 and found.modes == {"passive": 6}
    for line in read_lines(tmp_path / "out" / "sft.jsonl"):
        (turn,) = line.turns
        assert turn.endswith(f"<answer>{line.emotion}</answer>")
        if preset == "tag":
            assert 1 <= turn.count("<bbox>") <= 3
        else:
            assert all(f"({unit})" in turn for unit in line.aus)


def test_a_server_that_only_talks_nonsense_ends_the_curation_in_one_line(
    serve: Callable[..., Remote], tmp_path: Path
) -> None:
    data = write_set(tmp_path / "data", 30)
    with pytest.raises(EndpointError, match="10 samples got no usable answer") as caught:
        run(serve("--garbage", "1"), data, tmp_path / "out", attempts=1)
    assert "\n" not in str(caught.value)


def test_the_token_budget_stops_and_the_same_call_goes_on(serve: Callable[..., Remote], tmp_path: Path) -> None:
    data, server = write_set(tmp_path / "data", 6, labels=("fear",)), serve()
    options = CurateOptions.build(**FIELDS)
    small = EndpointConfig(server.url, "m", concurrency=1, seed=3, temperature=0.7, token_budget=60)
    with pytest.raises(EndpointError, match=r"token budget of 60 is used up \(60\)"):
        curate(load_dataset("jsonl", data), tmp_path / "out", options, endpoint=small)
    assert len(server.asked()) == 4
    assert run(server, data, tmp_path / "out").kept == 6
    assert len(server.asked()) == len(responses(tmp_path / "out")) == 18  # 3 stages of 6 samples


def test_a_dry_run_sends_nothing(serve: Callable[..., Remote], tmp_path: Path) -> None:
    data, server = write_set(tmp_path / "data", 6, units=False, labels=("fear",)), serve()
    done = subprocess.run(
        [sys.executable, "-m", "actfer_env", "data", "curate", str(data), "--writer", "endpoint", "--endpoint",
         server.url, "--model", "m", "--dry-run", "--price", "1", "4", "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, env={**os.environ, "OPENAI_API_KEY": ""}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "calls" in done.stdout and "nothing was sent" in done.stdout
    assert not server.asked() and not (tmp_path / "out").exists()


def test_an_endpoint_is_asked_for_by_one_line(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", 2)
    done = subprocess.run([sys.executable, "-m", "actfer_env", "data", "curate", str(data), "--writer", "endpoint"],
                          capture_output=True, text=True, check=False, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1 and one_line(done.stderr) and "needs --endpoint and --model" in done.stderr
