"""Light on the head: diffuse with a soft, reddish terminator, sky, dark cavities and skin gloss."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from actfer_env.data.faces.geometry import HALF_DEPTH, HALF_HEIGHT, Array, grid_direction, limit
from actfer_env.errors import DataError

_RANGES = {
    "azimuth": (-80, 80), "elevation": (-30, 75), "key": (0, 2), "ambient": (0.05, 1), "warmth": (-1, 1),
    "gloss": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Light:
    """One key light and a sky.

    Attributes:
        azimuth: degrees, -80 (viewer's left) to 80.
        elevation: degrees above the camera, -30 to 75.
        key: strength of the key light, 0 to 2.
        ambient: strength of the sky, 0.05 to 1.
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
        az, el = np.deg2rad([self.azimuth, self.elevation])
        return np.array([np.sin(az) * np.cos(el), -np.sin(el), np.cos(az) * np.cos(el)], np.float32)

    def colours(self) -> tuple[Array, Array]:
        """Return the key's and the sky's colour."""
        warm = np.array([0.09, 0.0, -0.11], np.float32) * self.warmth
        return 1 + warm, 1 - 0.6 * warm


def normals(layers: Array) -> tuple[Array, Array]:
    """Return unit normals (head axes) and cavity, -1 hollow to 1 ridge, on the coarse chart."""
    dx, dy, dz = grid_direction()
    wide, tall, depth = cv2.split(layers)
    point = cv2.merge([dx * wide, dy * tall * HALF_HEIGHT, dz * HALF_DEPTH + depth])
    ax, ay, az = cv2.split(cv2.Sobel(point, cv2.CV_32F, 1, 0, ksize=3))
    bx, by, bz = cv2.split(cv2.Sobel(point, cv2.CV_32F, 0, 1, ksize=3))
    n = np.empty((3, *depth.shape), np.float32)
    for axis, (a, b, c, d) in zip(n, ((ay, bz, az, by), (az, bx, ax, bz), (ax, by, ay, bx)), strict=True):
        np.subtract(a * b, c * d, out=axis)
    n /= np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + np.float32(1e-12))
    return n, limit((depth - cv2.blur(depth, (9, 9))) * 14, -1, 1)


def shade(layers: Array, rotation: Array, light: Light) -> tuple[Array, Array]:
    """Return the light's factor per channel (gamma space) and the gloss to add, on the coarse chart."""
    n, cavity = normals(layers)
    toward = (rotation.T @ light.vector()).astype(np.float32)
    up = (rotation.T @ np.array([0, -1, 0], np.float32)).astype(np.float32)
    facing = toward[0] * n[0] + toward[1] * n[1] + toward[2] * n[2]
    sky = 0.83 + 0.17 * (up[0] * n[0] + up[1] * n[1] + up[2] * n[2])
    occlusion = limit(1 + 0.42 * np.minimum(cavity, 0.25), 0.4, 1.1)
    key_colour, sky_colour = light.colours()
    ambient, direct = light.ambient * sky * occlusion, light.key * (0.55 + 0.45 * occlusion)
    channels = []
    for key, fill, wrap in zip(key_colour, sky_colour, (0.32, 0.2, 0.16), strict=True):
        diffuse = np.maximum(facing + np.float32(wrap), 0) * np.float32(key / (1 + wrap))
        channels.append(direct * diffuse + fill * ambient)
    factor = cv2.merge(channels)
    return np.sqrt(factor), _gloss(n, facing, toward, rotation, light)


def _gloss(n: Array, facing: Array, toward: Array, rotation: Array, light: Light) -> Array:
    half = toward + rotation.T[:, 2]
    half = half / np.sqrt((half * half).sum())
    shine = np.maximum(half[0] * n[0] + half[1] * n[1] + half[2] * n[2], 0)
    broad = shine**2
    broad = broad * broad * broad * broad
    tight = broad * broad * broad
    return light.gloss * light.key * (0.10 * broad + 0.2 * tight) * (facing > 0)
