"""Calls and answers in other models' notations: read by lenient parsing with a note, refused by strict parsing."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from actfer_env.chat import NOTES, ChatConfig, ChatEpisode, chat_tools, parse_turn
from actfer_env.data import load_dataset

STRICT = ChatConfig(parsing="strict")
NOSE = [("zoom_in", {"regions": ["nose"]})]
TWO = [("detect_align", {}), *NOSE]
OBJECT = '{"name": "zoom_in", "arguments": {"regions": ["nose"]}}'
DETECT = '{"name": "detect_align", "arguments": {}}'

CALLS: dict[str, tuple[str, list[tuple[str, Any]], str]] = {
    "qwen": ('<tool_call>\n<function=zoom_in>\n<parameter=regions>\n["nose"]\n</parameter>\n</function>\n</tool_call>',
             NOSE, "foreign_call"),
    "qwen, python list": ("<tool_call><function=zoom_in><parameter=regions>['nose']</parameter></function></tool_call>",
                          NOSE, "coerced"),
    "qwen, bare word": ("<tool_call><function=zoom_in><parameter=regions>\nnose\n</parameter></function></tool_call>",
                        NOSE, "coerced"),
    "qwen, cut": ('<tool_call>\n<function=zoom_in>\n<parameter=regions>\n["nose"]\n', NOSE, "closed_tag"),
    "qwen, no tag": ('<function=zoom_in>\n<parameter=regions>\n["nose"]\n</parameter>\n</function>', NOSE,
                     "foreign_call"),
    "qwen, closing tag alone": ('<function=zoom_in><parameter=regions>["nose"]</parameter></function></tool_call>',
                                NOSE, "foreign_call"),
    "qwen, no arguments": ("<tool_call><function=detect_align>\n</function></tool_call>", TWO[:1], "foreign_call"),
    "qwen, two": ('<tool_call><function=detect_align></function><function=zoom_in><parameter=regions>["nose"]'
                  "</parameter></function></tool_call>", TWO, "foreign_call"),
    "qwen, boxes": ("<tool_call><function=zoom_in><parameter=boxes>[[1, 2, 300, 400]]</parameter><parameter=image>"
                    "original</parameter></function></tool_call>",
                    [("zoom_in", {"boxes": [[1, 2, 300, 400]], "image": "original"})], "foreign_call"),
    "llama": ('<function=zoom_in>{"regions": ["nose"]}</function>', NOSE, "foreign_call"),
    "llama, tag": ('<|python_tag|>{"name": "zoom_in", "parameters": {"regions": ["nose"]}}', NOSE, "foreign_call"),
    "invoke": ('<invoke name="zoom_in"><parameter name="regions">["nose"]</parameter></invoke>', NOSE, "foreign_call"),
    "glm": ('<tool_call>zoom_in\n<arg_key>regions</arg_key>\n<arg_value>["nose"]</arg_value>\n</tool_call>', NOSE,
            "foreign_call"),
    "mistral, list": (f"[TOOL_CALLS] [{DETECT}, {OBJECT}]", TWO, "foreign_call"),
    "mistral": ('[TOOL_CALLS]zoom_in[ARGS]{"regions": ["nose"]}', NOSE, "foreign_call"),
    "mistral, two": ('[TOOL_CALLS]detect_align{}[TOOL_CALLS]zoom_in{"regions": ["nose"]}', TWO, "foreign_call"),
    "a list in one tag": (f"<tool_call>[{DETECT}, {OBJECT}]</tool_call>", TWO, "several_calls"),
    "a list of one": (f"<tool_call>[{OBJECT}]</tool_call>", NOSE, "several_calls"),
    "lines in one tag": (f"<tool_call>\n{DETECT}\n{OBJECT}\n</tool_call>", TWO, "several_calls"),
    "commas in one tag": (f"<tool_call>{DETECT}, {OBJECT}</tool_call>", TWO, "several_calls"),
    "a fence in one tag": (f"<tool_call>```json\n[{DETECT}, {OBJECT}]\n```</tool_call>", TWO, "several_calls"),
    "a fence alone": (f"```json\n{OBJECT}\n```", NOSE, "bare_json"),
    "a bare list": (f"[{DETECT}, {OBJECT}]", TWO, "several_calls"),
    "openai's shape": ('<tool_call>{"type": "function", "function": {"name": "zoom_in", "arguments": '
                       '"{\\"regions\\": [\\"nose\\"]}"}}</tool_call>', NOSE, "renamed"),
    "a label beside a box": ('<tool_call>{"name": "zoom_in", "arguments": {"boxes": [{"bbox_2d": [1, 2, 300, 400], '
                             '"label": "mouth"}]}}</tool_call>', [("zoom_in", {"boxes": [[1, 2, 300, 400]]})],
                             "coerced"),
    "a labelled box in no list": ('<tool_call>{"name": "zoom_in", "arguments": {"boxes": {"bbox_2d": [1, 2, 300, 400], '
                                  '"label": "mouth"}}}</tool_call>', [("zoom_in", {"boxes": [[1, 2, 300, 400]]})],
                                  "coerced"),
    "a label among the arguments": ('<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [1, 2, 300, 400], '
                                    '"label": "mouth"}}</tool_call>', [("zoom_in", {"boxes": [[1, 2, 300, 400]]})],
                                    "label"),
    "corners by name": ('<tool_call>{"name": "zoom_in", "arguments": {"boxes": [{"x1": 1, "y1": 2, "x2": 300, '
                        '"y2": 400}]}}</tool_call>', [("zoom_in", {"boxes": [[1, 2, 300, 400]]})], "coerced"),
    "boxes in a text": ('<tool_call>{"name": "zoom_in", "arguments": {"boxes": "[[1, 2, 3, 400], [5, 6, 7, 800]]"}}'
                        "</tool_call>", [("zoom_in", {"boxes": [[1, 2, 3, 400], [5, 6, 7, 800]]})], "coerced"),
    "regions with commas": ('<tool_call>{"name": "zoom_in", "arguments": {"regions": "nose, mouth-chin"}}</tool_call>',
                            [("zoom_in", {"regions": ["nose", "mouth-chin"]})], "coerced"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_another_notation_is_read_with_a_note(name: str) -> None:
    text, calls, note = CALLS[name]
    turn = parse_turn(text)
    assert [(call.name, call.arguments) for call in turn.calls] == calls
    assert note in turn.notes and set(turn.notes) <= set(NOTES)


DOCUMENTED = {"a label beside a box", "a labelled box in no list", "a label among the arguments", "corners by name",
              "boxes in a text", "regions with commas"}  # fmt: skip
"""Calls of the documented form: strict parsing reads them, and the episode refuses their arguments."""


@pytest.mark.parametrize("name", [name for name in CALLS if name not in DOCUMENTED])
def test_strict_parsing_refuses_other_notations(name: str) -> None:
    turn = parse_turn(CALLS[name][0], STRICT)
    assert turn.problem is not None or [call.problem is not None for call in turn.calls] == [True]
    assert turn.notes == ()


def test_arguments_of_a_wrong_form_stay_a_violation_in_strict_episodes() -> None:
    sample = load_dataset("synthetic", split="test", n=1)[0]
    for name in ("a label beside a box", "a label among the arguments"):
        episode = ChatEpisode(sample, chat_tools(), STRICT)
        episode.step(f"<tool_call>{DETECT}</tool_call>")
        assert episode.step(CALLS[name][0]).violations in (("bad_arguments",), ("illegal_order",))


@pytest.mark.parametrize("text", [
    "<tool_call>[1, 2]</tool_call>", '<tool_call>["detect_align"]</tool_call>', "<tool_call>[]</tool_call>",
    "<tool_call><function=></function></tool_call>", "<tool_call><function=zoom_in</tool_call>", "[TOOL_CALLS]",
    "[TOOL_CALLS]zoom_in[ARGS]{", "<|python_tag|>", "<tool_call><arg_key>a</arg_key></tool_call>",
])  # fmt: skip
def test_what_is_no_call_in_any_notation_is_refused_by_name(text: str) -> None:
    turn = parse_turn(text)
    assert turn.problem is not None or all(call.problem is not None for call in turn.calls)


@pytest.mark.parametrize("label", [
    "Happiness.", "**Happiness**", "The emotion is happiness.", "Emotion: **happy**!", "happiness\n", "`Happiness`",
    "The face shows joy (happiness).", "```\nhappiness\n```", "I would say happy",
])  # fmt: skip
@pytest.mark.parametrize("form", ["<answer>%s</answer>", "json"])
def test_one_emotion_in_words_is_the_answer(label: str, form: str) -> None:
    text = f"<answer>{json.dumps({'emotion': label, 'aus': []})}</answer>" if form == "json" else form % label
    episode = ChatEpisode(load_dataset("synthetic", split="test", n=1)[0], chat_tools())
    assert episode.step(text).done and episode.rollout().predicted_emotion == "happiness"


@pytest.mark.parametrize("label", [
    "not happiness", "It isn't happiness.", "no happiness", "happiness or sadness", "Happiness, not sadness",
    "neither happy nor sad", "anything but happiness", "rather sad than happy", "It is unlikely to be happiness",
    "happiness is absent", "x" * 300 + " " + "y" * 300 + " happiness", "amused",
])  # fmt: skip
@pytest.mark.parametrize("form", ["<answer>%s</answer>", "json", "label"])
def test_an_emotion_is_not_guessed(label: str, form: str) -> None:
    sample = load_dataset("synthetic", split="test", n=1)[0]
    text = f"<answer>{json.dumps({'emotion': label, 'aus': []})}</answer>" if form == "json" else form % label \
        if "%" in form else label  # fmt: skip
    episode = ChatEpisode(sample, chat_tools(), ChatConfig(preset="ferbench" if form == "label" else "actfer"))
    step = episode.step(text)
    assert step.violations and episode.episode.predicted_emotion is None


@pytest.mark.parametrize("text", ["Happiness.", "**Happiness**", "Answer: happiness", "The emotion is happiness."])
def test_a_turn_of_nothing_but_the_emotion_is_an_answer(text: str) -> None:
    turn = parse_turn(text)
    assert turn.answer is not None and turn.answer.emotion.lower() == "happiness" and turn.notes == ("plain_answer",)
    assert parse_turn(text, STRICT).problem is not None
    assert parse_turn("The face looks happy, I zoom next.").problem is not None


@pytest.mark.parametrize(("text", "label"), [
    ("Happiness", "Happiness"), ("It could be sadness.\nFinal answer: **Happiness**", "Happiness"),
    ("<answer>The emotion is happiness.</answer>", "happiness"),
])  # fmt: skip
def test_passive_presets_read_labels_in_words(text: str, label: str) -> None:
    turn = parse_turn(f"<think>.</think>{text}", ChatConfig(preset="ferbench"))
    assert turn.answer is not None and turn.answer.emotion == label


def test_units_beside_an_emotion_in_words_are_kept() -> None:
    turn = parse_turn("<answer>The emotion is happiness (AU6, AU12).</answer>")
    assert turn.answer is not None and (turn.answer.emotion, turn.answer.aus) == ("happiness", ["AU6", "AU12"])


HOSTILE = {
    "functions": "<function=a>", "spaces": "<function=a" + " " * 20, "parameters": "<function=a><parameter=b>",
    "open": "<parameter=", "invoke": "<invoke name=", "keys": "<arg_key>a</arg_key> <arg_value>",
    "marks": "[TOOL_CALLS]a{", "marks and quotes": '[TOOL_CALLS]a{"', "objects": '{"name": "a"}',
    "lists": '[{"name": "a"},', "words": "happiness is ", "tags": "<|python_tag|>{", "n't": "isn", "stars": "*",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("head", ["", "<tool_call>", "<answer>"])
def test_time_stays_linear_in_the_length(name: str, head: str) -> None:
    config = ChatConfig(max_characters=10**6)

    def best(size: int) -> float:
        text, times = head + HOSTILE[name] * (size // len(HOSTILE[name])), []
        for _ in range(3):
            start = time.process_time()
            parse_turn(text, config)
            times.append(time.process_time() - start)
        return min(times)

    # Sixteen times the length: linear time grows sixteenfold, quadratic time 256-fold.
    assert best(64_000) < 80 * max(best(4_000), 1e-4)
