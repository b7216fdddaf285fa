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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actfer_env.boxes import Box
from actfer_env.chat.config import ChatConfig
from actfer_env.chat.dialects import (
    foreign_calls,
    is_emotion,
    json_values,
    literal,
    said_emotion,
    stated_emotion,
    without_marks,
)
from actfer_env.chat.messages import native_calls
from actfer_env.errors import short
from actfer_env.tools.base import DEFAULT_TOOLS, Toolkit, ToolSpec, toolkit

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
"""Why a turn could not be read; all are the violation `parse_error`."""

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
"""What "lenient" mends."""

_TAG = re.compile(r"<(/?)(think|tool_call|answer)>")
_CLOSERS = ("}", "]}", "}}", "]}}", "]]}", "]]}}")
_DEPTH_LIMIT = 16
"""Brackets within brackets; a documented turn has four. Without it deep JSON would exhaust the stack further on."""
_NO_UNITS = ("none", "n/a", "[]")
_AU = re.compile(r"AU\s?\d{1,2}", re.IGNORECASE)
_AU_GROUP = re.compile(r"\(([^()]{1,120})\)")
_BBOX = re.compile(r"<bbox>\s*\[([^\[\]<>]{1,80})\]\s*</bbox>")
_BOX_KEYS = ("bbox_2d", "bbox", "box", "bounding_box")
_ALIASES = {
    "region": "regions",
    "box": "boxes",
    "bbox": "boxes",
    "bbox_2d": "boxes",
    "bboxes": "boxes",
    "frame": "image",
}


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
        arguments: a mapping, or whatever the policy passed instead.
        id: Id of a native call.
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
    """Contents of a turn.

    Attributes:
        thinking: the reasoning, or None.
        calls: Calls, in order.
        answer: or None.
        problem: Reason why the turn as a whole could not be read, or None; calls and answer are empty then.
        notes: keys of `NOTES`, each once, in order.
        boxes: boxes of the reasoning as shares of the picture, for presets with a canvas.
    """

    thinking: str | None = None
    calls: tuple[ParsedCall, ...] = ()
    answer: ParsedAnswer | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()


class _ProblemError(Exception):
    def __init__(self, kind: str, detail: str = "") -> None:
        self.problem = Problem(kind, PROBLEMS[kind] + (f": {detail}" if detail else ""))
        super().__init__(kind)


def parse_turn(
    text: str | None,
    config: ChatConfig | None = None,
    tool_calls: Sequence[Mapping[str, Any]] | None = None,
    tools: Sequence[ToolSpec] = DEFAULT_TOOLS,
) -> ParsedTurn:
    """Read an assistant's turn.

    Args:
        text: the whole turn, with an opening ``<think>`` that a chat template may have written; may be empty or None
            where native calls are given.
        config: preset and mode of parsing.
        tool_calls: native calls in OpenAI's format, ``{"id", "function": {"name", "arguments"}}``.
        tools: those that may be called; "lenient" gives their arguments the names and types of their schemas.

    Returns:
        The calls and the answer, or the problem. It never raises on what a policy wrote.
    """
    return _Parser(config or ChatConfig(), toolkit(tools)).parse(text or "", native_calls(tool_calls))


class _Parser:
    """One turn's parsing; collects the notes."""

    def __init__(self, config: ChatConfig, tools: Toolkit) -> None:
        self.tools = tools
        self.config, self.lenient = config, config.parsing == "lenient"
        self.notes: list[str] = []

    def parse(self, text: str, native: Sequence[Mapping[str, Any]]) -> ParsedTurn:
        thinking: str | None = None
        try:
            self._check_length(text, native)
            thinking, rest = self._split_thinking(text)
            turn = self._with_tools(rest, native) if self.config.form.tools else self._label(thinking or "", rest)
        except _ProblemError as error:
            turn = ParsedTurn(problem=error.problem)
        return replace(turn, thinking=thinking, notes=tuple(dict.fromkeys(self.notes)))

    def mend(self, note: str, problem: str, detail: str = "") -> None:
        """Note a repair, or refuse the turn where parsing is strict."""
        if not self.lenient:
            raise _ProblemError(problem, detail)
        self.notes.append(note)

    def _check_length(self, text: str, native: Sequence[Any]) -> None:
        most = self.config.max_characters
        written = len(text) + sum(len(part) for call in native for part in call["function"].values())
        if written > most:
            raise _ProblemError("too_long", f"{written} characters, at most {most} are read")
        if not text.strip() and not native:
            raise _ProblemError("empty")

    def _split_thinking(self, text: str) -> tuple[str | None, str]:
        """Return the reasoning and the rest of the turn."""
        thinking, rest = self._head_thinking(text)
        return thinking, rest if thinking is None else self._without_thinking(rest)

    def _without_thinking(self, rest: str) -> str:
        """Cut further blocks of reasoning out."""
        pieces, last = [], 0
        while (start := rest.find("<think>", last)) >= 0 and (end := rest.find("</think>", start)) >= 0:
            pieces.append(rest[last:start])
            last = end + 8
        if pieces:
            self.mend("late_thinking", "stray_text", "<think> belongs at the head of the turn, once")
        return "".join([*pieces, rest[last:]])

    def _head_thinking(self, text: str) -> tuple[str | None, str]:
        start, end = text.find("<think>"), text.find("</think>")
        if start < 0 and end < 0:
            return None, text
        if start < 0 or 0 <= end < start:
            self.mend("closed_tag", "unclosed_tag", "</think> without <think>")
            return text[:end].strip(), text[end + 8 :]
        if end < 0:
            self.mend("closed_tag", "unclosed_tag", "<think> is not closed")
            action = next((m.start() for m in _TAG.finditer(text, start + 7) if m[2] != "think"), len(text))
            return text[start + 7 : action].strip(), text[:start] + text[action:]
        if text[:start].strip():
            self.mend("late_thinking", "stray_text", "<think> belongs at the head of the turn")
        return text[start + 7 : end].strip(), text[:start] + text[end + 8 :]

    def _with_tools(self, rest: str, native: Sequence[Mapping[str, Any]]) -> ParsedTurn:
        blocks = self._blocks(rest)
        calls = [call for kind, body in blocks if kind == "tool_call" for call in self._calls(body)]
        calls += [self._native(call) for call in native]
        answers = [body for kind, body in blocks if kind == "answer"]
        if not calls and not answers:
            return self._bare(rest)
        if calls and answers:
            self.mend("answer_set_aside", "call_and_answer")
            return ParsedTurn(calls=tuple(calls))
        return ParsedTurn(calls=tuple(calls)) if calls else ParsedTurn(answer=self._json_answer(self._one(answers)))

    def _one(self, answers: list[str]) -> str:
        if len(answers) > 1:
            self.mend("last_answer", "several_answers")
        return answers[-1]

    def _blocks(self, rest: str) -> list[tuple[str, str]]:
        """Return the (tag, body) blocks of a turn without its reasoning."""
        blocks: list[tuple[str, str]] = []
        opened: re.Match[str] | None = None
        last = 0
        for tag in _TAG.finditer(rest):
            if opened is None:
                self._stray(rest[last : tag.start()])
                opened = self._opening(tag)
            elif tag[1] and tag[2] == opened[2]:
                blocks.append((opened[2], rest[opened.end() : tag.start()]))
                opened = None
            else:
                self.mend("closed_tag", "unclosed_tag", f"<{opened[2]}> is not closed")
                blocks.append((opened[2], rest[opened.end() : tag.start()]))
                opened = self._opening(tag)
            last = tag.end()
        if opened is not None:
            self.mend("closed_tag", "unclosed_tag", f"<{opened[2]}> is not closed")
            blocks.append((opened[2], rest[opened.end() :]))
        elif blocks:
            self._stray(rest[last:])
        return [block for block in blocks if block[0] != "think"]

    def _opening(self, tag: re.Match[str]) -> re.Match[str] | None:
        if not tag[1]:
            return tag
        self.mend("closed_tag", "unclosed_tag", f"</{tag[2]}> without <{tag[2]}>")
        return None

    def _stray(self, text: str) -> None:
        if text.strip():
            self.mend("stray_text", "stray_text", repr(text.strip()[:40]))

    def _bare(self, rest: str) -> ParsedTurn:
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
            raise _ProblemError("no_action", how)
        self.mend("bare_json" if body is rest else "foreign_call", "no_action", how)
        if body is not rest or body.lstrip().startswith(("[", "{", "```")):
            calls = self._several(body)
            if calls:
                return ParsedTurn(calls=tuple(calls))
        value = self._object(body[body.index("{") :])
        if "emotion" in value:
            return ParsedTurn(answer=self._answer_of(value))
        return ParsedTurn(calls=(self._call_of(value),))

    def _calls(self, body: str) -> list[ParsedCall]:
        """Read what stands in one tag: one call as a rule."""
        if not self.lenient or not body.strip():
            return [self._call(body)]
        found = foreign_calls(body)
        if found:
            self.notes.append("foreign_call")
            return [self._read_call(value) for value in found]
        return self._several(body) or [self._call(body)]

    def _several(self, body: str) -> list[ParsedCall]:
        """Read several calls one behind the other, or in a list; empty where there are not several."""
        values = json_values(body, self._decoder())
        calls = [value for value in values if isinstance(value, dict) and ("name" in value or "function" in value)]
        if not calls or (len(calls) == 1 and not body.lstrip("` \n\t" + string.ascii_letters).startswith("[")):
            return []
        self.notes.append("several_calls")
        return [self._read_call(value) for value in calls]

    def _read_call(self, value: dict[str, Any]) -> ParsedCall:
        try:
            if _is_deep(value):
                raise _ProblemError("too_deep", f"more than {_DEPTH_LIMIT} levels")
            return self._call_of(value)
        except _ProblemError as error:
            return ParsedCall("", json.dumps(value, default=str)[:200], problem=error.problem)

    def _call(self, body: str) -> ParsedCall:
        try:
            return self._call_of(self._object(body))
        except _ProblemError as error:
            return ParsedCall("", body.strip()[:200], problem=error.problem)

    def _native(self, call: Mapping[str, Any]) -> ParsedCall:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        try:
            return replace(self._call_of({"name": name, "arguments": self._object(arguments)}), id=call.get("id"))
        except _ProblemError as error:
            return ParsedCall(name, arguments[:200], call.get("id"), error.problem)

    def _call_of(self, value: dict[str, Any]) -> ParsedCall:
        function = value.get("function")
        if self.lenient and "name" not in value and isinstance(function, dict | str):
            self.notes.append("renamed")
            value = function if isinstance(function, dict) else {"name": function, **_without(value, "function")}
        if not isinstance(value.get("name"), str) or not value["name"].strip():
            raise _ProblemError("missing_name", 'write {"name": ..., "arguments": {...}}')
        extra = [key for key in value if key not in ("name", "arguments")]
        arguments = value.get("arguments", {})
        if "arguments" not in value and "parameters" in value:
            self.mend("renamed", "bad_json", "write 'arguments' for 'parameters'")
            arguments = value["parameters"]
        elif extra and not self.lenient:
            raise _ProblemError("bad_json", f"unknown key {short(extra[0])} beside name and arguments")
        if isinstance(arguments, str) and self.lenient and "{" in arguments:
            self.notes.append("nested_json")
            arguments = self._object(arguments)
        return self._mended(value["name"], {} if arguments is None else arguments)

    def _mended(self, name: str, arguments: Any) -> ParsedCall:
        """Give tool and arguments their documented names and types, where lenient."""
        plain = name.strip().lower().replace("-", "_").replace(" ", "_")
        if self.lenient and name not in self.tools and plain in self.tools:
            self.notes.append("renamed")
            name = plain
        if self.lenient and name in self.tools and isinstance(arguments, Mapping):
            arguments = self._mended_arguments(dict(arguments), self.tools.parameters[name].get("properties", {}))
        return ParsedCall(name, arguments)

    def _mended_arguments(self, arguments: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
        """Give arguments the names and types that a tool's schema has for them."""
        mended: dict[str, Any] = {}
        aliases = {key: name for key, name in _ALIASES.items() if name in properties}
        boxed = any(aliases.get(key.lower(), key) == "boxes" for key in arguments) and "boxes" in properties
        if "label" in arguments and "label" not in properties and boxed:
            self.notes.append("label")
            arguments = _without(arguments, "label")
        for key, value in arguments.items():
            known = key if key in properties else aliases.get(key.lower(), key)
            if known in mended:
                return arguments
            mended[known] = _as_typed(value, properties.get(known, {}))
            if known != key:
                self.notes.append("renamed")
            if mended[known] != value:
                self.notes.append("coerced")
        return mended

    def _json_answer(self, body: str) -> ParsedAnswer:
        if "{" not in body and self.lenient:
            return self._plain_answer(body)
        return self._answer_of(self._object(body))

    def _answer_of(self, value: dict[str, Any]) -> ParsedAnswer:
        if "emotion" not in value:
            raise _ProblemError("bad_answer", 'write {"emotion": ..., "aus": [...]}')
        emotion, aus = value["emotion"], value.get("aus", value.get("AUs"))
        if not isinstance(aus, list | str | None):
            raise _ProblemError("bad_answer", 'write "aus" as a list: ["AU1", ...]')
        if self.lenient and isinstance(emotion, str) and not is_emotion(emotion):
            said = said_emotion(emotion)
            if said is not None:
                self.notes.append("plain_answer")
                emotion = said
        documented = set(value) == {"emotion", "aus"} and isinstance(emotion, str) and isinstance(aus, list)
        if not documented:
            self.mend("coerced", "bad_answer", 'write {"emotion": "...", "aus": ["AU1", ...]}')
        empty = isinstance(aus, str) and aus.strip().lower() in _NO_UNITS
        return ParsedAnswer(emotion, [] if empty else aus)

    def _plain_answer(self, body: str) -> ParsedAnswer:
        """Read an answer in words, such as "The emotion is happiness (AU6, AU12)."; nothing is guessed."""
        self.notes.append("plain_answer")
        units = _AU.findall(body)
        emotion = said_emotion(body) or body.strip().strip(".!\"'*` ").split("\n")[0]
        return ParsedAnswer(emotion[:80], units or None)

    def _label(self, thinking: str, rest: str) -> ParsedTurn:
        """Read a passive baseline's turn: reasoning, then one word."""
        answers = [body for kind, body in self._blocks(rest) if kind == "answer"]
        if not answers:
            answers = [self._last_line(rest)]
        label = self._one(answers).strip().strip(".!\"'*` ")
        if self.lenient and not is_emotion(label):
            said = said_emotion(label)
            if said is not None:
                self.notes.append("plain_answer")
                label = said
        form = self.config.form
        units = _units(thinking) if form.aus == "reasoning" else None
        return ParsedTurn(answer=ParsedAnswer(label[:80], units), boxes=_boxes(thinking, form.canvas))

    def _last_line(self, rest: str) -> str:
        """Return the emotion that the last line of an answer without tags names."""
        said = said_emotion((rest.strip().splitlines() or [""])[-1])
        if said is None:
            raise _ProblemError("no_action", "write <answer>...</answer>")
        self.mend("plain_answer", "no_action", "write <answer>...</answer>")
        return said

    def _object(self, body: str) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            _ProblemError: it is none.
        """
        try:
            value = self._json(body.strip())
        except RecursionError:
            raise _ProblemError("too_deep") from None
        if not isinstance(value, dict):
            raise _ProblemError("not_an_object", short(value, 40))
        if _is_deep(value):
            raise _ProblemError("too_deep", f"more than {_DEPTH_LIMIT} levels")
        return value

    def _json(self, body: str) -> Any:
        try:
            return self._loads(body)
        except ValueError as error:
            if not self.lenient:
                raise _ProblemError("bad_json", _first_line(error)) from None
            return self._mended_json(body, error)

    def _mended_json(self, body: str, error: ValueError) -> Any:
        if body.startswith("```"):
            self.notes.append("fence")
            inner = body[3:].lstrip(string.ascii_letters).strip().removesuffix("```").rstrip()
            return self._json(inner) if "```" not in inner else self._scanned(inner, error)
        return self._scanned(body, error)

    def _scanned(self, body: str, error: ValueError) -> Any:
        """Try, in turn: the object at the start, a Python literal, and closing what is open."""
        start = body.find("{")
        if start < 0:
            raise _ProblemError("bad_json", _first_line(error))
        body = body[start:]
        try:
            value, _ = self._decoder().raw_decode(body)
            self.notes.append("trailing_text")
            return value
        except ValueError:
            return self._patched(body, error)

    def _patched(self, body: str, error: ValueError) -> Any:
        for closer in _CLOSERS:
            try:
                value = self._loads(body + closer)
                self.notes.append("closed_json")
                return value
            except ValueError:
                continue
        value = literal(body)
        if value is None:
            raise _ProblemError("bad_json", _first_line(error))
        self.notes.append("python_literal")
        return value

    def _loads(self, body: str) -> Any:
        return json.loads(body, object_pairs_hook=self._pairs, parse_constant=self._constant)

    def _decoder(self) -> json.JSONDecoder:
        return json.JSONDecoder(object_pairs_hook=self._pairs, parse_constant=self._constant)

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            self.mend("repeated_key", "repeated_key")
        return value

    def _constant(self, name: str) -> float:
        if not self.lenient:
            raise ValueError(f"{name} is no JSON")
        return float(name)


def _is_deep(value: Any) -> bool:
    """Whether lists and mappings stand in each other beyond the limit; level by level, so that it cannot overflow."""
    level = [value]
    for _ in range(_DEPTH_LIMIT):
        level = [part for held in level for part in _parts(held)]
    return any(isinstance(held, dict | list) for held in level)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _without(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != key}


def _as_typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value as its schema has it, where it can mean one thing only: names, boxes, and a number in a text."""
    kind, items = schema.get("type"), schema.get("items", {}).get("type")
    if kind == "array":
        return _as_regions(value) if items == "string" else _as_list(value) if items == "array" else value
    if kind not in ("number", "integer") or not isinstance(value, str):
        return value
    number = _number(value)
    if number is None or not math.isfinite(number):
        return value
    return int(number) if kind == "integer" and number.is_integer() else number


def _as_regions(value: Any) -> Any:
    """Return one region, or several in one text, as a list."""
    listed = isinstance(value, str) and "," in value and not value.lstrip().startswith(("[", "("))
    return [part.strip() for part in value.split(",") if part.strip()] if listed else _as_list(value)


def _as_list(value: Any) -> Any:
    """Return one region or box as a list of one, and numbers or lists written as strings as what they are."""
    if isinstance(value, str):
        numbers = re.findall(r"-?\d+(?:\.\d+)?", value) if value[:1] in "[(" and "{" not in value else []
        if len(numbers) == 4:
            return [[float(number) for number in numbers]]
        value = _read(value.strip()) or [value]
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and len(value) == 4 and all(_number(item) is not None for item in value):
        value = [value]
    if isinstance(value, list):
        return [_as_box(item) for item in value]
    return value


def _read(text: str) -> Any:
    """Return a list or mapping that stands in a text, as JSON or as a Python literal; None where there is none."""
    if text[:1] not in ("[", "{", "("):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = literal(text)
    return value if isinstance(value, list | dict) and not _is_deep(value) else None


def _as_box(item: Any) -> Any:
    """Return the four numbers of a box that is written as an object, such as with a label beside them, or as text."""
    item = (_read(item.strip()) or item) if isinstance(item, str) else item
    if isinstance(item, dict):
        named = next((item[key] for key in _BOX_KEYS if isinstance(item.get(key), list)), None)
        corners = [item.get(key) for key in ("x1", "y1", "x2", "y2")]
        return _as_box(named) if named is not None else item if None in corners else _as_box(corners)
    if not isinstance(item, list) or not any(isinstance(part, str) for part in item):
        return item
    numbers = [_number(part) for part in item]
    return item if None in numbers else numbers


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _units(thinking: str) -> list[str]:
    return [unit for group in _AU_GROUP.findall(thinking) for unit in _AU.findall(group)]


def _boxes(thinking: str, canvas: int) -> tuple[Box, ...]:
    if not canvas:
        return ()
    rows = [[_number(part.strip()) for part in body.split(",")] for body in _BBOX.findall(thinking)]
    found = [row for row in rows if len(row) == 4 and None not in row]
    return tuple(Box(*row).shares((canvas, canvas)) for row in found)  # type: ignore[arg-type]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["not JSON"])[0][:120]
