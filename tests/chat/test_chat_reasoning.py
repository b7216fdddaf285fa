"""Reasoning that a server has cut out of a turn: it belongs to the turn, and is sent back only where it is wanted."""

from __future__ import annotations

from types import SimpleNamespace as Names
from typing import Any

import pytest
from endpoint_server import answering
from helpers import DETECT

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools, parse_turn, to_openai, to_transformers
from actfer_env.chat.turns import with_reasoning
from actfer_env.data import Dataset, load_dataset
from actfer_env.evaluation import EvalConfig, evaluate

openai = pytest.importorskip("openai", reason="needs openai: pip install 'actfer-env[api]'")
httpx = pytest.importorskip("httpx")

WORDS = "The corners rise (AU12), the cheeks too (AU6), see <bbox>[128, 0, 256, 512]</bbox>."
ANSWER = '<answer>{"emotion": "fear", "aus": ["AU1"]}</answer>'


@pytest.fixture(scope="module")
def samples() -> Dataset:
    return load_dataset("synthetic", split="test", n=2)


def said(content: Any, finish: str = "stop", **extra: Any) -> Any:
    message = Names(content=content, tool_calls=None, refusal=None, **extra)
    return Names(choices=[Names(message=message, finish_reason=finish)], usage=None)


PLACES: dict[str, dict[str, Any]] = {
    "reasoning_content": {"reasoning_content": WORDS},
    "reasoning": {"reasoning": WORDS},
    "both say the same": {"reasoning": WORDS, "reasoning_content": WORDS},
    "details": {"reasoning_details": [{"type": "reasoning.text", "text": WORDS}]},
    "summaries": {"reasoning_details": [{"type": "reasoning.summary", "summary": WORDS},
                                        {"type": "reasoning.encrypted", "data": "x"}]},
    "thinking blocks": {"thinking_blocks": [{"type": "thinking", "thinking": WORDS, "signature": "s"}]},
}  # fmt: skip
PARTS = {
    "a part": [{"type": "thinking", "thinking": WORDS}],
    "nested parts": [{"type": "thinking", "thinking": [{"type": "text", "text": WORDS}]}],
    "a part with a text": [{"type": "reasoning", "text": WORDS}],
}


def replies() -> dict[str, Any]:
    found = {name: said("\n\nHappiness", **extra) for name, extra in PLACES.items()}
    return found | {name: said([*parts, {"type": "text", "text": "Happiness"}]) for name, parts in PARTS.items()}


@pytest.mark.parametrize("name", [*PLACES, *PARTS])
def test_reasoning_is_read_wherever_a_server_puts_it(name: str, samples: Dataset) -> None:
    run = evaluate(
        answering(lambda _: replies()[name]), samples, EvalConfig(chat=ChatConfig(preset="facial_r1"), number=1)
    )
    (rollout,) = run.rollouts
    assert rollout.predicted_aus == {6, 12} and rollout.predicted_emotion == "happiness"
    assert rollout.texts[0].startswith(f"<think>{WORDS}</think>") and rollout.texts[0].count(WORDS) == 1
    run = evaluate(answering(lambda _: replies()[name]), samples, EvalConfig(chat=ChatConfig(preset="tag"), number=1))
    assert run.rollouts[0].meta["evidence_boxes"] == [[0.25, 0.0, 0.5, 1.0]]


def test_a_turn_of_reasoning_alone_leaves_something_to_look_at(samples: Dataset) -> None:
    run = evaluate(answering(lambda _: said(None, "length", reasoning_content=WORDS)), samples, EvalConfig(number=1))
    assert WORDS in run.rollouts[0].texts[0] and run.rollouts[0].meta["cut_turns"] == run.rollouts[0].turns


def test_kept_answers_keep_their_reasoning(samples: Dataset, tmp_path: Any) -> None:
    config = EvalConfig(chat=ChatConfig(preset="facial_r1"), number=1)
    first = evaluate(answering(lambda _: said("Happiness", reasoning=WORDS), cache=str(tmp_path)), samples, config)

    def silent(_: Any) -> Any:
        raise AssertionError("asked again")

    again = evaluate(answering(silent, cache=str(tmp_path)), samples, config)
    assert again.rollouts[0].texts == first.rollouts[0].texts and again.rollouts[0].predicted_aus == {6, 12}


def test_the_history_holds_no_reasoning_unless_it_is_wanted(samples: Dataset) -> None:
    asked: list[list[dict[str, Any]]] = []

    def reply(sent: dict[str, Any]) -> Any:
        asked.append(sent["messages"])
        return said(DETECT if len(asked) == 1 else ANSWER, reasoning_content="A face.")

    run = evaluate(answering(reply), samples, EvalConfig(number=1))
    (turn,) = [message for message in asked[1] if message["role"] == "assistant"]
    assert turn == {"role": "assistant", "content": DETECT}
    assert run.rollouts[0].texts == (f"<think>A face.</think>{DETECT}", f"<think>A face.</think>{ANSWER}")


@pytest.mark.parametrize("words", [
    "The `reasoning_content` in the thinking mode must be passed back to the API.",
    "Missing `reasoning_content` field in the assistant message at message index 2.",
])  # fmt: skip
def test_a_server_that_wants_its_reasoning_back_gets_it(words: str, samples: Dataset) -> None:
    def reply(sent: dict[str, Any]) -> Any:
        turns = [message for message in sent["messages"] if message["role"] == "assistant"]
        if turns and not all(message.get("reasoning_content") == "A face." for message in turns):
            response = httpx.Response(400, request=httpx.Request("POST", "http://localhost/v1"))
            raise openai.BadRequestError(words, response=response, body={"message": words})
        return said(ANSWER if turns else DETECT, reasoning_content="A face.")

    run = evaluate(answering(reply), samples, EvalConfig())
    assert [rollout.meta["outcome"] for rollout in run.rollouts] == ["answered", "answered"] and run.failures == ()


@pytest.mark.parametrize(("text", "reasoning", "whole"), [
    ("a", None, "a"), ("a", "  ", "a"), ("a", "r", "<think>r</think>a"), ("", "r", "<think>r</think>"),
    ("<think>own</think>a", "r", "<think>r\nown</think>a"), ("own</think>a", "r", "<think>r\nown</think>a"),
    (ANSWER, "I write </think><answer> then", f"<think>I write < /think><answer> then</think>{ANSWER}"),
])  # fmt: skip
def test_the_whole_turn_has_one_block_of_reasoning(text: str, reasoning: str | None, whole: str) -> None:
    assert with_reasoning(text, reasoning) == whole
    assert parse_turn(whole).calls == ()


def test_a_strict_turn_with_reasoning_beside_it_is_a_documented_turn(samples: Dataset) -> None:
    episode = ChatEpisode(samples[0], chat_tools(), ChatConfig(parsing="strict"))
    step = episode.step(ANSWER, reasoning="A face.")
    assert step.parsed.thinking == "A face." and step.parsed.notes == () and step.done


@pytest.mark.parametrize("text", ["", None, "\n\n"])
def test_calls_without_words_send_no_text(text: str | None, samples: Dataset) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "detect_align", "arguments": "{}"}}]
    episode = ChatEpisode(samples[0], chat_tools(), ChatConfig(calls="native"))
    episode.step(text, calls, reasoning="A face.")
    for wanted in (False, True):
        sent = to_openai(episode.messages, episode.images, reasoning=wanted)
        (turn,) = [message for message in sent if message["role"] == "assistant"]
        assert turn["content"] is None and len(turn["tool_calls"]) == 1
        assert turn.get("reasoning_content") == ("A face." if wanted else None)
    to_transformers(episode.messages, episode.images)


def test_a_turn_of_nothing_is_not_sent_back(samples: Dataset) -> None:
    episode = ChatEpisode(samples[0], chat_tools())
    episode.step("", reasoning="Hm.")
    sent = to_openai(episode.messages, episode.images)
    assert [message["role"] for message in sent] == ["system", "user"]
    assert "Legal now" in sent[-1]["content"][-1]["text"]
