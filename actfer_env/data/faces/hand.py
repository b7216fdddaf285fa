"""A hand before the face: a palm and five rounded fingers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actfer_env.data.faces.geometry import Array, Frame
from actfer_env.data.faces.identity import Identity
from actfer_env.data.faces.shading import Light
from actfer_env.data.faces.texture import skin_colour
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
    """Where a hand covers the face.

    Attributes:
        x: centre of the palm in half head widths right of the head's centre, -2 to 2.
        y: the same downwards, -2 to 2.5.
        angle: degrees, 0 fingers up, positive clockwise, -180 to 180.
        size: against the person's own hand, 0.5 to 1.5.
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
    """What all parts of a hand share."""

    skin: Array
    light: Light
    scale: float
    spread: float


def draw_hand(image: Array, hand: Hand, who: Identity, light: Light, frame: Frame) -> Array:
    """Draw a hand into a picture, in place, and return its coverage, uint8 (h, w)."""
    cover = np.zeros(image.shape[:2], np.float32)
    scale = frame.scale * hand.size
    cx, cy = frame.cx + hand.x * frame.scale, frame.cy + hand.y * frame.scale
    x0, x1 = (int(np.clip(cx + side * 1.5 * scale, 0, image.shape[1])) for side in (-1, 1))
    y0, y1 = (int(np.clip(cy + side * 1.5 * scale, 0, image.shape[0])) for side in (-1, 1))
    if x1 <= x0 or y1 <= y0:
        return np.zeros(image.shape[:2], np.uint8)
    angle = np.deg2rad(hand.angle)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    px = ((np.arange(x0, x1) - cx) / scale).astype(np.float32)[None, :]
    py = ((np.arange(y0, y1) - cy) / scale).astype(np.float32)[:, None]
    patch = image[y0:y1, x0:x1].astype(np.float32)
    lit = _Lit(skin_colour(who), light, scale, hand.spread)
    for part in _PARTS:
        _capsule(patch, cover[y0:y1, x0:x1], (c * px + s * py, c * py - s * px), part, lit)
    image[y0:y1, x0:x1] = np.clip(patch, 0, 255).astype(np.uint8)
    return (cover * 255).astype(np.uint8)


def _capsule(patch: Array, cover: Array, axes: tuple[Array, Array], part: tuple[float, ...], lit: _Lit) -> None:
    (x, y), (ax, ay, bx, by, radius, fan) = axes, part
    bx = bx + fan * lit.spread * 0.8
    light, scale = lit.light, lit.scale
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
    wide = radius * (1 - 0.16 * along)
    offset = np.sqrt((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
    mask = np.clip((wide - offset) * scale + 0.5, 0, 1)
    side = ((x - ax) * dy - (y - ay) * dx) / np.float32(np.hypot(dx, dy)) / wide
    height = np.sqrt(np.maximum(1 - (offset / wide) ** 2, 0))
    toward = light.vector()
    glow = light.ambient + light.key * np.maximum(0.3 + 0.6 * height * toward[2] - 0.3 * side * toward[0], 0.05)
    nail = 1 + 0.1 * np.clip(1 - np.abs(along - 0.97) * 14, 0, 1) * (radius < 0.13)
    knuckle = 1 - 0.12 * np.clip(1 - np.abs(np.abs(along - 0.5) - 0.12) * 30, 0, 1) * (radius < 0.13)
    shade = np.sqrt(glow) * nail * knuckle * (0.72 + 0.28 * np.minimum(height * 1.6, 1))
    colour = np.minimum(lit.skin * np.array([1.0, 0.94, 0.92], np.float32) * shade[..., None], 255)
    halo = np.clip(1 - np.maximum(offset - wide, 0) * 9, 0, 1) * 0.22
    patch *= (1 - halo)[..., None]
    patch += mask[..., None] * (colour - patch)
    np.maximum(cover, mask, out=cover)
