"""Writing files: the only place that knows how a file or folder appears whole or not at all.

Every file gets the mode that the process's umask asks for. A draft lies beside its place until it is whole and on the
disk, is then renamed, and is removed where that fails. A link is followed: what it points at is replaced.

Longer than 400 lines: nothing else in the package may know this.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from actfer_env.errors import DataError

T = TypeVar("T")
PathLike: TypeAlias = str | os.PathLike[str]

_HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
"""This machine, in the names of drafts."""
_RACES = 100
"""Attempts to put a folder into its place before other processes that replace it, too, are taken for a fault."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CURES = {
    **dict.fromkeys(_FULL, "make room, or choose another place"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "choose another name",
}


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
def draft_file(path: PathLike, *, replace: bool = True) -> Iterator[Path]:
    """Give an empty file beside `path` to fill; it takes that name when the block ends, and is removed if it fails.

    Args:
        path: The file to be.
        replace: Take the place of a file that is there; else that one stays, since another process was faster.

    Raises:
        DataError: the folder cannot be written (read-only, full disk), or `path` is no place for a file.
    """
    place = _real(path)
    draft = _beside(place)
    with _refusing(place, draft):
        if place.exists() and not place.is_file():  # never rename over a folder or a device
            raise OSError(errno.EISDIR if place.is_dir() else errno.EEXIST, "not a regular file", str(place))
        with _made(place.parent):
            _in_folder(place.parent, lambda: draft.open("xb").close())  # the umask decides on the mode
            mode = draft.stat().st_mode
            try:
                yield draft
                _settle(draft, mode & 0o777)
                if replace or not _linked(draft, place):
                    draft.replace(place)
            finally:
                with suppress(OSError):  # after the renaming there is no draft
                    draft.unlink()


@contextmanager
def draft_folder(path: PathLike, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; it takes that name when the block ends, and is removed if it fails.

    Args:
        path: The folder to be.
        replace: Take the place of a folder that is there; else that one stays, since another process was faster.

    Raises:
        DataError: the folder cannot be written (read-only, full disk).
    """
    place = _real(path)
    draft = _beside(place)
    sweep(place.parent)
    with _refusing(place, draft), _made(place.parent):
        _in_folder(place.parent, draft.mkdir)
        mode = draft.stat().st_mode & 0o666
        try:
            yield draft
            for one in draft.rglob("*"):
                if one.is_file():
                    _settle(one, mode)
            _take_place(draft, place, replace)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def draft_files(folder: PathLike) -> Iterator[Path]:
    """Give an empty folder inside `folder` to fill; when the block ends, each of its files takes its place there.

    Raises:
        DataError: the folder cannot be written (read-only, full disk).
    """
    place = _real(folder)
    draft = place / _beside(place).name
    with _refusing(place, draft), _made(place):
        _in_folder(place, draft.mkdir)
        mode = draft.stat().st_mode & 0o666
        try:
            yield draft
            for one in draft.iterdir():
                _settle(one, mode)
            for one in draft.iterdir():
                one.replace(place / one.name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def append_line(path: PathLike, line: str, *, sync: bool = True) -> None:
    """Append a line to a text file, whole or not at all.

    Args:
        path: The file; its folder is made if it is not there.
        line: Without its end.
        sync: Return when the line is on the disk, not only with the operating system.

    Raises:
        DataError: the file cannot be written.
    """
    place = Path(path)
    opening = partial(place.open, "ab", buffering=0)
    with _refusing(place, place), _made(place.parent), _in_folder(place.parent, opening) as handle:
        before = handle.tell()
        try:
            rest = memoryview(line.encode("utf-8", "backslashreplace") + b"\n")
            while rest:
                rest = rest[os.write(handle.fileno(), rest) :]
            if sync:
                _sync(handle.fileno())
        except OSError:
            with suppress(OSError):  # the next line must not go on from half of this one
                handle.truncate(before)
            raise


class Journal(Generic[T]):
    """JSON objects in a file, one a line, each kept as soon as it is appended; a killed process loses none of them.

    Args:
        path: The file; it need not be there.
        parse: Makes a value of an object; a `ValueError` says why it is none.
        key: Function that tells values apart, so that the file holds none of them twice; None lets values repeat.
        first: The objects' first key, by which half a last line is known as one of this journal.
        sync: Return from `append` when the line is on the disk, not only with the operating system.
    """

    def __init__(
        self, path: PathLike, parse: Callable[[dict[str, Any]], T], *, key: Callable[[T], Hashable] | None = None,
        first: str = "schema", sync: bool = True,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self._parse, self._key, self._sync = parse, key, sync
        self._begin = f'{{"{first}"'.encode()

    def append(self, record: Mapping[str, Any]) -> None:
        """Append an object, whole or not at all.

        Raises:
            DataError: the file cannot be written.
            ValueError: the object holds NaN or infinity, which JSON does not know.
        """
        append_line(self.path, json.dumps(record, ensure_ascii=False, allow_nan=False), sync=self._sync)

    def read(self) -> list[T]:
        """Return the values kept so far, in order, and mend the file where a process was killed or two were at work.

        Half a last line is cut off; a whole one that lacks its end gets it. Of values with one key the first is kept.

        Raises:
            DataError: the file cannot be read, or holds something else; then it stays as it is.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error
        *lines, torn = content.split(b"\n")
        if torn and not (torn.startswith(self._begin) or self._begin.startswith(torn)):
            raise DataError(f"{self.path} holds something else than this journal: choose another file")
        with suppress(ValueError, RecursionError):
            json.loads(torn)
            lines.append(torn)
        kept: dict[Hashable, tuple[bytes, T]] = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                value = self._value(line, number)
                kept.setdefault(number if self._key is None else self._key(value), (line + b"\n", value))
        mended = b"".join(line for line, _ in kept.values())
        if torn or mended.count(b"\n") < content.count(b"\n"):
            write_bytes_atomic(self.path, mended)
        return [value for _, value in kept.values()]

    def _value(self, line: bytes, number: int) -> T:
        try:
            record = json.loads(line.decode("utf-8", "surrogateescape"))  # one bad byte spoils no other line
            return self._parse(record)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}, line {number}: {error}; delete the line, or choose another file") from error


def make_folder(path: PathLike) -> Path:
    """Make a folder and those above it, unless it is there, and return its path.

    Raises:
        DataError: it cannot be made.
    """
    place = Path(path)
    with _refusing(place, place):
        place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def new_folder(path: PathLike) -> Iterator[Path]:
    """Make a folder and those above it for the block; where the block fails, those that stayed empty go again.

    Raises:
        DataError: it cannot be made.
    """
    place = Path(path)
    with _refusing(place, place), _made(place):
        yield place


def check_writable(folder: PathLike) -> None:
    """Fail before the work rather than after it; folders made for the try are removed again.

    Raises:
        DataError: the folder cannot be made or written.
    """
    place = Path(folder)
    with (
        _refusing(place, place), _made(place, keep=False),
        _in_folder(place, lambda: tempfile.TemporaryFile(dir=place)) as probe,
    ):  # fmt: skip
        probe.write(b"0")


def sweep(folder: PathLike) -> None:
    """Remove the drafts that processes of this machine have left in a folder when they were killed."""
    if os.name != "posix":  # elsewhere a process cannot be asked whether it lives
        return
    for one in Path(folder).glob(f".*.{_HERE}-*.draft"):
        owner = int(one.name.rsplit("-", 2)[1])
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            shutil.rmtree(one, ignore_errors=True)
            with suppress(OSError):
                one.unlink()
        except OSError:  # it lives, as another user's
            continue


def expand(path: PathLike) -> Path:
    """Return a path with the home folder in the place of "~".

    Raises:
        DataError: there is no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{os.fspath(path)}: there is no home folder: write the whole path, or set HOME") from error


def _real(path: PathLike) -> Path:
    """Return what a link points at, even where nothing is there yet; any other path stays as it was given."""
    place = Path(path)
    with suppress(OSError):
        return Path(os.path.realpath(place)) if place.is_symlink() else place
    return place


def _beside(place: Path) -> Path:
    name = os.fsencode(place.name)[:60].decode("utf-8", "ignore")  # with the rest it stays within a name's 255 bytes
    return place.parent / f".{name}.{_HERE}-{os.getpid()}-{uuid.uuid4().hex[:12]}.draft"


@contextmanager
def _made(folder: Path, keep: bool = True) -> Iterator[None]:
    """Make a folder and those above it; those that were made and stay empty go again if the block fails."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        _make(folder)
        yield
    except BaseException:
        _remove_empty(missing)
        raise
    if not keep:
        _remove_empty(missing)


def _in_folder(folder: Path, make: Callable[[], T]) -> T:
    """Put something into a folder; again where another thread or process, which made it to try it, took it away."""
    for _ in range(_RACES):
        with suppress(FileNotFoundError):
            return make()
        _make(folder)
    return make()


def _make(folder: Path) -> None:
    """Make a folder and those above it, though others may take them away while they are empty."""
    for _ in range(_RACES):
        with suppress(FileNotFoundError):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                return
            except FileExistsError:
                if not stat.S_ISDIR(folder.stat().st_mode):
                    raise
    folder.mkdir(parents=True, exist_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    for one in folders:
        with suppress(OSError):  # it was never made, or holds something by now
            one.rmdir()


def _settle(path: Path, mode: int) -> None:
    """Put a file on the disk, with the mode that the umask asks for: some libraries choose their own."""
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
    with path.open("rb+") as handle:
        _sync(handle.fileno())


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # a pipe or device cannot be synced
            raise


def _linked(draft: Path, place: Path) -> bool:
    """Give a file its name unless that is taken; False where the file system knows no links and the name is free."""
    try:
        os.link(draft, place)
    except OSError:
        return place.exists()
    return True


def _take_place(draft: Path, place: Path, replace: bool) -> None:
    """Rename a folder; one that is in its way is moved aside first, and comes back if that fails."""
    for attempt in range(_RACES):
        aside = _beside(place)
        if replace:
            with suppress(FileNotFoundError):  # there is none, or another process has just moved it aside
                place.rename(aside)
        try:
            draft.rename(place)
            break
        except OSError:
            with suppress(OSError):  # there was none, or another process has put its own there by now
                aside.rename(place)
            if not place.is_dir() or (replace and attempt == _RACES - 1):
                raise
            if not replace:
                break
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _refusing(place: Path, draft: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the place and the cure; other failures pass."""
    try:
        yield
    except Exception as error:
        code = _why(error, place, draft)
        if code is None:
            raise
        cure = _CURES.get(code, "choose a folder that can be written")
        raise DataError(f"cannot write {place}: {os.strerror(code)}; {cure}") from error


def _why(error: Exception, place: Path, draft: Path) -> int | None:
    """Return the errno of a write that failed; None for any other failure, such as of a picture that is read."""
    for code in _FULL:  # libraries have errors of their own, which say it in words
        if os.strerror(code) in str(error):
            return code
    if not isinstance(error, OSError):
        return None
    if error.errno is None:  # numpy says no more than this where the disk is full
        return errno.ENOSPC if re.search(r"requested and \d+ written", str(error)) else None
    if error.filename is None:
        return error.errno if error.errno in (errno.EIO, errno.EROFS, errno.EPERM, errno.EACCES) else None
    named = Path(os.fsdecode(error.filename))
    ours = draft in (named, *named.parents) or named in (place, *place.parents)
    return error.errno if ours else None
