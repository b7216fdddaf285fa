"""`EpisodeEnv`: the one reset of the environments of single episodes, and what its options may choose."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym

from actfer_env.episode import EpisodeConfig
from actfer_env.errors import short
from actfer_env.limits import under_wrappers
from actfer_env.sample import Dataset, Sample

Action = TypeVar("Action")

_KNOWN = ("sample", "group", "member")


class Choice(NamedTuple):
    """The sample of an episode, and its place in a query group."""

    sample: Sample
    group: str
    member: int


def choose(options: Mapping[str, Any] | None, dataset: Dataset, drawn: int, number: int) -> Choice:
    """Read the options of a reset; what is left out, or None, is chosen here.

    Args:
        options: "sample" (index or id), "group" (id), "member" (index).
        dataset: The data set.
        drawn: The index of the sample, if none is named.
        number: Number of the episode; makes the group's id, if none is named.

    Returns:
        The choice, complete.

    Raises:
        DataError: no such sample.
        ValueError: an unknown option, or a member that is no whole number.
    """
    given = {key: value for key, value in (options or {}).items() if value is not None}
    for key in given:
        if key not in _KNOWN:
            raise ValueError(f"unknown reset option {key!r}: use 'sample', 'group' or 'member'")
    sample = dataset[dataset.find(given.get("sample", drawn))]
    try:
        member = operator.index(given.get("member", 0))
    except TypeError:
        raise ValueError(f"reset option 'member' is {short(given['member'])}: give a whole number") from None
    return Choice(sample, str(given.get("group", f"{sample.id}#{number}")), member)


class EpisodeEnv(gym.Env[dict[str, Any], Action]):
    """An environment that plays one episode after the other, each over one sample of its data set.

    Attributes:
        dataset: The samples.
        config: Budgets and Action Units.
    """

    dataset: Dataset
    config: EpisodeConfig
    _episodes = 0
    _seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Fixes which samples follow.
            options: {"sample": index or id} chooses the sample; {"group": id, "member": index} name the episode's
                query group in its rollout, for whoever plays groups one by one.

        Raises:
            DataError: no such sample.
            ValueError: an unknown option, or a member that is no whole number.
            ImageError: its picture cannot be read.
        """
        super().reset(seed=seed)
        self._drop()
        if seed is not None:
            self._episodes, self._seed = 0, seed
        drawn = int(self.np_random.integers(len(self.dataset)))
        choice = choose(options, self.dataset, drawn, self._episodes)
        started = self._start(choice, under_wrappers(self.config, self), self._seed)
        self._episodes += 1
        return started

    @abstractmethod
    def _drop(self) -> None:
        """Leave the last episode, whatever becomes of the next one."""

    @abstractmethod
    def _start(self, choice: Choice, config: EpisodeConfig, seed: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the chosen episode within its budgets; return its first observation and info."""
