"""Drawing a box of the aligned frame straight from the original image, in one interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.bounds import bounded, check_fields
from actfer_env.images import RGB
from actfer_env.tools import geometry


@dataclass(frozen=True)
class ResamplingConfig:
    """Settings of the interpolation from the original's pixels.

    Attributes:
        fill: Grey value (0-255) of what lies outside the original; a flat grey invents nothing (chosen here).
        blur: Standard deviation of the low-pass in output pixels, where the output is coarser than the source;
            about that of the area filter that a plain shrink would use (measured in tests/tools/test_align_zoom.py).
        decimate_from: If one output pixel covers more source pixels than this, the source is first averaged
            over whole blocks, so that a huge photo costs no more than a large one (chosen here).
    """

    fill: int = bounded(127, ge=0, le=255)
    blur: float = bounded(0.33, ge=0)
    decimate_from: float = bounded(4.0, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)


SAMPLING = ResamplingConfig()


def sample_box(
    image: RGB,
    transform: NDArray[np.float64],
    box: Sequence[float],
    size: tuple[int, int],
    config: ResamplingConfig = SAMPLING,
) -> RGB:
    """Draw a box of the aligned frame.

    Args:
        image: The original, uint8 (H, W, 3).
        transform: (2, 3), pixels of the original -> aligned frame.
        box: (x1, y1, x2, y2) in the aligned frame.
        size: (width, height) of the result in pixels.
        config: Filter constants.

    Returns:
        uint8 (height, width, 3). Parts outside the original are flat grey.
    """
    matrix = geometry.compose(geometry.box_to_transform(box, *size), transform)
    inverse = geometry.invert(matrix)
    footprint = np.hypot(inverse[:, 0], inverse[:, 1])  # source pixels along x and y that one output pixel covers
    block = max(int(footprint.min() // (config.decimate_from / 2)), 1) if footprint.min() > config.decimate_from else 1
    window, origin = _window(image, geometry.apply(inverse, geometry.corners((0, 0, *size))), footprint, block)
    if window.size == 0:
        return np.full((size[1], size[0], 3), config.fill, np.uint8)
    source = _low_pass(window, footprint, block, config)
    # From block pixels of the window to output pixels, with OpenCV's pixel centres at whole numbers.
    to_source = np.array([[block, 0.0, origin[0]], [0.0, block, origin[1]]])
    matrix = geometry.compose(matrix, to_source)
    matrix[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    drawn = cv2.warpAffine(
        source,
        matrix,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(config.fill,) * 3,
    )
    return np.asarray(drawn, np.uint8)


def _window(
    image: RGB, quad: NDArray[np.float64], footprint: NDArray[np.float64], block: int
) -> tuple[RGB, tuple[int, int]]:
    """Cut the part of the image that the quadrilateral needs, its size a multiple of `block`."""
    margin = np.ceil(2 * footprint) + 2
    low = np.maximum(np.floor(quad.min(0) - margin), 0).astype(int) // block * block
    high = np.minimum(np.ceil(quad.max(0) + margin), (image.shape[1], image.shape[0])).astype(int)
    window = image[low[1] : max(high[1], low[1]), low[0] : max(high[0], low[0])]
    extra = [-window.shape[0] % block, -window.shape[1] % block]
    if window.size and any(extra):
        window = np.asarray(cv2.copyMakeBorder(window, 0, extra[0], 0, extra[1], cv2.BORDER_REPLICATE), np.uint8)
    return window, (int(low[0]), int(low[1]))


def _low_pass(window: RGB, footprint: NDArray[np.float64], block: int, config: ResamplingConfig) -> RGB:
    if block > 1:
        shape = (window.shape[1] // block, window.shape[0] // block)
        window = np.asarray(cv2.resize(window, shape, interpolation=cv2.INTER_AREA), np.uint8)
    sigma = config.blur * np.sqrt(np.maximum((footprint / block) ** 2 - 1, 0))
    if sigma.max() < 0.1:
        return window
    blurred = cv2.GaussianBlur(window, (0, 0), sigmaX=max(sigma[0], 1e-3), sigmaY=max(sigma[1], 1e-3))
    return np.asarray(blurred, np.uint8)


def fit(image: RGB, side: int, *, bars: bool = True) -> RGB:
    """Return the image shrunk or enlarged into a square of `side` pixels, its shape kept.

    Args:
        image: uint8 (H, W, 3).
        side: Side of the square, pixels.
        bars: Put it on a black square; without, the result is as large as the image became.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if not bars:
        return np.asarray(small, np.uint8)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return square


def sharpness(picture: RGB) -> float:
    """Return the variance of a picture's Laplacian, the usual measure of focus; the sharper, the higher.

    Args:
        picture: uint8 (H, W, 3).
    """
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
