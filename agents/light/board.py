"""TensorBoard logs of training, for whoever has tensorboard installed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GROUPS = {
    "zoom": "policy/", "entropy": "policy/", "kl": "policy/", "clipped": "policy/",
    "flat_groups": "collapse/", "wrong_groups": "collapse/", "zoom_found": "collapse/",
}  # fmt: skip
"""Column of the log -> the part of TensorBoard in which it stands; others stand under "train/"."""


class TensorBoardLog:
    """Writes a step's figures as TensorBoard scalars; does nothing where tensorboard is missing.

    Args:
        folder: Folder of the event files.
        done: Steps that are kept; events of later ones, from a run that was killed, are hidden.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        with self._surviving():
            self._writer = SummaryWriter(str(folder), purge_step=done)

    def write(self, row: dict[str, float]) -> None:
        """Write one step's figures; a disk that is full ends these figures and not the training."""
        with self._surviving():
            for key, value in row.items():
                if key != "step" and self._writer is not None:
                    self._writer.add_scalar(tag_of(key), value, int(row["step"]))

    def close(self) -> None:
        """Write what is still in memory."""
        with self._surviving():
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            warnings.warn(f"no more TensorBoard figures: {error}", RuntimeWarning, stacklevel=3)


def tag_of(key: str) -> str:
    """Return the TensorBoard tag of a log's column."""
    return f"ema/{key.removeprefix('ema_')}" if key.startswith("ema_") else GROUPS.get(key, "train/") + key
