"""The four named region boxes, from landmarks in the aligned frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actfer_env import facs
from actfer_env.boxes import Box

Points = NDArray[np.float64]


@dataclass(frozen=True)
class RegionLayout:
    """Margins of the region boxes in units of the inter-ocular distance; each chosen here on real photos.

    Attributes:
        side: Beyond an eye's centre to the temple.
        brow_above: Above the eye line, up to the hair line.
        brow_below: Above the eye line, where forehead-eyebrow ends (below the brow, above the pupil).
        eye_above: Above the eye line, where eye-periorbital begins (it holds the upper lid fold).
        eye_below: Below the eye line, for lower lid and infra-orbital furrow.
        nose_side: Beyond the nose tip, for the alae and the naso-labial fold's top.
        nose_above: Above the eye line, for the wrinkles of AU9 at the root.
        nose_below: Below the nose tip.
        mouth_side: Beyond the mouth's corners.
        mouth_above: Share of the way from the mouth line up to the nose tip.
        chin_below: Below the mouth line, for the chin of an open jaw.
        contour: Around boxes that come from 106 landmarks.
        min_side: Smallest side of a box in the aligned frame, whatever the pose.
    """

    side: float = 0.55
    brow_above: float = 1.2
    brow_below: float = 0.1
    eye_above: float = 0.42
    eye_below: float = 0.5
    nose_side: float = 0.5
    nose_above: float = 0.1
    nose_below: float = 0.28
    mouth_side: float = 0.38
    mouth_above: float = 0.75
    chin_below: float = 1.2
    contour: float = 0.15
    min_side: float = 0.1


LAYOUT = RegionLayout()


def region_boxes(
    landmarks: Points, landmarks_106: Points | None = None, layout: RegionLayout = LAYOUT
) -> dict[str, Box]:
    """Return the box of each region in the aligned frame.

    Args:
        landmarks: The five points (5, 2) in the aligned frame, in the order of `detectors.LANDMARKS`.
        landmarks_106: InsightFace's 106 points (106, 2) in the aligned frame; where given, the boxes follow them.
        layout: Margins.

    Returns:
        Region -> (x1, y1, x2, y2) in [0, 1], in the order of `facs.REGIONS`; each side at least `layout.min_side`.
    """
    boxes = _from_five(landmarks, layout) if landmarks_106 is None else _from_106(landmarks_106, layout)
    return dict(zip(facs.REGIONS, (_inside(box, layout.min_side) for box in boxes), strict=True))


def _from_five(points: Points, lay: RegionLayout) -> list[tuple[float, ...]]:
    left, right, nose, mouth_left, mouth_right = points
    unit = interocular(left, right, (mouth_left + mouth_right) / 2)
    eye_y, mouth_y = (left[1] + right[1]) / 2, (mouth_left[1] + mouth_right[1]) / 2
    x1, x2 = min(left[0], right[0]) - lay.side * unit, max(left[0], right[0]) + lay.side * unit
    m1, m2 = min(mouth_left[0], mouth_right[0]), max(mouth_left[0], mouth_right[0])
    root = (left[0] + right[0]) / 2
    n1, n2 = min(nose[0], root) - lay.nose_side * unit, max(nose[0], root) + lay.nose_side * unit
    mouth_top = mouth_y - lay.mouth_above * max(mouth_y - nose[1], 0.2 * unit)
    return [
        (x1, eye_y - lay.brow_above * unit, x2, eye_y - lay.brow_below * unit),
        (x1, eye_y - lay.eye_above * unit, x2, eye_y + lay.eye_below * unit),
        (n1, eye_y - lay.nose_above * unit, n2, nose[1] + lay.nose_below * unit),
        (m1 - lay.mouth_side * unit, mouth_top, m2 + lay.mouth_side * unit, mouth_y + lay.chin_below * unit),
    ]


def _from_106(points: Points, lay: RegionLayout) -> list[tuple[float, ...]]:
    """Boxes from groups of the 106 points; the groups follow public descriptions of InsightFace's order."""
    contour, eyes = points[0:33], np.concatenate([points[33:43], points[87:97]])
    brows, mouth = np.concatenate([points[43:52], points[97:106]]), points[52:72]
    nose = points[72:87]
    unit = float(np.linalg.norm(points[33:43].mean(0) - points[87:97].mean(0)))
    pad, eye_y = lay.contour * unit, float(eyes[:, 1].mean())
    x1, x2 = brows[:, 0].min() - pad, brows[:, 0].max() + pad
    return [
        (x1, eye_y - lay.brow_above * unit, x2, max(brows[:, 1].max(), eye_y - 2 * pad)),
        (x1, eyes[:, 1].min() - pad, x2, eyes[:, 1].max() + 2 * pad),
        (
            nose[:, 0].min() - pad,
            eye_y - lay.nose_above * unit,
            nose[:, 0].max() + pad,
            nose[:, 1].max() + pad,
        ),
        (
            mouth[:, 0].min() - 2 * pad,
            mouth[:, 1].min() - pad,
            mouth[:, 0].max() + 2 * pad,
            contour[:, 1].max() + pad,
        ),
    ]


def interocular(left: Points, right: Points, mouth: Points) -> float:
    """Return the inter-ocular distance of the face seen from the front, in units of the points.

    A turned head shortens the distance between the eyes but not the one from eyes to mouth, which is about
    1.15 times as long in a frontal face (ArcFace's template); the longer of the two estimates counts.
    """
    return float(max(np.linalg.norm(right - left), np.linalg.norm(mouth - (left + right) / 2) / 1.15))


def _inside(box: tuple[float, ...], min_side: float) -> Box:
    low = np.clip(box[:2], 0.0, 1.0 - min_side)
    high = np.clip(np.maximum(box[2:], low + min_side), 0.0, 1.0)
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
