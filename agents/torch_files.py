"""Files of torch: tensors and plain values, never pickled objects, so that classes may move. Imports torch."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def packed_bytes(values: Tensor) -> str:
    """Return a tensor of uint8, such as a generator's state, as text for JSON."""
    return base64.b64encode(values.numpy().tobytes()).decode("ascii")


def unpacked_bytes(text: str) -> Tensor:
    """Return the tensor of `packed_bytes`."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
