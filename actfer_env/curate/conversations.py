"""Finished episodes as training conversations: the messages that a policy saw, in the roles that trainers take."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from actfer_env.chat import ChatEpisode
from actfer_env.chat.messages import Message, said_by_user, text_part
from actfer_env.errors import DataError
from actfer_env.images import RGB
from actfer_env.packages import needs

_HEAD, _TAIL = "<|im_start|>system\n", "<|im_end|>\n"


@dataclass(frozen=True)
class Template:
    """The chat template of the model that will be trained.

    It writes the tools' schemas into the system message. Trainers pass tools to it in ways of their own, or not at all;
    so what it writes becomes the text of an ordinary system message, and the tokens are those of evaluation.

    Attributes:
        folder: The model's folder.
    """

    folder: Path

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer.

        Raises:
            DataError: transformers is missing, or the folder holds none.
        """
        with needs("vlm"):
            from transformers import AutoTokenizer
        try:
            return AutoTokenizer.from_pretrained(self.folder)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder} holds no tokenizer: {str(error).splitlines()[0]}") from error

    def render(self, messages: Sequence[Message], tools: Any = None) -> str:
        """Return a conversation's text."""
        return str(self.tokenizer.apply_chat_template(list(messages), tools=tools or None, tokenize=False))

    def system(self, message: Message, tools: Any) -> Message:
        """Return a system message that holds the tools' schemas as the template writes them.

        Raises:
            DataError: the template is not ChatML.
        """
        text = self.render([message], tools)
        if not text.startswith(_HEAD) or not text.endswith(_TAIL):
            raise DataError(f"the chat template of {self.folder} is no ChatML: use a Qwen-VL checkpoint")
        return {"role": "system", "content": [text_part(text[len(_HEAD) : -len(_TAIL)])]}


def training_messages(episode: ChatEpisode, template: Template | None) -> list[Message]:
    """Return a finished conversation as system, user and assistant messages, pictures as placeholders.

    Tool results are user messages between ``<tool_response>`` tags: the same tokens, in a role that every trainer takes.

    Args:
        episode: A finished conversation.
        template: The model's chat template; None where there are no tools.

    Raises:
        DataError: tools without a template, or a template that gives these messages another text than the episode's.
    """
    system, *rest = episode.messages
    if episode.tools:
        if template is None:
            raise DataError("give --model FOLDER, of the model that will be trained: its chat template writes the tools")
        system = template.system(system, episode.tools)
    messages = [system, *(said_by_user(message) for message in rest)]
    if any("<|" in part.get("text", "") for message in rest for part in message["content"]):
        raise DataError(f"sample {episode.sample.id!r}: a message holds the beginning of a special token, '<|'")
    if template is not None and template.render(messages) != template.render(episode.messages, episode.tools):
        raise DataError(f"the chat template of {template.folder} tells tool results from user messages: "
                        "these exports would train on other tokens than evaluation's")  # fmt: skip
    return messages


def flat_text(message: Message) -> str:
    """Return a message's text, each picture as ``<image>``."""
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in message["content"])


def png(image: RGB) -> bytes:
    """Return a picture as PNG, lossless; uint8 (H, W, 3) RGB."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def row_digest(messages: Any, pictures: Sequence[bytes]) -> str:
    """Return what tells a row's messages and pictures from others."""
    found = hashlib.sha256(json.dumps(messages, sort_keys=True, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    for picture in pictures:
        found.update(hashlib.sha256(picture).digest())
    return found.hexdigest()
