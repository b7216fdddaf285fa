"""`actfer mcp` as a real process, asked by the SDK's own client over standard input and output, and over HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from helpers import actfer, one_line
from integrations.served_faces import FACE, HOSTILE, LOOKS, hostile_folder
from integrations.test_doors import SAMPLE, digest, of_chat
from PIL import Image

from actfer_env.integrations.served import ROLLOUTS, FaceService
from actfer_env.rollout import read_rollouts

mcp = pytest.importorskip("mcp", reason="needs pip install 'actfer-env[mcp]'")
import httpx2  # noqa: E402
from mcp import Client  # noqa: E402
from mcp.client.stdio import StdioServerParameters  # noqa: E402
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client  # noqa: E402

if not hasattr(os, "mkfifo"):
    pytest.skip("needs a system with named pipes", allow_module_level=True)

TOOLS = ["pictures", "detect_align", "zoom_in", "episode_open", "episode_call", "episode_answer", "episode_score"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return hostile_folder(tmp_path_factory.mktemp("mcp"))


class Server:
    """A process that serves over HTTP."""

    def __init__(self, *arguments, **env):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        command = [sys.executable, "-m", "actfer_env", "mcp", "--http", "--port", str(self.port), *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd="/", env={**os.environ, **env})
        began = time.monotonic()
        while self.process.poll() is None and time.monotonic() < began + 300:  # a busy machine takes its time
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        self.process.kill()
        raise AssertionError(self.process.communicate()[1])

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30), self.process.stderr.read()


@pytest.fixture(scope="module")
def server(root):
    one = Server("--root", root, "--detector", "mtcnn", "--dataset", "synthetic", "--split", "test")
    yield one
    one.end()


def stdio(root, *arguments):
    given = ["-m", "actfer_env", "mcp", "--root", str(root), "--detector", "mtcnn", *arguments]
    return StdioServerParameters(command=sys.executable, args=given, cwd="/", env=dict(os.environ))


def read(result):
    """Return the pictures and the JSON of a result that is no error."""
    *pictures, told = result.content
    assert not result.is_error and all(one.type == "image" and one.mime_type == "image/png" for one in pictures)
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one.data)))) for one in pictures]
    return decoded, json.loads(told.text)


async def play(client, **what):
    """Play an episode of the usual calls; return everything that came back, without the handle."""
    pictures, told = read(await client.call_tool("episode_open", what))
    handle, seen = told.pop("episode"), [told]
    for name, arguments in LOOKS:
        more, told = read(
            await client.call_tool("episode_call", {"episode": handle, "name": name, "arguments": arguments})
        )
        pictures += more
        seen.append(told)
    answer = {"episode": handle, "emotion": "happiness", "aus": ["AU6", "AU12"]}
    seen.append(read(await client.call_tool("episode_answer", answer))[1])
    seen.append(read(await client.call_tool("episode_score", {"episode": handle}))[1])
    return pictures, seen


async def everything(target, root):
    """Ask a server for all that it has, and for what it must not give."""
    async with Client(target) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
        _, listed = read(await client.call_tool("pictures", {}))
        assert FACE in listed["paths"] and "link.png" not in listed["paths"]
        service = FaceService([root], "mtcnn")
        for name, arguments, ours in (
            ("detect_align", {"path": FACE}, service.detect_align(FACE)),
            ("zoom_in", {"path": FACE, "regions": ["nose"]}, service.zoom_in(FACE, ["nose"])),
            ("zoom_in", {"path": FACE, "boxes": [[1, 2, 300, 400]]}, service.zoom_in(FACE, None, [[1, 2, 300, 400]])),
        ):
            pictures, told = read(await client.call_tool(name, arguments))
            assert told == json.loads(json.dumps(ours.told))
            assert all((one == other).all() for one, other in zip(pictures, ours.pictures, strict=True))
        for path in HOSTILE:
            result = await client.call_tool("detect_align", {"path": path})
            (said,) = result.content
            assert (
                result.is_error
                and said.text.startswith("Error executing tool detect_align: ")
                and "\n" not in said.text
            )
            assert str(root.parent) not in said.text
        for name, arguments in (("detect_align", {}), ("detect_align", {"path": 3}),
                                ("zoom_in", {"path": FACE, "boxes": "x"}),
                                ("episode_call", {"episode": "x", "name": "y"}), ("no_such_tool", {})):  # fmt: skip
            try:
                assert (await client.call_tool(name, arguments)).is_error
            except mcp.MCPError as error:  # the SDK's own refusal of a tool that is not there
                assert name == "no_such_tool" and "no_such_tool" in str(error)
        pictures, seen = await play(client, path=FACE)
        assert len(pictures) == 3 and seen[-1]["reward"]["total"] == pytest.approx(1.15) and seen[-1]["correct"] is True


def test_over_standard_input_and_output(root):
    asyncio.run(everything(stdio(root), root))


def test_over_http(server, root):
    asyncio.run(everything(server.url, root))


def test_over_the_wire_comes_the_digest_of_every_door(tmp_path):
    server = Server("--dataset", "synthetic", "--split", "test", "--out", tmp_path)

    async def played():
        async with Client(server.url) as client:
            return await play(client, sample=SAMPLE.id)

    try:
        pictures, told = asyncio.run(played())
    finally:
        server.end()
    (rollout,) = read_rollouts(tmp_path / ROLLOUTS)
    assert len(pictures) == 3 and digest(rollout, pictures, told[-1]["reward"]) == digest(*of_chat())


def test_two_hundred_sessions_at_a_time(server):
    async def all_of_them():
        async with Client(server.url) as alone:
            expected = await play(alone, path=FACE)
        gate = asyncio.Semaphore(0)

        async def one(opened):
            patient = create_mcp_http_client(timeout=httpx2.Timeout(300))  # 200 clients share this test's one core
            async with patient, Client(streamable_http_client(server.url, http_client=patient)) as client:
                handle = read(await client.call_tool("episode_open", {"path": FACE}))[1]["episode"]
                opened.append(handle)
                await gate.acquire()  # until all are open
                looked = read(await client.call_tool("episode_call", {"episode": handle, "name": "detect_align"}))
                answer = {"episode": handle, "emotion": "happiness"}
                read(await client.call_tool("episode_answer", answer))
                return looked, read(await client.call_tool("episode_score", {"episode": handle}))[1]

        opened = []
        tasks = [asyncio.create_task(one(opened)) for _ in range(200)]
        while len(opened) < 200:
            await asyncio.sleep(0.05)
            failed = [task for task in tasks if task.done()]
            assert not failed, failed[0].exception()
        for _ in tasks:
            gate.release()
        results = await asyncio.gather(*tasks)
        assert len(set(opened)) == 200
        for (pictures, told), scored in results:
            assert told == expected[1][1] and (pictures[0] == expected[0][1]).all()
            assert scored["reward"]["total"] == pytest.approx(1.15)

    asyncio.run(all_of_them())


def test_floods_and_huge_requests_are_refused(root):
    server = Server("--root", root, "--calls", 5, "--episodes", 3)

    async def flood():
        async with Client(server.url) as client:
            results = await asyncio.gather(*(client.call_tool("pictures", {}) for _ in range(30)))
        refused = [one.content[0].text for one in results if one.is_error]
        assert 20 <= len(refused) <= 25 and all("more than 5 calls came in a minute" in text for text in refused)

    try:
        asyncio.run(flood())
        huge = urllib.request.Request(
            server.url, b'{"x": "' + b"x" * 5 * 2**20 + b'"}', {"Content-Type": "application/json"}
        )
        with pytest.raises(OSError, match=r"413|reset|pipe"):
            urllib.request.urlopen(huge, timeout=30)
        strange = urllib.request.Request(
            server.url, b"{}", {"Content-Type": "application/json", "Host": "evil.example"}
        )
        with pytest.raises(OSError, match="421"):
            urllib.request.urlopen(strange, timeout=30)
        assert server.process.poll() is None
    finally:
        code, said = server.end()
    assert code == 128 + signal.SIGTERM and "Traceback" not in said


def test_a_killed_server_has_lost_nothing_that_was_finished(root, tmp_path):
    server = Server("--root", root, "--detector", "mtcnn", "--out", tmp_path)

    async def finish_two_of_three():
        async with Client(server.url) as client:
            for _ in range(2):
                await play(client, path=FACE)
            read(await client.call_tool("episode_open", {"path": FACE}))
            server.end(signal.SIGKILL)

    with pytest.raises(BaseException) as caught:  # the client notices; what it raises is the SDK's affair
        asyncio.run(finish_two_of_three())
        raise ConnectionError("ended quietly")
    assert not isinstance(caught.value, AssertionError)
    kept = read_rollouts(tmp_path / ROLLOUTS)
    assert len(kept) == 2 and all(one.predicted_emotion == "happiness" and one.zoomed for one in kept)

    again = Server("--root", root, "--detector", "mtcnn", "--out", tmp_path)

    async def one_more():
        async with Client(again.url) as client:
            await play(client, path=FACE)

    try:
        asyncio.run(one_more())
    finally:
        again.end()
    assert len(read_rollouts(tmp_path / ROLLOUTS)) == 3


def test_the_command_ends_when_its_client_hangs_up(root):
    ended = subprocess.run(
        [sys.executable, "-m", "actfer_env", "mcp", "--root", str(root)], input="", capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0 and ended.stdout == "" and "Traceback" not in ended.stderr


def test_the_command_names_what_cannot_be_served(root, tmp_path):
    for arguments, words in (
        ((), "nothing to serve"),
        (("--root", tmp_path / "none"), "is no folder"),
        (("--root", root, "--detector", "insightface:buffalo_l"), "uses no network"),
        (("--dataset", "none"), "none"),
    ):
        ended = actfer("mcp", *arguments)
        assert ended.returncode == 1 and one_line(ended.stderr) and words in ended.stderr and ended.stdout == ""
    server = Server("--root", root)
    try:
        taken = actfer("mcp", "--root", root, "--http", "--port", server.port)
        assert taken.returncode == 1 and "choose --port" in taken.stderr and "Traceback" not in taken.stderr
    finally:
        server.end()


def test_the_port_may_be_seen_by_others_only_with_a_word(root):
    command = [
        sys.executable,
        "-m",
        "actfer_env",
        "mcp",
        "--root",
        str(root),
        "--http",
        "--host",
        "0.0.0.0",
        "--port",
        "1",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = "".join(process.stderr.readline() for _ in range(3))
        process.kill()
    assert "there is no password" in said, said


def test_the_folder_of_the_test_is_whole(root: Path):
    """After all of this nothing was written into the root."""
    assert sorted(path.name for path in root.iterdir()) == [
        ".hidden", "away", "grey.png", "happiness", "huge.png", "inner.png", "link.png", "pipe.png", "text.png",
    ]  # fmt: skip
