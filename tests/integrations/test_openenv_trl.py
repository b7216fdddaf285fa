"""TRL's environment over a server of `actfer openenv`: the same episode, what is refused, and TRL's own trainer."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from helpers import DETECT, ZOOM
from integrations.test_doors import ANSWER, FACES, SAMPLE, TEXTS, digest, of_chat

pytest.importorskip("openenv", reason="needs pip install 'actfer-env[openenv]', in an environment of its own")
from integrations.test_openenv import Server

from actfer_env.errors import DataError
from actfer_env.integrations.trl import FaceEnv, UCGRPOReward, environments
from actfer_env.integrations.trl.environment import NUMBER, TURN
from actfer_env.integrations.trl.served import ServedFaceEnv, patiently
from actfer_env.verl_plugin.rows import reference

ROW = {"extra_info": {"sample": json.dumps(reference(SAMPLE, FACES))}}
TWO = (
    '<tool_call>{"name": "detect_align", "arguments": {}}</tool_call>'
    '<tool_call>{"name": "zoom_in", "arguments": {"regions": ["nose", "mouth-chin"]}}</tool_call>'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("served")
    (place / "root").mkdir()
    one = Server(place / "root", place / "out")
    yield one
    one.end()


def scored(env, completion):
    reward = UCGRPOReward()
    reward.group_size = 1
    reward([completion], environments=[env])
    (rollout,), scores = reward.last
    return rollout, scores.terms(0)


def played(env, texts):
    """Play whole turns as `read_turns` hands them over; return the completion and what was shown for each."""
    shown, completion = [env.reset(**ROW)], []
    for text in texts:
        completion.append({"role": "assistant", "content": text})
        if "tool_call" in text:
            calls = text.count("<tool_call>")
            shown += [env.detect_align(**{TURN: text, NUMBER: number}) for number in range(calls)]
    return completion, shown


def test_the_digest_is_that_of_every_door(server):
    env = ServedFaceEnv(server.url)
    completion, shown = played(env, TEXTS)
    pictures = [np.asarray(part["image"]) for blocks in shown for part in blocks if part["type"] == "image"]
    rollout, terms = scored(env, completion)
    assert digest(rollout, pictures, terms) == digest(*of_chat())


@pytest.mark.parametrize("texts", [(TWO, ANSWER), (DETECT, "no call", ZOOM), (DETECT, DETECT, ANSWER), ("",)])
def test_each_call_is_answered_as_without_a_server(server, texts):
    """Two calls in a turn, turns that cannot be read, a refused call, and an episode that ends without an answer."""
    here, there = FaceEnv(), ServedFaceEnv(server.url)
    (one, shown), (other, seen) = played(here, texts), played(there, texts)
    for mine, theirs in zip(shown, seen, strict=True):
        assert [part["type"] for part in mine] == [part["type"] for part in theirs]
        for a, b in zip(mine, theirs, strict=True):
            same = np.array_equal(a["image"], b["image"]) if a["type"] == "image" else a == b
            assert same, (a, b)
    (first, terms), (second, others) = scored(here, one), scored(there, other)
    assert terms == others and first.texts == second.texts and first.tool_calls == second.tool_calls
    assert first.meta["outcome"] == second.meta["outcome"]
    there.reset(**ROW)  # the session goes on with another episode
    assert "regions" in str(there._native("detect_align", {})[-1])


def test_what_does_not_fit_is_told_in_one_line(server, tmp_path):
    env = ServedFaceEnv(server.url)
    with pytest.raises(DataError, match=r"the server does not play 'nobody': .*nobody"):
        env.reset({"sample": {"id": "nobody"}})
    with pytest.raises(DataError, match="the server plays other conversations than the rows"):
        env.reset(**ROW, prompt=[{"role": "system", "content": "be brief"}])
    with pytest.raises(DataError, match="names no sample"):
        env.reset()
    (tmp_path / "root").mkdir()
    other = Server(tmp_path / "root", tmp_path / "out")
    env = ServedFaceEnv(other.url)
    env.reset(**ROW)
    other.end(signal.SIGKILL)
    with pytest.raises(ConnectionError, match=r"ended the session|Failed to connect"):
        env.detect_align(**{TURN: DETECT, NUMBER: 0})


def test_a_busy_server_is_asked_again(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    answers = iter(["512 calls are waiting already: try again in a moment", "more than 3: try again in a moment", ""])

    def ask():
        if said := next(answers):
            raise RuntimeError(said)
        return "played"

    assert patiently(ask) == "played"
    answers = iter(["no such sample"])
    with pytest.raises(RuntimeError, match="no such sample"):
        patiently(ask)
    answers = iter(["try again in a moment"])
    with pytest.raises(RuntimeError, match="try again"):
        patiently(ask, seconds=-1.0)


def test_trls_own_trainer_learns_over_a_server(server, tmp_path):
    pytest.importorskip("trl", reason="needs pip install 'actfer-env[openenv,trl]'")
    from integrations.test_trl import Scripted, trainer_of
    from transformers import AutoProcessor

    from actfer_env.agents.qwen import tiny
    from actfer_env.integrations.trl import read_turns, rows

    folder = tiny.build(tmp_path / "model")
    fed = []
    for factory in (environments(), environments(url=server.url)):
        reward = UCGRPOReward()
        processor = read_turns(AutoProcessor.from_pretrained(folder, padding_side="left"))
        trainer = trainer_of(Scripted, folder, processor, tmp_path / str(len(fed)), reward, rows(FACES), factory,
                             max_steps=2, save_strategy="no")  # fmt: skip
        trainer.train()
        weights = [value.detach().clone() for value in trainer.model.parameters()]
        fed.append((reward.last[0], reward.last[1].advantage, weights))
    (here, advantage, weights), (there, others, learned) = fed
    assert [one.tool_calls for one in here] == [one.tool_calls for one in there]
    assert (advantage == others).all() and advantage.any()
    assert all((a == b).all() for a, b in zip(weights, learned, strict=True))
