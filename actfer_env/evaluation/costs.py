"""Tokens and cost of conversations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actfer_env.rollout import Rollout

Price = tuple[float, float]
"""Price of a million tokens read and of a million written, in any currency."""


@dataclass(frozen=True)
class Cost:
    """Sum over conversations.

    Attributes:
        calls: Calls of the model.
        prompt_tokens: Read.
        completion_tokens: Written.
        seconds: Spent on the model.
        cost: In the currency of the price; 0 without a price.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    def __str__(self) -> str:
        """Return the sums in words, as a dry run does: "12 calls, 3,400 tokens read, 560 written, cost 0.02"."""
        return f"{self.calls:,} calls, {self.prompt_tokens:,} tokens read, {self.completion_tokens:,} written, " \
               f"cost {self.cost:.2f}"  # fmt: skip


def token_cost(prompt_tokens: float, completion_tokens: float, price: Sequence[float]) -> float:
    """Return the cost of tokens, in the currency of the price.

    Args:
        prompt_tokens: Read.
        completion_tokens: Written.
        price: See `Price`.
    """
    return (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6


def cost_of(rollouts: Iterable[Rollout], price: Sequence[float] = (0.0, 0.0)) -> Cost | None:
    """Return what conversations cost; None where none of them says what it used.

    Args:
        rollouts: Finished episodes; answers that came out of a cache cost nothing.
        price: See `Price`.
    """
    used = [rollout.meta["usage"] for rollout in rollouts if "usage" in rollout.meta]
    if not used:
        return None
    calls, prompt, written = (sum(int(one[name]) for one in used) for name in
                              ("calls", "prompt_tokens", "completion_tokens"))  # fmt: skip
    seconds = float(sum(one["seconds"] for one in used))
    return Cost(calls, prompt, written, seconds, token_cost(prompt, written, price))
