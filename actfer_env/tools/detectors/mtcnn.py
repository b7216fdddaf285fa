"""The default detector: MTCNN's cascade on NumPy and OpenCV, offline and without a deep-learning framework.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016.
Boxes are float arrays (N, 4) of continuous coordinates (x1, y1, x2, y2) of the working image.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from actfer_env.bounds import bounded, check_fields
from actfer_env.tools.detectors import mtcnn_nets as nets
from actfer_env.tools.detectors.base import Face
from actfer_env.tools.detectors.common import (
    Image,
    NetworkDetector,
    map_face,
    resize_long_side,
)

Boxes = NDArray[np.float64]
Scores = NDArray[np.float32]
_GREY = 127  # a patch is grey where it leaves the image, as in mtcnn 1.0.0; the points of cut faces gain by it
_CELL, _STRIDE = 12, 2  # P-Net's window and the distance of its windows


@dataclass(frozen=True)
class MTCNNConfig:
    """The settings of the cascade.

    Attributes:
        thresholds: Lowest face probability after P-Net, R-Net and O-Net; mtcnn 1.0.0's.
        scale_factor: Step of the image pyramid, about the square root of 1/2; the paper's and mtcnn 1.0.0's value.
        min_face: Smallest face in working pixels; chosen here (mtcnn's 20 takes 4 times as long).
        detect_size: Long side of the working image; chosen here, so that large photos take no longer.
        nms: Overlap above which the weaker box goes: within a pyramid level, between levels, after R-Net
            (of the union) and after O-Net (of the smaller box); mtcnn 1.0.0's defaults.
    """

    thresholds: tuple[float, float, float] = bounded((0.6, 0.7, 0.8), ge=0, le=1)
    scale_factor: float = bounded(0.709, gt=0, lt=1)
    min_face: float = bounded(40.0, gt=0)
    detect_size: int = bounded(640, ge=16)
    nms: tuple[float, float, float, float] = bounded((0.5, 0.7, 0.7, 0.7), ge=0, le=1)

    def __post_init__(self) -> None:
        check_fields(self)


class MTCNNDetector(NetworkDetector):
    """MTCNN with the weights that the PyPI package `mtcnn` ships; see `MTCNNConfig` for the settings."""

    name = "mtcnn"

    def __init__(self, config: MTCNNConfig | None = None, **settings: Any) -> None:
        """Load the weights.

        Args:
            config: The settings, or None for the defaults.
            **settings: fields of `MTCNNConfig`, instead of `config`.

        Raises:
            DetectorError: the weights are missing or are not those of mtcnn 1.0.0.
        """
        self.config = config or MTCNNConfig(**settings)
        self.det_size = self.config.detect_size
        for net in nets.WEIGHTS_SHA256:
            nets.load_weights(net)

    def settings(self) -> dict[str, Any]:
        """Return the configuration and the digests of the weights, as JSON values."""
        return {"config": asdict(self.config), "weights": dict(nets.WEIGHTS_SHA256)}

    def _detect(self, image: Image) -> list[Face]:
        work, scale = resize_long_side(image, self.config.detect_size)
        boxes = _square(self._propose(work))
        if len(boxes):  # the second net throws most of them out, and moves the others
            scores, regression = nets.refine_net(_patches(work, boxes, 24))
            keep = scores > self.config.thresholds[1]
            boxes, scores = _regress(boxes[keep], regression[keep]), scores[keep]
            boxes = boxes[non_maximum_suppression(boxes, scores, self.config.nms[2])]
        return [map_face(face, scale) for face in self._output(work, boxes)]

    def _propose(self, work: Image) -> Boxes:
        """Run the first net over a pyramid of smaller copies, and return the boxes that it proposes."""
        height, width = work.shape[:2]
        first, step = _CELL / self.config.min_face, self.config.scale_factor
        count = max(0, 1 + math.floor(np.log(_CELL / (first * min(height, width))) / np.log(step)))
        source, proposed = work, list[tuple[Boxes, Scores]]()
        for scale in first * step ** np.arange(count):
            size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
            level = cv2.resize(source, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
            if source is work:  # from the second level on the first one is the source: far less to read
                source = level
            probability, regression = nets.proposal_net(_normalize(level))
            rows, columns = np.nonzero(probability > self.config.thresholds[0])
            scores = probability[rows, columns]
            corner = np.stack([columns, rows], axis=1) * float(_STRIDE)
            boxes = _regress(np.hstack([corner, corner + _CELL]), regression[rows, columns])
            keep = non_maximum_suppression(boxes, scores, self.config.nms[0])
            proposed.append((boxes[keep] * np.tile([width / level.shape[1], height / level.shape[0]], 2), scores[keep]))
        if not proposed:
            return np.empty((0, 4))
        boxes, scores = (np.concatenate(part) for part in zip(*proposed, strict=True))
        return boxes[non_maximum_suppression(boxes, scores, self.config.nms[1])]

    def _output(self, work: Image, boxes: Boxes) -> list[Face]:
        boxes = _square(boxes)
        if not len(boxes):
            return []
        scores, regression, points = nets.output_net(_patches(work, boxes, 48))
        landmarks = boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])
        boxes = _regress(boxes, regression)
        sure = np.nonzero(scores > self.config.thresholds[2])[0]
        keep = sure[non_maximum_suppression(boxes[sure], scores[sure], self.config.nms[3], of_smaller=True)]
        return [Face(tuple(boxes[i].tolist()), landmarks[i], float(scores[i])) for i in keep]


def non_maximum_suppression(boxes: Boxes, scores: Scores, limit: float, *, of_smaller: bool = False) -> list[int]:
    """Greedily keep the best box and drop those that overlap it.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,).
        limit: Overlap above which a box goes.
        of_smaller: Measure the overlap as a share of the smaller box instead of the union.

    Returns:
        The indices that stay, best first; equal scores keep their order.
    """
    overlap = _overlaps(boxes, of_smaller)
    alive, keep = np.ones(len(boxes), bool), []
    for index in np.argsort(-scores, kind="stable").tolist():
        if alive[index]:
            keep.append(index)
            alive &= overlap[index] <= limit
    return keep


def _overlaps(boxes: Boxes, of_smaller: bool) -> NDArray[np.float64]:
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    whole = np.minimum(area[:, None], area) if of_smaller else area[:, None] + area - shared
    return shared / np.maximum(whole, 1e-9)


def _regress(boxes: Boxes, offsets: nets.Tensor) -> Boxes:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets.astype(np.float64) * np.tile(size, 2)


def _square(boxes: Boxes) -> Boxes:
    """Return squares of whole pixels around the boxes, so that a patch is a plain slice."""
    side = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, initial=0)[:, None]
    low = np.round((boxes[:, :2] + boxes[:, 2:] - side) / 2)
    return np.hstack([low, low + np.maximum(1, np.round(side))])


def _patches(work: Image, boxes: Boxes, size: int) -> nets.Tensor:
    """Cut square boxes out, grey where they leave the image, and resize them: float32 (N, size, size, 3)."""
    crops = [_crop(work, box) for box in boxes.astype(int)]
    patches = [cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in crops]
    return _normalize(np.stack(patches).astype(np.uint8, copy=False))


def _crop(work: Image, box: NDArray[np.int_]) -> Image:
    height, width = work.shape[:2]
    x1, y1, x2, y2 = box.tolist()
    inside = work[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)]
    if not inside.size:
        return np.full((1, 1, 3), _GREY, np.uint8)
    edges = max(0, -y1), max(0, y2 - height), max(0, -x1), max(0, x2 - width)
    if not any(edges):
        return inside
    return cv2.copyMakeBorder(inside, *edges, cv2.BORDER_CONSTANT, value=(_GREY,) * 3).astype(np.uint8, copy=False)


def _normalize(pixels: Image) -> nets.Tensor:
    return (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(128)
