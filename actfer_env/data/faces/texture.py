"""What is painted on the neutral head: skin, brows, hair and beard, cached per person and resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.faces.geometry import (
    RANGE_X,
    RANGE_Y,
    Anatomy,
    Array,
    bump,
    grid,
    hairline,
    pair,
    sideburn,
    step,
)
from actfer_env.data.faces.identity import HAIR_COLOURS, SKIN_TONES, Identity

LEVELS: tuple[int, ...] = (32, 48, 64, 96, 128, 160)
"""Texture resolutions that are kept, in pixels per unit."""


def texture_shape(level: int) -> tuple[int, int]:
    """Return the (height, width) of a texture with `level` pixels per unit."""
    return round(2 * RANGE_Y * level), round(2 * RANGE_X * level)


@dataclass(frozen=True)
class Window:
    """A rectangle of the texture: slices, and the face coordinates of its pixels."""

    rows: slice
    cols: slice
    x: Array
    y: Array
    pixel: float


@lru_cache(maxsize=64)
def window(level: int, x0: float, x1: float, y0: float, y1: float) -> Window:
    """Return the window of a texture that covers a rectangle of face coordinates."""
    height, width = texture_shape(level)
    c0, c1 = (int((x / RANGE_X + 1) * width / 2) for x in (x0, x1))
    r0, r1 = (int((y / RANGE_Y + 1) * height / 2) for y in (y0, y1))
    xs = ((np.arange(c0, c1, dtype=np.float32) + 0.5) / width * 2 - 1) * RANGE_X
    ys = ((np.arange(r0, r1, dtype=np.float32) + 0.5) / height * 2 - 1) * RANGE_Y
    return Window(
        slice(r0, r1),
        slice(c0, c1),
        xs.astype(np.float32)[None, :],
        ys.astype(np.float32)[:, None],
        1 / level,
    )


def skin_colour(who: Identity) -> Array:
    """Return the person's mean skin colour, float32 sRGB."""
    colour = np.array(SKIN_TONES[who.tone], np.float32)
    return colour * (1 + who.undertone * np.array([0.0, 0.012, -0.05], np.float32))


def hair_colour(who: Identity) -> Array:
    """Return the person's mean hair colour, float32 sRGB."""
    return np.array(HAIR_COLOURS[who.hair_colour], np.float32)


def lip_colour(who: Identity) -> Array:
    """Return the person's lip colour, float32 sRGB."""
    skin = skin_colour(who)
    depth = who.tone / 9
    factor = np.array([0.9 - 0.06 * depth, 0.66 + 0.1 * depth, 0.68 + 0.16 * depth], np.float32)
    tinted = skin * factor
    return tinted + (0.12 + 0.12 * who.lip_tint) * (np.array([170, 50, 60], np.float32) * (1 - 0.4 * depth) - tinted)


@lru_cache(maxsize=24)
def albedo(who: Identity, level: int) -> Array:
    """Return the neutral head's colours, uint8 (h, w, 3), on the chart."""
    texture = _skin(who, level)
    _paint(texture, window(level, -0.8, 0.8, -0.6, -0.12), _brows(who))
    if who.beard != "none":
        _paint(texture, window(level, -1.62, 1.62, 0.1, 2.25), _beard(who))
    if who.hair_style != "bald":
        _paint(texture, window(level, -1.62, 1.62, -2.25, max(0.0, sideburn(who)) + 0.2), _hair(who))
    if sideburn(who) < 0.5:
        for sign in (-1.0, 1.0):
            ends = (1.24 * sign, 1.62 * sign)
            _paint(texture, window(level, min(ends), max(ends), -0.35, 0.6), _ear(who))
    return texture


Painter = Callable[[Array, Array], tuple[Array, Array]]


def _paint(texture: Array, win: Window, painter: Painter) -> None:
    """Let a painter lay its colour over a window of the texture; it returns coverage and colour."""
    shape = (win.y.size, win.x.size)
    cover, colour = painter(np.broadcast_to(win.x, shape), np.broadcast_to(win.y, shape))
    patch = texture[win.rows, win.cols]
    mixed = patch + cover[..., None] * (colour - patch)
    np.clip(mixed, 0, 255, out=mixed)
    patch[:] = mixed.astype(np.uint8)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Return smooth noise of about unit variance: `cells` random values in each direction, interpolated."""
    small = rng.standard_normal((max(2, cells[0]), max(2, cells[1])), dtype=np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _skin(who: Identity, level: int) -> Array:
    """Return bare skin: the broad colour field from the coarse chart, the fine grain at full resolution."""
    rng = np.random.default_rng([who.seed, 1])
    height, width = texture_shape(level)
    strength = 1 - 0.45 * who.tone / 9
    red, dark = _blush(who, *grid()) * strength, _shadows(who, *grid())
    tint = np.array([0.01, -0.085, -0.075], np.float32)
    depth = np.array([-0.13, -0.17, -0.16], np.float32)
    red = red + 0.22 * strength * noise(rng, red.shape, (18, 14))
    dark = dark + 0.10 * noise(rng, red.shape, (40, 30))
    base = skin_colour(who) * (1 + red[..., None] * tint + dark[..., None] * depth)
    coarse = np.clip(base, 0, 255).astype(np.uint8)
    texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(texture, cv2.cvtColor(_grain(who, rng, level), cv2.COLOR_GRAY2RGB), dst=texture, scale=1 / 200)
    _paint(texture, window(level, -0.4, 0.4, 0.35, 0.95), _nostrils(who))
    return texture


def _blush(who: Identity, x: Array, y: Array) -> Array:
    a = Anatomy.of(who)
    cheeks = 0.5 * pair(x, y, 0.52, 0.42, 0.2, 0.17)
    return cheeks + 0.55 * bump(x, y, 0, a.nose_y, 0.16, 0.12) + 0.25 * bump(x, y, 0, a.chin_y, 0.2, 0.15)


def _shadows(who: Identity, x: Array, y: Array) -> Array:
    a = Anatomy.of(who)
    rings = 0.55 * pair(x, y, a.eye_x - 0.03, 0.06, 0.2, 0.11) * (0.7 + 0.6 * who.age)
    inner = 0.35 * pair(x, y, 0.15, 0.02, 0.06, 0.12)
    return rings + inner + 0.25 * pair(x, y, a.nose_w + 0.02, a.nose_y + 0.06, 0.05, 0.06)


def _grain(who: Identity, rng: np.random.Generator, level: int) -> Array:
    """Return the factor (times 200) of pores and freckles, uint8."""
    shape = texture_shape(level)
    grain = 200 - (1.6 + 1.6 * who.age) * noise(rng, shape, (180, 130))
    if who.freckles:
        x, y = (
            window(level, -RANGE_X, RANGE_X, -RANGE_Y, RANGE_Y).x,
            window(level, -1, 1, -RANGE_Y, RANGE_Y).y,
        )
        where = 22 * who.freckles * bump(x, y, 0, 0.35, 0.5, 0.25)
        grain = grain - where * step(0.9, 1.6, noise(rng, shape, (110, 80)))
    return grain.astype(np.uint8)


def _ear(who: Identity) -> Painter:
    """Paint the ear's relief on the side of the head: it shows once the head is turned."""

    def paint(x: Array, y: Array) -> tuple[Array, Array]:
        u, v = (np.abs(x) - 1.44 + 0.12 * (y - 0.1)) / 0.12, (y - 0.1) / 0.36
        radius = np.sqrt(u * u + v * v * (1 + 0.3 * (v > 0)))
        bowl = step(0.55, 0.2, radius)
        rim = step(0.2, 0.05, np.abs(radius - 0.62))
        edge = step(0.12, 0.0, np.abs(radius - 1.02))
        light = 1.05 - 0.42 * bowl - 0.16 * rim - 0.35 * edge
        tone = skin_colour(who) * np.array([1.0, 0.9, 0.88], np.float32)
        return step(1.12, 0.96, radius), tone * light[..., None]

    return paint


def _nostrils(who: Identity) -> Painter:
    """Paint the dark of the nostrils and of the crease under the wings."""
    a = Anatomy.of(who)

    def paint(x: Array, y: Array) -> tuple[Array, Array]:
        tilt = y - a.nose_y - 0.085 + 0.35 * (np.abs(x) - 0.1)
        hole = bump(np.abs(x), tilt, a.nose_w * 0.5, 0, 0.042, 0.019)
        wing = bump(np.abs(x), y, a.nose_w * 0.95, a.nose_y + 0.085, 0.035, 0.035)
        base = bump(x, y, 0, a.nose_y + 0.125, 0.13, 0.022)
        dark = np.minimum(1.2 * hole + 0.2 * wing + 0.16 * base, 1.1)
        return 0.6 * dark, skin_colour(who) * np.array([0.2, 0.06, 0.08], np.float32)

    return paint


def brow_line(who: Identity, ax: Array) -> tuple[Array, Array]:
    """Return the brow's centre line and half thickness at distance `ax` from the middle."""
    a = Anatomy.of(who)
    t = np.clip((ax - 0.13) / 0.56, 0, 1)
    arch = 0.035 + 0.035 * who.brow_arch
    centre = a.brow_y + 0.02 - arch * (1 - ((t - 0.62) / 0.62) ** 2) + 0.05 * np.maximum(t - 0.7, 0)
    half = (0.052 + 0.018 * who.brow_thickness) * (1 - 0.72 * t * t)
    return centre, half


def _brows(who: Identity) -> Painter:
    rng = np.random.default_rng([who.seed, 2])

    def paint(x: Array, y: Array) -> tuple[Array, Array]:
        ax = np.abs(x)
        centre, half = brow_line(who, ax)
        inside = 1 - step(0.55, 1.15, np.abs(y - centre) / half)
        ends = step(0.1, 0.19, ax - 0.25 * (y - centre)) * (1 - step(0.62, 0.72, ax))
        strands = _strands(rng, ax * 22 + y * 14, (y - centre) * 45 - ax * 22)
        density = 0.72 + 0.14 * who.brow_thickness - 0.12 * who.age
        cover = np.clip(inside * ends * (density + 0.3 * strands), 0, 0.96)
        return cover, hair_colour(who) * 0.55 + skin_colour(who) * 0.1

    return paint


def _strands(rng: np.random.Generator, along: Array, across: Array) -> Array:
    """Return streaks of unit variance: slow `along`, fast `across` (each within about +-120)."""
    tile = rng.standard_normal((80, 260), dtype=np.float32)
    mx, my = (across + 130).astype(np.float32), (along * 0.3 + 40).astype(np.float32)
    return cv2.remap(tile, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def beard_mask(who: Identity, x: Array, y: Array) -> Array:
    """Return where the beard grows, 0..1."""
    a, ax = Anatomy.of(who), np.abs(x)
    if who.beard == "none":
        return np.zeros_like(x)
    lip = step(a.nose_y + 0.13, a.nose_y + 0.2, y) * (1 - step(0.34, 0.44, ax - 0.35 * (y - a.mouth_y)))
    moustache = lip * (1 - step(a.mouth_y + 0.02, a.mouth_y + 0.1, y))
    cheek_line = a.mouth_y - 0.12 - 0.9 * np.maximum(ax - 0.42, 0)
    jaw = step(0, 0.22, y - cheek_line) * (1 - 0.85 * bump(x, y, 0, a.mouth_y + 0.2, 0.1, 0.05))
    jaw = jaw * step(0.2, 0.34, ax + 1.6 * np.maximum(y - a.mouth_y - 0.16, 0))
    chin = step(a.mouth_y + 0.12, a.mouth_y + 0.22, y) * (1 - step(0.26, 0.36, ax))
    round_mouth = step(0.33, 0.4, ax) * (1 - step(0.44, 0.52, ax)) * step(a.mouth_y - 0.18, a.mouth_y, y)
    ring = np.maximum(np.maximum(moustache, chin), round_mouth * (y < a.mouth_y + 0.3))
    table = {"moustache": moustache, "goatee": ring, "stubble": np.maximum(moustache, jaw)}
    return table.get(who.beard, np.maximum(ring, jaw))


def _beard(who: Identity) -> Painter:
    rng = np.random.default_rng([who.seed, 3])

    def paint(x: Array, y: Array) -> tuple[Array, Array]:
        mask = cv2.blur(beard_mask(who, x, y), (5, 5))
        strands = _strands(rng, y * 20, x * 75)
        grain = noise(rng, x.shape, (190, 280))
        if who.beard == "stubble":
            cover = mask * np.clip(0.36 + 0.16 * grain, 0, 0.7)
        else:
            cover = np.clip(mask * (0.86 + 0.1 * strands + 0.05 * grain), 0, 0.97)
        return cover, hair_colour(who) * 0.8 * (1 + 0.22 * strands[..., None])

    return paint


def _hair(who: Identity) -> Painter:
    rng = np.random.default_rng([who.seed, 4])

    def paint(x: Array, y: Array) -> tuple[Array, Array]:
        sheen, ragged = _hair_flow(who, x, y, rng)
        soft = 0.16 if who.hair_style in ("buzz", "receding") else 0.07
        mask = step(-soft / 2, soft, hairline(who, x[:1]) + 0.05 * ragged - y)
        cover = mask * np.float32(0.78 if who.hair_style == "buzz" else 1.0)
        shadow = 0.3 * cv2.blur(mask, (9, 9)) * (1 - mask)
        cover = np.maximum(cover, shadow)
        return cover, hair_colour(who) * (np.clip(1 + sheen, 0.25, 2.2) * (mask > 0.02))[..., None]

    return paint


def _hair_flow(who: Identity, x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the brightness of the strands and how they fray the hairline."""
    if who.hair_style in ("afro", "buzz"):
        curls = noise(rng, x.shape, (130, 150)) + 0.6 * noise(rng, x.shape, (48, 50))
        return (0.28 if who.hair_style == "afro" else 0.13) * curls, curls
    part = (0.45 if who.seed % 2 else -0.45) if who.hair_style in ("side", "bob") else 0.0
    dx, dy = x - part, y + 1.9
    turn = dx / (np.abs(dx) + np.abs(dy) + 1e-3)
    radius = np.sqrt(dx * dx + dy * dy)
    wave = 0.05 * noise(rng, x.shape, (6, 7))
    fine = _strands(rng, radius * 6, (turn + wave * 0.6) * 100) * step(0.2, 0.9, radius)
    locks = _strands(rng, radius * 3, (turn + wave) * 38)
    band = 0.35 * bump(radius, radius, 0.75, 0.75, 0.22, 1e3)
    return 0.2 * fine + 0.2 * locks + band - 0.08, 0.6 * fine + 0.7 * locks
