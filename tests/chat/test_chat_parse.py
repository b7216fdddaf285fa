"""What a turn says: strict and lenient parsing."""

from __future__ import annotations

import json

import pytest
from helpers import ANSWER, ROOT, ZOOM
from hypothesis import given, settings
from hypothesis import strategies as st

from actfer_env.chat import NOTES, PROBLEMS, ChatConfig, parse_turn

STRICT = ChatConfig(parsing="strict")


@pytest.mark.parametrize("config", [STRICT, ChatConfig()])
def test_documented_turns_are_read_without_notes(config: ChatConfig) -> None:
    call = parse_turn(f"<think>hm</think>\n{ZOOM}", config)
    assert (call.thinking, call.notes, call.problem, call.answer) == ("hm", (), None, None)
    assert [(c.name, c.arguments) for c in call.calls] == [("zoom_in", {"regions": ["nose"]})]
    answer = parse_turn(ANSWER, config)
    assert answer.answer is not None
    assert (answer.answer.emotion, answer.answer.aus, answer.notes) == ("fear", ["AU1", "AU2"], ())


def test_several_calls_keep_their_order() -> None:
    turn = parse_turn('<tool_call>{"name": "detect_align", "arguments": {}}</tool_call>' + ZOOM, STRICT)
    assert [call.name for call in turn.calls] == ["detect_align", "zoom_in"]


def test_reasoning_is_never_read_as_an_action() -> None:
    turn = parse_turn(f"<think>maybe {ZOOM} or {ANSWER}</think>{ANSWER}", STRICT)
    assert turn.calls == () and turn.answer is not None and turn.problem is None


def _rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")
    table = text.split("<!-- malformed -->")[1]
    cells = [line.strip()[3:-3].split("` | `") for line in table.strip().splitlines()[2:]]
    return [(row[0], row[1], row[2]) for row in cells]


def outcome(turn_text: str, config: ChatConfig) -> str:
    """Say in the documentation's words what a turn becomes."""
    turn = parse_turn(turn_text.replace("⏎", "\n"), config)
    if turn.problem is not None:
        return turn.problem.kind
    said = [c.problem.kind if c.problem else f"{c.name} {json.dumps(c.arguments)}" for c in turn.calls]
    if turn.answer is not None:
        said = [f"answer {turn.answer.emotion} {json.dumps(turn.answer.aus)}"]
    notes = f" ({', '.join(turn.notes)})" if turn.notes else ""
    return "; ".join(said) + notes


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0][:40])
def test_the_documented_table_is_true(row: tuple[str, str, str]) -> None:
    text, strict, lenient = row
    assert (outcome(text, STRICT), outcome(text, ChatConfig())) == (strict, lenient)


def test_the_table_has_thirty_rows() -> None:
    assert len(_rows()) >= 30


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", "empty"), ("  \n", "empty"), ("x" * 40_000, "too_long"), ("hello", "no_action"),
     ('<tool_call>{"a":' * 1 + "[" * 20_000, "no_action")],
)  # fmt: skip
def test_hopeless_turns_have_a_name(text: str, kind: str) -> None:
    turn = parse_turn(text)
    assert turn.problem is not None or turn.calls[0].problem is not None
    if turn.problem is not None:
        assert turn.problem.kind == kind


def test_deep_nesting_and_huge_numbers_are_named() -> None:
    for body in ("[" * 30_000, '{"a":' * 6_000, "9" * 20_000, '{"name": ' + "9" * 10_000 + "}"):
        turn = parse_turn(f"<tool_call>{body}</tool_call>", ChatConfig(max_characters=100_000))
        (call,) = turn.calls
        assert call.problem is not None and call.problem.kind in PROBLEMS


def test_native_calls_enter_through_the_same_parser() -> None:
    native = [{"id": "c1", "type": "function", "function": {"name": "zoom_in", "arguments": '{"regions": ["nose"]}'}}]
    (call,) = parse_turn("", ChatConfig(calls="native"), native).calls
    assert (call.name, call.arguments, call.id, call.problem) == ("zoom_in", {"regions": ["nose"]}, "c1", None)
    broken = [{"id": "c2", "function": {"name": "zoom_in", "arguments": '{"regions": '}}]
    (call,) = parse_turn("", STRICT, broken).calls
    assert call.problem is not None and call.problem.kind == "bad_json" and call.id == "c2"


def test_facial_r1_reads_units_in_parentheses() -> None:
    text = "<think>The corners rise (AU12) and the cheeks too (AU6, AU25).</think><answer>Happiness</answer>"
    turn = parse_turn(text, ChatConfig(preset="facial_r1", parsing="strict"))
    assert turn.answer is not None
    assert (turn.answer.emotion, turn.answer.aus) == ("Happiness", ["AU12", "AU6", "AU25"])


def test_tag_reads_boxes_as_shares_of_the_canvas() -> None:
    text = "<think>wrinkles <bbox>[128, 0, 256, 512]</bbox> and <bbox>[a, 1]</bbox></think><answer>disgust</answer>"
    turn = parse_turn(text, ChatConfig(preset="tag"))
    assert turn.boxes == ((0.25, 0.0, 0.5, 1.0),)


def test_ferbench_does_not_search_the_reasoning() -> None:
    turn = parse_turn("<think>no surprise here</think><answer>happy</answer>", ChatConfig(preset="ferbench"))
    assert turn.answer is not None and turn.answer.emotion == "happy"


PIECES = st.sampled_from([
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "{", "}", "[", "]", '"', ":", ",",
    '"name"', '"arguments"', '"zoom_in"', "detect_align", '"regions"', '"boxes"', '"nose"', '"emotion"', '"aus"', "```",
    "```json", "NaN", "1e999", "-1", "'", "\\", "null", "\u0000", "ü", "happiness", " ", "\n", "AU12", "<", ">",
    ZOOM, ANSWER,
])  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(
    st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=200)), st.sampled_from(["strict", "lenient"])
)
def test_parsing_never_raises_and_names_everything(text: str, parsing: str) -> None:
    for preset in ("actfer", "tag"):
        turn = parse_turn(text, ChatConfig(preset=preset, parsing=parsing))  # type: ignore[arg-type]
        assert set(turn.notes) <= set(NOTES)
        assert turn.problem is None or turn.problem.kind in PROBLEMS
        assert (turn.problem is not None) + bool(turn.calls) + (turn.answer is not None) == 1
        if parsing == "strict":
            assert turn.notes == ()
