"""`actfer mcp`: the tools and episodes of a `FaceService` over the Model Context Protocol. Needs `[mcp]`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from actfer_env._version import __version__
from actfer_env.chat.messages import png_of
from actfer_env.errors import ActFERError
from actfer_env.integrations.network import listening
from actfer_env.integrations.served import FaceService, Reply
from actfer_env.packages import needs

INSTRUCTIONS = (
    "Look at faces: detect_align finds the face of a picture and brings it upright, zoom_in magnifies parts of it from "
    "the original pixels. Paths are relative to the folders that are served; `pictures` lists them. An episode is one "
    "question about one picture: episode_open, then episode_call for its tools, episode_answer, episode_score. Boxes "
    "are [x1, y1, x2, y2] from 0 to 1000 on the aligned face. Labels name facial configurations, not what people feel."
)

KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than clients keep theirs.

With uvicorn's 5 s a busy server hangs up just when Node's fetch, which keeps a connection for 4 s, sends its next one.
"""


def mcp_server(service: FaceService) -> Any:
    """Return an `MCPServer` whose tools are those of a service.

    Every picture is an image result (PNG); what is told beside it is JSON text. A request that cannot be met is a tool
    error of one line.

    Args:
        service: The tools, episodes and bounds.

    Raises:
        DataError: the package `mcp` is missing.
    """
    with needs("mcp"):
        import anyio
        from mcp.server.mcpserver import Image, MCPServer
        from mcp.server.mcpserver.exceptions import ToolError

    server = MCPServer("actfer", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")

    room = anyio.CapacityLimiter(service.config.workers)

    async def served(work: Callable[..., Reply], *arguments: Any) -> list[Any]:
        try:
            with service.admitted():
                reply = await anyio.to_thread.run_sync(functools.partial(work, *arguments), limiter=room)
                pictures = await anyio.to_thread.run_sync(lambda: [png_of(one) for one in reply.pictures], limiter=room)
        except ActFERError as error:
            raise ToolError(str(error)) from None
        return [*(Image(data=one, format="png") for one in pictures), json.dumps(reply.told)]

    tool = functools.partial(server.tool, structured_output=False)

    @tool()
    async def pictures(start: int = 0, limit: int = 100) -> list[Any]:
        """List the pictures that may be named, by path, and the data set's samples, by id, from the start-th on."""
        return await served(service.pictures, start, limit)

    @tool()
    async def detect_align(path: str) -> list[Any]:
        """Find the face of a picture, bring it upright and to size, and get the boxes of its four facial regions."""
        return await served(service.detect_align, path)

    @tool()
    async def zoom_in(path: str, regions: list[str] | None = None, boxes: list[list[float]] | None = None) -> list[Any]:
        """Magnify parts of a picture's face in their native detail.

        Regions are forehead-eyebrow, eye-periorbital, nose, mouth-chin; boxes are [x1, y1, x2, y2] from 0 to 1000 on
        the aligned face. One picture comes back for each.
        """
        return await served(service.zoom_in, path, regions, boxes)

    @tool()
    async def episode_open(path: str | None = None, sample: str | None = None, group: str | None = None) -> list[Any]:
        """Open an episode on a picture (path) or on a sample of the data set: a question about its facial expression.

        The reply names the episode for the other calls. `group` marks episodes that belong together.
        """
        return await served(service.open, path, sample, group)

    @tool()
    async def episode_call(episode: str, name: str, arguments: dict[str, Any] | None = None) -> list[Any]:
        """Call a tool within an episode; each call costs one of its turns, and a refused one says what is legal."""
        return await served(service.call, episode, name, arguments)

    @tool()
    async def episode_answer(episode: str, emotion: str, aus: list[str] | None = None) -> list[Any]:
        """Answer with an emotion and the active Action Units, such as ["AU6", "AU12"]; it ends the episode."""
        return await served(service.answer, episode, emotion, aus)

    @tool()
    async def episode_score(episode: str) -> list[Any]:
        """Get the reward of a finished episode, term by term, and its target; the episode is then forgotten."""
        return await served(service.score, episode)

    return server


def serve(service: FaceService, http: bool = False, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until the client hangs up (stdio) or the process is stopped (HTTP).

    Args:
        service: The tools, episodes and bounds.
        http: Serve streamable HTTP at ``http://HOST:PORT/mcp`` instead of standard input and output.
        host: Address to listen on. On one that others can reach, everybody there can see the roots' pictures.
        port: Port to listen on.

    Raises:
        DataError: the package `mcp` is missing, or the port is taken.
    """
    server = mcp_server(service)
    if not http:
        server.run()
        return
    import uvicorn

    app = server.streamable_http_app(
        host=host, max_sessions=service.config.max_episodes, session_idle_timeout=service.config.idle_seconds
    )
    settings = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_keep_alive=KEEP_ALIVE)
    with listening(host, port):
        uvicorn.Server(settings).run()
