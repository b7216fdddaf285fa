"""Whatever a policy or a server sends, a conversation goes on: hostile texts, odd native calls, bounded time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from helpers import DETECT
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env import facs
from actfer_env.chat import NOTES, PROBLEMS, ChatConfig, ChatEpisode, chat_tools, parse_turn, to_openai, to_transformers
from actfer_env.data import Dataset, load_dataset
from actfer_env.rollout import Rollout
from actfer_env.tools import FaceTools

STRICT, LENIENT = ChatConfig(parsing="strict"), ChatConfig()
ANSWER = '<answer>{"emotion": "fear", "aus": ["AU1"]}</answer>'


def call(body: str) -> str:
    return f"<tool_call>{body}</tool_call>"


def native(arguments: Any, name: Any = "zoom_in", identity: Any = "c1") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.fixture(scope="module")
def samples() -> Dataset:
    return load_dataset("synthetic", split="test", n=4)


@pytest.fixture(scope="module")
def tools() -> FaceTools:
    return chat_tools()


@pytest.fixture
def episode(samples: Dataset, tools: FaceTools) -> ChatEpisode:
    return ChatEpisode(samples[0], tools)


HOSTILE = {
    "fence and line ends": lambda n: call("```{" + "\n" * n + "x"),
    "fence and words": lambda n: call("```json" + " a" * (n // 2)),
    "opened thinking": lambda n: "<think>" * (n // 7),
    "closed thinking": lambda n: "<think>a</think>" * (n // 16),
    "opened calls": lambda n: "<tool_call>" * (n // 11),
    "brackets": lambda n: call('{"a":' + "[" * n),
    "backslashes": lambda n: call('{"a": "' + "\\" * n),
    "open list": lambda n: call('{"a": [' + "1," * (n // 2)),
    "parentheses": lambda n: "<think>" + "(AU1" * (n // 4) + "</think>",
    "boxes": lambda n: "<think>" + "<bbox> [" * (n // 8) + "</think>",
    "spaces in an answer": lambda n: "<answer>a" + " " * n + "b</answer>",
    "many units": lambda n: '<answer>{"emotion": "fear", "aus": "' + "AU1 " * (n // 4) + '"}</answer>',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("preset", ["actfer", "facial_r1", "tag"])
def test_time_is_linear_in_the_length(name: str, preset: str) -> None:
    config = ChatConfig(preset=preset, max_characters=10**6)

    def best(size: int) -> float:
        text, times = HOSTILE[name](size), []
        for _ in range(3):
            start = time.process_time()
            parse_turn(text, config)
            times.append(time.process_time() - start)
        return min(times)

    # Sixteen times the length: linear time grows sixteenfold, quadratic time 256-fold.
    assert best(64_000) < 80 * max(best(4_000), 1e-4)


def test_later_reasoning_is_no_action_either() -> None:
    text = f"<think>a</think><think>or {DETECT}?</think>{ANSWER}"
    turn = parse_turn(text, LENIENT)
    assert turn.calls == () and turn.answer is not None and turn.notes == ("late_thinking",)
    refused = parse_turn(text, STRICT).problem
    assert refused is not None and refused.kind == "stray_text"
    behind = parse_turn(f"{DETECT}<think>{ANSWER}</think>", LENIENT)
    assert [c.name for c in behind.calls] == ["detect_align"] and behind.notes == ("late_thinking",)


@pytest.mark.parametrize("depth", [20, 400, 600, 980, 5000])
def test_deep_json_is_refused_by_name_wherever_it_stands(depth: int, samples: Dataset, tools: FaceTools) -> None:
    deep = "[" * depth + "]" * depth
    for text in (call(f'{{"name": "zoom_in", "arguments": {{"boxes": {deep}}}}}'),
                 call(f'{{"name": "zap", "arguments": {deep}}}'),
                 f'<answer>{{"emotion": {deep}, "aus": []}}</answer>',
                 f'<answer>{{"emotion": "fear", "aus": {deep}}}</answer>'):  # fmt: skip
        episode = ChatEpisode(samples[0], tools)
        assert episode.step(text).violations == ("parse_error",)
        episode.step(ANSWER)
        assert episode.rollout().meta["chat"][0]["problem"] == "too_deep"


def test_deep_and_circular_native_arguments_are_refused(episode: ChatEpisode) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    step = episode.step("", [native({"boxes": circle}), native({"boxes": deep}, identity="c2")])
    assert step.violations == ("parse_error", "parse_error")


@pytest.mark.parametrize("text", [
    call('{"name": "%s", "arguments": {}}'), call('{"name": "detect_align", "%s": 1}'), call('"%s"'), "%s",
    '<answer>{"emotion": "%s", "aus": []}</answer>', '<answer>{"emotion": "fear", "aus": ["%s"]}</answer>',
    "%s" + DETECT,
])  # fmt: skip
@pytest.mark.parametrize("parsing", ["strict", "lenient"])
def test_messages_quote_little_of_what_was_written(text: str, parsing: Any, samples: Dataset, tools: FaceTools) -> None:
    episode = ChatEpisode(samples[0], tools, ChatConfig(parsing=parsing))
    for message in episode.step(text % ("q" * 30_000)).messages:
        assert sum(len(part.get("text", "")) for part in message["content"]) < 600
        assert len(message.get("name", "")) < 64


@pytest.mark.parametrize("calls", [
    ["x"], [None], [7], "abc", {"a": 1}, [{}], [{"function": "x"}], [{"function": ["a"]}], [{"function": None}],
    [native(3)], [native([1])], [native("[]")], [native("{]")], [native("{}", name=5)], [native("{}", name=None)],
])  # fmt: skip
@pytest.mark.parametrize("text", ["", None])
def test_native_calls_of_any_shape_are_refused_by_name(calls: Any, text: str | None, episode: ChatEpisode) -> None:
    step = episode.step(text, calls)
    assert step.violations == ("parse_error",)
    assert all(c.problem is not None and c.problem.kind in PROBLEMS for c in step.parsed.calls)


def test_native_arguments_count_towards_the_length() -> None:
    turn = parse_turn("", LENIENT, [native('{"regions": ["' + "q" * 40_000 + '"]}')])
    assert turn.problem is not None and turn.problem.kind == "too_long"


def test_no_text_and_no_arguments_are_what_servers_send(episode: ChatEpisode) -> None:
    step = episode.step(None, [native(None, "detect_align"), native("", "detect_align", "c2")])
    assert step.violations == ("repeated_call",)


@pytest.mark.parametrize(("text", "parsing"), [(ANSWER, "strict"), ("x" * 40_000, "lenient"), ("<think>", "strict")])
def test_every_native_call_is_answered_where_the_turn_is_refused(
    text: str, parsing: Any, samples: Dataset, tools: FaceTools
) -> None:
    episode = ChatEpisode(samples[0], tools, ChatConfig(parsing=parsing, calls="native"))
    step = episode.step(text, [native("{}", "detect_align"), native('{"regions": ["nose"]}', identity="c2")])
    assert step.violations == ("parse_error",)
    assert [message["tool_call_id"] for message in step.messages] == ["c1", "c2"]


def test_native_histories_are_what_the_openai_client_and_chat_templates_take(episode: ChatEpisode) -> None:
    types = pytest.importorskip("openai.types.chat", reason="needs openai")
    pydantic = pytest.importorskip("pydantic")
    episode.step(None, [native("{}", "detect_align")])
    episode.step("<think>odd</think>", [native("{]", identity="c2")])
    sent = to_openai(episode.messages, episode.images, images_in_tool=False)
    pydantic.TypeAdapter(list[types.ChatCompletionMessageParam]).validate_python(sent)
    shown = [message["tool_calls"][0] for message in to_transformers(episode.messages, episode.images)[0]
             if "tool_calls" in message]  # fmt: skip
    assert [entry["function"]["arguments"] for entry in shown] == [{}, "{]"]


@pytest.mark.parametrize("spelling", sorted(facs._EMOTION_TABLE))
def test_emotion_aliases_are_known_in_any_case(spelling: str, samples: Dataset, tools: FaceTools) -> None:
    for written in (spelling, spelling.upper(), f" {spelling.title()} "):
        episode = ChatEpisode(samples[0], tools)
        episode.step(f'<answer>{{"emotion": "{written}", "aus": []}}</answer>')
        assert episode.rollout().predicted_emotion == facs.parse_emotion(spelling)


@pytest.mark.parametrize("aus", [
    ["AU6", "AU12"], [6, 12], ["AU06", "au_12"], ["AU06_r", "AU12_c"], ["au_6_intensity", "12"], ["R6B", "AU12C"],
    ["Cheek Raiser", "lip corner puller"], "AU6, AU12", "AU6+AU12", "6 12",
])  # fmt: skip
def test_action_units_are_known_in_any_spelling(aus: Any, episode: ChatEpisode) -> None:
    assert episode.step(f"<answer>{json.dumps({'emotion': 'happy', 'aus': aus})}</answer>").done
    assert episode.rollout().predicted_aus == frozenset({6, 12})


@pytest.mark.parametrize("aus", ["none", "N/A", "", []])
def test_no_action_unit_can_be_said_in_words(aus: Any, episode: ChatEpisode) -> None:
    assert episode.step(f"<answer>{json.dumps({'emotion': 'neutral', 'aus': aus})}</answer>").done
    assert episode.rollout().predicted_aus == frozenset()


@pytest.mark.parametrize("aus", [{"AU1": 0, "AU2": 0.9}, 5, True])
def test_action_units_that_could_mean_two_things_are_refused(aus: Any, episode: ChatEpisode) -> None:
    """An intensity of 0 must not count as active."""
    step = episode.step(f"<answer>{json.dumps({'emotion': 'fear', 'aus': aus})}</answer>")
    assert step.violations == ("parse_error",) and '"aus" as a list' in step.messages[-1]["content"][0]["text"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["nose", "face"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["regions", "boxes", "box", "image", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "function": st.fixed_dictionaries(
            {}, optional={"name": st.sampled_from(["zoom_in", "detect_align"]) | JSON, "arguments": JSON}
        )
        | JSON,
    },
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from([DETECT, ANSWER, "<think>", "\ud800"]),
    JSON.map(lambda value: call(json.dumps({"name": "zoom_in", "arguments": value}))),
    JSON.map(lambda value: f"<answer>{json.dumps({'emotion': 'fear', 'aus': value})}</answer>"),
    JSON.map(lambda value: f"<answer>{json.dumps({'emotion': value, 'aus': []})}</answer>"),
)


@settings(max_examples=400, deadline=None)
@given(
    turns=st.lists(st.tuples(TEXTS, st.none() | st.lists(CALLS | JSON, max_size=3)), max_size=5), strict=st.booleans()
)
def test_any_conversation_ends_in_a_rollout_that_round_trips(
    turns: list[tuple[str, Any]], strict: bool, samples: Dataset, tools: FaceTools
) -> None:
    episode = ChatEpisode(samples[0], tools, STRICT if strict else LENIENT)
    episode.step(DETECT)
    for text, calls in turns:
        if episode.done:
            break
        step = episode.step(text, calls)
        assert set(step.parsed.notes) <= set(NOTES)
        asked = {
            entry["id"] for entry in episode.messages[-len(step.messages) - 1].get("tool_calls", ()) if "id" in entry
        }
        assert step.done or asked <= {message.get("tool_call_id") for message in step.messages}
    if not episode.done:
        episode.stop("out_of_budget")
    rollout = episode.rollout()
    written = json.loads(json.dumps(rollout.to_dict(), allow_nan=False))
    assert Rollout.from_dict(written) == rollout
