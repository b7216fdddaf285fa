"""A hand before the face: a palm and five rounded fingers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.geometry import Array, Frame, unit
from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.data.synthetic.faces.shading import Light
from actfer_env.data.synthetic.faces.texture import skin_colour
from actfer_env.errors import DataError

_RANGES = {"x": (-2, 2), "y": (-2, 2.5), "angle": (-180, 180), "size": (0.5, 1.5), "spread": (0, 1)}

# From the heel of the hand at (0, 0), fingers upwards: (x0, y0, x1, y1, radius, how it turns when spread).
_PARTS: tuple[tuple[float, ...], ...] = (
    (0.0, 0.55, 0.0, -0.25, 0.36, 0.0),
    (-0.20, -0.3, -0.46, -0.82, 0.105, -0.25),
    (0.27, -0.42, 0.31, -1.05, 0.105, 0.22),
    (0.09, -0.46, 0.10, -1.20, 0.115, 0.07),
    (-0.09, -0.46, -0.10, -1.14, 0.115, -0.07),
    (0.25, 0.12, 0.62, -0.35, 0.125, 0.3),
)


@dataclass(frozen=True)
class Hand:
    """Place of a hand that covers the face.

    Attributes:
        x: Centre of the palm in half head widths right of the head's centre, -2 to 2.
        y: The same downwards, -2 to 2.5.
        angle: Degrees, 0 fingers up, positive clockwise, -180 to 180.
        size: Against the person's own hand, 0.5 to 1.5.
        spread: 0 fingers closed to 1 spread.
    """

    x: float = 0.0
    y: float = 1.2
    angle: float = 0.0
    size: float = 1.0
    spread: float = 0.3

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise DataError(f"hand {name}={getattr(self, name)!r}: use {low} to {high}")


@dataclass(frozen=True)
class _Lit:
    """Sizes and colours that all parts of a hand share."""

    skin: Array
    light: Light
    scale: float
    spread: float


def draw_hand(image: Array, hand: Hand, who: Identity, light: Light, frame: Frame) -> Array:
    """Draw a hand into a picture, in place, and return its coverage, uint8 (h, w)."""
    cover = np.zeros(image.shape[:2], np.float32)
    scale = frame.scale * hand.size
    cx, cy = frame.cx + hand.x * frame.scale, frame.cy + hand.y * frame.scale
    angle = np.deg2rad(hand.angle)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    px = ((np.arange(image.shape[1]) - cx) / scale).astype(np.float32)[None, :]
    py = ((np.arange(image.shape[0]) - cy) / scale).astype(np.float32)[:, None]
    lit = _Lit(skin_colour(who), light, scale, hand.spread)
    for x0, y0, x1, y1, radius, fan in _PARTS:
        part = (x0, y0, x1 + fan * hand.spread * 0.8, y1, radius)
        rows, cols = _reach(part, (c, s), px, py)
        x, y = px[:, cols], py[rows]
        if x.size and y.size:
            _capsule(image[rows, cols], cover[rows, cols], (c * x + s * y, c * y - s * x), part, lit)
    return cv2.convertScaleAbs(cover, alpha=255)


def _reach(part: tuple[float, ...], turn: tuple[float, float], px: Array, py: Array) -> tuple[slice, slice]:
    """Return the rows and columns of the picture that a part of the hand and its shadow can touch."""
    (ax, ay, bx, by, radius), (c, s) = part, turn
    far = radius + 0.12
    spans = []
    for axis, ends in ((py[:, 0], (s * ax + c * ay, s * bx + c * by)), (px[0], (c * ax - s * ay, c * bx - s * by))):
        spans.append(slice(*np.searchsorted(axis, (min(ends) - far, max(ends) + far)).tolist()))
    return spans[0], spans[1]


def _capsule(image: Array, cover: Array, axes: tuple[Array, Array], part: tuple[float, ...], lit: _Lit) -> None:
    (x, y), (ax, ay, bx, by, radius) = axes, part
    light, scale = lit.light, lit.scale
    dx, dy = bx - ax, by - ay
    along = unit(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy))
    wide = radius * (1 - 0.16 * along)
    offset = np.sqrt((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
    mask = unit((wide - offset) * scale + 0.5)
    side = ((x - ax) * dy - (y - ay) * dx) / np.float32(np.hypot(dx, dy)) / wide
    height = np.sqrt(np.maximum(1 - (offset / wide) ** 2, 0))
    toward = light.vector()
    glow = light.ambient + light.key * np.maximum(0.3 + 0.6 * height * toward[2] - 0.3 * side * toward[0], 0.05)
    nail = 1 + 0.1 * unit(1 - np.abs(along - 0.97) * 14) * (radius < 0.13)
    knuckle = 1 - 0.12 * unit(1 - np.abs(np.abs(along - 0.5) - 0.12) * 30) * (radius < 0.13)
    shade = np.sqrt(glow) * nail * knuckle * (0.72 + 0.28 * np.minimum(height * 1.6, 1))
    colour = np.minimum(lit.skin * np.array([1.0, 0.94, 0.92], np.float32) * shade[..., None], 255)
    halo = unit(1 - np.maximum(offset - wide, 0) * 9) * 0.22
    patch = image * (1 - halo)[..., None]
    patch += mask[..., None] * (colour - patch)
    image[:] = patch.astype(np.uint8)
    np.maximum(cover, mask, out=cover)
