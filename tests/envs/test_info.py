"""What `info` tells the reader of an episode, in single, chat and vector environments."""

import gymnasium as gym
import numpy as np
import pytest
from helpers import PortraitDetector, portrait_sample

import actfer_env
from actfer_env import facs
from actfer_env.data import Dataset, load_dataset
from actfer_env.envs.registration import CHAT_ID, IDS
from actfer_env.rewards import FacialR1Reward, UCGRPOConfig
from actfer_env.tools import FaceTools, ZoomConfig

DETECT, ZOOM_MOUTH, HAPPY, FEAR = 0, 4, 6, 9
PORTRAIT = Dataset("portrait", [portrait_sample()])
TOOLS = FaceTools(PortraitDetector(), zoom=ZoomConfig(size=48, stretch=True))
CALL = '<tool_call>{{"name": "{}", "arguments": {}}}</tool_call>'
SHOWN = ("tool", "result", "message", "violation")


def make(env_id="ActFER-Discrete-v0", **kwargs):
    return gym.make(env_id, dataset=PORTRAIT, tools=TOOLS, **kwargs)


def act(env_id, tool, region="mouth-chin"):
    """The action of each format for a call."""
    if env_id == CHAT_ID:
        arguments = f'{{"regions": ["{region}"]}}' if tool else "{}"
        return CALL.format(("detect_align", "zoom_in")[tool], arguments)
    if env_id == "ActFER-v0":
        box, bits = np.array([0.5, 0.8, 0.4, 0.3], np.float32), np.zeros(len(facs.CORE_AUS), np.int8)
        return {"tool": tool, "box": box, "emotion": 0, "aus": bits}
    flat = tool and 1 + facs.REGIONS.index(region)
    return flat if env_id == "ActFER-Discrete-v0" else np.array([flat, 0, *[0] * len(facs.CORE_AUS)])


@pytest.mark.parametrize("env_id", [*sorted(IDS), CHAT_ID])
def test_a_reader_is_told_what_each_call_found(env_id):
    env = make(env_id)
    _, info = env.reset(seed=0)
    assert not {"tool", "result"} & set(info)
    *_, info = env.step(act(env_id, 0))
    result = info["result"]
    assert info["tool"] == "detect_align" and set(result) == {"faces", "index", "score", "box", "regions"}
    assert result["faces"] == 1 and 0 < result["score"] <= 1 and list(result["regions"]) == list(facs.REGIONS)
    *_, info = env.step(act(env_id, 1))
    (crop,) = info["result"]["crops"]
    assert info["tool"] == "zoom_in" and set(crop) == {"region", "box", "inside", "native", "size"}
    assert crop["region"] == (None if env_id == "ActFER-v0" else "mouth-chin")
    assert crop["inside"] == pytest.approx(1) and crop["native"] > 0
    if env_id != "ActFER-v0":
        assert crop["box"] == pytest.approx(result["regions"]["mouth-chin"])
    *_, info = env.step(act(env_id, 0))
    assert info["tool"] == "detect_align" and info["result"].keys() == {"error"}
    assert "called already" in info["result"]["error"]


def test_no_face_and_an_answer():
    env = gym.make("ActFER-Discrete-v0", dataset=PORTRAIT, detector=Nobody())
    env.reset(seed=0)
    *_, info = env.step(DETECT)
    assert info["result"] == {"faces": 0}
    *_, info = env.step(HAPPY)
    assert info["tool"] == "answer" and info["result"] == {}
    assert (info["rule"], info["delta"], info["lambda"]) == ("fallback", None, 1.0)


class Nobody:
    name = "nobody"

    def detect(self, image):
        return []


def test_a_conversation_tells_every_call_of_a_turn():
    env = make(CHAT_ID)
    env.reset(seed=0)
    both = act(CHAT_ID, 0) + act(CHAT_ID, 1)
    *_, info = env.step(both)
    assert [call.name for call in info["calls"]] == ["detect_align", "zoom_in"]
    assert info["tool"] == "zoom_in" and info["result"] == info["calls"][-1].result
    *_, info = env.step("I cannot decide.")
    assert info["calls"][0].violation == "parse_error" and "error" in info["result"]
    *_, info = env.step('<answer>{"emotion": "happiness", "aus": ["AU12"]}</answer>')
    assert (info["tool"], info["result"], info["calls"], info["rule"]) == ("answer", {}, (), "fallback")


@pytest.mark.parametrize("workers", [0, 1])
def test_query_groups_tell_the_same_with_masks(workers):
    kwargs = {"dataset": PORTRAIT, "tools": TOOLS, "num_workers": workers}
    envs, single = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 2, **kwargs), make()
    envs.reset(seed=0)
    single.reset(seed=0)
    for actions in ([DETECT, HAPPY], [ZOOM_MOUTH, 0], [DETECT, 0]):
        *_, info = envs.step(np.array(actions))
        *_, alone = single.step(actions[0])
        assert all(info[name][0] == alone[name] for name in SHOWN)
        frozen = actions[0] != DETECT or alone["violation"] is not None
        assert all(info[f"_{name}"].tolist() == [True, not frozen] for name in SHOWN)
        assert (info["result"][1] is None) == frozen
    envs.close()


def test_the_contrast_of_a_group_is_told_to_its_members():
    """Happiness against the portrait's {6, 12, 25} earns 0.92, fear -0.2: see test_group_vec for the sums."""
    faces = load_dataset("portrait")
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 2, 3, dataset=faces, tools=TOOLS,
                                     reward=UCGRPOConfig(ema_min_count=1))  # fmt: skip
    seen = []
    for _ in range(2):
        envs.reset(options={"samples": ["portrait-00", "portrait-00"]})
        envs.step(np.array([HAPPY, DETECT, DETECT, HAPPY, HAPPY, DETECT]))
        envs.step(np.array([DETECT, ZOOM_MOUTH, FEAR, DETECT, DETECT, DETECT]))
        *_, info = envs.step(np.array([DETECT, HAPPY, DETECT, DETECT, DETECT, FEAR]))
        assert info["_rollout"].all() and info["_rule"].all() and info["_lambda"].all()
        assert info["delta"][:3] == pytest.approx([0.56] * 3) and info["_delta"].tolist() == [True] * 3 + [False] * 3
        assert info["rule"].tolist() == ["missed", "agreed", "missed"] + ["fallback"] * 3
        seen.append(info["lambda"].tolist())
        assert info["lambda"][0] == info["lambda_miss"][0] and info["lambda"][1] == 1.0
        envs.commit()
    # After one commit U = 0.1 * 0.56 for happiness: to miss a zoom costs more, 1 + 0.5 tanh(k U / 2).
    assert seen[0] == [1.0] * 6
    factor = 1 + 0.5 * np.tanh(0.5 * envs.scorer.config.ema_gain * (1 - envs.scorer.config.ema_decay) * 0.56)
    assert seen[1] == pytest.approx([factor, 1.0, factor, 1.0, 1.0, 1.0]) and factor > 1


def test_rewards_without_a_contrast_tell_none():
    envs = actfer_env.make_group_vec("ActFER-Discrete-v0", 1, 2, dataset=PORTRAIT, tools=TOOLS)
    envs.scorer = FacialR1Reward()
    envs.reset(seed=0)
    *_, info = envs.step(np.array([HAPPY, FEAR]))
    assert info["_rollout"].all() and not info["_delta"].any() and not info["_rule"].any()


@pytest.mark.parametrize("env_id", ["ActFER-Discrete-v0", CHAT_ID])
def test_gymnasiums_vector_environments_join_it(env_id):
    envs = gym.make_vec(env_id, 2, vectorization_mode="sync", dataset=PORTRAIT)
    envs.reset(seed=0)
    calls = [act(env_id, 0), act(env_id, 1)]
    *_, info = envs.step(calls if env_id == CHAT_ID else np.array(calls))
    assert info["tool"].tolist() == ["detect_align", "zoom_in"]
    assert info["result"]["_faces"].tolist() == [True, False] and info["result"]["faces"][0] == 1
    *_, info = envs.step(calls[::-1] if env_id == CHAT_ID else np.array(calls[::-1]))
    assert info["result"]["_crops"].tolist() == [True, False]


def test_stable_baselines3_gets_it_too():
    pytest.importorskip("stable_baselines3")
    from actfer_env.wrappers.sb3 import make_sb3_vec

    envs = make_sb3_vec("ActFER-Discrete-v0", 1, 2, dataset=PORTRAIT, tools=TOOLS)
    envs.reset()
    *_, infos = envs.step(np.array([DETECT, HAPPY]))
    assert infos[0]["tool"] == "detect_align" and infos[0]["result"]["faces"] == 1 and infos[1]["tool"] == "answer"
    *_, infos = envs.step(np.array([FEAR, DETECT]))
    assert "tool" not in infos[1] and infos[1]["rule"] == "fallback" and infos[1]["delta"] is None
