"""Messages in the shapes that model libraries and servers take.

Inside, a message is OpenAI's chat format whose picture parts are the placeholder ``{"type": "image"}``; the pictures
lie beside the messages, in the order of their placeholders.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import cv2
from PIL import Image

from actfer_env.images import RGB

Message = dict[str, Any]


def image_part() -> dict[str, str]:
    """Return the placeholder of a picture."""
    return {"type": "image"}


def text_part(text: str) -> dict[str, str]:
    """Return a part of text."""
    return {"type": "text", "text": text}


def assistant_message(text: str, calls: Sequence[Message] = (), reasoning: str | None = None) -> Message:
    """Return an assistant's message with its native calls, and with the reasoning that a server has cut out."""
    message: Message = {"role": "assistant", "content": [text_part(text)] if text.strip() else []}
    message |= {"reasoning_content": reasoning} if reasoning else {}
    return message | ({"tool_calls": calls} if calls else {})


def native_calls(tool_calls: Any) -> list[Message]:
    """Return native calls in OpenAI's format, whatever a server sent.

    Args:
        tool_calls: A sequence of ``{"id", "function": {"name", "arguments"}}``; what has another shape becomes a call
            without a name, which is then refused like any other.

    Returns:
        Calls whose name and arguments are strings (no arguments are ``"{}"``); an id only where one was given.
    """
    calls: list[Message] = []
    for sent in tool_calls if isinstance(tool_calls, list | tuple) else [tool_calls] if tool_calls else []:
        call = sent if isinstance(sent, Mapping) else {}
        function: Any = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(arguments, str):
            try:
                arguments = "" if arguments is None else json.dumps(arguments, default=str)
            except (ValueError, RecursionError, TypeError):
                arguments = f"({type(arguments).__name__} that is no JSON)"
        written = {
            "name": name if isinstance(name, str) else "",
            "arguments": arguments if arguments.strip() else "{}",
        }
        known = {} if call.get("id") is None else {"id": str(call["id"])}
        calls.append({**known, "type": "function", "function": written})
    return calls


def count_images(messages: Sequence[Message]) -> int:
    """Return how many pictures some messages hold."""
    return sum(part["type"] == "image" for message in messages for part in _parts(message))


def data_url(image: RGB) -> str:
    """Return a picture as a data URL (PNG, lossless); uint8 (H, W, 3) RGB.

    Args:
        image: Picture, uint8 (H, W, 3) RGB.

    Returns:
        The URL, ASCII, that begins with "data:image/png;base64,".
    """
    return "data:image/png;base64," + base64.b64encode(png_of(image)).decode("ascii")


def png_of(image: RGB) -> bytes:
    """Return the PNG of a picture, uint8 (H, W, 3) RGB."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def to_openai(
    messages: Sequence[Message], images: Sequence[RGB], *, images_in_tool: bool = True, reasoning: bool = False
) -> list[Message]:
    """Return messages as an OpenAI-compatible endpoint takes them, pictures as data URLs.

    Endpoints refuse a tool message that answers no native call. What a tool says to a call in the turn's text becomes
    a user message between ``<tool_response>`` tags, as Qwen's chat template writes it, and neighbouring user messages
    become one. An assistant's turn of calls alone has the content None; one of nothing at all is left out, since many
    endpoints refuse empty texts.

    Args:
        messages: Messages of a `ChatEpisode`.
        images: Its pictures.
        images_in_tool: Leave pictures in tool messages; False moves them to a user message behind each run of tool
            messages, for the many servers whose tool messages hold text only.
        reasoning: Send back the reasoning that a server had cut out, as ``reasoning_content``. Most servers drop it,
            some refuse it, and a few ask for it.

    Raises:
        ValueError: placeholders and pictures differ in number.
    """
    _check(messages, images)
    urls = ({"type": "image_url", "image_url": {"url": data_url(image)}} for image in images)
    sent: list[Message] = []
    moved: list[dict[str, Any]] = []
    for message in (said_by_user(message if reasoning else without_reasoning(message)) for message in messages):
        if moved and message["role"] != "tool":
            sent.append({"role": "user", "content": moved})
            moved = []
        parts = [next(urls) if part["type"] == "image" else part for part in _parts(message)]
        if message["role"] == "assistant" and not parts and "tool_calls" not in message:
            continue
        if message["role"] == "tool" and not images_in_tool:
            moved += [part for part in parts if part["type"] == "image_url"]
            parts = [part for part in parts if part["type"] == "text"]
        if message["role"] == "user" and sent and sent[-1]["role"] == "user":
            sent[-1]["content"] += parts
        else:
            sent.append({**message, "content": parts})
    sent += [{"role": "user", "content": moved}] if moved else []
    return [{**message, "content": _content(message["content"])} for message in sent]


def with_data_urls(messages: Sequence[Message], images: Sequence[RGB]) -> list[Message]:
    """Return messages with their pictures as data URLs and in no other way changed, for a trainer's chat template.

    Args:
        messages: Messages of a `ChatEpisode`.
        images: Its pictures.

    Raises:
        ValueError: placeholders and pictures differ in number.
    """
    _check(messages, images)
    urls = ({"type": "image_url", "image_url": {"url": data_url(image)}} for image in images)
    return [
        {**message, "content": [next(urls) if part["type"] == "image" else part for part in _parts(message)]}
        for message in messages
    ]


def without_reasoning(message: Message) -> Message:
    """Return a message without the reasoning that a server had cut out of it."""
    return {key: value for key, value in message.items() if key != "reasoning_content"}


def said_by_user(message: Message) -> Message:
    """Return a tool message that answers no native call as a user message; any other stays as it is.

    It stands between ``<tool_response>`` tags, as Qwen's chat template writes it.
    """
    if message["role"] != "tool" or "tool_call_id" in message:
        return message
    head, *rest = [text_part("<tool_response>\n"), *_parts(message), text_part("\n</tool_response>")]
    if all(part["type"] == "text" for part in rest):
        return {"role": "user", "content": [text_part("".join(part["text"] for part in (head, *rest)))]}
    return {"role": "user", "content": [head, *rest]}


def to_transformers(messages: Sequence[Message], images: Sequence[RGB]) -> tuple[list[Message], list[Image.Image]]:
    """Return messages and pictures as `transformers` processors take them.

    Native calls get their arguments as mappings, as chat templates expect them; those that are no JSON stay text.

    Args:
        messages: Messages of a `ChatEpisode`.
        images: Its pictures, uint8 (H, W, 3) RGB, in the order of their placeholders.

    Returns:
        The messages as chat templates take them, and the pictures as PIL images.

    Raises:
        ValueError: placeholders and pictures differ in number.
    """
    _check(messages, images)
    told: list[Message] = []
    for message in messages:
        calls = native_calls(message.get("tool_calls"))
        for call in calls:
            with suppress(ValueError, RecursionError):
                value = json.loads(call["function"]["arguments"])
                call["function"]["arguments"] = value if isinstance(value, dict) else call["function"]["arguments"]
        told.append({**message, "content": _parts(message)} | ({"tool_calls": calls} if calls else {}))
    return told, [Image.fromarray(image) for image in images]


def _check(messages: Sequence[Message], images: Sequence[RGB]) -> None:
    if count_images(messages) != len(images):
        raise ValueError(f"{count_images(messages)} placeholders for {len(images)} pictures: pass all pictures")


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message.get("content") or []
    return [text_part(content)] if isinstance(content, str) else list(content)


def _content(parts: list[dict[str, Any]]) -> Any:
    """Return plain text where there is nothing else; some servers take lists from users only."""
    if not parts:
        return None
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts
