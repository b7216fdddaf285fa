"""What a curated folder says of itself: ``curate.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from actfer_env.curate.options import CurateOptions
from actfer_env.errors import DataError
from actfer_env.files import write_text_atomic
from actfer_env.identity import refuse_other

RECORD = "curate.json"
SCHEMA = 1


def begin_record(folder: Path, options: CurateOptions, facts: dict[str, Any]) -> None:
    """Write a folder's record, or hold it against the one that is there.

    Args:
        folder: The curation's folder.
        options: Its options.
        facts: What else decides its lines: data set, detector, models.

    Raises:
        DataError: the folder holds a curation that would give other lines, or something else.
    """
    path = folder / RECORD
    mine = {"options": options.line_facts(), **facts}
    if path.exists():
        found = _read(path)
        refuse_other(folder, "curation", found["facts"], mine)
    elif folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} holds other files: choose an empty folder")
    record = {"schema": SCHEMA, "facts": mine, "options": options.model_dump(mode="json")}
    write_text_atomic(path, json.dumps(record, indent=1) + "\n")


def read_record(folder: Path) -> CurateOptions:
    """Return the options of a curated folder.

    Raises:
        DataError: it is none.
    """
    return CurateOptions.build(**_read(folder / RECORD)["options"])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA or not {"facts", "options"} <= found.keys():
            raise ValueError("it is of another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error}; 'actfer data curate' writes it") from error
    return dict(found)
