"""Checkpoints of TRL: the last whole one, and where a resumed run stands in the order of its samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STATE = "trainer_state.json"
"""The file that transformers writes last into a checkpoint."""


def last_checkpoint(folder: str | Path) -> str | None:
    """Return the last whole checkpoint of a folder, for ``trainer.train(resume_from_checkpoint=...)``; None for none.

    A process that is killed while it saves leaves part of a checkpoint, which transformers would choose and stop at.

    Args:
        folder: The trainer's ``output_dir``; it need not be there.
    """
    found = [place for place in Path(folder).glob("checkpoint-*") if place.name[11:].isdecimal() and _whole(place)]
    return str(max(found, key=lambda place: int(place.name[11:]))) if found else None


def replay_order(loader: Any, steps: int, accumulated: int) -> None:
    """Let a resumed run meet the samples in the order in which it would have met them without stopping.

    TRL's sampler draws an order for each epoch from its own generator; a resumed trainer begins with the first epoch's
    again, whichever it stopped in.

    Args:
        loader: The trainer's data loader.
        steps: Updates that are done.
        accumulated: Batches of an update.
    """
    sampler: Any = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    if getattr(sampler, "generator", None) is None:
        return
    for _ in range(steps // max(-(-len(loader) // accumulated), 1)):
        next(iter(sampler), None)  # draws an order


def _whole(place: Path) -> bool:
    try:
        json.loads((place / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
