"""References: a sample as JSON values, from which any process makes it again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from actfer_env.data.registry import load_dataset
from actfer_env.errors import DataError
from actfer_env.plugins import changes
from actfer_env.sample import Dataset, Sample


def picture_path(sample: Sample) -> str | None:
    """Return the absolute path of the file that holds a sample's picture, or None where it lies in none."""
    return str(Path(sample.source).resolve()) if isinstance(sample.source, str | os.PathLike) else None


def reference(sample: Sample, dataset: Dataset) -> dict[str, Any]:
    """Return JSON values from which `sample_of` makes the sample again, in any process.

    A picture in a file is named by its absolute path and carries its labels, so that no data set is loaded; any
    other is named by its data set's arguments and its id.
    """
    path = picture_path(sample)
    if path is None:
        return {"dataset": dataset.arguments, "id": sample.id}
    units = None if sample.aus is None else sorted(sample.aus)
    return {
        "id": sample.id, "path": path, "emotion": sample.emotion, "aus": units,
        "prealigned": sample.prealigned, "meta": sample.meta,
    }  # fmt: skip


def sample_of(found: Mapping[str, Any] | str) -> Sample:
    """Return the sample of a reference, or of its JSON text.

    Raises:
        DataError: the reference is malformed, or its data set has no such sample.
    """
    try:
        data = json.loads(found) if isinstance(found, str) else dict(found)
        if "path" not in data:
            dataset = _dataset(json.dumps(data["dataset"], sort_keys=True), changes())
            return dataset[dataset.find(data["id"])]
        units = None if data["aus"] is None else frozenset(data["aus"])
        return Sample(data["id"], data["path"], data["emotion"], units, None, data["prealigned"], data["meta"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"not a sample's reference ({error}): write the rows with 'actfer data verl'") from error


@lru_cache(maxsize=8)
def _dataset(arguments: str, registered: int) -> Dataset:
    return load_dataset(**json.loads(arguments))
