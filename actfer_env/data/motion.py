"""Motion maps of micro-expressions: optical flow from onset to apex as colours over the grey onset frame (MELLM)."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DataError
from actfer_env.images import RGB

SECTORS = 12
"""Directions that a map tells apart: steps of 30 degrees, as in MELLM."""
FULL = 0.03
"""Motion of full brightness, as a share of the distance between the eyes (chosen here)."""
LEGEND = (
    "The picture is a motion map of a micro-expression: the grey face at its onset, and in colour how the skin has "
    "moved until the apex, without the head's own motion. Red is to the right of the picture, yellow-green down, cyan "
    "to the left, violet up; brighter is further. Which Action Units moved, and which emotion is it?"
)
"""Question that goes with a motion map; it explains the colours."""


def estimate_flow(onset: RGB, apex: RGB) -> NDArray[np.float32]:
    """Estimate how far each pixel moves between two frames, by Farneback's method on slightly smoothed frames.

    Args:
        onset: uint8 (h, w, 3).
        apex: uint8 (h, w, 3).

    Returns:
        float32 (h, w, 2), pixels along x and y.

    Raises:
        DataError: the frames have different sizes, or are no colour pictures.
    """
    for frame in (onset, apex):
        _check_frame(frame)
    if onset.shape != apex.shape:
        raise DataError(f"onset and apex have different sizes, {onset.shape[:2]} and {apex.shape[:2]}: take two frames "
                        "of one film")  # fmt: skip
    first, second = (cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), 1.5) for frame in (onset, apex))
    start = np.zeros((*first.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(first, second, start, 0.5, 4, 31, 3, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN)
    return cast("NDArray[np.float32]", flow.astype(np.float32, copy=False))


def motion_map(onset: RGB, flow: NDArray[np.float32], nose: tuple[float, float], eye_distance: float) -> RGB:
    """Draw a flow over its onset frame: hue is the direction, brightness the length.

    The mean flow around the tip of the nose, which no facial muscle moves much, is taken for the head's own motion and
    subtracted.

    Args:
        onset: uint8 (h, w, 3), the frame at which the expression begins.
        flow: float32 (h, w, 2), motion from onset to apex, pixels along x and y.
        nose: Tip of the nose (x, y), pixels.
        eye_distance: Distance between the eyes, pixels; `FULL` of it is full brightness.

    Returns:
        uint8 (h, w, 3).

    Raises:
        DataError: sizes differ, the flow is not finite, the frame has no colours, or the distance is not positive.
    """
    _check_frame(onset)
    height, width = onset.shape[:2]
    if flow.shape != (height, width, 2):
        raise DataError(f"flow has shape {flow.shape}: needs ({height}, {width}, 2), as the onset frame")
    if not np.isfinite(flow).all():
        raise DataError("the flow holds values that are not finite: set them to 0 where nothing is known")
    if not eye_distance > 0:
        raise DataError(f"eye_distance is {eye_distance}: it must be above 0, in pixels")
    reach = max(round(0.15 * eye_distance), 1)
    x, y = (round(min(max(at, 0), end - 1)) for at, end in zip(nose, (width, height), strict=True))
    around = flow[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    own = flow - around.reshape(-1, 2).mean(0)
    length, angle = cv2.cartToPolar(own[..., 0], own[..., 1], angleInDegrees=True)
    sector = np.round(angle / (360 / SECTORS)) % SECTORS
    colours = np.empty((height, width, 3), np.uint8)
    colours[..., 0] = sector * (180 / SECTORS)  # OpenCV's hue has 180 steps
    colours[..., 1] = 255
    colours[..., 2] = np.clip(length / (FULL * eye_distance), 0, 1) * 255
    grey = cv2.cvtColor(cv2.cvtColor(onset, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cast(RGB, cv2.add(grey // 2, cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)))


def _check_frame(frame: RGB) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise DataError(f"a frame must be uint8 (h, w, 3), got {frame.dtype} {frame.shape}")
