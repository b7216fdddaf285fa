"""Pictures of extreme shapes: every tool works, or refuses with its own line."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import DETECT, shared_path

from actfer_env.chat import ChatEpisode, chat_tools
from actfer_env.data import Sample
from actfer_env.envs.panel import Panel
from actfer_env.episode import Episode
from actfer_env.errors import ImageError
from actfer_env.tools import Face, FaceTools, detect_align, make_detector, zoom_in

SHAPES = [(60, 6000), (6000, 60), (16, 1600), (17, 17), (16, 16)]
NARROW = [(20, 6000), (6000, 20), (16, 4000), (33000, 16)]
LINES = [(1, 1), (1, 6000), (6000, 1), (15, 400)]
FIVE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


class Everywhere:
    """Finds a face that fills the picture, whatever its shape."""

    name = "everywhere"
    turns = True

    def detect(self, image):
        height, width = image.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), FIVE * [width, height], 0.9)]


def noise(shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_tool_works_on_a_face_of_any_shape(shape):
    episode = Episode(Sample("a", noise(shape)), FaceTools(Everywhere()))
    assert episode.detect_align().alignment is not None
    assert episode.zoom_in(["nose", "mouth-chin"]).legal
    assert episode.zoom_in(boxes=[[0.1, 0.1, 0.9, 0.9]], image="original").legal
    assert Panel().draw(episode).shape == (540, 960, 3)
    assert episode.tools.overview(episode.sample, 96).shape == (96, 96, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_chat_shows_no_line_of_pixels(shape):
    episode = ChatEpisode(Sample("a", noise(shape)), chat_tools(Everywhere()))
    episode.step(DETECT)
    for image in episode.images:
        assert min(image.shape[:2]) >= 16 and max(image.shape[:2]) / min(image.shape[:2]) <= 100


@pytest.mark.parametrize("spec", ["mtcnn", "yunet"])
@pytest.mark.parametrize("shape", [(60, 6000), (6000, 60), (17, 17)])
def test_detectors_look_at_any_shape(spec, shape):
    if spec == "yunet":
        spec = f"yunet:{shared_path('weights', 'face_detection_yunet_2023mar.onnx')}"
    found = detect_align(noise(shape), make_detector(spec))
    assert found is None or found.faces > 0


@pytest.mark.parametrize("shape", NARROW)
def test_what_is_too_narrow_is_refused_in_one_line(shape):
    for call in (lambda: detect_align(noise(shape), Everywhere()),
                 lambda: ChatEpisode(Sample("a", noise(shape)), chat_tools(Everywhere()))):  # fmt: skip
        with pytest.raises(ImageError, match="is too narrow; crop it") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", LINES)
def test_what_is_too_small_for_a_face_is_refused_in_one_line(shape):
    for call in (lambda: detect_align(noise(shape), Everywhere()),
                 lambda: FaceTools(Everywhere()).alignment(Sample("a", noise(shape)))):  # fmt: skip
        with pytest.raises(ImageError) as caught:
            call()
        assert "too small" in str(caught.value) and "\n" not in str(caught.value)


def test_a_zoom_into_another_shape_is_refused():
    aligned = detect_align(noise((60, 6000)), Everywhere())
    with pytest.raises(ImageError, match="6000 x 60"):
        zoom_in(noise((6000, 60)), aligned, "nose")
