"""Every registered id: spaces, determinism, rendering, gymnasium's wrappers, SB3."""

import itertools
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from helpers import FLAT, every_id, portrait_tools, portraits

import actfer_env
from actfer_env import facs
from actfer_env.agents import RandomAgent, ScriptedAgent
from actfer_env.data import load_dataset
from actfer_env.rollout import read_rollouts
from actfer_env.wrappers import RecordRollouts


def first_zoom_then_answer(env_id):
    """The same episode in each action format: detect, zoom into the mouth, answer happiness with AU6 and AU12."""
    bits = np.array([au in (6, 12) for au in facs.CORE_AUS], np.int8)
    happy = facs.EMOTIONS.index("happiness")
    if env_id == "ActFER-Discrete-v0":
        return [0, 4, 5 + happy]
    if env_id != "ActFER-v0":
        return [np.array([tool, happy, *bits]) for tool in (0, 4, 5)]
    box = np.array([0.5, 0.8, 0.4, 0.3], np.float32)
    return [{"tool": tool, "box": box, "emotion": happy, "aus": bits} for tool in (0, 1, 2)]


@every_id
def test_gymnasium_check_env_without_a_warning(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)
        check_env(gym.make(env_id).unwrapped)


@pytest.mark.parametrize("env_id", FLAT)
def test_stable_baselines3_check_env_without_a_warning(env_id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # SB3 flattens the (4, 4) boxes; it only says that it would rather have them flat.
        warnings.filterwarnings("ignore", message="Your observation .* has an unconventional shape")
        checker.check_env(gym.make(env_id).unwrapped)


@every_id
def test_an_episode(env_id):
    env = gym.make(env_id, dataset="portrait")
    obs, info = env.reset(seed=0, options={"sample": "portrait-00"})
    assert info["sample_id"] == "portrait-00" and obs["state"] == 0 and not obs["face"].any()
    detect, zoom, answer = first_zoom_then_answer(env_id)
    obs, reward, terminated, truncated, info = env.step(detect)
    assert obs["state"] == 1 and obs["face"].any() and obs["region_boxes"].any() and reward == 0
    obs, *_ = env.step(zoom)
    slots = env.unwrapped.config.max_zooms
    assert obs["crop_mask"].tolist() == [1, *[0] * (slots - 1)] and obs["crop_0"].any()
    assert not any(obs[f"crop_{slot}"].any() for slot in range(1, slots))
    obs, reward, terminated, truncated, info = env.step(answer)
    assert terminated and not truncated
    terms = info["reward_terms"]
    # F1 of {6, 12} against {6, 12, 25} is 0.8; clean trajectory; a group of one falls back on the emotion being right.
    cost = 0.1 if env_id == "ActFER-Cost-v0" else 0.0
    assert terms == pytest.approx({"task": 0.6 + 0.4 * 0.8, "structure": 0.05, "utility": 0.1 - cost, "quality": 0.0,
                                   "total": 0.92 + 0.15 - cost})  # fmt: skip
    assert reward == terms["total"] == env.unwrapped.scorer.score([info["rollout"]]).total[0]


@every_id
def test_twins_are_equal_to_the_last_byte(env_id):
    twins = [gym.make(env_id) for _ in range(2)]
    for twin in twins:
        twin.action_space.seed(7)
    steps = [twin.reset(seed=7) for twin in twins]
    for _ in range(60):
        assert data_equivalence(steps[0][0], steps[1][0], exact=True)
        actions = [twin.action_space.sample() for twin in twins]
        results = [twin.step(action) for twin, action in zip(twins, actions, strict=True)]
        assert results[0][1:4] == results[1][1:4]
        assert results[0][4].get("rollout") == results[1][4].get("rollout")
        steps = [twin.reset() if any(result[2:4]) else result for twin, result in zip(twins, results, strict=True)]


@every_id
@pytest.mark.parametrize("masked", [True, False])
def test_a_thousand_random_episodes(env_id, masked):
    env = gym.make(env_id, dataset=portraits(), tools=portrait_tools())
    agent = RandomAgent(env.action_space, seed=0, masked=masked)
    outcomes = set()
    for episode in range(500):
        obs, info = env.reset(seed=0 if episode == 0 else None)
        while "rollout" not in info:
            obs, reward, _, _, info = env.step(agent.act(obs, info))
            assert np.isfinite(reward)
        assert obs in env.observation_space
        outcomes.add((info["rollout"].detection, bool(info["rollout"].violations)))
        assert not (masked and env_id != "ActFER-v0" and info["rollout"].violations)
    assert {("ok", False), ("not_called", False), ("failed", False)} <= outcomes
    assert masked or ("ok", True) in outcomes


@every_id
def test_scripted_modes(env_id):
    env = gym.make(env_id, dataset="portrait")
    zooms = min(2, env.unwrapped.config.max_zooms)
    modes = {"full": (True, "ok", 2 + zooms), "simplified": (False, "ok", 2), "degraded": (False, "ok", 2),
             "blind": (False, "not_called", 1)}  # fmt: skip
    for mode, (zoomed, detection, turns) in modes.items():
        agent = ScriptedAgent(env.action_space, mode, emotion="happiness")
        obs, info = env.reset(options={"sample": 0})
        while "rollout" not in info:
            obs, _, _, _, info = env.step(agent.act(obs, info))
        rollout = info["rollout"]
        assert (rollout.zoomed, rollout.detection, rollout.turns) == (zoomed, detection, turns)
        assert rollout.violations == () and rollout.correct


@every_id
def test_agents_take_the_batches_of_vector_environments(env_id):
    envs = gym.make_vec(env_id, num_envs=3, vectorization_mode="sync")
    for agent in (RandomAgent(envs.single_action_space, 0), ScriptedAgent(envs.single_action_space)):
        obs, info = envs.reset(seed=0)
        agent.reset(3)
        for _ in range(8):
            actions = agent.act(obs, info)
            assert actions in envs.action_space
            obs, _, _, _, info = envs.step(actions)


@every_id
def test_random_episodes_on_drawn_faces(env_id):
    env = gym.make(env_id, dataset=load_dataset("synthetic", n=80))
    agent = RandomAgent(env.action_space, seed=0, masked=False)
    detections = set()
    for episode in range(250):
        obs, info = env.reset(seed=0 if episode == 0 else None)
        while "rollout" not in info:
            obs, _, _, _, info = env.step(agent.act(obs, info))
        assert obs in env.observation_space
        detections.add(info["rollout"].detection)
    assert detections == {"ok", "failed", "not_called"}
    assert env.unwrapped.tools.detector.name == "auto"


def test_running_out_of_turns_truncates():
    env = gym.make("ActFER-Discrete-v0", dataset="portrait", max_turns=2)
    env.reset(seed=0)
    env.step(0)
    *_, terminated, truncated, info = env.step(0)
    assert truncated and not terminated
    assert info["rollout"].truncated and info["violation"] == "repeated_call"
    assert info["reward_terms"]["task"] == -0.2
    with pytest.raises(RuntimeError, match="over"):
        env.unwrapped.step(0)


def test_max_zooms_sets_the_slots():
    for zooms in (0, 1, 6):
        env = gym.make("ActFER-Discrete-v0", dataset="portrait", max_zooms=zooms)
        obs, _ = env.reset(seed=0)
        assert obs in env.observation_space and len(obs["crop_mask"]) == max(zooms, 1)


def test_the_default_observation_is_small():
    obs, _ = gym.make("ActFER-v0").reset(seed=0)
    assert sum(np.asarray(value).nbytes for value in obs.values()) < 70_000


def test_action_masks_as_maskable_ppo_reads_them():
    env = gym.make("ActFER-MultiDiscrete-v0")
    obs, _ = env.reset(seed=0)
    mask = env.get_wrapper_attr("action_masks")()
    assert mask.dtype == bool and mask.shape == (env.action_space.nvec.sum(),)
    assert mask[:6].tolist() == [True, False, False, False, False, True] and (mask == obs["action_mask"]).all()


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [({"dataset": "nowhere"}, "unknown data set 'nowhere'"), ({"split": "dev"}, "unknown split 'dev'"),
     ({"image_size": 4}, "image_size is 4"), ({"render_mode": "ascii"}, "render_mode"),
     ({"detector": "psychic"}, "unknown detector 'psychic'"), ({"max_turns": 0}, "max_turns must be .*, got 0")],
)  # fmt: skip
def test_bad_arguments_are_named(kwargs, error):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, RuntimeError), match=error):
            env = gym.make("ActFER-v0", **kwargs).unwrapped
            env.reset(seed=0)
            env.step(first_zoom_then_answer("ActFER-v0")[0])


def test_unknown_samples_and_options_are_named():
    env = gym.make("ActFER-v0", dataset="portrait").unwrapped
    with pytest.raises(actfer_env.DataError, match="no sample 'x'"):
        env.reset(options={"sample": "x"})
    with pytest.raises(actfer_env.DataError, match="sample 999"):
        env.reset(options={"sample": 999})
    with pytest.raises(ValueError, match="unknown reset option 'smaple'"):
        env.reset(options={"smaple": 1})
    with pytest.raises(RuntimeError, match="reset"):
        gym.make("ActFER-v0").unwrapped.step(None)


def test_a_loaded_data_set_can_be_passed():
    env = gym.make("ActFER-Discrete-v0", dataset=load_dataset("portrait", split="test"))
    assert env.reset(seed=0)[1]["sample_id"].startswith("portrait-")


@every_id
def test_rendering(env_id):
    env = gym.make(env_id, dataset="portrait", render_mode="rgb_array")
    env.reset(seed=0, options={"sample": 0})
    frames = [env.render()]
    for action in first_zoom_then_answer(env_id):
        env.step(action)
        frames.append(env.render())
    assert all(frame.shape == (540, 960, 3) and frame.dtype == np.uint8 for frame in frames)
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


def test_human_rendering_without_a_display_says_so_and_goes_on(monkeypatch, caplog):
    from actfer_env.envs.panel import _warn_no_display

    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    _warn_no_display.cache_clear()
    env = gym.make("ActFER-Discrete-v0", dataset="portrait", render_mode="human")
    env.reset(seed=0)
    env.step(0)
    env.close()
    assert [record.message for record in caplog.records].count(
        "no display found: render_mode='human' shows nothing here; use render_mode='rgb_array'"
    ) == 1


def test_record_video_and_episode_statistics(tmp_path):
    pytest.importorskip("moviepy")
    env = gym.make("ActFER-Discrete-v0", dataset="portrait", render_mode="rgb_array")
    env = gym.wrappers.RecordEpisodeStatistics(
        gym.wrappers.RecordVideo(env, str(tmp_path / "videos"), disable_logger=True)
    )
    env.reset(seed=0, options={"sample": 0})
    for action in (0, 4, 6):
        *_, info = env.step(action)
    env.close()
    assert info["episode"]["l"] == 3 and info["episode"]["r"] == pytest.approx(info["reward_terms"]["total"])
    (video,) = tmp_path.glob("videos/*.mp4")
    assert video.stat().st_size > 1000


def test_gymnasiums_observation_wrappers_take_the_pictures():
    env = gym.wrappers.FlattenObservation(gym.make("ActFER-Discrete-v0"))
    assert env.reset(seed=0)[0].ndim == 1
    env = gym.wrappers.FilterObservation(gym.make("ActFER-Discrete-v0"), ["face"])
    env = gym.wrappers.TransformObservation(env, lambda obs: obs["face"], env.observation_space["face"])
    env = gym.wrappers.GrayscaleObservation(env)
    assert env.reset(seed=0)[0].shape == (64, 64)


def test_record_rollouts_keeps_every_finished_episode(tmp_path):
    env = RecordRollouts(gym.make("ActFER-Discrete-v0"), tmp_path / "new" / "r.jsonl")
    for _ in range(3):
        env.reset(seed=0)
        env.step(6)
    assert len(env.rollouts) == 3 and read_rollouts(tmp_path / "new" / "r.jsonl") == env.rollouts
    assert env.rollouts[0].meta["aus_derived"]


def test_the_cost_task_takes_a_tenth_from_a_rollout_that_zooms() -> None:
    terms = []
    for name in ("ActFER-Quality-v0", "ActFER-Cost-v0"):
        env = gym.make(name)
        _, info = env.reset(seed=0, options={"sample": 1})
        for tool in (0, 1, 5):
            _, _, _, _, info = env.step([tool, *[0] * (env.action_space.shape[0] - 1)])
        terms.append(info["reward_terms"]["total"])
        assert info["rollout"].zoomed
    assert terms[0] - terms[1] == pytest.approx(0.1)
