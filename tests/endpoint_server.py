"""An OpenAI-compatible server on loopback, for tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from helpers import ANSWER, DETECT, ZOOM

from actfer_env.agents.endpoint import EndpointConfig, OpenAIChatAgent

SCRIPT = (DETECT, ZOOM, ANSWER)


@dataclass
class Server:
    """An OpenAI-compatible server that plays a script and can fail on demand."""

    native: bool = False
    port: int = 0
    fail: int = 0
    die_after: int | None = None
    refuse: bool = False
    answer: tuple[int, Any] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def __enter__(self) -> Server:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = outer.reply(body, self.headers.get("Authorization", ""))
                if status is None:
                    self.connection.close()
                    return
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(answer, bytes) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def reply(self, body: dict[str, Any], key: str) -> tuple[int | None, Any]:
        with self.lock:
            self.requests.append(body)
            self.keys.append(key)
            if self.die_after is not None and len(self.requests) > self.die_after:
                return None, None
            if self.fail > 0:
                self.fail -= 1
                return 503, {"error": {"message": "busy"}}
        if self.answer is not None:
            return self.answer
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        return 200, {
            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": self.message(turn)}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }  # fmt: skip

    def message(self, turn: int) -> dict[str, Any]:
        if self.refuse:
            return {"role": "assistant", "content": None, "refusal": "I cannot judge faces."}
        text = SCRIPT[min(turn, 2)]
        if not self.native or turn >= 2:
            return {"role": "assistant", "content": text}
        call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": f"c{turn}", "type": "function", "function": function}],
        }


def answering(reply: Callable[[dict[str, Any]], Any], **settings: Any) -> OpenAIChatAgent:
    """An agent whose client asks a function instead of a server."""
    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **sent: reply(sent))))
    config = EndpointConfig("http://localhost:9/v1", "m", concurrency=1, retries=0, **settings)
    return OpenAIChatAgent(config, client)
