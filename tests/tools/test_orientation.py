"""Photos that lie on their side or upside down: found, mapped back, and said so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from skimage.data import astronaut

from actfer_env.data import Sample, load_dataset
from actfer_env.episode import Episode
from actfer_env.errors import DetectorError
from actfer_env.tools import Alignment, Face, FaceTools, detect_align, make_detector, zoom_in
from actfer_env.tools.detectors.cached import CachedDetector, DetectionStore, Row, picture_digest
from actfer_env.tools.geometry import apply
from actfer_env.tools.orientation import detect_in, find_faces, likeness, settings_of

TURNS = (90, 180, 270)


def turned(image, angle):
    """Return the picture turned clockwise, and the transform to it."""
    height, width = image.shape[:2]
    matrix = {
        0: [[1, 0, 0], [0, 1, 0]],
        90: [[0, -1, height], [1, 0, 0]],
        180: [[-1, 0, width], [0, -1, height]],
        270: [[0, 1, 0], [-1, 0, width]],
    }[angle]
    return np.ascontiguousarray(np.rot90(image, -angle // 90)), np.array(matrix, float)


@pytest.fixture(scope="module")
def photo():
    return astronaut()[:300, 60:400]  # 340 wide, 300 high: sides differ


@pytest.fixture(scope="module")
def mtcnn():
    return make_detector("mtcnn")


@pytest.fixture(scope="module")
def truth(photo, mtcnn):
    (face,) = mtcnn.detect(photo)
    return face


class Upright:
    """Draws a true face over an upright picture, and the same landmarks, wrong ones, over any other."""

    name = "upright"
    turns = True

    def __init__(self, photo, face, score=0.9, wrong=0.9):
        self.photo, self.face, self.score, self.wrong = photo, face, score, wrong
        self.looks = 0

    def detect(self, image):
        self.looks += 1
        true = image.shape == self.photo.shape and np.array_equal(image, self.photo)
        if not true and self.wrong is None:
            return []
        return [replace(self.face, score=self.score if true else self.wrong)]


@pytest.mark.parametrize("angle", TURNS)
def test_a_turned_photo_gives_the_same_aligned_face(angle, photo, mtcnn, truth):
    picture, matrix = turned(photo, angle)
    found = detect_align(picture, mtcnn, size=64)
    eyes = np.linalg.norm(truth.landmarks[1] - truth.landmarks[0])
    assert np.abs(found.landmarks - apply(matrix, truth.landmarks)).max() < 0.1 * eyes
    assert found.rotated == 360 - angle and found.upright is False
    assert abs((found.roll - angle + 180) % 360 - 180) < 10
    upright = detect_align(photo, mtcnn, size=64)
    assert np.abs(found.face.astype(int) - upright.face).mean() < 6
    mouth, again = (zoom_in(p, a, "mouth-chin")[0].image for p, a in ((picture, found), (photo, upright)))
    assert np.abs(mouth.astype(int) - again).mean() < 8


def test_an_upright_photo_gives_what_the_detector_says_bit_for_bit(photo, mtcnn, truth):
    (face,) = find_faces(mtcnn, photo)
    assert face.box == truth.box and np.array_equal(face.landmarks, truth.landmarks) and face.meta == {}
    found = detect_align(photo, mtcnn)
    assert (found.rotated, found.upright) == (0, True) and abs(found.roll) < 10


@pytest.mark.parametrize("angle", TURNS)
def test_confident_landmarks_in_the_wrong_place_are_not_believed(angle, photo, truth):
    # As SCRFD does: an upright face's landmarks over a turned one, with a score as high as that of a true face.
    picture, matrix = turned(photo, angle)
    (face,) = find_faces(Upright(photo, truth), picture)
    assert np.allclose(face.landmarks, apply(matrix, truth.landmarks)) and face.meta == {"rotated": 360 - angle}
    x1, y1, x2, y2 = face.box
    assert x1 < face.landmarks[:, 0].min() < face.landmarks[:, 0].max() < x2 and y1 < y2


def test_one_look_is_enough_where_the_face_looks_like_one(photo):
    image = astronaut()
    drawn = load_dataset("synthetic", split="test", n=3, preset="easy")[0]
    faces = detect_in(make_detector("simulated"), drawn, drawn.load())
    assert likeness(drawn.load(), faces) > 0.5
    counting = Upright(drawn.load(), faces[0])
    assert find_faces(counting, drawn.load()) and counting.looks == 1
    assert likeness(image, []) == -1.0


def test_dense_landmarks_turn_with_the_picture(photo, truth):
    dense = np.linspace(truth.landmarks[0], truth.landmarks[4], 106)
    picture, matrix = turned(photo, 90)
    (face,) = find_faces(Upright(photo, replace(truth, landmarks_106=dense), wrong=None), picture)
    assert np.allclose(face.landmarks_106, apply(matrix, dense))


def test_a_large_photo_is_mapped_back_to_its_own_pixels(photo, mtcnn, truth):
    large = np.repeat(np.repeat(photo, 4, 0), 4, 1)
    picture, matrix = turned(large, 180)
    found = detect_align(picture, mtcnn)
    eyes = np.linalg.norm(truth.landmarks[1] - truth.landmarks[0])
    assert np.abs(found.landmarks / 4 - apply(matrix, truth.landmarks * 4) / 4).max() < 0.15 * eyes


class Either:
    """Sees the same poor face whichever way up the picture lies."""

    name = "either"
    turns = True

    def __init__(self, face):
        self.face = face

    def detect(self, image):
        return [self.face]


def test_where_nothing_tells_the_result_says_so():
    points = np.array([[40, 50], [80, 50], [60, 65], [45, 85], [75, 85]], float)
    for seed in range(40):  # some noise looks a little like a face; this one is the same upside down
        half = np.random.default_rng(seed).integers(0, 256, (120, 120, 3), np.uint8)
        seen = detect_align(np.maximum(half, half[::-1, ::-1]), Either(Face((40.0, 45.0, 80.0, 90.0), points, 0.9)))
        if not seen.certain:
            break
    assert seen.upright is None and seen.rotated == 0
    again = Alignment.from_dict(json.loads(json.dumps(seen.to_dict())))
    assert again.upright is None and not again.certain


@pytest.mark.parametrize("shape", [(64, 64), (40, 200), (200, 40)])
def test_a_picture_without_a_face_stays_without_one(shape, mtcnn):
    assert find_faces(mtcnn, np.full((*shape, 3), 127, np.uint8)) == []
    points = np.array([[10, 10], [20, 10], [15, 15], [11, 20], [19, 20]], float)

    class Spurious:
        name = "spurious"
        turns = True

        def detect(self, image):
            return [] if image[0, 0, 0] else [Face((5.0, 5.0, 25.0, 25.0), points, 0.99)]

    picture = np.full((*shape, 3), 200, np.uint8)
    picture[-1, -1] = 0  # what is found in the copy that is upside down is flat grey: no face
    assert find_faces(Spurious(), picture) == []


def test_the_call_of_an_episode_says_which_way_up(photo, mtcnn):
    for angle in (0, 180):
        episode = Episode(Sample("a", turned(photo, angle)[0]), FaceTools(mtcnn))
        episode.detect_align()
        result = json.loads(json.dumps(episode.calls[0].result))
        assert (result["rotated"], result["upright"]) == (angle, angle == 0)
        assert abs(result["roll"]) < 10 if angle == 0 else abs(result["roll"]) > 170


def test_the_face_of_a_prealigned_sample_is_upright(photo):
    episode = Episode(Sample("a", turned(photo, 180)[0], prealigned=True), FaceTools("mtcnn"))
    assert (episode.alignment.rotated, episode.alignment.roll, episode.alignment.upright) == (0, 0.0, True)
    assert np.allclose(episode.alignment.transform[0, 1], 0)


def test_drawn_faces_keep_what_the_drawing_says():
    sample = load_dataset("synthetic", split="test", n=1)[0]
    for spec in ("auto", "simulated", "unturned:auto", "unturned:simulated"):
        tools = FaceTools(spec)
        assert tools.alignment(sample).to_dict() == FaceTools("simulated").alignment(sample).to_dict()


# --- switching it off


def test_unturned_sees_the_picture_as_it_is_alone(photo, mtcnn, truth):
    picture, _ = turned(photo, 180)
    inner = Upright(photo, truth, wrong=0.9)
    from actfer_env.tools.orientation import UnturnedDetector

    (face,) = find_faces(UnturnedDetector(inner), picture)
    assert inner.looks == 1 and np.array_equal(face.landmarks, truth.landmarks)
    assert make_detector("unturned:mtcnn").name == "unturned:mtcnn"
    plain = detect_in(make_detector("unturned:mtcnn"), Sample("a", photo), photo)
    assert [face.box for face in plain] == [face.box for face in mtcnn.detect(photo)]


@pytest.mark.parametrize("spec", ["unturned", "unturned:nothing", "unturned:unturned"])
def test_unturned_needs_a_detector(spec):
    with pytest.raises(DetectorError) as caught:
        make_detector(spec)
    assert "\n" not in str(caught.value)


# --- kept detections


def test_settings_tell_the_two_apart():
    turning, still = settings_of(make_detector("mtcnn")), settings_of(make_detector("unturned:mtcnn"))
    assert turning["orientation"]["version"] >= 1 and turning != still
    assert "orientation" not in settings_of(make_detector("simulated"))
    assert json.loads(json.dumps(still)) == still


def test_kept_detections_carry_the_orientation(tmp_path, photo, mtcnn):
    picture, _ = turned(photo, 180)
    sample = Sample("a", picture)
    store = DetectionStore.create(tmp_path, "mtcnn", 1)
    faces = detect_in(mtcnn, sample, picture)
    store.write(store.shard(0, "one"), [Row("a", picture_digest(picture), faces)])
    kept = CachedDetector(tmp_path, miss="error")
    found, direct = FaceTools(kept).alignment(sample), FaceTools(mtcnn).alignment(sample)
    assert kept.hits == 1 and found.to_dict() == direct.to_dict() and found.rotated == 180


def test_a_folder_of_other_ways_is_refused(tmp_path):
    DetectionStore.create(tmp_path, "unturned:mtcnn", 1)
    with pytest.raises(DetectorError, match="other settings"):
        DetectionStore.create(tmp_path, "mtcnn", 1)
