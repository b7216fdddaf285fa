"""The data set "portrait": one public-domain photo, in varied crops, scales and qualities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import DataError
from actfer_env.images import RGB
from actfer_env.sample import Sample
from actfer_env.tools.geometry import similarity
from actfer_env.tools.sampling import sample_box

FACE = (224.0, 112.0)
"""Centre of the face in the portrait, in pixels, noted by hand."""


@dataclass(frozen=True)
class PortraitConfig:
    """Ranges in which the views of the portrait vary; all chosen here.

    Attributes:
        views: Number of samples; two in three are for training, the rest for validation and test by turns.
        seed: Draws the views.
        half_side: Smallest and largest half side of the square cut around the face, in pixels of the portrait.
        shift: Largest offset of the face from the middle, as a share of the half side.
        turn: Largest rotation in degrees.
        side: Smallest and largest side of the sample in pixels.
        poor_every: Every so many views the picture is reduced before it is enlarged again, so that it holds no
            detail to zoom into.
        poor_side: Side to which such a picture is reduced.
        lost_every: Every so many views the reduction is so strong that no face can be found.
        lost_side: Side to which such a picture is reduced.
    """

    views: int = bounded(48, ge=1)
    seed: int = bounded(1969, ge=0)
    half_side: tuple[float, float] = bounded((85.0, 220.0), gt=0)
    shift: float = bounded(0.25, ge=0)
    turn: float = bounded(15.0, ge=0, le=180)
    side: tuple[int, int] = bounded((192, 448), ge=16)
    poor_every: int = bounded(4, ge=1)
    poor_side: int = bounded(96, ge=1)
    lost_every: int = bounded(12, ge=1)
    lost_side: int = bounded(14, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)


CONFIG = PortraitConfig()


def load_portrait(root: str | None = None, *, views: int = CONFIG.views) -> Iterator[Sample]:
    """Read the data set "portrait": the astronaut portrait (NASA, public domain) that ships inside scikit-image.

    Every sample shows the same smiling face, so it exercises tools and front ends; it cannot measure a policy.

    Args:
        root: Must be None.
        views: Number of samples.
    """
    if root is not None:
        raise DataError("data set 'portrait' takes no root: its picture ships inside scikit-image")
    for index in range(views):
        yield _sample(index, CONFIG)


def portrait() -> RGB:
    """Return the whole portrait, uint8 (512, 512, 3)."""
    from skimage.data import astronaut

    return np.asarray(astronaut(), np.uint8)


def _sample(index: int, config: PortraitConfig) -> Sample:
    name = f"portrait-{index:02d}"
    quality = "poor" if index % config.poor_every == config.poor_every - 1 else "good"
    if index % config.lost_every == config.lost_every - 1:
        quality = "lost"
    source: Callable[[], RGB] = partial(_draw, index, quality, config) if index else portrait
    return Sample(
        id=name, source=source, emotion="happiness", aus=frozenset({6, 12, 25}),
        split=("train", "train", "val", "train", "train", "test")[index % 6],
        meta={"dataset": "portrait", "image": name, "quality": quality},
    )  # fmt: skip


def _draw(index: int, quality: str, config: PortraitConfig) -> RGB:
    rng = np.random.default_rng([config.seed, index])
    image = portrait()
    half, side = rng.uniform(*config.half_side), int(rng.integers(*config.side))
    centre = np.array(FACE) + rng.uniform(-config.shift, config.shift, 2) * half
    centre = np.clip(centre, half, image.shape[0] - half)
    turn = np.deg2rad(rng.uniform(-config.turn, config.turn))
    axis = half * np.array([np.cos(turn), np.sin(turn)])
    transform = similarity([centre - axis, centre + axis], [[0.0, 0.5], [1.0, 0.5]])
    view = sample_box(image, transform, (0.0, 0.0, 1.0, 1.0), (side, side))
    if quality != "good":
        small = config.poor_side if quality == "poor" else config.lost_side
        reduced = cv2.resize(view, (small, small), interpolation=cv2.INTER_AREA)
        view = np.asarray(cv2.resize(reduced, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    return view
