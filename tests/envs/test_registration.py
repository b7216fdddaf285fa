"""Ids and what they stand for, and the one reset of the environments of single episodes."""

from __future__ import annotations

import gymnasium as gym
import pytest
from helpers import every_id

import actfer_env
from actfer_env.data import load_dataset
from actfer_env.envs.chat import ActFERChatEnv
from actfer_env.envs.face import ActFEREnv
from actfer_env.envs.registration import CHAT_ID, IDS, arguments
from actfer_env.envs.reset import EpisodeEnv
from actfer_env.wrappers.group_vec import GroupVectorEnv

FACES = load_dataset("synthetic", n=4)


def facts(env):
    return env.config, env.dataset.arguments, env.scorer.config, env.tools.zoom


@every_id
def test_an_id_stands_for_the_same_environment_whoever_makes_it(env_id):
    alone = gym.make(env_id).unwrapped
    for envs in (gym.make_vec(env_id, 2), actfer_env.make_group_vec(env_id, 2, 1), GroupVectorEnv(env_id, 1, 2)):
        assert facts(envs) == facts(alone)
        assert envs.single_action_space == alone.action_space
        assert envs.single_observation_space == alone.observation_space
    assert facts(ActFEREnv(**arguments(env_id))) == facts(alone)


def test_arguments_of_ones_own_win():
    made = arguments("ActFER-Quality-v0", dataset=FACES, max_turns=3)
    assert made == {"action_format": "multidiscrete", "dataset": FACES, "max_turns": 3}
    assert arguments("ActFER-Quality-v0") == IDS["ActFER-Quality-v0"]  # nothing of it stays behind
    with pytest.raises(ValueError, match="unknown id 'ActFER-v9': use one of ActFER-v0, "):
        arguments("ActFER-v9")
    with pytest.raises(ValueError, match=f"unknown id '{CHAT_ID}'"):
        arguments(CHAT_ID)  # its environment takes other arguments


def test_an_id_of_ones_own_needs_no_entry_in_the_table():
    """What an id was registered with reaches the vector environment; nothing is mapped back to a known id."""
    gym.register(
        "Own-v0", "actfer_env.envs.face:ActFEREnv", vector_entry_point="actfer_env.wrappers.group_vec:make_vector",
        kwargs={"max_turns": 3, "au_set": [6, 12]},
    )  # fmt: skip
    try:
        envs = gym.make_vec("Own-v0", 2, dataset=FACES)
        assert facts(envs) == facts(gym.make("Own-v0", dataset=FACES).unwrapped)
        assert envs.spec.id == "Own-v0" and envs.config.max_turns == 3 and envs.au_set == (6, 12)
        assert isinstance(envs.single_action_space, gym.spaces.Dict)
    finally:
        del gym.registry["Own-v0"]


def test_a_wrong_format_is_named_in_every_way_of_making():
    for make in (
        lambda: gym.make("ActFER-v0", dataset=FACES, action_format="binary"),
        lambda: gym.make_vec("ActFER-v0", 2, dataset=FACES, action_format="binary"),
        lambda: actfer_env.make_group_vec("ActFER-v0", 1, 2, dataset=FACES, action_format="binary"),
    ):
        with pytest.raises(ValueError, match="unknown action_format 'binary'"):
            make()


# --- One reset ----------------------------------------------------------------------------------------------


def test_there_is_one_reset():
    assert ActFEREnv.reset is ActFERChatEnv.reset is EpisodeEnv.reset


@pytest.mark.parametrize("env_id", ["ActFER-Discrete-v0", CHAT_ID])
def test_a_seed_fixes_samples_groups_and_the_record(env_id):
    env = gym.make(env_id, dataset=FACES).unwrapped

    def told():
        episode = getattr(env.episode, "episode", env.episode)
        return episode.sample.id, episode.group_id, episode.member, episode.seed

    runs = []
    for _ in range(2):
        run = []
        for seed in (5, None, None):
            env.reset(seed=seed)
            run.append(told())
        runs.append(run)
    assert runs[0] == runs[1] and [seed for *_, seed in runs[0]] == [5, 5, 5]
    assert [group.partition("#")[2] for _, group, *_ in runs[0]] == ["0", "1", "2"]
    env.reset(options={"sample": 2, "group": "mine", "member": 3})
    assert told() == (FACES[2].id, "mine", 3, 5)
    # a chosen sample takes the place of a draw: those after it stay the same
    env.reset(seed=5, options={"sample": 0})
    env.reset()
    assert told()[0] == runs[0][1][0]


@pytest.mark.parametrize("env_id", ["ActFER-Discrete-v0", CHAT_ID])
def test_a_reset_that_fails_leaves_no_episode(env_id):
    env = gym.make(env_id, dataset=FACES, disable_env_checker=True).unwrapped
    env.reset(seed=0)
    for wrong, message in (({"nope": 1}, "unknown reset option 'nope'"), ({"sample": 99}, "99"),
                           ({"member": 0.5}, "whole number")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            env.reset(options=wrong)
        assert env.episode is None
        with pytest.raises(RuntimeError, match="call reset"):
            env.step(0 if env_id != CHAT_ID else "x")


def test_both_draw_the_same_samples():
    names = []
    for env_id in ("ActFER-Discrete-v0", CHAT_ID):
        env = gym.make(env_id, dataset=FACES)
        names.append([env.reset(seed=seed)[1]["sample_id"] for seed in (0, 1, None, 2, None)])
    assert names[0] == names[1]
