"""Micro-expressions: the motion map, and the data set of drawn ones."""

from __future__ import annotations

import colorsys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env import facs
from actfer_env.chat import ChatEpisode
from actfer_env.data import load_dataset
from actfer_env.data.motion import FULL, LEGEND, estimate_flow, motion_map
from actfer_env.data.synthetic.micro import onset_landmarks
from actfer_env.data.synthetic.presets import SyntheticConfig
from actfer_env.errors import DataError
from actfer_env.tools import FaceTools


def flow_of(x: float, y: float) -> np.ndarray:
    """Return a flow of 80 x 100 pixels that moves a patch at the left edge alone."""
    flow = np.zeros((80, 100, 2), np.float32)
    flow[10:30, 5:25] = x, y
    return flow


@pytest.mark.parametrize(("x", "y", "hue"), [(1, 0, 0), (0, 1, 90), (-1, 0, 180), (0, -1, 270), (1, 1.8, 60)])
def test_hue_is_the_direction_and_brightness_the_length(x: float, y: float, hue: int) -> None:
    black = np.zeros((80, 100, 3), np.uint8)
    full = FULL * 50
    length = float(np.hypot(x, y))
    shown = motion_map(black, flow_of(x / length * full, y / length * full), (70.0, 40.0), 50.0)
    red, green, blue = (int(v) / 255 for v in shown[20, 15])
    found, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    assert abs(found * 360 - hue) < 1.5 and saturation == 1.0 and value == 1.0
    half = motion_map(black, flow_of(x / length * full / 2, y / length * full / 2), (70.0, 40.0), 50.0)
    assert half.max() == 127 and not half[50:].any()


@settings(max_examples=30, deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5))
def test_the_heads_own_motion_is_not_shown(x: float, y: float) -> None:
    grey = np.full((60, 60, 3), 90, np.uint8)
    shown = motion_map(grey, np.full((60, 60, 2), (x, y), np.float32), (30.0, 30.0), 20.0)
    assert (shown == 45).all()


def test_the_flow_of_two_frames_is_found() -> None:
    picture = np.asarray(load_dataset("synthetic", split="train", n=1, preset="easy")[0].image)
    moved = np.roll(picture, (2, 3), (0, 1))
    flow = estimate_flow(picture, moved)
    assert flow.shape == (*picture.shape[:2], 2) and flow.dtype == np.float32
    textured = np.abs(np.diff(picture.astype(int).mean(2), axis=0))[100:200, 100:200] > 12
    assert np.median(flow[100:200, 100:200][textured], axis=0) == pytest.approx((3, 2), abs=0.3)


def test_a_micro_expression_is_a_function_of_its_number_alone(tmp_path: Path) -> None:
    ahead = load_dataset("synthetic-micro", split="val", n=6)
    kept = load_dataset("synthetic-micro", split="val", n=6, cache=str(tmp_path))
    later = np.asarray(ahead[5].image)
    for index in (5, 2):
        assert np.array_equal(ahead[index].image, load_dataset("synthetic-micro", split="val", n=9)[index].image)
        assert np.array_equal(kept[index].image, ahead[index].image)
    assert np.array_equal(kept[5].image, later) and len(list(tmp_path.rglob("*.png"))) == 2
    true = load_dataset("synthetic-micro", split="val", n=6, flow="true")[5]
    assert not np.array_equal(true.image, later) and true.meta["image"] != ahead[5].meta["image"]
    assert ahead[5].meta["dataset"] == "synthetic-micro" and set(ahead[5].meta["intensities"]) == {"left", "right"}


def test_true_motion_lies_where_the_muscles_are() -> None:
    samples = load_dataset("synthetic-micro", split="train", n=60, flow="true")
    seen = {"still": 0, "mouth": 0, "brows": 0}
    for index, sample in enumerate(samples):
        if sample.meta["quality"] != "good":
            continue
        colour = np.ptp(np.asarray(sample.image).astype(int), axis=2)
        points, _ = onset_landmarks(SyntheticConfig(preset="micro"), "train", index)
        nose = round(points["nose"][1])
        if not sample.aus:
            assert sample.emotion == "neutral" and colour.max() == 0
            seen["still"] += 1
        elif sample.aus <= {12, 15, 17, 20, 23, 25, 26} and 15 not in sample.aus:
            assert colour[nose:].sum() > colour[:nose].sum()
            seen["mouth"] += 1
        elif sample.aus <= {1, 2, 4}:
            assert colour[:nose].sum() > colour[nose:].sum()
            seen["brows"] += 1
    assert all(seen.values()), seen


def test_faint_units_and_every_emotion() -> None:
    samples = load_dataset("synthetic-micro", split="test", n=400)
    strengths = [value for sample in samples for side in sample.meta["intensities"].values() for value in side.values()]
    assert min(strengths) >= 1.0 and np.mean(strengths) < 2.0
    assert {sample.emotion for sample in samples} == set(facs.EMOTIONS)


def test_an_episode_looks_at_the_map_and_a_prompt_explains_it() -> None:
    env = gym.make("ActFER-Micro-v0", split="val")
    first, info = env.reset(seed=3)
    assert info["sample_id"].startswith("val-")
    observation, *_ = env.step(np.array([0, *[0] * (len(env.action_space.nvec) - 1)]))
    assert np.asarray(first["image"]).any() and np.asarray(observation["face"]).any()
    sample = load_dataset("synthetic-micro", split="val", n=1)[0]
    told = str(ChatEpisode(sample, FaceTools()).messages)
    assert " ".join(LEGEND.split()) in told


@pytest.mark.parametrize(("options", "line"), [
    ({"preset": "hard"}, "has the preset 'micro' alone, got 'hard'"),
    ({"flow": "guessed"}, "unknown flow 'guessed': use estimated or true"),
    ({"n": 0}, "n is 0; it must be at least 1"),
])  # fmt: skip
def test_what_it_does_not_take_is_one_line(options: dict[str, object], line: str) -> None:
    with pytest.raises(DataError, match=line):
        load_dataset("synthetic-micro", split="val", **options)


def test_frames_and_flows_must_fit() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(DataError, match="different sizes"):
        estimate_flow(frame, frame[:10])
    with pytest.raises(DataError, match="needs \\(20, 30, 2\\)"):
        motion_map(frame, np.zeros((20, 20, 2), np.float32), (5.0, 5.0), 10.0)
    with pytest.raises(DataError, match="not finite"):
        motion_map(frame, np.full((20, 30, 2), np.nan, np.float32), (5.0, 5.0), 10.0)
    for odd in (frame[..., 0], frame.astype(np.float32), frame[..., :2]):
        with pytest.raises(DataError, match="a frame must be uint8"):
            motion_map(odd, np.zeros((20, 30, 2), np.float32), (5.0, 5.0), 10.0)
        with pytest.raises(DataError, match="a frame must be uint8"):
            estimate_flow(frame, odd)
    with pytest.raises(DataError, match="eye_distance is 0"):
        motion_map(frame, np.zeros((20, 30, 2), np.float32), (5.0, 5.0), 0.0)
