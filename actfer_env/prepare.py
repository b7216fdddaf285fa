"""Work over a data set that is done once, in parallel processes, and kept in a folder: the caches of the trainers.

A folder holds arrays as .npy files and all else as JSON. No path of a class is stored, so that classes may move; what
the files mean is told by two versions in the folder's name, that of this layout and that of the work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from actfer_env.errors import DataError
from actfer_env.files import draft_folder
from actfer_env.identity import digest
from actfer_env.plugins import parallel
from actfer_env.progress import Watch

T = TypeVar("T")
LAYOUT_VERSION = 2
"""Raised whenever folders are laid out in another way."""
FACTS = "facts.json"
_CHUNK = 64


def prepared_name(kind: str, version: int, facts: Any) -> str:
    """Return the name of a folder, which changes with whatever changes its bytes.

    Args:
        kind: Kind of the work, such as "views".
        version: Version of the work, raised whenever the same facts give other values.
        facts: Facts that the work depends on, as JSON values; see `identity`.
    """
    return f"{kind}-{digest([LAYOUT_VERSION, version, facts])}"


def prepared(folder: str | os.PathLike[str], name: str, write: Callable[[Path], None]) -> Path:
    """Return a folder of kept work, which is done if it is not there.

    Processes that start at once do the work each, and the first one's is kept.

    Args:
        folder: Folder of all kept work.
        name: Name of this one; see `prepared_name`.
        write: Fills an empty folder; it takes its place when it is whole.

    Raises:
        DataError: the folder cannot be written; this is found before any work.
    """
    target = Path(folder) / name
    if not target.is_dir():
        with draft_folder(target) as draft:
            write(draft)
    return target


def in_processes(
    n: int,
    make: Callable[[Sequence[int]], list[T]],
    workers: int | None,
    watch: Watch | None,
    phase: str = "pictures",
) -> list[T]:
    """Return what is made of the samples 0 to n - 1, in their order.

    Args:
        n: Samples, at least 1.
        make: Called with some indices, in another process; returns one value for each.
        workers: Processes; None is one for each core.
        watch: Called with the phase, how many samples are done, and how many there are.
        phase: Name of the work for `watch`.
    """
    chunks = [range(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
    count = min(workers or os.cpu_count() or 1, len(chunks))
    made: list[T] = []
    for part in parallel(partial(_single_threaded, make), ((chunk,) for chunk in chunks), count):
        made += part
        if watch is not None:
            watch(phase, len(made), n, {})
    return made


def _single_threaded(make: Callable[[Sequence[int]], list[T]], chunk: Sequence[int]) -> list[T]:
    """Do a chunk without OpenCV's own threads: the cores are taken by the other processes."""
    import cv2

    cv2.setNumThreads(1)
    return make(chunk)


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]], facts: Any = None) -> None:
    """Write arrays, and what is no array as JSON values, into a folder for `read_arrays`.

    Args:
        folder: Folder that is there, a draft.
        arrays: File name without its ending -> array of any shape and dtype but object.
        facts: JSON values.
    """
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    (folder / FACTS).write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")


def new_array(folder: Path, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array of zeros that lies in a file, for `read_arrays`; filling it takes no memory of its own.

    Args:
        folder: Folder that is there, a draft.
        name: File name without its ending.
        shape: Shape of the array.
        dtype: Its dtype.

    Returns:
        The array, mapped from the file; flush it when it is filled.
    """
    made: NDArray[Any] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
    return made


def read_facts(folder: str | os.PathLike[str]) -> Any:
    """Return the JSON values of `write_arrays`.

    Raises:
        OSError, ValueError: the file is missing or broken; see `naming_broken`.
    """
    return json.loads((Path(folder) / FACTS).read_text(encoding="utf-8"))


def read_arrays(
    folder: str | os.PathLike[str], names: Collection[str], mapped: Collection[str] = ()
) -> tuple[dict[str, NDArray[Any]], Any]:
    """Return the arrays and the JSON values of `write_arrays`.

    Args:
        folder: The folder.
        names: Names of the arrays.
        mapped: Those of them that stay on the disk, mapped into memory.

    Raises:
        OSError, EOFError, ValueError: a file is missing or broken; see `naming_broken`.
    """
    place = Path(folder)
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r" if name in mapped else None) for name in names}
    return arrays, read_facts(place)


@contextmanager
def naming_broken(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what goes wrong while a folder is read, or its values are put together, into one line with the cure.

    Raises:
        DataError: a file is missing or broken, or files do not fit together.
    """
    try:
        yield
    except (OSError, EOFError, ValueError, TypeError, LookupError) as error:
        raise DataError(f"{os.fspath(folder)} is broken ({error}): delete it and run again") from error
