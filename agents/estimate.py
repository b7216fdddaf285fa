"""Costs of an evaluation by an endpoint, estimated without a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actfer_env.chat import ChatEpisode
from actfer_env.chat.turns import look_texts
from actfer_env.evaluation.costs import token_cost


@dataclass(frozen=True)
class Estimate:
    """Cost of an evaluation, estimated without a call.

    Attributes:
        episodes: Counted.
        calls: Calls of the endpoint.
        prompt_tokens: Four characters, or 1,024 pixels, are taken for one.
        completion_tokens: 150 for each call (chosen here).
        cost: Cost in the currency of the prices.
    """

    episodes: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


def estimate(
    episodes: Iterable[ChatEpisode], price_in: float = 0.0, price_out: float = 0.0, written: int = 150
) -> Estimate:
    """Play a fixed script (detect, zoom twice, answer) and count what would be sent; nothing is.

    Args:
        episodes: Fresh episodes.
        price_in: Price of a million prompt tokens.
        price_out: Price of a million completion tokens.
        written: Tokens of a turn.
    """
    count = calls = prompt = 0
    for episode in episodes:
        count += 1
        for text in _script(episode):
            if episode.done:
                break
            calls += 1
            prompt += _size(episode)
            episode.step(text)
    return Estimate(count, calls, prompt, calls * written, token_cost(prompt, calls * written, (price_in, price_out)))


def _script(episode: ChatEpisode) -> Sequence[str]:
    answer = '<answer>{"emotion": "neutral", "aus": []}</answer>'
    if not episode.chat.preset_spec.tools:
        return ["<think>.</think><answer>neutral</answer>"]
    return [*look_texts(["eye-periorbital", "mouth-chin"]), answer]


def _size(episode: ChatEpisode) -> int:
    parts = [part for message in episode.messages for part in message["content"] if part["type"] == "text"]
    pixels = sum(image.shape[0] * image.shape[1] for image in episode.images)
    return sum(len(part["text"]) for part in parts) // 4 + pixels // 1024
