"""Conversations over pictures of odd shapes, for the tests that compare tokens."""

from __future__ import annotations

import numpy as np

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import Sample
from actfer_env.episode import EpisodeConfig
from actfer_env.images import RGB
from actfer_env.tools.detectors import Face

SHAPES = [(20, 1600), (1500, 20), (31, 33), (16, 1600), (97, 640), (481, 643), (1200, 90), (64, 64)]
"""Heights and widths of pictures, up to the widest that is taken, 100 to 1."""


class FaceInTheMiddle:
    """Finds a face in the middle of every picture, whatever its shape."""

    name = "middle"

    def detect(self, image: RGB) -> list[Face]:
        height, width = image.shape[:2]
        points = np.array([[0.4, 0.42], [0.6, 0.42], [0.5, 0.55], [0.43, 0.68], [0.57, 0.68]])
        box = (0.25 * width, 0.2 * height, 0.75 * width, 0.8 * height)
        return [Face(box, points * [width, height], 0.99)]


def drawn(rng: np.random.Generator, shape: tuple[int, int] | None = None) -> Sample:
    height, width = shape or SHAPES[rng.integers(len(SHAPES))]
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(f"{height}x{width}", picture, "fear", frozenset(), meta={"dataset": "noise"})


def episode(rng: np.random.Generator, sample: Sample, **limits: int) -> ChatEpisode:
    sides = {name: int(rng.integers(33, 300)) for name in ("image_side", "face_side", "crop_side")}
    chat = ChatConfig(**sides)
    return ChatEpisode(sample, chat_tools(FaceInTheMiddle(), chat), chat, EpisodeConfig(**limits))


def box(rng: np.random.Generator) -> list[int]:
    """A region of the aligned face, anything from a thin stripe to nearly all of it."""
    low = rng.integers(0, 900, 2)
    return [*low.tolist(), *(low + rng.integers(20, 1000 - low.max(), 2)).tolist()]
