"""Facial-R1's unified JSON lines: keys id, dataset, image, question, AUs, labels, description, meta_info."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from actfer_env import facs
from actfer_env.data.sample import Sample
from actfer_env.errors import DataError, short

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What people call the splits."""

OnError = Literal["raise", "skip"]


def load_jsonl(
    root: str | None, *, on_error: OnError = "raise", empty_aus: Literal["unknown", "none"] = "unknown"
) -> Iterator[Sample]:
    """Read the data set "jsonl".

    A relative image path is looked for beside the file, in the folder named by the record's `dataset`, and in the
    folder named like the file (Facial-R1 keeps `Root/DatasetX/*.jpg` beside `Root/DatasetX.jsonl`).

    Args:
        root: the .jsonl file.
        on_error: "skip" leaves out broken lines with one warning each; "raise" stops at the first.
        empty_aus: what an empty list of AUs means: "unknown" (not annotated, as Facial-R1's own reward takes it) or
            "none" (none active).

    Raises:
        DataError: the file is missing, or a line (named by number) is broken.
    """
    if root is None:
        raise DataError("data set 'jsonl' needs root=FILE.jsonl")
    check_option("on_error", on_error, ("raise", "skip"))
    check_option("empty_aus", empty_aus, ("unknown", "none"))
    path = Path(root)
    for number, record in read_records(path, on_error):
        sample = read_sample(record, path, number, on_error, empty_aus)
        if sample is not None:
            yield sample


def check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse an unknown value of an option with a `DataError`."""
    if value not in known:
        raise DataError(f"{name}={value!r} is unknown: use one of {', '.join(known)}")


def read_sample(
    record: dict[str, Any], path: Path, number: int, on_error: OnError, empty_aus: str = "unknown"
) -> Sample | None:
    """Return a line's sample, or None where the line is broken and skipped with a warning.

    Raises:
        DataError: the line is broken and `on_error` is "raise".
    """
    try:
        return to_sample(record, path, empty_aus)
    except KeyError as error:
        line = '{"id": "a", "image": "a.jpg", "labels": ["happiness"], "AUs": ["AU6", "AU12"]}'
        _fail(path, number, f"key {error} is missing; a line looks like {line}", on_error)
    except (TypeError, ValueError, OSError) as error:
        _fail(path, number, error, on_error)
    return None


def read_records(path: Path, on_error: OnError = "raise") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, record) of a JSON-lines file.

    Raises:
        DataError: the file is missing, or a line is not a JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            _fail(path, number, f"not JSON ({error})", on_error)
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            _fail(path, number, "not a JSON object", on_error)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def to_sample(record: dict[str, Any], path: Path, empty_aus: str = "unknown") -> Sample:
    """Turn one record into a sample; `path` is the file that it stands in."""
    labels, aus = record.get("labels") or [], record.get("AUs")
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(aus, list | str | None):
        raise TypeError(f"AUs must be a list of active Action Units, not {short(aus)}")
    units = None if aus is None or (not aus and empty_aus == "unknown") else facs.parse_aus(aus)
    prealigned = record.get("prealigned", False)
    if not isinstance(prealigned, bool):
        raise TypeError(f"prealigned must be true or false, not {short(prealigned)}")
    meta = dict(record.get("meta_info") or {})
    meta |= {key: record[key] for key in ("question", "description") if record.get(key)}
    image = _locate(record, path)
    if len(labels) > 1:
        meta["labels"] = labels
    return Sample(
        id=str(record["id"]), source=image, emotion=facs.parse_emotion(labels[0]) if labels else None, aus=units,
        split=_split(record.get("split") or meta.get("split")), prealigned=prealigned,
        meta={**meta, "dataset": str(record.get("dataset", path.stem)), "image": str(image)},
    )  # fmt: skip


def _split(name: Any) -> str | None:
    if name is None:
        return None
    found = _SPLITS.get(str(name).strip().lower())
    if found is None:
        raise ValueError(f"unknown split {short(name)}: use one of train, val, test")
    return found


def _locate(record: dict[str, Any], path: Path) -> Path:
    image = Path(str(record["image"]))
    places = [path.parent, path.parent / str(record.get("dataset", "")), path.parent / path.stem]
    return next((place / image for place in places if (place / image).is_file()), path.parent / image)


def _fail(path: Path, number: int, reason: object, on_error: OnError) -> None:
    message = f"{path}, line {number}: {reason}"
    if on_error == "raise":
        raise DataError(f"{message}; mend the line, or pass on_error='skip' (--skip-broken)")
    warnings.warn(f"{message}; line skipped", UserWarning, stacklevel=3)
