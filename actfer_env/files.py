"""Writing files: the only place that knows how a file or folder appears whole or not at all.

Every file gets the mode that the process's umask asks for. A draft lies beside its place until it is whole, is then
renamed, and is removed where that fails.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from actfer_env.errors import DataError

PathLike: TypeAlias = str | os.PathLike[str]


def write_text_atomic(path: PathLike, text: str) -> None:
    """Write a UTF-8 text file as `write_bytes_atomic` does.

    Half a surrogate pair, which UTF-8 does not know, is written as JSON escapes it, such as ``\\ud83d``.
    """
    write_bytes_atomic(path, text.encode("utf-8", "backslashreplace"))


def write_bytes_atomic(path: PathLike, content: bytes) -> None:
    """Write a file so that a reader sees the old file or the whole new one, never a part of it.

    Raises:
        DataError: the folder cannot be written (read-only, full disk).
    """
    with draft_file(path) as draft:
        draft.write_bytes(content)


@contextmanager
def draft_file(path: PathLike) -> Iterator[Path]:
    """Give an empty file beside `path` to fill; it takes that name when the block ends, and is removed if it fails.

    Raises:
        DataError: the folder cannot be written (read-only, full disk).
    """
    place = Path(path)
    draft = _beside(place)
    with _refusing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.open("xb").close()  # the umask decides on the mode
        try:
            yield draft
            draft.replace(place)
        finally:
            with suppress(OSError):  # after the renaming there is no draft
                draft.unlink()


@contextmanager
def draft_folder(path: PathLike, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; it takes that name when the block ends, and is removed if it fails.

    Args:
        path: the folder to be.
        replace: take the place of a folder that is there; else that one stays, since another process was faster.

    Raises:
        DataError: the folder cannot be written (read-only, full disk).
    """
    place = Path(path)
    draft = _beside(place)
    with _refusing(place):
        draft.mkdir(parents=True)
        try:
            yield draft
            if replace:
                shutil.rmtree(place, ignore_errors=True)
            try:
                draft.rename(place)
            except OSError:
                if replace or not place.is_dir():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def append_line(path: PathLike, line: str, *, sync: bool = True) -> None:
    """Append a line to a text file.

    Args:
        path: the file; its folder is made if it is not there.
        line: without its end.
        sync: return when the line is on the disk, not only with the operating system.

    Raises:
        DataError: the file cannot be written.
    """
    place = Path(path)
    with _refusing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(line + "\n")
            if sync:
                handle.flush()
                os.fsync(handle.fileno())


def make_folder(path: PathLike) -> Path:
    """Make a folder and those above it, unless it is there, and return its path.

    Raises:
        DataError: it cannot be made.
    """
    place = Path(path)
    with _refusing(place):
        place.mkdir(parents=True, exist_ok=True)
    return place


def check_writable(folder: PathLike) -> None:
    """Fail before the work rather than after it; folders made for the try are removed again.

    Raises:
        DataError: the folder cannot be made or written.
    """
    place = Path(folder)
    missing = [one for one in (place, *place.parents) if not one.exists()]
    probe = place / ".writable"
    try:
        write_bytes_atomic(probe, b"")
    finally:
        with suppress(OSError):
            probe.unlink()
        for one in missing:
            with suppress(OSError):  # it was never made, or another process uses it by now
                one.rmdir()


def _beside(place: Path) -> Path:
    return place.parent / f".{place.name[:100]}.{uuid.uuid4().hex[:12]}.draft"


@contextmanager
def _refusing(place: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the place and the cure."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot write {place}: {reason}; choose a folder that can be written") from error
