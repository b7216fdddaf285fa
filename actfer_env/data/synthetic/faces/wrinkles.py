"""Fine relief: the furrows, folds and dimples that Action Units and age draw into the skin."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.expression import RENDERED_AUS
from actfer_env.data.synthetic.faces.geometry import RANGE_X, RANGE_Y, Array
from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.data.synthetic.faces.texture import texture_shape

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
        (0.024, 1.3, ((0.08, -0.19), (0.095, -0.29), (0.075, -0.43))),
        (0.020, 0.6, ((0.165, -0.25), (0.175, -0.32), (0.155, -0.41))),
    ),
    5: ((0.014, 0.5, ((0.30, -0.15), (0.44, -0.175), (0.58, -0.13))),),
    6: (
        (0.026, 1.1, ((0.20, 0.13), (0.33, 0.20), (0.48, 0.215), (0.62, 0.165))),
        (0.018, 0.9, ((0.69, -0.03), (0.78, -0.085), (0.85, -0.125))),
        (0.018, 1.0, ((0.70, 0.01), (0.80, 0.005), (0.88, -0.015))),
        (0.018, 0.9, ((0.69, 0.055), (0.78, 0.095), (0.85, 0.125))),
    ),
    7: (
        (0.014, 1.7, ((0.25, 0.060), (0.42, 0.085), (0.60, 0.070))),
        (0.013, 1.4, ((0.28, 0.108), (0.44, 0.128), (0.60, 0.105))),
        (0.011, 1.0, ((0.64, -0.015), (0.70, -0.012), (0.76, -0.022))),
    ),
    9: (
        (0.017, 1.4, ((0.045, 0.16), (0.115, 0.10), (0.175, 0.03))),
        (0.017, 1.4, ((0.06, 0.26), (0.13, 0.20), (0.20, 0.12))),
        (0.016, 1.1, ((0.08, 0.35), (0.15, 0.29), (0.22, 0.22))),
        (0.016, 1.1, ((0.0, -0.085), (0.10, -0.10))),
        (0.022, 1.2, ((0.24, 0.49), (0.31, 0.54), (0.365, 0.62))),
    ),
    10: ((0.034, 1.2, ((0.25, 0.50), (0.345, 0.58), (0.415, 0.68), (0.45, 0.78))),),
    12: ((0.036, 1.4, ((0.265, 0.52), (0.38, 0.605), (0.48, 0.71), (0.545, 0.84))),),
    14: (
        (0.025, 3.8, ((0.460, 0.812), (0.488, 0.890), (0.474, 0.968))),
        (0.019, 2.9, ((0.530, 0.825), (0.548, 0.900), (0.530, 0.965))),
    ),
    15: (
        (0.021, 2.3, ((0.375, 0.975), (0.425, 1.050), (0.44, 1.135))),
        (0.015, 1.3, ((0.28, 1.065), (0.32, 1.100), (0.37, 1.115))),
    ),
    17: (
        (0.026, 0.9, ((0.0, 1.165), (0.10, 1.175), (0.2, 1.225))),
        (0.014, 0.8, ((0.03, 1.270), (0.06, 1.280))),
        (0.014, 0.8, ((0.10, 1.320), (0.13, 1.310))),
        (0.014, 0.8, ((0.0, 1.350), (0.035, 1.360))),
        (0.014, 0.7, ((0.08, 1.400), (0.12, 1.390))),
        (0.014, 0.7, ((0.15, 1.270), (0.18, 1.300))),
    ),
    20: (
        (0.024, 0.9, ((0.545, 0.790), (0.575, 0.910), (0.55, 1.030))),
        (0.018, 0.5, ((0.61, 0.830), (0.635, 0.910), (0.62, 0.990))),
    ),
    23: (
        (0.013, 1.3, ((0.08, 0.785), (0.075, 0.845))),
        (0.013, 1.3, ((0.16, 0.780), (0.15, 0.850))),
        (0.013, 1.3, ((0.24, 0.800), (0.225, 0.860))),
        (0.013, 1.3, ((0.10, 0.985), (0.105, 1.045))),
        (0.013, 1.3, ((0.20, 0.975), (0.21, 1.035))),
        (0.014, 1.1, ((0.0, 0.790), (0.14, 0.780), (0.28, 0.830))),
        (0.014, 1.1, ((0.0, 1.055), (0.14, 1.050), (0.26, 1.005))),
    ),
    24: (
        (0.022, 0.8, ((0.0, 0.810), (0.14, 0.805), (0.27, 0.850))),
        (0.022, 0.8, ((0.0, 1.025), (0.15, 1.015), (0.26, 0.970))),
        (0.018, 0.8, ((0.365, 0.860), (0.39, 0.910), (0.37, 0.960))),
    ),
    26: ((0.022, 0.4, ((0.46, 0.810), (0.52, 0.960), (0.50, 1.110))),),
}  # fmt: skip

AGE_LINES = {1: 0.45, 2: 0.35, 4: 0.3, 6: 0.5, 12: 0.55, 15: 0.35, 23: 0.25}
"""Permanent lines: the share of an Action Unit's furrows that age 1 leaves in the resting face."""


_AGE_SHARES = np.array([AGE_LINES.get(au, 0.0) for au in RENDERED_AUS])


@lru_cache(maxsize=160)
def _furrow(level: int, au: int, row: int) -> tuple[slice, slice, Array]:
    """Return where one unit's furrows lie in the texture and their height (negative is deep)."""
    height, width = texture_shape(level)
    sheet = np.zeros((height, width), np.float32)
    for thick, depth, points in STROKES[au]:
        layer = _groove(points, thick, 1.0 if row else -1.0, level, (height, width))
        sheet -= depth * layer
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
    ridge = (soft - 0.93 * taper) * (2.2 * sigma / 255)
    return np.where(np.abs(ridge) > 0.004, ridge, 0).astype(np.float32)


def _smooth_curve(points: Array) -> Array:
    t = np.linspace(0, len(points) - 1, 24, dtype=np.float32)
    first = np.minimum(t.astype(int), len(points) - 2)
    u = (t - first)[:, None]
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = (padded[first + i] for i in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * p1 - p0 - 3 * p2 + p3) * u**3)


def furrow_weights(who: Identity, weights: Array) -> Array:
    """Return how deep each unit's furrows are: the expression's, plus what age has left."""
    return weights * (0.85 + 0.4 * who.age) + (_AGE_SHARES * max(0.0, who.age - 0.25)).astype(np.float32)


def relief(who: Identity, weights: Array, level: int) -> Array:
    """Return the fine height map of the texture, float32, zero where the skin is smooth."""
    sheet = np.zeros(texture_shape(level), np.float32)
    for row, depths in enumerate(furrow_weights(who, weights).tolist()):
        for au, depth in zip(RENDERED_AUS, depths, strict=True):
            if depth > 0.01 and au in STROKES:
                rows, cols, furrow = _furrow(level, au, row)
                sheet[rows, cols] += min(1.3, depth) * furrow
    return sheet
