"""The panel of an episode: one frame for each crop that the budget allows."""

from __future__ import annotations

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

import actfer_env  # noqa: F401
from actfer_env.data import load_dataset
from actfer_env.envs.panel import Panel
from actfer_env.episode import Episode, EpisodeConfig
from actfer_env.images import RGB
from actfer_env.tools import FaceTools
from actfer_env.tools.zoom import ZoomConfig

FACES = load_dataset("synthetic", split="train", n=4)
FACE = next(one for one in FACES if FaceTools().alignment(one) is not None)
ZOOMED = slice(34, 338), slice(636, 946)
"""Rows and columns of the panel in which the crops stand, with a margin."""


def played(max_zooms: int, zooms: int) -> Episode:
    tools = FaceTools(zoom=ZoomConfig(size=48, stretch=True, repeat_iou=1.0))
    episode = Episode(FACE, tools, EpisodeConfig(max_turns=zooms + 2, max_zooms=max_zooms))
    episode.detect_align()
    for i in range(zooms):
        left = 0.01 * i
        assert episode.zoom_in(boxes=[[left, left, left + 0.3, left + 0.3]]).legal
    return episode


def frames(panel: RGB) -> int:
    """Count the frames of crops, from the outlines that are drawn in the colour of empty frames or of boxes."""
    part = panel[ZOOMED]
    lines = (part == Panel.faint).all(-1) | (part == (190, 150, 255)).all(-1)
    corners = lines & np.roll(lines, -1, 0) & np.roll(lines, -1, 1)  # goes right and down
    corners &= ~np.roll(lines, 1, 0) & ~np.roll(lines, 1, 1)
    return int(corners.sum())


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 9, 12, 36])
def test_as_many_frames_as_the_budget_has_crops(most):
    assert frames(Panel().draw(played(most, 0))) == most


@pytest.mark.parametrize("most", [1, 3, 6, 7])
def test_every_crop_is_drawn(most):
    """A panel changes with each crop up to the last one."""
    seen = [Panel().draw(played(most, zooms))[ZOOMED] for zooms in range(most + 1)]
    assert all(not np.array_equal(one, two) for one, two in pairwise(seen))


def test_of_a_very_large_budget_the_last_crops_are_drawn():
    assert frames(Panel().draw(played(1000, 0))) == 36
    full, one_more = (Panel().draw(played(1000, zooms))[ZOOMED] for zooms in (36, 37))
    assert not np.array_equal(full, one_more)


@pytest.mark.parametrize("env_id", ["ActFER-Discrete-v0", "ActFER-Chat-v0"])
def test_the_environments_draw_their_own_budget(env_id):
    own = {"max_zooms": 2} if env_id != "ActFER-Chat-v0" else {"config": EpisodeConfig(max_zooms=2)}
    env = gym.make(env_id, dataset=FACES, render_mode="rgb_array", **own)
    env.reset(seed=0)
    assert frames(env.render()) == 2


def test_the_frames_of_four_crops_stay_where_they_were():
    pen = Panel().draw(played(4, 0))
    for x in (640, 794):
        for y in (36, 187):
            assert (pen[y, x : x + 147] == Panel.faint).all() and (pen[y + 145, x : x + 147] == Panel.faint).all()
            assert (pen[y : y + 146, x] == Panel.faint).all() and (pen[y : y + 146, x + 146] == Panel.faint).all()
