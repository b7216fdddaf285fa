"""From identity, expression, pose and light to pixels and landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.body import draw_body, draw_glasses
from actfer_env.data.synthetic.faces.expression import Expression
from actfer_env.data.synthetic.faces.features import paint_eyes, paint_mouth
from actfer_env.data.synthetic.faces.geometry import (
    RANGE_X,
    RANGE_Y,
    Anatomy,
    Array,
    Frame,
    Pose,
    View,
    base_surface,
    grid,
    limit,
    positions,
    project,
    sample,
    trace,
    within,
)
from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.data.synthetic.faces.muscles import EyeShape, MouthShape, deform, muscles
from actfer_env.data.synthetic.faces.shading import Light, shade
from actfer_env.data.synthetic.faces.texture import LEVELS, albedo, blend, bounds, texture_shape, window
from actfer_env.data.synthetic.faces.wrinkles import relief
from actfer_env.errors import DataError

SIZES = (32, 512)
"""Smallest and largest side of `render_face`'s picture, in pixels."""

HEAD_SHARE = 0.225
"""Half the head's width as a share of `render_face`'s picture."""

FIVE_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""The detectors' five landmarks, in their order; left and right as the viewer sees them."""


@dataclass(frozen=True)
class RenderedFace:
    """A rendered face.

    Attributes:
        image: uint8 (h, w, 3) RGB.
        mask: uint8 (h, w), how much of each pixel is head (ears not included), 255 is all.
        landmarks: Name -> (x, y) in pixels: `FIVE_POINTS`, and brows, lids, lips, chin, forehead.
        box: (x0, y0, x1, y1) around the face from hairline to chin, in pixels.
        rest: The landmarks of the same head with no Action Unit active.
    """

    image: Array
    mask: Array
    landmarks: dict[str, tuple[float, float]]
    box: tuple[float, float, float, float]
    rest: dict[str, tuple[float, float]]

    def five(self) -> Array:
        """Return `FIVE_POINTS` as a (5, 2) array."""
        return np.array([self.landmarks[name] for name in FIVE_POINTS], np.float32)


def render_face(
    who: Identity,
    face: Expression | None = None,
    pose: Pose | None = None,
    light: Light | None = None,
    size: int = 256,
    background: Array | tuple[int, int, int] = (120, 126, 134),
) -> RenderedFace:
    """Render a square head-and-shoulders portrait.

    Args:
        who: The person.
        face: The expression; neutral if left out.
        pose: The head pose; frontal if left out.
        light: The light; a soft key from the upper left if left out.
        size: Side in pixels, 32 to 512.
        background: One colour, or a uint8 (size, size, 3) picture.

    Raises:
        DataError: the size is out of range.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"face size {size!r}: use {SIZES[0]} to {SIZES[1]} pixels")
    canvas, row = np.empty((size, size, 3), np.uint8), np.empty((size, 3), np.uint8)
    fill = np.asarray(background, np.uint8)
    row[:] = fill if fill.ndim == 1 else 0
    canvas[:] = row if fill.ndim == 1 else fill
    frame = Frame(size, size, HEAD_SHARE * size, size / 2 - 0.5, 0.465 * size)
    return paint_face(canvas, who, face or Expression(), pose or Pose(), light or Light(), frame)


def paint_face(canvas: Array, who: Identity, face: Expression, pose: Pose, light: Light, frame: Frame) -> RenderedFace:
    """Draw a person into a picture, in place, and return it with the truth about the face."""
    weights = face.weights()
    layers, drift = deform(base_surface(who), weights)
    rotation = pose.matrix()
    level = _level(frame.scale)
    shapes = muscles(who, face)
    texture = _slide(albedo(who, level), drift, level)
    toward = rotation.T @ light.vector()
    _paint_features(texture, who, shapes, face.gaze, toward)
    _furrows(texture, relief(who, weights, level), toward)
    _light(texture, *shade(layers, rotation, light))
    draw_body(canvas, who, pose, light, frame)
    mask = _lay_head(canvas, texture, layers, rotation, frame)
    draw_glasses(canvas, mask, who, layers, rotation, frame)
    points, rest = landmarks(who, shapes, layers, drift, rotation, frame)
    return RenderedFace(canvas, mask, points, face_box(points), rest)


@lru_cache(maxsize=64)
def _at_rest(who: Identity) -> Array:
    """Return where the landmarks of the head lie with no Action Unit active."""
    layers = base_surface(who)
    return _places(who, muscles(who, Expression()), layers, np.zeros_like(layers[..., :2]))


def _stride(scale: float, cells: int) -> int:
    """Return a sampling distance in pixels that leaves about `cells` samples per unit."""
    return min(max(round(scale / cells), 2), 6)


def _level(scale: float) -> int:
    return next((level for level in LEVELS if level >= 0.8 * scale), LEVELS[-1])


def _paint_features(
    texture: Array,
    who: Identity,
    shapes: tuple[EyeShape, EyeShape, MouthShape],
    gaze: tuple[float, float],
    toward: Array,
) -> None:
    left, right, mouth = shapes
    paint_mouth(texture, who, mouth)
    paint_eyes(texture, who, (left, right), gaze, (float(toward[0]), float(toward[1])))


@lru_cache(maxsize=8)
def _pixel_grid(level: int) -> Array:
    """Return the texture coordinates (pixels) of the coarse chart's cells."""
    height, width = texture_shape(level)
    x, y = grid()
    cols = (x / RANGE_X + 1) * (width / 2) - 0.5
    rows = (y / RANGE_Y + 1) * (height / 2) - 0.5
    return np.stack([cols, rows], axis=-1).astype(np.float32)


def _warp(source: Array, where: Array) -> Array:
    """Look up an image at pixel coordinates, (h, w, 2)."""
    return cv2.remap(source, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def _slide(skin: Array, drift: Array, level: int) -> Array:
    """Move the skin by the muscles' drift: only the part between the hairline and the chin can move.

    From four channels (see `texture.albedo`) to three.
    """
    texture = cv2.cvtColor(skin, cv2.COLOR_RGBA2RGB)
    if not drift.any():
        return texture
    win = window(level, -1.1, 1.1, -1.05, 1.8)
    moved = _pixel_grid(level) - drift * np.float32(level)
    full = cv2.resize(moved, (skin.shape[1], skin.shape[0]), interpolation=cv2.INTER_LINEAR)[win.rows, win.cols]
    cv2.cvtColor(_warp(skin, full), cv2.COLOR_RGBA2RGB, dst=texture[win.rows, win.cols])
    return texture


def _furrows(texture: Array, height: Array, toward: Array) -> None:
    """Darken the hollows of the fine relief and light its slopes, in place."""
    level = texture.shape[0] / (2 * RANGE_Y)
    win = window(round(level), -0.95, 0.95, -0.9, 1.55)
    height, texture = height[win.rows, win.cols], texture[win.rows, win.cols]
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3)
    slope = (gx * float(-toward[0]) + gy * float(-toward[1])) * (level / 64 * 0.12)
    factor = limit(1 + 0.25 * height + limit(slope, -0.16, 0.12), 0.35, 1.25)
    shade3 = cv2.cvtColor(cv2.convertScaleAbs(factor, alpha=128), cv2.COLOR_GRAY2RGB)
    cv2.multiply(texture, shade3, dst=texture, scale=1 / 128)


def _light(texture: Array, factor: Array, gloss: Array) -> None:
    """Light the texture, in place."""
    size = (texture.shape[1], texture.shape[0])
    coarse = cv2.convertScaleAbs(factor, alpha=128)
    fine = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    cv2.multiply(texture, fine, dst=texture, scale=1 / 128)
    shine = cv2.convertScaleAbs(gloss, alpha=255)
    shine3 = cv2.cvtColor(cv2.resize(shine, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2RGB)
    cv2.add(texture, shine3, dst=texture)


def _upsample(coarse: Array, stride: int, frame: Frame) -> Array:
    size = (coarse.shape[1] * stride, coarse.shape[0] * stride)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)[: frame.height, : frame.width]


def _lay_head(canvas: Array, texture: Array, layers: Array, rotation: Array, frame: Frame) -> Array:
    """Draw the head into a picture, in place, and return its coverage."""
    cover = np.zeros(canvas.shape[:2], np.uint8)
    part, inner = _head_part(layers, frame)
    if inner.width >= 2 and inner.height >= 2:
        stride = _stride(frame.scale, 16)
        view = trace(layers, rotation, inner, stride)
        cover[part] = mask = _coverage(view, inner, stride)
        box = bounds(mask)
        if mask[box].size:
            blend(canvas[part][box], _look_up(texture, view, inner, stride, box), mask[box])
    return cover


def _head_part(layers: Array, frame: Frame) -> tuple[tuple[slice, slice], Frame]:
    """Return the part of the picture that the head can reach, as slices and as a frame of its own."""
    wide, tall, _ = layers.max(axis=0).max(axis=0)  # row by row: at once takes ten times as long
    reach = 1.06 * frame.scale * float(max(1.5 * tall, wide, 1.56))
    x0, x1 = (within(frame.cx + side * reach, frame.width) for side in (-1, 1))
    y0, y1 = (within(frame.cy + side * reach, frame.height) for side in (-1, 1))
    inner = Frame(x1 - x0, y1 - y0, frame.scale, frame.cx - x0, frame.cy - y0)
    return (slice(y0, y1), slice(x0, x1)), inner


_OUTLINE = np.clip(((np.arange(256) - 128) * 0.07 + 0.3) * 255, 0, 255).astype(np.uint8)
"""From ten times the distance to the outline, plus 128, to coverage."""


def _coverage(view: View, frame: Frame, stride: int) -> Array:
    near = limit(view.distance * 10 + 128, 0, 255).astype(np.uint8)
    return cv2.LUT(_upsample(near, stride, frame), _OUTLINE)


def _look_up(texture: Array, view: View, frame: Frame, stride: int, box: tuple[slice, slice]) -> Array:
    """Return a box of the frame filled with what the camera sees of the texture."""
    height, width = texture.shape[:2]
    cols = (view.x / RANGE_X + 1) * (width / 2) - 0.5
    rows = (view.y / RANGE_Y + 1) * (height / 2) - 0.5
    full = _upsample(cv2.merge([cols.astype(np.float32), rows.astype(np.float32)]), stride, frame)
    four = cv2.cvtColor(texture, cv2.COLOR_RGB2RGBA)  # `remap` is slow with three channels
    return cv2.cvtColor(_warp(four, full[box]), cv2.COLOR_RGBA2RGB)


_PAINTED = (
    "left_eye", "left_upper_lid", "left_lower_lid", "left_mouth",
    "right_eye", "right_upper_lid", "right_lower_lid", "right_mouth", "upper_lip", "lower_lip",
)  # fmt: skip
_SKIN = (
    "nose", "chin", "forehead", "left_inner_brow", "left_outer_brow", "right_inner_brow", "right_outer_brow",
    "left_cheek", "right_cheek",
)  # fmt: skip


def landmarks(
    who: Identity,
    shapes: tuple[EyeShape, EyeShape, MouthShape],
    layers: Array,
    drift: Array,
    rotation: Array,
    frame: Frame,
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """Return the named points in pixels, as they are and at rest; left and right as the viewer sees them."""
    places = np.concatenate([_places(who, shapes, layers, drift), _at_rest(who)])
    pixels = [(x, y) for x, y, _ in project(places, rotation, frame).tolist()]
    names = _PAINTED + _SKIN
    return dict(zip(names, pixels[: len(names)], strict=True)), dict(zip(names, pixels[len(names) :], strict=True))


def _places(who: Identity, shapes: tuple[EyeShape, EyeShape, MouthShape], layers: Array, drift: Array) -> Array:
    """Return the named points on the head, in three dimensions, float32 (points, 3)."""
    painted = np.array(_painted_points(shapes), np.float32).T
    x, y = np.concatenate([painted, _skin_points(who, drift)], axis=1)
    return positions(layers, x, y)[0]


def _painted_points(shapes: tuple[EyeShape, EyeShape, MouthShape]) -> list[tuple[float, float]]:
    """Return where `_PAINTED` lie on the chart."""
    *eyes, mouth = shapes
    points = []
    for row, eye in enumerate(eyes):
        x = eye.sign * eye.x
        points += [(x, eye.y - 0.013), (x, eye.y - eye.upper), (x, eye.y + max(eye.lower, -eye.upper))]
        points.append((eye.sign * mouth.half[row], mouth.y + mouth.corner[row]))
    upper_lip = mouth.y - mouth.gap_upper - 0.5 * sum(mouth.raise_upper) * 0.55
    return [*points, (0.0, upper_lip), (0.0, mouth.y + mouth.gap_lower)]


def _skin_points(who: Identity, drift: Array) -> Array:
    """Return where `_SKIN` have slid to on the chart, (2, points)."""
    rest = _skin_rest(who)
    moved = rest
    for _ in range(3 if drift.any() else 0):
        moved = rest + sample(drift, moved[:1], moved[1:])[0].T
    return moved


@lru_cache(maxsize=64)
def _skin_rest(who: Identity) -> Array:
    a = Anatomy.of(who)
    brows = [(-0.17, a.brow_y), (-0.62, a.brow_y), (0.17, a.brow_y), (0.62, a.brow_y)]
    points = [(0.0, a.nose_y - 0.04), (0.0, a.chin_y + 0.12), (0.0, -0.75), *brows, (-0.9, 0.55), (0.9, 0.55)]
    return np.array(points, np.float32).T.copy()


def face_box(points: dict[str, tuple[float, float]]) -> tuple[float, float, float, float]:
    """Return the box (x0, y0, x1, y1) from hairline to chin and cheek to cheek."""
    names = ("forehead", "chin", "left_cheek", "right_cheek")
    xs, ys = zip(*(points[name] for name in names), strict=True)
    return min(xs), min(ys), max(xs), max(ys)
