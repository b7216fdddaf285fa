"""`Box`: what is one, in which coordinates, and how far two are the same."""

import json
import pickle

import numpy as np
import pytest

from actfer_env.boxes import Box, BoxError, iou
from actfer_env.rewards.grounding import iou as iou_of_rewards
from actfer_env.rollout import ToolCall
from actfer_env.tools import BoxError as PublicBoxError
from actfer_env.tools import geometry


@pytest.mark.parametrize(("value", "why"), [
    ((1, 2, 3), "four numbers"), ("1234", "four numbers"), (None, "four numbers"), ([1, 2, 3, 4, 5], "four numbers"),
    (["1", 2, 3, 4], "numbers only"), ([True, 2, 3, 4], "numbers only"), ([None, 2, 3, 4], "numbers only"),
    ([float("nan"), 2, 3, 4], "finite"), ([1, 2, 3, float("inf")], "finite"), ([1, 2, 3, 10**400], "finite"),
    ([3, 2, 3, 4], "empty or inverted"), ([1, 4, 3, 2], "empty or inverted"),
    ([-1, 2, 3, 4], "within 0 and 10"), ([1, 2, 11, 4], "within 0 and 10"),
])  # fmt: skip
def test_what_is_no_box_is_refused_in_one_line(value: object, why: str) -> None:
    with pytest.raises(BoxError, match=why) as error:
        Box.parse(value, (10, 10))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [[1, 2, 3, 4], (1.0, 2.0, 3.0, 4.0), np.array([1, 2, 3, 4], np.int16)])
def test_lists_tuples_and_arrays_are_boxes(value: object) -> None:
    box = Box.parse(value)
    assert box == (1, 2, 3, 4) and all(type(number) is float for number in box)


def test_a_box_is_the_tuple_that_it_replaces() -> None:
    box = Box(0.1, 0.2, 0.3, 0.4)
    assert box == (0.1, 0.2, 0.3, 0.4) and hash(box) == hash((0.1, 0.2, 0.3, 0.4)) and box.x2 == 0.3
    assert json.dumps(box) == "[0.1, 0.2, 0.3, 0.4]" and pickle.loads(pickle.dumps(box)) == box
    assert ToolCall("zoom_in", boxes=(box,)) == ToolCall.from_dict({"name": "zoom_in", "boxes": [[0.1, 0.2, 0.3, 0.4]]})


def test_coordinates_of_the_wire_and_back() -> None:
    box = Box.parse([250, 500, 750, 1000])
    assert box.shares((1000, 1000)) == (0.25, 0.5, 0.75, 1.0)
    assert box.shares((1000, 2000)).scaled((1000, 2000)) == box
    assert box.to_centre() == (500, 750, 500, 500) and Box.from_centre(*box.to_centre()) == box
    assert Box(-0.5, 0.2, 0.5, 1.5).clipped() == (0, 0.2, 0.5, 1)
    assert Box(-0.02, 0, 1, 1.02).is_within(0.03) and not Box(-0.02, 0, 1, 1).is_within(0.01)


def test_there_is_one_overlap_and_one_error() -> None:
    assert iou is iou_of_rewards is geometry.iou and BoxError is PublicBoxError
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 1, 1), (1, 0, 2, 1)) == iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
