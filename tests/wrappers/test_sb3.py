"""Stable-Baselines3 takes the query groups: its own algorithms, masks, and the scorer's rewards."""

import json
import warnings

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy

from actfer_env.data import load_dataset
from actfer_env.rewards import UCGRPO
from actfer_env.rollout import Rollout
from actfer_env.tools import FaceTools, ZoomConfig
from actfer_env.wrappers import GroupVectorEnv
from actfer_env.wrappers.sb3 import POLICY, CollapseCallback, SB3GroupVecEnv, make_sb3_vec

torch.set_num_threads(1)
FACES = load_dataset("synthetic", n=4)
TOOLS = FaceTools(zoom=ZoomConfig(size=36, stretch=True))
SIZES = {"image_size": 36, "face_size": 36}


def make(env_id="ActFER-Discrete-v0", groups=2, size=2, **kwargs):
    return make_sb3_vec(env_id, groups, size, dataset=FACES, tools=TOOLS, **SIZES, **kwargs)


def test_members_get_the_scores_of_their_group():
    envs, scorer, ended = make(), UCGRPO(), 0
    envs.action_space.seed(0)
    envs.seed(0)
    obs = envs.reset()
    assert set(envs.reset_infos[0]) == {"sample_id"} and obs in envs.envs.observation_space
    for _ in range(40):
        obs, rewards, dones, infos = envs.step(np.array([envs.action_space.sample() for _ in range(4)]))
        assert dones[0] == dones[1] and dones[2] == dones[3] and not rewards[~dones].any()
        over = [info for info, done in zip(infos, dones, strict=True) if done]
        if over:
            stored = [Rollout.from_dict(json.loads(json.dumps(info["rollout"].to_dict()))) for info in over]
            scores = scorer.score(stored)
            assert rewards[dones] == pytest.approx(scores.total)
            for i, info in enumerate(over):
                assert info["reward_terms"] == scores.terms(i) and info["advantage"] == scores.advantage[i]
                assert info["episode"]["l"] == stored[i].turns and info["episode"]["r"] == scores.total[i]
                assert info["terminal_observation"]["turns_left"] == 6 - stored[i].turns
        assert (obs["turns_left"][dones] == 6).all()
        ended += len(over)
    assert ended
    envs.close()


def test_masks_as_maskable_ppo_asks_for_them():
    masking = pytest.importorskip("sb3_contrib.common.maskable.utils")
    envs = make("ActFER-MultiDiscrete-v0", 3, 1)
    envs.reset()
    assert masking.is_masking_supported(envs)
    masks = masking.get_action_masks(envs)
    assert masks.dtype == bool and masks.shape == (3, envs.action_space.nvec.sum())
    assert masks[0, :6].tolist() == [True, False, False, False, False, True]


def test_it_must_reset_in_the_same_step():
    with pytest.raises(ValueError, match="SameStep"):
        SB3GroupVecEnv(GroupVectorEnv("ActFER-Discrete-v0", 1, 1, dataset=FACES))


def maskable():
    return pytest.importorskip("sb3_contrib").MaskablePPO


ALGORITHMS = {
    "PPO": (lambda: PPO, "ActFER-MultiDiscrete-v0", {"n_steps": 8, "batch_size": 16, "n_epochs": 1}),
    "MaskablePPO": (maskable, "ActFER-MultiDiscrete-v0", {"n_steps": 8, "batch_size": 16, "n_epochs": 1}),
    "DQN": (lambda: DQN, "ActFER-Discrete-v0", {"buffer_size": 64, "learning_starts": 8, "batch_size": 8}),
}


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_algorithms_train_and_are_evaluated_without_a_warning(name):
    algorithm, env_id, arguments = ALGORITHMS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = make(env_id, 2, 1)
        model = algorithm()("MultiInputPolicy", envs, policy_kwargs=POLICY, seed=0, device="cpu", **arguments)
        model.learn(32)
        assert model.num_timesteps >= 32 and len(model.ep_info_buffer)
        mean, _ = evaluate_policy(model, envs, n_eval_episodes=4, deterministic=False)
    assert np.isfinite(mean)


def test_training_is_deterministic():
    hashes = []
    for _ in range(2):
        model = PPO("MultiInputPolicy", make("ActFER-MultiDiscrete-v0", 2, 2), policy_kwargs=POLICY, seed=3,
                    n_steps=8, batch_size=16, n_epochs=1, device="cpu")  # fmt: skip
        model.learn(32)
        hashes.append(sum(value.double().sum().item() for value in model.policy.state_dict().values()))
    assert hashes[0] == hashes[1]


def learn(monkeypatch, zoom, callback):
    """Let PPO learn from a policy that looks first and then zooms in a share of its episodes, or answers."""
    envs = make("ActFER-MultiDiscrete-v0", 8, 4)
    model = PPO("MultiInputPolicy", envs, n_steps=16, batch_size=256, n_epochs=1, policy_kwargs=POLICY, seed=0)
    forward, rng = model.policy.forward, np.random.default_rng(0)

    def act(obs, deterministic=False):
        actions, values, logs = forward(obs, deterministic)
        raw, mask = obs["state"].reshape(-1) == 0, obs["action_mask"][:, :6]
        fresh = mask[:, 1:5].sum(1) == 4
        share = torch.from_numpy(rng.random(len(raw)) < zoom)
        answer = 5 + torch.zeros(len(raw), dtype=actions.dtype)
        actions[:, 0] = torch.where(raw, 0, torch.where(fresh & share, 1, answer))
        return actions, values, logs

    monkeypatch.setattr(model.policy, "forward", act)
    model.learn(16 * 32, callback=callback)


@pytest.mark.parametrize(("zoom", "told"), [(0.0, "no rollout zoomed"), (1.0, "every rollout zoomed"), (0.5, None)])
def test_a_policy_that_never_or_always_zooms_is_warned_of_once(zoom, told, monkeypatch):
    seen = []

    class Kept(CollapseCallback):
        def _on_rollout_end(self):
            super()._on_rollout_end()
            seen.append(self.logger.name_to_value["collapse/zoom"])
            super()._on_rollout_end()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learn(monkeypatch, zoom, Kept(least=16))
    lines = [str(one.message) for one in caught if "zoomed:" in str(one.message)]
    assert len(lines) == (told is not None)
    assert all(told in line and line.startswith("after ") for line in lines)
    assert seen[0] == zoom or (told is None and 0 < seen[0] < 1)
