"""A conversation as tokens: what was shown and what was written, never tokenised twice.

A turn's own tokens stay as they were generated; only new messages pass through the chat template. So the history that
a trainer scores is the history that the policy saw, and picture placeholders cannot drift from picture features.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from actfer_env._moved import old_names
from actfer_env.agents.base import ChatTrajectory
from actfer_env.chat import ChatEpisode
from actfer_env.chat.messages import Message
from actfer_env.errors import ActFERError
from actfer_env.images import RGB
from actfer_env.rewards.guards import picture_mismatch

__getattr__ = old_names(__name__)

_BASE: list[Message] = [{"role": "system", "content": "."}, {"role": "user", "content": "."}]
_PROBE: dict[str, Any] = {
    "type": "function",
    "function": {"name": "probed_tool", "description": "", "parameters": {"type": "object", "properties": {}}},
}
_PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"
PICTURES_KEPT = 256
"""Pictures whose pixel values a codec keeps: the members of a query group see the same ones (chosen here)."""
TEXTS_KEPT = 1024
"""Rendered and encoded texts that a codec keeps: rollouts share most of theirs (chosen here)."""
_IMAGE, _END = "<|image_pad|>", "<|im_end|>"
CALL_END = "</tool_call>"
"""Text behind which a turn ends: its results are needed before the policy goes on."""


class ModelError(ActFERError, RuntimeError):
    """A model that cannot be loaded, or whose tokens and pictures do not fit together."""


class TokenCodec:
    """Turns messages and pictures into tokens and pixel values, with a Qwen-VL tokenizer and image processor.

    Args:
        tokenizer: A tokenizer with a chat template in ChatML.
        image_processor: Image processor of Qwen-VL; gives `pixel_values` and `image_grid_thw`.
        pictures_kept: Pictures whose pixel values are kept, for whoever shows the same ones again.

    Raises:
        ModelError: the tokenizer lacks the special tokens of Qwen-VL.
    """

    def __init__(self, tokenizer: Any, image_processor: Any, pictures_kept: int = PICTURES_KEPT) -> None:
        self.tokenizer, self.image_processor, self._room = tokenizer, image_processor, pictures_kept
        self._tokens: dict[str, list[int]] = {}
        self._texts: dict[str, str] = {}
        self.image_id, self.end_id = (tokenizer.convert_tokens_to_ids(token) for token in (_IMAGE, _END))
        if None in (self.image_id, self.end_id) or tokenizer.unk_token_id in (self.image_id, self.end_id):
            raise ModelError(f"the tokenizer knows no {_IMAGE} or {_END}: use a Qwen-VL checkpoint")
        bare, asked = self._render(_BASE), self._render(_BASE, ask=True)
        self.opening = asked[len(bare) :]
        """Text that the template writes at the head of an assistant turn."""
        self.prefix = self.opening.split("\n", 1)[1]
        """The part of `opening` that belongs to the turn, such as an opening ``<think>``."""
        self._base = bare
        special = {*tokenizer.all_special_ids, self.image_id, tokenizer.pad_token_id}
        special |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.forbidden = tuple(sorted(special - {self.end_id, None}))
        """Special tokens that no turn may hold: one picture placeholder in a turn breaks the feature count."""
        self._call_end = self.encode(CALL_END)
        self._kept: dict[Any, tuple[Any, tuple[int, ...]]] = {}
        self._lock = threading.Lock()
        self.takes_tools = _PROBE["function"]["name"] in self._render(_BASE, [_PROBE])
        """True where the template writes the tools' schemas; that of Qwen2.5-VL does not."""

    def begin(self, messages: Sequence[Message], tools: list[dict[str, Any]], images: Sequence[RGB]) -> Chunk:
        """Return the tokens and pictures of a prompt, the opening of the first turn included."""
        return self._chunk(self._render(_safe(messages), tools or None, ask=True), images)

    def go_on(self, messages: Sequence[Message], images: Sequence[RGB]) -> Chunk:
        """Return the tokens and pictures that follow a finished turn: its line end, new messages, the next opening."""
        text = self._render([*_BASE, *_safe(messages)], ask=True)
        if not text.startswith(self._base):
            raise ModelError("the chat template rewrites earlier messages: conversations cannot be continued")
        return self._chunk("\n" + text[len(self._base) :], images)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, in a list of its own."""
        return list(_remembered(self._tokens, text, lambda: self.tokenizer(text, add_special_tokens=False).input_ids))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a turn's tokens, without its end."""
        kept = [token for token in ids if token != self.end_id]
        return str(self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def stops(self, at_call: bool = True) -> tuple[list[int], list[str]]:
        """Return the tokens and the texts that end a turn: whoever samples stops behind the first of either.

        Args:
            at_call: End a turn behind its first tool call. It is a text only where the tokenizer writes `CALL_END` in
                several tokens.
        """
        one = len(self._call_end) == 1
        tokens = [self.end_id, *(self._call_end if at_call and one else [])]
        return tokens, [CALL_END] if at_call and not one else []

    def cut(self, ids: Sequence[int], at_call: bool = True) -> list[int]:
        """Return a turn's tokens up to the first that ends it, that included, or up to a forbidden one, that excluded.

        Padding behind a turn is forbidden, too, and goes. A turn of which nothing is left stays empty.
        """
        stops, _ = self.stops(at_call)
        for place, token in enumerate(ids):
            if token in stops:
                return list(ids[: place + 1])
            if token in self.forbidden:
                return list(ids[:place])
        return list(ids)

    def _render(self, messages: Sequence[Message], tools: Any = None, *, ask: bool = False) -> str:
        template = partial(self.tokenizer.apply_chat_template, tools=tools, add_generation_prompt=ask, tokenize=False)
        return str(_remembered(self._texts, repr((messages, tools, ask)), lambda: template(list(messages))))

    def _chunk(self, text: str, images: Sequence[RGB]) -> Chunk:
        if text.count(_PLACEHOLDER) != len(images):
            raise ModelError(f"the chat template shows {text.count(_PLACEHOLDER)} of {len(images)} pictures")
        pixels, grids = self.pictures(images)
        merge = int(self.image_processor.merge_size) ** 2
        head, *rest = text.split(_IMAGE)
        counts = [int(np.prod(grid)) // merge for grid in grids]
        text = head + "".join(_IMAGE * count + part for count, part in zip(counts, rest, strict=True))
        return Chunk(self.encode(text), pixels, grids)

    def pictures(self, images: Sequence[RGB]) -> tuple[list[Any], list[tuple[int, ...]]]:
        """Return each picture's `pixel_values` and grid; what was processed lately is not processed again.

        Args:
            images: uint8 (H, W, 3) RGB.
        """
        found = [self._picture(image) for image in images]
        return [pixels for pixels, _ in found], [grid for _, grid in found]

    def _picture(self, image: RGB) -> tuple[Any, tuple[int, ...]]:
        from PIL import Image

        key = image.shape, image.tobytes()
        found = self._kept.get(key)
        if found is None:
            made = self.image_processor(images=[Image.fromarray(image)], return_tensors="pt")
            found = made["pixel_values"], tuple(int(v) for v in made["image_grid_thw"][0])
            with self._lock:
                self._kept[key] = found
                if len(self._kept) > self._room:
                    del self._kept[next(iter(self._kept))]
        return found


def _remembered(memo: dict[str, Any], key: str, make: Callable[[], Any]) -> Any:
    """Return what a memo holds under a key, or make it; a full memo is emptied. Several threads may ask at once."""
    found = memo.get(key)
    if found is None:
        found = make()
        if len(memo) >= TEXTS_KEPT:
            memo.clear()
        memo[key] = found
    return found


@dataclass(frozen=True)
class Chunk:
    """Tokens, and the pictures behind their placeholders.

    Attributes:
        ids: Tokens.
        pixels: For each picture, the processor's `pixel_values`, float (patches, width).
        grids: For each picture, its (frames, rows, columns) of patches.
    """

    ids: list[int]
    pixels: list[Any]
    grids: list[tuple[int, ...]]


class Conversation(ChatTrajectory):
    """A conversation as the tokens of a local model.

    Args:
        episode: A fresh episode.
        codec: TokenCodec of the model; shared.

    Raises:
        ModelError: the model would not see the tools, or they are to be called natively.

    Attributes:
        episode: The conversation's episode.
        ids: All tokens so far.
        written: For each token, whether the policy wrote it; only these carry a loss.
        turns: (start, stop) of each written turn within `ids`.
    """

    def __init__(self, episode: ChatEpisode, codec: TokenCodec) -> None:
        if episode.tools and not (codec.takes_tools or episode.chat.schemas_in_prompt):
            raise ModelError("the model's chat template has no tools: use ChatConfig(schemas_in_prompt=True)")
        if episode.chat.calls != "text":
            raise ModelError("a local model writes its calls as text: use ChatConfig(calls='text')")
        super().__init__(episode)
        self._codec = codec
        self.ids: list[int] = []
        self.written: list[bool] = []
        self.turns: list[tuple[int, int]] = []
        self.pixels: list[Any] = []
        self.grids: list[tuple[int, ...]] = []
        self._shown, self._before = 0, 0
        self._add(codec.begin(episode.messages, episode.tools, episode.images))

    def write(self, ids: Sequence[int]) -> None:
        """Play a turn that the policy wrote, and add what follows from it.

        Raises:
            RuntimeError: the episode is over.
            ModelError: placeholders and picture features differ.
        """
        start, self._before = len(self.ids), self._shown
        self.ids += list(ids)
        self.written += [True] * len(ids)
        self.turns.append((start, len(self.ids)))
        step = self.episode.step(self._codec.decode(ids), prefix=self._codec.prefix)
        if not step.done:
            if not ids or ids[-1] != self._codec.end_id:  # a turn that stopped before its end, as behind a tool call
                self.ids.append(self._codec.end_id)
                self.written.append(False)
            self._add(self._codec.go_on(step.messages, step.images))

    def _add(self, chunk: Chunk) -> None:
        self.ids += chunk.ids
        self.written += [False] * len(chunk.ids)
        self.pixels += chunk.pixels
        self.grids += chunk.grids
        self._shown = len(self.episode.images)
        self.check()

    @property
    def images(self) -> list[RGB]:
        """The pictures that the policy sees, uint8 (H, W, 3) each: those of messages that were left out are not."""
        return self.episode.images[: self._shown]

    def drop_reply(self) -> None:
        """Leave out what followed the last turn, its pictures with it: there was no room for it."""
        _, stop = self.turns[-1]
        del self.ids[stop:], self.written[stop:]
        self._shown = self._before
        del self.pixels[self._shown :], self.grids[self._shown :]

    def check(self) -> None:
        """Compare placeholders with picture features.

        Raises:
            ModelError: they differ.
        """
        merge = int(self._codec.image_processor.merge_size) ** 2
        features = sum(int(np.prod(grid)) // merge for grid in self.grids)
        placeholders = self.ids.count(self._codec.image_id)
        if problem := picture_mismatch(self.episode.sample.id, placeholders, features, self._shown):
            raise ModelError(problem)


def _safe(messages: Sequence[Message]) -> list[Message]:
    """Return messages whose texts cannot be read as special tokens: a tool may quote what the policy wrote."""
    return [
        {
            **message,
            "content": [
                part if part["type"] == "image" else {**part, "text": part["text"].replace("<|", "< |")}
                for part in message["content"]
            ],
        }
        for message in messages
    ]
