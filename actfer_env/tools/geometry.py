"""Similarity transforms and boxes.

Points are float arrays (n, 2) of (x, y). A transform is a float array (2, 3) that maps column vectors
(x, y, 1). Pixel coordinates are continuous: the image spans [0, width] x [0, height].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actfer_env.boxes import iou  # noqa: F401  (part of this module's names)

Array = NDArray[np.float64]
Rows = Sequence[Sequence[float]]
"""A transform as two rows of three plain floats: on so few numbers NumPy's calls take most of the time."""


def similarity(source: ArrayLike, target: ArrayLike) -> Array:
    """Return the least-squares similarity transform (rotation, one scale, shift) from source to target points.

    The closed form of Umeyama (1991), without reflection.

    Args:
        source: (n, 2) points, n >= 2.
        target: (n, 2) points.

    Returns:
        Transform (2, 3).

    Raises:
        ValueError: the source points are not finite, or coincide.
    """
    src, dst = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if not np.isfinite(src).all():
        raise ValueError("the points are not finite: no similarity transform is determined by them")
    src_mean, dst_mean = src.mean(0), dst.mean(0)
    spread = float(((src - src_mean) ** 2).sum())
    if spread < 1e-12:
        raise ValueError("the points coincide: no similarity transform is determined by them")
    # In the plane the optimal rotation and scale are one complex factor.
    a, b = _complex(src - src_mean), _complex(dst - dst_mean)
    factor = np.vdot(a, b) / spread
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, dst_mean - linear @ src_mean])


def invert(transform: ArrayLike) -> Array:
    """Return the inverse of an affine transform (2, 3).

    Args:
        transform: Affine transform, float (2, 3).

    Returns:
        The inverse, float64 (2, 3).
    """
    matrix = np.asarray(transform, np.float64)
    inverse = np.empty((2, 3))
    inverse[:, :2] = linear = np.linalg.inv(matrix[:, :2])
    inverse[:, 2] = -linear @ matrix[:, 2]
    return inverse


def compose(outer: ArrayLike, inner: ArrayLike) -> Array:
    """Return the transform that applies `inner` first and `outer` second.

    Args:
        outer: Affine transform that is applied second, float (2, 3).
        inner: Affine transform that is applied first, float (2, 3).

    Returns:
        Their product, float64 (2, 3).
    """
    first, second = np.asarray(inner, np.float64), np.asarray(outer, np.float64)
    product = np.empty((2, 3))
    product[:, :2] = second[:, :2] @ first[:, :2]
    product[:, 2] = second[:, :2] @ first[:, 2] + second[:, 2]
    return product


def apply(transform: ArrayLike, points: ArrayLike) -> Array:
    """Return the transformed points (n, 2).

    Args:
        transform: Affine transform, float (2, 3).
        points: Points (x, y), float (n, 2).

    Returns:
        The points, float64 (n, 2).
    """
    matrix = np.asarray(transform, np.float64)
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def inverse_rows(rows: Rows) -> Rows:
    """Return the inverse of an affine transform in plain floats: ten times as fast as `invert`, equal but for rounding.

    Args:
        rows: Affine transform as two rows of three floats.

    Returns:
        The inverse, as two rows.

    Raises:
        ZeroDivisionError: it has none.
    """
    (a, b, c), (d, e, f) = rows
    if abs(a) >= abs(d):  # elimination with the larger pivot
        factor = d / a
        rest = e - factor * b
        r, s = -factor / rest, 1.0 / rest
        p, q = (1.0 - b * r) / a, -b * s / a
    else:
        factor = a / d
        rest = b - factor * e
        r, s = 1.0 / rest, -factor / rest
        p, q = -e * r / d, (1.0 - e * s) / d
    return (p, q, -(p * c + q * f)), (r, s, -(r * c + s * f))


def corners_under(rows: Rows, box: Sequence[float]) -> list[tuple[float, float]]:
    """Return where an affine transform takes the corners of a box, clockwise from the top left; plain floats.

    Args:
        rows: Affine transform as two rows of three floats.
        box: Corners (x1, y1, x2, y2).
    """
    (a, b, c), (d, e, f) = rows
    x1, y1, x2, y2 = box
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]


def scale_of(transform: ArrayLike) -> float:
    """Return the factor by which a similarity transform enlarges lengths.

    Args:
        transform: Similarity transform, float (2, 3).

    Returns:
        The factor, at least 0.
    """
    return float(np.sqrt(abs(np.linalg.det(np.asarray(transform, np.float64)[:, :2]))))


def box_to_transform(box: Sequence[float], width: float, height: float) -> Array:
    """Return the transform that maps the box (x1, y1, x2, y2) onto the rectangle [0, width] x [0, height].

    Args:
        box: Corners (x1, y1, x2, y2), with x1 < x2 and y1 < y2.
        width: Width of the rectangle.
        height: Height of the rectangle.

    Returns:
        The transform, float64 (2, 3).
    """
    x1, y1, x2, y2 = box
    sx, sy = width / (x2 - x1), height / (y2 - y1)
    return np.array([[sx, 0.0, -x1 * sx], [0.0, sy, -y1 * sy]])


def corners(box: Sequence[float]) -> Array:
    """Return the four corners (4, 2) of a box, clockwise from the top left.

    Args:
        box: Box (x1, y1, x2, y2), in any coordinates.

    Returns:
        The corners, float64 (4, 2).
    """
    x1, y1, x2, y2 = box
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def polygon_overlap(polygon: Sequence[Sequence[float]], width: float, height: float) -> float:
    """Return the share, in [0, 1], of a convex polygon's area that lies inside [0, width] x [0, height].

    Args:
        polygon: Corners (x, y) of the polygon in order: a list, or float (n, 2).
        width: Width of the rectangle.
        height: Height of the rectangle.

    Returns:
        The share, 0 to 1.
    """
    if all(0 <= x <= width and 0 <= y <= height for x, y in polygon):
        return 1.0
    points = np.asarray(polygon, np.float64)
    whole = _area(points)
    for axis, bound, keep_below in ((0, 0.0, False), (0, width, True), (1, 0.0, False), (1, height, True)):
        points = _clip(points, axis, bound, keep_below)
    return float(np.clip(_area(points) / whole, 0.0, 1.0)) if whole > 0 else 0.0


def _complex(points: Array) -> NDArray[np.complex128]:
    return points[:, 0] + 1j * points[:, 1]


def _area(points: Array) -> float:
    if len(points) < 3:
        return 0.0
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _clip(points: Array, axis: int, bound: float, keep_below: bool) -> Array:
    """One step of Sutherland-Hodgman clipping."""
    sign = 1.0 if keep_below else -1.0
    kept: list[Array] = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        a, b = sign * (bound - start[axis]), sign * (bound - end[axis])
        if a >= 0:
            kept.append(start)
        if (a > 0 > b) or (a < 0 < b):
            kept.append(start + (end - start) * (a / (a - b)))
    return np.array(kept).reshape(-1, 2)
