"""The data set "synthetic": procedural faces with exact labels, drawn when they are looked at.

Sample i of a seed and split is a pure function of these and of the preset: nothing depends on order, process or
cache. What the face does is drawn from one random stream; who it is, where it stands and what the camera does to the
picture from another, so that the optics know nothing of the emotion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from actfer_env import facs
from actfer_env._version import GENERATOR_VERSION
from actfer_env.data.synthetic.faces import (
    RENDERED_AUS,
    Background,
    Camera,
    Expression,
    Hand,
    Identity,
    Light,
    Person,
    Pose,
    RenderedScene,
    Scene,
    SceneFace,
    person_landmarks,
    render_scene,
)
from actfer_env.data.synthetic.presets import PRESETS, Difficulty, SyntheticConfig
from actfer_env.errors import DataError
from actfer_env.images import RGB
from actfer_env.sample import Sample, SampleSequence

SIZES: Mapping[str, int] = MappingProxyType({"train": 20_000, "val": 2_500, "test": 5_000})
"""Samples in each split, if `n` is left out."""
IDENTITIES: Mapping[str, int] = MappingProxyType({"train": 4_000, "val": 500, "test": 1_000})
"""People in each split; no two splits share one."""
PRIOR: Mapping[str, float] = MappingProxyType({
    "neutral": 0.22, "happiness": 0.25, "sadness": 0.13, "surprise": 0.10,
    "fear": 0.06, "disgust": 0.07, "anger": 0.12, "contempt": 0.05,
})  # fmt: skip
"""Emotions with ``emotions="prior"``: about as uneven as photos from the web (chosen here)."""

_SPLITS = tuple(SIZES)
_FACE_STREAM, _WORLD_STREAM, _IDENTITY_STREAM = range(3)


# Units that may come along with any expression, and pairs that a face cannot show together.
_GUESTS = (1, 2, 4, 6, 7, 10, 14, 17, 20, 24, 25, 26, 43)
_CLASHES = ({5, 43}, {7, 43}, {5, 7}, {24, 25}, {24, 26}, {23, 24}, {17, 26}, {12, 15}, {12, 24}, {20, 23}, {10, 24})


@dataclass(frozen=True)
class Spec:
    """Everything that defines one sample before it is drawn.

    Attributes:
        emotion: The label.
        expression: Action Unit intensities.
        scene: People, light, background and camera; the sample's face is the last person.
        quality: "good", "poor" or "lost".
        identity: Number of the person within the split.
    """

    emotion: str
    expression: Expression
    scene: Scene
    quality: str
    identity: int

    @property
    def aus(self) -> frozenset[int]:
        """The active Action Units, on either side of the face."""
        return frozenset(self.expression.left) | frozenset(self.expression.right)


@lru_cache(maxsize=64)
def draw_spec(config: SyntheticConfig, split: str, index: int) -> Spec:
    """Return the definition of one sample.

    Args:
        config: Settings of the drawn data set.
        split: "train", "val" or "test".
        index: Number of the sample, from 0; there is no upper bound.
    """
    level = PRESETS[config.preset]
    face, world = (_stream(config, split, index, stream) for stream in (_FACE_STREAM, _WORLD_STREAM))
    emotion = _draw_emotion(config.emotions, face)
    expression = _draw_expression(emotion, level, face)
    identity = int(world.integers(IDENTITIES[split]))
    scene, quality = _draw_scene(config, split, level, identity, expression, world)
    return Spec(emotion, expression, scene, quality, identity)


def _stream(config: SyntheticConfig, split: str, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([GENERATOR_VERSION, config.seed, _SPLITS.index(split), index, stream])


def _draw_emotion(kind: str, rng: np.random.Generator) -> str:
    shares = list(PRIOR.values()) if kind == "prior" else [1 / len(facs.EMOTIONS)] * len(facs.EMOTIONS)
    return facs.EMOTIONS[int(np.searchsorted(np.cumsum(shares)[:-1], rng.random(), side="right"))]


def _draw_expression(emotion: str, level: Difficulty, rng: np.random.Generator) -> Expression:
    prototype = facs.PROTOTYPES[emotion]
    choices = [prototype.aus]
    if prototype.variants and rng.random() < level.variant:
        choices = [prototype.variants[int(rng.integers(len(prototype.variants)))]]
    units = [au for au in sorted(choices[0]) if au in RENDERED_AUS]
    kept = [au for au in units if rng.random() >= level.drop]
    active = set(kept or units[:1])
    if rng.random() < level.add:
        active |= _guest(active, rng)
    if 26 in active:
        active.add(25)  # a dropped jaw parts the lips, and FACS codes both
    strength = {au: round(float(rng.uniform(*level.intensity)), 2) for au in sorted(active)}
    gaze = (round(float(rng.normal() * 0.2), 3), round(float(rng.normal() * 0.1), 3))
    gaze = (float(np.clip(gaze[0], -1, 1)), float(np.clip(gaze[1], -1, 1)))
    return _one_sided(strength, prototype, gaze, rng)


def _guest(active: set[int], rng: np.random.Generator) -> set[int]:
    guest = _GUESTS[int(rng.integers(len(_GUESTS)))]
    pairs = ({guest, au} for au in active)
    return set() if any(pair in _CLASHES for pair in pairs) else {guest}


def _one_sided(
    strength: dict[int, float], prototype: facs.Prototype, gaze: tuple[float, float], rng: np.random.Generator
) -> Expression:
    """Put a unilateral prototype's units on one side; all others differ a little between the sides."""
    left_only = bool(rng.random() < 0.5)
    sides: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for au, value in strength.items():
        other = round(float(np.clip(value + rng.normal() * 0.3, 1.0, 5.0)), 2)
        if prototype.unilateral and au in (12, 14):
            sides[0 if left_only else 1][au] = value
        else:
            sides[0][au], sides[1][au] = value, other
    return Expression(*sides, gaze)


def _draw_scene(
    config: SyntheticConfig, split: str, level: Difficulty, identity: int, expression: Expression,
    rng: np.random.Generator,
) -> tuple[Scene, str]:  # fmt: skip
    quality = "lost" if rng.random() < level.lost else "poor" if rng.random() < level.poor else "good"
    side = int(rng.integers(level.side[0], level.side[1] + 1))
    person = _draw_person(config, split, level, identity, expression, side, rng)
    people = [person]
    if rng.random() < level.second:
        people.insert(0, _draw_bystander(config, split, person, rng))
    light = Light(
        azimuth=float(rng.uniform(-65, 65)), elevation=float(rng.uniform(0, 55)), key=float(rng.uniform(0.6, 1.1)),
        ambient=float(rng.uniform(0.25, 0.6)), warmth=float(rng.uniform(-0.6, 0.8)), gloss=float(rng.uniform(0.1, 0.7)),
    )  # fmt: skip
    background = Background(int(rng.integers(2**31)), float(rng.random()), float(rng.random()))
    camera = Camera.sample(rng, 1.0 if quality == "poor" else 0.0)
    if quality == "poor":
        camera = replace(camera, detail=camera.detail * level.poor_detail)
    scene = Scene(side, side, tuple(people), light, background, camera)
    return (_lose(scene, rng) if quality == "lost" else scene), quality


def _draw_person(
    config: SyntheticConfig, split: str, level: Difficulty, identity: int, expression: Expression, side: int,
    rng: np.random.Generator,
) -> Person:  # fmt: skip
    scale = float(rng.uniform(*level.scale))
    margin = min(1.5 * scale / side, 0.45)
    pose = Pose(
        float(rng.uniform(-level.yaw, level.yaw)), float(rng.uniform(-1, 1) * level.yaw * 2 / 3),
        float(rng.uniform(-level.roll, level.roll)),
    )  # fmt: skip
    x, y = float(rng.uniform(margin, 1 - margin)), float(rng.uniform(margin, max(1 - margin, margin + 0.01)))
    hand = _draw_hand(rng) if rng.random() < level.hand else None
    return Person(_identity(config.seed, split, identity), expression, pose, x, y, scale, hand)


def _draw_hand(rng: np.random.Generator) -> Hand:
    """A hand that leans on the cheek or the chin."""
    side = 1 if rng.random() < 0.5 else -1
    return Hand(
        x=side * float(rng.uniform(0.75, 1.3)), y=float(rng.uniform(0.6, 1.4)), angle=-side * float(rng.uniform(5, 40)),
        size=float(rng.uniform(0.8, 1.1)), spread=float(rng.random()),
    )  # fmt: skip


def _draw_bystander(config: SyntheticConfig, split: str, person: Person, rng: np.random.Generator) -> Person:
    other = _identity(config.seed, split, int(rng.integers(IDENTITIES[split])))
    x = person.x + (0.5 if person.x < 0.5 else -0.5) * float(rng.uniform(0.8, 1.2))
    return Person(other, Expression(), Pose(roll=float(rng.uniform(-8, 8))), float(np.clip(x, -0.4, 1.4)),
                  float(rng.uniform(0.3, 0.7)), 0.55 * person.scale)  # fmt: skip


def _lose(scene: Scene, rng: np.random.Generator) -> Scene:
    """Make the face one that a detector should miss: tiny, cut, covered, or dark."""
    kind = int(rng.integers(4))
    *others, person = scene.people
    changes = vars(person).copy()
    camera = vars(scene.camera).copy()
    if kind == 0:
        changes["scale"] = float(rng.uniform(4.0, 4.6))
    elif kind == 1:
        changes["x"] = float(rng.choice([-1, 1]) * (0.5 + rng.uniform(0.03, 0.1)) + 0.5)
        changes["scale"] = float(rng.uniform(60, 90))
    elif kind == 2:
        changes["hand"] = Hand(0.0, float(rng.uniform(0.15, 0.35)), float(rng.uniform(-20, 20)), 1.5, 0.0)
    else:
        camera |= {"exposure": -4.0, "noise": 0.2, "blur": 1.5}
    people = (*others, Person(**changes))
    return Scene(scene.width, scene.height, people, scene.light, scene.background, Camera(**camera))


@lru_cache(maxsize=512)
def _identity(seed: int, split: str, number: int) -> Identity:
    return Identity.sample(
        np.random.default_rng([GENERATOR_VERSION, seed, _SPLITS.index(split), number, _IDENTITY_STREAM])
    )


@lru_cache(maxsize=32)
def render(config: SyntheticConfig, split: str, index: int) -> RenderedScene:
    """Draw one sample: the picture and the truth about its faces; the last few are kept."""
    return render_scene(draw_spec(config, split, index).scene)


def picture(config: SyntheticConfig, split: str, index: int) -> RGB:
    """Return one sample's picture, uint8 (side, side, 3)."""
    return np.asarray(render(config, split, index).image, np.uint8).copy()


def truths(config: SyntheticConfig, split: str, index: int) -> tuple[SceneFace, ...]:
    """Return the truth about one sample's faces, the labelled one last."""
    return render(config, split, index).faces


def true_landmarks(
    config: SyntheticConfig, split: str, index: int
) -> tuple[dict[str, tuple[float, float]], tuple[int, int]]:
    """Return the landmarks of one sample's labelled face and the picture's (width, height), both in pixels."""
    scene = draw_spec(config, split, index).scene
    return person_landmarks(scene), (scene.width, scene.height)


@dataclass(frozen=True)
class SyntheticSamples(SampleSequence):
    """The samples of one split, made when they are asked for.

    Attributes:
        config: Settings of the drawn data set.
        split: "train", "val" or "test".
        n: Number of samples.
    """

    config: SyntheticConfig
    split: str
    n: int
    wrap: Callable[[Callable[[], RGB], str], Callable[[], RGB]] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return self.n

    def _at(self, index: int) -> Sample:
        return make_sample(self.config, self.split, index, self.wrap)

    def position(self, name: str) -> int | None:
        """Return the index of a sample id, or None."""
        head, _, number = name.rpartition("-")
        known = head == self.split and number.isdecimal() and int(number) < self.n
        return int(number) if known and name == _name(self.split, int(number)) else None


@lru_cache(maxsize=8192)
def make_sample(
    config: SyntheticConfig, split: str, index: int,
    wrap: Callable[[Callable[[], RGB], str], Callable[[], RGB]] | None = None,
) -> Sample:  # fmt: skip
    """Return one sample; its picture is drawn when it is looked at.

    Args:
        config: Settings of the drawn data set.
        split: The split.
        index: Number of the sample, from 0.
        wrap: Puts a disk cache around the drawing; see `load_synthetic`.
    """
    spec = draw_spec(config, split, index)
    name = _name(split, index)
    source: Callable[[], RGB] = partial(picture, config, split, index)
    reference = f"synthetic v{GENERATOR_VERSION}, {config.preset}, {config.emotions}, seed {config.seed}, {name}"
    return Sample(
        id=name, source=wrap(source, reference) if wrap else source, emotion=spec.emotion, aus=spec.aus, split=split,
        meta=_meta(spec, reference, split), annotate=partial(truths, config, split, index),
        landmarks=partial(true_landmarks, config, split, index),
    )  # fmt: skip


def _meta(spec: Spec, reference: str, split: str) -> dict[str, Any]:
    person = spec.scene.people[-1]
    sides = {"left": spec.expression.left, "right": spec.expression.right}
    strengths = {side: {facs.format_au(au): value for au, value in units.items()} for side, units in sides.items()}
    return {
        "dataset": "synthetic", "image": reference, "quality": spec.quality, "generator": GENERATOR_VERSION,
        "identity": f"{split}-{spec.identity}", "skin_tone": int(person.identity.tone),
        "face_width": round(float(person.identity.width), 3), "intensities": strengths,
    }  # fmt: skip


def _name(split: str, index: int) -> str:
    return f"{split}-{index:06d}"


def load_synthetic(
    root: str | None = None,
    *,
    split: str | None = None,
    seed: int = 0,
    preset: str = "standard",
    emotions: Literal["balanced", "prior"] = "balanced",
    n: int | None = None,
    cache: str | None = None,
) -> SyntheticSamples:
    """Read the data set "synthetic".

    Args:
        root: Must be None.
        split: The split; None is "train".
        seed: Random seed of the data set.
        preset: A name in `PRESETS`: "easy", "standard", "hard", "mixed", "subtle" or "micro".
        emotions: "balanced" or "prior".
        n: Samples; default is `SIZES`.
        cache: A folder in which drawn pictures are kept as PNG files; without it they are drawn again.

    Raises:
        DataError: an unknown preset, a negative number.
    """
    if root is not None:
        raise DataError("data set 'synthetic' takes no root: its pictures are drawn by code")
    part = split or "train"
    count = SIZES[part] if n is None else n
    if count < 1:
        raise DataError(f"n is {count}; it must be at least 1")
    wrap = None
    if cache is not None:
        from actfer_env.data.synthetic.disk import DiskCache

        wrap = DiskCache(cache).wrap
    return SyntheticSamples(SyntheticConfig(seed, preset, emotions), part, count, wrap)


def load_mixed(root: str | None = None, *, split: str | None = None, **options: Any) -> Sequence[Sample]:
    """Read the data set "synthetic-mixed": "synthetic" with its preset "mixed" as the default."""
    return load_synthetic(root, split=split, **{"preset": "mixed", **options})


def load_subtle(root: str | None = None, *, split: str | None = None, **options: Any) -> Sequence[Sample]:
    """Read the data set "synthetic-subtle": "synthetic" with its preset "subtle" as the default."""
    return load_synthetic(root, split=split, **{"preset": "subtle", **options})
