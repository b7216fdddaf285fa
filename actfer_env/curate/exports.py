"""Exports of curated lines: for TRL, verl, LLaMA-Factory, Hugging Face `datasets`, and as Facial-R1's JSON lines.

Each writes a folder that appears when it is whole, after every row was read back and compared with what was to be
written. Memory does not grow with the number of lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from actfer_env.curate.card import data_card
from actfer_env.curate.conversations import Template, flat_text, png, row_digest, training_messages
from actfer_env.curate.lines import Line
from actfer_env.curate.replay import Curated, target_sample
from actfer_env.data.jsonl import load_jsonl
from actfer_env.errors import DataError
from actfer_env.files import draft_folder
from actfer_env.packages import needs
from actfer_env.progress import Watch
from actfer_env.rewards.thoughts import thought_of

QUESTION = "Which emotion does this face show?"
"""Question of Facial-R1's lines whose sample has none of its own."""


class Exporter(Protocol):
    """Protocol of a format: writes rows into an empty folder, and returns how many were read back."""

    def __call__(self, source: Curated, folder: Path, template: Template | None, shard_size: int, watch: Watch) -> int:
        """Write and check."""


def export(
    source: Curated, to: str, folder: Path, *, model: Path | None = None, shard_size: int = 1000,
    watch: Watch | None = None,
) -> int:  # fmt: skip
    """Write the lines of a curated folder in a format, and check what was written.

    Args:
        source: The lines.
        to: A key of `FORMATS`.
        folder: Folder to write; it must not be there, or be empty.
        model: Folder of the model that will be trained; its chat template writes the tools' schemas.
        shard_size: Lines of a file, where the format has several.
        watch: Called after each line with "lines", how many are written, and how many there are.

    Returns:
        The number of lines.

    Raises:
        DataError: the format is unknown, the folder holds something, a line cannot be played, or what was read back
            differs from what was written.
    """
    if to not in FORMATS:
        raise DataError(f"unknown format {to!r}: use one of {', '.join(FORMATS)}")
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    elif folder.exists():
        raise DataError(f"{folder} is there already: choose another folder")
    if not source.count:
        raise DataError(f"{source.path} holds no lines")
    template = None if model is None else Template(model)
    with draft_folder(folder) as draft:
        found = FORMATS[to](source, draft, template, shard_size, watch or (lambda *progress: None))
        if found != source.count:
            raise DataError(f"{found} of {source.count} lines were read back: the disk or a library is at fault")
    return found


def _trl(source: Curated, folder: Path, template: Template | None, shard_size: int, watch: Watch) -> int:
    """Write parquet with `messages` and `images`, as TRL's SFTTrainer takes it from `datasets.load_dataset`."""
    return _parquet(source, folder, template, shard_size, watch, _features(rich=False), _part_row)


def _huggingface(source: Curated, folder: Path, template: Template | None, shard_size: int, watch: Watch) -> int:
    """Write parquet with every column of a line, Image features, and a data card."""
    counts: dict[str, Counter[str]] = {"emotion": Counter(), "mode": Counter(), "units_from": Counter()}

    def row(line: Line, messages: list[Any], pictures: list[bytes]) -> dict[str, Any]:
        for name, counter in counts.items():
            counter[getattr(line, name)] += 1
        told = {key: value for key, value in line.to_json().items() if key not in ("schema", "reference", "index")}
        texts = {key: json.dumps(told.pop(key), ensure_ascii=False) for key in ("evidence", "boxes", "descriptions")}
        return {**_part_row(line, messages, pictures), **told, **texts}

    done = _parquet(source, folder / "data", template, shard_size, watch, _features(rich=True), row)
    (folder / "README.md").write_text(data_card(source, done, counts), encoding="utf-8")
    with needs("data"):
        from datasets import load_dataset_builder
    builder = load_dataset_builder(str(folder), cache_dir=str(folder / ".cache"))
    if "train" not in (builder.config.data_files or {}):
        raise DataError("the data card does not lead 'datasets' to the files")
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return done


def _verl(source: Curated, folder: Path, template: Template | None, shard_size: int, watch: Watch) -> int:
    """Write parquet as verl's `MultiTurnSFTDataset` reads it: texts with ``<image>``, pictures as bytes."""
    with needs("verl"):
        import pyarrow as arrow
    text = arrow.string()
    schema = arrow.schema([
        ("id", text), ("messages", arrow.list_(arrow.struct([("role", text), ("content", text)]))),
        ("images", arrow.list_(arrow.struct([("bytes", arrow.binary())]))),
    ])  # fmt: skip

    def row(line: Line, messages: list[Any], pictures: list[bytes]) -> dict[str, Any]:
        flat = [{"role": message["role"], "content": flat_text(message)} for message in messages]
        return {"id": line.id, "messages": flat, "images": [{"bytes": picture} for picture in pictures]}

    return _parquet(source, folder, template, shard_size, watch, schema, row)


def _part_row(line: Line, messages: list[Any], pictures: list[bytes]) -> dict[str, Any]:
    parts = [
        {"role": message["role"],
         "content": [{"type": part["type"], "text": part.get("text")} for part in message["content"]]}
        for message in messages
    ]  # fmt: skip
    return {"id": line.id, "messages": parts, "images": [{"bytes": picture, "path": None} for picture in pictures]}


def _features(rich: bool) -> Any:
    """Return the arrow schema of `datasets`' features, which travels in the files."""
    with needs("data"):
        from datasets import Features, Image, Value
    text = Value("string")
    found = {"id": text, "messages": [{"role": text, "content": [{"type": text, "text": text}]}], "images": [Image()]}
    if rich:
        words = ("dataset", "image", "subject", "question", "emotion", "emotion_from", "units_from", "evidence",
                 "boxes", "descriptions", "mode", "zoom", "writer", "strategy", "picture", "hash")  # fmt: skip
        found |= dict.fromkeys(words, text) | {name: [text] for name in ("aus", "regions", "turns", "responses")}
        found["attempts"] = Value("int32")
    return Features(found).arrow_schema


def _parquet(
    source: Curated, folder: Path, template: Template | None, shard_size: int, watch: Watch, schema: Any,
    make: Callable[[Line, list[Any], list[bytes]], dict[str, Any]],
) -> int:  # fmt: skip
    """Write shards of rows, read each back, and compare row by row."""
    with needs("data"):
        import pyarrow as arrow
        from pyarrow import parquet
    folder.mkdir(exist_ok=True)
    lines, done, number = iter(source.lines()), 0, 0
    while shard := list(islice(lines, shard_size)):
        path, digests = folder / f"train-{number:05d}.parquet", list[str]()
        with parquet.ParquetWriter(path, schema) as writer:
            for line, episode in source.replays(shard):
                row = make(line, training_messages(episode, template), [png(image) for image in episode.images])
                digests.append(row_digest(row["messages"], [one["bytes"] for one in row["images"]]))
                writer.write_batch(arrow.RecordBatch.from_pylist([row], schema=schema))
                done += 1
                watch("lines", done, source.count, {})
        read = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=16):
            for row in batch.to_pylist():
                if row_digest(row["messages"], [one["bytes"] for one in row["images"]]) != digests[read]:
                    raise DataError(f"{path.name}, row {read}: what was read back differs from what was written")
                read += 1
        if read != len(digests):
            raise DataError(f"{path.name}: {read} of {len(digests)} rows were read back")
        number += 1
    return done


def _llamafactory(source: Curated, folder: Path, template: Template | None, shard_size: int, watch: Watch) -> int:
    """Write ShareGPT lines, pictures as files, and `dataset_info.json`."""
    del shard_size
    path, digests = folder / "actfer.jsonl", list[str]()
    (folder / "images").mkdir()
    with path.open("w", encoding="utf-8") as file:
        for line, episode in source.replays():
            system, *rest = training_messages(episode, template)
            # LLaMA-Factory writes the tags of a tool's result itself, so that the message is given without them.
            told = [{"from": _SPEAKERS[own["role"]], "value": flat_text(own if own["role"] == "tool" else message)}
                    for message, own in zip(rest, episode.messages[1:], strict=True)]  # fmt: skip
            pictures = [png(image) for image in episode.images]
            name = hashlib.sha256(line.id.encode("utf-8", "backslashreplace")).hexdigest()[:24]
            names = [f"images/{name}-{n}.png" for n in range(len(pictures))]
            for place, picture in zip(names, pictures, strict=True):
                (folder / place).write_bytes(picture)
            row: dict[str, Any] = {"id": line.id, "system": flat_text(system), "conversations": told, "images": names}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            digests.append(row_digest([row["system"], told], pictures))
            watch("lines", len(digests), source.count, {})
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
            "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}  # fmt: skip
    columns = {"messages": "conversations", "images": "images", "system": "system"}
    info = {"actfer": {"file_name": path.name, "formatting": "sharegpt", "columns": columns, "tags": tags}}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")
    found = 0
    for found, row in enumerate(_json_lines(path), 1):
        speakers = [turn["from"] for turn in row["conversations"]]
        alternate = all((who == "gpt") == bool(n % 2) for n, who in enumerate(speakers))
        pictures = [(folder / place).read_bytes() for place in row["images"]]
        if row_digest([row["system"], row["conversations"]], pictures) != digests[found - 1] or not alternate:
            raise DataError(f"{path.name}, line {found}: what was read back differs from what was written")
    return found


_SPEAKERS = MappingProxyType({"user": "human", "assistant": "gpt", "tool": "observation"})


def _facial_r1(source: Curated, folder: Path, template: Template | None, shard_size: int, watch: Watch) -> int:
    """Write Facial-R1's unified lines, ``NAME.jsonl`` beside the pictures' folder ``NAME``, and load them again."""
    del template, shard_size
    written: dict[str, list[tuple[str, str, frozenset[int]]]] = {}
    for done, line in enumerate(source.lines(), 1):
        name = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in line.dataset) or "data"
        (folder / name).mkdir(exist_ok=True)
        image = _copy_picture(line, folder / name)
        asked = line.question or QUESTION
        row = {
            "id": hashlib.md5(f"{line.dataset}_{image}_{asked}".encode(), usedforsecurity=False).hexdigest(),
            "dataset": line.dataset, "image": image, "question": asked, "AUs": line.aus, "labels": [line.emotion],
            "description": thought_of(line.turns[-1]),
            "meta_info": {"sample": line.id, "mode": line.mode, "units_from": line.units_from, "writer": line.writer},
        }  # fmt: skip
        with (folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        written.setdefault(name, []).append((str(row["id"]), line.emotion, line.units))
        watch("lines", done, source.count, {})
    found = 0
    for name, rows in written.items():
        read = [(sample.id, sample.emotion, sample.aus) for sample in load_jsonl(str(folder / f"{name}.jsonl"))]
        if read != rows or len({identity for identity, *_ in rows}) != len(rows):
            raise DataError(f"{name}.jsonl: what was read back differs from what was written, or two lines have one id")
        found += len(rows)
    return found


def _copy_picture(line: Line, folder: Path) -> str:
    """Put a sample's picture into a folder, a file as it is, any other as PNG, and return its name."""
    sample = target_sample(line)
    name = hashlib.sha256(line.id.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    if isinstance(sample.source, str | os.PathLike):
        suffix = Path(sample.source).suffix.lower()
        shutil.copyfile(sample.source, folder / f"{name}{suffix}")
        return f"{name}{suffix}"
    (folder / f"{name}.png").write_bytes(png(sample.load()))
    return f"{name}.png"


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


FORMATS: Mapping[str, Exporter] = MappingProxyType({
    "trl": _trl, "verl": _verl, "llamafactory": _llamafactory, "huggingface": _huggingface, "facial_r1": _facial_r1,
})  # fmt: skip
"""Name -> the writer of a format."""
