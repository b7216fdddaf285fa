"""Shared parts of the detectors: checking and resizing images, further looks with a border, and their base class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DetectorError
from actfer_env.tools.detectors.base import Face

BORDERS = (0.25, 0.5)
"""Grey borders on each side, as shares of the long side, with which an image that shows no face is looked at again.

Detectors are trained on faces with surroundings and miss some that fill the frame. Of 35 tight crops of seven photos
SCRFD 2.5g missed 24; the first border left 2 of them, the second none. MTCNN missed 2, and none with a border.
"""
GREY = 127
"""Level of these borders."""

Image = NDArray[np.uint8]


def check_image(image: Any) -> None:
    """Refuse what is not an RGB image.

    Args:
        image: Anything; a picture is uint8 (H, W, 3).

    Raises:
        DetectorError: `image` is not a uint8 array (H, W, 3) with at least one pixel.
    """
    if not isinstance(image, np.ndarray):
        raise DetectorError(f"detectors need an RGB uint8 array (H, W, 3), got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DetectorError(f"detectors need an RGB uint8 array (H, W, 3), got {image.dtype} {image.shape}")
    if image.size == 0:
        raise DetectorError(f"detectors need an image of at least one pixel, got {image.shape}")


def resize_long_side(image: Image, long_side: int) -> tuple[Image, NDArray[np.float64]]:
    """Resize an image to a long side; by area when it shrinks, bilinear when it grows.

    Args:
        image: RGB picture, uint8 (H, W, 3).
        long_side: Long side of the result, pixels.

    Returns:
        The image, and the scale (x, y) from the old to the new coordinates, float64 (2,).
    """
    height, width = image.shape[:2]
    factor = long_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size == (width, height):
        return image, np.ones(2)
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False), np.array([size[0] / width, size[1] / height])


def map_face(face: Face, scale: NDArray[np.float64], shift: float = 0.0) -> Face:
    """Return the face with every coordinate `c` replaced by ``(c - shift) / scale``.

    Args:
        face: A face of the working image.
        scale: (x, y) from the original to the working image, float64 (2,).
        shift: Border of the working image in pixels.
    """
    x1, y1, x2, y2 = ((np.reshape(face.box, (2, 2)) - shift) / scale).ravel().tolist()
    dense = None if face.landmarks_106 is None else (face.landmarks_106 - shift) / scale
    points = (face.landmarks - shift) / scale
    return replace(face, box=(x1, y1, x2, y2), landmarks=points, landmarks_106=dense)


def detect_with_border(detect: Callable[[Image], list[Face]], image: Image, long_side: int) -> list[Face]:
    """Detect, and as long as nothing is found look again with a grey border (`BORDERS`) around the image.

    Args:
        detect: Returns the faces of an RGB image.
        image: RGB uint8 (H, W, 3).
        long_side: Long side in pixels of the bordered image, the size at which the detector works.
    """
    faces = detect(image)
    for border in BORDERS:
        if faces:
            break
        faces = _detect_inside(detect, image, long_side, border)
    return faces


def _detect_inside(detect: Callable[[Image], list[Face]], image: Image, long_side: int, border: float) -> list[Face]:
    small, scale = resize_long_side(image, round(long_side / (1 + 2 * border)))
    pad = round(border * max(small.shape[:2]))
    bordered = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    return [map_face(face, scale, pad) for face in detect(bordered.astype(np.uint8, copy=False))]


class NetworkDetector(ABC):
    """Base of the detectors whose networks look at the whole image: it is shown turned, and with a border if empty.

    Attributes:
        det_size: Long side in pixels at which the networks look at the image.
    """

    turns = True
    det_size: int

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces of an RGB uint8 image (H, W, 3), best first.

        Args:
            image: RGB picture, uint8 (H, W, 3).

        Returns:
            The faces, in pixels of the image.

        Raises:
            DetectorError: the array is not such an image.
        """
        check_image(image)
        return detect_with_border(self._detect, image, self.det_size)

    def look(self, image: NDArray[np.uint8]) -> list[Face]:
        """Return the faces as `detect` does, but from a single look, without those with a border."""
        check_image(image)
        return self._detect(image)

    @abstractmethod
    def _detect(self, image: Image) -> list[Face]:
        """Return the faces that one look at the image finds, best first."""
