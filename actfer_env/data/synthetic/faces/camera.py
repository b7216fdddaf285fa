"""A camera that knows nothing of expressions: exposure, sharpness, noise and compression of a finished picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.geometry import Array
from actfer_env.errors import DataError

_CAMERA = {"detail": (0.05, 1), "blur": (0, 8), "noise": (0, 0.2), "exposure": (-4, 3), "jpeg": (5, 100)}


@dataclass(frozen=True)
class Camera:
    """Effects of the optics on the finished picture, in this order (blur acts on the sampled-down picture).

    Attributes:
        exposure: Stops, -4 to 3.
        detail: Share of the resolution that is real, 0.05 to 1: below 1 the picture is sampled down and up.
        blur: Gaussian blur in pixels of the finished picture, 0 to 8.
        noise: Sensor noise at mid grey as a share of full scale, 0 to 0.2; half of it grows with the light.
        jpeg: JPEG quality, 5 to 100; 100 leaves the picture uncompressed.
        seed: Drives the noise.
    """

    exposure: float = 0.0
    detail: float = 1.0
    blur: float = 0.0
    noise: float = 0.01
    jpeg: int = 92
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, (low, high) in _CAMERA.items():
            if not low <= getattr(self, name) <= high:
                raise DataError(f"camera {name}={getattr(self, name)!r}: use {low} to {high}")

    @classmethod
    def sample(cls, rng: np.random.Generator, poor: float = 0.3) -> Camera:
        """Draw a camera; a share `poor` of them keeps less detail than a zoom asks for."""
        bad = bool(rng.random() < poor)
        draw = rng.random(5)
        return cls(
            exposure=float(1.2 * (draw[0] - 0.55)),
            detail=float(0.15 + 0.06 * draw[1]) if bad else float(0.75 + 0.25 * draw[1]),
            blur=float(0.8 + 0.8 * draw[2]) if bad else float(0.6 * draw[2]),
            noise=float(0.045 + 0.045 * draw[3]) if bad else float(0.002 + 0.014 * draw[3]),
            jpeg=int(18 + 22 * draw[4]) if bad else int(82 + 16 * draw[4]),
            seed=int(rng.integers(2**31)),
        )

    def shoot(self, image: Array) -> Array:
        """Return the picture that this camera takes of a rendered scene, uint8."""
        out = _soften(_expose(image, self.exposure), self.detail, self.blur)
        if self.noise > 0:
            out = _grain(out, self.noise, self.seed)
        return _compress(out, int(self.jpeg))


def _expose(image: Array, stops: float) -> Array:
    if stops == 0:
        return image
    ramp = np.arange(256, dtype=np.float64) / 255
    linear = ramp * ramp * 2.0**stops
    shoulder = np.where(linear > 0.7, 0.7 + 0.3 * (1 - 1 / (1 + (linear - 0.7) / 0.3)), linear)
    return cv2.LUT(image, np.round(255 * np.sqrt(np.clip(shoulder, 0, 1))).astype(np.uint8))


def _soften(image: Array, detail: float, blur: float) -> Array:
    """Sample down, blur the few pixels that are left, and sample up."""
    height, width = image.shape[:2]
    small = (max(4, round(width * detail)), max(4, round(height * detail)))
    how = cv2.INTER_AREA if detail < 0.5 else cv2.INTER_LINEAR  # by area costs eight times as much
    out = cv2.resize(image, small, interpolation=how) if detail < 1 else image
    if blur * detail > 0.05:
        out = cv2.GaussianBlur(out, (0, 0), blur * detail)
    return cv2.resize(out, (width, height), interpolation=cv2.INTER_CUBIC) if detail < 1 else out


def _grain(image: Array, amount: float, seed: int) -> Array:
    """Add noise: one sheet for all seeds, which cut it elsewhere; stronger in the light."""
    height, width = image.shape[:2]
    top, left = np.random.default_rng(seed).integers(_SHEET, size=2).tolist()
    sheet = _speckles(1 - (-max(height, width) // _SHEET))[top : top + height, left : left + width]
    speckle = cv2.LUT(image, _GAIN)
    cv2.multiply(sheet, speckle, dst=speckle, scale=255 * amount / _UNIT**2)
    return cv2.add(image, speckle, dtype=cv2.CV_8U)


_SHEET, _UNIT = 384, 256
_GAIN = np.rint(_UNIT * np.sqrt(0.5 + np.arange(256) / 255)).astype(np.int16)


@lru_cache(maxsize=2)
def _speckles(times: int) -> Array:
    """Return Gaussian noise whose standard deviation is `_UNIT`, repeated so many times each way."""
    sheet = np.random.default_rng(1).standard_normal((_SHEET, _SHEET, 3), dtype=np.float32)
    return np.tile(np.rint(sheet * _UNIT).astype(np.int16), (times, times, 1))


def _compress(image: Array, quality: int) -> Array:
    if quality >= 100:
        return image
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
