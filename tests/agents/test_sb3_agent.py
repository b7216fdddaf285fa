"""Policies of Stable-Baselines3 as agents: the algorithm is found, and the actions are the model's own."""

import json
import shutil
import zipfile

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
import stable_baselines3 as sb3
import torch

from actfer_env.agents import make_agent
from actfer_env.agents.sb3_agent import SB3Agent
from actfer_env.data import load_dataset
from actfer_env.errors import DataError
from actfer_env.evaluation.play import RolloutConfig, config_for, play
from actfer_env.testing import check_agent
from actfer_env.wrappers.sb3 import POLICY, make_sb3_vec

torch.set_num_threads(1)
FACES = load_dataset("synthetic", n=6)
SIZES = {"image_size": 36, "face_size": 36, "crop_size": 36, "max_turns": 5, "max_zooms": 3}
SETTINGS = {"n_steps": 8, "batch_size": 16, "n_epochs": 1}
ALGORITHMS = {
    "PPO": ("ActFER-MultiDiscrete-v0", SETTINGS),
    "MaskablePPO": ("ActFER-MultiDiscrete-v0", SETTINGS),
    "DQN": ("ActFER-Discrete-v0", {"buffer_size": 64, "learning_starts": 8, "batch_size": 8}),
}


@pytest.fixture(scope="module", params=sorted(ALGORITHMS))
def saved(request, tmp_path_factory):
    """An algorithm's name, its model after a few steps, and the file."""
    env_id, settings = ALGORITHMS[request.param]
    package = pytest.importorskip("sb3_contrib") if request.param == "MaskablePPO" else sb3
    kind = getattr(package, request.param)
    envs = make_sb3_vec(env_id, 2, 1, dataset=FACES, **SIZES)
    model = kind("MultiInputPolicy", envs, policy_kwargs=POLICY, seed=0, device="cpu", **settings).learn(16)
    path = tmp_path_factory.mktemp("sb3") / "model"
    model.save(path)
    return request.param, model, path.with_suffix(".zip"), env_id


def test_the_algorithm_is_found_and_the_actions_are_the_models(saved):
    name, model, path, env_id = saved
    config = config_for((f"sb3:{path}",), number=len(FACES))
    assert config.env_id == env_id and (config.image_size, config.max_turns, config.max_zooms) == (36, 5, 3)
    rollouts = play(FACES, config).rollouts

    env = gym.make(env_id, dataset=FACES, **SIZES)
    agent = make_agent(f"sb3:{path.with_suffix('')}", env.action_space, dataset=FACES)
    assert type(agent.model).__name__ == name
    agent.check(env)
    check_agent(agent, env, episodes=2)
    for index in range(len(FACES)):
        obs, info = env.reset(options={"sample": index})
        while "rollout" not in info:
            masks = {"action_masks": env.unwrapped.action_masks()} if name == "MaskablePPO" else {}
            wanted = model.predict(obs, deterministic=True, **masks)[0]
            np.testing.assert_array_equal(agent.act(obs, info), wanted)
            obs, _, _, _, info = env.step(wanted)
        assert info["rollout"].predicted_emotion == rollouts[index].predicted_emotion
        assert [c.name for c in info["rollout"].tool_calls] == [c.name for c in rollouts[index].tool_calls]


def test_draws_follow_the_seed_and_leave_other_streams_alone(saved):
    name, _, path, env_id = saved
    envs = make_sb3_vec(env_id, 6, 2, dataset=FACES, **SIZES).envs
    obs, info = envs.reset(seed=0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    draws = [[np.array(agent.act(obs, info)).tolist() for _ in range(4)]
             for agent in (SB3Agent.load(path, sample=True, seed=seed) for seed in (0, 0, 1))]  # fmt: skip
    assert draws[0] == draws[1]
    assert draws[1] != draws[2] or name == "DQN"  # greedy but for a small share
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_draws_go_on_from_a_stored_state(saved):
    _, _, path, env_id = saved
    envs = make_sb3_vec(env_id, 6, 2, dataset=FACES, **SIZES).envs
    obs, info = envs.reset(seed=0)
    agent, other = (SB3Agent.load(path, sample=True, seed=seed) for seed in (0, 1))
    agent.act(obs, info)
    other.set_random_state(json.loads(json.dumps(agent.random_state())))
    for _ in range(3):
        assert np.array(agent.act(obs, info)).tolist() == np.array(other.act(obs, info)).tolist()
    assert SB3Agent.load(path).random_state() == {} and agent.identity["file"]


def test_frozen_members_of_a_group_are_no_trouble(saved):
    _, _, path, env_id = saved
    envs = make_sb3_vec(env_id, 2, 3, dataset=FACES, **SIZES).envs
    agent, ended = SB3Agent.load(path, sample=True), 0
    obs, info = envs.reset(seed=0)
    for _ in range(8):
        obs, _, _, _, info = envs.step(agent.act(obs, info))
        ended += sum(r is not None for r in info.get("rollout", ()))
    assert ended


def test_an_environment_that_does_not_fit(saved):
    name, _, path, env_id = saved
    other = "ActFER-Discrete-v0" if name != "DQN" else "ActFER-MultiDiscrete-v0"
    with pytest.raises(DataError, match=f"acts in .*play it in {env_id}") as caught:
        play(FACES, RolloutConfig(env_id=other, agents=(f"sb3:{path}",), number=1))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"crop_size is 48 .*has 36.*, max_zooms is 4"):
        play(FACES, RolloutConfig(env_id=env_id, agents=(f"sb3:{path}",), number=1))


def test_files_that_are_no_models(saved, tmp_path):
    _, _, path, _ = saved
    content = path.read_bytes()
    (tmp_path / "half.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("data", '{"policy_class": {"__module__": "my.policies"}}')
    shutil.copy(path, tmp_path / "torn.zip")
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "torn.zip", "w") as packed:
        for one in whole.namelist():
            packed.writestr(one, whole.read(one)[: 100 if one == "policy.pth" else None])
    for name, message in {
        "half.zip": "is no model of Stable-Baselines3, or is truncated",
        "text.zip": "is no model of Stable-Baselines3, or is truncated",
        "other.zip": "has a policy of my.policies: PPO, A2C",
        "torn.zip": "cannot be loaded as ",
        "none.zip": "no such file: give what SB3's model.save",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            SB3Agent.load(tmp_path / name)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_model_of_another_world(tmp_path):
    sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu", n_steps=8, batch_size=8).save(tmp_path / "pole")
    with pytest.raises(DataError, match="was not trained on an ActFER environment"):
        SB3Agent.load(tmp_path / "pole")
