"""Identity of a run: the facts that change its bytes, and the differences between two runs.

Whatever goes on from kept work compares these facts first. They are JSON values: arguments, versions, and digests of
what lies in files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actfer_env import facs
from actfer_env._version import GENERATOR_VERSION
from actfer_env.errors import DataError, short

if TYPE_CHECKING:
    from actfer_env.sample import Dataset, Sample

_MISSING = object()
_SMALL = 64 * 2**20
"""Bytes up to which a model's file is read for its digest; of a larger one size and time have to do (chosen here)."""


def as_json(facts: Any) -> Any:
    """Return facts as they look after being stored: tuples as lists, and anything unknown as its text."""
    return json.loads(json.dumps(facts, sort_keys=True, default=str))


def digest(facts: Any) -> str:
    """Return 16 hexadecimal digits that stand for facts, for the names of kept files."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def refuse_other(place: str | os.PathLike[str], what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare the facts of the work kept in a place with those of the work that is to go on there.

    Args:
        place: The folder or file.
        what: Kind of thing that it holds, such as "run".
        found: Its facts.
        wanted: The facts of the work that is asked for.

    Raises:
        DataError: they differ; the message names every fact that does.
    """
    lines = [
        f"{name} is {_shown(mine)} ({f'the {what} in {place} has' if not i else 'there'} {_shown(theirs)})"
        for i, (name, mine, theirs) in enumerate(differences(as_json(found), as_json(wanted)))
    ]
    if lines:
        raise DataError(f"{', '.join(lines)}: choose another folder, or the same settings")


def differences(found: Any, wanted: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, wanted, found) of every value that differs; names of nested values are joined by dots.

    Of things that have a "name" of their own and differ in it, such as two detectors, only that is told.
    """
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        named = "name" in wanted and "name" in found and wanted["name"] != found["name"]
        for key in ["name"] if named else dict.fromkeys([*wanted, *found]):
            inner = f"{name}.{key}" if name else str(key)
            yield from differences(found.get(key, _MISSING), wanted.get(key, _MISSING), inner)
    elif found != wanted:
        yield name, wanted, found


def dataset_facts(dataset: Dataset, *, content: bool = False) -> dict[str, Any]:
    """Return what tells a data set from others: the arguments of `load_dataset`, with the root resolved.

    Drawn pictures and their labels follow from the arguments and the generator's version.

    Args:
        dataset: The data set.
        content: Add the number of samples and, of those that are not drawn, a digest of their ids, labels and files.
    """
    facts: dict[str, Any] = {key: value for key, value in dataset.arguments.items() if key != "cache"}
    if facts.get("root") is not None and Path(facts["root"]).exists():
        facts["root"] = os.path.realpath(facts["root"])
    drawn = dataset[0].annotate is not None
    if drawn:
        facts["generator"] = GENERATOR_VERSION
    if content:
        facts["samples"] = len(dataset)
        kept = dataset.views
        if kept is not None:
            facts["content"] = digest([kept.facts, None if kept.rows is None else kept.rows.tolist()])
        elif not drawn or dataset.picked:
            facts["content"] = digest([[one.id, sample_facts(one)] for one in dataset])
    return facts


def sample_facts(sample: Sample) -> dict[str, Any]:
    """Return what a sample shows and what it is labelled with; see `picture_facts`."""
    aus = None if sample.aus is None else [facs.format_au(unit) for unit in sorted(sample.aus)]
    return {
        "emotion": sample.emotion, "aus": aus,
        "split": sample.split, "prealigned": sample.prealigned, "picture": picture_facts(sample),
    }  # fmt: skip


def picture_facts(sample: Sample) -> dict[str, Any]:
    """Return what a sample's picture is: of a file its size, time and digest, of a drawn one its reference.

    A picture that is given as values gets a digest of them; a file that is not there has no facts.
    """
    if isinstance(sample.source, str | os.PathLike):
        path = Path(sample.source)
        return file_facts(path) if path.is_file() else {}
    if "image" in sample.meta:
        return {"reference": str(sample.meta["image"])}
    from actfer_env.tools.detectors.cached import picture_digest

    return {"digest": picture_digest(sample.load())}


def file_facts(path: Path) -> dict[str, Any]:
    """Return a file's size, time of change and digest."""
    state = path.stat()
    read = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return {"size": state.st_size, "modified": state.st_mtime_ns, "digest": read}


def same_picture(kept: Mapping[str, Any], sample: Sample) -> bool:
    """Tell whether a sample still shows the picture of kept facts; a file is read only if its size or time changed."""
    if isinstance(sample.source, str | os.PathLike) and "modified" in kept:
        path = Path(sample.source)
        if not path.is_file():
            return True  # moved away: what was answered was answered about this picture
        state = path.stat()
        if (state.st_size, state.st_mtime_ns) == (kept["size"], kept["modified"]):
            return True
        return bool(file_facts(path)["digest"] == kept["digest"])
    return not kept or as_json(picture_facts(sample)) == kept


def detector_facts(spec: str) -> dict[str, Any]:
    """Return a detector's spec, with absolute paths, and what is behind it: its settings and digests of its weights.

    Raises:
        DetectorError: there is no such detector.
    """
    from actfer_env.tools.detectors.base import make_detector
    from actfer_env.tools.detectors.cached import absolute_spec
    from actfer_env.tools.orientation import settings_of

    return {"spec": absolute_spec(spec), **settings_of(make_detector(spec))}


def model_facts(folder: str | os.PathLike[str], *, whole: bool = False) -> dict[str, Any]:
    """Return what a model's folder holds: a digest of each small file; size and time of change of each large one.

    Args:
        folder: The model's.
        whole: Read large files too, for their digests.
    """
    path = Path(folder)
    files = sorted(one for one in path.iterdir() if one.suffix in (".json", ".safetensors", ".jinja", ".txt", ".bin"))
    return {"folder": os.path.realpath(path), "files": {one.name: _content(one, whole) for one in files}}


def _content(path: Path, whole: bool) -> str:
    state = path.stat()
    if whole or state.st_size <= _SMALL:
        return str(file_facts(path)["digest"])
    return f"{state.st_size} bytes of {state.st_mtime_ns}"


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "none"
    return value if isinstance(value, str) and len(value) <= 80 else short(value)


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return some names for a message, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
