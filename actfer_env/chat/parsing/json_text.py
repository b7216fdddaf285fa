"""JSON as models write it: fenced, cut, with text behind it, or as a Python literal; and the arguments in it.

Arguments get the names and types of the tool's schema, where they can mean one thing only.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping
from typing import Any

from actfer_env.chat.parsing.dialects import literal
from actfer_env.chat.parsing.parsed import ProblemError, Repairs
from actfer_env.errors import short

_ALIASES = {
    "region": "regions",
    "box": "boxes",
    "bbox": "boxes",
    "bbox_2d": "boxes",
    "bboxes": "boxes",
    "frame": "image",
}
_BOX_KEYS = ("bbox_2d", "bbox", "box", "bounding_box")

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


def documented_arguments(arguments: dict[str, Any], properties: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return arguments with the names and types that a tool's schema has for them.

    Args:
        arguments: Arguments as written.
        properties: "properties" of the tool's JSON schema.
        notes: List to which "label", "renamed" and "coerced" are added.
    """
    mended: dict[str, Any] = {}
    aliases = {key: name for key, name in _ALIASES.items() if name in properties}
    boxed = any(aliases.get(key.lower(), key) == "boxes" for key in arguments) and "boxes" in properties
    if "label" in arguments and "label" not in properties and boxed:
        notes.append("label")
        arguments = {key: value for key, value in arguments.items() if key != "label"}
    for key, value in arguments.items():
        known = key if key in properties else aliases.get(key.lower(), key)
        if known in mended:
            return arguments
        mended[known] = _as_typed(value, properties.get(known, {}))
        if known != key:
            notes.append("renamed")
        if mended[known] != value:
            notes.append("coerced")
    return mended


def _as_typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value as its schema has it: a list of names or boxes, or the number that a text holds."""
    kind, items = schema.get("type"), schema.get("items", {}).get("type")
    if kind == "array" and items == "string":
        if isinstance(value, str) and "," in value and not value.lstrip().startswith(("[", "(")):
            return [part.strip() for part in value.split(",") if part.strip()]
        return _as_list(value)
    if kind == "array":
        return _as_list(value) if items == "array" else value
    if kind not in ("number", "integer") or not isinstance(value, str):
        return value
    number = as_number(value)
    if number is None or not math.isfinite(number):
        return value
    return int(number) if kind == "integer" and number.is_integer() else number


def _as_list(value: Any) -> Any:
    """Return one region or box as a list of one, and numbers or lists written as strings as what they are."""
    if isinstance(value, str):
        numbers = re.findall(r"-?\d+(?:\.\d+)?", value) if value[:1] in "[(" and "{" not in value else []
        if len(numbers) == 4:
            return [[float(number) for number in numbers]]
        value = _read(value.strip()) or [value]
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and len(value) == 4 and all(as_number(item) is not None for item in value):
        value = [value]
    if isinstance(value, list):
        return [_as_box(item) for item in value]
    return value


def _as_box(item: Any) -> Any:
    """Return the four numbers of a box that is written as an object, such as with a label beside them, or as text."""
    item = (_read(item.strip()) or item) if isinstance(item, str) else item
    if isinstance(item, dict):
        named = next((item[key] for key in _BOX_KEYS if isinstance(item.get(key), list)), None)
        corners = [item.get(key) for key in ("x1", "y1", "x2", "y2")]
        return _as_box(named) if named is not None else item if None in corners else _as_box(corners)
    if not isinstance(item, list) or not any(isinstance(part, str) for part in item):
        return item
    numbers = [as_number(part) for part in item]
    return item if None in numbers else numbers


def _read(text: str) -> Any:
    """Return a list or mapping that stands in a text, as JSON or as a Python literal; None where there is none."""
    if text[:1] not in ("[", "{", "("):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = literal(text)
    return value if isinstance(value, list | dict) and not is_deep(value) else None


def as_number(value: Any) -> float | None:
    """Return a number or a number in a text as float; None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


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
