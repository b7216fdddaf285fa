"""Query groups side by side: one sample, one end, and the scorer's own rewards."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

import actfer_env
from actfer_env.agents import RandomAgent, ScriptedAgent
from actfer_env.data import load_dataset
from actfer_env.errors import DataError
from actfer_env.registration import IDS
from actfer_env.rewards import UCGRPO, UCGRPOConfig
from actfer_env.tools import FaceTools, ZoomConfig

PORTRAIT = load_dataset("portrait")
TOOLS = FaceTools("mtcnn", zoom=ZoomConfig(size=48, stretch=True))
DETECT, ZOOM_MOUTH, HAPPY, FEAR, IDLE = 0, 4, 6, 9, 0


def make(groups=2, size=3, env_id="ActFER-Discrete-v0", **kwargs):
    return actfer_env.make_group_vec(env_id, groups, size, dataset=PORTRAIT, tools=TOOLS, **kwargs)


def test_members_start_alike_and_groups_do_not():
    envs = make(3, 4)
    obs, info = envs.reset(seed=1)
    for group in range(3):
        first, *others = envs.members(group)
        for other in others:
            assert all((value[first] == value[other]).all() for value in obs.values())
    assert len(set(info["group_id"])) == 3 and info["active"].all()
    assert obs in envs.observation_space and envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_a_group_ends_together_and_frozen_members_wait():
    envs = make(1, 3)
    envs.reset(seed=0, options={"samples": ["portrait-00"]})
    obs, rewards, terminated, truncated, info = envs.step(np.array([HAPPY, DETECT, DETECT]))
    assert info["active"].tolist() == [False, True, True] and not terminated.any() and not rewards.any()
    frozen = {key: value[0].copy() for key, value in obs.items()}
    obs, *_, info = envs.step(np.array([DETECT, ZOOM_MOUTH, FEAR]))  # the frozen member's action is ignored
    assert all((value[0] == frozen[key]).all() for key, value in obs.items())
    assert info["active"].tolist() == [False, True, False] and "rollout" not in info
    obs, rewards, terminated, truncated, info = envs.step(np.array([DETECT, HAPPY, DETECT]))
    assert terminated.tolist() == [True] * 3 and not truncated.any()
    # Happy with {6, 12} against {6, 12, 25}: task 0.6 + 0.4 * 0.8 = 0.92; fear shares no unit: -0.2. Zooming: 0.92
    # against the mean of 0.92 and -0.2, 0.36: delta 0.56 > margin, so both who did not zoom pay phi(0.56).
    penalty = 0.3 * np.tanh(0.56 / 0.3)
    assert info["scores"]["task"] == pytest.approx([0.92, 0.92, -0.2])
    assert rewards == pytest.approx([0.92 - 0.1 - penalty, 0.92 + 0.05 + 0.1, -0.2 + 0.05 - penalty])
    assert info["advantage"].sum() == pytest.approx(0) and info["_rollout"].all()
    before = info["sample_id"][0]
    obs, rewards, terminated, truncated, info = envs.step(np.array([HAPPY] * 3))
    assert not rewards.any() and not terminated.any() and info["active"].all() and (obs["state"] == 0).all()
    assert isinstance(before, str) and (obs["turns_left"] == 6).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 4), st.sampled_from(sorted(IDS)), st.booleans())
def test_rewards_are_those_of_the_scorer_on_the_rollouts(seed, size, env_id, gate):
    config = UCGRPOConfig(outcome_gate=gate, ema_min_count=1)
    envs = make(2, size, env_id, reward=config, max_turns=4)
    twin = UCGRPO(config)
    agent = RandomAgent(envs.single_action_space, seed, masked=False)
    obs, info = envs.reset(seed=seed)
    ended = 0
    for _ in range(14):
        obs, rewards, terminated, truncated, info = envs.step(agent.act(obs, info))
        if "rollout" in info:
            index = np.flatnonzero(info["_rollout"])
            scores = twin.score(info["rollout"][index])
            assert rewards[index] == pytest.approx(scores.total, abs=0)
            assert info["advantage"][index] == pytest.approx(scores.advantage, abs=0)
            assert (terminated ^ truncated)[index].all()
            assert sorted(r.member for r in info["rollout"][index]) == sorted(list(range(size)) * (len(index) // size))
            twin.commit(scores)
            envs.commit()
            ended += len(index)
        assert envs.scorer.state_dict() == twin.state_dict()
    assert ended and not envs.pending


def test_detection_happens_once_for_a_group():
    tools = FaceTools("mtcnn")
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 8, dataset=PORTRAIT, tools=tools)
    envs.reset(seed=0)
    envs.step(np.full(8, DETECT))
    assert tools.detections == 1


def test_twins_and_resuming():
    def play(envs, steps):
        agent = ScriptedAgent(envs.single_action_space, "simplified", emotion="happiness")
        obs, info = envs.reset()
        log = []
        for _ in range(steps):
            obs, rewards, *_, info = envs.step(agent.act(obs, info))
            log.append((obs, rewards.tolist(), info["group_id"].tolist()))
        envs.commit()
        return log

    one, two = make(), make()
    for envs in (one, two):
        envs.reset(seed=3)
    assert data_equivalence(play(one, 8), play(two, 8), exact=True)
    state = json.loads(json.dumps(one.state_dict()))
    resumed = make()
    resumed.load_state_dict(state)
    assert data_equivalence(play(resumed, 6), play(two, 6), exact=True)
    assert resumed.scorer.state_dict() == two.scorer.state_dict()


def test_a_seed_begins_a_new_run():
    envs = make(1, 2)
    for _ in range(2):
        envs.reset(seed=0)
        envs.step(np.full(2, HAPPY))
    assert len(envs.pending) == 1
    envs.commit()
    assert envs.scorer.commits == 1


def test_record_episode_statistics():
    envs = gym.wrappers.vector.RecordEpisodeStatistics(make(2, 2))
    envs.reset(seed=0)
    envs.step(np.full(4, DETECT))
    *_, info = envs.step(np.full(4, HAPPY))
    assert info["episode"]["l"].tolist() == [2] * 4
    assert info["episode"]["r"] == pytest.approx(info["scores"]["total"])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="unknown id 'X'"):
        make(env_id="X")
    with pytest.raises(ValueError, match="group_size 0"):
        make(size=0)
    envs = make()
    with pytest.raises(ValueError, match="one seed"):
        envs.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="1 samples for 2 groups"):
        envs.reset(options={"samples": [0]})
    with pytest.raises(ValueError, match="unknown reset option"):
        envs.reset(options={"sample": 0})
    with pytest.raises(DataError, match="no sample"):
        envs.reset(options={"samples": ["x", "y"]})
