"""Procedural faces: people, Action Units, pose, light and camera, from code and arithmetic alone.

`render_face` draws a portrait, `render_scene` people in a larger picture seen through a camera. Everything
follows from frozen dataclasses; `sample` methods take a `numpy.random.Generator`, and nothing else is random.
"""

from actfer_env.data.faces.expression import MAX_INTENSITY, RENDERED_AUS, Expression
from actfer_env.data.faces.geometry import Pose
from actfer_env.data.faces.hand import Hand
from actfer_env.data.faces.identity import Identity
from actfer_env.data.faces.render import FIVE_POINTS, RenderedFace, render_face
from actfer_env.data.faces.scene import (
    Background,
    Camera,
    Person,
    RenderedScene,
    Scene,
    SceneFace,
    is_detectable,
    render_scene,
)
from actfer_env.data.faces.sequence import Sequence, Timing, render_sequence
from actfer_env.data.faces.shading import Light

__all__ = [
    "FIVE_POINTS", "MAX_INTENSITY", "RENDERED_AUS", "Background", "Camera", "Expression", "Hand", "Identity",
    "Light", "Person", "Pose", "RenderedFace", "RenderedScene", "Scene", "SceneFace", "Sequence",
    "Timing", "is_detectable", "render_face", "render_scene", "render_sequence",
]  # fmt: skip
