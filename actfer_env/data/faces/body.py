"""What surrounds the face: neck, shoulders, ears, the hair behind the head, and glasses."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from actfer_env.data.faces.geometry import Anatomy, Array, Frame, Pose, positions, project, step
from actfer_env.data.faces.identity import Identity
from actfer_env.data.faces.shading import Light
from actfer_env.data.faces.texture import hair_colour, noise, skin_colour


@dataclass
class Layer:
    """A colour layer with coverage: float32 (h, w, 3) and (h, w), both coarse."""

    colour: Array
    cover: Array

    def over(self, mask: Array, colour: Array) -> None:
        """Lay a colour over what is there."""
        self.colour += mask[..., None] * (colour - self.colour)
        self.cover += mask * (1 - self.cover)


def body_layer(who: Identity, pose: Pose, light: Light, frame: Frame, stride: int) -> Layer:
    """Return everything behind the face, sampled at every `stride`-th pixel."""
    x, y = _body_axes(pose, frame, stride)
    pixel = stride / frame.scale
    layer = Layer(np.zeros((*x.shape, 3), np.float32), np.zeros(x.shape, np.float32))
    lit = _side_light(light)
    _back_hair(layer, who, x, y, pixel)
    _neck(layer, who, pose, x, y, pixel, lit)
    _clothes(layer, who, x, y, pixel, lit)
    _ears(layer, who, pose, x, y, pixel, light)
    return layer


def _body_axes(pose: Pose, frame: Frame, stride: int) -> tuple[Array, Array]:
    cols, rows = -(-frame.width // stride), -(-frame.height // stride)
    px = (((np.arange(cols) + 0.5) * stride - 0.5 - frame.cx) / frame.scale).astype(np.float32)[None, :]
    py = (((np.arange(rows) + 0.5) * stride - 0.5 - frame.cy) / frame.scale).astype(np.float32)[:, None]
    angle = np.deg2rad(pose.roll)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * px + s * py, c * py - s * px


def _side_light(light: Light) -> tuple[float, float, Array]:
    toward = light.vector()
    key, sky = light.colours()
    tint = (light.key * key + light.ambient * sky) / (light.key + light.ambient)
    level = float(np.sqrt(light.ambient + 0.55 * light.key * max(0.0, float(toward[2]) * 0.8 + 0.2)))
    return float(toward[0]) * light.key * 0.45, level, tint.astype(np.float32)


def _soft(distance: Array, pixel: float) -> Array:
    return np.clip(distance / pixel + 0.5, 0, 1)


def _lean(pose: Pose) -> float:
    return 0.3 * float(np.sin(np.deg2rad(pose.yaw)))


def _neck(layer: Layer, who: Identity, pose: Pose, x: Array, y: Array, pixel: float, lit: tuple) -> None:
    half = 0.69 + 0.07 * who.jaw + 1.1 * np.clip(y - 1.55, 0, 0.7) ** 2
    xx = x - _lean(pose) * np.clip(1.9 - y, 0, 1) * -0.35
    t = np.clip(xx / half, -1, 1)
    mask = _soft(half - np.abs(xx), pixel) * (step(0.6, 0.75, y) * (y < 2.6))
    round_ = np.sqrt(1 - 0.85 * t * t) * (1 + lit[0] * t)
    chin = 1.62 + 0.25 * np.sin(np.deg2rad(-pose.pitch))
    shadow = 1 - 0.45 * step(0.55, -0.1, y - chin + 0.25 * t * t)
    cords = 1 - 0.10 * np.clip(1 - np.abs(np.abs(t) - 0.55 + 0.18 * (y - 1.6)) * 7, 0, 1)
    shade = lit[1] * (0.35 + 0.62 * round_) * shadow * cords
    colour = skin_colour(who) * lit[2] * np.clip(shade, 0.08, 1.5)[..., None]
    layer.over(mask, np.minimum(colour, 255))


def _clothes(layer: Layer, who: Identity, x: Array, y: Array, pixel: float, lit: tuple) -> None:
    ax = np.abs(x)
    slope = 1.66 + 0.32 * ax + 0.22 * np.maximum(ax - 1.25, 0) ** 2 + 9 * np.maximum(ax - 2.15, 0) ** 3
    collar = 0.5 * np.clip(1 - (ax / 0.95) ** 2, 0, 1) * (0.5 if who.seed % 3 else 1.0)
    top = slope + collar
    mask = _soft(y - top, pixel)
    folds = noise(np.random.default_rng(who.seed + 3), x.shape, (4, 9))
    shade = lit[1] * (1 + 0.05 * folds) * (0.95 + lit[0] * np.clip(x / 2.4, -1, 1))
    shade = shade * (0.72 + 0.28 * np.clip((y - top) * 5, 0, 1)) * (1 - 0.3 * np.clip(ax - 1.9, 0, 0.5))
    layer.over(mask, np.array(who.cloth, np.float32) * lit[2] * np.clip(shade, 0.1, 1.4)[..., None])


_BACK = {"long": (1.14, 2.5, 0.12), "bob": (1.16, 1.36, 0.2)}


def _back_hair(layer: Layer, who: Identity, x: Array, y: Array, pixel: float) -> None:
    if who.hair_style == "bun":
        bun = 0.42 - np.sqrt(x * x + ((y + 1.62) * 1.15) ** 2)
        layer.over(_soft(bun, 2 * pixel), hair_colour(who) * (0.75 + bun[..., None]))
    if who.hair_style not in _BACK:
        return
    wide, low, wave = _BACK[who.hair_style]
    rng = np.random.default_rng(who.seed + 1)
    streak = noise(rng, x.shape, (6, max(8, x.shape[1] // 2)))
    edge = wide + 0.05 * noise(rng, x.shape, (5, 5)) - wave * step(low - 0.5, low, y)
    edge = edge * np.sqrt(np.clip(1 - (np.minimum(y, 0) / 1.6) ** 2, 0, 1))
    mask = _soft(edge - np.abs(x), 3 * pixel) * (1 - step(low - 0.12, low + 0.06, y + 0.06 * streak))
    inner = 0.55 + 0.4 * step(0.75, 1.15, np.abs(x))
    mask = mask * (y > -1.55)
    layer.over(mask, hair_colour(who) * (inner * np.clip(0.85 + 0.16 * streak, 0.2, 2))[..., None])


def _ears(layer: Layer, who: Identity, pose: Pose, x: Array, y: Array, pixel: float, light: Light) -> None:
    if who.hair_style in _BACK:
        return
    upright = Pose(pose.yaw, pose.pitch, 0)
    turn = float(np.sin(np.deg2rad(pose.yaw)))
    for sign in (-1.0, 1.0):
        anchor = np.array([[sign * (0.955 + 0.05 * who.width), 0.17, -0.12]], np.float32)
        ex, ey, _ = project(anchor, upright.matrix(), Frame(1, 1, 1.0, 0.0, 0.0))[0]
        half = max(0.05, 0.125 - 0.2 * sign * turn)
        u, v = (x - ex - sign * 0.02) / half, (y - ey) / 0.36
        u = u - 0.25 * sign * -v
        radius = np.sqrt(u * u + v * v * (1 + 0.25 * (v > 0)))
        mask = _soft((1 - radius) * half, pixel)
        fold = 1 - 0.32 * step(0.25, 0.0, np.abs(radius - 0.62)) - 0.28 * step(0.45, 0.1, radius)
        side = 1 + 0.45 * light.key * sign * float(light.vector()[0])
        shade = float(np.sqrt(light.ambient + 0.5 * light.key * max(side, 0.1))) * 0.86
        tone = skin_colour(who) * np.array([1.02, 0.9, 0.88], np.float32)
        layer.over(mask, np.minimum(tone * (shade * fold)[..., None], 255))


_GLASSES = {
    "thin": (0.27, 0.20, 0.016, 4.0),
    "thick": (0.28, 0.21, 0.042, 5.0),
    "round": (0.25, 0.25, 0.022, 2.0),
}


def draw_glasses(image: Array, who: Identity, layers: Array, rotation: Array, frame: Frame) -> None:
    """Draw spectacles over a finished face, in place."""
    if who.glasses == "none":
        return
    half_w, half_h, thick, power = _GLASSES[who.glasses]
    a = Anatomy.of(who)
    depth = float(positions(layers, np.float32(0), np.float32(a.brow_y + 0.1))[0, 0, 2]) + 0.03
    dark = np.random.default_rng(who.seed + 2).integers(12, 90, 3)
    rim = tuple(int(v) for v in (dark if who.glasses != "thin" else dark + 60))
    width = max(1, round(thick * frame.scale))
    for sign in (-1.0, 1.0):
        lens = _lens(sign * (a.eye_x + 0.01), half_w, half_h, power, depth)
        path = _path(lens, rotation, frame)
        _tint(image, path)
        cv2.polylines(image, [path], True, rim, width, cv2.LINE_AA, 4)
        arm = np.array(
            [[sign * (a.eye_x + half_w), -0.05, depth - 0.06], [sign * 0.985, -0.06, depth - 0.75]],
            np.float32,
        )
        cv2.polylines(image, [_path(arm, rotation, frame)], False, rim, width, cv2.LINE_AA, 4)
    inner = a.eye_x - half_w + 0.01
    bridge = np.array([[-inner, -0.03, depth], [0, -0.075, depth + 0.02], [inner, -0.03, depth]], np.float32)
    cv2.polylines(image, [_path(bridge, rotation, frame)], False, rim, width, cv2.LINE_AA, 4)


def _lens(cx: float, half_w: float, half_h: float, power: float, depth: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    x = cx + half_w * np.sign(c) * np.abs(c) ** (2 / power)
    y = 0.02 + half_h * np.sign(s) * np.abs(s) ** (2 / power)
    z = depth - 0.16 * np.abs(x) ** 2
    return np.stack([x, y, z], axis=1).astype(np.float32)


def _path(points: Array, rotation: Array, frame: Frame) -> Array:
    return np.round(project(points, rotation, frame)[:, :2] * 16).astype(np.int32)


def _tint(image: Array, path: Array) -> None:
    x, y, w, h = cv2.boundingRect(path // 16)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, image.shape[1]), min(y + h, image.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [path - np.array([x0, y0]) * 16], 255, cv2.LINE_AA, 4)
    view = image[y0:y1, x0:x1]
    gleam = np.clip(np.linspace(0.16, -0.02, mask.shape[0], dtype=np.float32), 0, 1)[:, None, None]
    weight = gleam * (mask[..., None] / np.float32(255))
    view[:] = (view + weight * (232 - view.astype(np.float32))).astype(np.uint8)
