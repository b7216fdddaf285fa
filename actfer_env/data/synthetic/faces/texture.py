"""Texture of the neutral head: skin, brows, hair and beard, cached per person and resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike

from actfer_env.data.synthetic.faces.geometry import (
    RANGE_X,
    RANGE_Y,
    Anatomy,
    Array,
    bell,
    bump,
    grid_axes,
    hairline,
    limit,
    pair,
    sideburn,
    step,
    unit,
)
from actfer_env.data.synthetic.faces.identity import HAIR_COLOURS, SKIN_TONES, Identity

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
    return _skin_colour(who.tone, who.undertone)


@lru_cache(maxsize=64)
def _skin_colour(tone: int, undertone: float) -> Array:
    colour = np.array(SKIN_TONES[tone], np.float32)
    return _frozen(colour * (1 + undertone * np.array([0.0, 0.012, -0.05], np.float32)))


def _frozen(array: Array) -> Array:
    """Return a cached array, locked against changes."""
    array.flags.writeable = False
    return array


def planes(colour: ArrayLike) -> Array:
    """Return one colour as planes, float32 (3, 1, 1): to be laid over whole planes."""
    return np.asarray(colour, np.float32).reshape(3, 1, 1)


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
    """Return the neutral head's colours on the chart, uint8 (h, w, 4): `remap` is slow with three channels."""
    texture = _skin(who, level)
    _paint(texture, window(level, -0.8, 0.8, -0.6, -0.12), _brows(who))
    if who.beard != "none":
        _paint(texture, window(level, -1.62, 1.62, 0.1, 2.25), _beard(who))
    if who.hair_style != "bald":
        _paint(texture, window(level, -1.62, 1.62, -2.25, max(0.0, sideburn(who)) + 0.2), _hair(who, level))
    if sideburn(who) < 0.5:
        _paint_ears(texture, who, window(level, 1.24, 1.62, -0.35, 0.6))
    return cv2.cvtColor(texture, cv2.COLOR_RGB2RGBA)


Painter = Callable[[Array, Array], tuple[Array, Array, Array]]
"""From a row of x and a column of y to coverage (0..1, float32), tone (one colour) and shade (its factor)."""


def _paint(texture: Array, win: Window, painter: Painter) -> None:
    """Let a painter lay its colour over a window of the texture."""
    cover, tone, shade = painter(win.x, win.y)
    blend(texture[win.rows, win.cols], _toned(tone, shade), cv2.convertScaleAbs(cover, alpha=255))


def _toned(tone: Array, shade: Array) -> Array:
    return cv2.merge([cv2.convertScaleAbs(shade, alpha=value) for value in tone.tolist()])


def blend(canvas: Array, colour: Array, cover: Array) -> None:
    """Lay a picture over another, in place, with a uint8 coverage; `colour` is used up (large new arrays are slow)."""
    weight = cv2.cvtColor(cover, cv2.COLOR_GRAY2RGB)
    cv2.multiply(colour, weight, dst=colour, scale=1 / 255)
    cv2.bitwise_not(weight, dst=weight)
    cv2.multiply(canvas, weight, dst=canvas, scale=1 / 255)
    cv2.add(colour, canvas, dst=canvas)


def bounds(cover: Array) -> tuple[slice, slice]:
    """Return the rows and columns around all that a uint8 picture covers; they are empty if it covers nothing."""
    x, y, width, height = cv2.boundingRect(cover)
    return slice(y, y + height), slice(x, x + width)


_SHEET = 512


@lru_cache(maxsize=1)
def _sheet() -> Array:
    """Return the sheet that all noise is cut from: fresh random numbers cost more than the rest of the painting."""
    return np.random.default_rng(0).standard_normal((_SHEET, _SHEET), dtype=np.float32)


def cut(rng: np.random.Generator, rows: int, cols: int) -> Array:
    """Return a piece of the sheet of random numbers."""
    top, left = int(rng.integers(_SHEET - rows)), int(rng.integers(_SHEET - cols))
    return _sheet()[top : top + rows, left : left + cols]


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Return smooth noise of about unit variance: `cells` random values in each direction, interpolated."""
    return spread(cut(rng, *cells), shape)


def spread(cells: Array, shape: tuple[int, int]) -> Array:
    """Return `cut` values as smooth noise of a shape."""
    rows, cols = (min(side, 6 * count) for side, count in zip(shape, cells.shape, strict=True))
    smooth = cv2.resize(cells, (cols, rows), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(smooth, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)  # cubic over so far is slow


_TINT, _DEPTH = (0.01, -0.085, -0.075), (-0.13, -0.17, -0.16)
"""Changes of each channel by a blush and by a shadow, as shares of the skin's colour."""


def _skin(who: Identity, level: int) -> Array:
    """Return bare skin: the broad colour field from the coarse chart, the fine grain at full resolution."""
    rng = np.random.default_rng([who.seed, 1])
    height, width = texture_shape(level)
    strength = 1 - 0.45 * who.tone / 9
    red, dark = _blush(who, *grid_axes()) * strength, _shadows(who, *grid_axes())
    red += 0.22 * strength * noise(rng, red.shape, (18, 14))
    dark += 0.10 * noise(rng, red.shape, (40, 30))
    coarse = cv2.merge([
        cv2.addWeighted(red, tone * tint, dark, tone * depth, tone, dtype=cv2.CV_8U)
        for tone, tint, depth in zip(skin_colour(who).tolist(), _TINT, _DEPTH, strict=True)
    ])  # fmt: skip
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
    return cv2.convertScaleAbs(grain)


def _paint_ears(texture: Array, who: Identity, win: Window) -> None:
    """Paint the ears' relief on the sides of the head: it shows once the head is turned."""
    u, v = (win.x - 1.44 + 0.12 * (win.y - 0.1)) / 0.12, (win.y - 0.1) / 0.36
    radius = np.sqrt(u * u + v * v * (1 + 0.3 * (v > 0)))
    bowl = step(0.55, 0.2, radius)
    rim = step(0.2, 0.05, np.abs(radius - 0.62))
    edge = step(0.12, 0.0, np.abs(radius - 1.02))
    light = 1.05 - 0.42 * bowl - 0.16 * rim - 0.35 * edge
    colour = _toned(skin_colour(who) * np.array([1.0, 0.9, 0.88], np.float32), light)
    cover, width = cv2.convertScaleAbs(step(1.12, 0.96, radius), alpha=255), texture.shape[1]
    mirrored = texture[win.rows, width - win.cols.stop : width - win.cols.start]
    blend(mirrored, cv2.flip(colour, 1), cv2.flip(cover, 1))
    blend(texture[win.rows, win.cols], colour, cover)


def _nostrils(who: Identity) -> Painter:
    """Paint the dark of the nostrils and of the crease under the wings."""
    a = Anatomy.of(who)

    def paint(x: Array, y: Array) -> tuple[Array, Array, Array]:
        tilt = y - a.nose_y - 0.085 + 0.35 * (np.abs(x) - 0.1)
        hole = bump(np.abs(x), tilt, a.nose_w * 0.5, 0, 0.042, 0.019)
        wing = bump(np.abs(x), y, a.nose_w * 0.95, a.nose_y + 0.085, 0.035, 0.035)
        base = bump(x, y, 0, a.nose_y + 0.125, 0.13, 0.022)
        dark = np.minimum(1.2 * hole + 0.2 * wing + 0.16 * base, 1.1)
        return 0.6 * dark, skin_colour(who) * np.array([0.2, 0.06, 0.08], np.float32), np.ones_like(dark)

    return paint


def brow_line(who: Identity, ax: Array) -> tuple[Array, Array]:
    """Return the brow's centre line and half thickness at distance `ax` from the middle."""
    a = Anatomy.of(who)
    t = unit((ax - 0.13) / 0.56)
    arch = 0.035 + 0.035 * who.brow_arch
    centre = a.brow_y + 0.02 - arch * (1 - ((t - 0.62) / 0.62) ** 2) + 0.05 * np.maximum(t - 0.7, 0)
    half = (0.052 + 0.018 * who.brow_thickness) * (1 - 0.72 * t * t)
    return centre, half


def _brows(who: Identity) -> Painter:
    rng = np.random.default_rng([who.seed, 2])

    def paint(x: Array, y: Array) -> tuple[Array, Array, Array]:
        ax = np.abs(x)
        centre, half = brow_line(who, ax)
        inside = 1 - step(0.55, 1.15, np.abs(y - centre) / half)
        ends = step(0.1, 0.19, ax - 0.25 * (y - centre)) * (1 - step(0.62, 0.72, ax))
        strands = _strands(rng, ax * 22 + y * 14, (y - centre) * 45 - ax * 22)
        density = 0.72 + 0.14 * who.brow_thickness - 0.12 * who.age
        cover = limit(inside * ends * (density + 0.3 * strands), 0, 0.96)
        return cover, hair_colour(who) * 0.55 + skin_colour(who) * 0.1, np.ones_like(cover)

    return paint


def _strands(rng: np.random.Generator, along: Array, across: Array) -> Array:
    """Return streaks of unit variance: slow `along`, fast `across` (each within about +-120)."""
    tile = cut(rng, 80, 260)
    return cv2.remap(tile, across + 130, along * 0.3 + 40, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


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

    def paint(x: Array, y: Array) -> tuple[Array, Array, Array]:
        mask = cv2.blur(beard_mask(who, x, y), (5, 5))
        strands = _strands(rng, np.repeat(y * 20, x.size, axis=1), np.repeat(x * 75, y.size, axis=0))
        grain = noise(rng, mask.shape, (190, 280))
        if who.beard == "stubble":
            cover = mask * limit(0.36 + 0.16 * grain, 0, 0.7)
        else:
            cover = limit(mask * (0.86 + 0.1 * strands + 0.05 * grain), 0, 0.97)
        return cover, hair_colour(who) * 0.8, np.maximum(1 + 0.22 * strands, 0)

    return paint


def _hair(who: Identity, level: int) -> Painter:
    rng = np.random.default_rng([who.seed, 4])

    def paint(x: Array, y: Array) -> tuple[Array, Array, Array]:
        sheen, ragged = _hair_flow(who, level, (y.size, x.size), rng)
        soft = 0.16 if who.hair_style in ("buzz", "receding") else 0.07
        mask = step(-soft / 2, soft, hairline(who, x) + 0.05 * ragged - y)
        cover = mask * np.float32(0.78 if who.hair_style == "buzz" else 1.0)
        shadow = 0.3 * cv2.blur(mask, (9, 9)) * (1 - mask)
        return np.maximum(cover, shadow), hair_colour(who), limit(1 + sheen, 0.25, 2.2) * (mask > 0.02)

    return paint


def _hair_flow(who: Identity, level: int, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the brightness of the strands and how they fray the hairline."""
    if who.hair_style in ("afro", "buzz"):
        curls = noise(rng, shape, (130, 150)) + 0.6 * noise(rng, shape, (48, 50))
        return (0.28 if who.hair_style == "afro" else 0.13) * curls, curls
    part = (0.45 if who.seed % 2 else -0.45) if who.hair_style in ("side", "bob") else 0.0
    turn, radius, fade, band = (field[: shape[0]] for field in _parting(level, part))
    wave = 0.05 * noise(rng, shape, (6, 7))
    fine = _strands(rng, radius * 6, (turn + wave * 0.6) * 100) * fade
    locks = _strands(rng, radius * 3, (turn + wave) * 38)
    return 0.2 * (fine + locks) + band, 0.6 * fine + 0.7 * locks


@lru_cache(maxsize=8)
def _parting(level: int, part: float) -> tuple[Array, Array, Array, Array]:
    """Return how hair falls from a parting, on the whole texture: angle, distance, and two functions of distance."""
    win = window(level, -RANGE_X, RANGE_X, -RANGE_Y, RANGE_Y)
    dx, dy = win.x - part, win.y + 1.9
    turn = dx / (np.abs(dx) + np.abs(dy) + 1e-3)
    radius = np.sqrt(dx * dx + dy * dy)
    return turn, radius, step(0.2, 0.9, radius), 0.35 * bell(radius, 0.75, 0.22) - 0.08
