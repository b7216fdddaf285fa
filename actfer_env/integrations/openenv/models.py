"""`FaceAction`, `FaceObservation`, `FaceState`: what goes over the wire. Pictures are data URLs (PNG, base64)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from actfer_env.images import RGB, load_image
from actfer_env.packages import needs
from actfer_env.rollout import Rollout

with needs("openenv"):
    from openenv.core.env_server.types import Action, Observation, State
    from pydantic import Field


class FaceAction(Action):
    """One assistant turn: its text, its native tool calls in OpenAI's format, or both; see `ChatEpisode.step`."""

    text: str = Field("", description="What the policy wrote: calls, or the answer, in it.")
    tool_calls: list[Any] = Field(
        default_factory=list, max_length=64, description="Native calls, OpenAI's format; after those in the text."
    )
    reasoning: str = Field("", description="What a server has cut out of the text as the policy's thought.")
    stop: str = Field(
        "", max_length=64, description="Ends the episode without a turn; its reason, such as too_long, is kept."
    )

    @classmethod
    def call(cls, name: str, **arguments: Any) -> FaceAction:
        """Return the action that calls a tool.

        Args:
            name: Name of the tool, such as "zoom_in".
            arguments: The call's own, such as ``regions=["nose"]``.
        """
        call = {"id": "call", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        return cls(tool_calls=[call])

    @classmethod
    def answer(cls, emotion: str, aus: Sequence[str] = ()) -> FaceAction:
        """Return the action that answers.

        Args:
            emotion: Name of the emotion.
            aus: Labels of the active Action Units, such as "AU12".
        """
        return cls(text=f"<answer>{json.dumps({'emotion': emotion, 'aus': list(aus)})}</answer>")


class FaceObservation(Observation):
    """Result of a turn; `reward` is 0 until the episode is over, and None after a reset."""

    messages: list[dict[str, Any]] = Field(
        default_factory=list,
        description="The new messages, OpenAI's format with pictures as data URLs; after a reset, the prompts.",
    )
    tools: list[dict[str, Any]] = Field(default_factory=list, description="The tools' schemas; after a reset only.")
    legal: list[str] = Field(default_factory=list, description="What may be called now; answering always may.")
    turns_left: int = Field(0, description="Turns before the episode is cut off.")
    violations: list[str] = Field(default_factory=list, description="Names of the rules that the turn broke.")
    reward_terms: dict[str, Any] | None = Field(None, description="Reward as a group of one, by term; at the end.")
    correct: bool | None = Field(None, description="Whether the emotion is right; at the end, where there is a label.")
    target: dict[str, Any] | None = Field(None, description="Label of the picture; at the end.")
    why: list[str] = Field(default_factory=list, description="What the reward comes from, in words; at the end.")
    rollout: dict[str, Any] | None = Field(None, description="Record of the episode; at the end.")

    def pictures(self) -> list[RGB]:
        """Return the new pictures, uint8 (H, W, 3) RGB, in the order of the messages."""
        parts = [
            part for message in self.messages if isinstance(message["content"], list) for part in message["content"]
        ]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return [load_image(base64.b64decode(url.partition(",")[2])) for url in urls]

    def record(self) -> Rollout:
        """Return the record of the finished episode, from which whole groups are scored.

        Raises:
            ValueError: the episode is not over.
        """
        if self.rollout is None:
            raise ValueError("the episode is not over")
        return Rollout.from_dict(self.rollout)


class FaceState(State):
    """State of a session: `episode_id`, `step_count`, and these."""

    sample_id: str | None = Field(None, description="The sample; its name may tell the label: not for the policy.")
    done: bool = Field(False, description="Whether the episode is over.")
    turns_left: int = Field(0, description="Turns before the episode is cut off.")
