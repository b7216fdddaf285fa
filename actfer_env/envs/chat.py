"""`ActFERChatEnv`: the conversation as a Gymnasium environment with text actions."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from actfer_env.chat.config import ChatConfig
from actfer_env.chat.episode import ChatEpisode, chat_tools
from actfer_env.chat.messages import Message
from actfer_env.data import Dataset
from actfer_env.data.registry import as_dataset
from actfer_env.envs.panel import Panel
from actfer_env.envs.reset import Choice, EpisodeEnv
from actfer_env.episode import ANSWER, EpisodeConfig
from actfer_env.images import RGB
from actfer_env.rewards import UCGRPO, Scores, UCGRPOConfig
from actfer_env.tools import FaceTools
from actfer_env.tools.align import check_size
from actfer_env.tools.detectors import Detector
from actfer_env.tools.sampling import fit

CHARSET = string.printable
"""Characters of the spaces; others are escaped in observations, and taken as they are in actions."""


@dataclass(frozen=True)
class ChatLayout:
    """Layout of an observation; see `ActFERChatEnv` for the meaning of its keys.

    Attributes:
        slots: Number of pictures, at least 1.
        slot_size: Side of their squares, pixels.
        max_text: Characters of the text.
        max_turns: Turns of an episode.
    """

    slots: int
    slot_size: int
    max_text: int
    max_turns: int

    @property
    def space(self) -> gym.spaces.Dict:
        """The space of one observation."""
        return gym.spaces.Dict({
            "text": gym.spaces.Text(self.max_text, charset=CHARSET),
            "images": gym.spaces.Box(0, 255, (self.slots, self.slot_size, self.slot_size, 3), np.uint8),
            "image_count": gym.spaces.Discrete(self.slots + 1),
            "turns_left": gym.spaces.Discrete(self.max_turns + 1),
        })  # fmt: skip

    def arrays(self, n: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of n observations, without text or pictures."""
        return {
            "text": np.full(n, "-", object),
            "images": np.zeros((n, self.slots, self.slot_size, self.slot_size, 3), np.uint8),
            "image_count": np.zeros(n, np.int64),
            "turns_left": np.zeros(n, np.int64),
        }

    def nbytes(self, n: int) -> int:
        """Return the bytes that the pictures of n observations take."""
        return n * self.slots * self.slot_size**2 * 3

    def write(self, episode: ChatEpisode, messages: Sequence[Message], images: Sequence[RGB]) -> dict[str, Any]:
        """Return what a turn has brought as an observation.

        Args:
            episode: The conversation.
            messages: Its new messages.
            images: Their pictures; those beyond the last slot are left out.
        """
        slots = np.zeros((self.slots, self.slot_size, self.slot_size, 3), np.uint8)
        for slot, image in zip(slots, images, strict=False):
            slot[:] = fit(image, self.slot_size)
        return {
            "text": escape(as_text(messages))[: self.max_text] or "-", "images": slots,
            "image_count": np.int64(min(len(images), self.slots)),
            "turns_left": np.int64(max(episode.episode.turns_left, 0)),
        }  # fmt: skip


class ActFERChatEnv(EpisodeEnv[str]):
    """Agentic facial expression recognition as a conversation (ActFER, section 3.1).

    ## Action space
    `Text`: one whole assistant turn, with tool calls or the answer in it; see `actfer_env.chat.parse_turn`.

    ## Observation space
    A `Dict` that shows what the last turn brought (after `reset`, the prompts and the first picture):

    | key | space | meaning |
    |-----|-------|---------|
    | `text` | Text | the new messages, as "role: text" lines; characters beyond ASCII are escaped |
    | `images` | uint8 (max_zooms + 1, s, s, 3) | their pictures, each fitted into the square; black where none |
    | `image_count` | Discrete(max_zooms + 2) | how many pictures there are |
    | `turns_left` | Discrete(max_turns + 1) | |

    ## Rewards
    Zero until the episode ends; then the UC-GRPO reward of the episode as a group of one.

    ## Episode end
    Termination: an answer. Truncation: `max_turns` calls and unreadable turns without one. Within gymnasium's
    `TimeLimit` an episode has at most that many calls and turns; the prompt names them, and it is scored as any other.

    ## Info
    Always: `sample_id`, `messages` (the whole conversation, in OpenAI's format with placeholders), `images` (its
    pictures at their own sizes), `tools` (schemas), `sample_mask` (as `action_space.sample(mask)` takes it). After a
    step: `violations`, `calls` (every `ToolCall` of the turn, in order), and of the last of them `tool` (its name,
    "answer" for an answer) and `result`, as in `ActFEREnv`; boxes are shares of the aligned face, whatever the
    conversation's coordinates. At the end: `rollout`, `reward_terms`, `rule`, `delta`, `lambda`, as in `ActFEREnv`.

    Args:
        dataset: A registered name or a loaded `Dataset`.
        root: Folder or file of the data set, for those that need one.
        split: "auto", "train", "val", "test", or None for all; as of `ActFEREnv`.
        detector: A detector's spec, or a detector.
        chat: Formats and picture sizes.
        config: Budgets, Action Units and emotions.
        max_turns: Overrides that of `config`.
        slot_size: Side of the squares of `images`, pixels, at least 16.
        max_text: Characters of an observation's text; a longer one is cut.
        reward: Constants of the reward.
        render_mode: "rgb_array" (a panel, uint8 (540, 960, 3)), "ansi" (the conversation as text), or None.
        tools: Tools to share; overrides `detector`.
        preset: Preset of drawn data sets; as in `ActFEREnv`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 2}

    def __init__(  # noqa: PLR0913, PLR0917  (gym.make passes every argument by name)
        self,
        dataset: str | Dataset = "synthetic",
        root: str | None = None,
        split: str | None = "auto",
        detector: str | Detector = "auto",
        chat: ChatConfig | None = None,
        config: EpisodeConfig | None = None,
        max_turns: int | None = None,
        slot_size: int = 224,
        max_text: int = 16_384,
        reward: UCGRPOConfig | None = None,
        render_mode: str | None = None,
        tools: FaceTools | None = None,
        preset: str | None = None,
    ) -> None:
        check_size(slot_size, "slot_size")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"unknown render_mode {render_mode!r}: use one of {self.metadata['render_modes']}")
        self.dataset = as_dataset(dataset, root, split, preset)
        self.chat, config = chat or ChatConfig(), config or EpisodeConfig()
        self.config = config if max_turns is None else replace(config, max_turns=max_turns)
        self.tools = tools or chat_tools(detector, self.chat)
        self.slot_size, self.max_text, self.render_mode = slot_size, max_text, render_mode
        self.scorer = UCGRPO(reward or UCGRPOConfig())
        self.episode: ChatEpisode | None = None
        self._scores: Scores | None = None
        self.layout = ChatLayout(self.config.max_zooms + 1, slot_size, max_text, self.config.max_turns)
        self.action_space = gym.spaces.Text(self.chat.max_characters, charset=CHARSET)
        self.observation_space = self.layout.space

    @property
    def au_set(self) -> tuple[int, ...]:
        """The Action Units of targets and answers."""
        return self.config.au_set

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play one assistant turn.

        Args:
            action: Text of the assistant's turn.

        Returns:
            Observation, reward (0 until the episode ends), terminated, truncated, info.

        Raises:
            RuntimeError: `reset` was not called, or the episode is over.
        """
        episode = self._running()
        before = len(episode.episode.calls)
        turn = episode.step(str(action))
        info, reward = self._info() | last_turn(episode, before, turn.violations), 0.0
        if turn.done:
            rollout = episode.rollout()
            self._scores = self.scorer.score([rollout])
            terms = self._scores.terms(0)
            reward = terms["total"]
            info |= {"rollout": rollout, "reward_terms": terms, **self._scores.reading(0)}
        truncated = episode.episode.truncated
        obs = self.layout.write(episode, turn.messages, turn.images)
        return obs, reward, turn.done and not truncated, truncated, info

    def sample_mask(self) -> tuple[None, NDArray[np.int8]]:
        """Return what `action_space.sample(mask)` takes: any length, and int8 (100,) over the charset, all free.

        A mask of characters cannot say which texts are legal turns: a random text is none.
        """
        return None, np.ones(len(CHARSET), np.int8)

    def render(self) -> RGB | str | None:
        """Return the panel for "rgb_array", the conversation for "ansi"."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: pass render_mode='ansi' to gym.make")
            return None
        episode = self._running()
        if self.render_mode == "ansi":
            return as_text(episode.messages)
        return Panel().draw(episode.episode, self._scores)

    def _drop(self) -> None:
        self.episode = self._scores = None

    def _start(self, choice: Choice, config: EpisodeConfig, seed: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        sample, group, member = choice
        self.episode = ChatEpisode(sample, self.tools, self.chat, config, group_id=group, member=member, seed=seed)
        return self.layout.write(self.episode, self.episode.messages, self.episode.images), self._info()

    def _running(self) -> ChatEpisode:
        if self.episode is None:
            raise RuntimeError("call reset() before step() or render()")
        return self.episode

    def _info(self) -> dict[str, Any]:
        episode = self._running()
        return {
            "sample_id": episode.sample.id, "messages": list(episode.messages), "images": list(episode.images),
            "tools": episode.tools, "sample_mask": self.sample_mask(),
        }  # fmt: skip


def last_turn(episode: ChatEpisode, before: int, violations: tuple[str, ...]) -> dict[str, Any]:
    """Return what `info` says of a turn: `violations`, `calls`, and of the last call `tool` and `result`.

    Args:
        episode: The conversation, after the turn.
        before: Number of calls before it.
        violations: Violations of the turn.
    """
    inner = episode.episode
    return {"violations": violations, "calls": tuple(inner.calls[before:]),
            "tool": ANSWER if inner.last is None else inner.last.name, "result": inner.reading()}  # fmt: skip


def as_text(messages: Any) -> str:
    """Return messages as "role: text" lines, each picture as ``<image>``."""
    lines = []
    for message in messages:
        parts = ["<image>" if part["type"] == "image" else str(part["text"]) for part in message["content"]]
        lines.append(f"{message['role']}: {' '.join(parts)}")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return the text with every character beyond `CHARSET` written as a backslash escape."""
    return "".join(c if c in CHARSET else c.encode("ascii", "backslashreplace").decode() for c in text)
