"""The taskset, harness and groups for verifiers: its own engine, against a scripted endpoint on loopback."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import numpy as np
import pytest
from endpoint_server import Server
from integrations.test_doors import FACES, SAMPLE, TEXTS, digest, of_chat
from PIL import Image

pytest.importorskip("verifiers", reason="needs pip install 'actfer-env[verifiers]', in an environment of its own")
import verifiers.v1 as vf
from verifiers.v1.clients import EvalClientConfig, ModelContext
from verifiers.v1.runtimes import SubprocessConfig
from verifiers.v1.utils.loaders import load_environment, resolve_env_config

from actfer_env.errors import DataError
from actfer_env.integrations.verifiers import FaceGroupEnv, FaceHarness, rollout_of
from actfer_env.rewards import UCGRPO

NUMBER = [one.id for one in FACES].index(SAMPLE.id)


class Scripted(Server):
    """A server whose n-th conversation follows the n-th script; it can stream."""

    scripts: tuple = ()

    def reply(self, body, key):
        status, answer = super().reply(body, key)
        if status != 200 or not body.get("stream"):
            return status, answer
        message = answer["choices"][0]["message"]
        calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls", ()))]
        delta = {"role": "assistant", "content": message["content"], **({"tool_calls": calls} if calls else {})}
        head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
        chunks = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}]},
            {**head, "choices": [], "usage": answer["usage"]},
        ]
        lines = [f"data: {json.dumps(one)}\n\n" for one in chunks]
        return 200, "".join([*lines, "data: [DONE]\n\n"]).encode()

    def message(self, turn):
        begun = sum(all(one["role"] != "assistant" for one in body["messages"]) for body in self.requests)
        script = self.scripts[(begun - 1) % len(self.scripts)]
        said = script[min(turn, len(script) - 1)]
        return said if isinstance(said, dict) else {"role": "assistant", "content": said}


def episode_of(server, number=NUMBER, **env):
    """Play one task with verifiers' engine; return the environment and the finished episode."""
    settings = {**env, "taskset": {"id": "actfer_verifiers", "n": len(FACES), **env.get("taskset", {})}}
    made = load_environment(resolve_env_config(settings))
    context = ModelContext(model="m", client=EvalClientConfig(base_url=server.url, api_key_var="NONE"))

    async def play():
        async with made.serving():
            (slot,) = made.slots(list(made.taskset)[number])
            return await made.run_slot(slot, context)

    return made, asyncio.run(play())


def pictures(trace):
    found = []
    for message in trace.messages:
        for part in message.content if isinstance(message.content, list) else []:
            if part.type == "image_url":
                content = base64.b64decode(part.image_url.url.partition(",")[2])
                found.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    return found


def scripted(*scripts):
    server = Scripted()
    server.scripts = scripts
    return server


def native(number, name, arguments):
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": f"c{number}", "type": "function", "function": function}],
    }


LOOKED = (
    native(0, "detect_align", "{}"), native(1, "zoom_in", '{"regions": ["nose"]}'), TEXTS[-1],
)  # fmt: skip


@pytest.mark.parametrize("script", [TEXTS, LOOKED], ids=["text", "native"])
def test_one_digest_through_this_door(script):
    with scripted(script) as server:
        made, episode = episode_of(server)
    assert isinstance(made, FaceGroupEnv) and episode.ok, episode.errors
    (trace,) = episode.traces
    terms = {name: trace.metrics[f"ucgrpo_{name}"] for name in ("task", "structure", "utility", "quality")}
    assert digest(rollout_of(trace), pictures(trace), {**terms, "total": trace.reward}) == digest(*of_chat())
    assert trace.metrics["zoomed"] == 1.0 and trace.metrics["violations"] == 0.0
    assert [tool.name for tool in trace.tools] == ["detect_align", "zoom_in"]


def test_a_group_is_scored_by_its_contrast():
    plain = (TEXTS[0], '<answer>{"emotion": "anger", "aus": []}</answer>')
    right = (*TEXTS[:2], f'<answer>{{"emotion": "{SAMPLE.emotion}", "aus": []}}</answer>')
    with scripted(right, plain, right, plain) as server:
        _, episode = episode_of(server, group=4)
    assert episode.ok and len(episode.traces) == 4, episode.errors
    rollouts = [rollout_of(trace) for trace in episode.traces]
    assert [one.zoomed for one in rollouts].count(True) == 2
    scores = UCGRPO().score(rollouts)
    assert [trace.reward for trace in episode.traces] == pytest.approx(list(scores.total))
    assert [trace.metrics["ucgrpo_advantage"] for trace in episode.traces] == pytest.approx(list(scores.advantage))
    place = next(place for place, one in enumerate(rollouts) if not one.zoomed)
    alone = UCGRPO().score([rollouts[place]]).total[0]
    assert episode.traces[place].reward < alone - 0.1  # zooming was worth something in this group


def test_what_cannot_be_played_costs_a_turn_and_is_answered():
    script = (
        native(0, "zoom_in", '{"regions": ["nose"]}'),
        native(1, "fly", "{}"),
        native(2, "zoom_in", "{"),
        "hm",
        TEXTS[-1],
    )
    with scripted(script) as server:
        _, episode = episode_of(server)
    (trace,) = episode.traces
    assert episode.ok and trace.metrics["violations"] == 4.0 and trace.metrics["truncated"] == 0.0
    assert [json.loads(one.content)["error"] for one in trace.tool_messages][:2] == ["illegal_order", "unknown_tool"]


def test_a_limit_of_verifiers_ends_the_episode():
    agent = {"runtime": SubprocessConfig().model_dump(), "max_turns": 2}
    with scripted(TEXTS) as server:
        _, episode = episode_of(server, agent=agent)
    (trace,) = episode.traces
    assert trace.stop_condition == "max_turns"
    assert rollout_of(trace).meta["outcome"] == "out_of_budget" and rollout_of(trace).predicted_emotion is None


def test_a_group_with_a_failed_attempt_is_not_scored():
    with scripted(TEXTS) as server:
        server.answer = (400, {"error": {"message": "no such model"}})
        _, episode = episode_of(server, group=2)
    assert not episode.ok and any("no such model" in str(trace.errors) for trace in episode.traces)
    assert "2 of 2 attempts failed: the group is not whole" in str(episode.errors)


def test_the_taskset_is_that_of_the_data_set():
    made = load_environment(resolve_env_config({"taskset": {"id": "actfer_verifiers", "n": 3}}))
    tasks = list(made.taskset)
    assert [task.data.id for task in tasks] == [one.id for one in list(FACES)[:3]] and tasks[2].data.idx == 2
    assert isinstance(next(iter(made._harnesses.values())), FaceHarness)
    trace = vf.Trace.model_construct(id="x", info={})
    with pytest.raises(DataError, match="has no episode"):
        rollout_of(trace)


@pytest.mark.slow  # verifiers installs what its own program needs
def test_another_harness_plays_the_same_by_the_tools_server():
    agent = {"runtime": SubprocessConfig().model_dump(), "harness": {"id": "null"}}
    with scripted(LOOKED) as server:
        _, episode = episode_of(server, agent=agent, taskset={"task": {"tools": True}})
    assert episode.ok, [trace.errors for trace in episode.traces]
    (trace,) = episode.traces
    terms = {name: trace.metrics[f"ucgrpo_{name}"] for name in ("task", "structure", "utility", "quality")}
    assert digest(rollout_of(trace), pictures(trace), {**terms, "total": trace.reward}) == digest(*of_chat())
