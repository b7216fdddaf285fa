"""Drawing a box of the aligned frame straight from the original image, in one interpolation."""

from __future__ import annotations

import math
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
    (a, b, c), (d, e, f) = transform.tolist()
    sx, sy = size[0] / (box[2] - box[0]), size[1] / (box[3] - box[1])
    matrix = (sx * a, sx * b, sx * c - box[0] * sx), (sy * d, sy * e, sy * f - box[1] * sy)
    inverse = geometry.inverse_rows(matrix)
    footprint = [math.hypot(row[0], row[1]) for row in inverse]  # source pixels along x and y of one output pixel
    block = int(min(footprint) // (config.decimate_from / 2)) if min(footprint) > config.decimate_from else 1

    # The part of the original that the box needs, its size a multiple of the block.
    quad = geometry.corners_under(inverse, (0.0, 0.0, *size))
    ends = []
    for axis, side in ((0, image.shape[1]), (1, image.shape[0])):
        places, margin = [point[axis] for point in quad], math.ceil(2 * footprint[axis]) + 2
        low = max(math.floor(min(places) - margin), 0) // block * block
        ends.append((low, max(min(math.ceil(max(places) + margin), side), low)))
    (left, right), (top, bottom) = ends
    source = image[top:bottom, left:right]
    if source.size == 0:
        return np.full((size[1], size[0], 3), config.fill, np.uint8)
    extra = -source.shape[0] % block, -source.shape[1] % block
    if any(extra):
        source = np.asarray(cv2.copyMakeBorder(source, 0, extra[0], 0, extra[1], cv2.BORDER_REPLICATE), np.uint8)

    # A low-pass where the output is coarser than the source: whole blocks first, the rest by a Gaussian.
    if block > 1:
        shape = source.shape[1] // block, source.shape[0] // block
        source = np.asarray(cv2.resize(source, shape, interpolation=cv2.INTER_AREA), np.uint8)
    shares = [pixels / block for pixels in footprint]
    sigma = [config.blur * math.sqrt(max(share * share - 1, 0)) for share in shares]
    if max(sigma) >= 0.1:
        blurred = cv2.GaussianBlur(source, (0, 0), sigmaX=max(sigma[0], 1e-3), sigmaY=max(sigma[1], 1e-3))
        source = np.asarray(blurred, np.uint8)

    # From block pixels of that part to output pixels, with OpenCV's pixel centres at whole numbers.
    (a, b, c), (d, e, f) = matrix
    c, f = a * left + b * top + c, d * left + e * top + f
    a, b, d, e = a * block, b * block, d * block, e * block
    to_output = np.array([[a, b, c + ((a + b) * 0.5 - 0.5)], [d, e, f + ((d + e) * 0.5 - 0.5)]])
    drawn = cv2.warpAffine(
        source, to_output, size,
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(config.fill,) * 3,
    )  # fmt: skip
    return np.asarray(drawn, np.uint8)


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
