"""Rules of all servers: what would be downloaded, where they listen, what they call this machine, and bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actfer_env.errors import ActFERError, DataError
from actfer_env.files import expand
from actfer_env.tools.detectors.cached import DetectionStore

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine to itself."""
TRY_AGAIN = "try again in a moment"
"""End of the refusal of a service that has too much to do."""
LONGEST_NAME = 1024
"""Characters of a name that a client gives."""


class ServiceError(ActFERError, ValueError):
    """A request that cannot be met; the message is one line for the one who asked."""


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Turn the exit of a web server that could not start into one line.

    Raises:
        DataError: the port is taken, or not ours to take.
    """
    try:
        yield
    except SystemExit as error:  # uvicorn has logged why
        raise DataError(
            f"cannot serve on {host}:{port}: the port is taken, or not ours to take; choose --port"
        ) from error


def downloads(detector: str) -> bool:
    """True if a detector's spec names weights that would be fetched where they are not here."""
    kind, _, place = detector.partition(":")
    if kind == "unturned":
        return downloads(place)
    if kind == "cached":  # what the folder does not know, its detector is asked for
        return downloads(DetectionStore.open(place).spec)
    return kind == "insightface" and not (place and expand(place).exists())


def bound_size(*given: Any) -> None:
    """Refuse what a client gives at more than a name's length: it is kept in the episode and its record."""
    size = len(json.dumps(given))
    if size > 4 * LONGEST_NAME:
        raise ServiceError(f"{size:,} characters are too many: give at most {4 * LONGEST_NAME:,}")
