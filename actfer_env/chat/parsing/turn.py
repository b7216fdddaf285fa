"""From an assistant's turn to calls and an answer. Nothing here raises on any text, and time is linear in its length.

Grammar of a turn with tools, which "strict" insists on::

    turn   := [ "<think>" text "</think>" ] ( call+ | answer )
    call   := "<tool_call>" {"name": ..., "arguments": {...}} "</tool_call>"
    answer := "<answer>" {"emotion": ..., "aus": [...]} "</answer>"

"lenient" takes the same, and mends what can mean one thing only; each repair is noted by name (`NOTES`). Several calls
in one turn are played in order, each for one of the episode's turns. A call and an answer in one turn: "strict"
refuses the turn, "lenient" plays the calls and sets the answer aside, since it was written before their results.
What stands inside ``<think>`` is never read as a call or an answer; the first ``</think>`` ends it. Native calls pass
through the same rules, and their arguments count towards the turn's length.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actfer_env.boxes import Box
from actfer_env.chat.config import ChatConfig
from actfer_env.chat.messages import native_calls
from actfer_env.chat.parsing.dialects import (
    foreign_calls,
    is_emotion,
    json_values,
    said_emotion,
    stated_emotion,
    without_marks,
)
from actfer_env.chat.parsing.json_text import as_number, check_depth, documented_arguments, json_hooks, read_object
from actfer_env.chat.parsing.parsed import ParsedAnswer, ParsedCall, ParsedTurn, ProblemError, Repairs
from actfer_env.errors import short
from actfer_env.tools.base import DEFAULT_TOOLS, ToolSpec
from actfer_env.tools.toolkit import Toolkit, toolkit

_TAG = re.compile(r"<(/?)(think|tool_call|answer)>")
_NO_UNITS = ("none", "n/a", "[]")
_AU = re.compile(r"AU\s?\d{1,2}", re.IGNORECASE)
_AU_GROUP = re.compile(r"\(([^()]{1,120})\)")
_BBOX = re.compile(r"<bbox>\s*\[([^\[\]<>]{1,80})\]\s*</bbox>")
_QUOTES = ".!\"'*` "


def parse_turn(
    text: str | None,
    config: ChatConfig | None = None,
    tool_calls: Sequence[Mapping[str, Any]] | None = None,
    tools: Sequence[ToolSpec] | Toolkit = DEFAULT_TOOLS,
) -> ParsedTurn:
    """Read an assistant's turn.

    Args:
        text: The whole turn, with an opening ``<think>`` that a chat template may have written; may be empty or None
            where native calls are given.
        config: Preset and mode of parsing.
        tool_calls: Native calls in OpenAI's format, ``{"id", "function": {"name", "arguments"}}``.
        tools: Tools that may be called, or an episode's toolkit; "lenient" gives their arguments the names and types of
            their schemas.

    Returns:
        The calls and the answer, or the problem. It never raises on what a policy wrote.
    """
    text, config, native = text or "", config or ChatConfig(), native_calls(tool_calls)
    parser = _Parser(config, tools if isinstance(tools, Toolkit) else toolkit(tools))
    thinking: str | None = None
    try:
        written = len(text) + sum(len(part) for call in native for part in call["function"].values())
        if written > config.max_characters:
            raise ProblemError("too_long", f"{written} characters, at most {config.max_characters} are read")
        if not text.strip() and not native:
            raise ProblemError("empty")
        thinking, rest = parser.split_thinking(text)
        blocks = parser.blocks(rest)
        answers = [body for tag, body in blocks if tag == "answer"]
        if not config.preset_spec.tools:
            turn = parser.label(thinking or "", answers, rest)
        else:
            calls = [call for tag, body in blocks if tag == "tool_call" for call in parser.tagged_calls(body)]
            calls += [parser.native_call(call) for call in native]
            if calls and answers:
                parser.repairs.mend("answer_set_aside", "call_and_answer")
            if calls:
                turn = ParsedTurn(calls=tuple(calls))
            elif answers:
                turn = ParsedTurn(answer=parser.answer(parser.last(answers)))
            else:
                turn = parser.untagged(rest)
    except ProblemError as error:
        turn = ParsedTurn(problem=error.problem)
    return replace(turn, thinking=thinking, notes=tuple(dict.fromkeys(parser.repairs.notes)))


class _Parser:
    """The parts of one turn: reasoning, tags, calls, answers; what is mended goes to `repairs`."""

    def __init__(self, config: ChatConfig, tools: Toolkit) -> None:
        self.config, self.tools = config, tools
        self.repairs = Repairs(config.parsing == "lenient")
        self.mend, self.notes, self.lenient = self.repairs.mend, self.repairs.notes, self.repairs.lenient

    def split_thinking(self, text: str) -> tuple[str | None, str]:
        """Return the reasoning at the head, or None, and the rest of the turn without any."""
        start, end = text.find("<think>"), text.find("</think>")
        if start < 0 and end < 0:
            return None, text
        if start < 0 or 0 <= end < start:
            self.mend("closed_tag", "unclosed_tag", "</think> without <think>")
            thinking, rest = text[:end], text[end + 8 :]
        elif end < 0:
            self.mend("closed_tag", "unclosed_tag", "<think> is not closed")
            action = next((m.start() for m in _TAG.finditer(text, start + 7) if m[2] != "think"), len(text))
            thinking, rest = text[start + 7 : action], text[:start] + text[action:]
        else:
            if text[:start].strip():
                self.mend("late_thinking", "stray_text", "<think> belongs at the head of the turn")
            thinking, rest = text[start + 7 : end], text[:start] + text[end + 8 :]
        pieces, last = [], 0
        while (start := rest.find("<think>", last)) >= 0 and (end := rest.find("</think>", start)) >= 0:
            pieces.append(rest[last:start])
            last = end + 8
        if pieces:
            self.mend("late_thinking", "stray_text", "<think> belongs at the head of the turn, once")
        return thinking.strip(), "".join([*pieces, rest[last:]])

    def blocks(self, rest: str) -> list[tuple[str, str]]:
        """Return the (tag, body) blocks of a turn without its reasoning."""
        blocks: list[tuple[str, str]] = []
        opened: re.Match[str] | None = None
        last = 0
        for tag in _TAG.finditer(rest):
            closes = opened is not None and tag[1] and tag[2] == opened[2]
            if opened is None:
                self._stray(rest[last : tag.start()])
            else:
                if not closes:
                    self.mend("closed_tag", "unclosed_tag", f"<{opened[2]}> is not closed")
                blocks.append((opened[2], rest[opened.end() : tag.start()]))
            if tag[1] and not closes:
                self.mend("closed_tag", "unclosed_tag", f"</{tag[2]}> without <{tag[2]}>")
            opened, last = None if tag[1] else tag, tag.end()
        if opened is not None:
            self.mend("closed_tag", "unclosed_tag", f"<{opened[2]}> is not closed")
            blocks.append((opened[2], rest[opened.end() :]))
        elif blocks:
            self._stray(rest[last:])
        return [block for block in blocks if block[0] != "think"]

    def _stray(self, text: str) -> None:
        if text.strip():
            self.mend("stray_text", "stray_text", repr(text.strip()[:40]))

    def untagged(self, rest: str) -> ParsedTurn:
        """Read a turn without tags: a call in another notation, JSON that names a tool or an emotion, or one word."""
        how = "write <tool_call>...</tool_call> or <answer>...</answer>"
        emotion = stated_emotion(rest)
        if emotion is not None:
            self.mend("plain_answer", "no_action", how)
            return ParsedTurn(answer=ParsedAnswer(emotion))
        found = foreign_calls(rest)
        if found:
            self.mend("foreign_call", "no_action", how)
            return ParsedTurn(calls=tuple(map(self._read_call, found)))
        body = without_marks(rest)
        if "{" not in body:
            raise ProblemError("no_action", how)
        self.mend("bare_json" if body is rest else "foreign_call", "no_action", how)
        if body is not rest or body.lstrip().startswith(("[", "{", "```")):
            calls = self._several(body)
            if calls:
                return ParsedTurn(calls=tuple(calls))
        value = read_object(body[body.index("{") :], self.repairs)
        if "emotion" in value:
            return ParsedTurn(answer=self._answer_of(value))
        return ParsedTurn(calls=(self._call_of(value),))

    def tagged_calls(self, body: str) -> list[ParsedCall]:
        """Read what stands in one tag: one call as a rule; lenient also another notation, or several calls."""
        if self.lenient and body.strip():
            found = foreign_calls(body)
            if found:
                self.notes.append("foreign_call")
                return [self._read_call(value) for value in found]
            several = self._several(body)
            if several:
                return several
        try:
            return [self._call_of(read_object(body, self.repairs))]
        except ProblemError as error:
            return [ParsedCall("", body.strip()[:200], problem=error.problem)]

    def native_call(self, call: Mapping[str, Any]) -> ParsedCall:
        """Read a native call; its arguments are JSON in a text."""
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        try:
            read = self._call_of({"name": name, "arguments": read_object(arguments, self.repairs)})
            return replace(read, id=call.get("id"))
        except ProblemError as error:
            return ParsedCall(name, arguments[:200], call.get("id"), error.problem)

    def _several(self, body: str) -> list[ParsedCall]:
        """Read several calls one behind the other, or in a list; empty where there are not several."""
        values = json_values(body, json.JSONDecoder(**json_hooks(self.repairs)))
        calls = [value for value in values if isinstance(value, dict) and ("name" in value or "function" in value)]
        if not calls or (len(calls) == 1 and not body.lstrip("` \n\t" + string.ascii_letters).startswith("[")):
            return []
        self.notes.append("several_calls")
        return [self._read_call(value) for value in calls]

    def _read_call(self, value: dict[str, Any]) -> ParsedCall:
        """Read one of several calls; what is wrong with it spoils no other."""
        try:
            check_depth(value)
            return self._call_of(value)
        except ProblemError as error:
            return ParsedCall("", json.dumps(value, default=str)[:200], problem=error.problem)

    def _call_of(self, value: dict[str, Any]) -> ParsedCall:
        """Return the call of an object with "name" and "arguments", in their documented names and types if lenient."""
        function = value.get("function")
        if self.lenient and "name" not in value and isinstance(function, dict | str):
            self.notes.append("renamed")
            others = {key: item for key, item in value.items() if key != "function"}
            value = function if isinstance(function, dict) else {"name": function, **others}
        if not isinstance(value.get("name"), str) or not value["name"].strip():
            raise ProblemError("missing_name", 'write {"name": ..., "arguments": {...}}')
        extra = [key for key in value if key not in ("name", "arguments")]
        arguments = value.get("arguments", {})
        if "arguments" not in value and "parameters" in value:
            self.mend("renamed", "bad_json", "write 'arguments' for 'parameters'")
            arguments = value["parameters"]
        elif extra and not self.lenient:
            raise ProblemError("bad_json", f"unknown key {short(extra[0])} beside name and arguments")
        if isinstance(arguments, str) and self.lenient and "{" in arguments:
            self.notes.append("nested_json")
            arguments = read_object(arguments, self.repairs)
        name, arguments = value["name"], {} if arguments is None else arguments
        plain = name.strip().lower().replace("-", "_").replace(" ", "_")
        if self.lenient and name not in self.tools and plain in self.tools:
            self.notes.append("renamed")
            name = plain
        if self.lenient and name in self.tools and isinstance(arguments, Mapping):
            properties = self.tools.parameters[name].get("properties", {})
            arguments = documented_arguments(dict(arguments), properties, self.notes)
        return ParsedCall(name, arguments)

    def last(self, answers: list[str]) -> str:
        """Return the one answer; of several the last, where lenient."""
        if len(answers) > 1:
            self.mend("last_answer", "several_answers")
        return answers[-1]

    def answer(self, body: str) -> ParsedAnswer:
        """Read an answer in JSON, or in words such as "The emotion is happiness (AU6, AU12)."; nothing is guessed."""
        if "{" in body or not self.lenient:
            return self._answer_of(read_object(body, self.repairs))
        self.notes.append("plain_answer")
        emotion = said_emotion(body) or body.strip().strip(_QUOTES).split("\n")[0]
        return ParsedAnswer(emotion[:80], _AU.findall(body) or None)

    def _answer_of(self, value: dict[str, Any]) -> ParsedAnswer:
        if "emotion" not in value:
            raise ProblemError("bad_answer", 'write {"emotion": ..., "aus": [...]}')
        emotion, aus = value["emotion"], value.get("aus", value.get("AUs"))
        if not isinstance(aus, list | str | None):
            raise ProblemError("bad_answer", 'write "aus" as a list: ["AU1", ...]')
        if isinstance(emotion, str):
            emotion = self._known_emotion(emotion)
        documented = set(value) == {"emotion", "aus"} and isinstance(emotion, str) and isinstance(aus, list)
        if not documented:
            self.mend("coerced", "bad_answer", 'write {"emotion": "...", "aus": ["AU1", ...]}')
        empty = isinstance(aus, str) and aus.strip().lower() in _NO_UNITS
        return ParsedAnswer(emotion, [] if empty else aus)

    def _known_emotion(self, text: str) -> str:
        """Return the emotion that a text names where lenient, or else the text."""
        said = said_emotion(text) if self.lenient and not is_emotion(text) else None
        if said is None:
            return text
        self.notes.append("plain_answer")
        return said

    def label(self, thinking: str, answers: list[str], rest: str) -> ParsedTurn:
        """Read a passive baseline's turn: reasoning, then one word in its tag or on the last line."""
        if not answers:
            how = "write <answer>...</answer>"
            said = said_emotion((rest.strip().splitlines() or [""])[-1])
            if said is None:
                raise ProblemError("no_action", how)
            self.mend("plain_answer", "no_action", how)
            answers = [said]
        label = self._known_emotion(self.last(answers).strip().strip(_QUOTES))
        units: list[str] | None = None
        boxes: tuple[Box, ...] = ()
        if self.config.preset_spec.aus == "reasoning":
            units = [unit for group in _AU_GROUP.findall(thinking) for unit in _AU.findall(group)]
        if self.config.preset_spec.canvas:
            side = self.config.preset_spec.canvas  # boxes become shares of the picture
            rows = [[as_number(part.strip()) for part in body.split(",")] for body in _BBOX.findall(thinking)]
            found = [[value for value in row if value is not None and math.isfinite(value)] for row in rows]
            boxes = tuple(Box(*row).shares((side, side)) for row, given in zip(found, rows, strict=True)
                          if len(row) == len(given) == 4)  # fmt: skip
        return ParsedTurn(answer=ParsedAnswer(label[:80], units), boxes=boxes)
