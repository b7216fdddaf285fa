"""`FaceEnv`: one episode as an environment of TRL."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from PIL import Image

from actfer_env.chat import ChatConfig, ChatEpisode, shared_tools
from actfer_env.data.references import sample_of
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.images import RGB
from actfer_env.rollout import Rollout

TURN, NUMBER = "_turn", "_number"
"""Arguments by which `read_turns` hands a whole turn to the environment, and asks for its n-th reply."""


class Turn(Protocol):
    """Protocol of what a turn brings: its new messages, and their pictures, uint8 (H, W, 3) RGB."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The tool or user messages."""

    @property
    def images(self) -> Sequence[RGB]:
        """Their pictures, in order."""


class Conversation(Protocol):
    """Protocol of an episode that `FaceEnv` plays: a `ChatEpisode`, or one that a server plays."""

    messages: list[Any]
    images: list[RGB]
    texts: list[str]

    @property
    def done(self) -> bool:
        """True once the episode is over."""

    def step(
        self, text: str | None, tool_calls: Sequence[Mapping[str, Any]] | None = None, *, reasoning: str | None = None
    ) -> Turn:
        """Play one assistant turn."""

    def stop(self, outcome: str) -> None:
        """End the episode without an answer."""

    def rollout(self) -> Rollout:
        """Return the record of the finished episode."""


def _whole_turns(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a tool's method take any arguments, and whole turns; TRL still sees its own signature and docstring."""

    @functools.wraps(method)
    def play(self: FaceEnv, *values: Any, **named: Any) -> list[dict[str, Any]]:
        if TURN in named:
            return self._turn(named[TURN], named[NUMBER])
        order = [name for name in inspect.signature(method).parameters if name != "self"]
        return self._native(method.__name__, {**dict(zip(order, values, strict=False)), **named})

    return play


class FaceEnv:
    """One episode as TRL's environment: its methods are the tools, whose results are pictures and text.

    A row names its sample as those of `actfer data verl` do (`extra_info`). TRL makes an instance for each rollout of a
    batch, without arguments: give it `functools.partial(FaceEnv, detector=...)` or a function for others.

    Args:
        detector: A detector's spec.
        chat: Formats and picture sizes.
        episode: Budgets and Action Units. A conversation offers ActFER's two tools.
    """

    def __init__(
        self, detector: str = "auto", chat: ChatConfig | None = None, episode: EpisodeConfig | None = None
    ) -> None:
        self._detector, self._chat, self._limits = detector, chat or ChatConfig(), episode or EpisodeConfig()
        self._episode: Conversation | None = None
        self._replies: list[list[dict[str, Any]]] = []
        self._parsed_calls = 0

    def reset(self, extra_info: Any = None, **row: Any) -> list[dict[str, Any]]:
        """Begin the episode of a row.

        Args:
            extra_info: The row's own, which names the sample.
            row: Other columns; they are not looked at.

        Returns:
            The first picture and the question, which TRL puts behind the row's prompt.

        Raises:
            DataError: the row names no sample.
        """
        if not isinstance(extra_info, Mapping) or "sample" not in extra_info:
            raise DataError("the row names no sample: make the data with actfer_env.integrations.trl.rows")
        self._episode = self._begin(extra_info["sample"])
        self._replies, self._parsed_calls = [], 0
        return _blocks(self._episode.messages[1:2], self._episode.images)

    def _begin(self, reference: Mapping[str, Any] | str) -> Conversation:
        """Return the episode of a row's sample, before its first turn."""
        tools = shared_tools(self._detector, self._chat)
        return ChatEpisode(sample_of(reference), tools, self._chat, self._limits)

    @_whole_turns
    def detect_align(self) -> list:  # type: ignore[empty-body]
        """Find the face, bring it upright and to size, and get its four facial regions.

        Returns:
            The aligned face, and the boxes of its regions.
        """

    @_whole_turns
    def zoom_in(self, regions: list[str] | None = None, boxes: list[list[float]] | None = None) -> list:  # type: ignore[empty-body]
        """Magnify parts of the aligned face in their native detail.

        Args:
            regions: Names of regions: forehead-eyebrow, eye-periorbital, nose, mouth-chin.
            boxes: Boxes [x1, y1, x2, y2] on the aligned face, in the coordinates that the instructions name.

        Returns:
            One picture for each region or box.
        """

    def _native(self, name: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Play a call that TRL has parsed."""
        episode = self._running()
        self._parsed_calls += 1
        if episode.done:
            return [{"type": "text", "text": "the episode is over"}]
        step = episode.step(None, [{"function": {"name": name, "arguments": dict(arguments)}}])
        return _blocks(step.messages, step.images)

    def _turn(self, text: str, number: int) -> list[dict[str, Any]]:
        """Play a whole turn with its first reply, and return the n-th."""
        episode = self._running()
        if number == 0:
            if episode.done:
                return [{"type": "text", "text": "the episode is over"}]
            step = episode.step(text)
            shown = iter(step.images)
            self._replies = [_blocks([message], shown) for message in step.messages]
        if number < len(self._replies):
            return self._replies[number]
        return [{"type": "text", "text": "not played: the episode was over before"}]

    def _finish(self, completion: Sequence[Mapping[str, Any]]) -> Conversation:
        """Play what TRL has not handed over, the answer above all, and end the episode."""
        episode = self._running()
        turns = [message for message in completion if message["role"] == "assistant"]
        if self._parsed_calls:  # TRL's own parser: each of its calls was a turn, and a text without calls is left
            left = [message for message in turns[-1:] if not message.get("tool_calls")]
        else:
            left = turns[len(episode.texts) :]
        for message in left:
            if not episode.done:
                episode.step(_text(message), reasoning=message.get("reasoning_content"))
        if not episode.done:
            episode.stop("too_long")
        return episode

    def _running(self) -> Conversation:
        if self._episode is None:
            raise RuntimeError("call reset() first")
        return self._episode


def _blocks(messages: Sequence[Mapping[str, Any]], images: Any) -> list[dict[str, Any]]:
    """Return the content of messages as TRL takes it, with its pictures."""
    shown: Iterator[Any] = iter(images)
    return [
        {"type": "image", "image": Image.fromarray(next(shown))} if part["type"] == "image" else dict(part)
        for message in messages
        for part in message["content"]
    ]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
