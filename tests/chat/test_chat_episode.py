"""Conversations: what the policy is shown, and that chat and Gym cannot disagree."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from helpers import DETECT

from actfer_env import facs
from actfer_env.agents import ScriptedAgent
from actfer_env.agents.scripted import MODES, Mode, truth
from actfer_env.chat import ChatConfig, ChatEpisode, ChatError, chat_tools, count_images, to_openai, to_transformers
from actfer_env.data import Dataset, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.evaluation.play import play_episode
from actfer_env.rewards import UCGRPO
from actfer_env.rollout import Rollout
from actfer_env.tools import FaceTools
from actfer_env.tools.schema import tool_schemas
from actfer_env.tools.zoom import ZoomConfig


def zoom(**arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': 'zoom_in', 'arguments': arguments})}</tool_call>"


def answer(emotion: str = "neutral", aus: Any = ()) -> str:
    return f"<answer>{json.dumps({'emotion': emotion, 'aus': list(aus)})}</answer>"


@pytest.fixture(scope="module")
def samples() -> Dataset:
    return load_dataset("synthetic", split="test", n=12)


@pytest.fixture
def good(samples: Dataset) -> ChatEpisode:
    index = next(i for i in range(12) if samples[i].meta["quality"] == "good")
    return ChatEpisode(samples[index], chat_tools())


class TextScript:
    """Writes what `ScriptedAgent` would call, seeing only the conversation."""

    def __init__(self, mode: Mode, label: tuple[str, frozenset[int]]) -> None:
        self.mode, self.label = mode, label

    def write(self, episode: ChatEpisode) -> str:
        last = episode.messages[-1]
        if last["role"] == "user":
            return "<think>first a look</think>" + DETECT
        report = json.loads(last["content"][-1]["text"]) if last["role"] == "tool" else {}
        zoomed = sum(message.get("name") == "zoom_in" for message in episode.messages)
        if self.mode == "full" and zoomed < 2 and report.get("regions", True) is not None:
            return zoom(regions=[("eye-periorbital", "mouth-chin")[zoomed]])
        return answer(self.label[0], [facs.format_au(au) for au in sorted(self.label[1])])


def bare(rollout: Rollout) -> Rollout:
    return replace(rollout, texts=(), meta={}, group_id="", seed=None)


@pytest.mark.parametrize("mode", MODES)
def test_a_perfect_text_policy_and_the_scripted_agent_leave_the_same_rollouts(mode: Mode, samples: Dataset) -> None:
    env = gym.make("ActFER-MultiDiscrete-v0", dataset=samples)
    agent = ScriptedAgent(env.action_space, mode, answers=truth(samples))
    tools = FaceTools(zoom=ZoomConfig(size=48, stretch=True))
    for index in range(len(samples)):
        expected = play_episode(env, agent, {"sample": index})
        episode = ChatEpisode(samples[index], tools)
        script = TextScript(mode, truth(samples)(samples[index].id))
        while not episode.done:
            episode.step(script.write(episode))
        found = episode.rollout()
        assert bare(found) == bare(expected)
        assert UCGRPO().score([replace(found, texts=())]).total == UCGRPO().score([expected]).total
        crops = env.unwrapped.episode.crops  # type: ignore[attr-defined]
        shown = episode.images[len(episode.images) - len(crops) :] if crops else []
        for crop, image in zip(crops, shown, strict=True):
            np.testing.assert_array_equal(crop.image, image)


def test_placeholders_equal_pictures_in_every_turn(good: ChatEpisode) -> None:
    for text in (DETECT, zoom(regions=["nose"]), "nonsense", zoom(regions=["mouth-chin", "eye-periorbital"]), answer()):
        step = good.step(text)
        assert count_images(step.messages) == len(step.images)
        assert count_images(good.messages) == len(good.images)


@pytest.mark.parametrize(
    ("coordinates", "box"),
    [("relative_1000", [250, 500, 750, 1000]), ("pixels", [56, 112, 168, 224]), ("unit", [0.25, 0.5, 0.75, 1.0])],
)
def test_boxes_are_read_as_the_prompt_declares(coordinates: Any, box: list[float], samples: Dataset) -> None:
    chat = ChatConfig(coordinates=coordinates)
    episode = ChatEpisode(samples[0], chat_tools(chat=chat), chat)
    episode.step(DETECT)
    step = episode.step(zoom(boxes=[box]))
    assert step.violations == ()
    np.testing.assert_allclose(episode.episode.zoomed_boxes[0], (0.25, 0.5, 0.75, 1.0), atol=1e-9)
    assert json.loads(step.messages[0]["content"][-1]["text"])["crops"][0]["box"] == box


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("nonsense", "parse_error"),
        ('<tool_call>{"name": "zap", "arguments": {}}</tool_call>', "unknown_tool"),
        ('<tool_call>{"name": "detect_align", "arguments": {"x": 1}}</tool_call>', "bad_arguments"),
        (zoom(regions=["nose"]), "illegal_order"),
        (answer("bored"), "bad_arguments"),
        (answer("fear", ["AU99"]), "bad_arguments"),
        ('<tool_call>{"name": "detect_align", "argum', "parse_error"),
    ],
)
def test_each_failure_has_a_name_a_message_and_a_place(text: str, violation: str, good: ChatEpisode) -> None:
    step = good.step(text)
    assert step.violations == (violation,) and not step.done
    said = step.messages[-1]["content"][-1]["text"]
    assert "Legal now: detect_align or answer" in said
    good.step(answer())
    rollout = good.rollout()
    assert rollout.tool_calls[0].violation == violation and rollout.turns == 2
    assert rollout.meta["parse_failures"] == (violation == "parse_error")


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [5, 5, 5, 5], [900, 900, 100, 100], [0, 0, 5000, 5000], [1, 2, 3],
                                 ["a", 1, 2, 3], [float("nan"), 0, 1, 1], [10**400, 0, 1, 1],
                                 [True, 0, 1, 1]])  # fmt: skip
def test_odd_boxes_are_refused_or_grown_and_never_crash(box: list[Any], good: ChatEpisode) -> None:
    good.step(DETECT)
    step = good.step(zoom(boxes=[box]))
    assert step.violations in ((), ("bad_arguments",))
    if step.violations:
        assert "from 0 to 1000" in step.messages[-1]["content"][-1]["text"]


def test_turns_used_up_truncate(samples: Dataset) -> None:
    episode = ChatEpisode(samples[0], chat_tools(), config=EpisodeConfig(max_turns=3))
    steps = [episode.step("hm") for _ in range(3)]
    assert [step.done for step in steps] == [False, False, True]
    rollout = episode.rollout()
    assert rollout.truncated and rollout.meta["outcome"] == "truncated" and rollout.predicted_emotion is None
    with pytest.raises(RuntimeError, match="over"):
        episode.step(answer())


def test_a_stopped_episode_keeps_why(good: ChatEpisode) -> None:
    good.step(DETECT)
    good.stop("refused")
    rollout = good.rollout()
    assert rollout.meta["outcome"] == "refused" and rollout.predicted_emotion is None and rollout.truncated


def test_texts_hold_whole_turns_with_a_prefix_of_the_template(good: ChatEpisode) -> None:
    good.step(f"a look</think>{DETECT}", prefix="<think>")
    good.step(answer())
    assert good.rollout().texts[0] == f"<think>a look</think>{DETECT}"
    assert good.rollout().meta["chat"] == []


def test_native_calls_leave_the_same_rollout(samples: Dataset) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "detect_align", "arguments": "{}"}}
    native, text = (ChatEpisode(samples[1], chat_tools()) for _ in range(2))
    step = native.step("", [call])
    assert step.messages[0]["tool_call_id"] == "1"
    text.step(DETECT)
    for episode in (native, text):
        episode.step(answer())
    assert bare(native.rollout()) == bare(text.rollout())


def test_openai_messages_carry_data_urls_where_the_server_takes_them(good: ChatEpisode) -> None:
    good.step("", [{"id": "1", "type": "function", "function": {"name": "detect_align", "arguments": "{}"}}])
    inside = to_openai(good.messages, good.images)
    assert [part["type"] for part in inside[-1]["content"]] == ["image_url", "text"]
    outside = to_openai(good.messages, good.images, images_in_tool=False)
    assert outside[-2]["role"] == "tool" and isinstance(outside[-2]["content"], str)
    assert outside[-1]["role"] == "user" and outside[-1]["content"][0]["image_url"]["url"].startswith("data:image/png")
    messages, pictures = to_transformers(good.messages, good.images)
    assert count_images(messages) == len(pictures) == 2
    with pytest.raises(ValueError, match="placeholders"):
        to_openai(good.messages, good.images[:1])


@pytest.mark.parametrize("preset", ["facial_r1", "tag", "ferbench"])
def test_passive_presets_play_one_turn(preset: str, samples: Dataset) -> None:
    episode = ChatEpisode(samples[0], chat_tools(), ChatConfig(preset=preset))
    assert episode.tools == []
    step = episode.step("<think>(AU12) <bbox>[0, 0, 256, 256]</bbox></think><answer>Happy</answer>")
    rollout = episode.rollout()
    assert step.done and rollout.predicted_emotion == "happiness" and rollout.turns == 1
    assert rollout.predicted_aus == (frozenset({12}) if preset == "facial_r1" else None)
    assert rollout.meta.get("evidence_boxes") == ([[0, 0, 0.5, 0.5]] if preset == "tag" else None)


def test_tag_has_no_contempt(samples: Dataset) -> None:
    episode = ChatEpisode(samples[0], chat_tools(), ChatConfig(preset="tag"))
    assert episode.step("<think>.</think><answer>contempt</answer>").violations == ("bad_arguments",)


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ChatError, match=r"unknown preset 'x'.*actfer"):
        ChatConfig(preset="x")
    with pytest.raises(ChatError, match="face_side"):
        ChatConfig(face_side=1)


@pytest.mark.parametrize("coordinates", ["relative_1000", "pixels", "unit"])
def test_tool_schemas_are_json_schemas_that_know_what_is_allowed(coordinates: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    schemas = {s["function"]["name"]: s["function"]["parameters"] for s in tool_schemas(coordinates)}
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for arguments in ({"regions": ["nose"]}, {"boxes": [[0, 0, 1, 1]], "image": "original"}):
        jsonschema.validate(arguments, schemas["zoom_in"])
    for arguments in ({"regions": "nose"}, {"boxes": [[0, 0, 1]]}, {"region": ["nose"]}, {"regions": ["ear"]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(arguments, schemas["zoom_in"])


def test_tool_schemas_are_what_the_openai_client_takes() -> None:
    types = pytest.importorskip("openai.types.chat", reason="needs openai")
    pydantic = pytest.importorskip("pydantic")
    adapter = pydantic.TypeAdapter(list[types.ChatCompletionToolParam])
    assert adapter.validate_python(tool_schemas()) == tool_schemas()


def test_the_chat_environment_passes_gymnasiums_checker() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("ActFER-Chat-v0", render_mode="rgb_array", slot_size=32)
        check_env(env.unwrapped)
    env.reset(seed=1)
    obs, *_ = env.step("a bird: 鳥 \ud800")
    assert "Legal now" in obs["text"]
    env.close()


@pytest.mark.parametrize("vectoriser", [gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv])
def test_the_chat_environment_vectorises(vectoriser: Any) -> None:
    venv = vectoriser([lambda: gym.make("ActFER-Chat-v0", slot_size=32, max_text=4096) for _ in range(2)])
    obs, _ = venv.reset(seed=[1, 2])
    assert obs["images"].shape == (2, 5, 32, 32, 3) and list(obs["image_count"]) == [1, 1]
    _, _, _, _, info = venv.step((DETECT, answer()))
    assert info["_rollout"].tolist() == [False, True]
    venv.close()


def test_the_chat_environment_says_what_happened() -> None:
    env = gym.make("ActFER-Chat-v0", render_mode="ansi", slot_size=32)
    _, info = env.reset(seed=3, options={"sample": 5})
    assert [message["role"] for message in info["messages"]] == ["system", "user"]
    env.step("what?")
    _, reward, terminated, truncated, info = env.step(answer("fear"))
    assert terminated and not truncated and reward == info["reward_terms"]["total"]
    assert info["rollout"].violations == ("parse_error",)
    assert "assistant: what?" in str(env.render())
    with pytest.raises(ValueError, match="unknown reset option"):
        env.reset(options={"nope": 1})
