"""Episodes that gymnasium's time limit ends are scored: never to answer does not pay."""

import random
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import Autoreset, RecordEpisodeStatistics, TimeLimit

import actfer_env
from actfer_env import facs
from actfer_env.data import load_dataset
from actfer_env.envs.registration import CHAT_ID, IDS
from actfer_env.wrappers import RecordRollouts

FACES = load_dataset("synthetic", n=4)
DETECT = {
    "ActFER-v0": {
        "tool": 0,
        "box": np.full(4, 0.5, np.float32),
        "emotion": 0,
        "aus": np.zeros(len(facs.CORE_AUS), np.int8),
    },
    "ActFER-Discrete-v0": 0,
    CHAT_ID: '<tool_call>{"name": "detect_align", "arguments": {}}</tool_call>',
}
FLAT = np.zeros(2 + len(facs.CORE_AUS), int)
every_id = pytest.mark.parametrize("env_id", [*sorted(IDS), CHAT_ID])


def never_answer(env, env_id, steps):
    """Call detect_align again and again; return what the last step brought, and the turns left on the way."""
    obs, _ = env.reset(seed=0)
    left = [int(obs["turns_left"])]
    for step in range(1, steps + 1):
        obs, reward, terminated, truncated, info = env.step(DETECT.get(env_id, FLAT))
        left.append(int(obs["turns_left"]))
        assert truncated == (step == steps) and not terminated
    return reward, info, left


def check(env, env_id, steps):
    for _ in range(2):
        reward, info, left = never_answer(env, env_id, steps)
        assert left == list(range(steps, -1, -1))
        assert info["rollout"].truncated and info["rollout"].turns == steps
        assert info["reward_terms"]["task"] == -0.2 and reward == info["reward_terms"]["total"] < 0


@every_id
def test_max_episode_steps_of_make(env_id):
    check(gym.make(env_id, dataset=FACES, max_episode_steps=3), env_id, 3)


@every_id
def test_a_longer_limit_leaves_our_own(env_id):
    check(gym.make(env_id, dataset=FACES, max_episode_steps=50, max_turns=2), env_id, 2)
    check(gym.make(env_id, dataset=FACES, max_episode_steps=-1, max_turns=2), env_id, 2)


@pytest.mark.parametrize("env_id", ["ActFER-Discrete-v0", CHAT_ID])
def test_limits_put_around_by_hand(env_id):
    make = partial(gym.make, env_id, dataset=FACES)
    check(TimeLimit(make(), 2), env_id, 2)
    check(TimeLimit(make().unwrapped, 1), env_id, 1)
    check(TimeLimit(RecordEpisodeStatistics(RecordRollouts(make())), 3), env_id, 3)
    check(RecordEpisodeStatistics(TimeLimit(TimeLimit(make(), 4), 5)), env_id, 4)
    check(RecordRollouts(gym.make(env_id, dataset=FACES, max_episode_steps=2)), env_id, 2)


def test_a_limit_that_is_put_around_later_holds_from_the_next_reset():
    env = gym.make("ActFER-Discrete-v0", dataset=FACES)
    check(env, "ActFER-Discrete-v0", 6)
    check(TimeLimit(env, 2), "ActFER-Discrete-v0", 2)
    check(env, "ActFER-Discrete-v0", 6)


def test_an_id_of_ones_own_with_a_limit_in_its_spec():
    gym.register("Mine-v0", "actfer_env.envs.face:ActFEREnv", max_episode_steps=2, kwargs={"action_format": "discrete"})
    check(gym.make("Mine-v0", dataset=FACES), "ActFER-Discrete-v0", 2)
    spec = gym.spec("ActFER-Discrete-v0")
    spec.max_episode_steps = 4
    try:
        check(gym.make(spec, dataset=FACES), "ActFER-Discrete-v0", 4)
        envs = gym.make_vec(spec, 2, dataset=FACES)
        assert envs.reset()[0]["turns_left"].tolist() == [4, 4]
    finally:
        spec.max_episode_steps = None
        del gym.registry["Mine-v0"]


class Own(gym.Wrapper):
    """A limit that keeps its number where gymnasium's does, and another one that leaves `reset` alone."""

    def __init__(self, env, steps):
        super().__init__(env)
        self._max_episode_steps = steps

    def step(self, action):
        return self.env.step(action)


def test_limits_of_others_that_look_like_gymnasiums():
    env = Own(gym.make("ActFER-Discrete-v0", dataset=FACES), 3)
    check(env, "ActFER-Discrete-v0", 3)


def test_an_answer_in_the_last_step_counts():
    env = gym.make("ActFER-Discrete-v0", dataset=FACES, max_episode_steps=2)
    env.reset(seed=0)
    env.step(0)
    _, reward, terminated, truncated, info = env.step(6)
    assert terminated and truncated and not info["rollout"].truncated
    assert info["rollout"].predicted_emotion == "happiness" and reward == info["reward_terms"]["total"]


def test_a_reset_within_the_limits_own_step():
    """`Autoreset` inside a limit resets while the limit goes on counting: what is left of it holds."""
    env = TimeLimit(Autoreset(gym.make("ActFER-Discrete-v0", dataset=FACES)), 5)
    env.reset(seed=0)
    *_, terminated, _, info = env.step(6)
    assert terminated and "rollout" in info
    obs, *_ = env.step(0)  # resets
    assert obs["turns_left"] == 3
    for _ in range(3):
        _, reward, _, truncated, info = env.step(0)
    assert truncated and info["rollout"].truncated and reward < 0


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("env_id", ["ActFER-MultiDiscrete-v0", CHAT_ID])
def test_vector_environments_of_gymnasium(env_id, mode):
    envs = gym.make_vec(env_id, 2, vectorization_mode=mode, dataset=FACES, max_episode_steps=2)
    obs, _ = envs.reset(seed=0)
    assert obs["turns_left"].tolist() == [2, 2]
    actions = (DETECT[CHAT_ID],) * 2 if env_id == CHAT_ID else np.stack([FLAT] * 2)
    envs.step(actions)
    _, rewards, _, truncated, info = envs.step(actions)
    assert truncated.all() and (rewards < 0).all() and info["_rollout"].all()
    envs.close()


def test_a_limit_as_wrapper_of_a_vector_environment():
    envs = gym.make_vec("ActFER-Discrete-v0", 2, vectorization_mode="sync", dataset=FACES,
                        wrappers=[partial(TimeLimit, max_episode_steps=1)])  # fmt: skip
    envs.reset(seed=0)
    _, rewards, _, truncated, info = envs.step(np.zeros(2, int))
    assert truncated.all() and (rewards < 0).all() and info["_rollout"].all()


@pytest.mark.parametrize("workers", [0, 1])
def test_query_groups_take_gymnasiums_name_of_the_bound(workers):
    envs = gym.make_vec("ActFER-Discrete-v0", 4, group_size=2, dataset=FACES, max_episode_steps=2, num_workers=workers)
    obs, _ = envs.reset(seed=0)
    assert (obs["turns_left"] == 2).all()
    for _ in range(2):
        _, rewards, _, truncated, info = envs.step(np.zeros(4, int))
    assert truncated.all() and (rewards < 0).all() and info["_rollout"].all()
    envs.close()


def test_wrong_bounds_are_named():
    for wrong in (0, -2, 1.5, "3"):
        with pytest.raises(ValueError, match="max_episode_steps"):
            actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 1, dataset=FACES, max_episode_steps=wrong)
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 1, dataset=FACES, max_episode_steps=9, max_turns=3)
    assert envs.reset()[0]["turns_left"].tolist() == [3]
    assert gym.make_vec("ActFER-Discrete-v0", 1, dataset=FACES, max_episode_steps=-1).reset()[0]["turns_left"] == [6]


def test_stable_baselines3_makes_limited_environments():
    util = pytest.importorskip("stable_baselines3.common.env_util")
    envs = util.make_vec_env("ActFER-Discrete-v0", 2, seed=0, env_kwargs={"dataset": FACES, "max_episode_steps": 2})
    assert envs.reset()["turns_left"].tolist() == [2, 2]
    envs.step(np.zeros(2, int))
    _, rewards, dones, infos = envs.step(np.zeros(2, int))
    assert dones.all() and (rewards < 0).all() and all(info["rollout"].truncated for info in infos)
    envs = util.make_vec_env("ActFER-Discrete-v0", 1, env_kwargs={"dataset": FACES}, wrapper_class=TimeLimit,
                             wrapper_kwargs={"max_episode_steps": 1})  # fmt: skip
    envs.reset()
    _, rewards, dones, infos = envs.step(np.zeros(1, int))
    assert dones.all() and (rewards < 0).all() and infos[0]["rollout"].truncated


def test_no_turn_of_a_conversation_is_free():
    """Whatever is written, a limit of n steps ends an episode in at most n, with its score."""
    rng, env = random.Random(0), gym.make(CHAT_ID, dataset=FACES, max_episode_steps=3)
    texts = ["", " ", "<answer></answer>", "<tool_call></tool_call>", '<answer>{"emotion": "x"}</answer>', "hm",
             DETECT[CHAT_ID] * 2, '<tool_call>{"name": "zoom_in", "arguments": {}}</tool_call>']  # fmt: skip
    for _ in range(40):
        env.reset(seed=0)
        done, steps = False, 0
        while not done:
            _, reward, terminated, truncated, info = env.step(rng.choice(texts))
            done, steps = terminated or truncated, steps + 1
        assert steps <= 3 and "rollout" in info and reward < 0
