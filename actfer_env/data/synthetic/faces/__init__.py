"""Procedural faces: people, Action Units, pose, light and camera, from code and arithmetic alone.

`render_face` draws a portrait, `render_scene` people in a larger picture seen through a camera. Everything
follows from frozen dataclasses; `sample` methods take a `numpy.random.Generator`, and nothing else is random.

How it works: a head is an ellipsoid bent by analytic bumps (`geometry`). Action Units drift the skin and
raise its relief (`muscles`), carve furrows (`wrinkles`) and shape eyes and mouth, which are painted afresh
(`features`) into a cached texture of the person (`texture`). Light is computed on the coarse chart
(`shading`), and one image warp brings the texture into the picture (`render`). So pose, shading and
landmarks come from one surface, and a picture costs a handful of full-size passes; a mesh would need a
rasteriser of its own.

The same arguments give the same bytes in every process of one installation. Other versions of OpenCV or other
processors may round a colour differently by one step; landmarks agree to 0.01 pixels.
"""

from actfer_env.data.synthetic.faces.camera import Camera
from actfer_env.data.synthetic.faces.expression import MAX_INTENSITY, RENDERED_AUS, Expression
from actfer_env.data.synthetic.faces.geometry import Pose
from actfer_env.data.synthetic.faces.hand import Hand
from actfer_env.data.synthetic.faces.identity import Identity
from actfer_env.data.synthetic.faces.render import FIVE_POINTS, RenderedFace, render_face
from actfer_env.data.synthetic.faces.scene import (
    Background,
    Person,
    RenderedScene,
    Scene,
    SceneFace,
    is_detectable,
    person_landmarks,
    render_scene,
)
from actfer_env.data.synthetic.faces.sequence import Sequence, Timing, render_sequence
from actfer_env.data.synthetic.faces.shading import Light

__all__ = [
    "FIVE_POINTS", "MAX_INTENSITY", "RENDERED_AUS", "Background", "Camera", "Expression",
    "Hand", "Identity", "Light", "Person", "Pose", "RenderedFace", "RenderedScene", "Scene", "SceneFace",
    "Sequence", "Timing", "is_detectable", "person_landmarks", "render_face", "render_scene", "render_sequence",
]  # fmt: skip
