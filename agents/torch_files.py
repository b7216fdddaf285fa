"""Files of torch: tensors and plain values, never pickled objects, so that classes may move. Imports torch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from actfer_env.errors import DataError
from actfer_env.files import write_bytes_atomic


def save_atomic(path: Path, state: Any) -> None:
    """Write a torch file, all or nothing.

    Args:
        path: The file.
        state: Tensors, numbers, texts, and lists, tuples and dicts of these: what `load_state` reads back.

    Raises:
        DataError: the folder cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes_atomic(path, buffer.getvalue())


def load_state(path: Path, *, fault: str = "broken", delete: Path | None = None, cure: str | None = None) -> Any:
    """Read a torch file.

    Args:
        path: The file.
        fault: Name of a file that cannot be read, for messages.
        delete: Path to delete then; None is the file.
        cure: Advice for that case, where it is not to delete something and to run again.

    Raises:
        DataError: it is broken, or holds pickled objects.
    """
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        cure = cure or f"delete {delete or path} and run again"
        raise DataError(f"{path} is {fault} ({type(error).__name__}): {cure}") from error
