"""Rules of all servers: what would be downloaded, where they listen, what they call this machine, and bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from actfer_env.errors import DataError
from actfer_env.files import expand
from actfer_env.tools.detectors.cached import DetectionStore

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine to itself."""
TRY_AGAIN = "try again in a moment"
"""End of the refusal of a service that has too much to do."""
LONGEST_NAME = 1024
"""Characters of a name that a client gives."""


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
