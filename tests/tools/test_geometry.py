"""Transforms and boxes, as properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actfer_env.tools import geometry
from actfer_env.tools.align import TEMPLATE, align
from actfer_env.tools.detectors import Face

ANGLES = st.floats(-np.pi, np.pi)
SCALES = st.floats(2.0, 4000.0)
SHIFTS = st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000))


def placed(angle, scale, shift):
    """The template's five points, rotated, enlarged and moved into an image."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return TEMPLATE.points @ np.array([[c, s], [-s, c]]) + shift


@given(ANGLES, SCALES, SHIFTS)
def test_a_point_mapped_forth_and_back_is_off_by_less_than_a_thousandth_of_a_pixel(angle, scale, shift):
    points = placed(angle, scale, shift)
    face = Face((*points.min(0), *points.max(0)), points, 1.0)
    alignment = align([face], (640, 480))
    there = geometry.apply(alignment.transform, points)
    assert np.abs(geometry.apply(alignment.inverse, there) - points).max() < 1e-3


@given(ANGLES, SCALES, SHIFTS)
def test_similarity_recovers_rotation_scale_and_shift(angle, scale, shift):
    transform = geometry.similarity(placed(angle, scale, shift), TEMPLATE.points)
    assert np.allclose(geometry.apply(transform, placed(angle, scale, shift)), TEMPLATE.points, atol=1e-6)
    assert geometry.scale_of(transform) == pytest.approx(1 / scale, rel=1e-6)
    assert np.linalg.det(transform[:, :2]) > 0  # never mirrored


def test_similarity_never_mirrors_even_when_the_points_do():
    mirrored = TEMPLATE.points * [-1, 1]
    assert np.linalg.det(geometry.similarity(mirrored, TEMPLATE.points)[:, :2]) > 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.full((5, 2), np.inf)])
def test_degenerate_points_are_refused(points):
    with pytest.raises(ValueError, match="no similarity transform"):
        geometry.similarity(points, TEMPLATE.points)


def test_compose_applies_the_inner_transform_first():
    inner, outer = np.array([[2.0, 0, 1], [0, 2, 0]]), np.array([[0.0, -1, 0], [1, 0, 5]])
    assert geometry.apply(geometry.compose(outer, inner), [[1, 1]]).tolist() == [[-2, 8]]


def test_iou_by_hand():
    assert geometry.iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert geometry.iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert geometry.iou((0, 0, 1, 1), (0, 0, 1, 1)) == 1


def test_share_inside_by_hand():
    assert geometry.polygon_overlap(geometry.corners((-1, -1, 1, 1)), 10, 10) == pytest.approx(0.25)
    assert geometry.polygon_overlap([[0, -1], [1, 0], [0, 1], [-1, 0]], 10, 10) == pytest.approx(0.25)
    assert geometry.polygon_overlap(geometry.corners((20, 20, 30, 30)), 10, 10) == 0
    assert geometry.polygon_overlap(geometry.corners((2, 2, 3, 3)), 10, 10) == 1


def test_plain_floats_agree_with_arrays():
    rng = np.random.default_rng(0)
    for _ in range(200):
        matrix = rng.normal(size=(2, 3)) * [[1.0], [rng.choice([0.01, 1.0, 100.0])]]
        rows, box = matrix.tolist(), sorted(rng.uniform(size=4).tolist())
        np.testing.assert_allclose(geometry.inverse_rows(rows), geometry.invert(matrix), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            geometry.corners_under(rows, box), geometry.apply(matrix, geometry.corners(box)), atol=1e-9
        )
    assert geometry.inverse_rows([[0.0, 2.0, 1.0], [4.0, 0.0, 8.0]]) == ((0.0, 0.25, -2.0), (0.5, 0.0, -0.5))
    with pytest.raises(ZeroDivisionError):
        geometry.inverse_rows([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]])
