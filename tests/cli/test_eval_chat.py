"""`actfer eval --chat`: a model is asked as it was taught."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from endpoint_server import Server
from PIL import Image
from typer.testing import CliRunner

from actfer_env.cli import app
from actfer_env.errors import ActFERError
from actfer_env.evaluation import read_run


def pictures_of(request: dict) -> list[tuple[int, int]]:
    parts = [part for message in request["messages"] if isinstance(message["content"], list)
             for part in message["content"] if part["type"] == "image_url"]  # fmt: skip
    return [Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).size for part in parts]


def test_fields_of_the_conversation_reach_the_model_and_the_run(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
    with Server() as server:
        command = [
            "eval",
            "synthetic",
            "-n",
            "1",
            "--model",
            "m",
            "--endpoint",
            server.url,
            "--out",
            str(tmp_path / "a"),
        ]
        done = CliRunner().invoke(app, [*command, "--chat", "brief=true", "--chat", "image_side=80"])
        assert done.exit_code == 0, done.output
        brief = server.requests[0]
        assert all(max(size) <= 80 for size in pictures_of(brief))
        other = CliRunner().invoke(app, command)
        assert other.exit_code == 1 and "brief" in str(other.exception)  # the folder belongs to other conversations
        plain = CliRunner().invoke(app, [*command[:-1], str(tmp_path / "b")])
        assert plain.exit_code == 0 and max(max(size) for size in pictures_of(server.requests[-1])) > 80
    assert len(str(brief["messages"][0])) < len(str(server.requests[-1]["messages"][0]))
    assert read_run(tmp_path / "a").settings != read_run(tmp_path / "b").settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--chat", "brieff=true"], "brieff is unknown: use one of brief, schemas_in_prompt"),
        (["--chat", "preset=tag"], "use the option of its own"),
        (["--chat", "face_side=2"], "face_side must be a whole number in [16, 4096], got 2"),
        (["--chat", "brief"], "must be FIELD=VALUE"),
        (["--chat", "brief=true", "--chat", "brief=false"], "each field once"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_wrong_field_is_one_line(given: list[str], words: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["eval", "synthetic", "-n", "1", "--model", "m", "--out", str(tmp_path / "x"), *given]
    )
    assert done.exit_code == 1 and isinstance(done.exception, ActFERError)
    assert words in str(done.exception) and "\n" not in str(done.exception)
    assert not (tmp_path / "x").exists()


def test_a_policy_that_is_not_asked_takes_none(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["eval", "synthetic", "--agent", "random", "--chat", "brief=true"])
    assert done.exit_code == 1 and "--chat goes with --model" in str(done.exception)
