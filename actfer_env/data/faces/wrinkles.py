"""Fine relief: the furrows, folds and dimples that Action Units and age draw into the skin."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.faces.expression import RENDERED_AUS
from actfer_env.data.faces.geometry import RANGE_X, RANGE_Y, Array
from actfer_env.data.faces.identity import Identity
from actfer_env.data.faces.texture import texture_shape

Stroke = tuple[float, float, tuple[tuple[float, float], ...]]

# AU -> strokes of the viewer's right half: (width, depth, points), in face coordinates.
STROKES: dict[int, tuple[Stroke, ...]] = {
    1: (
        (0.022, 0.9, ((0.0, -0.545), (0.16, -0.565), (0.33, -0.53))),
        (0.022, 1.0, ((0.0, -0.655), (0.18, -0.68), (0.38, -0.635))),
        (0.020, 0.7, ((0.0, -0.775), (0.16, -0.795), (0.32, -0.76))),
    ),
    2: (
        (0.022, 0.9, ((0.36, -0.52), (0.55, -0.56), (0.74, -0.49))),
        (0.022, 0.9, ((0.38, -0.63), (0.56, -0.665), (0.76, -0.59))),
        (0.018, 0.5, ((0.42, -0.745), (0.58, -0.765), (0.74, -0.70))),
    ),
    4: (
        (0.024, 1.3, ((0.085, -0.16), (0.095, -0.28), (0.075, -0.43))),
        (0.020, 0.7, ((0.165, -0.22), (0.175, -0.30), (0.15, -0.40))),
        (0.018, 0.6, ((0.0, -0.115), (0.09, -0.13))),
    ),
    5: ((0.014, 0.5, ((0.30, -0.15), (0.44, -0.175), (0.58, -0.13))),),
    6: (
        (0.026, 1.1, ((0.20, 0.13), (0.33, 0.20), (0.48, 0.215), (0.62, 0.165))),
        (0.018, 0.9, ((0.69, -0.03), (0.78, -0.085), (0.85, -0.125))),
        (0.018, 1.0, ((0.70, 0.01), (0.80, 0.005), (0.88, -0.015))),
        (0.018, 0.9, ((0.69, 0.055), (0.78, 0.095), (0.85, 0.125))),
    ),
    7: (
        (0.013, 0.9, ((0.27, 0.062), (0.42, 0.085), (0.58, 0.075))),
        (0.010, 0.4, ((0.30, 0.112), (0.44, 0.125), (0.58, 0.11))),
    ),
    9: (
        (0.017, 1.1, ((0.045, 0.16), (0.115, 0.10), (0.175, 0.03))),
        (0.017, 1.1, ((0.06, 0.26), (0.13, 0.20), (0.20, 0.12))),
        (0.015, 0.8, ((0.08, 0.35), (0.15, 0.29), (0.22, 0.22))),
        (0.016, 0.8, ((0.0, -0.085), (0.10, -0.10))),
        (0.026, 0.9, ((0.235, 0.488), (0.29, 0.548), (0.325, 0.668))),
    ),
    10: ((0.034, 1.3, ((0.25, 0.512), (0.325, 0.608), (0.375, 0.728), (0.385, 0.828))),),
    12: ((0.034, 1.4, ((0.265, 0.548), (0.365, 0.668), (0.44, 0.798), (0.50, 0.948))),),
    14: (
        (0.020, 1.7, ((0.462, 0.873), (0.487, 0.928), (0.475, 0.993))),
        (0.014, 0.6, ((0.525, 0.878), (0.54, 0.938), (0.525, 0.988))),
    ),
    15: (
        (0.024, 1.2, ((0.375, 1.013), (0.425, 1.088), (0.44, 1.173))),
        (0.016, 0.5, ((0.30, 1.113), (0.36, 1.153))),
    ),
    17: (
        (0.026, 0.9, ((0.0, 1.203), (0.10, 1.213), (0.2, 1.263))),
        (0.014, 0.8, ((0.03, 1.308), (0.06, 1.318))),
        (0.014, 0.8, ((0.10, 1.358), (0.13, 1.348))),
        (0.014, 0.8, ((0.0, 1.388), (0.035, 1.398))),
        (0.014, 0.7, ((0.08, 1.438), (0.12, 1.428))),
        (0.014, 0.7, ((0.15, 1.308), (0.18, 1.338))),
    ),
    20: (
        (0.024, 0.9, ((0.545, 0.828), (0.575, 0.948), (0.55, 1.068))),
        (0.018, 0.5, ((0.61, 0.868), (0.635, 0.948), (0.62, 1.028))),
    ),
    23: (
        (0.010, 0.8, ((0.08, 0.823), (0.075, 0.873))),
        (0.010, 0.8, ((0.16, 0.818), (0.15, 0.878))),
        (0.010, 0.8, ((0.24, 0.838), (0.225, 0.888))),
        (0.010, 0.7, ((0.10, 1.033), (0.105, 1.078))),
        (0.010, 0.7, ((0.20, 1.023), (0.21, 1.068))),
    ),
    24: (
        (0.022, 0.8, ((0.0, 0.848), (0.14, 0.843), (0.27, 0.888))),
        (0.022, 0.8, ((0.0, 1.063), (0.15, 1.053), (0.26, 1.008))),
        (0.018, 0.8, ((0.365, 0.898), (0.39, 0.948), (0.37, 0.998))),
    ),
    26: ((0.022, 0.4, ((0.46, 0.848), (0.52, 0.998), (0.50, 1.148))),),
}  # fmt: skip

AGE_LINES = {1: 0.45, 2: 0.35, 4: 0.3, 6: 0.5, 12: 0.55, 15: 0.35, 23: 0.25}
"""Permanent lines: the share of an Action Unit's furrows that age 1 leaves in the resting face."""


@lru_cache(maxsize=160)
def _furrow(level: int, au: int, row: int) -> tuple[slice, slice, Array]:
    """Return where one unit's furrows lie in the texture and their height (negative is deep)."""
    height, width = texture_shape(level)
    sheet = np.zeros((height, width), np.float32)
    for thick, depth, points in STROKES[au]:
        layer = _groove(points, thick, 1.0 if row else -1.0, level, (height, width))
        np.minimum(sheet, -depth * layer, out=sheet)
    rows, cols = np.flatnonzero(sheet.any(axis=1)), np.flatnonzero(sheet.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
    return *box, np.ascontiguousarray(sheet[box])


def _groove(
    points: tuple[tuple[float, float], ...], thick: float, sign: float, level: int, shape: tuple[int, int]
) -> Array:
    """Draw one tapered curve: a distance field around a smooth polyline."""
    curve = _smooth_curve(np.array(points, np.float32))
    cols = (sign * curve[:, 0] / RANGE_X + 1) * shape[1] / 2 - 0.5
    rows = (curve[:, 1] / RANGE_Y + 1) * shape[0] / 2 - 0.5
    sheet = np.zeros(shape, np.uint8)
    path = np.round(np.stack([cols, rows], axis=1) * 16).astype(np.int32)
    cv2.polylines(sheet, [path], False, 255, 1, cv2.LINE_AA, 4)
    sigma = max(0.5, thick * level * 0.6)
    soft = cv2.GaussianBlur(sheet.astype(np.float32), (0, 0), sigma)
    taper = cv2.GaussianBlur(sheet.astype(np.float32), (0, 0), sigma * 3)
    ridge = soft / 255 * sigma * 2.2 - 0.3 * taper / 255 * sigma * 5
    return np.where(np.abs(ridge) > 0.004, np.clip(ridge, -0.25, 1.0), 0).astype(np.float32)


def _smooth_curve(points: Array) -> Array:
    t = np.linspace(0, len(points) - 1, 24, dtype=np.float32)
    first = np.minimum(t.astype(int), len(points) - 2)
    u = (t - first)[:, None]
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = (padded[first + i] for i in range(4))
    return 0.5 * (
        2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * p1 - p0 - 3 * p2 + p3) * u**3
    )


def furrow_weights(who: Identity, weights: Array) -> Array:
    """Return how deep each unit's furrows are: the expression's, plus what age has left."""
    depth = weights * (0.85 + 0.4 * who.age)
    for au, share in AGE_LINES.items():
        depth[:, RENDERED_AUS.index(au)] += share * max(0.0, who.age - 0.25)
    return depth


def relief(who: Identity, weights: Array, level: int) -> Array:
    """Return the fine height map of the texture, float32, zero where the skin is smooth."""
    sheet = np.zeros(texture_shape(level), np.float32)
    depth = furrow_weights(who, weights)
    for row in (0, 1):
        for i, au in enumerate(RENDERED_AUS):
            if depth[row, i] > 0.01 and au in STROKES:
                rows, cols, furrow = _furrow(level, au, row)
                sheet[rows, cols] += min(1.3, float(depth[row, i])) * furrow
    return sheet
