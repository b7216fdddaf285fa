"""`ToolCall` and `Rollout`: what is left of a finished episode, and all that rewards and reports need."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from actfer_env import facs
from actfer_env.boxes import Box
from actfer_env.errors import DataError, short
from actfer_env.files import write_bytes_atomic, write_text_atomic

__all__ = [
    "VIOLATIONS", "Box", "Detection", "Rollout", "ToolCall", "read_rollouts", "write_bytes_atomic", "write_rollouts",
    "write_text_atomic",
]  # fmt: skip

SCHEMA_VERSION = 1
"""Version of the JSON-lines record; a reader refuses records of a newer one."""

Detection = Literal["ok", "failed", "not_called", "prealigned"]

VIOLATIONS: tuple[str, ...] = (
    "illegal_order", "repeated_call", "over_budget", "bad_arguments", "unknown_tool", "parse_error",
)  # fmt: skip
"""Names of the violations that an episode records."""
LOOK_CLOSER = frozenset({"zoom_in"})
"""Names of the tools that look closer though the record of their calls does not say so."""


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool, legal or not.

    Attributes:
        name: The tool's name as the policy wrote it.
        arguments: Arguments that the policy passed, as JSON values.
        violation: One of `VIOLATIONS`, or None for a legal call.
        turn: The turn (from 0) in which it was made.
        boxes: Boxes that a legal call looked at (zoomed into), in the aligned frame, each in [0, 1].
        result: Values that the tool returned apart from pictures, as JSON values; of a violation, its message.
        elapsed_ms: Wall-clock milliseconds of the tool, or None; left out of equality.
        looks_closer: Whether its tool looks closer, so that the record knows it wherever it is read; None, as in
            records that were written before there were other tools, is what the name says (`LOOK_CLOSER`).
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    violation: str | None = None
    turn: int = 0
    boxes: tuple[Box, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    elapsed_ms: float | None = field(default=None, compare=False)
    looks_closer: bool | None = None

    @property
    def zoomed(self) -> bool:
        """True for a legal call of a tool that looks closer."""
        closer = self.name in LOOK_CLOSER if self.looks_closer is None else self.looks_closer
        return closer and self.violation is None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; nested values are the call's own, not copies."""
        data = _fields(self)
        if self.looks_closer is None:
            del data["looks_closer"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ToolCall:
        """Build a call from its JSON form; fields that this version does not know are ignored."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        known["boxes"] = tuple(Box(*box) for box in known.get("boxes", ()))
        return cls(**known)


@dataclass(frozen=True)
class Rollout:
    """A finished episode.

    Rewards, advantages, tables and pictures are computed from rollouts alone.

    Attributes:
        sample_id: The sample's id within its data set.
        group_id: The query group; a sample that is drawn twice in one step forms two groups.
        emotion: The target, one of `facs.EMOTIONS`, or None where the sample has no label.
        aus: The target Action Units within the environment's `au_set`, or None where the sample has none.
        predicted_emotion: The answer, or None if none was given.
        predicted_aus: The answer's Action Units, or None if none were given.
        tool_calls: Every tool call, violations included, in order.
        detection: "ok" or "failed" after face-detect-align, "not_called" without it, "prealigned" for a sample
            that is an aligned face already.
        truncated: The turns were used up without an answer.
        turns: Turns used.
        texts: The policy's own texts, one a turn; empty for policies that do not write.
        member: The rollout's index within its group.
        step: The policy update to which it belongs, or None.
        seed: The seed of its episode, or None.
        meta: JSON values: data set, image reference, quality, Action Units that were dropped from the target; "looked"
            is False where a script played the tools without looking at pictures.
    """

    sample_id: str
    group_id: str
    emotion: str | None
    aus: frozenset[int] | None
    predicted_emotion: str | None
    predicted_aus: frozenset[int] | None
    tool_calls: tuple[ToolCall, ...]
    detection: Detection
    truncated: bool = False
    turns: int = 0
    texts: tuple[str, ...] = ()
    member: int = 0
    step: int | None = None
    seed: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def zoomed(self) -> bool:
        """True if a legal call of a tool that looks closer was executed, such as zoom_in."""
        return any(call.zoomed for call in self.tool_calls)

    @cached_property
    def violations(self) -> tuple[str, ...]:
        """The names of the violations, in order."""
        return tuple(call.violation for call in self.tool_calls if call.violation)

    @property
    def looked(self) -> bool:
        """True if the answer is that of a policy that looks at pictures, and not of a script."""
        return self.meta.get("looked") is not False

    @property
    def correct(self) -> bool | None:
        """True if the predicted emotion is the target; None where the sample has no label."""
        return None if self.emotion is None else self.predicted_emotion == self.emotion

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: Action Units as sorted "AU12" strings, `schema` first.

        Nested values are the rollout's own, not copies.
        """
        data = {"schema": SCHEMA_VERSION, **_fields(self)}
        data["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        for key in ("aus", "predicted_aus"):
            data[key] = None if data[key] is None else [facs.format_au(au) for au in sorted(data[key])]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Rollout:
        """Build a rollout from its JSON form.

        Raises:
            DataError: the record is of a newer schema, or lacks a field.
        """
        if not isinstance(data, dict):
            raise DataError("not a rollout record: it must be a JSON object")
        schema = data.get("schema", SCHEMA_VERSION)
        if not isinstance(schema, int) or schema > SCHEMA_VERSION:
            raise DataError(f"rollout schema {short(schema)} is newer than {SCHEMA_VERSION}: update actfer-env")
        for key, kind in (("sample_id", str), ("group_id", str), ("turns", int), ("member", int)):
            if not isinstance(data.get(key, 0), kind):
                raise DataError(f"not a rollout record: {key} must be {'a text' if kind is str else 'a whole number'}")
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        try:
            known["tool_calls"] = tuple(ToolCall.from_dict(call) for call in data["tool_calls"])
            known["texts"] = _texts(data.get("texts", ()))
            for key in ("aus", "predicted_aus"):
                known[key] = None if data[key] is None else facs.parse_aus(data[key])
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"not a rollout record: {error}") from error


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise DataError("not a rollout record: texts must be a list of texts")
    return tuple(values)


def _fields(record: ToolCall | Rollout) -> dict[str, Any]:
    """Return the fields of a record by name; `dataclasses.asdict`, which copies, takes twenty times as long."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def write_rollouts(path: str | os.PathLike[str], rollouts: Iterable[Rollout]) -> None:
    """Write rollouts as JSON lines, all or nothing.

    Raises:
        DataError: the file cannot be written.
    """
    lines = (json.dumps(rollout.to_dict(), ensure_ascii=False, allow_nan=False) + "\n" for rollout in rollouts)
    write_text_atomic(path, "".join(lines))


def read_rollouts(path: str | os.PathLike[str]) -> list[Rollout]:
    """Read a file of `write_rollouts`.

    Raises:
        DataError: the file is missing, or a line (named by number) is not a rollout.
    """
    place = Path(path)
    try:
        lines = place.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {place}: {getattr(error, 'strerror', None) or error}") from error
    rollouts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rollouts.append(Rollout.from_dict(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}, line {number}: {error}") from error
    return rollouts
