"""The key, and what an address holds of user, password and query, are shown and stored nowhere, in no form."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest
from endpoint_server import Server

from actfer_env.agents.endpoint import EndpointConfig, EndpointError, OpenAIChatAgent
from actfer_env.agents.masking import Mask, address
from actfer_env.chat import ChatEpisode, chat_tools
from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import AgentError
from actfer_env.evaluation import EvalConfig, evaluate, write_report, write_run

pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")

KEY = "sk-Abc123/secret+Key==&x9"
USER, PASSWORD, TOKEN = "anna", "pa55+w%rd/x", "q7ry-Token-0815"


def forms(secret: str) -> set[str]:
    """Return what must be found nowhere."""
    login = f"{USER}:{secret}" if secret == PASSWORD else secret
    coded = [base64.b64encode(text.encode()).decode().rstrip("=") for text in (secret, login)]
    return {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), html.escape(secret), *coded,
            json.dumps(secret)[1:-1], repr(secret)[1:-1], secret[:12]}  # fmt: skip


FORBIDDEN = forms(KEY) | forms(PASSWORD) | forms(TOKEN)


def clean(text: str) -> bool:
    return not any(form in text for form in FORBIDDEN)


@pytest.fixture(scope="module")
def samples() -> Dataset:
    return load_dataset("synthetic", split="test", n=2)


class Gossip(Server):
    """A server that repeats all that it was sent, in every form, in refusals or in answers."""

    def __init__(self, status: int, later: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.status, self.later = status, later

    def words(self, key: str) -> str:
        return f"you sent {key}; " + " | ".join(sorted(FORBIDDEN - {secret[:12] for secret in (KEY, PASSWORD, TOKEN)}))

    def reply(self, body: dict[str, Any], key: str) -> tuple[int | None, Any]:
        if self.later and len(body["messages"]) < 3:
            return super().reply(body, key)
        if self.status == 200:
            content = f"<think>{self.words(key)}</think><answer>{self.words(key)}</answer>"
            message = {"role": "assistant", "content": content, "reasoning": self.words(key)}
            return 200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": None,
                         "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip
        return self.status, {"error": {"message": self.words(key), "code": "x"}}


def with_credentials(url: str) -> str:
    parts = urlsplit(url)
    login = f"{USER}:{quote(PASSWORD, safe='')}"
    return f"http://{login}@{parts.netloc}{parts.path}?api_key={TOKEN}&api-version=2024-10-21"


@pytest.mark.parametrize("status", [200, 400, 401, 413, 503])
@pytest.mark.parametrize("later", [False, True])
def test_a_gossiping_server_cannot_make_us_show_or_store_a_secret(
    status: int, later: bool, samples: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    log = io.StringIO()
    handler, root = logging.StreamHandler(log), logging.getLogger()
    root.addHandler(handler)
    monkeypatch.setattr(root, "level", logging.DEBUG)
    shown = ""
    with Gossip(status, later) as server:
        agent = OpenAIChatAgent(EndpointConfig(with_credentials(server.url), "m", retries=0, cache=str(tmp_path / "c")))
        try:
            run = evaluate(agent, samples, EvalConfig(), tmp_path / "out")
            write_run(tmp_path / "out", run)
            write_report(tmp_path / "out", run)
        except AgentError as error:
            assert "\n" not in str(error)
            shown = f"{error} {error!r} {error.__cause__!r}"
    root.removeHandler(handler)
    assert clean(shown) and clean(repr(agent.config)) and clean(json.dumps(agent.settings)) and clean(log.getvalue())
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(clean(path.read_text("utf-8")) for path in stored) and all(clean(str(path)) for path in stored)
    assert stored or status != 200


def test_user_password_and_query_of_an_address_are_sent_as_such(
    samples: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []

    class Noting(Server):
        def __enter__(self) -> Server:
            server = super().__enter__()
            handler: Any = self.server.RequestHandlerClass
            plain = handler.do_POST
            monkeypatch.setattr(handler, "do_POST", lambda self: (paths.append(self.path), plain(self))[1])
            return server

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Noting() as server:
        agent = OpenAIChatAgent(EndpointConfig(with_credentials(server.url), "m", retries=0))
        assert len(evaluate(agent, samples, EvalConfig(number=1)).rollouts) == 1
        assert agent.settings["endpoint"] == f"{server.url}?api-version=2024-10-21"
    assert set(paths) == {f"/v1/chat/completions?api_key={TOKEN}&api-version=2024-10-21"}
    assert set(server.keys) == {"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\n", f"  {KEY}\t"])
def test_space_around_a_key_is_cut_off(key: str, samples: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with Server() as server:
        agent = OpenAIChatAgent(EndpointConfig(server.url, "m", "MY_KEY", retries=0))
        evaluate(agent, samples, EvalConfig(number=1))
    assert set(server.keys) == {f"Bearer {KEY}"}


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"a\x01{KEY}", f"{KEY}é", f"{KEY}\u20ac", f"{KEY} x", f"\ufeff{KEY}"])
def test_a_key_that_no_header_can_carry_is_refused_in_one_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(EndpointError, match="MY_KEY") as caught:
        OpenAIChatAgent(EndpointConfig("http://localhost:9/v1", "m", "MY_KEY"))
    assert clean(str(caught.value)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [
    {"url": f"ftp://{USER}:{PASSWORD}@host/v1"}, {"url": f"{USER}:{PASSWORD}@host/v1?key={TOKEN}"},
    {"url": f"https://{USER}:{PASSWORD}@host:80a/v1"}, {"url": f"https://{USER}:{PASSWORD}@host/v1"},
    {"url": f"host?api_key={TOKEN}#{TOKEN}"}, {"url": f"https://?api_key={TOKEN}"},
    {"url": "http://host/v1", "key_variable": KEY}, {"url": "http://host/v1", "key_variable": TOKEN},
    {"url": f"https://ho st/{USER}?{TOKEN}"}, {"url": "http://host:99999/v1"},
])  # fmt: skip
def test_settings_that_are_refused_are_named_without_their_secrets(config: dict[str, str]) -> None:
    with pytest.raises(EndpointError) as caught:
        EndpointConfig(**{"model": "m", **config})
    assert clean(str(caught.value)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("url", "shown"), [
    ("http://localhost:8000/v1/", "http://localhost:8000/v1"), ("HTTPS://u:p@Host.org/v1?api_key=k#f", "https://host.org/v1"),
    ("https://token@host/v1", "https://host/v1"), ("https://h/v1?api-version=1&k=s", "https://h/v1?api-version=1"),
    ("https://h/@cf/v1", "https://h/@cf/v1"), ("https://u:p/q@h/v1", "https://h/v1"), ("u:p@h", "h"), ("", ""),
])  # fmt: skip
def test_an_address_without_credentials(url: str, shown: str) -> None:
    assert address(url) == shown


def test_two_addresses_of_one_endpoint_share_answers_and_two_endpoints_do_not(samples: Dataset, tmp_path: Path) -> None:
    with Server() as one, Server() as other:
        for url in (one.url, f"{one.url}/", with_credentials(one.url).partition("?")[0], other.url):
            agent = OpenAIChatAgent(EndpointConfig(url, "m", retries=0, cache=str(tmp_path)))
            evaluate(agent, samples, EvalConfig(number=1))
        assert len(one.requests) == len(other.requests) > 0


@pytest.mark.parametrize("secret", ["on", "x", "pass"])
def test_a_short_password_is_masked_as_a_word_only(secret: str) -> None:
    assert Mask(secret).hide(f"reason {secret}, {secret}word: {secret}") == f"reason ***, {secret}word: ***"


@pytest.mark.parametrize("key", ["none", "EMPTY", "AU1"])
def test_a_placeholder_for_a_key_changes_no_answer(key: str, samples: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for value in ("", key):
        monkeypatch.setenv("OPENAI_API_KEY", value)
        with Server() as server:
            agent = OpenAIChatAgent(EndpointConfig(server.url, "m", retries=0))
            runs.append(evaluate(agent, samples, EvalConfig(number=1)))
    assert runs[0].rollouts[0].texts == runs[1].rollouts[0].texts and runs[1].rollouts[0].predicted_aus == {1, 2}


def test_a_quoted_beginning_of_a_key_is_masked() -> None:
    assert KEY[:13] not in Mask(KEY).hide(f"the key {KEY[:13]}... is wrong")
    assert Mask("", "").hide("nothing to hide") == "nothing to hide"


def test_the_environment_is_asked_once(samples: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with Gossip(401) as server:
        agent = OpenAIChatAgent(EndpointConfig(server.url, "m", "MY_KEY", retries=0))
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(EndpointError) as caught:
            list(agent.play([ChatEpisode(samples[0], chat_tools())]))
    assert not any(form in str(caught.value) for form in forms(KEY))


@pytest.mark.parametrize("key", [KEY, f"{KEY}\n", f"{KEY}\n{KEY}"])
def test_the_command_prints_and_stores_no_secret(key: str, tmp_path: Path) -> None:
    with Gossip(401) as server:
        command = [sys.executable, "-m", "actfer_env", "eval", "synthetic", "-n", "1", "--model", "m", "--endpoint",
                   with_credentials(server.url), "--out", tmp_path / "out", "--cache", tmp_path / "cache"]  # fmt: skip
        done = subprocess.run(command, env={**os.environ, "OPENAI_API_KEY": key}, capture_output=True, check=False)
    shown = (done.stdout + done.stderr).decode()
    assert done.returncode == 1 and "Traceback" not in shown and shown.count("actfer:") == 1
    assert clean(shown)
    assert all(clean(path.read_text("utf-8")) for path in tmp_path.rglob("*") if path.is_file())
