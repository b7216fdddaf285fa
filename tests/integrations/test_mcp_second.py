"""`actfer mcp` asked by a second client, MCP's reference SDK in JavaScript, over both transports."""

from __future__ import annotations

import json
import os
import sys

import pytest
from integrations.second_client import ask, read, sdk
from integrations.served_faces import FACE, HOSTILE, LOOKS, hostile_folder
from integrations.test_doors import SAMPLE, digest, of_chat

from actfer_env.integrations.served import ROLLOUTS, FaceService
from actfer_env.rollout import read_rollouts

pytest.importorskip("mcp", reason="needs pip install 'actfer-env[mcp]'")
from integrations.test_mcp import TOOLS, Server

EPISODE = [
    ("episode_open", {"path": FACE}),
    *(("episode_call", {"episode": "$episode", "name": name, "arguments": given}) for name, given in LOOKS),
    ("episode_answer", {"episode": "$episode", "emotion": "happiness", "aus": ["AU6", "AU12"]}),
    ("episode_score", {"episode": "$episode"}),
]
WRONG = [("detect_align", {}), ("detect_align", {"path": 3}), ("zoom_in", {"path": FACE, "boxes": "x"}),
         ("episode_call", {"episode": "x", "name": "y"}), ("no_such_tool", {})]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    sdk()
    return hostile_folder(tmp_path_factory.mktemp("second"))


@pytest.mark.parametrize("http", [False, True], ids=["stdio", "http"])
def test_tools_an_episode_and_what_is_refused(http, root, tmp_path):
    calls = [("detect_align", {"path": FACE}), ("zoom_in", {"path": FACE, "regions": ["nose"]}), *EPISODE,
             *(("detect_align", {"path": path}) for path in HOSTILE), *WRONG]  # fmt: skip
    served = ["--root", root, "--detector", "mtcnn", "--out", tmp_path]
    if http:
        server = Server(*served)
        try:
            (found,) = ask([calls], url=server.url)
        finally:
            server.end()
    else:
        (found,) = ask([calls], command=[sys.executable, "-m", "actfer_env", "mcp", *map(str, served)])
    assert found["tools"] == TOOLS
    service, results = FaceService([root], "mtcnn"), iter(found["results"])
    for ours in (service.detect_align(FACE), service.zoom_in(FACE, ["nose"])):
        pictures, told = read(next(results))
        assert told == json.loads(json.dumps(ours.told)) and len(pictures) == 1
        assert (pictures[0] == ours.pictures[0]).all()
    played = [read(next(results)) for _ in EPISODE]
    assert [len(pictures) for pictures, _ in played] == [1, 1, 1, 0, 0]
    assert played[-1][1]["reward"]["total"] == pytest.approx(1.15) and played[-1][1]["correct"] is True
    (kept,) = read_rollouts(tmp_path / ROLLOUTS)
    assert kept.zoomed and kept.predicted_emotion == "happiness"
    for path in HOSTILE:
        refused = next(results)
        assert refused["isError"] and [part["type"] for part in refused["content"]] == ["text"], path
        assert "\n" not in refused["content"][0]["text"] and str(root.parent) not in refused["content"][0]["text"]
    for name, _ in WRONG:
        refused = next(results)
        assert refused.get("isError") or (name == "no_such_tool" and name in refused["thrown"])


def test_the_second_client_gets_the_digest_of_every_door(tmp_path):
    served = ["--dataset", "synthetic", "--split", "test", "--out", str(tmp_path)]
    calls = [("episode_open", {"sample": SAMPLE.id}), *EPISODE[1:]]
    (found,) = ask([calls], command=[sys.executable, "-m", "actfer_env", "mcp", *served])
    results = [read(one) for one in found["results"]]
    (rollout,) = read_rollouts(tmp_path / ROLLOUTS)
    pictures = [picture for shown, _ in results for picture in shown]
    assert len(pictures) == 3 and digest(rollout, pictures, results[-1][1]["reward"]) == digest(*of_chat())


def test_twenty_sessions_at_a_time(root):
    server = Server("--root", root, "--detector", "mtcnn", OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))
    try:
        alone, *sessions = ask([EPISODE] * 20, url=server.url)
    finally:
        server.end()
    handles = {read(one["results"][0])[1]["episode"] for one in (alone, *sessions)}
    assert len(handles) == 20
    for session in sessions:
        assert session["results"][1:] == alone["results"][1:]
