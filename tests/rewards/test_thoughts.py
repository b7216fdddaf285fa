"""The strict format, and who enters the contrast: numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from helpers import DETECT, answered
from hypothesis import given
from hypothesis import strategies as st

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools, parse_turn
from actfer_env.data import load_dataset
from actfer_env.rewards import FORMATS, UCGRPO, UCGRPOConfig
from actfer_env.rewards.guards import idle_terms
from actfer_env.rewards.structure import structure_reward
from actfer_env.rewards.thoughts import thought_of, thought_share
from actfer_env.rollout import Rollout, ToolCall

STRICT = UCGRPOConfig.variant("full", **FORMATS["strict"])
THOUGHT = "<think>The lip corners go up.</think>"
RIGHT = '<answer>{"emotion": "happiness", "aus": []}</answer>'
ZOOM = (ToolCall("detect_align"), ToolCall("zoom_in"))
LOOK = (ToolCall("detect_align"),)


def spoken(*texts: str, mended: int = 0) -> Rollout:
    """A right answer after these turns, the last of which needed some repairs."""
    log = [{"turn": len(texts) - 1, "mended": ["stray_text"] * mended}] if mended else []
    return answered(texts=texts, turns=len(texts), detection="ok", meta={"chat": log})


@pytest.mark.parametrize(
    ("rollout", "lenient", "strict"),
    [
        (spoken(f"{THOUGHT}{DETECT}", f"{THOUGHT}{RIGHT}"), 0.05, 0.05),
        (spoken(DETECT, f"{THOUGHT}{RIGHT}"), 0.05, -0.1),
        (spoken(DETECT, f"<think> \n</think>{RIGHT}"), 0.05, -0.2),
        (spoken(f"{THOUGHT}{DETECT}", f"{THOUGHT}{RIGHT}", mended=2), 0.05, -0.1),
        (spoken(DETECT, RIGHT, mended=1), 0.05, -0.25),
        (spoken(*[DETECT] * 5, RIGHT), 0.05, -0.5),  # 6 x -0.1, not below the floor
        (answered(detection="ok"), 0.05, 0.05),  # a policy that does not write
    ],
)
def test_the_strict_format_charges_for_missing_thoughts_and_repairs(
    rollout: Rollout, lenient: float, strict: float
) -> None:
    assert structure_reward(rollout, UCGRPOConfig()) == pytest.approx(lenient)
    assert structure_reward(rollout, STRICT) == pytest.approx(strict)


def test_sections_are_asked_for_on_request_alone() -> None:
    asked = UCGRPOConfig.variant("full", structure_section=-0.1)
    headed = f"<think>Global Analysis: a smile (AU12).</think>{RIGHT}"
    assert structure_reward(spoken(DETECT, headed), asked) == pytest.approx(0.05)
    assert structure_reward(spoken(DETECT, f"{THOUGHT}{RIGHT}"), asked) == pytest.approx(-0.1)
    assert structure_reward(spoken(DETECT, f"{THOUGHT}{RIGHT}"), STRICT) == pytest.approx(-0.1)  # the bare first turn


def test_a_played_conversation_without_thoughts_is_clean_when_lenient_and_pays_when_strict() -> None:
    """Three turns: a thought-less call with stray text, a Python literal for JSON, one word as the answer."""
    episode = ChatEpisode(load_dataset("synthetic", split="test", n=1)[0], chat_tools())
    for text in ("I look. " + DETECT, "<tool_call>{'name': 'zoom_in', 'arguments': {'regions': ['nose']}}</tool_call>",
                 "happiness"):  # fmt: skip
        episode.step(text)
    rollout = episode.rollout()
    assert rollout.violations == () and structure_reward(rollout, UCGRPOConfig()) == pytest.approx(0.05)
    # 3 x -0.1 for thoughts, 3 x -0.05 for repairs (stray text, Python literal, plain answer)
    assert structure_reward(rollout, STRICT) == pytest.approx(-0.45)
    (line,) = [one for one in UCGRPO(STRICT).explain([rollout], UCGRPO(STRICT).score([rollout]), 0) if "structure" in one]
    assert "3 x -0.10 for turns without a thought and 3 x -0.05 for repairs of the parser = -0.45" in line


@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<tool_call>", " a ", "b"]), max_size=9))
def test_a_thought_is_what_the_parser_takes_for_one(parts: list[str]) -> None:
    text = "".join(parts)
    found = parse_turn(text, ChatConfig()).thinking
    assert thought_of(text) == (found or "")


def test_the_share_of_turns_with_thoughts() -> None:
    assert thought_share([spoken(DETECT, f"{THOUGHT}{RIGHT}"), spoken(f"{THOUGHT}{RIGHT}")]) == pytest.approx(2 / 3)
    assert math.isnan(thought_share([answered()]))


def member(predicted: str | None, calls: tuple[ToolCall, ...] = LOOK, detection: str = "ok") -> Rollout:
    return Rollout("s", "g", "fear", None, predicted, None, calls, detection, truncated=predicted is None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "deltas"),
    [
        # a zoomed rollout that ran out of turns against a plain right answer: -0.2 - 1, or no contrast
        ([member(None, ZOOM), member("fear")], (-1.2, None, None, None)),
        # a zoomed right answer against a wrong one that never aligned: alignment's worth would be booked to zooming
        ([member("fear", ZOOM), member("anger", (), "not_called")], (1.2, 1.2, None, None)),
        # a refused zoom, then a wrong answer, against a zoomed right one
        ([member("fear", ZOOM), member("anger", (*LOOK, ToolCall("zoom_in", violation="bad_arguments")))],
         (1.2, 1.2, 1.2, None)),
        ([member("fear", ZOOM), member("anger"), member("fear", (), "failed")], (1.2, 1.2, 1.2, 1.2)),
    ],
)  # fmt: skip
def test_who_enters_the_contrast(group: list[Rollout], deltas: tuple[float | None, ...]) -> None:
    for members, delta in zip(("detected", "answered", "looked", "legal"), deltas, strict=True):
        found = UCGRPO(UCGRPOConfig(contrast_members=members)).score(group).delta["g"]  # type: ignore[arg-type]
        assert found == (None if delta is None else pytest.approx(delta)), members


def test_those_left_out_of_the_contrast_get_the_fallback() -> None:
    group = [member("fear", ZOOM), member("anger"), member(None, ZOOM)]
    # delta 1 - (-0.2) = 1.2 without the truncated one, ((1 - 0.2) / 2) + 0.2 = 0.6 with it
    scorer = UCGRPO(UCGRPOConfig(contrast_members="legal"))
    scores = scorer.score(group)
    assert scores.delta["g"] == pytest.approx(1.2) and scores.rules == ("agreed", "missed", "fallback")
    assert scores.utility[2] == pytest.approx(-0.1)
    assert UCGRPO().score(group).delta["g"] == pytest.approx(0.6)
    assert "left out of the contrast, whose members are 'legal'" in "\n".join(scorer.explain(group, scores, 2))


def test_a_reward_with_an_idle_term_says_so() -> None:
    without, empty = answered(aus=None), answered(aus=frozenset())
    assert "AU term of the reward is idle" in idle_terms([without, without], UCGRPOConfig())[0]
    assert idle_terms([without, empty], UCGRPOConfig()) == []  # an empty list is a target
    assert idle_terms([without], UCGRPOConfig.variant("emotion_only")) == []
