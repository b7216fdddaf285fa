"""Crops that are not what they seem: what a policy that looks at them must notice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.boxes import Box, iou
from actfer_env.data import Dataset
from actfer_env.errors import ActFERError
from actfer_env.evaluation.gate.outcomes import Swap
from actfer_env.images import RGB
from actfer_env.sample import Sample
from actfer_env.tools.align import Alignment
from actfer_env.tools.detectors import Detector
from actfer_env.tools.face_tools import CacheConfig, FaceTools
from actfer_env.tools.zoom import Crop

DETAIL = 6
"""Pixels along the long side of a blurred crop, before it is brought to size again (chosen here): the field of view,
and the colours in it, are all that is left."""
_TRIES = 50


class SwappedTools(FaceTools):
    """Tools whose crops show something else; boxes, regions and all else stay.

    Args:
        base: The tools that show what is there.
        dataset: The samples, for crops of other people.
        swap: "blurred", the same box without detail; "person", the same region of another person; "region", another
            region of the same face.
        seed: Fixes which person or region stands in.
    """

    def __init__(self, base: FaceTools, dataset: Dataset, swap: Swap, seed: int = 0) -> None:
        super().__init__(
            base.spec, zoom=base.zoom, template=base.template, face=base.choice, cache=CacheConfig(0, 0, 0, 0)
        )
        self.base, self.dataset, self.swap, self.seed = base, dataset, swap, seed
        self._others: dict[str, tuple[Sample, Alignment] | None] = {}

    @property
    def detector(self) -> Detector:
        """The detector of the base."""
        return self.base.detector

    def image(self, sample: Sample) -> RGB:
        """Return the sample's picture."""
        return self.base.image(sample)

    def alignment(self, sample: Sample) -> Alignment | None:
        """Return the sample's alignment."""
        return self.base.alignment(sample)

    def overview(self, sample: Sample, side: int) -> RGB:
        """Return the sample's picture in a square."""
        return self.base.overview(sample, side)

    def face(self, sample: Sample, alignment: Alignment, side: int) -> RGB:
        """Return the sample's aligned face."""
        return self.base.face(sample, alignment, side)

    def crop(self, sample: Sample, alignment: Alignment, box: Box, region: str | None) -> Crop:
        """Return the crop of a box with the picture of something else."""
        crop = self.base.crop(sample, alignment, box, region)
        if self.swap == "blurred":
            return replace(crop, image=blurred(crop.image))
        name = region or _nearest(alignment.regions, box)
        whose, where = sample, alignment
        if self.swap == "person":
            other = self._other(sample)
            if other is None:
                return replace(crop, image=blurred(crop.image))
            whose, where = other
        else:
            left = [one for one in facs.REGIONS if one != name]
            name = left[_draw(self.seed, sample.id, name) % len(left)]
        shown = self.base.crop(whose, where, where.regions[name], name).image
        return replace(crop, image=_to_size(shown, crop.image.shape[:2]))

    def _other(self, sample: Sample) -> tuple[Sample, Alignment] | None:
        """Return another person with a face; None where none was met in some tries."""
        if sample.id not in self._others:
            self._others[sample.id] = None
            for attempt in range(_TRIES):
                other = self.dataset[_draw(self.seed, sample.id, str(attempt)) % len(self.dataset)]
                if other.id == sample.id or (other.subject is not None and other.subject == sample.subject):
                    continue
                try:
                    alignment = self.base.alignment(other)
                except ActFERError:  # a picture that cannot be read
                    continue
                if alignment is not None:
                    self._others[sample.id] = other, alignment
                    break
        return self._others[sample.id]


def blurred(picture: RGB) -> RGB:
    """Return a picture of the same size in which nothing finer than a sixth of its long side is left."""
    import cv2

    height, width = picture.shape[:2]
    scale = DETAIL / max(height, width)
    small = max(round(width * scale), 1), max(round(height * scale), 1)
    shrunk = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    return _as_rgb(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR))


def _to_size(picture: RGB, shape: tuple[int, ...]) -> RGB:
    import cv2

    if picture.shape[:2] == shape:
        return picture
    return _as_rgb(cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR))


def _as_rgb(picture: NDArray[np.generic]) -> RGB:
    found: RGB = np.asarray(picture, np.uint8)
    found.setflags(write=False)
    return found


def _nearest(regions: Mapping[str, Box], box: Box) -> str:
    return max(regions, key=lambda name: iou(regions[name], box))


def _draw(seed: int, *names: str) -> int:
    key = "\n".join([str(seed), *names]).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=6).digest(), "big")
