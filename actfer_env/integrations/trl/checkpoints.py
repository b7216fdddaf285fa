"""The checkpoint that a killed run goes on from."""

from __future__ import annotations

import json
from pathlib import Path

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


def _whole(place: Path) -> bool:
    try:
        json.loads((place / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
