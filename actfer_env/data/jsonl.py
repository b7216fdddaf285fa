"""Facial-R1's unified JSON lines: keys id, dataset, image, question, AUs, labels, description, meta_info."""

from __future__ import annotations

import codecs
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, Literal

from actfer_env import facs
from actfer_env.errors import DataError, LabelError, short
from actfer_env.sample import Sample
from actfer_env.splits import parse_split, path_split

OnError = Literal["raise", "skip"]
EmptyAUs = Literal["none", "unlabelled", "unknown"]

_KEYS = (
    "id", "dataset", "image", "question", "AUs", "labels", "description", "meta_info", "split", "prealigned",
    "au_boxes",
)  # fmt: skip
"""Keys that a line may hold."""
_NEAR = {
    "labels": ("labels", "label", "emotion", "emotions", "emo", "expression", "expressions", "emotionlabel",
               "truelabel"),
    "AUs": ("aus", "au", "actionunits", "actionunit", "facialactionunits", "aulabels", "activeaus", "aulabel"),
    "image": ("image", "img", "imagepath", "imgpath", "imagefile", "path", "file", "filename", "filepath", "picture",
              "photo"),
    "split": ("split", "subset", "partition", "usage"),
    "id": ("id", "imageid", "sampleid", "uid"),
}  # fmt: skip
"""Key -> how other projects spell it, in small letters without signs."""
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
"""First bytes of a file -> its encoding; UTF-32's little-endian mark begins like UTF-16's, so it comes first."""


def load_jsonl(
    root: str | None, *, on_error: OnError = "raise", empty_aus: EmptyAUs = "none"
) -> Iterator[Sample]:  # fmt: skip
    """Read the data set "jsonl".

    A relative image path is looked for beside the file, in the folder named by the record's `dataset`, and in the
    folder named like the file (Facial-R1 keeps `Root/DatasetX/*.jpg` beside `Root/DatasetX.jsonl`). A line without
    `split` takes it from the folders of its image, where they name one (`train/a.jpg`). Keys under near names
    (`label`, `emotion`, `aus`, `path`, ...) are read, with one warning each.

    Args:
        root: The .jsonl file, in UTF-8, UTF-16 or UTF-32.
        on_error: "skip" leaves out broken lines with one warning each; "raise" stops at the first.
        empty_aus: Meaning of an empty list of AUs. "none", no unit is active, is the default, for a list that is there
            is a target: of neutral faces and of most of DISFA's frames. Left out of the scores, a policy that always
            names two units would lose nothing on them. "unlabelled" (or "unknown") means not annotated, as Facial-R1's
            own reward takes it; a warning counts the lists that this drops.

    Raises:
        DataError: the file is missing, or a line (named by number) is broken.
    """
    if root is None:
        raise DataError("data set 'jsonl' needs root=FILE.jsonl")
    check_option("on_error", on_error, ("raise", "skip"))
    check_option("empty_aus", empty_aus, ("none", "unlabelled", "unknown"))
    for _, sample in Manifest(Path(root), on_error, empty_aus).read():
        yield sample


def check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse an unknown value of an option with a `DataError`."""
    if value not in known:
        raise DataError(f"{name}={value!r} is unknown: use one of {', '.join(known)}")


class Manifest:
    """A file of JSON lines, and what had to be guessed or dropped in reading it.

    Args:
        path: The file.
        on_error: See `load_jsonl`.
        empty_aus: See `load_jsonl`.
    """

    def __init__(self, path: Path, on_error: OnError = "raise", empty_aus: EmptyAUs = "none") -> None:
        self.path, self.on_error, self.empty_aus = path, on_error, empty_aus
        self._near: Counter[tuple[str, str]] = Counter()
        self._unread: Counter[str] = Counter()
        self._empty = self._odd = self._labelled = 0

    def read(self) -> Iterator[tuple[int, Sample]]:
        """Yield (line number, sample); at the end, warn about what was guessed or dropped.

        Raises:
            DataError: the file cannot be read, or a line is broken and `on_error` is "raise".
        """
        for number, record in read_records(self.path, self.on_error):
            try:
                sample = self._sample(record)
            except KeyError as error:
                line = '{"id": "a", "image": "a.jpg", "labels": ["happiness"], "AUs": ["AU6", "AU12"]}'
                _fail(self.path, number, f"key {error} is missing; a line looks like {line}", self.on_error)
            except (TypeError, ValueError, OSError) as error:
                _fail(self.path, number, error, self.on_error)
            else:
                yield number, sample
        self._tell()

    def _sample(self, given: dict[str, Any]) -> Sample:
        record = self._renamed(given)
        labels, units = _labels(record.get("labels")), self._units(record.get("AUs"))
        prealigned = record.get("prealigned", False)
        if not isinstance(prealigned, bool):
            raise TypeError(f"prealigned must be true or false, not {short(prealigned)}")
        meta = dict(record.get("meta_info") or {})
        meta |= {key: record[key] for key in ("question", "description", "au_boxes") if record.get(key)}
        image = _locate(record, self.path)
        if len(labels) > 1:
            meta["labels"] = labels
        sample = Sample(
            id=str(record["id"]), source=image, emotion=facs.parse_emotion(labels[0]) if labels else None,
            aus=units, split=_split(record.get("split") or meta.get("split"), str(record["image"]), self.path.parent),
            prealigned=prealigned, meta={**meta, "dataset": str(record.get("dataset", self.path.stem)),
                                         "image": str(image)},
        )  # fmt: skip
        self._count(sample, given)
        return sample

    def _renamed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record with what stands under near names under the documented ones."""
        found = dict(record)
        for key, names in _NEAR.items():
            if record.get(key) not in (None, "", []):
                continue
            near = [name for name in record if name not in _KEYS and _bare(name) in names and record[name] is not None]
            values = {name: record[name] for name in near if _usable(key, record[name])} or {
                name: record[name] for name in near[:1] if key != "split"
            }
            if not values:
                continue
            if len({str(_meant(key, value)) for value in values.values()}) > 1:
                raise ValueError(f"{' and '.join(map(repr, values))} differ: write one of them as {key!r}")
            name, found[key] = next(iter(values.items()))
            self._near[name, key] += 1
        return found

    def _units(self, aus: Any) -> Any:
        """Return the units as written; an empty list counts as `empty_aus` says."""
        if not isinstance(aus, list | str | None):
            raise TypeError(f"AUs must be a list of active Action Units, not {short(aus)}")
        if aus is None or facs.parse_aus(aus):
            return aus
        self._empty += 1
        return [] if self.empty_aus == "none" else None

    def _count(self, sample: Sample, record: dict[str, Any]) -> None:
        self._odd += sample.aus == frozenset() and sample.emotion not in (None, "neutral")
        self._labelled += sample.emotion is not None or sample.aus is not None
        self._unread.update(key for key, value in record.items() if key not in _KEYS and _like_label(key, value))

    def _tell(self) -> None:
        for (name, key), count in self._near.items():
            self._warn(f"{name!r} is read as {key!r} in {_lines(count)}: rename it to be sure")
        if self._empty and self.empty_aus != "none":
            self._warn(
                f"empty lists of AUs are left out as not annotated in {_lines(self._empty)}; "
                "if they mean that no unit is active, pass empty_aus='none' (--empty-aus none)"
            )
        if self._odd:
            self._warn(
                f"an emotion other than neutral has an empty list of AUs, read as 'no unit is active', in "
                f"{_lines(self._odd)}; if it means 'not annotated', pass empty_aus='unlabelled' "
                "(--empty-aus unlabelled)"
            )
        near = {name for name, _ in self._near}
        unread = ", ".join(repr(key) for key in self._unread if key not in near)
        if not (self._labelled or self._empty) and unread:
            self._warn(f"no line has 'labels' or 'AUs', and {unread} is not read: rename it if it is a label")

    def _warn(self, text: str) -> None:
        warnings.warn(f"{self.path}: {text}", UserWarning, stacklevel=4)


def read_records(path: Path, on_error: OnError = "raise") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, record) of a JSON-lines file.

    Raises:
        DataError: the file is missing, or a line is not a JSON object.
    """
    try:
        lines = _lines_of(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8") if isinstance(line, bytes) else line
            if not text.strip():
                continue
            record = json.loads(text, parse_constant=_no_number)
        except UnicodeDecodeError as error:
            _fail(path, number, f"not UTF-8 ({error.reason}); save the file as UTF-8", on_error)
            continue
        except (ValueError, RecursionError) as error:
            _fail(path, number, f"not JSON ({error})", on_error)
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            _fail(path, number, "not a JSON object", on_error)


def _lines_of(data: bytes) -> Sequence[bytes | str]:
    """Return a file's lines, of UTF-8 undecoded, so that one broken line spoils no other."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data[:4]:  # JSON begins with two ASCII characters; so does UTF-16 without a mark
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    if encoding is None:
        return data.split(b"\n")
    if encoding == "utf-8-sig":
        return data[len(codecs.BOM_UTF8) :].split(b"\n")
    return data.decode(encoding).split("\n")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _bare(key: str) -> str:
    return re.sub(r"[\W\d_]+", "", key.lower())


def _meant(key: str, value: Any) -> Any:
    """Return what a value under a near name means, to compare it with another's."""
    if key == "labels":
        return [facs.parse_emotion(label) for label in _labels(value)]
    if key == "AUs":
        return sorted(facs.parse_aus(value))
    return parse_split(value) if key == "split" else value


def _usable(key: str, value: Any) -> bool:
    """Tell whether a value under a near name can be read: of a number and a name of a class, the name is taken."""
    try:
        _meant(key, value)
    except (TypeError, ValueError):
        return False
    return True


def _like_label(key: str, value: Any) -> bool:
    """Tell whether what stands under an unknown key looks like a label."""
    if re.search(r"label|emo|expr|class|categor|target|unit|^aus?$|^gt$", _bare(key)):
        return True
    try:
        return isinstance(value, str) and bool(facs.parse_emotion(value))
    except LabelError:
        return False


def _labels(given: Any) -> list[Any]:
    """Return the labels of a line; "None" is none."""
    labels = given if isinstance(given, list) else [given]
    return [label for label in labels if not facs.is_no_label(label)]


def _split(name: Any, image: str, folder: Path) -> str | None:
    if name is not None:
        return parse_split(name)
    place = PurePath(image.replace("\\", "/"))
    if place.is_absolute() and place.is_relative_to(folder.absolute()):
        place = place.relative_to(folder.absolute())
    return None if place.is_absolute() or PureWindowsPath(image).drive else path_split(place.parts[:-1])


def _locate(record: dict[str, Any], path: Path) -> Path:
    written = str(record["image"])
    places = [path.parent, path.parent / str(record.get("dataset", "")), path.parent / path.stem]
    for image in (Path(written), Path(written.replace("\\", "/"))):  # a file that was written on Windows
        for place in places:
            if (place / image).is_file():
                return place / image
    return path.parent / written


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


def _fail(path: Path, number: int, reason: object, on_error: OnError) -> None:
    message = f"{path}, line {number}: {reason}"
    if on_error == "raise":
        raise DataError(f"{message}; mend the line, or pass on_error='skip' (--skip-broken)")
    warnings.warn(f"{message}; line skipped", UserWarning, stacklevel=3)
