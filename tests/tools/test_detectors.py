"""The detectors on real photos, their errors, the registry and the conformance check."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers import PHOTOS, ROOT, photo, photo_path, shared_path

from actfer_env.errors import ActFERError, DetectorError
from actfer_env.testing import check_detector
from actfer_env.tools.detectors import (
    LANDMARKS,
    Detector,
    Face,
    available_detectors,
    base,
    make_detector,
    mtcnn,
    mtcnn_nets,
    register_detector,
    registered_detectors,
)

COUNTS = dict.fromkeys(PHOTOS, 1) | {"two_people": 2, "multi_face": 5}
SCRFD = ("weights", "scrfd_2.5g_bnkps.onnx")
YUNET = ("weights", "face_detection_yunet_2023mar.onnx")


@pytest.fixture(scope="module")
def mtcnn_detector() -> Detector:
    return make_detector("mtcnn")


@pytest.fixture(scope="module")
def scrfd() -> Detector:
    pytest.importorskip("insightface", reason="needs the extra insightface")
    return make_detector(f"insightface:{shared_path('weights')}")


@pytest.fixture(scope="module")
def yunet() -> Detector:
    return make_detector(f"yunet:{shared_path(*YUNET)}")


def one_line(error: pytest.ExceptionInfo[BaseException], *words: str) -> None:
    text = str(error.value)
    assert isinstance(error.value, ActFERError)
    assert "\n" not in text
    for word in words:
        assert word in text


def five(points: dict[str, list[float]]) -> np.ndarray:
    return np.array([points[name] for name in LANDMARKS])


def nearest(faces: list[Face], points: np.ndarray) -> Face:
    return min(faces, key=lambda face: np.abs(face.landmarks - points).sum())


def errors(faces: list[Face], points: np.ndarray) -> np.ndarray:
    """Distance of each landmark of the nearest face to `points`, in inter-ocular distances."""
    return np.linalg.norm(nearest(faces, points).landmarks - points, axis=1) / np.linalg.norm(points[1] - points[0])


# --- on photos ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", PHOTOS)
def test_mtcnn_finds_every_face_where_the_eye_sees_it(stem, mtcnn_detector, photo_points):
    faces = mtcnn_detector.detect(photo(stem))
    assert len(faces) == COUNTS[stem]
    error = errors(faces, five(photo_points[stem]))
    assert np.median(error) < 0.06
    assert error.max() < 0.15


@pytest.mark.parametrize("stem", PHOTOS)
def test_insightface_finds_every_face_where_the_eye_sees_it(stem, scrfd, photo_points):
    faces = scrfd.detect(photo(stem))
    assert len(faces) == COUNTS[stem]
    assert np.median(errors(faces, five(photo_points[stem]))) < 0.06


@pytest.mark.parametrize("stem", PHOTOS)
def test_yunet_finds_every_face_where_the_eye_sees_it(stem, yunet, photo_points):
    faces = yunet.detect(photo(stem))
    assert len(faces) == COUNTS[stem]
    assert np.median(errors(faces, five(photo_points[stem]))) < 0.13  # less exact by nature, but never swapped


def test_mtcnn_and_scrfd_agree(mtcnn_detector, scrfd):
    apart = []
    for stem in PHOTOS:
        image = photo(stem)
        others = mtcnn_detector.detect(image)
        apart += [np.median(errors(others, face.landmarks)) for face in scrfd.detect(image)]
    assert len(apart) == sum(COUNTS.values())
    assert np.median(apart) < 0.08


@pytest.mark.parametrize("stem", [stem for stem in PHOTOS if stem != "obama_partial_face"])
@pytest.mark.parametrize("name", ["mtcnn_detector", "scrfd", "yunet"])
def test_tight_crops_are_found(stem, name, request, photo_points):
    detector = request.getfixturevalue(name)
    points = five(photo_points[stem])
    corners = np.array([point for point in photo_points[stem].values() if point])
    low, high = corners.min(axis=0).astype(int), corners.max(axis=0).astype(int) + 1
    side = (np.linalg.norm(points[1] - points[0]) * 0.3 * np.array([1, 0])).astype(int)
    crop = photo(stem)[low[1] : high[1], low[0] - side[0] : high[0] + side[0]]
    faces = detector.detect(crop)
    assert len(faces) == 1
    assert np.median(errors(faces, points - low + side)) < 0.15


@pytest.mark.parametrize("angle", [-30, 30])
@pytest.mark.parametrize("stem", [stem for stem in PHOTOS if stem != "obama_partial_face"])
def test_mtcnn_finds_rotated_faces(stem, angle, mtcnn_detector, photo_points):
    image, points = photo(stem), five(photo_points[stem])
    turn = cv2.getRotationMatrix2D(points.mean(axis=0).tolist(), angle, 1.0)
    turned = cv2.warpAffine(image, turn, image.shape[1::-1], borderValue=(127, 127, 127))
    faces = mtcnn_detector.detect(turned)
    assert faces
    assert np.median(errors(faces, cv2.transform(points[None], turn)[0])) < 0.15


@pytest.mark.parametrize("name", ["mtcnn_detector", "scrfd", "yunet"])
@pytest.mark.parametrize("stem", ["astronaut", "obama"])
def test_coordinates_follow_the_image_size(stem, name, request, photo_points):
    detector, image, points = request.getfixturevalue(name), photo(stem), five(photo_points[stem])
    for size in (240, 480, 1600):
        scale = size / max(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        factor = np.array(small.shape[1::-1]) / image.shape[1::-1]
        assert np.median(errors(detector.detect(small), points * factor)) < 0.12


@pytest.mark.parametrize("stem", ["astronaut", "obama", "two_people"])
def test_mtcnn_has_no_sideways_bias(stem, mtcnn_detector):
    image = photo(stem)
    mirrored = mtcnn_detector.detect(np.ascontiguousarray(image[:, ::-1]))
    for face in mtcnn_detector.detect(image):
        flipped = face.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [image.shape[1], 0]
        distance = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
        shift = (nearest(mirrored, flipped).landmarks - flipped)[:, 0].mean() / distance
        assert abs(shift) < 0.05


@pytest.mark.parametrize("name", ["mtcnn_detector", "scrfd", "yunet"])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (11, 300), (400, 3), (1, 1000), (13, 13)])
def test_odd_sizes_give_a_list(shape, name, request):
    rng = np.random.default_rng(1)
    detector = request.getfixturevalue(name)
    assert isinstance(detector.detect(rng.integers(0, 256, (*shape, 3), np.uint8)), list)


@pytest.mark.parametrize("name", ["mtcnn_detector", "scrfd", "yunet"])
def test_views_and_read_only_images_work(name, request):
    detector, image = request.getfixturevalue(name), photo("astronaut")
    wide = np.zeros((*image.shape[:2], 4), np.uint8)
    wide[..., :3] = image
    view = wide[..., :3]
    view.setflags(write=False)
    assert np.array_equal(detector.detect(view)[0].landmarks, detector.detect(image)[0].landmarks)


@pytest.mark.parametrize("name", ["mtcnn_detector", "scrfd", "yunet"])
@pytest.mark.parametrize(
    "bad",
    [
        None,
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
    ],
)
def test_what_is_no_rgb_image_is_refused(bad, name, request):
    with pytest.raises(DetectorError) as error:
        request.getfixturevalue(name).detect(bad)
    one_line(error, "image" if isinstance(bad, np.ndarray) and not bad.size else "RGB uint8 array (H, W, 3)")


# --- MTCNN's parts -----------------------------------------------------------------------------------------------


def test_suppression_keeps_the_best_and_breaks_ties_in_order():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [20, 0, 24, 4]], float)
    assert mtcnn.non_maximum_suppression(boxes, np.array([0.8, 0.9, 0.7, 0.7], np.float32), 0.5) == [1, 2, 3]
    assert mtcnn.non_maximum_suppression(boxes, np.full(4, 0.5, np.float32), 0.5, of_smaller=True) == [0, 2]
    assert mtcnn.non_maximum_suppression(np.empty((0, 4)), np.empty(0, np.float32), 0.5) == []


def test_suppression_is_greedy():
    chain = np.array([[0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1]], float)  # 0 and 2 overlap 1, not each other
    assert mtcnn.non_maximum_suppression(chain, np.array([0.9, 0.8, 0.7], np.float32), 0.4) == [0, 2]


@pytest.mark.parametrize("shape", [(1, 12, 12), (1, 40, 57), (9, 24, 24)])
def test_convolution_in_blocks_equals_the_definition(shape, monkeypatch):
    monkeypatch.setattr(mtcnn_nets, "_BLOCK", 600)
    weight, bias, slope = mtcnn_nets.load_weights("pnet")[:3]
    x = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    plain = np.einsum("nhwcij,ijco->nhwo", windows, weight) + bias
    expected = np.where(plain > 0, plain, plain * slope)
    assert np.allclose(mtcnn_nets._conv(x, weight, bias, slope), expected, atol=1e-4)


@pytest.mark.parametrize(("size", "side", "out"), [(2, 5, 3), (2, 8, 4), (3, 46, 23), (3, 21, 10), (3, 22, 11)])
def test_pooling_cuts_the_last_window_at_the_border(size, side, out):
    x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    y = mtcnn_nets._pool(x, size)
    assert y.shape == (2, out, out, 3)
    last = 2 * (out - 1)
    assert np.array_equal(y[:, -1, -1], x[:, last : last + size, last : last + size].max(axis=(1, 2)))


def test_settings_reach_the_cascade():
    assert make_detector("mtcnn", detect_size=320).config.detect_size == 320
    assert make_detector("mtcnn", thresholds=(0.6, 0.7, 1.0)).detect(photo("astronaut")) == []


def test_mtcnn_never_imports_the_package():
    code = "import sys; from actfer_env.tools.detectors import make_detector; make_detector('mtcnn')"
    code += "; print([m for m in ('mtcnn', 'tensorflow', 'insightface', 'onnxruntime', 'onnx') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- InsightFace's files -----------------------------------------------------------------------------------------


def save_model(path: Path, shapes: list[list[int]], *, padding: int = 0, operator: str = "Identity") -> None:
    """Write an ONNX file with the given output shapes, whose graph is never run."""
    onnx = pytest.importorskip("onnx", reason="needs the extra insightface")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    outputs = [helper.make_tensor_value_info(f"out{i}", kind, shape) for i, shape in enumerate(shapes)]
    nodes = [helper.make_node(operator, ["input"], [output.name]) for output in outputs]
    value = helper.make_tensor_value_info("input", kind, [1, 3, 8, 8])
    graph = helper.make_graph(nodes, "g", [value], outputs, doc_string="x" * padding)
    path.write_bytes(helper.make_model(graph).SerializeToString())


def test_files_are_told_apart_by_their_graphs(tmp_path):
    from actfer_env.tools.detectors.insightface import choose_models, find_models

    save_model(tmp_path / "a_recognition.onnx", [[1, 512]], padding=9000)
    save_model(tmp_path / "b_yunet.onnx", [[1, 8, 1]] * 12, padding=9000)
    save_model(tmp_path / "c_no_points.onnx", [[1, 8, 1]] * 6, padding=9000)
    save_model(tmp_path / "d_small.onnx", [[1, 8, 1]] * 9)
    save_model(tmp_path / "e_large.onnx", [[1, 8, 1]] * 15, padding=5000)
    save_model(tmp_path / "f_68.onnx", [[1, 3309]], padding=9000)
    save_model(tmp_path / "g_106.onnx", [[1, 212]])
    (tmp_path / "h_broken.onnx").write_bytes(b"\xff\xff no model")
    detector, landmarks = choose_models(find_models(tmp_path))
    assert (detector.name, landmarks.name) == ("e_large.onnx", "g_106.onnx")


def test_the_shared_folder_gives_scrfd_and_not_yunet(scrfd):
    assert scrfd.detector_file.name == "scrfd_2.5g_bnkps.onnx"


def test_a_single_file_serves_as_pack(scrfd):
    single = make_detector(f"insightface:{shared_path(*SCRFD)}")
    assert single.detect(photo("astronaut"))[0].score == scrfd.detect(photo("astronaut"))[0].score


def test_a_nested_pack_is_found(tmp_path):
    from actfer_env.tools.detectors.insightface import find_models

    nested = tmp_path / "models" / "antelope" / "antelope"
    nested.mkdir(parents=True)
    save_model(nested / "det.onnx", [[1, 8, 1]] * 9)
    assert find_models("antelope", tmp_path) == [nested / "det.onnx"]


def test_dense_landmarks_come_along_and_follow_the_border(scrfd, monkeypatch):
    center = []

    def get(image, face):
        center.append((face.bbox[:2] + face.bbox[2:]) / 2)
        return np.tile(center[-1], (106, 1))

    monkeypatch.setattr(scrfd, "_landmarks", SimpleNamespace(get=get))
    face = scrfd.detect(photo("astronaut"))[0]
    middle = np.reshape(face.box, (2, 2)).mean(axis=0)
    assert face.landmarks_106.shape == (106, 2)
    assert face.landmarks_106.dtype == np.float64
    assert np.allclose(face.landmarks_106, middle, atol=0.01)


def test_the_second_look_maps_everything_back():
    from actfer_env.tools.detectors.common import detect_with_border

    seen = []

    def detect(image):
        seen.append(image.shape)
        if len(seen) == 1:
            return []
        return [Face((160.0, 160.0, 480.0, 480.0), np.full((5, 2), 320.0), 0.5, np.full((106, 2), 160.0))]

    (face,) = detect_with_border(detect, np.zeros((1000, 1000, 3), np.uint8), 640)
    assert seen[1] == (641, 641, 3)  # 427 and a border of 107 on each side
    scale = 1000 / 427
    assert np.allclose(face.box, [(160 - 107) * scale] * 2 + [(480 - 107) * scale] * 2)
    assert np.allclose(face.landmarks, (320 - 107) * scale)
    assert np.allclose(face.landmarks_106, (160 - 107) * scale)


def test_the_border_is_what_saves_tight_crops(scrfd):
    crop = photo("obama")[80:440, 370:620]
    assert scrfd._detect(crop) == []
    assert len(scrfd.detect(crop)) == 1


def test_faceless_images_are_looked_at_with_every_border():
    from actfer_env.tools.detectors.common import BORDERS, detect_with_border

    seen = []
    assert detect_with_border(lambda image: seen.append(image.shape) or [], np.zeros((90, 40, 3), np.uint8), 640) == []
    assert len(seen) == 1 + len(BORDERS)
    assert all(abs(max(shape) - 640) <= 2 for shape in seen[1:])


def test_insightface_prints_nothing(capfd):
    pytest.importorskip("insightface", reason="needs the extra insightface")
    make_detector(f"insightface:{shared_path(*SCRFD)}").detect(photo("astronaut"))
    assert capfd.readouterr() == ("", "")


def test_providers_are_passed_through(scrfd):
    assert scrfd._model.session.get_providers()[-1] == "CPUExecutionProvider"
    only_cpu = make_detector(f"insightface:{shared_path(*SCRFD)}", providers=["CPUExecutionProvider"])
    assert only_cpu._model.session.get_providers() == ["CPUExecutionProvider"]


# --- errors ------------------------------------------------------------------------------------------------------


def test_mtcnn_without_the_package(monkeypatch):
    mtcnn_nets.load_weights.cache_clear()
    monkeypatch.setattr(mtcnn_nets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DetectorError) as error:
        make_detector("mtcnn")
    one_line(error, "mtcnn", "pip install mtcnn==1.0.0")


@pytest.mark.parametrize("content", [None, b"another file"])
def test_mtcnn_with_other_weights(content, tmp_path, monkeypatch):
    mtcnn_nets.load_weights.cache_clear()
    monkeypatch.setattr(mtcnn_nets, "weights_folder", lambda: tmp_path)
    if content:
        (tmp_path / "pnet.lz4").write_bytes(content)
    monkeypatch.setitem(sys.modules, "joblib", None)  # must not be reached: the file is not to be unpickled
    with pytest.raises(DetectorError) as error:
        make_detector("mtcnn")
    one_line(error, "pnet.lz4", "SHA-256" if content else "missing", "pip install --force-reinstall mtcnn==1.0.0")


def test_insightface_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(DetectorError) as error:
        make_detector("insightface")
    one_line(error, 'pip install "actfer-env[insightface]"')


def test_a_pack_that_cannot_be_downloaded(tmp_path, monkeypatch):
    utils = pytest.importorskip("insightface.utils", reason="needs the extra insightface")

    def fail(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(utils, "ensure_available", fail)
    with pytest.raises(DetectorError) as error:
        make_detector("insightface:buffalo_s", root=tmp_path)
    one_line(error, "buffalo_s", "ConnectionError", "insightface:/that/folder", "buffalo_s.zip")


def test_packs_without_a_usable_model(tmp_path):
    pytest.importorskip("insightface", reason="needs the extra insightface")
    with pytest.raises(DetectorError) as error:
        make_detector(f"insightface:{tmp_path}")
    one_line(error, str(tmp_path), "no .onnx file")
    with pytest.raises(DetectorError) as error:
        make_detector(f"insightface:{tmp_path / 'gone.onnx'}")
    one_line(error, "gone.onnx", "no .onnx file")
    (tmp_path / "models" / "empty").mkdir(parents=True)
    with pytest.raises(DetectorError) as error:
        make_detector("insightface:empty", root=tmp_path)
    one_line(error, "delete", "empty")
    save_model(tmp_path / "recognition.onnx", [[1, 512]])
    with pytest.raises(DetectorError) as error:
        make_detector(f"insightface:{tmp_path}")
    one_line(error, "recognition.onnx", "no detector with key points", "buffalo_l")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_model_that_does_not_load(tmp_path):
    pytest.importorskip("insightface", reason="needs the extra insightface")
    save_model(tmp_path / "det.onnx", [[1, 8, 1]] * 9, operator="NoSuchOperator")
    with pytest.raises(DetectorError) as error:
        make_detector(f"insightface:{tmp_path}", providers=["NoSuchProvider"])
    one_line(error, "det.onnx")


@pytest.mark.parametrize("size", [0, 100, 641])
def test_a_size_that_scrfd_cannot_take(size):
    with pytest.raises(DetectorError) as error:
        make_detector("insightface:any", det_size=size)
    one_line(error, str(size), "multiple of 32")


def test_yunet_without_usable_weights(tmp_path):
    for spec, word in (("yunet", "needs the path"), ("yunet:/no/such.onnx", "/no/such.onnx")):
        with pytest.raises(DetectorError) as error:
            make_detector(spec)
        one_line(error, word, "opencv_zoo")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(DetectorError) as error:
        make_detector(f"yunet:{tmp_path / 'bad.onnx'}")
    one_line(error, "bad.onnx", "opencv_zoo")


# --- registry ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(base.DETECTORS, "_known", dict(base.DETECTORS._known))


def test_the_three_are_registered():
    assert {"mtcnn", "insightface", "yunet"} <= set(registered_detectors())
    assert isinstance(make_detector("mtcnn"), Detector)


def test_registering(clean_registry):
    mine = SimpleNamespace(name="mine", detect=lambda image: [])
    register_detector("mine", lambda *args: mine if not args else args[0])
    assert make_detector("mine") is mine
    assert make_detector("mine:C:/path") == "C:/path"
    assert make_detector(mine) is mine
    for bad, words in (("mine", "replace=True"), ("a:b", "colon")):
        with pytest.raises(DetectorError) as error:
            register_detector(bad, lambda: mine)
        one_line(error, words)
    register_detector("mine", lambda: None, replace=True)
    assert make_detector("mine") is None


def test_unknown_names_list_the_known_ones():
    with pytest.raises(DetectorError) as error:
        make_detector("nosuch")
    one_line(error, "nosuch", "insightface", "mtcnn", "yunet")


def test_status_of_every_detector(clean_registry, tmp_path, monkeypatch):
    register_detector("mine", lambda: None)
    status = {entry.name: entry for entry in available_detectors(tmp_path)}
    assert list(status) == sorted(registered_detectors())
    assert status["mine"].ready
    assert status["mtcnn"].ready
    assert not status["yunet"].ready
    assert "opencv_zoo" in status["yunet"].detail
    assert not status["insightface"].ready
    for name in ("buffalo_l", "other"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "x.onnx").touch()
    found = {entry.name: entry for entry in available_detectors(tmp_path)}["insightface"]
    assert found.packs == ("buffalo_l", "other")


def test_one_entry_holds_all_that_is_known_of_a_detector(clean_registry, tmp_path, monkeypatch):
    from actfer_env.tools import detectors

    status = {entry.name: entry for entry in available_detectors(tmp_path)}
    assert set(detectors._BUILT_IN) <= set(status)
    assert not [name for name in detectors._BUILT_IN if status[name].detail == "registered by other code"]
    with pytest.raises(TypeError, match="look"):
        detectors._BuiltIn(lambda: None)
    known = detectors._BuiltIn(lambda: None, lambda root: (False, "needs a mirror"))
    monkeypatch.setitem(detectors._BUILT_IN, "mirror", known)
    register_detector("mirror", known.build)
    status = {entry.name: entry for entry in available_detectors(tmp_path)}
    assert (status["mirror"].ready, status["mirror"].detail) == (False, "needs a mirror")
    register_detector("mtcnn", lambda: None, replace=True)
    status = {entry.name: entry for entry in available_detectors(tmp_path)}
    assert status["mtcnn"].detail == "registered by other code"


def test_status_says_what_is_missing(tmp_path, monkeypatch):
    real = mtcnn_nets.importlib.util.find_spec
    hidden = ("mtcnn", "insightface", "onnxruntime")
    mtcnn_nets.load_weights.cache_clear()
    monkeypatch.setattr(mtcnn_nets.importlib.util, "find_spec", lambda name: None if name in hidden else real(name))
    status = {entry.name: entry for entry in available_detectors(tmp_path)}
    assert "pip install mtcnn==1.0.0" in status["mtcnn"].detail
    assert "actfer-env[insightface]" in status["insightface"].detail
    assert not status["mtcnn"].ready
    assert not status["insightface"].ready


# --- the conformance check ---------------------------------------------------------------------------------------


def test_check_passes_on_mtcnn(mtcnn_detector):
    check_detector(mtcnn_detector)
    check_detector(mtcnn_detector, photo("multi_face"))


@pytest.mark.parametrize("name", ["scrfd", "yunet"])
def test_check_passes_on(name, request):
    check_detector(request.getfixturevalue(name))


def good_face(**changes) -> Face:
    points = np.array([[203, 101], [247, 103], [224, 127], [202, 140], [247, 139]], float)
    values = {"box": (175.0, 60.0, 268.0, 175.0), "landmarks": points, "score": 0.9}
    return Face(**(values | changes))


def fake(*faces, name="fake"):
    return SimpleNamespace(name=name, detect=lambda image: list(faces))


def test_check_passes_on_a_good_fake():
    check_detector(fake(good_face(meta={"a": 1}, landmarks_106=np.zeros((106, 2)))))


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (fake(name=None), "name"),
        (SimpleNamespace(name="x"), r"detect\(image\)"),
        (fake(), "found 0 faces"),
        (fake(good_face(), good_face()), "found 2 faces"),
        (fake("face"), "not an actfer_env Face"),
        (SimpleNamespace(name="x", detect=lambda image: None), "not a list"),
        (fake(good_face(box=(1.0, 2.0, 3.0))), "tuple"),
        (fake(good_face(box=(9.0, 0.0, 1.0, 5.0))), "x1 < x2"),
        (fake(good_face(box=(0.0, 0.0, 1.0, float("nan")))), "not finite"),
        (fake(good_face(landmarks=[[1, 2]] * 5)), "must be an array"),
        (fake(good_face(landmarks=np.zeros((5, 3)))), r"shape \(5, 2\)"),
        (fake(good_face(landmarks=np.zeros((5, 2), int))), "floats"),
        (fake(good_face(landmarks=np.full((5, 2), np.inf))), "not finite"),
        (fake(good_face(landmarks=good_face().landmarks[[1, 0, 2, 4, 3]])), "order"),
        (fake(good_face(landmarks=good_face().landmarks + 6)), "off by"),
        (fake(good_face(landmarks_106=np.zeros((68, 2)))), "landmarks_106"),
        (fake(good_face(score=99.0)), "score"),
        (fake(good_face(score=float("nan"))), "score"),
        (fake(good_face(meta={"a": object()})), "JSON"),
    ],
)
def test_check_names_what_is_broken(detector, message):
    with pytest.raises(AssertionError, match=message) as error:
        check_detector(detector)
    assert "\n" not in str(error.value)


def test_check_catches_a_changed_image():
    def detect(image):
        image[0, 0] += 1
        return [good_face()]

    with pytest.raises(AssertionError, match="changed the image"):
        check_detector(SimpleNamespace(name="x", detect=detect))


def test_check_catches_a_detector_that_varies():
    scores = iter(np.linspace(0.1, 0.9, 100))
    detector = SimpleNamespace(name="x", detect=lambda image: [good_face(score=float(next(scores)))])
    with pytest.raises(AssertionError, match="two calls differ"):
        check_detector(detector)


def test_the_noted_points_are_complete(photo_points):
    text = (ROOT / "tests" / "data" / "photo_points.json").read_text(encoding="utf-8")
    assert "_comment" in json.loads(text)
    names = {*LANDMARKS, "chin", "forehead", "left_brow", "right_brow"}
    assert set(photo_points) == set(PHOTOS)
    assert all(set(points) == names for points in photo_points.values())


def test_the_noted_points_lie_inside_their_photos(photo_points):
    for stem, points in photo_points.items():
        height, width = photo(stem).shape[:2]
        assert re.fullmatch(r"\.(png|jpg)", photo_path(stem).suffix)
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points.values())


@pytest.mark.parametrize("height", range(27, 36))
def test_mtcnn_takes_panoramas(height):
    picture = np.random.default_rng(0).integers(0, 256, (height, 640, 3), dtype=np.uint8)
    assert make_detector("unturned:mtcnn").detect(picture) == []
