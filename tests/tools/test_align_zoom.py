"""detect_align and zoom_in on the portrait, with its points noted by hand."""

import json

import cv2
import numpy as np
import pytest
from helpers import ASTRONAUT_POINTS, REGION_BOXES, PortraitDetector, compare
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import astronaut

from actfer_env import facs
from actfer_env.errors import DetectorError, ImageError, LabelError
from actfer_env.tools import Alignment, BoxError, Face, ZoomConfig, detect_align, detect_align_batch, geometry, zoom_in
from actfer_env.tools.align import TEMPLATE, align
from actfer_env.tools.sampling import SAMPLING, sample_box
from actfer_env.tools.zoom import check_box

UNIT = st.floats(0, 1)


@pytest.fixture(scope="module")
def image():
    return astronaut()


@pytest.fixture(scope="module")
def aligned(image):
    return detect_align(image, PortraitDetector())


def face_at(x, y, size):
    points = TEMPLATE.points * size + (x, y)
    return Face((x, y, x + size, y + size), points, 0.9)


def test_the_five_points_land_near_the_template(aligned):
    found = geometry.apply(aligned.transform, ASTRONAUT_POINTS)
    assert np.abs(found - TEMPLATE.points).max() < 0.045


def test_regions_are_ordered_boxes_inside_the_face_and_back_in_the_original(aligned):
    assert tuple(aligned.regions) == facs.REGIONS
    for name, box in aligned.regions.items():
        assert 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1
        back = geometry.apply(aligned.transform, aligned.regions_original[name])
        assert np.allclose(back, geometry.corners(box), atol=1e-9)


def test_alignment_round_trips_through_json(aligned):
    again = Alignment.from_dict(json.loads(json.dumps(aligned.to_dict())))
    assert again.to_dict() == aligned.to_dict()
    assert np.array_equal(again.transform, aligned.transform)


@pytest.mark.parametrize("size", [16, 64, 224, 512])
def test_size_is_configurable(image, size):
    assert detect_align(image, PortraitDetector(), size=size).face.shape == (size, size, 3)


@pytest.mark.parametrize("size", [0, 15, 5000])
def test_bad_size_is_refused(image, size):
    with pytest.raises(ValueError, match="between 16 and 4096"):
        detect_align(image, PortraitDetector(), size=size)


def test_no_face_gives_none(image):
    assert detect_align(image, PortraitDetector([])) is None


def test_which_face():
    small, large, twin = face_at(0, 0, 100), face_at(100, 100, 200), face_at(400, 300, 198)
    faces, size = [small, large, twin], (640, 480)
    pick = lambda **choice: align(faces, size, **choice)  # noqa: E731
    assert pick().box == large.box and pick().faces == 3  # nearly as large, but the twin is farther from the centre
    assert pick(face=1).box == twin.box and pick(face=2).box == small.box
    assert pick(face=(50, 50)).box == small.box
    assert pick(face=(639, 479)).box == twin.box  # the nearest, where no box holds the point
    for bad in (3, -1, "biggest", (1, 2, 3)):
        with pytest.raises(DetectorError):
            pick(face=bad)


def test_ties_go_to_the_face_nearest_the_centre():
    off, middle = face_at(0, 0, 200), face_at(220, 140, 200)
    assert align([off, middle], (640, 480)).box == middle.box


def test_degenerate_landmarks_are_refused():
    with pytest.raises(DetectorError, match="cannot be aligned"):
        align([Face((0, 0, 10, 10), np.zeros((5, 2)), 1.0)], (64, 64))


def test_a_dense_landmark_set_shapes_the_regions(aligned):
    box = lambda x1, y1, x2, y2, n: np.linspace((x1, y1), (x2, y2), n)  # noqa: E731
    dense = np.concatenate([
        box(0.1, 0.4, 0.9, 0.9, 33), box(0.3, 0.4, 0.4, 0.44, 10), box(0.28, 0.3, 0.45, 0.35, 9),
        box(0.35, 0.65, 0.65, 0.75, 20), box(0.45, 0.42, 0.55, 0.58, 15), box(0.6, 0.4, 0.7, 0.44, 10),
        box(0.55, 0.3, 0.72, 0.35, 9)])  # fmt: skip
    face = Face((0, 0, 1, 1), ASTRONAUT_POINTS, 1.0, geometry.apply(aligned.inverse, dense))
    regions = align([face], (512, 512)).regions
    eyes, mouth = regions["eye-periorbital"], regions["mouth-chin"]
    assert eyes[1] < 0.4 and eyes[3] > 0.44 and eyes[0] < 0.28 and eyes[2] > 0.72
    assert mouth[1] < 0.65 and mouth[3] > 0.9
    assert regions["forehead-eyebrow"][3] >= 0.35


def test_prealigned_fills_the_frame_whatever_the_shape():
    alignment = Alignment.of_prealigned((100, 50))
    assert np.allclose(alignment.to_original((0, 0.25, 1, 0.75)), geometry.corners((0, 0, 100, 50)))
    assert geometry.apply(alignment.transform, alignment.landmarks) == pytest.approx(TEMPLATE.points)


def test_batch_keeps_order_and_can_return_errors(image, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    detector = PortraitDetector()
    results = detect_align_batch([image, tmp_path / "bad.png", image], detector, on_error="return", size=32)
    assert [type(r) for r in results] == [Alignment, ImageError, Alignment] and detector.calls == 2
    with pytest.raises(ImageError):
        detect_align_batch([tmp_path / "bad.png"], detector)


# --- zoom_in ---------------------------------------------------------------------------------------------------------


def test_zoom_by_name_and_by_box(image, aligned):
    mouth, box = zoom_in(image, aligned, "mouth", [0.2, 0.2, 0.6, 0.4])
    assert mouth.region == "mouth-chin" and mouth.box == pytest.approx(aligned.regions["mouth-chin"])
    assert max(mouth.image.shape) == 224 and box.image.shape == (112, 224, 3)
    assert mouth.inside == 1.0 and 0 < mouth.native < 1  # the portrait's mouth has fewer pixels than 224


def test_zoom_can_be_square_for_fixed_observations(image, aligned):
    (crop,) = zoom_in(image, aligned, "eyes", config=ZoomConfig(size=48, stretch=True))
    assert crop.image.shape == (48, 48, 3)


def test_what_lies_outside_the_original_is_flat_grey_and_reported(image):
    alignment = align([face_at(-100, 100, 200)], (512, 512))
    (crop,) = zoom_in(image, alignment, boxes=[0.0, 0.0, 1.0, 1.0])
    assert crop.inside == pytest.approx(0.5, abs=0.01)
    assert (crop.image[:, :100] == 127).all() and crop.image[:, 130:].std() > 10


def test_a_box_of_the_original_image(image, aligned):
    quad = aligned.to_original((0.3, 0.3, 0.7, 0.7)) / 512
    box = (*quad.min(0), *quad.max(0))
    (crop,) = zoom_in(image, aligned, boxes=[box], frame="original")
    assert crop.box == pytest.approx((0.3, 0.3, 0.7, 0.7), abs=0.05)
    with pytest.raises(BoxError, match="does not meet the aligned face"):
        zoom_in(image, aligned, boxes=[[0.9, 0.9, 1.0, 1.0]], frame="original")
    with pytest.raises(BoxError, match="'face' or to 'original'"):
        zoom_in(image, aligned, boxes=[box], frame="crop")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([0.1, 0.1, 0.5], "four numbers"), ([0.1] * 5, "four numbers"), ("0.1,0.1,0.5,0.5", "must be a list"),
        ([[0.1, 0.1, 0.5, "0.5"]], "numbers only"), ([0.1, float("nan"), 0.5, 0.5], "finite"),
        ([0.1, 0.1, float("inf"), 0.5], "finite"), ([0.5, 0.1, 0.1, 0.5], "inverted"), ([0.5, 0.5, 0.5, 0.6], "empty"),
        ([0.5, 0.5, 1.5, 0.9], "outside the aligned face"), ([-0.4, 0.5, 0.5, 0.9], "outside"),
        ([2, 2, 3, 3], "outside"), ([[True, 0, 1, 1]], "numbers only"), ([None], "four numbers"), ([], "needs regions"),
    ],
)  # fmt: skip
def test_bad_boxes_say_what_a_box_must_be(image, aligned, box, reason):
    with pytest.raises(BoxError, match=reason):
        zoom_in(image, aligned, boxes=box)


def test_unknown_regions_are_refused(image, aligned):
    with pytest.raises(LabelError, match="unknown region 'ear'"):
        zoom_in(image, aligned, ["nose", "ear"])
    with pytest.raises(BoxError, match="list of names"):
        zoom_in(image, aligned, 3)


@given(UNIT, UNIT, UNIT, UNIT)
def test_every_proper_box_is_kept_inside_the_frame_and_at_least_the_smallest_side(a, b, c, d):
    x1, x2, y1, y2 = *sorted((a, b)), *sorted((c, d))
    if x1 == x2 or y1 == y2:
        return
    config = ZoomConfig()
    box = check_box((x1, y1, x2, y2), config)
    assert 0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1
    assert min(box[2] - box[0], box[3] - box[1]) >= config.min_side - 1e-12
    if min(x2 - x1, y2 - y1) >= config.min_side:
        assert box == (x1, y1, x2, y2)


# --- fidelity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", REGION_BOXES)
def test_zoom_shows_detail_that_the_aligned_face_has_lost(image, box):
    large = cv2.resize(image, (2048, 2048), interpolation=cv2.INTER_LANCZOS4)
    for picture, centre, side in ((image, (224, 125), 176), (large, (896, 500), 704)):
        zoomed, enlarged = compare(picture, centre, side, box)
        assert zoomed >= 0.95
        assert enlarged < zoomed - 0.02


@pytest.mark.parametrize("box", REGION_BOXES)
def test_zoom_invents_no_detail_where_the_original_has_none(image, box):
    face = cv2.resize(image[37:213, 136:312], (64, 64), interpolation=cv2.INTER_AREA)
    zoomed, enlarged = compare(face, (32, 32), 64, box)
    assert abs(zoomed - enlarged) <= 0.02


def test_a_huge_photo_costs_no_quality(image):
    huge = cv2.resize(image, (4096, 4096), interpolation=cv2.INTER_CUBIC)
    zoomed, _ = compare(huge, (1792, 1000), 1408, REGION_BOXES[3])
    assert zoomed >= 0.95


def drawn_by_arrays(image, transform, box, size):
    """What `sample_box` draws, written with NumPy's linear algebra."""
    matrix = geometry.compose(geometry.box_to_transform(box, *size), transform)
    inverse = geometry.invert(matrix)
    pixels = np.hypot(inverse[:, 0], inverse[:, 1])
    block = max(int(pixels.min() // (SAMPLING.decimate_from / 2)), 1) if pixels.min() > SAMPLING.decimate_from else 1
    quad, margin = geometry.apply(inverse, geometry.corners((0, 0, *size))), np.ceil(2 * pixels) + 2
    low = np.maximum(np.floor(quad.min(0) - margin), 0).astype(int) // block * block
    high = np.maximum(np.minimum(np.ceil(quad.max(0) + margin), image.shape[1::-1]).astype(int), low)
    source = image[low[1] : high[1], low[0] : high[0]]
    if not source.size:
        return np.full((size[1], size[0], 3), SAMPLING.fill, np.uint8)
    extra = [-source.shape[0] % block, -source.shape[1] % block]
    source = cv2.copyMakeBorder(source, 0, extra[0], 0, extra[1], cv2.BORDER_REPLICATE)
    if block > 1:
        shape = (source.shape[1] // block, source.shape[0] // block)
        source = cv2.resize(source, shape, interpolation=cv2.INTER_AREA)
    sigma = SAMPLING.blur * np.sqrt(np.maximum((pixels / block) ** 2 - 1, 0))
    if sigma.max() >= 0.1:
        source = cv2.GaussianBlur(source, (0, 0), sigmaX=max(sigma[0], 1e-3), sigmaY=max(sigma[1], 1e-3))
    matrix = geometry.compose(matrix, np.array([[block, 0.0, low[0]], [0.0, block, low[1]]]))
    matrix[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    return cv2.warpAffine(source, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(SAMPLING.fill,) * 3)


def test_plain_floats_draw_the_same_pixels_as_arrays():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 400, 3), np.uint8)
    for case in range(60):
        image = np.ascontiguousarray(noise[: rng.integers(20, 300), : rng.integers(20, 400)])
        angle, scale = rng.normal(0, 0.5) * (case % 3 > 0), 1 / np.exp(rng.uniform(np.log(15), np.log(2000)))
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        transform = np.array([[c, -s, rng.uniform(-0.5, 0.9)], [s, c, rng.uniform(-0.5, 0.9)]])
        x, y, width, height = *rng.uniform(0, 0.7, 2), *rng.uniform(0.05, 0.3, 2)
        box, size = (x, y, x + width, y + height), [(48, 48), (224, 117), (16, 30)][case % 3]
        np.testing.assert_array_equal(
            sample_box(image, transform, box, size), drawn_by_arrays(image, transform, box, size)
        )
