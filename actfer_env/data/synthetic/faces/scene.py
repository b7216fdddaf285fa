"""People in a larger picture, a cluttered background, and a camera that knows nothing of expressions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.expression import Expression
from actfer_env.data.synthetic.faces.geometry import Array, Frame, Pose, base_surface, step, within
from actfer_env.data.synthetic.faces.hand import Hand, draw_hand
from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.data.synthetic.faces.muscles import deform, muscles
from actfer_env.data.synthetic.faces.render import FIVE_POINTS, RenderedFace, draw_face, face_box, landmarks
from actfer_env.data.synthetic.faces.shading import Light
from actfer_env.data.synthetic.faces.texture import noise
from actfer_env.errors import DataError

_CAMERA = {"detail": (0.05, 1), "blur": (0, 8), "noise": (0, 0.2), "exposure": (-4, 3), "jpeg": (5, 100)}
_SIDES = (48, 2048)


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


@dataclass(frozen=True)
class Person:
    """One person in a scene.

    Attributes:
        identity: Identity of the person.
        expression: Expression of the face.
        pose: Head pose; its roll tilts the whole person.
        x: Head centre as a share of the picture's width, -0.5 to 1.5.
        y: Head centre as a share of the picture's height, -0.5 to 1.5.
        scale: Half the head's width in pixels, 4 to 160.
        hand: A hand before the face, if any.
    """

    identity: Identity
    expression: Expression = field(default_factory=Expression)
    pose: Pose = field(default_factory=Pose)
    x: float = 0.5
    y: float = 0.45
    scale: float = 60.0
    hand: Hand | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, (low, high) in {"x": (-0.5, 1.5), "y": (-0.5, 1.5), "scale": (4, 160)}.items():
            if not low <= getattr(self, name) <= high:
                raise DataError(f"person {name}={getattr(self, name)!r}: use {low} to {high}")


@dataclass(frozen=True)
class Background:
    """Background behind the people: `seed` draws it, `clutter` 0..1 fills it, `focus` 1 is sharp."""

    seed: int = 0
    clutter: float = 0.5
    focus: float = 0.3

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("clutter", "focus"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"background {name}={getattr(self, name)!r}: use 0 to 1")

    def draw(self, width: int, height: int) -> Array:
        """Return the background as a uint8 picture."""
        rng = np.random.default_rng(self.seed)
        image = _wall(rng, width // 2 + 1, height // 2 + 1)
        for _ in range(round(16 * self.clutter)):
            _thing(image, rng)
        sigma = 0.004 * max(width, height) * (1.15 - self.focus)
        image = cv2.GaussianBlur(image, (0, 0), max(0.3, sigma))
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _wall(rng: np.random.Generator, width: int, height: int) -> Array:
    """Return a smooth wall, painted on few cells and enlarged."""
    top, bottom = np.array(_colour(rng), np.float32), np.array(_colour(rng), np.float32)
    ramp = step(0.0, 1.0, np.linspace(0, 1, 48, dtype=np.float32))[:, None, None]
    wall = (top + ramp * 0.35 * (bottom - top)) * (1 + 0.06 * noise(rng, (48, 48), (6, 8)))[..., None]
    return cv2.resize(cv2.convertScaleAbs(wall), (width, height), interpolation=cv2.INTER_LINEAR)


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    grey, *shift = rng.random(4).tolist()
    red, green, blue = (min(max(40 + 175 * grey + 76 * value - 38, 5.0), 250.0) for value in shift)
    return red, green, blue


def _thing(image: Array, rng: np.random.Generator) -> None:
    """Draw one random object: a board, a lamp, a pole, a shelf of boards, or foliage."""
    height, width = image.shape[:2]
    kind, colour = int(rng.integers(5)), _colour(rng)
    across, down, wide, high = rng.random(4).tolist()
    x, y = int((1.2 * across - 0.1) * width), int((1.2 * down - 0.1) * height)
    w, h = int((0.04 + 0.28 * wide) * width) + 2, int((0.05 + 0.45 * high) * height) + 2
    if kind == 0:
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
    elif kind == 1:
        cv2.ellipse(
            image,
            (x, y),
            (w // 3 + 1, h // 4 + 1),
            float(rng.uniform(0, 180)),
            0,
            360,
            colour,
            -1,
            cv2.LINE_AA,
        )
    elif kind == 2:
        slant = int(rng.normal() * 0.1 * width)
        cv2.line(image, (x, -5), (x + slant, height + 5), colour, max(1, w // 8), cv2.LINE_AA)
    elif kind == 3:
        for i in range(6):
            cv2.rectangle(image, (x + i * w // 6, y), (x + (i + 1) * w // 6 - 1, y + h // 2), _colour(rng), -1)
    else:
        for dx, dy in rng.normal(0, 0.25, (14, 2)).tolist():
            centre = (int(x + dx * w), int(y + dy * h))
            cv2.ellipse(image, centre, (w // 8 + 1, w // 14 + 1), dx * 360, 0, 360, colour, -1, cv2.LINE_AA)


@dataclass(frozen=True)
class Scene:
    """A picture to take: its size, the people (far ones first), the light, the background and the camera."""

    width: int = 512
    height: int = 512
    people: tuple[Person, ...] = ()
    light: Light = field(default_factory=Light)
    background: Background = field(default_factory=Background)
    camera: Camera = field(default_factory=Camera)

    def __post_init__(self) -> None:
        """Refuse sizes out of range."""
        for name in ("width", "height"):
            if not _SIDES[0] <= getattr(self, name) <= _SIDES[1]:
                raise DataError(f"scene {name}={getattr(self, name)!r}: use {_SIDES[0]} to {_SIDES[1]} pixels")


@dataclass(frozen=True)
class SceneFace:
    """The truth about one face in a finished picture.

    Attributes:
        landmarks: Name -> (x, y) in pixels, pixel centres at whole numbers.
        box: (x0, y0, x1, y1) from hairline to chin.
        inter_ocular: Distance between the eyes in pixels of the picture.
        native_scale: Inter-ocular distance in pixels that carry real detail.
        blur: Blur as a share of the inter-ocular distance.
        noise: The camera's noise divided by the face's contrast.
        brightness: Mean of the face's pixels in the finished picture, 0 to 1.
        contrast: Their standard deviation, 0 to 1.
        inside: Share of the five landmarks inside the picture.
        covered: Share of the face hidden by a hand or by another person.
        yaw: Degrees.
        pitch: Degrees.
        roll: Degrees.
        rest: The landmarks of the same head with no Action Unit active.
    """

    landmarks: dict[str, tuple[float, float]]
    box: tuple[float, float, float, float]
    inter_ocular: float
    native_scale: float
    blur: float
    noise: float
    brightness: float
    contrast: float
    inside: float
    covered: float
    yaw: float
    pitch: float
    roll: float
    rest: dict[str, tuple[float, float]]

    def five(self, rest: bool = False) -> Array:
        """Return the detectors' five landmarks as a (5, 2) array, with `rest` those of the face at rest."""
        points = self.rest if rest else self.landmarks
        return np.array([points[name] for name in FIVE_POINTS], np.float32)

    def rest_box(self) -> tuple[float, float, float, float]:
        """Return the box of the face at rest."""
        return face_box(self.rest)


@dataclass(frozen=True)
class RenderedScene:
    """A finished picture, uint8 (h, w, 3) RGB, and the truth about its faces, ordered as `Scene.people`."""

    image: Array
    faces: tuple[SceneFace, ...]


def render_scene(scene: Scene) -> RenderedScene:
    """Draw a scene and take its picture."""
    canvas = scene.background.draw(scene.width, scene.height)
    hidden = [np.zeros(canvas.shape[:2], np.uint8) for _ in scene.people]
    drawn = []
    for i, person in enumerate(scene.people):
        face, hand = _draw_person(canvas, person, scene.light)
        for behind in hidden[:i]:
            np.maximum(behind, face.mask, out=behind)
        if hand is not None:
            np.maximum(hidden[i], hand, out=hidden[i])
        drawn.append(face)
    image = scene.camera.shoot(canvas)
    people = zip(scene.people, drawn, hidden, strict=True)
    return RenderedScene(image, tuple(_truth(image, scene, *entry) for entry in people))


def person_frame(width: int, height: int, person: Person) -> Frame:
    """Return where a person's head sits in a picture of that size."""
    return Frame(width, height, person.scale, person.x * width, person.y * height)


def person_landmarks(scene: Scene, index: int = -1) -> dict[str, tuple[float, float]]:
    """Return the landmarks of one person's face in a scene, as `render_scene` would, without drawing it."""
    person = scene.people[index]
    layers, drift = deform(base_surface(person.identity), person.expression.weights())
    frame = person_frame(scene.width, scene.height, person)
    shapes = muscles(person.identity, person.expression)
    return landmarks(person.identity, shapes, layers, drift, person.pose.matrix(), frame)[0]


def _draw_person(canvas: Array, person: Person, light: Light) -> tuple[RenderedFace, Array | None]:
    """Draw one person, touching only the part of the picture that the body can reach."""
    height, width = canvas.shape[:2]
    cx, cy, reach = person.x * width, person.y * height, person.scale
    x0, x1 = (within(cx + side * 3.2 * reach, width) for side in (-1, 1))
    y0, y1 = within(cy - 2.6 * reach, height), height
    mask = np.zeros((height, width), np.uint8)
    frame = Frame(max(x1 - x0, 8), max(y1 - y0, 8), person.scale, cx - x0, cy - y0)
    visible = x1 - x0 >= 8 and y1 - y0 >= 8
    part = np.ascontiguousarray(canvas[y0:y1, x0:x1]) if visible else np.zeros((8, 8, 3), np.uint8)
    face = draw_face(part, person.identity, person.expression, person.pose, light, frame)
    hand = draw_hand(part, person.hand, person.identity, light, frame) if person.hand else None
    if visible:
        canvas[y0:y1, x0:x1] = part
        mask[y0:y1, x0:x1] = face.mask
    cover = None
    if hand is not None and visible:
        cover = np.zeros((height, width), np.uint8)
        cover[y0:y1, x0:x1] = hand
    points = {name: (px + x0, py + y0) for name, (px, py) in face.landmarks.items()}
    box = (face.box[0] + x0, face.box[1] + y0, face.box[2] + x0, face.box[3] + y0)
    rest = {name: (px + x0, py + y0) for name, (px, py) in face.rest.items()}
    return RenderedFace(canvas, mask, points, box, rest), cover


def _truth(image: Array, scene: Scene, person: Person, face: RenderedFace, hidden: Array) -> SceneFace:
    five = face.five()
    eyes = float(np.hypot(*(five[1] - five[0])))
    inside = ((five >= 0) & (five <= [scene.width - 1, scene.height - 1])).all(axis=1)
    tone = _pixels(image, face.box)
    contrast = float(tone.std()) if tone.size else 0.0
    camera = scene.camera
    soft = float(np.sqrt(camera.blur**2 + (0.5 / camera.detail) ** 2 - 0.25)) if eyes else 0.0
    return SceneFace(
        landmarks=face.landmarks,
        box=face.box,
        inter_ocular=eyes,
        native_scale=eyes * camera.detail / (1 + camera.blur * camera.detail),
        blur=soft / max(eyes, 1e-6),
        noise=camera.noise / max(contrast, 1e-3),
        brightness=float(tone.mean()) if tone.size else 0.0,
        contrast=contrast,
        inside=float(inside.mean()),
        covered=_covered(face.box, hidden),
        yaw=person.pose.yaw,
        pitch=person.pose.pitch,
        roll=person.pose.roll,
        rest=face.rest,
    )


def _window(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    rows = slice(within(y0, shape[0]), within(y1 + 1, shape[0]))
    return rows, slice(within(x0, shape[1]), within(x1 + 1, shape[1]))


def _pixels(image: Array, box: tuple[float, float, float, float]) -> Array:
    part = image[_window(box, image.shape)].astype(np.float32)
    return cv2.transform(part, np.ones((1, 3), np.float32)) / np.float32(765) if part.size else part


def _covered(box: tuple[float, float, float, float], hidden: Array) -> float:
    part = hidden[_window(box, hidden.shape)]
    return cv2.mean(part)[0] / 255 if part.size else 1.0


def is_detectable(face: SceneFace) -> bool:
    """Apply the fixed geometric and photometric rule: should a good detector find this face?"""
    return (
        face.native_scale >= 5.5
        and face.inter_ocular >= 16
        and face.inside == 1
        and face.covered <= 0.2
        and abs(face.yaw) <= 30
        and abs(face.pitch) <= 20
        and abs(face.roll) <= 30
        and face.blur <= 0.12
        and 0.12 <= face.brightness <= 0.92
        and face.contrast >= 0.045
        and face.noise <= 0.8
    )
