"""Query groups side by side: one sample, one end, and the scorer's own rewards."""

import json
from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from helpers import PortraitDetector, portrait_sample, portrait_tools, portraits
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut

import actfer_env
from actfer_env.agents import RandomAgent, ScriptedAgent
from actfer_env.data import Dataset
from actfer_env.envs.registration import IDS
from actfer_env.errors import DataError
from actfer_env.rewards import TERMS, UCGRPO, UCGRPOConfig
from actfer_env.rollout import Rollout
from actfer_env.tools import FaceTools, ZoomConfig
from actfer_env.wrappers import GroupVectorEnv

PORTRAIT, TOOLS = portraits(), portrait_tools()
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


def test_detection_and_decoding_happen_once_for_a_group():
    detector, loads = PortraitDetector(), []

    def load():
        loads.append(1)
        return astronaut()

    faces = Dataset("faces", [portrait_sample(id=f"face-{i}", source=load) for i in range(3)])
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 3, 8, dataset=faces, detector=detector)
    envs.reset(seed=0, options={"samples": [0, 1, 2]})
    assert detector.calls == 0 and len(loads) == 3
    for action in (DETECT, ZOOM_MOUTH, HAPPY):
        envs.step(np.full(24, action))
    assert detector.calls == 3 and len(loads) == 3


class Flaky(PortraitDetector):
    """Finds the face in every other sample."""

    def detect_sample(self, sample, image):
        return self.detect(image) if int(sample.id[-1]) % 2 else []


FLAKY = FaceTools(Flaky(), zoom=ZoomConfig(size=48, stretch=True))
FACES = Dataset("faces", [portrait_sample(id=f"face-{i}") for i in range(4)])


def member_plans(size):
    """For each member of a group, what it does turn by turn: any calls, legal or not; 6 and more answer."""
    return st.lists(st.lists(st.integers(0, 12), min_size=4, max_size=4), min_size=size, max_size=size)


@settings(max_examples=60, deadline=None)
@given(member_plans(6), st.booleans(), st.lists(st.booleans(), min_size=16, max_size=16))
def test_any_interleaving_is_scored_as_its_stored_rollouts(plans, same_step, commits):
    config = UCGRPOConfig(ema_min_count=1)
    mode = AutoresetMode.SAME_STEP if same_step else AutoresetMode.NEXT_STEP
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 2, 3, dataset=FACES, tools=FLAKY, reward=config,
                                     max_turns=4, autoreset_mode=mode)  # fmt: skip
    twin, open_scores = UCGRPO(config), []
    envs.reset(seed=0, options={"samples": [0, 1]})
    for turn, commit in enumerate(commits):
        _, rewards, terminated, truncated, info = envs.step(np.array([plan[turn % 4] for plan in plans]))
        index = np.flatnonzero(terminated | truncated)
        assert len(index) % 3 == 0 and not rewards[~(terminated | truncated)].any()
        if len(index):
            stored = [Rollout.from_dict(json.loads(json.dumps(one.to_dict()))) for one in info["rollout"][index]]
            scores = twin.score(stored)
            open_scores.append(scores)
            assert (rewards[index] == scores.total).all() and (info["advantage"][index] == scores.advantage).all()
            assert all((info["scores"][name][index] == getattr(scores, name)).all() for name in TERMS)
            assert [one.truncated for one in stored] == truncated[index].tolist()
        before = envs.scorer.commits
        if commit and open_scores:
            twin.commit(*open_scores)
            open_scores = []
        if commit:
            envs.commit()
        assert envs.scorer.state_dict() == twin.state_dict() and envs.scorer.commits - before in (0, 1)


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


def test_same_step_reset_keeps_the_last_observation():
    envs, late = make(2, 2, autoreset_mode="SameStep"), make(2, 2)
    for one in (envs, late):
        one.reset(seed=0)
        one.step(np.full(4, DETECT))
    obs, rewards, terminated, _, info = envs.step(np.array([HAPPY, FEAR, ZOOM_MOUTH, ZOOM_MOUTH]))
    theirs, same, *_, their_info = late.step(np.array([HAPPY, FEAR, ZOOM_MOUTH, ZOOM_MOUTH]))
    assert terminated.tolist() == [True, True, False, False] == info["_final_obs"].tolist()
    assert (rewards == same).all() and info["final_info"]["sample_id"].tolist() == their_info["sample_id"].tolist()
    for i in range(2):
        assert data_equivalence(info["final_obs"][i], {key: value[i] for key, value in theirs.items()})
        assert info["final_obs"][i] in envs.single_observation_space
    assert obs["turns_left"].tolist() == [6, 6, 4, 4] and info["active"].all()
    following, *_ = late.step(np.array([DETECT] * 4))
    assert (following["image"][:2] == obs["image"][:2]).all()


def test_earlier_observations_are_not_overwritten():
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 32, 1, dataset=PORTRAIT, tools=TOOLS)
    first, _ = envs.reset(seed=0)
    kept, copies = [first], [deepcopy(first)]
    for _ in range(6):
        obs, *_ = envs.step(envs.action_space.sample())
        kept.append(obs)
        copies.append(deepcopy(obs))
    part = obs["image"][3]
    for _ in range(6):
        envs.step(envs.action_space.sample())
    assert data_equivalence(kept, copies, exact=True) and (part == copies[-1]["image"][3]).all()


def test_without_copies_the_arrays_stay_the_same():
    envs = make(copy=False)
    first, _ = envs.reset(seed=0)
    second, *_ = envs.step(np.full(6, DETECT))
    assert all(second[key] is first[key] for key in first) and (first["turns_left"] == 5).all()


@pytest.mark.parametrize("env_id", sorted(IDS))
def test_make_vec_gives_the_fast_path(env_id):
    envs = gym.make_vec(env_id, num_envs=3, dataset=PORTRAIT, tools=TOOLS)
    assert isinstance(envs, GroupVectorEnv) and (envs.num_groups, envs.group_size) == (3, 1)
    plain = gym.make_vec(env_id, num_envs=3, vectorization_mode="sync", dataset=PORTRAIT, tools=TOOLS)
    assert envs.observation_space == plain.observation_space and envs.action_space == plain.action_space
    ours, _ = envs.reset(seed=0, options={"samples": [2, 2, 2]})
    theirs, _ = plain.reset(seed=0, options={"sample": 2})
    agent, over = RandomAgent(envs.single_action_space, 0, masked=False), np.zeros(3, bool)
    while not over.all():
        actions = agent.act(ours, {})
        ours, *mine, info = envs.step(actions)
        theirs, *others, their_info = plain.step(actions)
        for key in theirs:
            assert (ours[key][~over] == theirs[key][~over]).all()
        assert all((one[~over] == other[~over]).all() for one, other in zip(mine, others, strict=True))
        assert (info["message"][~over] == their_info["message"][~over]).all()
        for name, values in their_info.get("reward_terms", {}).items():
            assert name.startswith("_") or (info["reward_terms"][name][~over] == values[~over]).all()
        over |= mine[1] | mine[2]


def test_make_vec_with_groups():
    envs = gym.make_vec("ActFER-Discrete-v0", num_envs=6, group_size=3, dataset=PORTRAIT, tools=TOOLS)
    assert (envs.num_groups, envs.group_size) == (2, 3) and envs.spec.id == "ActFER-Discrete-v0"
    with pytest.raises(ValueError, match="num_envs 5 is no multiple of group_size 3"):
        gym.make_vec("ActFER-Discrete-v0", num_envs=5, group_size=3, dataset=PORTRAIT)


def test_a_trainer_that_never_commits_fills_no_memory():
    envs = make(2, 1)
    envs.reset(seed=0)
    for _ in range(20):
        envs.step(np.full(2, HAPPY))
    assert len(envs.pending) == 1
    envs.commit()
    assert envs.scorer.commits == 1 and not envs.pending


def test_rendering_shows_every_member():
    envs = make(1, 2, render_mode="rgb_array")
    envs.reset(seed=0)
    before = envs.render()
    envs.step(np.full(2, HAPPY))
    after = envs.render()
    assert len(after) == 2 and after[0].shape == (540, 960, 3) and (after[0] != before[0]).any()


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
    with pytest.raises(ValueError, match="num_workers -1"):
        make(num_workers=-1)
    with pytest.raises(ValueError, match="3 workers for 2 groups"):
        make(num_workers=3)
    with pytest.raises(ValueError, match="unknown start method 'x'"):
        make(num_workers=1, context="x")
    with pytest.raises(ValueError, match="autoreset_mode"):
        make(autoreset_mode="Disabled")
    with pytest.raises(RuntimeError, match="call reset"):
        make().step(np.zeros(6, int))
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="2 actions for 6 environments"):
        envs.step(np.zeros(2, int))
    with pytest.raises(DataError, match="no sample"):
        envs.reset(options={"samples": ["x", "y"]})
