"""`QwenVLAgent`: a Qwen3-VL or Qwen2.5-VL checkpoint as the policy of many conversations at once. Needs `[vlm]`."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actfer_env.agents.base import Usage
from actfer_env.agents.qwen.conversation import CALL_END, Conversation, ModelError, TokenCodec
from actfer_env.agents.qwen.settings import SamplingConfig
from actfer_env.agents.qwen.torchvision_guard import guard
from actfer_env.chat import ChatConfig, ChatEpisode
from actfer_env.identity import model_facts
from actfer_env.packages import needs

if TYPE_CHECKING:
    import torch

__all__ = ["CALL_END", "DTYPES", "QwenVLAgent", "SamplingConfig", "load"]
DTYPES = ("auto", "float32", "bfloat16", "float16")
"""Precisions that a model is loaded in."""


class QwenVLAgent:
    """Plays conversations with a local vision-language model.

    Args:
        model: A folder or hub name, or a loaded model.
        device: Such as "cpu", "cuda" or "cuda:0"; default is the GPU where there is one.
        dtype: "auto", "float32", "bfloat16" or "float16".
        sampling: Settings of the generation of turns.
        batch_size: Conversations side by side.
        min_pixels: Fewest pixels of a picture as the model sees it; None is the checkpoint's own.
        max_pixels: Likewise; 1,024 pixels (Qwen3-VL) or 784 (Qwen2.5-VL) are one token.
        tokenizer: Only with a loaded model.
        image_processor: Only with a loaded model.

    Raises:
        ModelError: the checkpoint cannot be loaded, or is no Qwen-VL.
    """

    def __init__(  # noqa: PLR0913  (one for each choice that a user makes)
        self,
        model: str | os.PathLike[str] | Any,
        *,
        device: str | None = None,
        dtype: str = "auto",
        sampling: SamplingConfig | None = None,
        batch_size: int = 8,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        tokenizer: Any = None,
        image_processor: Any = None,
    ) -> None:
        import torch

        self.sampling, self.batch_size = sampling or SamplingConfig(), batch_size
        self.identity: dict[str, Any] = {}
        """Identity of the model: of a folder its files, of a hub's model its commit."""
        if isinstance(model, str | os.PathLike):
            self.name = str(model)
            self.identity = model_facts(model) if Path(model).is_dir() else {}
            model, tokenizer, image_processor = load(model, dtype)
        else:
            self.name = type(model).__name__
        if commit := getattr(model.config, "_commit_hash", None):
            self.identity["commit"] = str(commit)
        size = dict(image_processor.size)
        if min_pixels is not None:
            size["shortest_edge"] = image_processor.min_pixels = min_pixels
        if max_pixels is not None:
            size["longest_edge"] = image_processor.max_pixels = max_pixels
        image_processor.size = size
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self.device = torch.device(device)
            self.model: Any = model.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:  # torch's own words have many lines
            raise ModelError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
        self.codec = TokenCodec(tokenizer, image_processor)
        bounds = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
        self.settings = {**asdict(self.sampling), "dtype": str(model.dtype), **bounds}
        """Settings that the turns depend on, as JSON values."""
        pixels = self.model.config.model_type.startswith("qwen2")
        self.chat = ChatConfig(
            coordinates="pixels" if pixels else "relative_1000", schemas_in_prompt=not self.codec.takes_tools
        )
        """Chat settings that fit the model: Qwen2.5-VL writes boxes in pixels, and its template has no tools."""
        self.forbidden = list(self.codec.forbidden)
        """Special tokens, which are never sampled."""
        self._stops, self._stop_texts = self.codec.stops(self.sampling.stop_at_call)

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[tuple[Conversation, Usage]]:
        """Play episodes to their ends, `batch_size` at once; a finished one makes room for the next.

        Args:
            episodes: Fresh episodes, drawn as there is room.

        Yields:
            Each finished conversation and what it cost, in the order of finishing.
        """
        waiting = iter(episodes)
        active: list[tuple[Conversation, Usage]] = []
        while True:
            for episode in waiting:
                active.append((Conversation(episode, self.codec), Usage()))
                if len(active) >= self.batch_size:
                    break
            if not active:
                return
            self._turn(active)
            yield from (pair for pair in active if pair[0].episode.done)
            active = [pair for pair in active if not pair[0].episode.done]

    def _turn(self, active: list[tuple[Conversation, Usage]]) -> None:
        """Let every active conversation write one turn."""
        room, asked, most = [], self.sampling.max_new_tokens, self.sampling.max_length
        for pair in active:
            used, episode = len(pair[0].ids), pair[0].episode
            if used + asked <= most:
                room.append(pair)
            else:
                why = f"{used} tokens and {asked} more for a turn are beyond {most} (max_length)"
                episode.stop("too_long", why)
        if not room:
            return
        start = time.perf_counter()
        turns = self.write([conversation for conversation, _ in room])
        share = (time.perf_counter() - start) / len(room)
        for (conversation, usage), ids in zip(room, turns, strict=True):
            usage.calls += 1
            usage.prompt_tokens += len(conversation.ids)
            usage.completion_tokens += len(ids)
            usage.seconds += share
            conversation.write(ids)
            if len(ids) >= self.sampling.max_new_tokens and ids[-1] not in self._stops:
                conversation.episode.note_cut()

    def write(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Generate the next turn of some conversations, without playing it.

        Returns:
            The tokens of each turn, its end token included where the model wrote one.
        """
        import torch

        from actfer_env.agents.qwen.sampling import sampling_chain

        batch = self.collate(conversations)
        streams = [self._stream(conversation) for conversation in conversations]
        chain = sampling_chain(self.sampling, len(self.codec.tokenizer), streams)
        with torch.no_grad():
            out = self.model.generate(**batch, **self.generation_settings(), logits_processor=chain)
        tails = out[:, batch["input_ids"].shape[1] :].tolist()
        return [self.codec.cut(tail, self.sampling.stop_at_call) for tail in tails]

    def collate(self, conversations: Sequence[Conversation]) -> dict[str, Any]:
        """Return the model's inputs for some conversations, padded on the left.

        Returns:
            `input_ids`, `attention_mask`, `mm_token_type_ids` (n, length), `pixel_values`, `image_grid_thw`.
        """
        import torch

        length = max(len(conversation.ids) for conversation in conversations)
        pad = self.codec.tokenizer.pad_token_id
        rows = [[pad] * (length - len(c.ids)) + c.ids for c in conversations]
        seen = [[0] * (length - len(c.ids)) + [1] * len(c.ids) for c in conversations]
        ids, mask = torch.tensor(rows, device=self.device), torch.tensor(seen, device=self.device)
        pixels = torch.cat([pixel for c in conversations for pixel in c.pixels])
        return {
            "input_ids": ids, "attention_mask": mask,
            "mm_token_type_ids": (ids == self.codec.image_id).int() * mask.int(),
            "pixel_values": pixels.to(self.device, self.model.dtype),
            "image_grid_thw": torch.tensor([grid for c in conversations for grid in c.grids], device=self.device),
        }  # fmt: skip

    def log_probs(self, conversations: Sequence[Conversation]) -> list[tuple[Any, Any]]:
        """Return what a trainer needs of finished conversations; gradients flow where they are enabled.

        Returns:
            For each conversation the log-probabilities of its tokens from the second on, float (length - 1,), under
            the sampling's temperature and without the forbidden tokens, and the mask of those that the policy
            wrote, bool (length - 1,). top_p is left out, as GRPO trainers do.
        """
        import torch

        batch = self.collate(conversations)
        logits = self.model(**batch).logits[:, :-1].float()
        logits[..., self.forbidden] = -torch.inf
        logits[..., len(self.codec.tokenizer) :] = -torch.inf  # rows that no token has
        logs = torch.log_softmax(logits / (self.sampling.temperature or 1.0), dim=-1)
        chosen = logs.gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        found = []
        for row, conversation in zip(chosen, conversations, strict=True):
            written = torch.tensor(conversation.written[1:], device=self.device)
            found.append((row[len(row) - len(written) :], written))
        return found

    def generation_settings(self) -> dict[str, Any]:
        """Return what `generate` of transformers needs for a turn: bounds, stops, and the tokens that it may not draw.

        The search is greedy; `write` adds the processors that make it draw.
        """
        sampling = self.sampling
        settings: dict[str, Any] = {
            "max_new_tokens": sampling.max_new_tokens, "do_sample": False, "use_cache": True,
            "eos_token_id": self._stops, "pad_token_id": self.codec.tokenizer.pad_token_id,
            "suppress_tokens": self.forbidden, "repetition_penalty": 1.0,
        }  # fmt: skip
        if self._stop_texts:
            settings |= {"stop_strings": self._stop_texts, "tokenizer": self.codec.tokenizer}
        return settings

    def _stream(self, conversation: Conversation) -> torch.Generator:
        """Return the random stream of a conversation's next turn."""
        import torch

        episode = conversation.episode.episode
        place = [self.sampling.seed, episode.group_id, episode.sample.id, episode.member, episode.step]
        key = repr([*place, len(conversation.turns)])
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
        return torch.Generator(self.device).manual_seed(seed)


def load(source: str | os.PathLike[str], dtype: str = "auto") -> tuple[Any, Any, Any]:
    """Load a model, its tokenizer and its image processor.

    The image processor is transformers' PIL one, which needs no torchvision and gives the same pixels everywhere.

    Raises:
        ModelError: there is no such checkpoint, or it is no Qwen-VL.
    """
    with needs("vlm", ModelError):
        guard()
        from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen2VLImageProcessorPil
    name = os.fspath(source)
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise ModelError(f"{name} holds no model: it has no config.json")
    if (Path(name).is_absolute() or name.startswith(".")) and not Path(name).is_dir():
        raise ModelError(f"no model folder {name}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        processor = Qwen2VLImageProcessorPil.from_pretrained(name)
        with _quiet():
            model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load {name}: {str(error).splitlines()[0]}") from error
    return model, tokenizer, processor


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars from this package's own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
