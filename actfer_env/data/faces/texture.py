"""What is painted on the neutral head: skin, brows, hair and beard, cached per person and resolution."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.faces.geometry import (
    RANGE_X,
    RANGE_Y,
    Anatomy,
    Array,
    bump,
    chart_axes,
    hairline,
    pair,
    step,
)
from actfer_env.data.faces.identity import HAIR_COLOURS, SKIN_TONES, Identity

LEVELS: tuple[int, ...] = (32, 48, 64, 96, 128, 160)
"""Texture resolutions that are kept, in pixels per unit."""


def texture_shape(level: int) -> tuple[int, int]:
    """Return the (height, width) of a texture with `level` pixels per unit."""
    return round(2 * RANGE_Y * level), round(2 * RANGE_X * level)


@lru_cache(maxsize=8)
def texture_axes(level: int) -> tuple[Array, Array]:
    """Return the face coordinates of a texture's pixels."""
    height, width = texture_shape(level)
    return chart_axes(width, height)


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
    return tinted + (0.12 + 0.12 * who.lip_tint) * (
        np.array([170, 50, 60], np.float32) * (1 - 0.4 * depth) - tinted
    )


@lru_cache(maxsize=24)
def albedo(who: Identity, level: int) -> Array:
    """Return the neutral head's colours, uint8 (h, w, 3), on the chart."""
    rng = np.random.default_rng(who.seed)
    x, y = texture_axes(level)
    colour = _skin(who, x, y, rng)
    colour = _mix(colour, _brow_mask(who, x, y, rng), hair_colour(who) * 0.55 + skin_colour(who) * 0.1)
    colour = _beard(who, colour, x, y, rng)
    colour = _hair(who, colour, x, y, rng)
    return np.clip(colour + 0.5, 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Return smooth noise of about unit variance: `cells` random values in each direction, interpolated."""
    small = rng.standard_normal((max(2, cells[0]), max(2, cells[1])), dtype=np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _mix(colour: Array, mask: Array, other: Array) -> Array:
    return colour + mask[..., None] * (other - colour)


def _skin(who: Identity, x: Array, y: Array, rng: np.random.Generator) -> Array:
    a, shape = Anatomy.of(who), x.shape
    red = 0.5 * pair(x, y, 0.52, 0.42, 0.2, 0.17) + 0.55 * bump(x, y, 0, a.nose_y, 0.16, 0.12)
    red += 0.25 * bump(x, y, 0, a.chin_y, 0.2, 0.15) + 0.22 * noise(rng, shape, (18, 14))
    dark = 0.55 * pair(x, y, a.eye_x - 0.03, 0.06, 0.2, 0.11) * (0.7 + 0.6 * who.age)
    dark += 0.35 * pair(x, y, 0.15, 0.02, 0.06, 0.12) + 0.25 * pair(
        x, y, a.nose_w + 0.02, a.nose_y + 0.06, 0.05, 0.06
    )
    dark += (
        3.4 * _nostrils(a, x, y)
        + 0.10 * noise(rng, shape, (40, 30))
        + (0.05 + 0.05 * who.age) * noise(rng, shape, (180, 130))
    )
    dark += 0.25 * _freckles(who, x, y, rng)
    strength = 1 - 0.45 * who.tone / 9
    tint = np.array([0.01, -0.085, -0.075], np.float32) * strength
    shade = np.array([-0.13, -0.17, -0.16], np.float32)
    base = skin_colour(who)
    return base * (1 + red[..., None] * tint + dark[..., None] * shade)


def _nostrils(a: Anatomy, x: Array, y: Array) -> Array:
    """Return the dark of the nostrils and of the crease under the wings."""
    tilt = y - a.nose_y - 0.085 + 0.35 * (np.abs(x) - 0.1)
    hole = bump(np.abs(x), tilt, a.nose_w * 0.5, 0, 0.042, 0.019)
    wing = bump(np.abs(x), y, a.nose_w * 0.95, a.nose_y + 0.085, 0.035, 0.035)
    base = bump(x, y, 0, a.nose_y + 0.125, 0.13, 0.022)
    return np.minimum(1.2 * hole + 0.2 * wing + 0.16 * base, 1.1)


def _freckles(who: Identity, x: Array, y: Array, rng: np.random.Generator) -> Array:
    spots = noise(rng, x.shape, (110, 80))
    where = bump(x, y, 0, 0.35, 0.5, 0.25)
    return 2.6 * who.freckles * where * step(0.9, 1.6, spots)


def brow_line(who: Identity, ax: Array) -> tuple[Array, Array]:
    """Return the brow's centre line and half thickness at distance `ax` from the middle."""
    a = Anatomy.of(who)
    t = np.clip((ax - 0.13) / 0.56, 0, 1)
    arch = 0.035 + 0.035 * who.brow_arch
    centre = a.brow_y + 0.02 - arch * (1 - ((t - 0.62) / 0.62) ** 2) + 0.05 * np.maximum(t - 0.7, 0)
    half = (0.052 + 0.018 * who.brow_thickness) * (1 - 0.72 * t * t)
    return centre, half


def _brow_mask(who: Identity, x: Array, y: Array, rng: np.random.Generator) -> Array:
    ax = np.abs(x)
    centre, half = brow_line(who, ax)
    inside = 1 - step(0.55, 1.15, np.abs(y - centre) / half)
    ends = step(0.1, 0.19, ax - 0.25 * (y - centre)) * (1 - step(0.62, 0.72, ax))
    strands = _strands(rng, ax * 22 + y * 14, (y - centre) * 45 - ax * 22)
    density = 0.72 + 0.14 * who.brow_thickness - 0.12 * who.age
    return np.clip(inside * ends * (density + 0.3 * strands), 0, 0.96)


def _strands(rng: np.random.Generator, along: Array, across: Array) -> Array:
    tile = rng.standard_normal((64, 64), dtype=np.float32)
    mx, my = np.asarray(across % 63, np.float32), np.asarray((along * 0.3) % 63, np.float32)
    return cv2.remap(tile, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


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


def _beard(who: Identity, colour: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    if who.beard == "none":
        return colour
    mask = cv2.blur(beard_mask(who, x, y), (5, 5))
    strands = _strands(rng, y * 20, x * 90)
    grain = noise(rng, x.shape, (x.shape[0] // 2, x.shape[1] // 2))
    if who.beard == "stubble":
        cover = mask * np.clip(0.36 + 0.16 * grain, 0, 0.7)
    else:
        cover = np.clip(mask * (0.86 + 0.1 * strands + 0.05 * grain), 0, 0.97)
    tint = hair_colour(who) * 0.8 * (1 + 0.22 * strands[..., None])
    return _mix(colour, cover, tint)


def hair_mask(who: Identity, x: Array, y: Array, ragged: Array | float = 0.0) -> Array:
    """Return where hair covers the head, 0..1; `ragged` shifts the hairline locally."""
    line = hairline(who, x) + ragged
    soft = 0.16 if who.hair_style in ("buzz", "receding") else 0.07
    mask = step(-soft / 2, soft, line - y)
    return mask if who.hair_style != "bald" else np.zeros_like(x)


def _hair(who: Identity, colour: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    if who.hair_style == "bald":
        return colour
    sheen, ragged = _hair_flow(who, x, y, rng)
    mask = hair_mask(who, x, y, 0.05 * ragged)
    cover = mask * (0.78 if who.hair_style == "buzz" else 1.0)
    tint = hair_colour(who) * np.clip(1 + sheen, 0.25, 2.2)[..., None]
    shadow = 0.35 * cv2.blur(mask, (9, 9)) * (1 - mask)
    return _mix(colour * (1 - shadow[..., None]), cover, tint)


def _hair_flow(who: Identity, x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    if who.hair_style in ("afro", "buzz"):
        curls = noise(rng, x.shape, (150, 110)) + 0.6 * noise(rng, x.shape, (70, 50))
        return 0.3 * curls, curls
    part = (0.45 if who.seed % 2 else -0.45) if who.hair_style in ("side", "bob") else 0.0
    angle = np.arctan2(x - part, y + 1.9).astype(np.float32)
    radius = np.hypot(x - part, y + 1.9).astype(np.float32)
    wave = 0.05 * noise(rng, x.shape, (9, 7))
    fine = _strands(rng, radius * 6, (angle + wave * 0.6) * 70) * step(0.2, 0.9, radius)
    locks = _strands(rng, radius * 3, (angle + wave) * 26)
    band = 0.35 * bump(radius, radius, 0.75, 0.75, 0.22, 1e3)
    return 0.2 * fine + 0.2 * locks + band - 0.08, 0.6 * fine + 0.7 * locks
