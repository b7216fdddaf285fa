"""One definition of a turn's format: the rewards follow what the chat's parser found."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers import DETECT
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.chat.parsing import parse_turn
from actfer_env.data import load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.rewards import UCGRPO, FacialR1Reward, UCGRPOConfig
from actfer_env.rewards.other_papers import is_think_answer
from actfer_env.rewards.quality import broken_turns, measure_quality
from actfer_env.rollout import Rollout

ANSWER = '<answer>{"emotion": "fear", "aus": []}</answer>'


@pytest.fixture(scope="module")
def sample():
    return load_dataset("synthetic", split="test", n=1)[0]


def play(sample, *texts: str, chat: ChatConfig | None = None, config: EpisodeConfig | None = None) -> Rollout:
    episode = ChatEpisode(sample, chat_tools(), chat, config)
    for text in texts:
        episode.step(text)
    if not episode.done:
        episode.stop("failed")
    return episode.rollout()


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (f"<think>I might write <answer> later</think>{ANSWER}", 0.0),
        (f"<think>then </answer>, or <tool_call>?</think>{DETECT}", 0.0),
        (f"<think>fear</think>{ANSWER}", 0.0),
        (DETECT, 0.0),
        ("<tool_call>not json</tool_call>", 1.0),
        ('<tool_call>["detect_align"]</tool_call>', 1.0),
        ("", 1.0),
        ("<think>I am not sure</think>", 1.0),
        (f"<think>open {ANSWER}", 1.0),
        ('<tool_call>{"name": "detect_align", "arguments": {}}', 1.0),
    ],
)
def test_the_format_of_a_turn_is_what_the_parser_says(sample, text, errors):
    rollout = play(sample, text)
    assert measure_quality(rollout.texts, broken=broken_turns(rollout)).format_errors == errors
    assert UCGRPO().score([rollout]).quality[0] == pytest.approx(-0.1 * errors)
    bare = replace(rollout, meta={})  # such as from another front end: judged by the text alone
    assert broken_turns(bare) is None
    assert UCGRPO().score([bare]).quality[0] == pytest.approx(-0.1 * errors)


def test_broken_turns_count_by_their_share(sample):
    rollout = play(sample, "<tool_call>x</tool_call>", f"<think>a</think>{DETECT}", ANSWER)
    assert broken_turns(rollout) == {0}
    assert UCGRPO().score([rollout]).quality[0] == pytest.approx(-0.1 / 3)
    lines = UCGRPO().explain([rollout], UCGRPO().score([rollout]), 0)
    assert any("33% of turns with format errors" in line for line in lines)


def test_repairs_of_json_are_free_and_a_cut_turn_is_no_format_error(sample):
    episode = ChatEpisode(sample, chat_tools())
    episode.step("<tool_call>{'name': 'detect_align', 'arguments': {}}</tool_call>")
    episode.note_cut()
    episode.step(ANSWER)
    rollout = episode.rollout()
    assert [sorted(entry) for entry in rollout.meta["chat"]] == [["cut", "mended", "turn"]]
    assert broken_turns(rollout) == frozenset()


def test_records_of_other_shapes_are_judged_by_their_text(sample):
    good = play(sample, ANSWER)
    for kept in (None, "chat", [1], {"turn": 0}):
        assert broken_turns(replace(good, meta={"chat": kept})) is None
    assert broken_turns(replace(good, meta={"chat": [{"turn": 7, "problem": "empty"}]})) == frozenset()
    old = Rollout.from_dict(json.loads(json.dumps(good.to_dict())))
    assert broken_turns(old) == frozenset()


PIECES = st.sampled_from([
    "<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "happiness", " ", "\n", "(AU12)", "fear",
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=9).map("".join))
def test_a_thought_and_an_answer_are_the_same_to_the_strict_parser(text):
    turn = parse_turn(text, ChatConfig(preset="facial_r1", parsing="strict"))
    read = turn.problem is None and turn.thinking is not None and "<answer>" in text.partition("</think>")[2]
    assert is_think_answer(text) is read


WRITTEN = st.sampled_from([
    "<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", ANSWER, DETECT, "fear", "not json",
    '{"name": "zoom_in"}', "<think>I might write <answer> later</think>", "{'emotion': 'fear'}", " ",
])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(WRITTEN, max_size=4).map("".join), min_size=1, max_size=3), st.sampled_from(["strict", "lenient"])
)
def test_a_turn_that_the_parser_could_not_read_is_a_format_error_and_no_other_is(texts, parsing):
    """Whatever is written: the reward reads what the parser found while the turn was played, in either mode."""
    face, chat = load_dataset("synthetic", split="test", n=1)[0], ChatConfig(parsing=parsing)
    episode, broken = ChatEpisode(face, chat_tools(), chat), set()
    for number, text in enumerate(texts):
        turn = episode.step(text).parsed
        if turn.problem or any(call.problem for call in turn.calls) or "closed_tag" in turn.notes:
            broken.add(number)
        if episode.done:
            break
    if not episode.done:
        episode.stop("failed")
    rollout = Rollout.from_dict(json.loads(json.dumps(episode.rollout().to_dict())))
    assert broken_turns(rollout) == broken
    share = len(broken) / len(rollout.texts)
    assert measure_quality(rollout.texts, broken=broken_turns(rollout)).format_errors == share


# --- Facial-R1, from end to end -----------------------------------------------------------------------------

FACIAL = ChatConfig(preset="facial_r1")


@pytest.mark.parametrize("label", ["happiness", "bliss"])
def test_facial_r1_of_a_conversation_by_hand(sample, label):
    face = replace(sample, emotion="happiness", aus={6, 12})
    rollout = play(
        face, f"<think>The cheeks rise (AU6), lips part (AU25).</think><answer>{label}</answer>", chat=FACIAL
    )
    scores = FacialR1Reward().score([rollout])
    # one of two units named, one of two right: F1 1/2
    expected = {"accuracy": float(label == "happiness"), "au": 0.5, "format": 1.0}
    assert {name: values[0] for name, values in scores.parts.items()} == expected


def test_a_number_that_is_no_unit_spoils_no_answer(sample):
    face = replace(sample, emotion="happiness", aus={12})
    rollout = play(face, "<think>Corners rise (AU12, AU99).</think><answer>happiness</answer>", chat=FACIAL)
    assert rollout.predicted_aus == {12} and rollout.correct


def test_facial_r1_defines_its_thirty_units_in_the_prompt(sample):
    episode = ChatEpisode(sample, chat_tools(), FACIAL)
    said = episode.messages[0]["content"][0]["text"]
    assert said.count("- AU") == 30
    assert "- AU12 Lip Corner Puller: the lip corners go up and out\n" in said and "- AU43 Eyes Closed" in said
    assert "AU45" not in said


def test_no_answer_earns_no_au_reward(sample):
    face = replace(sample, emotion="happiness", aus=frozenset())
    rollout = play(face, "<think>Nothing moves.</think>", chat=FACIAL)
    assert FacialR1Reward().score([rollout]).total[0] == 0.0
    assert UCGRPOConfig().quality_format == 0.1
