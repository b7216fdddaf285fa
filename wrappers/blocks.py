"""`GroupBlock`: the query groups that one process plays, in rows of arrays that may be shared between processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actfer_env.envs.face import ActFEREnv
from actfer_env.envs.observations import Arrays, ObservationWriter
from actfer_env.envs.panel import Panel
from actfer_env.episode import Episode
from actfer_env.images import RGB
from actfer_env.rewards import Scores
from actfer_env.rollout import Rollout


class Start(NamedTuple):
    """A group to begin: its place, the index of its sample, its number in the run, and the run's seed."""

    group: int
    sample: int
    number: int
    seed: int | None


class Begun(NamedTuple):
    """A group that has begun."""

    group: int
    sample_id: str
    group_id: str


@dataclass
class Turn:
    """Result of one turn of some groups.

    Attributes:
        begun: The groups that began.
        over: The groups whose last member is done, in order.
        rollouts: Their members' rollouts, in order.
        messages: Messages of the tools, by environment; None where no turn was played.
        violations: Names of violations, by environment.
        tools: Tools that were called, by environment.
        results: Values that they found, by environment; as of `Episode.reading`.
    """

    begun: list[Begun] = field(default_factory=list)
    over: list[int] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    messages: list[str | None] = field(default_factory=list)
    violations: list[str | None] = field(default_factory=list)
    tools: list[str | None] = field(default_factory=list)
    results: list[dict[str, Any] | None] = field(default_factory=list)

    @classmethod
    def joined(cls, turns: Iterable[Turn]) -> Turn:
        """Return the turn of all blocks, given theirs in order."""
        whole = cls()
        for turn in turns:
            for name in vars(whole):
                getattr(whole, name).extend(getattr(turn, name))
        return whole


class GroupBlock:
    """Plays some query groups; every member's observation stands in its row of the arrays.

    Args:
        env: Gives data set, tools, budgets and formats; it is not stepped.
        groups: The numbers of the groups, without gaps.
        group_size: Members of a group.
        arrays: Observations of these groups' members alone, zeroed.
        active: bool (members of these groups,): where a member still plays.
    """

    def __init__(
        self, env: ActFEREnv, groups: range, group_size: int, arrays: Arrays, active: NDArray[np.bool_]
    ) -> None:
        self.env, self.groups, self.group_size, self.active = env, groups, group_size, active
        self._writer = ObservationWriter(env.layout, env.codec, arrays)
        self._meta = {"aus_derived": True} if env.codec.derives_aus else None
        self._playing = [False] * (len(groups) * group_size)
        self._left = [0] * len(groups)
        self._episodes: list[list[Episode]] = [[] for _ in groups]

    def start(self, starts: Sequence[Start]) -> Turn:
        """Begin groups.

        Args:
            starts: Groups to begin.

        Returns:
            The turn in which they began.

        Raises:
            ImageError: a sample's picture cannot be read.
        """
        begun, env = [], self.env
        for start in starts:
            if start.group not in self.groups:
                continue
            place = start.group - self.groups.start
            sample = env.dataset[start.sample]
            name = f"{sample.id}#{start.number}"
            members = [
                Episode(sample, env.tools, env.config, group_id=name, member=member, seed=start.seed)
                for member in range(self.group_size)
            ]
            rows = slice(place * self.group_size, (place + 1) * self.group_size)
            self._writer.start(rows.start, members)
            self._playing[rows] = [True] * self.group_size
            self.active[rows] = True
            self._episodes[place], self._left[place] = members, self.group_size
            begun.append(Begun(start.group, sample.id, name))
        self._writer.flush()
        return Turn(begun=begun)

    def turn(self, starts: Sequence[Start], actions: Any) -> Turn:
        """Begin groups, and play one turn of the active members of all others.

        Args:
            starts: The groups to begin; their actions are ignored.
            actions: The batch of these groups' members.

        Returns:
            Everything that happened in the turn.

        Raises:
            ValueError: an active member's action is not of the space; nothing was played then.
            ImageError: as `start`.
        """
        # First the moves of active members, None for those whose actions are ignored: a wrong one plays nothing.
        new, size = {start.group for start in starts}, self.group_size
        begins = [group in new for group in self.groups]
        moves = [
            self.env.codec.decode(action) if playing and not begins[row // size] else None
            for row, (action, playing) in enumerate(zip(self.env.codec.rows(actions), self._playing, strict=True))
        ]
        turn = self.start(starts)
        count = len(self._playing)
        turn.messages, turn.violations, turn.tools = [None] * count, [None] * count, [None] * count
        turn.results = [None] * count
        for place, group in enumerate(self.groups):
            if not self._left[place] or begins[place]:
                continue
            for row, episode in enumerate(self._episodes[place], start=place * size):
                move = moves[row]
                if move is None:
                    continue
                result = move.play(episode)
                self._writer.update(row, episode)
                turn.messages[row], turn.violations[row] = result.message, result.violation
                turn.tools[row], turn.results[row] = move.tool, episode.reading()
                if result.done:
                    self._playing[row] = self.active[row] = False
                    self._left[place] -= 1
            if not self._left[place]:
                turn.over.append(group)
                turn.rollouts += [episode.rollout(meta=self._meta) for episode in self._episodes[place]]
        self._writer.flush()
        return turn

    def panels(self, scores: Sequence[tuple[Scores, int] | None]) -> list[RGB]:
        """Return a picture of every member's episode; `scores` and the place in them, where a group has ended."""
        episodes = [episode for members in self._episodes for episode in members]
        if len(episodes) < len(self._playing):
            raise RuntimeError("call reset() before render()")
        return [Panel().draw(e, *(one or ())) for e, one in zip(episodes, scores, strict=True)]
