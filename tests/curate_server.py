"""An OpenAI-compatible server as a process of its own: it describes, codes and writes, and can answer garbage.

python curate_server.py PORT_FILE LOG [--garbage SHARE] [--slow SECONDS]
Which answers are garbage follows from the question and its seed, so that a second run gets the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DESCRIPTION = (
    "The brows are level and the forehead is smooth. The lids are relaxed. The lip corners are drawn up and out and "
    "the cheeks are pushed up under the eyes, more on one side. The light comes from the left."
)
WORDS = ("lids narrow", "brows rise", "jaw hangs low", "skin wrinkles", "corners move", "cheeks lift", "mouth opens")
GARBAGE: tuple[Any, ...] = (
    "",
    "I am sorry, what?",
    '{"thoughts": ["',
    "[1, 2, 3]",
    '{"units": [{"au": "AU99", "words": "x"}], "thoughts": []}',
    b"<html>busy</html>",
    {"choices": []},
    "<think>hm</think><answer>joy and fear</answer>",
)


def text_of(messages: list[dict[str, Any]]) -> str:
    parts = messages[0]["content"]
    last = next(message for message in messages if message["role"] == "user")["content"]
    parts = last if isinstance(last, list) else [{"type": "text", "text": last}]
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def answer(text: str) -> str:
    """Answer a question of the package's prompts as a good model would."""
    if text.startswith("Describe"):
        return DESCRIPTION
    if "Can a facial expression be learnt" in text:
        return '{"fit": true, "why": "clear"}'
    if text.startswith("The first picture") or "magnified parts" in text.split("\n", maxsplit=1)[0]:
        return DESCRIPTION
    if text.startswith("You code faces"):
        return json.dumps({"units": [{"au": "AU12", "words": "lip corners are drawn up and out"},
                                     {"au": "AU6", "words": "cheeks are pushed up"}]})  # fmt: skip
    units = re.findall(r"AU(\d+) \(", text.rsplit("Active Action Units:", maxsplit=1)[-1].split("\n", maxsplit=1)[0])
    chosen = re.search(r"The emotion is one of: (\w+)", text)
    emotion = chosen[1] if chosen else re.search(r"The emotion is (\w+)", text)[1]  # type: ignore[index]
    turns = len(re.findall(r"^\d+\. ", text.split("The turns:")[1].split("Active", maxsplit=1)[0], re.M))
    heads = [head for head in ("Global Analysis", "Local Analysis") if f"{head}:" in text.split("Rules:")[1]]
    seen = ", ".join(f"{WORDS[int(unit) % len(WORDS)]} (AU{unit})" for unit in units) or "every muscle rests"
    last = f"{': what I see. '.join(heads)}: {seen}. This is {emotion}."
    thoughts = [f"Turn {number}: I look at what is here and go on." for number in range(1, turns)]
    return json.dumps({"thoughts": [*thoughts, last], "emotion": emotion})


def passive(text: str) -> str:
    chosen = re.search(r"The answer is one of: (\w+)", text)
    emotion = chosen[1] if chosen else re.search(r"The answer is (\w+)\.", text)[1]  # type: ignore[index]
    boxes = (
        re.findall(r"<bbox>\[\d.*?\]</bbox>", text.rsplit("Boxes that may be written", maxsplit=1)[-1])
        if "Boxes that" in text
        else []
    )
    line = re.search(r"Name exactly these Action Units: (.*)", text)
    units = re.findall(r"AU(\d+) \(", line[1]) if line else []
    seen = " ".join(f"The {WORDS[int(unit) % len(WORDS)]} (AU{unit})." for unit in units)
    seen += " ".join(f" I look {WORDS[n]} {box}." for n, box in enumerate(boxes[:3]))
    return f"<think>The face tells a story. {seen} It is {emotion}.</think><answer>{emotion}</answer>"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--garbage", type=float, default=0.0)
    parser.add_argument("--slow", type=float, default=0.0)
    options = parser.parse_args()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            place = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
            time.sleep(options.slow)
            text = text_of(body["messages"])
            bad = place[0] < 256 * options.garbage
            said: Any = (
                GARBAGE[place[1] % len(GARBAGE)] if bad else passive(text) if "<answer>" in text else answer(text)
            )
            with lock, options.log.open("a") as log:
                log.write(json.dumps({"bad": bad, "odd": not isinstance(said, str), "seed": body.get("seed")}) + "\n")
            if isinstance(said, str):
                said = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
                        "choices": [{"index": 0, "finish_reason": "stop",
                                     "message": {"role": "assistant", "content": said}}],
                        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}  # fmt: skip
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if isinstance(said, bytes) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    options.port_file.write_text(str(server.server_port))
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
