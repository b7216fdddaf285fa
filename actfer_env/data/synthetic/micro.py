"""The data set "synthetic-micro": drawn micro-expressions, each shown as a motion map from onset to apex."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal, get_args

import numpy as np

from actfer_env.data.motion import LEGEND, estimate_flow, motion_map
from actfer_env.data.synthetic.faces import SceneFace, Timing, person_landmarks, render_sequence
from actfer_env.data.synthetic.faces.sequence import Sequence as Film
from actfer_env.data.synthetic.faces.sequence import scene_at
from actfer_env.data.synthetic.presets import SyntheticConfig
from actfer_env.data.synthetic.samples import SyntheticSamples, draw_spec, load_synthetic, make_sample
from actfer_env.errors import DataError
from actfer_env.images import RGB
from actfer_env.sample import Sample

PRESET = "micro"
Flow = Literal["estimated", "true"]
_TIMING = Timing(onset=0, apex=1, offset=2, length=3)


@dataclass(frozen=True)
class MicroSamples(SyntheticSamples):
    """The samples of one split, as motion maps.

    Attributes:
        flow: "estimated" from the two frames, with the sensor's noise; or "true", the drawn skin's own, which leaves
            out lids and the inside of the mouth.
    """

    flow: Flow = "estimated"

    def _at(self, index: int) -> Sample:
        still = make_sample(self.config, self.split, index)
        reference = f"{still.meta['image']}, motion map of {self.flow} flow"
        source: Callable[[], RGB] = partial(draw_map, self.config, self.split, index, self.flow)
        return replace(
            still, source=self.wrap(source, reference) if self.wrap else source,
            meta={**still.meta, "dataset": "synthetic-micro", "image": reference, "question": LEGEND},
            annotate=partial(onset_faces, self.config, self.split, index),
            landmarks=partial(onset_landmarks, self.config, self.split, index),
        )  # fmt: skip


@lru_cache(maxsize=8)
def draw_film(config: SyntheticConfig, split: str, index: int) -> Film:
    """Draw one sample's onset and apex; the arguments are those of `draw_spec`. The last few are kept."""
    return render_sequence(draw_spec(config, split, index).scene, _TIMING, frames=2)


def draw_map(config: SyntheticConfig, split: str, index: int, flow: Flow) -> RGB:
    """Return one sample's motion map, uint8 (side, side, 3)."""
    film = draw_film(config, split, index)
    onset, apex = (np.asarray(frame.image, np.uint8) for frame in film.frames)
    points, _ = onset_landmarks(config, split, index)
    apart = float(np.hypot(*np.subtract(points["left_eye"], points["right_eye"])))
    moved = film.flow[0] * film.skin[..., None] if flow == "true" else estimate_flow(onset, apex)
    return motion_map(onset, moved.astype(np.float32), points["nose"], max(apart, 1.0))


def onset_faces(config: SyntheticConfig, split: str, index: int) -> tuple[SceneFace, ...]:
    """Return the truth about the faces of one sample's onset frame, the labelled one last."""
    return draw_film(config, split, index).frames[0].faces


def onset_landmarks(
    config: SyntheticConfig, split: str, index: int
) -> tuple[dict[str, tuple[float, float]], tuple[int, int]]:
    """Return the landmarks of one sample's face at the onset, and the picture's (width, height), both in pixels."""
    scene = scene_at(draw_spec(config, split, index).scene, 0.0)
    return person_landmarks(scene), (scene.width, scene.height)


def load_micro(
    root: str | None = None, *, split: str | None = None, preset: str = PRESET, flow: Flow = "estimated", **options: Any
) -> Sequence[Sample]:
    """Read the data set "synthetic-micro": faint expressions of a second's fraction as motion maps (MELLM).

    Args:
        root: Must be None.
        split: The split; None is "train".
        preset: Must be "micro": no others beside the face, whom a film would show in its place.
        flow: "estimated" or "true"; see `MicroSamples`.
        **options: Those of "synthetic".

    Raises:
        DataError: as `load_synthetic`; another preset; an unknown flow.
    """
    if preset != PRESET:
        raise DataError(f"data set 'synthetic-micro' has the preset {PRESET!r} alone, got {preset!r}: leave it out")
    if flow not in get_args(Flow):
        raise DataError(f"unknown flow {flow!r}: use {' or '.join(get_args(Flow))}")
    drawn = load_synthetic(root, split=split, preset=preset, **options)
    return MicroSamples(drawn.config, drawn.split, drawn.n, drawn.wrap, flow)
