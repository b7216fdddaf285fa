"""Arguments of a call with the names and types of the tool's schema, where they can mean one thing only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from actfer_env.chat.parsing.dialects import literal
from actfer_env.chat.parsing.json_text import is_deep

_ALIASES = {
    "region": "regions",
    "box": "boxes",
    "bbox": "boxes",
    "bbox_2d": "boxes",
    "bboxes": "boxes",
    "frame": "image",
}
_BOX_KEYS = ("bbox_2d", "bbox", "box", "bounding_box")


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
