"""The errors that a user can meet: each message is one line that names the thing and the cure."""

from __future__ import annotations

import re
from typing import Any


class ActFERError(Exception):
    """Base of every error that this package raises on bad input; the command line prints it as one line."""


class ImageError(ActFERError, ValueError):
    """An image that cannot be read, or that lies outside the documented size bounds."""


class DetectorError(ActFERError, RuntimeError):
    """A detector that is unknown, lacks its extra or weights, or returned something malformed."""


class ToolError(ActFERError, ValueError):
    """A tool that is unknown, given twice, or returned something malformed."""


class DataError(ActFERError, ValueError):
    """A data set, label or stored file that is missing, unknown or malformed."""


class LabelError(DataError):
    """An emotion, Action Unit or region that the taxonomy does not know."""


class SettingsError(DataError):
    """A setting that is unknown or out of its range."""


class PluginError(ActFERError, ImportError):
    """A module that was named to be imported, and cannot be."""


class AgentError(ActFERError, RuntimeError):
    """An agent that cannot play on, such as an endpoint that stopped answering.

    Attributes:
        run: The `Run` of what `evaluate` had finished by then, or None.
    """

    run: Any = None


class WorkerError(ActFERError, RuntimeError):
    """A worker process of a vector environment that has ended before its time."""


def plain(text: str) -> str:
    """Return a text that UTF-8 can hold: halves of surrogate pairs, as of odd file names, become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def short(value: Any, most: int = 80) -> str:
    """Return the `repr` of a value of any size for a message, in one line, cut to `most` characters."""
    text = re.sub(r"\n\s*", " ", repr(value[: most + 1] if isinstance(value, str) else value))
    return text if len(text) <= most else text[: most - 3] + "..."
