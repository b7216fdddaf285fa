"""Eyes and mouth: painted afresh for every expression, each into its own small window of the texture.

Colours are planes, (3, ..., h, w): a mask laid over three whole planes costs a third of one over (h, w, 3) pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.geometry import RANGE_Y, Array, limit, step, unit
from actfer_env.data.synthetic.faces.identity import EYE_COLOURS, Identity
from actfer_env.data.synthetic.faces.muscles import EyeShape, MouthShape
from actfer_env.data.synthetic.faces.texture import Window, hair_colour, lip_colour, planes, skin_colour, window

SCLERA = planes([214, 206, 199])
CARUNCLE = planes([196, 130, 120])
TEETH = planes([222, 213, 196])
CAVITY = planes([52, 20, 19])
TONGUE = planes([142, 70, 68])
PARTING = planes([58, 26, 24])


def _edge(distance: Array, width: float) -> Array:
    return unit(distance * (1 / width) + 0.5)


def _over(colour: Array, mask: Array, other: Array | np.float32) -> None:
    colour += mask * (other - colour)


def _dark(colour: Array, amount: Array) -> None:
    colour *= 1 - amount


@dataclass(frozen=True)
class _Eyes:
    """Both eyes as arrays of shape (2, 1, 1), on one axis that runs outwards from the middle of the face."""

    who: Identity
    upper: Array
    lower: Array
    crease: Array
    straight: Array
    along: Array
    y: Array
    pixel: float


def paint_eyes(
    texture: Array,
    who: Identity,
    eyes: tuple[EyeShape, EyeShape],
    gaze: tuple[float, float],
    glint: tuple[float, float],
) -> None:
    """Paint both eyes into a uint8 texture, in place: the left one mirrored, both in one pass."""
    level, width = round(texture.shape[0] / (2 * RANGE_Y)), texture.shape[1]
    one = eyes[0]
    win = window(level, round(one.x, 2) - 0.32, round(one.x, 2) + 0.32, one.y - 0.26, one.y + 0.24)
    left = texture[win.rows, width - win.cols.stop : width - win.cols.start][:, ::-1]
    right = texture[win.rows, win.cols]
    colour = np.stack([left, right]).transpose(3, 0, 1, 2).astype(np.float32, order="C")
    along = (win.x - one.x) / one.half
    y = win.y - one.y + one.tilt * one.half * along
    shape = _lids(who, eyes, along, y, win.pixel)
    _lid_folds(colour, shape)
    opening = np.minimum(y - shape.upper, shape.lower - y)
    mask = _edge(opening, 1.5 * win.pixel) * (np.abs(along) < 1)
    _over(colour, mask, _eyeball(shape, win.x - one.x, gaze, glint))
    _lashes(colour, shape)
    np.minimum(np.maximum(colour, 0, out=colour), 255, out=colour)
    left[:], right[:] = (cv2.merge(list(colour[:, side].astype(np.uint8))) for side in (0, 1))


def _two(left: float, right: float) -> Array:
    return np.array([left, right], np.float32).reshape(2, 1, 1)


def _lids(who: Identity, eyes: tuple[EyeShape, EyeShape], along: Array, y: Array, pixel: float) -> _Eyes:
    upper, lower, crease, straight = (
        _two(getattr(eyes[0], name), getattr(eyes[1], name)) for name in ("upper", "lower", "crease", "straight")
    )
    t = limit(along, -1, 1)
    arch = 1 - t * t
    root = np.sqrt(arch)
    high = -upper * ((0.55 * arch + 0.45 * root) * (1 - 0.16 * t))
    low = lower * (0.7 * arch + 0.3 * root) * (1 + 0.22 * t * (1 - straight))
    return _Eyes(who, high, np.maximum(low, high), crease, straight, along, y, pixel)


def _lid_folds(colour: Array, eyes: _Eyes) -> None:
    along, y = eyes.along, eyes.y
    t = limit(along, -1.25, 1.25)
    reach = limit(1.12 - np.abs(along), 0, 0.3) * (1 / 0.3)
    crease = -eyes.crease * (1 - 0.62 * t * t * np.where(t > 0, 0.8, 1.1))
    crease = np.minimum(crease, eyes.upper - 0.02)
    offset = y - crease
    line = (0.3 + 0.12 * eyes.who.eye_fold) * reach / (1 + (offset * offset) * (1 / 0.016**2))
    above = step(-0.14, 0.0, offset) * step(0, -0.02, offset) * (reach * 0.12)
    lid = step(0, 0.02, offset) * (y < eyes.upper) * (reach * 0.05)
    below = y - eyes.lower - 0.035
    bag = (0.03 + 0.17 * eyes.straight) * unit(1 - along * along) / (1 + below * below * (1 / 0.02**2))
    _dark(colour, line + above + bag - lid)


def _eyeball(eyes: _Eyes, x: Array, gaze: tuple[float, float], glint: tuple[float, float]) -> Array:
    side = _two(-1, 1)
    along = limit(eyes.along, -1, 1)
    white = SCLERA * (1 - 0.28 * along * along)
    white = white + (step(-0.72, -1.0, along) * 0.5) * (CARUNCLE - white)
    ball = np.broadcast_to(white[:, None], (3, 2, *eyes.y.shape)).copy()
    x, y = x - 0.075 * gaze[0] * side, eyes.y - 0.035 * gaze[1] + 0.008
    radius = np.sqrt(x * x + y * y)
    _over(ball, _edge(0.094 - radius, 2 * eyes.pixel), _iris(eyes.who, x, y, radius, eyes.pixel))
    _dark(ball, 0.58 * step(0.075, -0.01, eyes.y - eyes.upper) + 0.1)
    spot = np.sqrt((x - glint[0] * 0.04 * side) ** 2 + (y - glint[1] * 0.04) ** 2)
    _over(ball, _edge(0.017 - spot, 1.5 * eyes.pixel) * np.float32(0.92), np.float32(250))
    return ball


def _iris(who: Identity, x: Array, y: Array, radius: Array, pixel: float) -> Array:
    tone = planes(EYE_COLOURS[who.eye_colour])[:, None]
    depth = limit(y * (0.3 / 0.09), -0.3, 0.3) + np.float32(0.95)
    ring = 1 - 0.62 * step(0.068, 0.092, radius)
    collar = 1 + 0.35 * step(0.062, 0.042, radius)
    fibre = 1 + 0.12 * np.sign(x * y) * step(0.03, 0.07, radius)
    iris = tone * (depth * ring * collar * fibre)
    _over(iris, _edge(0.037 - radius, 2 * pixel), np.float32(9))
    return iris


def _lashes(colour: Array, eyes: _Eyes) -> None:
    who, along, pixel = eyes.who, eyes.along, eyes.pixel
    taper = limit(1.1 - np.abs(along - 0.06), 0, 0.25) * 4
    thick = np.maximum(0.011 + 0.004 * limit(along + 1, 0, 2) + 0.004 * (1 - who.brow_thickness), pixel)
    lash = unit(1.2 - np.abs(eyes.y - eyes.upper + 0.004) / thick) * taper
    dark = np.minimum(hair_colour(who) * 0.3, 40) + skin_colour(who) * 0.05
    under = unit(1.1 - np.abs(eyes.y - eyes.lower - 0.006) * (1 / max(0.01, pixel))) * taper
    _over(colour, 0.4 * under, planes(dark + 0.35 * skin_colour(who))[:, None])
    _over(colour, 0.9 * lash, planes(dark)[:, None])


def paint_mouth(texture: Array, who: Identity, mouth: MouthShape) -> None:
    """Paint the mouth into a uint8 texture, in place."""
    level = round(texture.shape[0] / (2 * RANGE_Y))
    win = window(level, -0.58, 0.58, 0.56, 1.3 if mouth.jaw < 0.05 else 1.52)
    patch = texture[win.rows, win.cols]
    colour = patch.transpose(2, 0, 1).astype(np.float32, order="C")
    cols = slice(*np.searchsorted(win.x[0], (-mouth.half[0], mouth.half[1])).tolist())
    inner, part = colour[..., cols], replace(win, x=win.x[:, cols])
    curves = _lip_curves(who, mouth, part.x)
    _around_lips(*_between(inner, part, curves.top, curves.bottom, 0.12), curves)
    _paint_lips(*_between(inner, part, curves.top, curves.bottom, 0.012 + part.pixel), who, curves)
    _inside(*_between(inner, part, curves.inner_top, curves.inner_bottom, part.pixel), mouth, curves)
    _parting(colour, inner, mouth, curves, part)
    _corners(colour, mouth, win)
    patch[:] = cv2.merge(list(limit(colour, 0, 255).astype(np.uint8)))


@dataclass(frozen=True)
class LipCurves:
    """Per column: position along the mouth (-1..1) and the heights of the four lip edges."""

    t: Array
    top: Array
    inner_top: Array
    inner_bottom: Array
    bottom: Array
    inside: Array


def _lip_curves(who: Identity, mouth: MouthShape, x: Array) -> LipCurves:
    right = step(-0.12, 0.12, x)

    def blend(two: tuple[float, float]) -> Array:
        return two[0] + (two[1] - two[0]) * right

    half, corner = np.where(x > 0, mouth.half[1], mouth.half[0]), blend(mouth.corner)
    raw = x / half
    t = limit(raw, -1, 1)
    at, arch = np.abs(t), 1 - t * t
    round_ = np.sqrt(arch)
    line = mouth.y + corner * at * at * (0.65 + 0.35 * at) + 0.012 * (1 - 4 * np.minimum(at, 0.5)) * (1 - mouth.pressed)
    lift = blend(mouth.raise_upper) * (arch * (0.55 + 0.9 * at))
    inner_top = line - mouth.gap_upper * (0.6 * arch + 0.4 * round_) - lift
    inner_bottom = line + mouth.gap_lower * (0.6 * arch + 0.4 * round_) - 0.25 * lift
    bow = (1 - 0.2 * limit(1 - at / 0.2, 0, 1)) * (1 - at) ** 0.5 * (0.5 + 0.5 * np.sqrt(1 - at * at))
    top = inner_top - blend(mouth.upper) * np.minimum(bow, 1.0)
    bottom = inner_bottom + mouth.lower * (0.45 * arch + 0.55 * round_)
    inside = limit((1 - np.abs(raw)) * 12, 0, 1)
    return LipCurves(t, top, inner_top, inner_bottom, bottom, inside)


def _between(colour: Array, win: Window, top: Array, bottom: Array, spare: float) -> tuple[Array, Window]:
    """Return the rows from one curve to another, with room for soft edges."""
    ends = (float(top.min()) - spare, float(bottom.max()) + spare)
    rows = slice(*np.searchsorted(win.y[:, 0], ends).tolist())
    return colour[:, rows], replace(win, y=win.y[rows])


def _around_lips(colour: Array, win: Window, lips: LipCurves) -> None:
    arch = 1 - lips.t * lips.t
    below = win.y - lips.bottom
    shadow = step(0.11, 0.0, below) * (below > -0.02) * arch * lips.inside
    above = lips.top - win.y
    rim = step(0.03, 0.0, above) * (above > 0) * arch * lips.inside
    _dark(colour, 0.2 * shadow - 0.07 * rim)


def _paint_lips(colour: Array, win: Window, who: Identity, lips: LipCurves) -> None:
    tone = planes(lip_colour(who))
    soft = 0.014 + win.pixel
    mask = np.minimum(_edge(win.y - lips.top, soft), _edge(lips.bottom - win.y, soft * 1.4)) * lips.inside
    middle = (lips.inner_top + lips.inner_bottom) / 2
    upper = limit((win.y - lips.top) / np.maximum(lips.inner_top - lips.top, 1e-3), 0, 1)
    lower = limit((win.y - lips.inner_bottom) / np.maximum(lips.bottom - lips.inner_bottom, 1e-3), 0, 1)
    shade_up = 0.97 - 0.22 * upper * upper
    shade_low = 0.86 + 0.55 * lower * (1 - lower) - 0.1 * lower
    shade = np.where(win.y < middle, shade_up, shade_low)
    lines = 1 + 0.015 * np.sign(((win.x * 38) % 1) - 0.5) * (1 - 0.5 * np.abs(lips.t))
    gloss = limit(1 - np.abs(lower - 0.36) * 4.5, 0, 1) * limit(1 - np.abs(lips.t) * 1.6, 0, 1) * (win.y > middle)
    painted = tone * (shade * lines) + 26 * gloss
    _over(colour, 0.88 * mask, painted)


def _inside(colour: Array, win: Window, mouth: MouthShape, lips: LipCurves) -> None:
    gap = np.minimum(win.y - lips.inner_top, lips.inner_bottom - win.y)
    if float((lips.inner_bottom - lips.inner_top).max()) < 0.6 * win.pixel:
        return
    mask = _edge(gap, 1.5 * win.pixel) * lips.inside
    cavity = np.broadcast_to(CAVITY, colour.shape).copy()
    _tongue(cavity, mouth, lips, win)
    _teeth(cavity, mouth, lips, win)
    _dark(cavity, 0.55 * step(0.05, 0, win.y - lips.inner_top) + 0.4 * lips.t**4)
    _over(colour, mask, cavity)


def _tongue(cavity: Array, mouth: MouthShape, lips: LipCurves, win: Window) -> None:
    if not mouth.jaw:
        return
    top = lips.inner_bottom - 0.085 * mouth.jaw * (1 - lips.t * lips.t * 1.6)
    mask = step(0, 0.05, win.y - top) * (np.abs(lips.t) < 0.8) * min(1.0, 2 * mouth.jaw)
    _over(cavity, 0.8 * mask, TONGUE)


def _teeth(cavity: Array, mouth: MouthShape, lips: LipCurves, win: Window) -> None:
    ax = np.abs(win.x)
    edge = mouth.teeth_y - 0.10 * ax * ax + 0.006 * np.abs(((win.x / 0.11) % 1) - 0.5)
    width = _edge(0.36 - ax, 0.06)
    upper = _edge(edge - win.y, 2 * win.pixel) * width
    separate = 1 - 0.22 * limit(1 - np.abs((win.x / 0.11 + 0.5) % 1 - 0.5) * 14, 0, 1)
    tooth = TEETH * (separate * (1 - 1.6 * ax * ax))
    _over(cavity, upper, tooth)
    lower_edge = mouth.teeth_y + 0.012 + 0.17 * mouth.jaw + 0.1 * ax * ax
    lower = _edge(win.y - lower_edge, 2 * win.pixel) * _edge(0.24 - ax, 0.06)
    _over(cavity, lower * 0.9, tooth * 0.78)


def _parting(colour: Array, inner: Array, mouth: MouthShape, lips: LipCurves, win: Window) -> None:
    """Draw the line between the lips into the mouth's columns, in a tone that follows the whole window's."""
    mean = cv2.merge(list(colour)).mean()  # of pixels, not of planes: the order of a sum decides its last digit
    middle = (lips.inner_top + lips.inner_bottom) / 2
    width = max(0.011 + 0.004 * mouth.pressed, 0.8 * win.pixel)
    inner, win = _between(inner, win, middle, middle, 1.3 * width)
    gap = np.maximum(lips.inner_bottom - lips.inner_top, 0)
    line = limit(1.25 - np.abs(win.y - middle) / width, 0, 1) * limit(1 - gap / 0.03, 0, 1)
    ends = limit((1.03 - np.abs(lips.t)) * 8, 0, 1) * lips.inside
    _over(inner, 0.82 * line * ends, PARTING * (0.6 + 0.4 * mean / 180))


def _corners(colour: Array, mouth: MouthShape, win: Window) -> None:
    """Darken the corners of the mouth."""
    for row, sign in enumerate((-1.0, 1.0)):
        cx, cy = sign * (mouth.half[row] + 0.008), mouth.y + mouth.corner[row]
        spot = 1 / (1 + ((win.x - cx) ** 2 + (win.y - cy) ** 2) / 0.0007)
        _dark(colour, (0.3 * spot).astype(np.float32))
