"""`ServedFaceEnv`: TRL's environment whose episodes a server of `actfer openenv` plays. Needs `[openenv,trl]`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from actfer_env.errors import DataError
from actfer_env.images import RGB
from actfer_env.integrations.network import TRY_AGAIN
from actfer_env.integrations.openenv.client import FaceClient
from actfer_env.integrations.openenv.models import FaceAction, FaceObservation
from actfer_env.integrations.trl.environment import FaceEnv
from actfer_env.rollout import Rollout

T = TypeVar("T")
SECONDS = 120.0
"""Time that a server has for an answer, seconds."""


class ServedFaceEnv(FaceEnv):
    """TRL's environment in which the tools run, and pictures lie, on a server: the trainer needs neither.

    Rows name samples of the data set that the server plays, by their ids. A session is opened for each instance that
    TRL makes, and kept. ``environment_factory=functools.partial(ServedFaceEnv, "http://localhost:8000")``.

    Args:
        url: Address of a server of `actfer openenv`.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._client = FaceClient(base_url=url, connect_timeout_s=SECONDS, message_timeout_s=SECONDS).sync()

    def reset(self, extra_info: Any = None, **row: Any) -> list[dict[str, Any]]:
        """Begin the episode of a row.

        Args:
            extra_info: The row's own, which names the sample.
            row: Other columns; the instructions of the prompt are compared with the server's.

        Returns:
            The first picture and the question, which TRL puts behind the row's prompt.

        Raises:
            DataError: the row names no sample, the server plays no such sample, or its instructions are others.
            ConnectionError: there is no server.
        """
        shown = super().reset(extra_info, **row)
        own = [message["content"] for message in row.get("prompt") or () if message["role"] == "system"]
        if own and own != [_said(message) for message in self._running().messages[:1]]:
            raise DataError("the server plays other conversations than the rows: give both the same --chat fields")
        return shown

    def _begin(self, reference: Mapping[str, Any] | str) -> ServedEpisode:
        """Return the episode of a row's sample, before its first turn."""
        found = json.loads(reference) if isinstance(reference, str) else reference
        if "id" not in found:
            raise DataError("the row names no sample: make the data with actfer_env.integrations.trl.rows")
        try:
            result = patiently(partial(self._client.reset, sample=found["id"], plain=True))
        except RuntimeError as error:  # what a server refuses
            raise DataError(f"the server does not play {found['id']!r}: {error}") from error
        return ServedEpisode(self._client, result.observation)


class ServedEpisode:
    """One episode on a server, as `FaceEnv` plays it.

    Args:
        client: A session that has begun the episode.
        first: The observation of its start.

    Attributes:
        messages: The instructions, and the question with its picture.
        images: Pictures of these, uint8 (H, W, 3) RGB.
        texts: Turns that were played.
    """

    def __init__(self, client: Any, first: FaceObservation) -> None:
        self._client, self._last = client, first
        self.messages, self.images = _shown(first)
        self.texts: list[str] = []

    @property
    def done(self) -> bool:
        """True once the episode is over."""
        return bool(self._last.done)

    def step(
        self, text: str | None, tool_calls: Sequence[Mapping[str, Any]] | None = None, *, reasoning: str | None = None
    ) -> ServedTurn:
        """Play one assistant turn; see `ChatEpisode.step`."""
        self.texts.append(text or "")
        self._play(FaceAction(text=text or "", tool_calls=list(tool_calls or ()), reasoning=reasoning or ""))
        return ServedTurn(self._last)

    def stop(self, outcome: str) -> None:
        """End the episode without an answer; see `ChatEpisode.stop`."""
        self._play(FaceAction(stop=outcome))

    def rollout(self) -> Rollout:
        """Return the record of the finished episode.

        Raises:
            ValueError: the episode is not over.
        """
        return self._last.record()

    def _play(self, action: FaceAction) -> None:
        self._last = patiently(partial(self._client.step, action)).observation


def patiently(ask: Callable[[], T], seconds: float = SECONDS, pause: float = 1.0) -> T:
    """Return what a server answers; ask again for a while where it has too much to do, and says so.

    Args:
        ask: The request.
        seconds: Time after which its refusal is passed on.
        pause: Seconds between two requests.

    Raises:
        RuntimeError: the server refuses.
    """
    start = time.monotonic()
    while True:
        try:
            return ask()
        except RuntimeError as error:
            if TRY_AGAIN not in str(error) or time.monotonic() - start > seconds:
                raise
        time.sleep(pause)


class ServedTurn:
    """Result of a turn.

    Args:
        observation: The server's.

    Attributes:
        messages: The tools' messages.
        images: Their pictures, uint8 (H, W, 3) RGB.
    """

    def __init__(self, observation: FaceObservation) -> None:
        self.messages, self.images = _shown(observation)


def _shown(observation: FaceObservation) -> tuple[list[Any], list[RGB]]:
    """Return the messages of an observation with places for pictures, as a `ChatEpisode` has them, and the pictures."""
    place = {"type": "image"}
    messages = [
        {**message, "content": [place if part["type"] == "image_url" else part for part in message["content"]]}
        for message in observation.messages
    ]
    return messages, observation.pictures()


def _said(message: Mapping[str, Any]) -> str:
    return "".join(part.get("text", "") for part in message["content"])
