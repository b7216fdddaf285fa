"""`actfer openenv`: `FaceEnvironment` behind OpenEnv's own server, with bounds on what strangers send."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from actfer_env.errors import ActFERError
from actfer_env.integrations.network import LOCAL, listening
from actfer_env.integrations.openenv.environment import FaceEnvironment, Tasks
from actfer_env.integrations.openenv.models import FaceAction, FaceObservation, FaceState
from actfer_env.integrations.served import FaceService
from actfer_env.packages import needs

MAX_MESSAGE = 256 * 1024
"""Bytes of the largest message or request that is read; pictures only ever go out."""
SPARE = 64
"""Open sockets beyond the sessions: the page's, and those that are told that the server is full."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Bounded:
    """ASGI middleware: bounds on the size of requests, on open sockets, and on the time that one may be silent.

    Args:
        app: The application.
        sockets: Open sockets; one more is refused.
        idle: Seconds of silence after which a socket is closed and its session is forgotten.
        size: Bytes of the largest request.
        local: Answer only those who call this machine by one of the names in `LOCAL`.
    """

    def __init__(self, app: Any, sockets: int, idle: float, size: int = MAX_MESSAGE, local: bool = False) -> None:
        self.app, self.sockets, self.idle, self.size, self.local = app, sockets, idle, size, local
        self._open = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass one connection on, within the bounds; pages of other sites are turned away."""
        if scope["type"] in ("http", "websocket") and not self._own(scope):
            await self._turn_away(scope["type"], receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] != "websocket":
            await self.app(scope, receive, send)
        elif self._open >= self.sockets:
            await receive()
            await send({"type": "websocket.close", "code": 1013, "reason": "too many connections"})
        else:
            self._open += 1
            try:
                await self.app(scope, functools.partial(self._listen, receive), send)
            finally:
                self._open -= 1

    def _own(self, scope: MutableMapping[str, Any]) -> bool:
        """True if a request is no page's of another site, which the user's browser would let read what is answered."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if self.local and urlsplit(f"//{host}").hostname not in LOCAL:  # a name of its own for this machine
            return False
        return origin is None or urlsplit(origin).netloc == host

    async def _turn_away(self, kind: str, receive: Receive, send: Send) -> None:
        if kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "pages of other sites may not play here"})
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"pages of other sites may not play here\n"})

    async def _listen(self, receive: Receive) -> Message:
        try:
            return await asyncio.wait_for(receive(), self.idle)
        except asyncio.TimeoutError:
            return {"type": "websocket.disconnect", "code": 1001, "reason": "silent for too long"}

    async def _request(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.size:
            await send({"type": "http.response.start", "status": 413, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": b"the request is too large\n"})
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            return message if read <= self.size else {"type": "http.disconnect"}

        await self.app(scope, counted, send)


def openenv_app(service: FaceService, web: bool = False, local: bool = False) -> Any:
    """Return the ASGI application that serves a service's episodes to OpenEnv's clients.

    Args:
        service: The tools, samples and bounds; at most `max_episodes` sessions, and none silent for `idle_seconds`.
        web: Serve the page at ``/web`` besides; all who open it share one episode.
        local: Answer only requests that call this machine by one of the names in `LOCAL`, as a browser on it does.

    Raises:
        DataError: the package `openenv` is missing.
    """
    with needs("openenv"):
        from fastapi.responses import JSONResponse
        from openenv.core.env_server.http_server import create_fastapi_app
        from openenv.core.env_server.types import ConcurrencyConfig

    bounds, tasks = service.config, Tasks(service)
    room = threading.BoundedSemaphore(bounds.workers)
    factory = functools.partial(FaceEnvironment, service, tasks, room, web)
    limits = ConcurrencyConfig(max_concurrent_envs=bounds.max_episodes, session_timeout=bounds.idle_seconds)
    create = create_fastapi_app
    if web:
        os.environ.setdefault("ENV_README_PATH", str(Path(__file__).parent / "README.md"))  # the page's words
        from openenv.core.env_server.web_interface import create_web_interface_app

        create = create_web_interface_app
    app = create(
        factory, FaceAction, FaceObservation, env_name="actfer", concurrency_config=limits, state_cls=FaceState
    )

    async def refused(request: Any, error: Exception) -> Any:
        return JSONResponse({"detail": str(error)}, 400)

    app.add_exception_handler(ActFERError, refused)
    app.add_middleware(Bounded, sockets=bounds.max_episodes + SPARE, idle=bounds.idle_seconds, local=local)
    return app


def serve(service: FaceService, host: str = "127.0.0.1", port: int = 8000, web: bool = False) -> None:
    """Serve until the process is stopped.

    Args:
        service: The tools, samples and bounds.
        host: Address to listen on. On one that others can reach, everybody there may play: there is no password.
        port: Port to listen on.
        web: Serve the page at ``/web`` besides.

    Raises:
        DataError: the package `openenv` is missing, or the port is taken.
    """
    with needs("openenv"):
        import uvicorn

    app = openenv_app(service, web, local=host in LOCAL)
    with listening(host, port):
        uvicorn.run(app, host=host, port=port, log_level="warning", ws_max_size=MAX_MESSAGE)


def __getattr__(name: str) -> Any:
    """Make ``app`` when a server that imports this module asks for it, as ``uvicorn ...openenv.server:app`` does.

    ``ACTFER_DATASET`` (default "synthetic") and ``ACTFER_SPLIT`` (default "test") choose the samples.
    """
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from actfer_env.data import load_dataset

    dataset = load_dataset(os.environ.get("ACTFER_DATASET", "synthetic"), split=os.environ.get("ACTFER_SPLIT", "test"))
    return openenv_app(FaceService(dataset=dataset))
