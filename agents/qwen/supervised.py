"""Rows of messages with pictures as the tokens of a conversation, with a loss on what the policy writes. Needs `[vlm]`.

`TurnsCollator` is the data collator of supervised fine-tuning. It lays rows out by the `TokenCodec` of episodes, so
that a model is taught on the very tokens that evaluation and reinforcement learning show it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actfer_env.agents.qwen.conversation import Chunk, ModelError, TokenCodec
from actfer_env.chat.messages import Message, count_images, image_part, text_part
from actfer_env.images import RGB

IGNORED = -100
"""The label of a token without loss, as torch and transformers have it."""


@dataclass
class Tokens:
    """A row as tokens.

    Attributes:
        ids: All tokens.
        written: For each token, whether the policy writes it; only these carry a loss.
        pixels: For each picture, the processor's `pixel_values`, float (patches, width).
        grids: For each picture, its (frames, rows, columns) of patches.
        left_out: Turns at the end for which there was no room.
    """

    ids: list[int] = field(default_factory=list)
    written: list[bool] = field(default_factory=list)
    pixels: list[Any] = field(default_factory=list)
    grids: list[tuple[int, ...]] = field(default_factory=list)
    left_out: int = 0

    def show(self, chunk: Chunk) -> None:
        """Add what the policy is shown."""
        self.ids += chunk.ids
        self.written += [False] * len(chunk.ids)
        self.pixels += chunk.pixels
        self.grids += chunk.grids


class TurnsCollator:
    """Makes a batch of rows of messages with pictures.

    A row is a mapping with `messages` and `images`, and may have `tools`. Messages are in the format of TRL and OpenAI:
    a role, and a text or a list of parts ``{"type": "image"}`` and ``{"type": "text", "text": ...}``. Images lie beside
    them, in the order of their placeholders: PIL pictures, uint8 arrays, or ``{"bytes": ...}``. `tools` are schemas, or
    their JSON text, which the model's own chat template writes; without, the system message has them already.

    Args:
        codec: TokenCodec of the model.
        max_length: Tokens of a row. From a longer one whole turns are left out at its end, with their pictures.

    Attributes:
        left_out: Turns that were left out so far.
    """

    def __init__(self, codec: TokenCodec, max_length: int = 8192) -> None:
        self.codec, self.max_length, self.left_out = codec, max_length, 0
        self._pad = int(codec.tokenizer.pad_token_id)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the model's inputs for some rows, padded on the right, and their labels.

        Returns:
            `input_ids`, `attention_mask`, `mm_token_type_ids`, `labels`, int64 (n, length); `labels` are `IGNORED`
            where the policy does not write. `pixel_values` and `image_grid_thw` of all pictures, in order.

        Raises:
            ModelError: a row cannot be laid out; the message names it.
        """
        import torch

        made = [self.tokens(row) for row in rows]
        self.left_out += sum(tokens.left_out for tokens in made)
        shape = len(made), max(len(tokens.ids) for tokens in made)
        ids, seen = torch.full(shape, self._pad), torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED)
        for row, tokens in enumerate(made):
            length, own = len(tokens.ids), torch.tensor(tokens.ids)
            ids[row, :length], seen[row, :length] = own, 1
            labels[row, :length] = torch.where(torch.tensor(tokens.written), own, IGNORED)
        return {
            "input_ids": ids, "attention_mask": seen, "labels": labels,
            "mm_token_type_ids": (ids == self.codec.image_id).long() * seen,
            "pixel_values": torch.cat([pixels for tokens in made for pixels in tokens.pixels]),
            "image_grid_thw": torch.tensor([grid for tokens in made for grid in tokens.grids]),
        }  # fmt: skip

    def tokens(self, row: Mapping[str, Any]) -> Tokens:
        """Return a row as tokens.

        A turn's end is written, too: a policy that is not stopped behind a call has to stop by itself.

        Raises:
            ModelError: the row has no turn or no room for its first one, a turn holds a special token or a call that is
                no text, or placeholders and pictures differ.
        """
        name = str(row.get("id") or row.get("sample_id") or "without an id")
        try:
            return self._tokens([_message(one) for one in row["messages"]], row)
        except (KeyError, TypeError, ValueError, ModelError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ModelError(f"the row of sample {name!r} cannot be laid out: {why}") from error

    def _tokens(self, messages: list[Message], row: Mapping[str, Any]) -> Tokens:
        images = [_picture(image) for image in row["images"]]
        if count_images(messages) != len(images):
            raise ValueError(f"{count_images(messages)} placeholders for {len(images)} pictures")
        tools = row.get("tools") or []
        tools = json.loads(tools) if isinstance(tools, str) else tools
        turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns:
            raise ValueError("no message has the role 'assistant'")
        made, at = Tokens(), 0
        for number, place in enumerate(turns):
            shown = messages[at:place]
            pictures, images = images[: count_images(shown)], images[count_images(shown) :]
            chunk = self.codec.go_on(shown, pictures) if number else self.codec.begin(shown, tools, pictures)
            ids = self._turn(messages[place])
            if len(made.ids) + len(chunk.ids) + len(ids) > self.max_length:
                if not number:
                    raise ValueError(f"its first turn ends behind {len(chunk.ids) + len(ids)} tokens, more than "
                                     f"max_length {self.max_length}")  # fmt: skip
                made.left_out = len(turns) - number
                break
            made.show(chunk)
            made.ids += ids
            made.written += [True] * len(ids)
            at = place + 1
        return made

    def _turn(self, message: Message) -> list[int]:
        """Return the tokens of a turn, its end included."""
        text = "".join(part["text"] for part in message["content"])
        opening = self.codec.prefix.strip()
        if opening and text.startswith(opening):  # the template writes the opening <think> itself
            text = text[len(opening) :].lstrip("\n")
        ids = self.codec.encode(text)
        if found := {self.codec.end_id, *self.codec.forbidden} & set(ids):
            raise ValueError(f"a turn holds the special token {self.codec.tokenizer.decode([min(found)])!r}")
        return [*ids, self.codec.end_id]


def _message(message: Mapping[str, Any]) -> Message:
    """Return a message whose content is a list of parts without empty fields, which tables fill in."""
    if message.get("tool_calls"):
        raise ValueError("a call stands beside its turn: write calls as text")
    content = message["content"]
    parts: Iterable[Any] = [text_part(content)] if isinstance(content, str) else content
    made = [image_part() if part["type"] == "image" else text_part(part["text"]) for part in parts]
    return {"role": message["role"], "content": made}


def _picture(image: Any) -> RGB:
    from PIL import Image

    if isinstance(image, Mapping):
        image = Image.open(io.BytesIO(image["bytes"]))
    if isinstance(image, Image.Image):
        image = image.convert("RGB")
    return np.asarray(image, np.uint8)
