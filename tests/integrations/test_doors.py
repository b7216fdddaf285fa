"""One scripted policy through every door that needs no other project: one record, the same pixels, the same rewards."""

from __future__ import annotations

import hashlib
import json

import gymnasium as gym
import numpy as np
from helpers import DETECT, ZOOM
from integrations.served_faces import LOOKS

import actfer_env
from actfer_env.chat import ChatEpisode, chat_tools
from actfer_env.data import load_dataset
from actfer_env.integrations.served import FaceService
from actfer_env.integrations.trl import FaceEnv, UCGRPOReward
from actfer_env.integrations.trl.environment import NUMBER, TURN
from actfer_env.rewards import TERMS, UCGRPO
from actfer_env.verl_plugin.rows import reference
from actfer_env.verl_plugin.scoring import StepScorer

FACES = load_dataset("synthetic", split="test", n=4)
SAMPLE = next(one for one in FACES if ChatEpisode(one, chat_tools()).episode.call("detect_align").alignment)
ANSWER = '<answer>{"emotion": "happiness", "aus": ["AU6", "AU12"]}</answer>'
TEXTS = (DETECT, ZOOM, ANSWER)


def digest(rollout, pictures, terms):
    """Return one value for what was called, shown and earned."""
    calls = [(call.name, call.violation, call.boxes, call.result.get("crops")) for call in rollout.tool_calls]
    mark = hashlib.sha256(json.dumps([calls, rollout.predicted_emotion, sorted(rollout.predicted_aus), terms]).encode())
    for picture in pictures:
        mark.update(np.ascontiguousarray(picture).tobytes())
    return mark.hexdigest()


def of_chat():
    episode, scorer = ChatEpisode(SAMPLE, chat_tools()), UCGRPO()
    for text in TEXTS:
        episode.step(text)
    rollout = episode.rollout()
    return rollout, episode.images, scorer.score([rollout]).terms(0)


def of_gym():
    env = gym.make("ActFER-Chat-v0", dataset=FACES)
    env.reset(options={"sample": SAMPLE.id})
    for text in TEXTS:
        *_, info = env.step(text)
    return info["rollout"], info["images"], info["reward_terms"]


def of_chat_groups():
    envs = actfer_env.make_group_vec("ActFER-Chat-v0", 1, 1, dataset=FACES)
    envs.reset(options={"samples": [SAMPLE.id]})
    for text in TEXTS:
        *_, info = envs.step([text])
    return (
        info["rollout"][0],
        info["images"][0],
        {name: float(info["scores"][name][0]) for name in TERMS},
    )


def of_verl():
    rollout, images, _ = of_chat()
    _, _, scores = StepScorer().score(["u"], [{"rollout": json.dumps(rollout.to_dict())}], [False])
    return rollout, images, scores.terms(0)


def of_trl():
    env, completion, pictures = FaceEnv(), [], []
    row = {"extra_info": {"sample": json.dumps(reference(SAMPLE, FACES))}}
    shown = env.reset(**row)
    for text in TEXTS:
        pictures += [np.asarray(part["image"]) for part in shown if part["type"] == "image"]
        completion.append({"role": "assistant", "content": text})
        shown = env.detect_align(**{TURN: text, NUMBER: 0}) if text is not ANSWER else []
    reward = UCGRPOReward()
    reward.group_size = 1
    reward([completion], environments=[env])
    (rollout,), scores = reward.last
    return rollout, pictures, scores.terms(0)


def of_mcp(tmp_path):
    service = FaceService(dataset=FACES, out=tmp_path)
    opened = service.open(sample=SAMPLE.id)
    handle, pictures = opened.told["episode"], [*opened.pictures]
    for name, arguments in LOOKS:
        pictures += service.call(handle, name, arguments).pictures
    service.answer(handle, "happiness", ["AU6", "AU12"])
    from actfer_env.rollout import read_rollouts

    (rollout,) = read_rollouts(tmp_path / "rollouts.jsonl")
    return rollout, pictures, service.score(handle).told["reward"]


def test_one_digest_through_every_door(tmp_path):
    doors = {"chat": of_chat(), "gym": of_gym(), "groups": of_chat_groups(), "verl": of_verl(), "trl": of_trl(),
             "mcp": of_mcp(tmp_path)}  # fmt: skip
    digests = {name: digest(*found) for name, found in doors.items()}
    assert len(set(digests.values())) == 1, digests
    assert all(len(pictures) == 3 for _, pictures, _ in doors.values())


def test_numbered_actions_make_the_same_calls_and_earn_the_same():
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=FACES)
    env.reset(options={"sample": SAMPLE.id})
    units = [int(unit in (6, 12)) for unit in env.unwrapped.au_set]
    for tool in (0, 3, 5):  # detect, zoom into the nose, answer
        *_, info = env.step(np.array([tool, 1, *units]))
    rollout, _, terms = of_chat()
    assert [(call.name, call.boxes) for call in info["rollout"].tool_calls] == [
        (call.name, call.boxes) for call in rollout.tool_calls
    ]
    assert info["reward_terms"] == terms
