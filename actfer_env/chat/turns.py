"""Turns as a policy writes them in the documented grammar; the inverse of `parse_turn`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from actfer_env import facs


def call_text(name: str, **arguments: Any) -> str:
    """Return the turn that calls one tool, such as ``call_text("zoom_in", regions=["nose"])``."""
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>{call}</tool_call>"


def answer_text(emotion: str, aus: Iterable[int]) -> str:
    """Return the turn that answers; Action Units are written in ascending order, each once."""
    units = [facs.format_au(au) for au in sorted(set(aus))]
    return f"<answer>{json.dumps({'emotion': emotion, 'aus': units})}</answer>"
