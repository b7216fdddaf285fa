"""Results of parsing a turn: calls, an answer, problems, and the names of repairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from actfer_env.boxes import Box

PROBLEMS: dict[str, str] = {
    "empty": "the turn is empty",
    "too_long": "the turn is too long",
    "no_action": "the turn holds neither a tool call nor an answer",
    "unclosed_tag": "a tag is not closed, or closed without being opened",
    "stray_text": "text stands outside the tags",
    "call_and_answer": "a call and an answer stand in one turn",
    "several_answers": "there is more than one answer",
    "bad_json": "the JSON cannot be read",
    "too_deep": "the JSON is nested too deeply",
    "not_an_object": "a JSON object was expected",
    "repeated_key": "a key is given twice",
    "missing_name": "the call has no name",
    "bad_answer": "the answer has not the documented form",
}
"""Reasons why a turn could not be read; all are the violation `parse_error`."""

NOTES: dict[str, str] = {
    "closed_tag": "a missing tag was added",
    "stray_text": "text outside the tags was ignored",
    "bare_json": "JSON without tags was taken as a call or an answer",
    "fence": "a code fence around JSON was removed",
    "trailing_text": "text after the JSON was ignored",
    "closed_json": "missing brackets at the end were added",
    "python_literal": "a Python literal was read as JSON",
    "repeated_key": "of a key that is given twice the last was taken",
    "nested_json": "arguments given as a string were read as JSON",
    "renamed": "a tool or an argument was given its documented name",
    "coerced": "an argument was given its documented type",
    "late_thinking": "reasoning elsewhere than at the head of the turn was set aside",
    "answer_set_aside": "an answer beside a call was set aside",
    "last_answer": "of several answers the last was taken",
    "plain_answer": "an answer in plain words was read",
    "foreign_call": "a call in another model's notation was read",
    "several_calls": "several calls in one tag were read one by one",
    "label": "the label beside a box was ignored",
}
"""Repairs that "lenient" makes."""


@dataclass(frozen=True)
class Problem:
    """Reason why a turn, or one call, could not be read: a key of `PROBLEMS`, and a message for the policy."""

    kind: str
    message: str


@dataclass(frozen=True)
class ParsedCall:
    """One call as the policy meant it.

    Attributes:
        name: Name of the tool, known or not.
        arguments: A mapping, or whatever the policy passed instead.
        id: Identity of a native call, or None.
        problem: Reason why it cannot be played, or None.
    """

    name: str
    arguments: Any = field(default_factory=dict)
    id: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class ParsedAnswer:
    """The answer as written: `emotion` in any spelling, `aus` a list, a string, or None if none were named."""

    emotion: Any
    aus: Any = None


@dataclass(frozen=True)
class ParsedTurn:
    """Content of a turn.

    Attributes:
        thinking: The reasoning, or None.
        calls: The calls, in order.
        answer: The answer, or None.
        problem: Reason why the turn as a whole could not be read, or None; calls and answer are empty then.
        notes: Keys of `NOTES`, each once, in order.
        boxes: Boxes of the reasoning as shares of the picture, for presets with a canvas.
    """

    thinking: str | None = None
    calls: tuple[ParsedCall, ...] = ()
    answer: ParsedAnswer | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()


class ProblemError(Exception):
    """Ends the parsing of a turn or of one call, with its `Problem`."""

    def __init__(self, kind: str, detail: str = "") -> None:
        self.problem = Problem(kind, PROBLEMS[kind] + (f": {detail}" if detail else ""))
        super().__init__(kind)


@dataclass
class Repairs:
    """Repairs of one turn: noted where parsing is lenient, refused where it is strict.

    Attributes:
        lenient: Whether repairs are allowed.
        notes: Keys of `NOTES` in order, also several times.
    """

    lenient: bool
    notes: list[str] = field(default_factory=list)

    def mend(self, note: str, problem: str, detail: str = "") -> None:
        """Note a repair.

        Raises:
            ProblemError: Parsing is strict.
        """
        if not self.lenient:
            raise ProblemError(problem, detail)
        self.notes.append(note)
