"""`ChatBlock`: query groups of conversations, with the calls of `GroupBlock`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actfer_env.chat.episode import ChatEpisode
from actfer_env.envs.chat import ActFERChatEnv, as_text, last_turn
from actfer_env.envs.observations import Arrays
from actfer_env.envs.panel import Panel
from actfer_env.images import RGB
from actfer_env.rewards import Scores
from actfer_env.wrappers.blocks import Begun, Start, Turn


class ChatBlock:
    """Plays query groups of conversations; every member's observation stands in its row of the arrays.

    Args:
        env: Gives data set, tools, budgets and formats; it is not stepped.
        groups: The numbers of the groups, without gaps.
        group_size: Members of a group.
        arrays: Observations of these groups' members alone, as of `ChatLayout.arrays`.
        active: bool (members of these groups,): where a member still plays.

    Attributes:
        episodes: The conversation of each member; None before the first.
        told: Findings of the last turn of each member, as of `last_turn`; None where no turn was played.
    """

    def __init__(
        self, env: ActFERChatEnv, groups: range, group_size: int, arrays: Arrays, active: NDArray[np.bool_]
    ) -> None:
        self.env, self.groups, self.group_size, self.arrays, self.active = env, groups, group_size, arrays, active
        self.episodes: list[ChatEpisode | None] = [None] * (len(groups) * group_size)
        self.told: list[dict[str, Any] | None] = [None] * len(self.episodes)

    def start(self, starts: Sequence[Start]) -> Turn:
        """Begin groups; see `GroupBlock.start`."""
        begun, env = [], self.env
        for group, index, number, seed in starts:
            sample = env.dataset[index]
            name, first = f"{sample.id}#{number}", (group - self.groups.start) * self.group_size
            members = [
                ChatEpisode(sample, env.tools, env.chat, env.config, group_id=name, member=member, seed=seed)
                for member in range(self.group_size)
            ]
            for row, episode in enumerate(members, start=first):
                self._write(row, env.layout.write(episode, episode.messages, episode.images))
                self.episodes[row], self.active[row] = episode, True
            begun.append(Begun(group, sample.id, name))
        return Turn(begun=begun)

    def turn(self, starts: Sequence[Start], actions: Any) -> Turn:
        """Begin groups, and play one turn of the active members of all others; see `GroupBlock.turn`.

        Args:
            starts: The groups to begin; their actions are ignored.
            actions: One text for each of these groups' members.
        """
        new = {start.group for start in starts}
        plays = [self.active[row] and self.groups[row // self.group_size] not in new for row in range(len(actions))]
        for row, action in enumerate(actions):
            if plays[row] and not isinstance(action, str):
                raise ValueError(f"action {row} is {type(action).__name__}: give the assistant's turn as a text")
        running = {group for row, group in self._by_row() if plays[row]}
        turn = self.start(starts)
        self.told = [None] * len(actions)
        count = len(actions)
        turn.messages, turn.violations, turn.tools = [None] * count, [None] * count, [None] * count
        turn.results = [None] * count
        for row, action in enumerate(actions):
            episode = self.episodes[row]
            if not plays[row] or episode is None:
                continue
            before = len(episode.episode.calls)
            step = episode.step(str(action))
            self._write(row, self.env.layout.write(episode, step.messages, step.images))
            told = self.told[row] = last_turn(episode, before, step.violations)
            last = episode.episode.last
            turn.messages[row], turn.violations[row] = as_text(step.messages), None if last is None else last.violation
            turn.tools[row], turn.results[row] = told["tool"], told["result"]
            self.active[row] = not step.done
        for group in sorted(running):
            rows = [row for row, its in self._by_row() if its == group]
            if not self.active[rows].any():
                turn.over.append(group)
                turn.rollouts += [episode.rollout() for row in rows if (episode := self.episodes[row])]
        return turn

    def panels(self, scores: Sequence[tuple[Scores, int] | None]) -> list[RGB]:
        """Return a picture of every member's episode; see `GroupBlock.panels`."""
        return [Panel().draw(e.episode, *(one or ())) for e, one in zip(self.running(), scores, strict=True)]

    def running(self) -> list[ChatEpisode]:
        """Return the conversations.

        Raises:
            RuntimeError: there are none yet.
        """
        episodes = [episode for episode in self.episodes if episode is not None]
        if len(episodes) < len(self.episodes):
            raise RuntimeError("call reset() before render()")
        return episodes

    def _by_row(self) -> list[tuple[int, int]]:
        return [(row, self.groups[row // self.group_size]) for row in range(len(self.episodes))]

    def _write(self, row: int, observation: dict[str, Any]) -> None:
        for key, value in observation.items():
            self.arrays[key][row] = value
