"""Light on the head: diffuse with a soft, reddish terminator, sky, dark cavities and skin gloss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.geometry import HALF_DEPTH, HALF_HEIGHT, Array, grid_direction, limit
from actfer_env.errors import DataError

_RANGES = {
    "azimuth": (-80, 80), "elevation": (-30, 75), "key": (0, 2), "ambient": (0.05, 1), "warmth": (-1, 1),
    "gloss": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Light:
    """One key light and a sky.

    Attributes:
        azimuth: Degrees, -80 (viewer's left) to 80.
        elevation: Degrees above the camera, -30 to 75.
        key: Strength of the key light, 0 to 2.
        ambient: Strength of the sky, 0.05 to 1.
        warmth: -1 bluish to 1 reddish key light.
        gloss: 0 matt to 1 oily skin.
    """

    azimuth: float = -28.0
    elevation: float = 32.0
    key: float = 0.9
    ambient: float = 0.42
    warmth: float = 0.1
    gloss: float = 0.4

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise DataError(f"light {name}={getattr(self, name)!r}: use {low} to {high}")

    def vector(self) -> Array:
        """Return the direction to the key light in camera axes."""
        return _vector(self.azimuth, self.elevation).copy()

    def colours(self) -> tuple[Array, Array]:
        """Return the key's and the sky's colour."""
        warm = np.array([0.09, 0.0, -0.11], np.float32) * self.warmth
        return 1 + warm, 1 - 0.6 * warm


@lru_cache(maxsize=64)
def _vector(azimuth: float, elevation: float) -> Array:
    az, el = np.deg2rad([azimuth, elevation])
    return np.array([np.sin(az) * np.cos(el), -np.sin(el), np.cos(az) * np.cos(el)], np.float32)


def normals(layers: Array) -> tuple[tuple[Array, Array, Array], Array]:
    """Return unit normals (one array for each head axis) and cavity, -1 hollow to 1 ridge, on the coarse chart."""
    dx, dy, dz = grid_direction()
    wide, tall, depth = np.ascontiguousarray(layers.transpose(2, 0, 1))  # a quarter of `cv2.split`'s time
    point = (dx * wide, dy * tall * HALF_HEIGHT, dz * HALF_DEPTH + depth)
    ax, ay, az = (cv2.Sobel(axis, cv2.CV_32F, 1, 0, ksize=3) for axis in point)
    bx, by, bz = (cv2.Sobel(axis, cv2.CV_32F, 0, 1, ksize=3) for axis in point)
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    shrink = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
    return (nx * shrink, ny * shrink, nz * shrink), limit((depth - cv2.blur(depth, (9, 9))) * 14, -1, 1)


def _along(n: tuple[Array, Array, Array], way: Array) -> Array:
    return way[0] * n[0] + way[1] * n[1] + way[2] * n[2]


def shade(layers: Array, rotation: Array, light: Light) -> tuple[Array, Array]:
    """Return the light's factor per channel (gamma space) and the gloss to add, on the coarse chart."""
    n, cavity = normals(layers)
    toward = rotation.T @ light.vector()
    half = toward + rotation[2]
    half /= np.sqrt((half * half).sum())
    facing = _along(n, toward)
    sky = 0.83 - 0.17 * _along(n, rotation[1])
    occlusion = limit(1 + 0.42 * np.minimum(cavity, 0.25), 0.4, 1.1)
    key_colour, sky_colour = light.colours()
    ambient, direct = light.ambient * sky * occlusion, light.key * (0.55 + 0.45 * occlusion)
    channels = []
    for key, fill, wrap in zip(key_colour, sky_colour, (0.32, 0.2, 0.16), strict=True):
        diffuse = np.maximum(facing + np.float32(wrap), 0) * np.float32(key / (1 + wrap))
        channels.append(direct * diffuse + fill * ambient)
    factor = cv2.merge(channels)
    return np.sqrt(factor), _gloss(_along(n, half), light) * (facing > 0)


def _gloss(shine: Array, light: Light) -> Array:
    """Return a broad and a tight highlight, the 8th and the 24th power of how squarely the light is thrown back."""
    broad = np.maximum(shine, 0) ** 2
    broad *= broad
    broad *= broad
    return broad * (0.1 + 0.2 * broad * broad) * (light.gloss * light.key)
