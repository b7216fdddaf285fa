"""The tools on real photos, held to points that were noted by hand."""

import json

import numpy as np
import pytest
from helpers import PHOTOS, REGION_BOXES, compare, photo, shared_path

from actfer_env.data import load_dataset
from actfer_env.evaluation import write_report, write_run
from actfer_env.evaluation.play import RolloutConfig, play
from actfer_env.tools import detect_align, geometry, make_detector

REGION_POINTS = {
    "forehead-eyebrow": ("left_brow", "right_brow", "mid_forehead"),
    "eye-periorbital": ("left_eye", "right_eye"),
    "nose": ("nose",),
    "mouth-chin": ("left_mouth", "right_mouth", "chin"),
}


def spec(name):
    weights = {"insightface": "weights", "yunet": "weights/face_detection_yunet_2023mar.onnx"}
    if name == "insightface":
        pytest.importorskip("insightface")
    return f"{name}:{shared_path(weights[name])}" if name in weights else name


@pytest.fixture(scope="module", params=["mtcnn", "insightface", "yunet"])
def detector(request):
    return make_detector(spec(request.param))


@pytest.mark.parametrize("name", PHOTOS)
def test_chin_and_forehead_lie_inside_and_each_region_holds_what_its_name_says(detector, name, photo_points):
    noted = {key: value for key, value in photo_points[name].items() if value is not None}
    noted["mid_forehead"] = np.mean([noted["forehead"], noted.get("left_brow", noted["right_brow"])], axis=0)
    aligned = detect_align(photo(name), detector, face=tuple(noted["nose"]))
    places = dict(zip(noted, geometry.apply(aligned.transform, list(noted.values())), strict=True))
    for point in {"chin", "forehead"} & set(places):
        assert (places[point] > 0).all() and (places[point] < 1).all(), point
    for region, points in REGION_POINTS.items():
        x1, y1, x2, y2 = aligned.regions[region]
        for point in set(points) & set(places):
            x, y = places[point]
            assert x1 <= x <= x2 and y1 <= y <= y2, f"{point} ({x:.3f}, {y:.3f}) is outside {region}"


@pytest.mark.parametrize("name", ["mtcnn", "insightface"])
def test_a_rollout_over_all_photos_finds_every_face(name, tmp_path):
    dataset = load_dataset("photos", shared_path("photos"))
    run = play(dataset, RolloutConfig(detector=spec(name)))
    assert len(run.rollouts) == 7 and not run.failures
    assert {rollout.detection for rollout in run.rollouts} == {"ok"}
    write_run(tmp_path, run)
    assert write_report(tmp_path).stat().st_size < 5_000_000
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["detector"] == spec(name)


def test_the_two_detectors_landmarks_agree(photo_points):
    first, second = make_detector("mtcnn"), make_detector(spec("insightface"))
    errors = []
    for name in PHOTOS:
        nose = tuple(photo_points[name]["nose"])
        a, b = (detect_align(photo(name), detector, face=nose).landmarks for detector in (first, second))
        errors += (np.linalg.norm(a - b, axis=1) / np.linalg.norm(b[0] - b[1])).tolist()
    assert np.median(errors) <= 0.08


@pytest.mark.parametrize("box", REGION_BOXES)
def test_zoom_on_a_large_photo_shows_what_the_aligned_face_has_lost(box, photo_points):
    points = photo_points["obama"]
    eyes = np.subtract(points["right_eye"], points["left_eye"])
    centre = np.add(points["left_eye"], points["right_eye"]) / 2 + (0, 0.35 * eyes[0])
    zoomed, enlarged = compare(photo("obama"), centre, eyes[0] / 0.24, box)
    assert zoomed >= 0.95 and enlarged < zoomed - 0.03
