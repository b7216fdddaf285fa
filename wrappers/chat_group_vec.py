"""`ChatGroupVectorEnv`: query groups of conversations, for language policies that are trained in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env.envs.chat import ActFERChatEnv, as_text
from actfer_env.envs.registration import CHAT_ID
from actfer_env.wrappers.chat_blocks import ChatBlock
from actfer_env.wrappers.group_vec import GroupVectorEnv, Observations
from actfer_env.wrappers.workers import LocalBlock


class ChatGroupVectorEnv(GroupVectorEnv):
    """Groups of conversations over one sample each: texts in; messages, pictures, scores and advantages out.

    Everything that `GroupVectorEnv` says of groups, resets, seeds, frozen members, the scorer and `commit` holds here.
    For the same calls and answers both give the same rewards. What differs:

    ## Actions
    A sequence of n strings, each one whole assistant turn; see `actfer_env.chat.parse_turn`. Those of frozen members
    are ignored, and may be empty.

    ## Observations
    Those of `ActFERChatEnv`, with a leading axis of n; `text` is a tuple of n strings.

    ## Info
    In place of `action_mask`: `messages` (the whole conversation of each member, in OpenAI's format with placeholders)
    and `images` (its pictures at their own sizes, uint8 (H, W, 3)), both object (n,) of lists; `tools`, the schemas
    that the first turns may call, a list. After a step also `calls` and `violations`, object (n,) of tuples, of the
    whole turn; `tool`, `result` and `violation` are those of its last call, and `message` has the new messages as
    "role: text" lines. `rollout`, `scores`, `advantage`, `delta`, `rule` and `lambda` are as in `GroupVectorEnv`.

    Args:
        env_id: "ActFER-Chat-v0", or None.
        num_groups: Groups side by side, at least 1.
        group_size: Members of a group, at least 1.
        **kwargs: as for `GroupVectorEnv` and `ActFERChatEnv`. All groups play in this process: `num_workers` is 0.

    Raises:
        ValueError: as `GroupVectorEnv`, or `num_workers` is not 0.
    """

    _template: ActFERChatEnv  # type: ignore[assignment]

    def __init__(self, env_id: str | None, num_groups: int, group_size: int, **kwargs: Any) -> None:
        if kwargs.get("num_workers"):
            raise ValueError("conversations are played in this process: leave num_workers at 0")
        super().__init__(env_id, num_groups, group_size, **kwargs)

    def step(
        self, actions: Sequence[str]
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Play one turn of every active member; see the class.

        Args:
            actions: One text for each of the n environments; those of frozen members are ignored.

        Returns:
            Observations, rewards float64 (n,), terminated and truncated bool (n,), info.

        Raises:
            RuntimeError: `reset` was not called, or an error came since.
            ValueError: there is not one text for each environment.
        """
        obs, rewards, terminated, truncated, info = super().step(actions)
        told = self._block.told
        played = np.array([one is not None for one in told], bool)
        for name in ("calls", "violations"):
            info[name] = _column([one and one[name] for one in told])
            info[f"_{name}"] = played.copy()
        return obs, rewards, terminated, truncated, info

    def render(self) -> tuple[Any, ...] | None:
        """Return the panels of all members for "rgb_array", their conversations for "ansi"."""
        if self.render_mode == "ansi":
            return tuple(as_text(episode.messages) for episode in self._block.running())
        return super().render()

    def action_masks(self) -> NDArray[np.bool_]:
        """Refuse: no mask can say which texts are legal turns.

        Raises:
            ValueError: always.
        """
        raise ValueError("conversations have no action masks: read the last message, it says what is legal")

    def sample_masks(self) -> list[Any]:
        """Return for each member what `single_action_space.sample(mask)` takes; see `ActFERChatEnv.sample_mask`."""
        return [self._template.sample_mask() for _ in range(self.num_envs)]

    @property
    def _block(self) -> ChatBlock:
        assert isinstance(self._blocks, LocalBlock) and isinstance(self._blocks.block, ChatBlock)
        return self._blocks.block

    def _make_template(self, env_id: str | None, given: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        if env_id not in (None, CHAT_ID):
            raise ValueError(f"unknown id {env_id!r}: use {CHAT_ID}")
        return given, ActFERChatEnv(**given)

    def _checked(self, actions: Any) -> Any:
        if not self._ready:
            raise RuntimeError("call reset() before step()")
        if isinstance(actions, str | Mapping) or not hasattr(actions, "__len__"):
            raise ValueError("give the actions as a list of texts, one for each environment")
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions for {self.num_envs} environments: give one for each")
        return list(actions)

    def _observe(self) -> Observations:
        arrays = self._block.arrays
        batch = {key: values.copy() if self.copy else values for key, values in arrays.items() if key != "text"}
        return {"text": tuple(arrays["text"]), **batch}

    def _info(self) -> dict[str, Any]:
        episodes = self._block.running()
        sample_ids, group_ids = self._names
        return {
            "sample_id": sample_ids.copy(), "group_id": group_ids.copy(), "active": self._block.active.copy(),
            "messages": _column([list(episode.messages) for episode in episodes]),
            "images": _column([list(episode.images) for episode in episodes]),
            "tools": episodes[0].tools,
        }  # fmt: skip


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """Return values as object (n,), whatever they are."""
    column = np.full(len(values), None, object)
    for row, value in enumerate(values):
        column[row] = value
    return column
