"""Played episodes as traces of trackio, in its own store on this machine."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers import DETECT, ZOOM, actfer
from integrations.test_doors import SAMPLE

from actfer_env.chat import ChatEpisode, chat_tools
from actfer_env.errors import DataError, SettingsError
from actfer_env.evaluation.run import read_run
from actfer_env.integrations.trackio import _messages, trace_run


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced") / "run"
    done = actfer("rollout", "synthetic", "--split", "test", "-n", "2", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_conversations_with_pictures_are_stored_here(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    pytest.importorskip("trackio", reason="needs pip install 'actfer-env[trackio]'")
    from trackio import utils
    from trackio.sqlite_storage import SQLiteStorage

    run = read_run(played)
    assert trace_run(played, "faces") == len(run.rollouts) == 2
    store = Path(utils.TRACKIO_DIR)
    assert store == tmp_path / "store"  # nowhere else
    with closing(sqlite3.connect(SQLiteStorage.get_project_db_path("faces"))) as base:
        stored = base.execute("SELECT messages, metadata FROM traces ORDER BY step").fetchall()
    traces = [{"messages": json.loads(messages), "metadata": json.loads(metadata)} for messages, metadata in stored]
    assert len(traces) == 2
    for trace, rollout in zip(traces, run.rollouts, strict=True):
        roles = [message["role"] for message in trace["messages"]]
        legal = [call for call in rollout.tool_calls if not call.violation]
        assert roles[0] == "user" and roles.count("tool") == len(rollout.tool_calls) and roles[-1] == "assistant"
        assert trace["metadata"]["sample"] == rollout.sample_id and trace["metadata"]["correct"] is rollout.correct
        shown = [part for message in trace["messages"] if isinstance(message["content"], list)
                 for part in message["content"] if part.get("_type") == "trackio.image"]  # fmt: skip
        crops = sum(len(call.boxes) for call in legal)
        assert len(shown) == 1 + (rollout.detection == "ok") + crops
        assert all((store / "media" / part["file_path"]).is_file() for part in shown)
        asked = [call["function"] for message in trace["messages"] for call in message.get("tool_calls") or ()]
        assert [json.loads(one["arguments"]) for one in asked] == [call.arguments for call in rollout.tool_calls]


def test_each_call_stands_with_the_turn_that_made_it() -> None:
    two = DETECT + ZOOM
    episode = ChatEpisode(SAMPLE, chat_tools())
    for text in (two, "no call at all", "I am not sure."):
        episode.step(text)
    episode.stop("too_long")
    messages = _messages(episode.rollout(), [])
    asked = [(one["content"], [call["function"]["name"] for call in one.get("tool_calls", ())])
             for one in messages if one["role"] == "assistant"]  # fmt: skip
    assert asked[0] == (two, ["detect_align", "zoom_in"])
    assert [text for text, _ in asked] == [two, "no call at all", "I am not sure."]
    assert [one["tool_call_id"] for one in messages if one["role"] == "tool"] == [
        call["id"] for one in messages for call in one.get("tool_calls", ())
    ]


def test_what_would_leave_the_machine_is_refused(played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio", reason="needs pip install 'actfer-env[trackio]'")
    with pytest.raises(DataError, match="no stored run here"):
        trace_run(tmp_path, "faces")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/faces")
    with pytest.raises(SettingsError, match="TRACKIO_SPACE_ID is set"):
        trace_run(played, "faces")


def test_a_missing_package_is_named(played: Path) -> None:
    from importlib.util import find_spec

    if find_spec("trackio") is not None:
        pytest.skip("trackio is installed here")
    with pytest.raises(DataError, match=r"actfer-env\[trackio\]") as caught:
        trace_run(played, "faces")
    assert "\n" not in str(caught.value)
