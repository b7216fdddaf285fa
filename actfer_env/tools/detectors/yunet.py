"""YuNet through OpenCV's `cv2.FaceDetectorYN`: fast, and less exact than the other detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DetectorError
from actfer_env.files import expand
from actfer_env.tools.detectors.base import Face, file_digest
from actfer_env.tools.detectors.common import (
    Image,
    NetworkDetector,
    map_face,
    resize_long_side,
)

GET_WEIGHTS = (
    "download face_detection_yunet_2023mar.onnx from github.com/opencv/opencv_zoo "
    "(models/face_detection_yunet) and use 'yunet:/path/to/it.onnx'"
)
"""Command that gets the weights, for messages."""


class YuNetDetector(NetworkDetector):
    """YuNet on OpenCV, with the weights of OpenCV's model zoo."""

    name = "yunet"

    def __init__(self, weights: str | Path | None = None, det_size: int = 640, det_thresh: float = 0.6) -> None:
        """Load the network.

        Args:
            weights: The file `face_detection_yunet_2023mar.onnx`; this package does not ship it.
            det_size: Long side in pixels at which the network looks at the image.
            det_thresh: Lowest score of a face; OpenCV's own 0.9 misses faces that are cut or turned.

        Raises:
            DetectorError: the file is missing or OpenCV cannot read it.
        """
        self.det_size, self.det_thresh = det_size, det_thresh
        self._weights = _existing(weights)
        self._net = _load(self._weights, det_thresh)

    def settings(self) -> dict[str, Any]:
        """Return the settings and the digest of the weights, as JSON values."""
        return {"det_size": self.det_size, "det_thresh": self.det_thresh, "weights": file_digest(self._weights)}

    def _detect(self, image: Image) -> list[Face]:
        work, scale = resize_long_side(image, self.det_size)
        self._net.setInputSize((work.shape[1], work.shape[0]))
        _, rows = self._net.detect(cv2.cvtColor(work, cv2.COLOR_RGB2BGR))
        return [map_face(_face(row), scale) for row in (() if rows is None else rows.astype(np.float64))]


def _existing(weights: str | Path | None) -> Path:
    if weights is None or not str(weights):
        raise DetectorError(f"detector 'yunet' needs the path of its weights: {GET_WEIGHTS}")
    path = expand(weights)
    if not path.is_file():
        raise DetectorError(f"YuNet weights {str(path)!r} do not exist: {GET_WEIGHTS}")
    return path


def _load(path: Path, det_thresh: float) -> cv2.FaceDetectorYN:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_ERROR
    )  # OpenCV 5 warns about a target that nobody asked for
    try:
        return cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold=det_thresh)
    except cv2.error as error:
        raise DetectorError(f"OpenCV cannot read the YuNet weights {str(path)!r}: {GET_WEIGHTS}") from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def _face(row: NDArray[np.float64]) -> Face:
    """Read x, y, w, h, five key points and the score.

    YuNet names the key points from the person's side, right eye first; on the picture that is the left
    eye, so its order is that of `LANDMARKS` already.
    """
    x, y, width, height = row[:4].tolist()
    return Face((x, y, x + width, y + height), row[4:14].reshape(5, 2).copy(), float(np.clip(row[14], 0, 1)))
