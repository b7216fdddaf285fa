"""Policies whose gates are known, for the tests of the gate report."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from actfer_env import facs
from actfer_env.agents.base import join, rows, sample_ids
from actfer_env.envs.actions import DictActions, Move, codec_for
from actfer_env.episode import State


class Knows:
    """Knows the labels; half of the samples it can read without a zoom only, the others with one only.

    Args:
        space: The action space.
        dataset: The labels.
    """

    gate = "right"
    """When it zooms: "right" (where that helps), "always", "never", "wrong"."""

    def __init__(self, space: Any, dataset: Any, au_set: Any) -> None:
        self.dataset, self.codec = dataset, codec_for(space, au_set)

    def reset(self, n: int) -> None:
        """Nothing to prepare."""

    def helps(self, name: str) -> bool:
        """Tell whether a zoom helps with a sample."""
        return zlib.crc32(name.encode()) % 2 == 1

    def wants(self, name: str) -> bool:
        """Tell whether its gate zooms."""
        return {"right": self.helps(name), "always": True, "never": False, "wrong": not self.helps(name)}[self.gate]

    def read(self, row: dict[str, Any], name: str) -> str:
        """Return its answer."""
        truth = self.dataset[self.dataset.find(name)].emotion
        right = bool(row["crop_mask"].any()) == self.helps(name)
        return truth if right else facs.EMOTIONS[facs.EMOTIONS.index(truth) - 1]

    def act(self, obs: Any, info: Any) -> Any:
        """Return the next actions; it reads the mask."""
        seen = rows(obs)
        return join(
            [self.codec.encode(self._move(*one)) for one in zip(seen, sample_ids(info, len(seen)), strict=True)], obs
        )

    def _move(self, row: dict[str, Any], name: str) -> Move:
        mask = row["action_mask"]
        if row["state"] == State.RAW:
            return Move("detect_align")
        places = [1] * 4 if isinstance(self.codec, DictActions) else [1, 2, 3, 4]
        open_ = [region for region, place in zip(facs.REGIONS, places, strict=True) if mask[place]]
        end = 2 if isinstance(self.codec, DictActions) else 5
        zoom = open_ and (not mask[end] or (self.wants(name) and not row["crop_mask"].any()))
        if zoom:
            return Move("zoom_in", open_[-1], self._box(row, open_[-1]))
        return Move("answer", emotion=self.read(row, name))

    def _box(self, row: dict[str, Any], region: str) -> Any:
        return tuple(map(float, row["region_boxes"][facs.REGIONS.index(region)]))

    def tool_scores(self, obs: Any, info: Any) -> np.ndarray:
        """Return logits by which a zoom is likely where it wants one."""
        names = sample_ids(info, len(obs["state"]))
        return np.array([[0, *[3 if self.wants(name) else -3] * 4, 0] for name in names], float)


class AlwaysZooms(Knows):
    """Zooms whatever it sees."""

    gate = "always"


class ZoomsWrongly(Knows):
    """Zooms exactly where it hurts."""

    gate = "wrong"


class ReadsCrops(Knows):
    """Answers by what its first crop shows; without one by the face."""

    gate = "always"

    def read(self, row: dict[str, Any], name: str) -> str:
        """Return an answer that changes with the pixels."""
        picture = row["crop_0"] if row["crop_mask"].any() else row["face"]
        return facs.EMOTIONS[zlib.crc32(np.ascontiguousarray(picture).tobytes()) % len(facs.EMOTIONS)]


class Blind(ReadsCrops):
    """Zooms, and answers by the face alone."""

    def read(self, row: dict[str, Any], name: str) -> str:
        """Return an answer that the crops do not change."""
        return super().read({**row, "crop_mask": np.zeros(4)}, name)


class Defies:
    """Ignores every mask: it detects, then zooms into the nose until its turns are used up; its bits say surprise."""

    def __init__(self, space: Any) -> None:
        self.space = space

    def reset(self, n: int) -> None:
        """Nothing to prepare."""

    def act(self, obs: Any, info: Any) -> Any:
        """Return the actions of a batch, or of one episode."""
        states = np.atleast_1d(obs["state"])
        heads = np.where(states == State.RAW, 0, 1 + facs.REGIONS.index("nose"))
        if len(self.space.shape) == 0:
            return heads if np.ndim(obs["state"]) else heads[0]
        actions = np.zeros((len(states), self.space.shape[0]), np.int64)
        actions[:, 0], actions[:, 1] = heads, facs.EMOTIONS.index("surprise")
        return actions if np.ndim(obs["state"]) else actions[0]
