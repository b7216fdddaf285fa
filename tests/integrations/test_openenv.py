"""`actfer openenv` as a real process, played by its typed client and by strangers; the bounds; the page."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import gymnasium as gym
import pytest
from helpers import ROOT, actfer, one_line
from integrations.served_faces import FACE, HOSTILE, LOOKS, hostile_folder
from integrations.test_doors import FACES, SAMPLE, digest, of_chat

pytest.importorskip("openenv", reason="needs pip install 'actfer-env[openenv]', in an environment of its own")
import uvicorn
from openenv.cli._validation import validate_running_environment
from openenv.validation import Level, Verdict, run_validation
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from actfer_env.errors import DataError
from actfer_env.integrations.network import ServiceError
from actfer_env.integrations.openenv import FaceAction, FaceClient, FaceEnvironment, openenv_app, serve
from actfer_env.integrations.served import FaceService, ServiceConfig
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rollout import read_rollouts

if not hasattr(os, "mkfifo"):
    pytest.skip("needs a system with named pipes", allow_module_level=True)

PACKAGE = ROOT / "actfer_env" / "integrations" / "openenv"
ANSWER = FaceAction.answer("happiness", ["AU6", "AU12"])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A process that serves drawn faces and a folder; it can be killed and started again."""

    def __init__(self, root: Path, out: Path) -> None:
        self.port = free_port()
        self.url, self.out = f"http://127.0.0.1:{self.port}", out
        self.command = [
            sys.executable, "-m", "actfer_env", "openenv", "--root", str(root), "--dataset", "synthetic",
            "--split", "test", "--port", str(self.port), "--out", str(out), "--episodes", "200",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, cwd="/")
        wait_for(self.port, self.process)

    def end(self, how: int = signal.SIGTERM) -> str:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)
        return self.process.stderr.read()

    def client(self, **settings) -> FaceClient:
        return FaceClient(base_url=self.url, connect_timeout_s=120, message_timeout_s=300, **settings)


def wait_for(port: int, process: subprocess.Popen | None = None) -> None:
    for _ in range(3000):
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server does not come up")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return hostile_folder(tmp_path_factory.mktemp("openenv"))


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    one = Server(root, tmp_path_factory.mktemp("kept"))
    yield one
    one.end()


@pytest.fixture
def in_thread(request):
    """A function that serves a service in this process; returns its URL."""
    running = []

    def start(service: FaceService, web: bool = False) -> str:
        port = free_port()
        one = uvicorn.Server(uvicorn.Config(openenv_app(service, web), port=port, log_level="error"))
        thread = threading.Thread(target=one.run)
        thread.start()
        running.append((one, thread))
        wait_for(port)
        return f"http://127.0.0.1:{port}"

    yield start
    for one, thread in running:
        one.should_exit = one.force_exit = True
        thread.join()


def ask(url: str, told: dict | bytes | None = None, **headers: str) -> tuple[int, str]:
    data = told if told is None or isinstance(told, bytes) else json.dumps(told).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_one_digest_through_this_door(server):
    with server.client().sync() as env:
        shown = [env.reset(sample=SAMPLE.id), *(env.step(FaceAction.call(name, **given)) for name, given in LOOKS)]
        end = env.step(ANSWER)
    pictures = [picture for one in shown for picture in one.observation.pictures()]
    assert [one.reward for one in shown] == [None, 0.0, 0.0] and end.done
    terms = end.observation.reward_terms
    assert end.reward == terms["total"]
    assert digest(end.observation.record(), pictures, terms) == digest(*of_chat())
    assert read_rollouts(server.out / "rollouts.jsonl")[-1].sample_id == SAMPLE.id


def test_whole_turns_are_played_and_refused_ones_answered(server):
    with server.client().sync() as env:
        first = env.reset(path=FACE).observation
        assert [one["role"] for one in first.messages] == ["system", "user"] and first.turns_left == 6
        assert [tool["function"]["name"] for tool in first.tools] == ["detect_align", "zoom_in"]
        refused = env.step(FaceAction.call("zoom_in", regions=["nose"])).observation
        assert refused.violations == ["illegal_order"] and refused.legal == ["detect_align", "answer"]
        unread = env.step(FaceAction(text="<tool_call>{</tool_call>")).observation
        assert unread.violations == ["parse_error"] and unread.messages
        huge = env.step(FaceAction.call("zoom_in", boxes=[[0, 0, 1e300, 1e300]])).observation
        assert huge.violations and huge.turns_left == 3
        state = env.state()
        assert (state.step_count, state.done, state.turns_left) == (3, False, 3)
        end = env.step(FaceAction(text='Looks happy. <answer>{"emotion": "happiness", "aus": []}</answer>'))
        assert end.done and end.observation.correct is True and end.observation.target["emotion"] == "happiness"
        with pytest.raises(RuntimeError, match="the episode is over: call reset"):
            env.step(ANSWER)


def test_a_seed_draws_the_sample_that_gymnasium_draws(server):
    env = gym.make("ActFER-Chat-v0", dataset="synthetic", split="test")
    with server.client().sync() as client:
        for seed in (3, None, None):
            _, info = env.reset(seed=seed)
            client.reset(**({} if seed is None else {"seed": seed}))
            assert client.state().sample_id == info["sample_id"]


def test_tasks_are_listed_and_chosen(server):
    assert ask(f"{server.url}/actfer/splits") == (200, '[{"name":"test","type":"test"}]')
    assert json.loads(ask(f"{server.url}/actfer/num_tasks", {"split": "test"})[1]) == {"num_tasks": 5000}
    task = json.loads(ask(f"{server.url}/actfer/task", {"split": "test", "index": 7})[1])["task"]
    assert task == {"split": "test", "index": 7, "sample": "test-000007"}
    some = json.loads(ask(f"{server.url}/actfer/task_range", {"split": "test", "start": -2})[1])["tasks"]
    assert [one["index"] for one in some] == [4998, 4999]
    assert ask(f"{server.url}/actfer/task", {"split": "test", "index": 5000})[0] == 400
    assert ask(f"{server.url}/actfer/task", {"split": "none", "index": 0}) == (
        400, '{"detail":"there is no split \'none\': use test"}',
    )  # fmt: skip
    with server.client().sync() as env:
        env.reset(split="test", index=7, episode_id="mine")
        assert (env.state().sample_id, env.state().episode_id) == ("test-000007", "mine")


def test_pictures_of_the_roots_are_tasks_where_there_is_no_data_set(root):
    env = FaceEnvironment(FaceService([root], "mtcnn"))
    assert env.list_splits() == ["pictures"] and env.num_tasks("pictures") == 4
    assert [one["path"] for one in env.list_tasks("pictures")] == ["grey.png", "huge.png", "text.png", FACE]
    assert env.reset(split="pictures", index=3).pictures()[0].shape == (256, 256, 3)


def test_strangers_get_one_line_and_the_session_goes_on(server, root):
    with server.client().sync() as env:
        with pytest.raises(RuntimeError, match="no episode has begun: call reset"):
            env.step(ANSWER)
        for name in HOSTILE:
            with pytest.raises(RuntimeError, match=r"Server error: .*EXECUTION_ERROR") as caught:
                env.reset(path=name)
            assert "\n" not in str(caught.value) and str(root.parent) not in str(caught.value)
        for bad in ({"sample": "../x"}, {"seed": -1}, {"seed": True}, {"seed": "1"}, {"index": 10**9}, {"index": True},
                    {"split": "x"}, {"split": ["test"]}, {"foo": 1}, {"episode_id": "x" * 5000}, {"sample": ["a"]},
                    {"sample": "test-000001", "path": FACE}, {"sample": "test-000001", "index": 0}):  # fmt: skip
            with pytest.raises(RuntimeError, match="Server error: ") as caught:
                env.reset(**bad)
            assert len(str(caught.value)) < 400, bad
        assert env.reset(path=FACE).observation.legal == ["detect_align", "answer"]
        with pytest.raises(ConnectionError, match=r"has ended the session \(frame exceeds"):
            env.step(FaceAction(text="x" * 300_000))


RAW = (
    "no JSON", "[]", "3", '{"type": "dance"}', '{"type": ["step"]}', '{"type": "step"}', '{"type": "step", "data": []}',
    '{"type": "step", "data": {"emotion": "joy"}}', '{"type": "step", "data": {"text": 3}}',
    '{"type": "step", "data": {"tool_calls": [null, 3, {"function": 5}]}}',
    '{"type": "step", "data": {"tool_calls": "all of them"}}',
    '{"type": "step", "data": {"text": "x", "metadata": {"a": NaN}}}',
    '{"type": "reset", "data": {"seed": 1e999}}', '{"type": "reset", "data": {"seed": ' + "9" * 6000 + "}}",
    '{"type": "reset", "more": 1}', "[" * 100_000, json.dumps({"type": "step", "data": {"text": "<" * 200_000}}),
    json.dumps({"type": "step", "data": {"text": "<think>" * 25_000}}), '{"type": "mcp", "data": {}}',
    json.dumps({"type": "step", "data": {"tool_calls": [FaceAction.call("detect_align").tool_calls[0]] * 2000}}),
)  # fmt: skip


def test_raw_garbage_is_answered_or_hung_up_on(server):
    address = server.url.replace("http", "ws") + "/ws"
    for text in (*RAW, "x" * 300_000, b"\x00\xff"):
        with connect(address, open_timeout=120, proxy=None) as line:
            line.send(json.dumps({"type": "reset", "data": {"path": FACE}}))
            assert json.loads(line.recv(timeout=300))["type"] == "observation"
            try:
                line.send(text)
                answer = json.loads(line.recv(timeout=300))
            except ConnectionClosed as closed:
                assert len(text) == 300_000 or isinstance(text, bytes), (text[:50], closed)
                continue
            assert answer["type"] in ("error", "observation", "mcp"), text[:50]
            if answer["type"] == "observation":
                assert answer["data"]["observation"]["violations"], text[:50]
    for path, told in (("reset", b"x" * 300_000), ("step", b'{"action": {"text": "' + b"y" * 400_000 + b'"}}')):
        assert ask(f"{server.url}/{path}", told) == (413, "the request is too large\n")
    assert ask(f"{server.url}/step", {"action": {"text": "x"}})[0] == 400
    assert ask(f"{server.url}/step", {"action": {"emotion": "joy"}})[0] == 422
    assert ask(f"{server.url}/reset", {"path": "/etc/passwd"})[0] == 400
    assert ask(f"{server.url}/reset", {"path": FACE})[0] == 200
    with socket.create_connection(("127.0.0.1", server.port)) as line:  # a body without end
        line.sendall(b"POST /reset HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(40):
                line.sendall(b"4000\r\n" + b"z" * 0x4000 + b"\r\n")
            line.settimeout(60)
            assert not line.recv(1000).startswith(b"HTTP/1.1 200")
        except OSError:
            pass
    assert server.process.poll() is None and ask(f"{server.url}/health")[0] == 200


def test_two_hundred_sessions_at_a_time_and_none_is_left(server):
    async def one(ready: asyncio.Semaphore, opened: list, expected: float):
        async with server.client() as env:
            await env.reset(path=FACE)
            opened.append(env)
            await ready.acquire()
            looked = await env.step(FaceAction.call("detect_align"))
            end = await env.step(ANSWER)
            return looked.observation.messages, end.reward

    async def all_of_them():
        ready, opened = asyncio.Semaphore(0), []
        tasks = [asyncio.create_task(one(ready, opened, 0.0)) for _ in range(200)]
        while len(opened) < 200:
            await asyncio.sleep(0.05)
            failed = [task for task in tasks if task.done()]
            assert not failed, failed[0].exception()
        with pytest.raises(RuntimeError, match=r"(?i)capacity"):
            await one(ready, [], 0.0)
        for _ in tasks:
            ready.release()
        return await asyncio.gather(*tasks)

    for _ in range(2):  # a session that were left over would keep the second two hundred out
        played = asyncio.run(all_of_them())
        assert len({json.dumps(one) for one in played}) == 1 and played[0][1] == pytest.approx(1.15)


def test_a_silent_session_is_forgotten(in_thread):
    service = FaceService(dataset=FACES, config=ServiceConfig(max_episodes=1, idle_seconds=1.0))
    url = in_thread(service)
    first, second = FaceClient(base_url=url).sync(), FaceClient(base_url=url).sync()
    with first:
        first.reset(sample=SAMPLE.id)
        with pytest.raises(RuntimeError, match=r"(?i)capacity"):
            second.reset()
        for _ in range(100):
            time.sleep(0.2)
            try:
                second.reset(sample=SAMPLE.id)
                break
            except RuntimeError:
                continue
        assert second.state().sample_id == SAMPLE.id
        second.close()
        with pytest.raises((ConnectionError, RuntimeError), match=r"call reset|ended the session"):
            first.step(ANSWER)


def test_more_calls_than_the_bound_are_told_to_wait(in_thread):
    url = in_thread(FaceService(dataset=FACES, config=ServiceConfig(calls_per_minute=3)))
    with FaceClient(base_url=url).sync() as env:
        for _ in range(3):
            env.reset(sample=SAMPLE.id)
        with pytest.raises(RuntimeError, match="more than 3 calls came in a minute: try again"):
            env.reset(sample=SAMPLE.id)


def test_tasks_count_among_the_calls():
    env = FaceEnvironment(FaceService(dataset=FACES, config=ServiceConfig(calls_per_minute=3)))
    assert env.list_splits() == ["test"] and len(env.get_task_range("test", 0, 2)) == 2
    assert env.get_task("test", 1)["index"] == 1
    with pytest.raises(ServiceError, match="more than 3 calls came in a minute: try again"):
        env.num_tasks("test")


@pytest.mark.parametrize(
    ("headers", "taken"),
    [({}, True), ({"Origin": "http://evil.example"}, False), ({"Origin": "null"}, False), ({"Origin": "own"}, True),
     ({"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}, False)],
)  # fmt: skip
def test_pages_of_other_sites_play_nothing(server, headers, taken):
    own = headers.get("Origin") == "own"
    sent = {**headers, **({"Origin": server.url} if own else {})}
    request = urllib.request.Request(f"{server.url}/health", headers=sent)
    if taken:
        assert urllib.request.urlopen(request).status == 200
    else:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
    lines = [f"GET /ws HTTP/1.1\r\nHost: {sent.get('Host', f'127.0.0.1:{server.port}')}\r\nConnection: Upgrade\r\n"
             "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
             f"Origin: {sent['Origin']}\r\n" if "Origin" in sent else "", "\r\n"]  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port), 30) as plain:
        plain.sendall("".join(lines).encode())
        assert (b" 101 " in plain.recv(4096).split(b"\r\n")[0]) is taken


def test_a_full_disk_costs_the_client_nothing(in_thread, tmp_path, monkeypatch):
    service = FaceService(dataset=FACES, out=tmp_path)
    monkeypatch.setattr(service, "keep", lambda rollout: (_ for _ in ()).throw(DataError("the disk is full")))
    with FaceClient(base_url=in_thread(service)).sync() as env, pytest.warns(UserWarning, match="was not kept"):
        env.reset(sample=SAMPLE.id)
        assert env.step(ANSWER).observation.record().predicted_emotion == "happiness"


def test_it_passes_the_validation_of_openenv(server):
    report = validate_running_environment(server.url, timeout_s=60)
    assert report["passed"] and report["mode"] == "simulation", report
    static = run_validation(PACKAGE, max_level=Level.STATIC)
    assert static.verdict is Verdict.PASS
    declared, constants = static.manifest.reward.range, UCGRPOConfig()
    lowest = -constants.gamma + constants.structure_floor - constants.fallback + constants.quality_floor
    assert declared == pytest.approx((lowest, 1 + constants.structure_clean + constants.fallback))
    assert static.manifest.capabilities.declared_task_count == {"test": 5000}


def test_the_image_has_all_that_the_package_is_made_of():
    lines = [line.split() for line in (PACKAGE / "Dockerfile").read_text().splitlines()]
    copied = {name for line in lines if line[:1] == ["COPY"] for name in line[1:-1]}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    folders = {line.split("=")[1].strip() for line in setup["options"]["package_dir"].split("\n") if "=" in line}
    modules = {f"{name}.py" for name in setup["options"]["py_modules"].split()}
    assert copied == {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", *folders, *modules}
    told = setup["options.package_data"]["actfer_env.integrations.openenv"]
    assert all(list(PACKAGE.glob(pattern.strip())) for pattern in told.split(","))


def test_the_page_shows_an_episode(in_thread):
    url = in_thread(FaceService(dataset=FACES), web=True)
    assert ask(f"{url}/web/")[0] == 200
    env = FaceEnvironment(FaceService(dataset=FACES), shown=True)
    assert env.render_web({}) is None and env.web_actions({}) == []
    env.reset(sample=SAMPLE.id)
    assert "6 turns left" in env.render_web({}) and env.web_actions({})[0][0] == "detect_align"
    for label in ("detect_align", "zoom_in nose"):
        env.step(FaceAction(**dict(env.web_actions({}))[label]))
    env.step(FaceAction(text="<script>alert(1)</script>"))
    env.step(FaceAction(**dict(env.web_actions({}))["answer happiness"]))
    page = env.render_web({})
    assert page.count("data:image/png;base64,") == 3 and "target" in page and "<script>" not in page
    assert env.web_actions({}) == []


def test_what_cannot_be_served_is_named(server):
    ended = actfer("openenv")
    assert ended.returncode == 1 and one_line(ended.stderr) and "nothing to serve" in ended.stderr
    with pytest.raises(DataError, match=r"the port is taken.*choose --port"):
        serve(FaceService(dataset=FACES), port=server.port)


def test_a_killed_server_is_one_error_and_serves_again(server):
    kept = server.out / "rollouts.jsonl"
    before = len(read_rollouts(kept)) if kept.exists() else 0
    with server.client().sync() as env:
        env.reset(path=FACE)
        env.step(ANSWER)
        env.reset(path=FACE)
        server.end(signal.SIGKILL)
        with pytest.raises(ConnectionError, match=r"has ended the session|Failed to connect") as caught:
            env.step(ANSWER)
        assert "\n" not in str(caught.value)
        with pytest.raises(ConnectionError, match="Failed to connect"):
            env.reset(path=FACE)
        assert len(read_rollouts(kept)) == before + 1  # what was finished is kept
        server.start()
        with pytest.raises(RuntimeError, match="call reset"):
            env.step(ANSWER)
        env.reset(path=FACE)
        assert env.step(ANSWER).reward == pytest.approx(1.0)  # right, but not looked
    said = server.end()
    assert "Traceback" not in said, said[-2000:]
    assert len(read_rollouts(kept)) == before + 2
