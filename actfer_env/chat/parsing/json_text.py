"""JSON as models write it: fenced, cut, with text behind it, or as a Python literal."""

from __future__ import annotations

import json
import string
from typing import Any

from actfer_env.chat.parsing.dialects import literal
from actfer_env.chat.parsing.parsed import ProblemError, Repairs
from actfer_env.errors import short

_CLOSERS = ("}", "]}", "}}", "]}}", "]]}", "]]}}")
DEPTH_LIMIT = 16
"""Brackets within brackets; a documented turn has four. Without it deep JSON would exhaust the stack further on."""


def read_object(body: str, repairs: Repairs) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ProblemError: It is none, or nested too deeply.
    """
    try:
        value = _read_value(body.strip(), repairs)
    except RecursionError:
        raise ProblemError("too_deep") from None
    if not isinstance(value, dict):
        raise ProblemError("not_an_object", short(value, 40))
    check_depth(value)
    return value


def _read_value(body: str, repairs: Repairs) -> Any:
    """Try, in turn: the text, what a fence holds, the object at the start, closing what is open, a Python literal."""
    hooks = json_hooks(repairs)
    try:
        return json.loads(body, **hooks)
    except ValueError as error:
        why = _first_line(error)
        if not repairs.lenient:
            raise ProblemError("bad_json", why) from None
    if body.startswith("```"):
        repairs.notes.append("fence")
        body = body[3:].lstrip(string.ascii_letters).strip().removesuffix("```").rstrip()
        if "```" not in body:
            try:
                return json.loads(body, **hooks)
            except ValueError as error:
                why = _first_line(error)
    start = body.find("{")
    if start < 0:
        raise ProblemError("bad_json", why)
    body = body[start:]
    try:
        value, _ = json.JSONDecoder(**hooks).raw_decode(body)
        repairs.notes.append("trailing_text")
        return value
    except ValueError:
        pass
    for closer in _CLOSERS:
        try:
            value = json.loads(body + closer, **hooks)
            repairs.notes.append("closed_json")
            return value
        except ValueError:
            continue
    value = literal(body)
    if value is None:
        raise ProblemError("bad_json", why)
    repairs.notes.append("python_literal")
    return value


def _first_line(error: ValueError) -> str:
    return (str(error).splitlines() or ["not JSON"])[0][:120]


def json_hooks(repairs: Repairs) -> dict[str, Any]:
    """Return the arguments of `json` that note repeated keys, and refuse NaN and infinities where parsing is strict."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) < len(items):
            repairs.mend("repeated_key", "repeated_key")
        return value

    def constant(name: str) -> float:
        if not repairs.lenient:
            raise ValueError(f"{name} is no JSON")
        return float(name)

    return {"object_pairs_hook": pairs, "parse_constant": constant}


def check_depth(value: Any) -> None:
    """Check that a value is not nested too deeply.

    Raises:
        ProblemError: It is.
    """
    if is_deep(value):
        raise ProblemError("too_deep", f"more than {DEPTH_LIMIT} levels")


def is_deep(value: Any) -> bool:
    """Return whether lists and mappings stand in each other beyond `DEPTH_LIMIT`.

    It goes level by level, so that it cannot overflow the stack.
    """
    level = [value]
    for _ in range(DEPTH_LIMIT):
        inner: list[Any] = []
        for held in level:
            if isinstance(held, dict):
                inner += held.values()
            elif isinstance(held, list):
                inner += held
        level = inner
    return any(isinstance(held, dict | list) for held in level)
