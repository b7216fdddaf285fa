"""Surroundings of the face: neck, shoulders, ears, the hair behind the head, and glasses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.geometry import (
    Anatomy,
    Array,
    Frame,
    Pose,
    limit,
    positions,
    project,
    step,
    unit,
    within,
)
from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.data.synthetic.faces.shading import Light
from actfer_env.data.synthetic.faces.texture import blend, bounds, cut, hair_colour, planes, skin_colour, spread

CELLS = 22
"""Samples per unit of the body's own little canvas."""

_LEFT, _BOTTOM = -2.61, 3.4


@dataclass
class Layer:
    """A part of the body's canvas: its corner and axes in units (a row, a column), colours (planes) and coverage."""

    left: float
    top: float
    x: Array
    y: Array
    colour: Array
    cover: Array

    @classmethod
    def within(cls, x0: float, x1: float, top: float, bottom: float) -> Layer:
        """Return an empty canvas that reaches from x0 to x1 and from `top` to `bottom`, as far as the body goes."""
        x0, x1 = max(_LEFT, x0), min(-_LEFT, x1)
        cols = max(2, round((x1 - x0) * CELLS))
        rows = max(2, round((min(_BOTTOM, bottom) - top) * CELLS))
        x = (x0 + (np.arange(cols, dtype=np.float32) + 0.5) / CELLS).astype(np.float32)[None, :]
        y = (top + (np.arange(rows, dtype=np.float32) + 0.5) / CELLS).astype(np.float32)[:, None]
        return cls(x0, top, x, y, np.zeros((3, rows, cols), np.float32), np.zeros((rows, cols), np.float32))

    def cut(self, x0: float, x1: float, y0: float, y1: float) -> Layer:
        """Return the part of the canvas inside a rectangle; it shares the pixels."""
        c0, c1 = (int(max(0.0, (x - self.left) * CELLS)) for x in (x0, x1))
        r0, r1 = (int(max(0.0, (y - self.top) * CELLS)) for y in (y0, y1))
        x, y = self.x[:, c0:c1], self.y[r0:r1]
        return Layer(self.left, self.top, x, y, self.colour[:, r0:r1, c0:c1], self.cover[r0:r1, c0:c1])

    def over(self, mask: Array, colour: Array) -> None:
        """Lay a colour over what is there; where nothing is, it spreads beyond its mask (no dark seams)."""
        cover = self.cover + mask * (1 - self.cover)
        weight = (mask + 1e-4) / (cover + 1e-4)
        self.colour += weight * (colour - self.colour)
        self.cover[:] = cover


@dataclass(frozen=True)
class _Glow:
    """Light on the body: sideways gradient, level and tint."""

    side: float
    level: float
    tint: Array


def draw_body(canvas: Array, who: Identity, pose: Pose, light: Light, frame: Frame) -> None:
    """Draw everything behind the face into a picture, in place."""
    x0, x1, bottom = _visible(pose, frame)
    layer = Layer.within(x0, x1, _top(who), bottom)
    glow = _glow(light)
    _back_hair(layer, who)
    _neck(layer.cut(-1.6, 1.6, 0.5, 2.7), who, pose, glow)
    _clothes(layer.cut(-3.2, 3.2, 1.5, 9), who, glow)
    if who.hair_style not in _BACK:
        _ears(layer, who, pose, light)
    _paste(canvas, layer, pose, frame, bottom)


def _top(who: Identity) -> float:
    """Return the highest y that anything behind the face reaches."""
    if who.hair_style == "bun":
        return -2.2
    return -1.7 if who.hair_style in _BACK else -0.6


def _paste(canvas: Array, layer: Layer, pose: Pose, frame: Frame, bottom: float) -> None:
    """Turn and scale the body's canvas into the picture; below its edge the torso goes on."""
    to_picture = _placing(layer, pose, frame)
    lean, _, down = to_picture[1].tolist()
    first = within(down + min(0, lean * layer.x.size) - 1, canvas.shape[0] - 1)
    canvas, to_picture[1, 2] = canvas[first:], to_picture[1, 2] - first
    size = (canvas.shape[1], canvas.shape[0])
    colours = cv2.convertScaleAbs(layer.colour.reshape(-1, layer.x.size)).reshape(layer.colour.shape)
    both = cv2.merge([*colours, cv2.convertScaleAbs(layer.cover, alpha=255)])
    below = max(0, round((bottom - _BOTTOM) * CELLS))
    both = cv2.copyMakeBorder(both, 0, below, 0, 0, cv2.BORDER_REPLICATE)  # `warpAffine` would take twice as long
    placed = cv2.warpAffine(both, to_picture, size, flags=cv2.INTER_LINEAR)
    shoulders = within(down + (1.5 - layer.top) * frame.scale - first, canvas.shape[0])
    ramp = _ramp(max(1.0, 0.6 * frame.scale / CELLS))
    _blend_covered(canvas[:shoulders], placed[:shoulders], ramp)
    _blend_covered(canvas[shoulders:], placed[shoulders:], ramp)


def _blend_covered(canvas: Array, placed: Array, ramp: Array) -> None:
    """Blend four channels into a picture, in place, where the last, sharpened by a ramp, covers anything."""
    if not canvas.size:
        return
    cover = cv2.extractChannel(placed, 3)
    box = bounds(cover)
    if cover[box].size:
        blend(canvas[box], cv2.cvtColor(placed[box], cv2.COLOR_RGBA2RGB), cv2.LUT(cover[box], ramp))


def _ramp(sharp: float) -> Array:
    """Return the table that makes an edge so many times as sharp; nothing stays nothing."""
    return limit(_CENTRED * sharp + 127.5, 0, 255).astype(np.uint8)


_CENTRED = np.arange(256) - 127.5


def _placing(layer: Layer, pose: Pose, frame: Frame) -> Array:
    angle = np.deg2rad(pose.roll)
    c, s = np.cos(angle) * frame.scale / CELLS, np.sin(angle) * frame.scale / CELLS
    ox, oy = -layer.left * CELLS - 0.5, -layer.top * CELLS - 0.5
    return np.array([[c, -s, frame.cx - c * ox + s * oy], [s, c, frame.cy - s * ox - c * oy]])


def _visible(pose: Pose, frame: Frame) -> tuple[float, float, float]:
    """Return which part of the body the picture can show: x from, x to, and the lowest y."""
    angle = np.deg2rad(pose.roll)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    xs = [(edge - frame.cx) / frame.scale for edge in (0, frame.width)]
    ys = [(edge - frame.cy) / frame.scale for edge in (0, frame.height)]
    corners = [(c * x + s * y, c * y - s * x) for x in xs for y in ys]
    across = [x for x, _ in corners]
    return min(across) - 0.1, max(across) + 0.1, max(y for _, y in corners) + 0.1


def _glow(light: Light) -> _Glow:
    toward = light.vector()
    key, sky = light.colours()
    tint = (light.key * key + light.ambient * sky) / (light.key + light.ambient)
    level = float(np.sqrt(light.ambient + 0.55 * light.key * max(0.0, float(toward[2]) * 0.8 + 0.2)))
    return _Glow(float(toward[0]) * light.key * 0.45, level, tint.astype(np.float32))


def _soft(distance: Array, cells: float = 1.0) -> Array:
    return unit(distance * (CELLS / cells) + 0.5)


def _neck(part: Layer, who: Identity, pose: Pose, glow: _Glow) -> None:
    x, y = part.x, part.y
    half = 0.69 + 0.07 * who.jaw + 1.1 * limit(y - 1.55, 0, 0.7) ** 2
    x = x + 0.105 * float(np.sin(np.deg2rad(pose.yaw))) * limit(1.9 - y, 0, 1)
    t = limit(x / half, -1, 1)
    mask = _soft(half - np.abs(x)) * (step(0.6, 0.75, y) * (y < 2.6))
    chin = 1.62 + 0.25 * float(np.sin(np.deg2rad(-pose.pitch)))
    shadow = 1 - 0.45 * step(0.55, -0.1, y - chin + 0.25 * t * t)
    cords = 1 - 0.10 * limit(1 - np.abs(np.abs(t) - 0.55 + 0.18 * (y - 1.6)) * 7, 0, 1)
    shade = (0.35 + 0.62 * np.sqrt(1 - 0.85 * t * t) * (1 + glow.side * t)) * shadow * cords
    part.over(mask, planes(skin_colour(who) * glow.tint) * limit(glow.level * shade, 0.08, 1.2))


def _clothes(part: Layer, who: Identity, glow: _Glow) -> None:
    if not part.cover.size:
        return
    x, y, ax = part.x, part.y, np.abs(part.x)
    slope = 1.66 + 0.32 * ax + 0.22 * np.maximum(ax - 1.25, 0) ** 2 + 9 * np.maximum(ax - 2.15, 0) ** 3
    deep = 0.55 if who.seed % 3 else 0.3
    top = slope + deep * limit(1 - (ax / 0.95) ** 2, 0, 1)
    folds = spread(_cells(who.seed + 3, (4, 9))[0], part.cover.shape)
    side = (0.95 + glow.side * limit(x / 2.4, -1, 1)) * (1 - 0.3 * limit(ax - 1.9, 0, 0.5))
    seam = 0.72 + 0.28 * limit((y - top) * 5, 0, 1)
    shade = glow.level * (1 + 0.05 * folds) * side * seam
    part.over(_soft(y - top), planes(np.array(who.cloth, np.float32) * glow.tint) * limit(shade, 0.1, 1.4))


@lru_cache(maxsize=128)
def _cells(seed: int, *counts: tuple[int, int]) -> tuple[Array, ...]:
    """Return a person's random cells: to seed a generator costs more than to spread them."""
    rng = np.random.default_rng(seed)
    return tuple(cut(rng, *count) for count in counts)


_BACK = {"long": (1.14, 2.5, 0.12), "bob": (1.16, 1.36, 0.2)}


def _back_hair(layer: Layer, who: Identity) -> None:
    if who.hair_style == "bun":
        part = layer.cut(-0.6, 0.6, -2.2, -1.0)
        bun = 0.42 - np.sqrt(part.x * part.x + ((part.y + 1.62) * 1.15) ** 2)
        part.over(_soft(bun), planes(hair_colour(who)) * (0.75 + bun))
    if who.hair_style in _BACK:
        _falling_hair(layer.cut(-1.5, 1.5, -1.6, 3.0), who)


def _falling_hair(part: Layer, who: Identity) -> None:
    if not part.cover.size:
        return
    wide, low, wave = _BACK[who.hair_style]
    x, y, shape = part.x, part.y, part.cover.shape
    streak, wavy = (spread(cells, shape) for cells in _cells(who.seed + 1, (6, 44), (5, 5)))
    edge = wide + 0.05 * wavy - wave * step(low - 0.5, low, y)
    edge = edge * np.sqrt(limit(1 - (np.minimum(y, 0) / 1.5) ** 2, 0, 1))
    mask = _soft(edge - np.abs(x), 2) * (y > -1.42) * (1 - step(low - 0.12, low + 0.06, y + 0.06 * streak))
    inner = 0.55 + 0.4 * step(0.75, 1.15, np.abs(x))
    part.over(mask, planes(hair_colour(who)) * (inner * limit(0.85 + 0.16 * streak, 0.2, 2)))


def _ears(layer: Layer, who: Identity, pose: Pose, light: Light) -> None:
    turn, toward = float(np.sin(np.deg2rad(pose.yaw))), float(light.vector()[0])
    tone = planes(skin_colour(who) * np.array([1.02, 0.9, 0.88], np.float32))
    for sign, place in zip((-1.0, 1.0), _ear_places(who, pose), strict=True):
        side = 1 + 0.45 * light.key * sign * toward
        shade = float(np.sqrt(light.ambient + 0.5 * light.key * max(side, 0.1))) * 0.86
        _ear(layer, place, sign, max(0.05, 0.125 - 0.2 * sign * turn), tone, shade)


def _ear_places(who: Identity, pose: Pose) -> list[tuple[float, float]]:
    anchors = np.array([[sign * (0.955 + 0.05 * who.width), 0.15, -0.12] for sign in (-1.0, 1.0)], np.float32)
    seen = project(anchors, Pose(pose.yaw, pose.pitch).matrix(), Frame(1, 1, 1.0, 0.0, 0.0))
    return [(x, y) for x, y, _ in seen.tolist()]


def _ear(layer: Layer, place: tuple[float, float], sign: float, half: float, tone: Array, shade: float) -> None:
    x, y = place
    part = layer.cut(x - 1.6 * half - 0.1, x + 1.6 * half + 0.1, y - 0.5, y + 0.5)
    v = (part.y - y) / 0.36
    u = (part.x - x - sign * 0.02) / half + 0.25 * sign * v
    radius = np.sqrt(u * u + v * v * (1 + 0.25 * (v > 0)))
    fold = 1 - 0.32 * step(0.25, 0.0, np.abs(radius - 0.62)) - 0.28 * step(0.45, 0.1, radius)
    part.over(_soft((1 - radius) * half), tone * (shade * fold))


_GLASSES = {
    "thin": (0.27, 0.20, 0.016, 4.0),
    "thick": (0.28, 0.21, 0.042, 5.0),
    "round": (0.25, 0.25, 0.022, 2.0),
}


def draw_glasses(image: Array, mask: Array, who: Identity, layers: Array, rotation: Array, frame: Frame) -> None:
    """Draw spectacles over a finished face, in place."""
    if who.glasses == "none":
        return
    rim, width = _rim(who.seed, who.glasses), max(1, round(_GLASSES[who.glasses][2] * frame.scale))
    *sides, bridge = _spectacle_paths(who, layers, rotation, frame)
    for lens, arm in zip(sides[::2], sides[1::2], strict=True):
        _tint(image, lens)
        cv2.polylines(image, [lens], True, rim, width, cv2.LINE_AA, 4)
        _draw_arm(image, mask, arm, rim, width)
    cv2.polylines(image, [bridge], False, rim, width, cv2.LINE_AA, 4)


def _spectacle_paths(who: Identity, layers: Array, rotation: Array, frame: Frame) -> list[Array]:
    """Return left lens, left arm, right lens, right arm and bridge, in 16ths of pixels, int32 (points, 2)."""
    a = Anatomy.of(who)
    depth = float(positions(layers, np.float32(0), np.float32(a.brow_y + 0.1))[0, 0, 2]) + 0.03
    place, rise = _spectacles(who.glasses, a.eye_x, a.eye_y)
    points = np.empty((len(rise), 3), np.float32)
    points[:, :2], points[:, 2] = place, depth + rise
    paths = np.round(project(points, rotation, frame)[:, :2] * 16).astype(np.int32)
    return np.split(paths, [_LENS, _LENS + 2, 2 * _LENS + 2, 2 * _LENS + 4])


_LENS = 40
"""Points around a lens."""


@lru_cache(maxsize=64)
def _spectacles(style: str, eye_x: float, eye_y: float) -> tuple[Array, Array]:
    """Return all points of a pair of glasses, (n, 2), and how far each stands off the bridge of the nose, (n,)."""
    half_w, half_h, _, power = _GLASSES[style]
    inner, outer, parts = eye_x - half_w + 0.01, eye_x + half_w, []
    for sign in (-1.0, 1.0):
        parts.append(_lens(sign * (eye_x + 0.01), eye_y + 0.03, half_w, half_h, power))
        parts.append(np.array([[sign * outer, -0.05, -0.06], [sign * 1.0, -0.06, -0.8]]))
    parts.append(np.array([[-inner, -0.03, 0.0], [0.0, -0.075, 0.02], [inner, -0.03, 0.0]]))
    points = np.concatenate(parts)
    return points[:, :2].astype(np.float32), points[:, 2].copy()


def _lens(cx: float, cy: float, half_w: float, half_h: float, power: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, _LENS, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    x = cx + half_w * np.sign(c) * np.abs(c) ** (2 / power)
    y = (half_h * np.sign(s) * np.abs(s) ** (2 / power)).astype(np.float32) + np.float32(cy)
    return np.stack([x, y, -0.16 * np.abs(x) ** 2], axis=1)


@lru_cache(maxsize=64)
def _rim(seed: int, style: str) -> tuple[int, ...]:
    dark = np.random.default_rng(seed + 2).integers(12, 90, 3)
    return tuple((dark if style != "thin" else dark + 60).tolist())


def _draw_arm(image: Array, mask: Array, path: Array, rim: tuple[int, ...], width: int) -> None:
    """Draw a temple arm where the head is: what would stick out lies behind the head."""
    line = np.zeros(mask.shape, np.uint8)
    cv2.polylines(line, [path], False, 255, width, cv2.LINE_AA, 4)
    x, y, w, h = cv2.boundingRect(path // 16 + np.array([[-width, -width], [width, width]]))
    part = (slice(max(y, 0), max(y + h, 0)), slice(max(x, 0), max(x + w, 0)))
    weight = (np.minimum(line[part], mask[part]).astype(np.float32) / 255)[..., None]
    image[part] = (image[part] + weight * (np.array(rim, np.float32) - image[part])).astype(np.uint8)


@lru_cache(maxsize=64)
def _gleam(rows: int) -> Array:
    return limit(np.linspace(0.16, -0.02, rows, dtype=np.float32), 0, 1)[:, None, None]


def _tint(image: Array, path: Array) -> None:
    x, y, w, h = cv2.boundingRect(path // 16)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, image.shape[1]), min(y + h, image.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [path - np.array([x0, y0]) * 16], 255, cv2.LINE_AA, 4)
    view = image[y0:y1, x0:x1]
    weight = _gleam(mask.shape[0]) * (mask[..., None] / np.float32(255))
    view[:] = (view + weight * (232 - view.astype(np.float32))).astype(np.uint8)
