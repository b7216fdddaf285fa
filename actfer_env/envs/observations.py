"""Observations: their layout, and writing those of running episodes straight into the rows of batch arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any
from weakref import ref

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env._moved import old_names
from actfer_env.envs.actions import ActionCodec
from actfer_env.episode import Episode
from actfer_env.images import RGB

__getattr__ = old_names(__name__)

Arrays = dict[str, NDArray[Any]]
"""Key of the observation -> its values, in a batch with a leading axis of n."""

_SMALL = 2**20  # bytes: smaller batches are simply copied
_KEPT = 3  # blocks: what a loop with `obs` and `next_obs` holds, and one to write to
_ALIGN = 64  # bytes: each array of a shared block starts on a cache line of its own


@dataclass(frozen=True)
class ObservationLayout:
    """Layout of an observation: keys, shapes and types; see `ActFEREnv` for the meaning of its keys.

    Attributes:
        image_size: Side of `image` in pixels.
        face_size: Side of `face`.
        crop_size: Side of the crops.
        slots: Number of crops, at least 1.
        max_turns: Turns of an episode.
        mask_size: Entries of `action_mask`.
    """

    image_size: int
    face_size: int
    crop_size: int
    slots: int
    max_turns: int
    mask_size: int

    @property
    def space(self) -> spaces.Dict:
        """The space of one observation."""
        boxes = spaces.Box(0.0, 1.0, (self.slots, 4), np.float32)
        return spaces.Dict({
            "image": _picture(self.image_size),
            "face": _picture(self.face_size),
            **{f"crop_{i}": _picture(self.crop_size) for i in range(self.slots)},
            "crop_boxes": boxes,
            "crop_mask": spaces.MultiBinary(self.slots),
            "region_boxes": spaces.Box(0.0, 1.0, (len(facs.REGIONS), 4), np.float32),
            "state": spaces.Discrete(3),
            "turns_left": spaces.Discrete(self.max_turns + 1),
            "action_mask": spaces.MultiBinary(self.mask_size),
        })  # fmt: skip

    def nbytes(self, n: int) -> int:
        """Return the bytes that the arrays of n observations take in one block.

        Args:
            n: Number of observations.
        """
        return sum(_padded(n * prod(shape) * dtype.itemsize) for shape, dtype in self._fields.values())

    def arrays(self, n: int, block: Any = None) -> Arrays:
        """Return zeroed arrays of n observations.

        Args:
            n: The leading axis.
            block: A zeroed buffer of `nbytes(n)` bytes to lay them into, such as shared memory; None allocates.

        Returns:
            Name -> array with a leading axis of n.
        """
        memory = bytearray(self.nbytes(n)) if block is None else block
        arrays, start = {}, 0
        for key, (shape, dtype) in self._fields.items():
            arrays[key] = np.ndarray((n, *shape), dtype, memory, start)
            start += _padded(arrays[key].nbytes)
        return arrays

    @cached_property
    def _fields(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        return {key: (tuple(space.shape or ()), np.dtype(space.dtype)) for key, space in self.space.items()}


class ObservationWriter:
    """Writes the observations of episodes into rows of arrays; of pictures and boxes only what a turn has changed.

    The short entries, which change in every turn, are noted by row, and `flush` writes those of all rows at once.

    Args:
        layout: Sizes.
        codec: Gives the action masks.
        arrays: Zeroed arrays of the shapes of `ObservationLayout.arrays`.
    """

    def __init__(self, layout: ObservationLayout, codec: ActionCodec, arrays: Arrays) -> None:
        self.layout, self.codec, self.arrays = layout, codec, arrays
        n = len(arrays["state"])
        self._face_shown, self._crops_shown = [False] * n, [0] * n
        self._crops = [arrays[f"crop_{i}"] for i in range(layout.slots)]
        self._states, self._turns = [0] * n, [0] * n
        self._masks = [np.zeros(layout.mask_size, np.int8)] * n

    def start(self, first: int, episodes: Sequence[Episode]) -> None:
        """Write the first observations of episodes over one sample into the rows from `first` on.

        Args:
            first: Row of the first episode.
            episodes: Fresh episodes over one sample, for the rows from `first` on.

        Raises:
            ImageError: the sample's picture cannot be read; the rows are unchanged then.
        """
        arrays = self.arrays
        picture = episodes[0].tools.overview(episodes[0].sample, self.layout.image_size)
        arrays["image"][first : first + len(episodes)] = picture
        for row, episode in enumerate(episodes, start=first):
            if self._face_shown[row]:  # what the row's last episode has left
                arrays["face"][row] = 0
                arrays["region_boxes"][row] = 0.0
                self._face_shown[row] = False
            if self._crops_shown[row]:
                for pictures in self._crops[: self._crops_shown[row]]:
                    pictures[row] = 0
                arrays["crop_boxes"][row] = 0.0
                arrays["crop_mask"][row] = 0
                self._crops_shown[row] = 0
            self.update(row, episode)

    def update(self, row: int, episode: Episode) -> None:
        """Bring a row up to date after a turn of its episode, but for what `flush` writes.

        Args:
            row: Row of the arrays.
            episode: Its episode, after the turn.
        """
        alignment, crops = episode.alignment, episode.crops
        if alignment is not None and not self._face_shown[row]:
            self.arrays["face"][row] = episode.tools.face(episode.sample, alignment, self.layout.face_size)
            self.arrays["region_boxes"][row] = alignment.region_corners
            self._face_shown[row] = True
        if len(crops) > self._crops_shown[row]:
            for slot in range(self._crops_shown[row], len(crops)):
                self._crops[slot][row] = self._checked(crops[slot].image)
                self.arrays["crop_boxes"][row, slot] = crops[slot].box
                self.arrays["crop_mask"][row, slot] = 1
            self._crops_shown[row] = len(crops)
        self._states[row] = episode.view
        self._turns[row] = episode.config.max_turns - episode.turn
        self._masks[row] = self.codec.mask(episode)

    def flush(self) -> None:
        """Write the short entries of all rows: `state`, `turns_left` and `action_mask`."""
        self.arrays["state"][:] = self._states
        self.arrays["turns_left"][:] = self._turns
        np.concatenate(self._masks, out=self.arrays["action_mask"].reshape(-1))

    def _checked(self, image: RGB) -> RGB:
        side = self.layout.crop_size
        if image.shape[:2] != (side, side):
            raise ValueError(
                f"crops of {image.shape[1]} x {image.shape[0]} pixels do not fit observations of {side} x {side}: "
                f"build the shared tools with zoom=ZoomConfig(size={side}, stretch=True)"
            )
        return image


class BufferPool:
    """Copies batches; large ones into memory of earlier copies that nobody holds any more.

    To the caller every copy is memory of its own. Asking the system for fresh pages costs more than copying into
    them, so blocks are used again once the last array or view of their copy is gone.

    Args:
        layout: Sizes.
        n: Observations in a batch.
    """

    def __init__(self, layout: ObservationLayout, n: int) -> None:
        self._layout, self._n = layout, n
        small = layout.nbytes(n) < _SMALL
        self._blocks: list[tuple[bytearray | None, list[ref[Any]]]] = [] if small else [(None, [])] * _KEPT

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the blocks, which belong to copies given out here."""
        return BufferPool, (self._layout, self._n)

    def copy(self, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return arrays of their own memory with the same values."""
        for place, (memory, given) in enumerate(self._blocks):
            if all(array() is None for array in given):
                return self._fill(place, memory or bytearray(self._layout.nbytes(self._n)), arrays)
        return {key: values.copy() for key, values in arrays.items()}

    def _fill(self, place: int, memory: bytearray, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
        # A view of one of these arrays refers to it, not to the bytes behind it: the array lives as long as the view.
        copies = self._layout.arrays(self._n, memory)
        for key, values in arrays.items():
            np.copyto(copies[key], values)
        self._blocks[place] = memory, [ref(values) for values in copies.values()]
        return copies


def _picture(side: int) -> spaces.Box:
    return spaces.Box(0, 255, (side, side, 3), np.uint8)


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def crop_regions(obs: Mapping[str, Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return which regions the crops show.

    Args:
        obs: Observations of n members.

    Returns:
        The region that each slot's crop shows, int (n, 4), of no meaning where there is no crop; and which regions'
        crops each member has, bool (n, 4).
    """
    gaps = np.abs(obs["crop_boxes"][:, :, None] - obs["region_boxes"][:, None]).sum(-1)
    same = (gaps < 1e-4) & (obs["crop_mask"][..., None] == 1)
    return gaps.argmin(-1), same.any(1)
