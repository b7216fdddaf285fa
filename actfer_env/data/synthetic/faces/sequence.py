"""A micro-expression as a short film: smooth intensities, one camera, and the true motion of the skin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from actfer_env.data.synthetic.faces.expression import Expression
from actfer_env.data.synthetic.faces.geometry import Array, base_surface, positions, project, sample, trace
from actfer_env.data.synthetic.faces.muscles import deform
from actfer_env.data.synthetic.faces.scene import RenderedScene, Scene, person_frame, render_scene
from actfer_env.errors import DataError


@dataclass(frozen=True)
class Timing:
    """Frames at which the expression starts, peaks and is gone: 0 <= onset < apex < offset < length."""

    onset: int = 2
    apex: int = 7
    offset: int = 14
    length: int = 16

    def __post_init__(self) -> None:
        """Refuse times out of order."""
        if not 0 <= self.onset < self.apex < self.offset < self.length <= 256:
            raise DataError(f"timing {self}: needs 0 <= onset < apex < offset < length <= 256")

    def strength(self, frame: int) -> float:
        """Return the share of the full expression at one frame: minimum-jerk rise and fall."""
        if frame <= self.apex:
            t = (frame - self.onset) / (self.apex - self.onset)
        else:
            t = (self.offset - frame) / (self.offset - self.apex)
        t = min(max(t, 0.0), 1.0)
        return t * t * t * (10 - 15 * t + 6 * t * t)


@dataclass(frozen=True)
class Sequence:
    """A rendered film.

    Attributes:
        frames: One `RenderedScene` per frame.
        strengths: The share of the full expression at each frame.
        flow: float32 (n - 1, h, w, 2): how far (x, y) the skin at each pixel of frame i moves until i + 1.
        skin: bool (h, w): where the flow is defined, the first person's head. Lids, the inside of the mouth
            and what covers the face move on their own and are not described.
    """

    frames: tuple[RenderedScene, ...]
    strengths: tuple[float, ...]
    flow: Array
    skin: Array


def render_sequence(scene: Scene, timing: Timing | None = None, frames: int | None = None) -> Sequence:
    """Film the first person of a scene going from rest to the scene's expression and back.

    Args:
        scene: The picture at the apex; everybody but the first person keeps still.
        timing: Onset, apex, offset and length.
        frames: Number of frames to draw, from the first on; None is the whole film.

    Raises:
        DataError: the scene is empty, or `frames` is below 1 or beyond the film.
    """
    if not scene.people:
        raise DataError("a sequence needs a scene with at least one person")
    timing = timing or Timing()
    drawn = timing.length if frames is None else frames
    if not 1 <= drawn <= timing.length:
        raise DataError(f"frames is {drawn}: a film of this timing has 1 to {timing.length}")
    strengths = tuple(timing.strength(i) for i in range(drawn))
    scenes = [scene_at(scene, strength, i) for i, strength in enumerate(strengths)]
    flow, skin = _flow(scene, [s.people[0].expression.weights() for s in scenes])
    return Sequence(tuple(render_scene(s) for s in scenes), strengths, flow, skin)


def scene_at(scene: Scene, strength: float, number: int = 0) -> Scene:
    """Return the scene at one moment; the sensor's noise is fresh in every frame.

    Args:
        scene: The picture at the apex.
        strength: Share of the full expression, 0 to 1.
        number: Number of the frame.
    """
    first, *others = scene.people
    left, right = (_scaled(side, strength) for side in (first.expression.left, first.expression.right))
    person = replace(first, expression=Expression(left, right, first.expression.gaze))
    camera = replace(scene.camera, seed=scene.camera.seed + number)
    return replace(scene, people=(person, *others), camera=camera)


def _scaled(side: Mapping[int, float], strength: float) -> dict[int, float]:
    return {au: value * strength for au, value in side.items()}


def _flow(scene: Scene, weights: list[Array], stride: int = 4) -> tuple[Array, Array]:
    """Follow the skin from each frame to the next, on every `stride`-th pixel."""
    person, frame = scene.people[0], person_frame(scene.width, scene.height, scene.people[0])
    neutral, rotation = base_surface(person.identity), person.pose.matrix()
    states = [deform(neutral, w) for w in weights]
    steps = []
    for (layers, drift), (next_layers, next_drift) in pairwise(states):
        view = trace(layers, rotation, frame, stride)
        here = project(positions(layers, view.x, view.y), rotation, frame)[:, :2]
        x, y = _carried(view.x, view.y, drift, next_drift)
        there = project(positions(next_layers, x, y), rotation, frame)[:, :2]
        step = (there - here).reshape(*view.x.shape, 2) * (view.distance > 0)[..., None]
        steps.append(_enlarge(step.astype(np.float32), stride, scene))
    size = scene.height, scene.width, 2
    still = trace(neutral, rotation, frame, stride).distance.astype(np.float32)
    return np.stack(steps) if steps else np.zeros((0, *size), np.float32), _enlarge(still, stride, scene) > 0


def _carried(x: Array, y: Array, drift: Array, next_drift: Array) -> tuple[Array, Array]:
    """Return where the skin at chart points will lie after the drift has changed."""
    now = sample(drift, x, y)
    rest_x, rest_y = x - now[..., 0], y - now[..., 1]
    for _ in range(4):
        then = sample(next_drift, x, y)
        x, y = rest_x + then[..., 0], rest_y + then[..., 1]
    return x, y


def _enlarge(coarse: Array, stride: int, scene: Scene) -> Array:
    size = (coarse.shape[1] * stride, coarse.shape[0] * stride)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)[: scene.height, : scene.width]
