"""Notations of calls and answers that models write though another was asked for. All times are linear in the length.

| notation | of |
|---|---|
| ``<function=NAME><parameter=KEY>VALUE</parameter></function>`` | Qwen3-Coder, Qwen3.5; with JSON inside Llama 3 |
| ``<invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke>`` | Claude, MiniMax |
| ``NAME <arg_key>KEY</arg_key><arg_value>VALUE</arg_value>`` | GLM |
| ``[TOOL_CALLS][{...}, ...]``, ``[TOOL_CALLS]NAME[ARGS]{...}`` | Mistral |
| ``<|python_tag|>{...}`` | Llama 3 |
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from actfer_env.errors import LabelError
from actfer_env.facs import parse_emotion

_FUNCTION = re.compile(r"<(?:function|invoke)(?:=|\s+name=)[\"']?([\w.-]{1,80})[\"']?\s*>")
_FUNCTION_END = re.compile(r"</(?:function|invoke)>")
_PARAMETER = re.compile(r"<parameter(?:=|\s+name=)[\"']?([\w.-]{1,80})[\"']?\s*>")
_ARGUMENT = re.compile(r"<arg_key>([^<]{1,80})</arg_key>\s*<arg_value>")
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]{1,80})\s*(?:\[CALL_ID\]\s*\w{1,80}\s*)?(?:\[ARGS\])?\s*(?=\{)")
_MARKS = ("[TOOL_CALLS]", "<|python_tag|>")
_LITERAL_LIMIT = 4096
_BETWEEN = re.compile(r"[\s,;]*")

_PUNCTUATION = ".!\"'*`_# \n\t"
_PLAIN_LIMIT = 400
"""Characters of an answer in plain words; in a longer text the one emotion named may not be the answer."""
_NEGATION = re.compile(
    r"\b(?:no|not|non|never|neither|nor|without|cannot|unlike|unlikely|than|instead|but|hardly|barely|lack\w*|absen\w*"
    r"|exclud\w*|far from|ruled? out|rules out|fail\w*|(?:is|are|do|does|was|ca|wo|did)n['’]?t)\b",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:the )?(?:final )?(?:answer|emotion|expression|label)?(?: shown)?(?: is|:| :|=)? ?([a-z]+)", re.IGNORECASE
)


def foreign_calls(text: str) -> list[dict[str, Any]]:
    """Return the calls of a text in another model's notation as ``{"name", "arguments"}``; often none."""
    calls: list[dict[str, Any]] = []

    # <function=NAME> or <invoke name="NAME">; each ends at its closing tag or where the next begins.
    opened = list(_FUNCTION.finditer(text))
    for number, tag in enumerate(opened):
        body = text[tag.end() : opened[number + 1].start() if number + 1 < len(opened) else len(text)]
        end = _FUNCTION_END.search(body)
        body = body[: end.start()] if end else body
        found = _keyed(body, list(_PARAMETER.finditer(body)), "</parameter>")
        calls.append({"name": tag[1], "arguments": found or body.strip() or {}})
    if calls:
        return calls

    # NAME <arg_key>KEY</arg_key><arg_value>VALUE</arg_value>
    keys = list(_ARGUMENT.finditer(text))
    name = text[: keys[0].start()].strip() if keys else ""
    if re.fullmatch(r"[\w.-]{1,80}", name):
        return [{"name": name, "arguments": _keyed(text, keys, "</arg_value>")}]

    # [TOOL_CALLS]NAME[ARGS]{...}; what stands inside the arguments of one is no other.
    last = 0
    for mark in _MISTRAL.finditer(text):
        if mark.start() < last:
            continue
        try:
            arguments, last = json.JSONDecoder().raw_decode(text, mark.end())
        except (ValueError, RecursionError):
            break
        calls.append({"name": mark[1], "arguments": arguments})
    return calls


def without_marks(text: str) -> str:
    """Return what follows the mark that Mistral or Llama sets before its calls; the whole text where there is none."""
    for mark in _MARKS:
        _, found, rest = text.partition(mark)
        if found:
            return rest
    return text


def json_values(text: str, decoder: json.JSONDecoder) -> list[Any]:
    """Return the JSON objects of a text that stand one behind the other, those of one list included.

    Only a fence may stand before them; what cannot be read, and all behind it, is left out.
    """
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    place = min(starts, default=-1)
    if place < 0 or text[:place].strip().rstrip("abcdefghijklmnopqrstuvwxyz_") not in ("", "```"):
        return []
    values: list[Any] = []
    while place < len(text) and text[place] in "{[":
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        values += value if isinstance(value, list) else [value]
        between = _BETWEEN.match(text, place)
        place = between.end() if between else place
    return values


def _keyed(body: str, keys: list[re.Match[str]], end: str) -> dict[str, Any]:
    """Return the arguments whose keys were found in a body; a value ends at its tag or at the next key."""
    found = {}
    for number, key in enumerate(keys):
        value = body[key.end() : keys[number + 1].start() if number + 1 < len(keys) else len(body)]
        found[key[1].strip()] = _value(value.partition(end)[0].strip())
    return found


def _value(text: str) -> Any:
    """Return a value as JSON, or as the text that it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def literal(text: str) -> Any:
    """Return what a Python literal, such as a dict with single quotes, means as JSON; None if it is none."""
    if len(text) > _LITERAL_LIMIT:
        return None
    try:
        return json.loads(json.dumps(ast.literal_eval(text)))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def is_emotion(word: Any) -> bool:
    """Return whether a word is one of the eight emotions in a known spelling."""
    try:
        parse_emotion(word)
    except LabelError:
        return False
    return True


def said_emotion(text: str) -> str | None:
    """Return the one emotion that an answer in plain words names, such as "The emotion is **happiness**.".

    None where it names none or several, where it denies one, and where it is long: nothing is guessed.
    """
    bare = text.strip(_PUNCTUATION)
    if is_emotion(bare):
        return bare
    if len(text) > _PLAIN_LIMIT or _NEGATION.search(text):
        return None
    words = [word for word in re.findall(r"[A-Za-z]+", text) if word.lower() != "none" and is_emotion(word)]
    return words[-1] if len({parse_emotion(word) for word in words}) == 1 else None


def stated_emotion(text: str) -> str | None:
    """Return the emotion of a text that says nothing else, such as "Happiness." or "Answer: happiness"."""
    bare = " ".join(re.sub(r"[*_`#\"'.!]", " ", text[: _PLAIN_LIMIT + 1]).split())
    found = _STATED.fullmatch(bare)
    return found[1] if found and found[1].lower() != "none" and is_emotion(found[1]) else None
