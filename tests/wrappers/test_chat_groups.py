"""Query groups of conversations: texts in; messages, pictures and the scores of the other groups out."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from helpers import DETECT, portrait_tools, portraits

import actfer_env
from actfer_env import facs
from actfer_env.chat.turns import answer_text, call_text
from actfer_env.envs.chat import ActFERChatEnv
from actfer_env.envs.registration import CHAT_ID
from actfer_env.rewards import TERMS, UCGRPO, UCGRPOConfig
from actfer_env.verl_plugin.scoring import StepScorer
from actfer_env.wrappers import ChatGroupVectorEnv, GroupVectorEnv

PORTRAIT, TOOLS = portraits(), portrait_tools()
CONFIG = UCGRPOConfig(ema_min_count=1)
ZOOM_MOUTH = call_text("zoom_in", regions=["mouth-chin"])
HAPPY, FEAR = (answer_text(emotion, facs.prototype_aus(emotion)) for emotion in ("happiness", "fear"))
NUMBERS = {DETECT: 0, ZOOM_MOUTH: 4, HAPPY: 6, FEAR: 9, "": 0}
"""Each text's number in ActFER-Discrete-v0; the answers name the same Action Units."""


def make(groups=2, size=3, env_id=CHAT_ID, **kwargs):
    return actfer_env.make_group_vec(
        env_id, groups, size, dataset=PORTRAIT, tools=TOOLS, **{"reward": CONFIG, **kwargs}
    )


def test_a_group_ends_together_with_the_sums_done_by_hand():
    envs = make(1, 3)
    assert isinstance(envs, ChatGroupVectorEnv) and isinstance(envs, GroupVectorEnv)
    obs, info = envs.reset(seed=0, options={"samples": ["portrait-00"]})
    assert obs in envs.observation_space and info["active"].all()
    assert [message["role"] for message in info["messages"][1]] == ["system", "user"]
    assert info["images"][0][0].shape == info["images"][2][0].shape
    assert [tool["function"]["name"] for tool in info["tools"]] == ["detect_align", "zoom_in"]

    obs, rewards, *_, info = envs.step([HAPPY, DETECT, DETECT])
    assert info["active"].tolist() == [False, True, True] and not rewards.any() and "rollout" not in info
    assert info["tool"].tolist() == ["answer", "detect_align", "detect_align"]
    assert obs["image_count"].tolist() == [0, 1, 1] and info["images"][1][-1].shape == (224, 224, 3)
    assert info["message"][1].startswith('tool: <image> {"message"') and obs["text"][1].startswith("tool: <image>")
    frozen = {key: copy.deepcopy(values[0]) for key, values in obs.items()}

    obs, *_, info = envs.step(["", ZOOM_MOUTH, FEAR])  # the frozen member's text is ignored
    assert data_equivalence(frozen, {key: values[0] for key, values in obs.items()})
    assert info["message"][0] is None and info["_calls"].tolist() == [False, True, True]
    assert info["calls"][1][0].name == "zoom_in" and info["violations"][1] == ()

    obs, rewards, terminated, truncated, info = envs.step(["", HAPPY, ""])
    # Happy with {6, 12} against {6, 12, 25}: 0.6 + 0.4 * 0.8 = 0.92; fear shares no unit: -0.2.
    wrong = -0.2
    delta = 0.92 - (0.92 + wrong) / 2
    penalty = 0.3 * np.tanh(delta / 0.3)
    assert info["scores"]["task"] == pytest.approx([0.92, 0.92, wrong])
    assert rewards == pytest.approx([0.92 - 0.1 - penalty, 0.92 + 0.05 + 0.1, wrong + 0.05 - penalty])
    assert info["delta"] == pytest.approx([delta] * 3) and info["rule"].tolist() == ["missed", "agreed", "missed"]
    assert info["lambda"].tolist() == [1.0] * 3 and terminated.all() and not truncated.any()
    assert info["rollout"][1].texts == (DETECT, ZOOM_MOUTH, HAPPY) and info["advantage"].sum() == pytest.approx(0)

    obs, rewards, terminated, truncated, info = envs.step([""] * 3)  # the next step resets
    assert not rewards.any() and not terminated.any() and info["active"].all()
    assert [len(messages) for messages in info["messages"]] == [2] * 3 and (obs["turns_left"] == 6).all()


PLANS = (  # for each member of two groups, what it says turn by turn
    (HAPPY, "", "", ""), (DETECT, ZOOM_MOUTH, HAPPY, ""), (DETECT, DETECT, DETECT, FEAR),
    (DETECT, ZOOM_MOUTH, ZOOM_MOUTH, FEAR), (ZOOM_MOUTH, DETECT, DETECT, HAPPY), (DETECT, HAPPY, "", ""),
)  # fmt: skip


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_scores_are_those_of_the_numbered_groups_and_of_verl(mode):
    chat, plain = make(autoreset_mode=mode), make(env_id="ActFER-Discrete-v0", autoreset_mode=mode)
    verl = StepScorer(CONFIG)
    for envs in (chat, plain):
        envs.reset(seed=4)
    ended, plans = 0, [plan if mode == "SameStep" else (*plan, "") for plan in PLANS]
    for turn in range(15):
        texts = [plan[turn % len(plan)] for plan in plans]
        _, *ours, info = chat.step(texts)
        _, *theirs, other = plain.step(np.array([NUMBERS[text] for text in texts]))
        assert [values.tolist() for values in ours] == [values.tolist() for values in theirs]
        for name in ("sample_id", "group_id", "active", "tool", "violation", "result"):
            assert info[name].tolist() == other[name].tolist()
        assert set(other) - set(info) == {"action_mask"}
        if "rollout" not in info:
            continue
        rows = np.flatnonzero(info["_rollout"])
        ended += len(rows)
        for name in TERMS:
            assert info["scores"][name].tolist() == other["scores"][name].tolist()
        for name in ("advantage", "delta", "rule", "lambda", "lambda_miss", "lambda_over"):
            assert info[name].tolist() == other[name].tolist()
            assert info[f"_{name}"].tolist() == other[f"_{name}"].tolist()
        fields = [{"rollout": json.dumps(one.to_dict())} for one in info["rollout"][rows]]
        kept, _, scores = verl.score([one.group_id for one in info["rollout"][rows]], fields, [False] * len(rows))
        assert kept == list(range(len(rows)))
        assert scores.total.tolist() == ours[0][rows].tolist()
        assert scores.advantage.tolist() == info["advantage"][rows].tolist()
        chat.commit()
        plain.commit()
        assert chat.scorer.state_dict() == plain.scorer.state_dict() == verl.scorer.state_dict()
    assert ended >= 12 and chat.scorer.counts["happiness"] > 0


def test_a_member_alone_is_the_single_environment():
    envs, alone = make(1, 2), ActFERChatEnv(PORTRAIT, tools=TOOLS)
    ours, info = envs.reset(seed=3)
    theirs, other = alone.reset(seed=3)
    odd = "Ünlesbar \N{GRINNING FACE}"
    for text in (DETECT + ZOOM_MOUTH, odd, ZOOM_MOUTH, HAPPY):
        assert data_equivalence({key: values[1] for key, values in ours.items()}, theirs)
        assert info["messages"][1] == other["messages"] and info["tools"] == other["tools"]
        assert all((one == two).all() for one, two in zip(info["images"][1], other["images"], strict=True))
        ours, *_, info = envs.step([DETECT, text] if info["active"][0] else ["", text])
        theirs, *_, other = alone.step(text)
        assert (info["tool"][1], info["calls"][1]) == (other["tool"], other["calls"])
        assert info["violations"][1] == other["violations"] and info["result"][1] == other["result"]


def test_seeds_twins_resuming_and_samples():
    def play(envs):
        seen = []
        for _ in range(3):
            for texts in ([DETECT] * 4, [HAPPY, FEAR, ZOOM_MOUTH, FEAR], ["", "", HAPPY, ""], [""] * 4):
                *_, rewards, _, _, info = envs.step(texts)
                seen.append((rewards.tolist(), info["group_id"].tolist()))
            envs.commit()
        return seen

    one, two = make(2, 2), make(2, 2)
    one.reset(seed=5)
    _, info = two.reset(seed=5, options={"samples": [2, "portrait-03"]})
    assert info["sample_id"].tolist() == ["portrait-02"] * 2 + ["portrait-03"] * 2
    two.reset(seed=5)
    assert play(one) == play(two)
    resumed = make(2, 2)
    resumed.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for envs in (resumed, two):
        envs.reset()
    assert play(resumed) == play(two)
    assert resumed.scorer.state_dict() == two.scorer.state_dict() and resumed.scorer.commits == 6


def test_same_step_keeps_the_conversation_that_has_ended():
    envs = make(1, 2, autoreset_mode="SameStep", max_episode_steps=2)
    _, info = envs.reset(seed=0)
    first = info["sample_id"][0]
    envs.step([DETECT, DETECT])
    obs, _, terminated, truncated, info = envs.step([HAPPY, ZOOM_MOUTH])
    assert terminated.tolist() == [True, False] and truncated.tolist() == [False, True]
    final = info["final_info"]
    assert final["sample_id"][0] == first and final["messages"][0][-1]["role"] == "assistant"
    assert info["final_obs"][1] in envs.single_observation_space and final["rollout"][1].truncated
    assert len(info["messages"][0]) == 2 and obs["turns_left"].tolist() == [2, 2]


def test_render_and_copies():
    envs = make(1, 2, render_mode="ansi")
    with pytest.raises(RuntimeError, match="call reset"):
        envs.render()
    envs.reset(seed=0)
    twin = copy.deepcopy(envs)
    for one in (envs, twin):
        one.step([DETECT, FEAR])
    assert envs.render() == twin.render() and envs.render()[1].endswith(FEAR)
    panels = make(1, 2, render_mode="rgb_array")
    panels.reset(seed=0)
    assert panels.render()[1].shape == (540, 960, 3)
    assert envs.single_action_space.sample(envs.sample_masks()[0]) in envs.single_action_space
    obs, _ = make(1, 2, copy=False).reset(seed=0)
    assert obs["text"][0] == obs["text"][1]


def test_what_is_refused_is_named():
    with pytest.raises(ValueError, match="leave num_workers at 0"):
        make(num_workers=1)
    with pytest.raises(ValueError, match="group_size 0"):
        make(size=0)
    with pytest.raises(ValueError, match=f"unknown id 'ActFER-v0': use {CHAT_ID}"):
        ChatGroupVectorEnv("ActFER-v0", 1, 1, dataset=PORTRAIT)
    envs = make(1, 2)
    with pytest.raises(RuntimeError, match="call reset"):
        envs.step(["", ""])
    with pytest.raises(ValueError, match="1 samples for 2 groups"):
        make(2, 2).reset(options={"samples": [0]})
    envs.reset(seed=0)
    for wrong, message in ((["x"], "1 actions for 2 environments"), ("xy", "a list of texts"),
                           (None, "a list of texts"), ([DETECT, 3], "action 1 is int")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            envs.step(wrong)
        envs.reset()
    with pytest.raises(ValueError, match="no action masks"):
        envs.action_masks()
    envs.step([HAPPY, DETECT])
    envs.step([None, HAPPY])  # a frozen member needs no text


def test_a_trainer_that_plays_alone_commits_each_group_once():
    envs, twin = make(2, 2), UCGRPO(CONFIG)
    envs.reset(seed=0)
    envs.step([DETECT] * 4)
    *_, info = envs.step([HAPPY, FEAR, FEAR, HAPPY])
    twin.commit(twin.score(info["rollout"]))
    envs.commit()
    assert envs.scorer.state_dict() == twin.state_dict() and not envs.pending
