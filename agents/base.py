"""The agent protocol: one interface for scripted, learned and language policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from actfer_env.chat import ChatEpisode

Batch = Mapping[str, Any]
"""An observation or info; in a vector environment every entry has a leading axis of n."""


@runtime_checkable
class Agent(Protocol):
    """Protocol of an agent, which drives episodes; `actfer_env.testing.check_agent` checks it.

    An agent whose answers do not depend on pictures says so by an attribute ``looks = False``: tables and reports then
    show them as a script's, never as a reading. One that was trained in an environment of certain sizes may have a
    method ``check(env)``, which raises a `DataError` where an environment does not fit; `actfer_env.evaluation.play`
    calls it first. Facts about its last answer may stand in an attribute ``meta``, a dict of JSON values: `play` keeps
    them in the rollout's. One that draws at random may have ``random_state()``, a dict of JSON values, and
    ``set_random_state(state)``: a run that was killed then goes on with the same draws. What it is, such as a digest of
    its weights, may stand in ``identity``: a run goes on with the same agent alone. One that rates its tools may have a
    method ``tool_scores(obs, info)`` for batches: logits of detect_align, the four regions and an answer, float (n, 6),
    or of the 13 actions of `ActFER-Discrete-v0`; the gate report takes the policy's chance to zoom from it.
    """

    def reset(self, n: int) -> None:
        """Get ready for n episodes that run side by side."""

    def act(self, obs: Batch, info: Batch) -> Any:
        """Return the next actions.

        Args:
            obs: The observation of one environment, or the batch of a vector environment.
            info: Its info.

        Returns:
            One action for a single environment's observation; for a batch, the array or list of n actions (for
            `Dict` actions the dict of arrays) that a vector environment's `step` takes.
        """


@dataclass
class Usage:
    """Cost of a conversation.

    Attributes:
        calls: Calls of the model, one a turn.
        prompt_tokens: Read, summed over turns.
        completion_tokens: Written.
        seconds: Spent on the model; within a batch the turns share them equally.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(eq=False)
class ChatTrajectory:
    """A conversation that is over; agents may return more of it.

    Attributes:
        episode: The episode, finished unless there is an error.
        error: Reason why an endpoint refuses this conversation, though it answers others; None where it was played.
        begun: Whether the endpoint had answered one of its turns, so that the fault is not in what all requests have.
    """

    episode: ChatEpisode
    error: str | None = None
    begun: bool = True


class ChatAgent(Protocol):
    """Protocol of a player of conversations: a local model or an endpoint.

    An attribute `settings`, a dict of JSON values, may say what else its turns depend on, such as the temperature:
    `evaluate` then refuses to mix conversations of different settings. An attribute `identity`, likewise, may say what
    the model itself is, such as digests of its files; it is compared, and not shown.
    """

    name: str

    def play(self, episodes: Iterable[ChatEpisode]) -> Iterator[tuple[ChatTrajectory, Usage]]:
        """Play fresh episodes to their ends, several at once; yield each when it is over, in any order."""


def is_batch(obs: Batch) -> bool:
    """Tell whether an observation is the batch of a vector environment."""
    return np.ndim(obs["state"]) > 0


def rows(obs: Batch) -> list[dict[str, Any]]:
    """Return the single observations of a batch, or the one observation in a list."""
    if not is_batch(obs):
        return [dict(obs)]
    return [{key: value[i] for key, value in obs.items()} for i in range(len(obs["state"]))]


def join(actions: list[Any], obs: Batch) -> Any:
    """Return single actions in the form that the environment of `obs` takes; the inverse of `rows`."""
    if not is_batch(obs):
        return actions[0]
    if isinstance(actions[0], Mapping):
        return {key: np.stack([action[key] for action in actions]) for key in actions[0]}
    return np.stack(actions)


def sample_ids(info: Batch, n: int) -> list[str]:
    """Return the sample ids of an info, single or batched."""
    ids = info["sample_id"]
    return [str(ids)] if isinstance(ids, str) else [str(name) for name in ids[:n]]
