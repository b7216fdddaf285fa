"""The head: an ellipsoid whose outline and depth are bent by smooth analytic bumps, and how a camera sees it.

Units are half head widths (about 7.5 cm). Every layer of the face lives on one chart of the head, *face
coordinates* ``(x, y)``: x to the viewer's right, y down, (0, 0) between the eyes. They are a perspective view
of the unit sphere from behind the head: they hold the ears too, and near the middle they agree with a frontal
photograph. The way from a pixel to the chart needs no mesh: the ray is intersected with the ellipsoid in
closed form, and the outline and depth found there bend the ray for the next round. A few rounds converge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike

from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.errors import DataError

VIEWPOINT = 2.2
HALF_HEIGHT = 1.5
HALF_DEPTH = 1.25
RANGE_X, RANGE_Y = 1.62, 2.25
GRID_W, GRID_H = 80, 112
_MIN_Z = -0.42

Array = np.ndarray


@dataclass(frozen=True)
class Pose:
    """Head pose in degrees.

    Attributes:
        yaw: -35 to 35, positive turns the face towards the viewer's right.
        pitch: -25 to 25, positive looks down.
        roll: -60 to 60, positive turns clockwise in the picture.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def __post_init__(self) -> None:
        """Refuse angles out of range."""
        for name, limit in (("yaw", 35), ("pitch", 25), ("roll", 60)):
            if not abs(getattr(self, name)) <= limit:
                raise DataError(f"pose {name}={getattr(self, name)!r}: use -{limit} to {limit} degrees")

    def matrix(self) -> Array:
        """Return the rotation from head to camera axes (x right, y down, z towards the viewer)."""
        angles = np.deg2rad([self.yaw, self.pitch, self.roll])
        (cy, cp, cr), (sy, sp, sr) = np.cos(angles).tolist(), np.sin(angles).tolist()
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return (tilt @ turn @ nod).astype(np.float32)


@dataclass(frozen=True)
class Frame:
    """Place of the head in a picture: `scale` pixels per unit, head centre at (cx, cy), picture size."""

    width: int
    height: int
    scale: float
    cx: float
    cy: float


@dataclass(frozen=True)
class View:
    """View of the camera: face coordinates, and the signed distance to the outline in pixels."""

    x: Array
    y: Array
    distance: Array


@lru_cache(maxsize=1)
def grid() -> tuple[Array, Array]:
    """Return the coarse chart's coordinates, two (GRID_H, GRID_W) arrays at cell centres."""
    return tuple(np.broadcast_arrays(*grid_axes()))  # type: ignore[return-value]


@lru_cache(maxsize=1)
def grid_axes() -> tuple[Array, Array]:
    """Return the coarse chart's coordinates as a row of x and a column of y: what splits into both costs less."""
    xs = ((np.arange(GRID_W, dtype=np.float32) + 0.5) / GRID_W * 2 - 1) * RANGE_X
    ys = ((np.arange(GRID_H, dtype=np.float32) + 0.5) / GRID_H * 2 - 1) * RANGE_Y
    return xs[None, :], ys[:, None]


def direction(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return the unit-sphere direction of chart points."""
    k = VIEWPOINT
    u, v = x / (1 + k), y / (HALF_HEIGHT * (1 + k))
    r2 = u * u + v * v
    root = np.sqrt(np.maximum(k * k * r2 * r2 - (1 + r2) * (k * k * r2 - 1), 0))
    z = np.maximum((root - k * r2) / (1 + r2), _MIN_Z)
    return u * (k + z), v * (k + z), z


@lru_cache(maxsize=1)
def grid_direction() -> tuple[Array, Array, Array]:
    """Return the directions of the coarse chart."""
    return direction(*grid())


def bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """Return a smooth bell of height 1 at (cx, cy): a rational power, free of transcendental functions."""
    dx, dy = (x - cx) * (0.125**0.5 / sx), (y - cy) * (0.125**0.5 / sy)
    return _fourth(dx * dx + (1 + dy * dy))


def bell(x: Array, cx: float, sx: float) -> Array:
    """Return a smooth bell of one variable with height 1 at cx."""
    dx = (x - cx) * (0.125**0.5 / sx)
    return _fourth(1 + dx * dx)


def _fourth(q: Array) -> Array:
    """Return q to the power of -4; it overwrites q."""
    q *= q
    q *= q
    return np.reciprocal(q, out=q)


def pair(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """Return a mirrored pair of bells at (+-cx, cy)."""
    return bump(np.abs(x), y, cx, cy, sx, sy)


def unit(value: Array) -> Array:
    """Return the value limited to 0..1 (cheaper than `numpy.clip` on small arrays)."""
    return value.clip(0, 1)


def limit(value: Array, low: float, high: float) -> Array:
    """Return the value limited to a range, as `numpy.clip` does, at half its overhead."""
    return value.clip(low, high)


def within(value: float, high: int) -> int:
    """Return the value as a whole number from 0 to `high`."""
    return int(min(max(value, 0), high))


def step(edge0: float, edge1: float, value: Array) -> Array:
    """Return a smooth step from 0 at `edge0` to 1 at `edge1`."""
    t = unit((value - edge0) * (1 / (edge1 - edge0)))
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Anatomy:
    """Positions of one identity's features, in face coordinates."""

    eye_x: float
    eye_y: float
    eye_w: float
    eye_h: float
    brow_y: float
    nose_y: float
    nose_w: float
    mouth_y: float
    mouth_w: float
    chin_y: float

    @classmethod
    def of(cls, who: Identity) -> Anatomy:
        """Derive the positions from the identity's offsets."""
        return cls(
            eye_x=0.428 + 0.03 * who.eye_spacing + 0.015 * who.width,
            eye_y=-0.048,
            eye_w=0.222 + 0.016 * who.eye_size,
            eye_h=1.0 + 0.18 * who.eye_size - 0.1 * who.age,
            brow_y=-0.315 - 0.035 * who.brow_height,
            nose_y=0.502 + 0.05 * who.nose_length,
            nose_w=0.225 + 0.045 * who.nose_width,
            mouth_y=0.882 + 0.035 * who.nose_length + 0.02 * who.chin,
            mouth_w=0.375 + 0.035 * who.lip_width,
            chin_y=1.42 + 0.05 * who.chin,
        )


@lru_cache(maxsize=64)
def base_surface(who: Identity) -> Array:
    """Return the neutral head of one person: x outline, y outline, depth, (GRID_H, GRID_W, 3)."""
    x, y = grid_axes()
    _, dy, dz = grid_direction()
    hair = hair_thickness(who, x, y)
    right = x[:, GRID_W // 2 :]  # the bones are the same on both sides
    half = _skull(who, right, y) + _nose(who, right, y) + _lower_face(who, right, y)
    depth = np.concatenate([half[:, ::-1], half], axis=1) + HALF_DEPTH * dz * hair
    hair += 1
    return cv2.merge([_outline(who, dy) * hair, _crown() * hair, depth])


@lru_cache(maxsize=1)
def _crown() -> Array:
    return 1 - 0.05 * step(-0.2, -0.9, grid_direction()[1])


def _outline(who: Identity, dy: Array) -> Array:
    base = 1 + 0.05 * who.width
    jaw = (0.115 - 0.085 * who.jaw - 0.03 * who.cheeks) * step(0.25, 0.95, dy)
    crown = 0.2 * step(-0.25, -0.95, dy)
    corner = (0.015 + 0.035 * who.jaw + 0.03 * who.cheeks) * bell(dy, 0.62, 0.2)
    temple = 0.035 * bell(dy, -0.22, 0.2)
    return base - jaw + corner - temple + crown


def _skull(who: Identity, x: Array, y: Array) -> Array:
    a = Anatomy.of(who)
    brow = (0.05 - 0.015 * who.brow_arch) * pair(x, y, 0.33, a.brow_y + 0.03, 0.24, 0.085)
    socket = -0.125 * pair(x, y, a.eye_x - 0.03, -0.02, 0.2, 0.13)
    inner = -0.05 * pair(x, y, 0.2, -0.01, 0.07, 0.09)
    ball = 0.075 * pair(x, y, a.eye_x, 0.0, 0.135, 0.085)
    forehead = 0.05 * bump(x, y, 0, -0.72, 0.5, 0.3)
    temple = -0.06 * pair(x, y, 0.9, -0.3, 0.18, 0.3)
    bags = -(0.006 + 0.02 * who.age) * pair(x, y, a.eye_x - 0.04, 0.2, 0.16, 0.05)
    return brow + socket + inner + ball + forehead + temple + bags


def _nose(who: Identity, x: Array, y: Array) -> Array:
    a = Anatomy.of(who)
    along = unit((y + 0.12) / (a.nose_y + 0.12))
    rise = (0.085 + 0.03 * who.nose_bridge) * step(-0.3, 0.1, y) + (0.19 + 0.03 * who.nose_bridge) * along
    half = 0.066 + 0.036 * along * along * (1 + 0.35 * who.nose_width)
    under = 1 - 0.9 * step(a.nose_y - 0.01, a.nose_y + 0.2, y)
    ridge = rise * _profile(x / half) * under
    tip = 0.07 * bump(x, y, 0, a.nose_y - 0.015, 0.09 + 0.02 * who.nose_width, 0.08)
    wing = 0.15 * pair(x, y, a.nose_w * 0.76, a.nose_y + 0.04, 0.055, 0.06)
    crease = -0.055 * pair(x, y, a.nose_w + 0.05, a.nose_y + 0.05, 0.04, 0.08)
    return ridge + tip + wing + crease


def _profile(t: Array) -> Array:
    q = 1 + t * t * 0.25
    return 1 / (q * q)


def _lower_face(who: Identity, x: Array, y: Array) -> Array:
    a = Anatomy.of(who)
    cheek = (0.07 + 0.05 * who.cheeks) * pair(x, y, 0.52, 0.46, 0.24, 0.24)
    bone = (0.06 - 0.02 * who.cheeks) * pair(x, y, 0.66, 0.26, 0.2, 0.13)
    fold = -(0.012 + 0.03 * who.age) * pair(x, y, 0.36, 0.79, 0.05, 0.16)
    muzzle = 0.11 * bump(x, y, 0, a.mouth_y - 0.02, 0.3, 0.24)
    muzzle -= 0.03 * bump(x, y, 0, a.mouth_y - 0.15, 0.03, 0.07)
    sulcus = -0.055 * bump(x, y, 0, a.mouth_y + 0.245, 0.17, 0.06)
    chin = (0.2 + 0.04 * who.chin) * bump(x, y, 0, a.chin_y - 0.02, 0.2 + 0.06 * who.jaw, 0.15)
    jowl = 0.04 * who.age * pair(x, y, 0.5, 1.3, 0.15, 0.15)
    return cheek + bone + fold + muzzle + sulcus + chin + jowl


HAIR_VOLUME = {
    "bald": 0.0, "buzz": 0.015, "short": 0.08, "side": 0.1, "fringe": 0.09, "bob": 0.1, "long": 0.09,
    "afro": 0.3, "receding": 0.035, "bun": 0.03,
}  # fmt: skip


def hairline(who: Identity, x: Array) -> Array:
    """Return the height (face y) of the hairline above each x; smaller is higher on the head."""
    ax = np.abs(x)
    base = {"receding": -1.42, "fringe": -0.56, "bald": -9.0}.get(who.hair_style, -1.06)
    line = base - 0.05 * who.age + 0.2 * ax * ax
    if who.hair_style == "receding":
        line = line + 0.35 * bell(x, 0, 0.15)
    if who.hair_style in ("side", "bob"):
        line = line + 0.3 * step(0.25, 0.8, x if who.seed % 2 else -x)
    temple = step(0.62, 1.02, ax)
    side = step(1.04, 1.22, ax)
    line = line + temple * (np.maximum(line, -0.42) - line)
    return line + side * (sideburn(who) - line)


def sideburn(who: Identity) -> float:
    """Return how far down (face y) the hair reaches beside the ear."""
    low = {"long": 1.0, "bob": 0.85, "bald": -9.0, "bun": 0.0, "afro": 0.05, "receding": 0.05}
    return low.get(who.hair_style, 0.15)


def hair_thickness(who: Identity, x: Array, y: Array) -> Array:
    """Return how far the hair stands off the skull, as a share of its radius."""
    volume = HAIR_VOLUME[who.hair_style]
    ramp = step(-0.02, 0.4 + volume, hairline(who, x) - y)
    return volume * cv2.GaussianBlur(ramp.astype(np.float32), (0, 0), 2.0 + 8 * volume)


def trace(layers: Array, rotation: Array, frame: Frame, stride: int = 4) -> View:
    """Find, for every `stride`-th pixel of a frame, the chart point that it shows."""
    q, ray = _rays(rotation, frame, stride)
    rounds = 3 + min(4, int(9 * (abs(ray[0]) + abs(ray[1]))))
    wide: Array | float = 1.0
    tall: Array | float = 1.0
    depth: Array | float = 0.0
    sampled: Array | None = None
    for number in range(rounds):
        dx, dy, dz, miss = _hit(q, ray, wide, tall, depth)
        x, y = _chart(dx, dy, dz)
        if number == rounds - 1:
            break
        fresh = sample(layers, x, y)
        sampled = fresh if sampled is None else sampled * 0.4 + fresh * 0.6
        wide, tall, depth = sampled[..., 0], sampled[..., 1], sampled[..., 2]
    return View(x, y, (1 - np.sqrt(miss)) * frame.scale)


def _rays(rotation: Array, frame: Frame, stride: int) -> tuple[Array, Array]:
    cols, rows = -(-frame.width // stride), -(-frame.height // stride)
    px = ((np.arange(cols, dtype=np.float32) + 0.5) * stride - 0.5 - frame.cx) / frame.scale
    py = ((np.arange(rows, dtype=np.float32) + 0.5) * stride - 0.5 - frame.cy) / frame.scale
    inverse = rotation.T
    q = inverse[:, 0, None, None] * px[None, None, :] + inverse[:, 1, None, None] * py[None, :, None]
    return q.astype(np.float32), inverse[:, 2].astype(np.float32)


def _hit(q: Array, ray: Array, wide: Array | float, tall: Array | float, depth: Array | float) -> tuple:
    ex, ey = 1 / np.asarray(wide, np.float32), 1 / (HALF_HEIGHT * np.asarray(tall, np.float32))
    qx, qy, qz = q[0] * ex, q[1] * ey, (q[2] - depth) * np.float32(1 / HALF_DEPTH)
    rx, ry, rz = ray[0] * ex, ray[1] * ey, ray[2] / np.float32(HALF_DEPTH)
    rr = rx * rx + ry * ry + rz * rz
    qr = (qx * rx + qy * ry + qz * rz) / rr
    miss = np.maximum(qx * qx + qy * qy + qz * qz - qr * qr * rr, 0)
    t = np.sqrt(np.maximum(1 - miss, 0) / rr) - qr
    shrink = 1 / np.sqrt(np.maximum(miss, 1))
    return (qx + t * rx) * shrink, (qy + t * ry) * shrink, (qz + t * rz) * shrink, miss


def _chart(dx: Array, dy: Array, dz: Array) -> tuple[Array, Array]:
    factor = (1 + VIEWPOINT) / (VIEWPOINT + np.maximum(dz, _MIN_Z))
    return dx * factor, dy * (factor * HALF_HEIGHT)


def sample(layers: Array, x: Array, y: Array) -> Array:
    """Look up a chart array (any cell count) at face coordinates, bilinearly."""
    height, width = layers.shape[:2]
    mx = (x / RANGE_X + 1) * (width / 2) - 0.5
    my = (y / RANGE_Y + 1) * (height / 2) - 0.5
    mx, my = mx.astype(np.float32, copy=False), my.astype(np.float32, copy=False)
    return cv2.remap(layers, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def positions(layers: Array, x: ArrayLike, y: ArrayLike) -> Array:
    """Return the 3-D points of chart points, (..., 3)."""
    xs, ys = np.atleast_2d(np.asarray(x, np.float32)), np.atleast_2d(np.asarray(y, np.float32))
    dx, dy, dz = direction(xs, ys)
    here = sample(layers, xs, ys)
    return np.stack([dx * here[..., 0], HALF_HEIGHT * dy * here[..., 1], HALF_DEPTH * dz + here[..., 2]], axis=-1)


def project(points: Array, rotation: Array, frame: Frame) -> Array:
    """Return pixel coordinates (n, 2) and depth as (n, 3) of 3-D head points."""
    x, y, z = points.reshape(-1, 3).T
    across, down, near = (a * x + b * y + c * z for a, b, c in rotation.tolist())
    return np.stack([across * frame.scale + frame.cx, down * frame.scale + frame.cy, near], axis=-1)
