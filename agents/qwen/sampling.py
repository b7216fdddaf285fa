"""Sampling of a local model's next token: transformers' warpers, then one random stream a row. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from actfer_env._moved import old_names
from actfer_env.agents.qwen.settings import SamplingConfig

__getattr__ = old_names(__name__)


class KnownTokens(LogitsProcessor):
    """Excludes rows of the model's head that no token has: models are padded to round sizes."""

    def __init__(self, known: int) -> None:
        self.known = known

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores, float (n, vocabulary), with -inf behind the last known token."""
        return torch.where(torch.arange(scores.shape[1], device=scores.device) < self.known, scores, -torch.inf)


class OwnStreams(LogitsProcessor):
    """Adds Gumbel noise from one stream a row: the largest sum is then a draw from the row's softmax.

    So a greedy search over the noisy scores samples, and what a row draws does not depend on those beside it.
    """

    def __init__(self, streams: Sequence[torch.Generator]) -> None:
        self.streams = streams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the noisy scores, float32 (n, vocabulary); excluded tokens stay excluded."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, stream in zip(noise, self.streams, strict=True):
            row.exponential_(generator=stream)
        return scores.float() - noise.log()


def sampling_chain(config: SamplingConfig, known: int, streams: Sequence[torch.Generator]) -> LogitsProcessorList:
    """Return the processors that make a greedy search draw as configured.

    Args:
        config: Temperature (0 draws nothing) and top_p.
        known: Tokens that the tokenizer knows.
        streams: One for each row of the batch.
    """
    chain = LogitsProcessorList([KnownTokens(known)])
    if config.temperature > 0:
        chain.append(TemperatureLogitsWarper(float(config.temperature)))
        if config.top_p < 1:
            chain.append(TopPLogitsWarper(config.top_p))
        chain.append(OwnStreams(streams))
    return chain
