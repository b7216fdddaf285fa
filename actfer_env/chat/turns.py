"""Turns in the documented grammar: as a policy writes them, and put together from a server's parts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actfer_env import facs
from actfer_env.tools.base import usual_calls


def call_text(name: str, **arguments: Any) -> str:
    """Return the turn that calls one tool, such as ``call_text("zoom_in", regions=["nose"])``."""
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>{call}</tool_call>"


def calls_text(calls: Iterable[Mapping[str, Any]]) -> str:
    """Return native calls in OpenAI's format as they would stand in a turn."""
    return "".join(f"<tool_call>{json.dumps(call['function'])}</tool_call>" for call in calls)


def look_texts(regions: Sequence[str] = ()) -> list[str]:
    """Return the turns of ActFER's trajectory up to the answer: align the face, then magnify regions one by one."""
    return [call_text(name, **arguments) for name, arguments in usual_calls(regions)]


def with_reasoning(text: str, reasoning: str | None) -> str:
    """Return the turn as the policy wrote it, where a server has cut its reasoning out and sent it beside.

    Args:
        text: Text that the server left; a ``<think>`` block of its own is joined with the reasoning.
        reasoning: Without tags; those that it quotes are spelled with a space, so that it stays one block.
    """
    if reasoning is None or not reasoning.strip():
        return text
    inside = reasoning.strip().replace("<think>", "< think>").replace("</think>", "< /think>")
    rest = text.lstrip()
    if rest.startswith("<think>"):
        return f"<think>{inside}\n{rest[len('<think>') :]}"
    end = rest.find("</think>")
    if end >= 0 and "<think>" not in rest[:end]:
        return f"<think>{inside}\n{rest}"
    return f"<think>{inside}</think>{text}"


def answer_text(emotion: str, aus: Iterable[int]) -> str:
    """Return the turn that answers; Action Units are written in ascending order, each once.

    Args:
        emotion: Label, one of `facs.EMOTIONS`.
        aus: Numbers of Action Units, such as 12.
    """
    units = [facs.format_au(au) for au in sorted(set(aus))]
    return f"<answer>{json.dumps({'emotion': emotion, 'aus': units})}</answer>"
