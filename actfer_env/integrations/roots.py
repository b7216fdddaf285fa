"""`Roots`: pictures below named folders, and nothing else, whatever path a stranger asks for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from actfer_env.errors import ImageError, SettingsError, plain, short
from actfer_env.images import IMAGE_SUFFIXES

_LONGEST = 1024  # characters of a path
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_STEPWISE = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")


class Roots:
    """Folders whose pictures may be read.

    A path is relative to a root, with "/" between its parts. Absolute paths, "..", hidden names and links are refused,
    links also on the way; each folder is opened from the one above it, so that a link that is put there meanwhile is
    not followed either. (Windows lacks that; there the resolved path must lie below the root.)

    Args:
        folders: Folders; a picture is looked for in the first, then in the next.
        max_bytes: Size of the largest file that is read.

    Raises:
        SettingsError: no folder is named, or one is not there.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]], max_bytes: int = 32 * 2**20) -> None:
        self.folders = tuple(Path(folder).resolve() for folder in folders)
        self.max_bytes = max_bytes
        for folder in self.folders:
            if not folder.is_dir():
                raise SettingsError(f"{folder} is no folder: name one that holds pictures")

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Raises:
            ImageError: the path leads elsewhere, or there is no such file, or it is too large; one line, which names
                nothing that the caller did not.
        """
        parts = self._parts(path)
        for folder in self.folders:
            try:
                descriptor = self._open(folder, parts)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:  # a link, or no permission
                raise self._refused(path) from error
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise self._refused(path)
                content = _up_to(descriptor, self.max_bytes + 1) if status.st_size <= self.max_bytes else None
            finally:
                os.close(descriptor)
            if content is None or len(content) > self.max_bytes:
                raise ImageError(f"{short(path)} has more than the bound of {self.max_bytes:,} bytes")
            return content
        raise ImageError(f"there is no picture {short(path)} below the roots")

    def names(self) -> Iterator[str]:
        """Yield the paths of the pictures that `read` takes, in order, each once."""
        seen: set[str] = set()
        for folder in self.folders:
            for place, below, files in os.walk(folder):
                below[:] = sorted(name for name in below if not name.startswith("."))
                for name in sorted(files):
                    file = Path(place, name)
                    shown = file.suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
                    path = file.relative_to(folder).as_posix()
                    if shown and file.is_file() and not file.is_symlink() and path not in seen and _sound(path):
                        seen.add(path)
                        yield path

    def _parts(self, path: str) -> list[str]:
        if not _sound(path):
            raise self._refused(path)
        return path.split("/")

    def _open(self, folder: Path, parts: Sequence[str]) -> int:
        """Open a file below a folder without following a link; a pipe is opened without waiting for its writer."""
        if not _STEPWISE:
            file = folder.joinpath(*parts)
            if file.is_symlink() or not file.resolve(strict=True).is_relative_to(folder) or not file.is_file():
                raise PermissionError(str(file))
            return os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
        try:
            for part in parts[:-1]:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=here)
                os.close(here)
                here = below
            return os.open(parts[-1], os.O_RDONLY | os.O_NONBLOCK | _NO_LINK, dir_fd=here)
        finally:
            os.close(here)

    def _refused(self, path: str) -> ImageError:
        return ImageError(
            f"{short(path)} is refused: name a picture by its path below the roots, without '..', hidden parts or links"
        )


def _sound(path: str) -> bool:
    """True if a path is one below the roots by its letters alone."""
    parts = path.split("/")
    odd = "\0" in path or "\\" in path or ":" in parts[0] or plain(path) != path
    if len(path) > _LONGEST or odd or Path(path).is_absolute():
        return False
    return not any(not part or part.startswith(".") for part in parts)


def _up_to(descriptor: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.read(descriptor, min(size, 2**20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
