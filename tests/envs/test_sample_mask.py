"""`action_space.sample(mask)` for every id, with masks in the form that gymnasium's spaces take."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from helpers import every_id

import actfer_env
from actfer_env.agents import join
from actfer_env.data import load_dataset
from actfer_env.envs.registration import CHAT_ID
from actfer_env.tools import FaceTools, ZoomConfig

FACES = load_dataset("synthetic", n=6)
TOOLS = FaceTools("simulated", zoom=ZoomConfig(size=48, stretch=True))


@every_id
def test_a_legal_mask_gives_legal_actions_only(env_id):
    env = gym.make(env_id, dataset=FACES, tools=TOOLS)
    env.action_space.seed(0)
    env.reset(seed=0)
    called = set()
    for _ in range(60):
        _, info = env.reset()
        done = False
        while not done:
            action = env.action_space.sample(info["sample_mask"])
            assert action in env.action_space
            _, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
            called.add(info["tool"])
        assert not info["rollout"].violations
        env.action_space.sample(mask=info["sample_mask"])  # nothing is legal now, and nothing breaks
    assert called == {"detect_align", "zoom_in", "answer"}


@every_id
def test_masks_have_the_forms_of_gymnasiums_spaces(env_id):
    env = gym.make(env_id, dataset=FACES)
    obs, info = env.reset(seed=0)
    mask = info["sample_mask"]
    if env_id == "ActFER-v0":
        assert mask.keys() == env.action_space.spaces.keys() and mask["tool"].tolist() == [1, 0, 1]
    elif env_id == "ActFER-Discrete-v0":
        assert mask.dtype == np.int8 and mask.tolist() == obs["action_mask"].tolist() == [1, *[0] * 4, *[1] * 8]
    else:
        assert isinstance(mask, tuple) and [len(part) for part in mask] == env.action_space.nvec.tolist()
        assert mask[0].tolist() == [1, 0, 0, 0, 0, 1] and all(part.dtype == np.int8 for part in mask)
        assert np.concatenate(mask).tolist() == obs["action_mask"].tolist()  # which MaskablePPO reads, as before
    again = env.get_wrapper_attr("sample_mask")()
    assert str(again) == str(mask) and str(pickle.loads(pickle.dumps(mask))) == str(mask)


def test_a_box_is_drawn_beside_those_that_were_magnified():
    tools = FaceTools("simulated", zoom=ZoomConfig(size=48, stretch=True, repeat_iou=0.05))
    env = gym.make("ActFER-v0", dataset=FACES, tools=tools)
    env.action_space.seed(0)
    for _ in range(30):
        env.reset(seed=0, options={"sample": 0})
        env.step({**env.action_space.sample(), "tool": 0})
        small = np.array([0.2, 0.2, 0.3, 0.3], np.float32)
        *_, info = env.step({**env.action_space.sample(), "tool": 1, "box": small})
        *_, info = env.step({**env.action_space.sample(info["sample_mask"]), "tool": 1})
        assert info["violation"] is None


def test_a_plain_dict_mask_without_boxes_works_too():
    env = gym.make("ActFER-v0", dataset=FACES)
    env.reset(seed=0)
    mask = {"tool": np.array([0, 0, 1], np.int8), "box": None, "emotion": None, "aus": None}
    assert all(env.action_space.sample(mask)["tool"] == 2 for _ in range(20))


def test_a_conversation_has_a_mask_that_leaves_everything_free():
    env = gym.make(CHAT_ID, dataset=FACES)
    _, info = env.reset(seed=0)
    length, characters = info["sample_mask"]
    assert env.action_space.sample((5, characters)) in env.action_space
    assert env.action_space.sample(info["sample_mask"]) in env.action_space and length is None


@pytest.mark.parametrize("env_id", ["ActFER-v0", "ActFER-Discrete-v0", "ActFER-MultiDiscrete-v0"])
def test_query_groups_give_a_mask_for_each_member(env_id):
    envs = actfer_env.make_group_vec(env_id, 2, 2, dataset=FACES, tools=TOOLS)
    envs.single_action_space.seed(0)
    obs, info = envs.reset(seed=0)
    ended = []
    for _ in range(40):
        actions = [envs.single_action_space.sample(mask) for mask in envs.sample_masks()]
        obs, *_, info = envs.step(join(actions, obs))
        ended += [rollout for rollout in info.get("rollout", []) if rollout is not None]
    assert len(ended) > 8 and not any(rollout.violations for rollout in ended)


@every_id
def test_gymnasiums_vector_environments_carry_the_masks(env_id):
    mode = "async" if env_id == "ActFER-v0" else "sync"
    envs = gym.make_vec(env_id, 2, vectorization_mode=mode, dataset=FACES)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    *_, info = envs.step(envs.action_space.sample())
    if env_id == "ActFER-v0":
        assert info["sample_mask"]["tool"].shape == (2, 3) and len(info["sample_mask"]["box"]) == 2
    elif env_id != "ActFER-Discrete-v0":
        assert envs.single_action_space.sample(info["sample_mask"][1]) in envs.single_action_space
    envs.close()
