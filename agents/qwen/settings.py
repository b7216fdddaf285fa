"""`SamplingConfig`: how a local model writes its turns."""

from __future__ import annotations

from dataclasses import dataclass

from actfer_env.agents.qwen.conversation import ModelError
from actfer_env.bounds import bounded, check_fields


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of the generation of turns; chosen here.

    Attributes:
        max_new_tokens: Most tokens of one turn.
        temperature: 0 is greedy.
        top_p: Nucleus, in (0, 1]; unused when greedy.
        seed: Random seed of the sampling. Every turn has a random stream of its own, so that neither the batch nor a
            stop and a second start changes what is drawn (on the CPU; a GPU's rounding depends on the batch).
        stop_at_call: End a turn behind its first tool call.
        max_length: Tokens of a whole conversation; a longer one ends with the outcome "too_long".
    """

    max_new_tokens: int = bounded(1024, ge=1)
    temperature: float = bounded(0.0, ge=0)
    top_p: float = bounded(1.0, gt=0, le=1)
    seed: int = bounded(0, ge=0)
    stop_at_call: bool = True
    max_length: int = bounded(16_384, ge=2)

    def __post_init__(self) -> None:
        check_fields(self, ModelError)
