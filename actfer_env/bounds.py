"""Bounds of settings: stated once, beside the field, and checked whenever a settings class is built.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class BlurConfig:
...     radius: int = bounded(3, ge=1, le=31)
...     share: float = bounded(0.5, ge=0, le=1)
...
...     def __post_init__(self) -> None:
...         check_fields(self)
>>> BlurConfig(radius=0)
Traceback (most recent call last):
    ...
actfer_env.errors.SettingsError: radius must be a whole number in [1, 31], got 0: change it in BlurConfig
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, field, fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, NamedTuple

from actfer_env.errors import ActFERError, SettingsError, short

_KEY = "bounds"


class Bounds(NamedTuple):
    """Bounds of a field, or of each entry of one that holds a tuple of numbers.

    Attributes:
        ge: Smallest value.
        gt: Value that it must exceed.
        le: Largest value.
        lt: Value that it must stay below.
        choices: The values that are known; the others are refused.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] = ()

    def hold(self, value: Any) -> bool:
        """Tell whether a value lies within."""
        if self.choices:
            return value in self.choices
        return not (
            (self.ge is not None and value < self.ge)
            or (self.gt is not None and value <= self.gt)
            or (self.le is not None and value > self.le)
            or (self.lt is not None and value >= self.lt)
        )

    def __str__(self) -> str:
        """Return the range in words, such as "in [0, 1]", "of at least 1" or "above 0"; empty without bounds."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        low = self.ge if self.gt is None else self.gt
        high = self.le if self.lt is None else self.lt
        if low is not None and high is not None:
            return f"in {'[' if self.gt is None else '('}{low}, {high}{']' if self.lt is None else ')'}"
        if low is not None:
            return f"of at least {low}" if self.gt is None else f"above {low}"
        if high is not None:
            return f"of at most {high}" if self.lt is None else f"below {high}"
        return ""


def bounded(
    default: Any = MISSING, *, ge: float | None = None, gt: float | None = None, le: float | None = None,
    lt: float | None = None, choices: Sequence[Any] = (),
) -> Any:  # fmt: skip
    """Return a dataclass field with bounds, which `check_fields` checks; the arguments are those of `Bounds`.

    Without any of them the field is unbounded on purpose: every finite number of its type is taken.
    """
    return field(default=default, metadata={_KEY: Bounds(ge, gt, le, lt, tuple(choices))})


def check_fields(config: Any, error: type[ActFERError] = SettingsError) -> None:
    """Check every field of a settings object against its type and bounds; call it in `__post_init__`.

    Numbers and switches are checked by their annotations, also without bounds: a number must be finite. They are kept
    as plain Python values, whatever NumPy type came in; lists become the tuples that the annotation names. Fields of
    other types are checked where they have choices.

    Args:
        config: A dataclass instance, frozen or not.
        error: Class of the error.

    Raises:
        error: the first field that is out of its range; one line that names it, the range, the value and the class.
    """
    cls: Any = type(config)
    for name, kind, optional, entries, bounds in _plan(cls):
        value = getattr(config, name)
        if (value is None and optional) or (not kind and not bounds.choices):
            continue
        if entries is None:
            plain = _plain(kind, value)
            ok = plain is not None and bounds.hold(plain)
        else:
            listed = value if isinstance(value, tuple | list) else ()
            plain = tuple(_plain(one, item) for one, item in zip(entries, listed, strict=False))
            ok = len(listed) == len(entries) and all(item is not None and bounds.hold(item) for item in plain)
        if not ok:
            what = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(kind, "")
            if entries:
                what = f"{len(entries)} {'whole ' if kind == 'int' else ''}numbers, each {str(bounds) or 'finite'}"
            else:
                what = str(bounds) if bounds.choices else f"{what} {bounds}".strip()
            none = " or none" if optional else ""
            raise error(f"{name} must be {what}{none}, got {short(value)}: change it in {cls.__name__}")
        if plain is not value:
            object.__setattr__(config, name, plain)


class _Field(NamedTuple):
    name: str
    kind: str
    optional: bool
    entries: tuple[str, ...] | None
    bounds: Bounds


@lru_cache(maxsize=256)
def _plan(cls: type) -> tuple[_Field, ...]:
    """Return what there is to check of a dataclass: kind is "int", "float", "bool", or "" for other types."""
    plan = []
    for item in fields(cls):
        text = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type))
        optional = text.endswith(" | None")
        text = text.removesuffix(" | None")
        entries: tuple[str, ...] | None = None
        if text.startswith("tuple["):
            parts = tuple(part.strip() for part in text[6:-1].split(","))
            entries = parts if set(parts) <= {"int", "float"} else None
        kind = entries[0] if entries else text if text in ("int", "float", "bool") else ""
        plan.append(_Field(item.name, kind, optional, entries, item.metadata.get(_KEY, Bounds())))
    return tuple(plan)


def _plain(kind: str, value: Any) -> Any:
    """Return a value as the plain Python int, float or bool of its kind, or None if it is not one."""
    if kind == "":
        return value
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if kind == "int":
        return int(value) if isinstance(value, Integral) else None
    try:
        return float(value) if isinstance(value, Real) and math.isfinite(value) else None
    except OverflowError:
        return None
