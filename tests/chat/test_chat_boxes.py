"""Boxes: every message speaks the policy's coordinates, and boxes in other coordinates are questioned, not obeyed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers import DETECT

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import load_dataset
from actfer_env.episode import Episode
from actfer_env.sample import Sample
from actfer_env.tools import FaceTools


@pytest.fixture(scope="module")
def sample() -> Sample:
    return next(one for one in load_dataset("synthetic", split="test", n=12) if one.meta["quality"] == "good")


@pytest.fixture(scope="module")
def tools() -> FaceTools:
    return chat_tools()


def aligned(sample: Sample, tools: FaceTools, **chat: Any) -> ChatEpisode:
    episode = ChatEpisode(sample, tools, ChatConfig(**chat))
    episode.step(DETECT)
    assert episode.episode.alignment is not None
    return episode


def zoom(episode: ChatEpisode, boxes: Any, **more: Any) -> tuple[tuple[str, ...], str]:
    """Ask for boxes; return violations and what the policy is told."""
    call = json.dumps({"name": "zoom_in", "arguments": {"boxes": boxes, **more}})
    step = episode.step(f"<tool_call>{call}</tool_call>")
    return step.violations, step.messages[0]["content"][-1]["text"]


@pytest.mark.parametrize(("coordinates", "box", "said", "bounds"), [
    ("relative_1000", [50, 50, 1200, 900], "1200", "within 0 and 1000"),
    ("pixels", [5, 5, 500, 200], "500", "within 0 and 224"),
    ("unit", [0.1, 0.1, 1.9, 0.9], "1.9", "within 0 and 1:"), ("unit", [100, 100, 900, 900], "900", "within 0 and 1:"),
    ("relative_1000", [-300, 50, 500, 900], "-300", "within 0 and 1000"),
])  # fmt: skip
def test_a_box_outside_is_refused_in_the_policys_coordinates(
    coordinates: Any, box: Any, said: str, bounds: str, sample: Sample, tools: FaceTools
) -> None:
    violations, told = zoom(aligned(sample, tools, coordinates=coordinates), [box])
    assert violations == ("bad_arguments",)
    assert said in told and bounds.rstrip(":") in told
    if coordinates != "unit":
        assert "within 0 and 1." not in told and "0.05" not in told and "from 0 to 1." not in told


@pytest.mark.parametrize("box", [[900, 100, 100, 900], [100, 900, 900, 100], [500, 500, 500, 500]])
def test_an_inverted_box_is_quoted_as_it_was_written(box: Any, sample: Sample, tools: FaceTools) -> None:
    violations, told = zoom(aligned(sample, tools), [box])
    assert violations == ("bad_arguments",) and ", ".join(map(str, box)) in told


@pytest.mark.parametrize("parsing", ["strict", "lenient"])
@pytest.mark.parametrize(
    ("coordinates", "meant"), [("relative_1000", "(100, 200, 900, 800)"), ("pixels", "(22, 45, 202, 179)")]
)
def test_a_box_in_shares_is_questioned_with_what_was_meant(
    coordinates: Any, meant: str, parsing: Any, sample: Sample, tools: FaceTools
) -> None:
    episode = aligned(sample, tools, coordinates=coordinates, parsing=parsing)
    violations, told = zoom(episode, [[0.1, 0.2, 0.9, 0.8]])
    assert violations == ("bad_arguments",) and meant in told
    assert episode.episode.crops == []


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [0.0, 0.0, 1.0, 1.5], [-0.01, 0, 0.5, 0.5], [0.2, 0.3, 0.8, 1.2]])
@pytest.mark.parametrize("image", ["face", "original"])
def test_any_box_of_small_numbers_is_questioned_in_either_picture(
    box: Any, image: str, sample: Sample, tools: FaceTools
) -> None:
    episode = aligned(sample, tools)
    assert zoom(episode, [box], image=image)[0] == ("bad_arguments",) and episode.episode.crops == []


def test_one_box_in_shares_among_others_stops_the_call(sample: Sample, tools: FaceTools) -> None:
    episode = aligned(sample, tools)
    assert zoom(episode, [[100, 100, 900, 900], [0.1, 0.1, 0.9, 0.9]])[0] == ("bad_arguments",)
    assert episode.episode.crops == []
    assert zoom(episode, [[100, 100, 900, 900], [0, 0, 400, 2]])[0] == ()


@pytest.mark.parametrize("parsing", ["strict", "lenient"])
def test_a_single_box_without_a_list_is_read_in_the_policys_coordinates(
    parsing: Any, sample: Sample, tools: FaceTools
) -> None:
    episode = aligned(sample, tools, parsing=parsing)
    assert zoom(episode, [250, 250, 750, 750])[0] == ()
    assert episode.episode.zoomed_boxes == ((0.25, 0.25, 0.75, 0.75),)
    assert zoom(episode, [0.1, 0.1, 0.9, 0.9])[0] == ("bad_arguments",)


def test_boxes_of_the_original_are_bounded_by_the_picture_that_was_shown(sample: Sample, tools: FaceTools) -> None:
    episode = aligned(sample, tools, coordinates="pixels")
    height, width = episode.images[0].shape[:2]
    violations, told = zoom(episode, [[0, 0, 5000, 10]], image="original")
    assert violations == ("bad_arguments",) and str(width) in told and str(height) in told
    assert "original image" in told and "aligned face" not in told.split("Legal")[0]
    assert zoom(episode, [[0, 0, width, height]], image="original")[0] == ()


def test_the_record_has_shares_of_the_picture(sample: Sample, tools: FaceTools) -> None:
    episode = aligned(sample, tools)
    zoom(episode, [[250, 250, 750, 750]])
    episode.stop("out_of_budget")
    call = episode.rollout().tool_calls[-1]
    assert call.arguments["boxes"] == [[0.25, 0.25, 0.75, 0.75]] and call.boxes == ((0.25, 0.25, 0.75, 0.75),)


def test_without_a_chat_boxes_and_messages_are_shares(sample: Sample, tools: FaceTools) -> None:
    episode = Episode(sample, tools)
    episode.detect_align()
    assert "within 0 and 1" in episode.zoom_in(boxes=[[0.1, 0.1, 2.0, 0.9]]).message
    assert episode.zoom_in(boxes=[[0.1, 0.1, 0.9, 0.9]]).legal
