"""People in a larger picture with a cluttered background, seen by a camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.camera import Camera
from actfer_env.data.synthetic.faces.expression import Expression
from actfer_env.data.synthetic.faces.geometry import Array, Frame, Pose, base_surface, step, within
from actfer_env.data.synthetic.faces.hand import Hand, draw_hand
from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.data.synthetic.faces.muscles import deform, muscles
from actfer_env.data.synthetic.faces.render import FIVE_POINTS, RenderedFace, face_box, landmarks, paint_face
from actfer_env.data.synthetic.faces.shading import Light
from actfer_env.data.synthetic.faces.texture import noise
from actfer_env.errors import DataError

_SIDES = (48, 2048)


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
    face = paint_face(part, person.identity, person.expression, person.pose, light, frame)
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
