"""Data sets as parquet, as verl reads them: sharded, streamed, and read back to be checked. Needs `[verl]`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from actfer_env import facs
from actfer_env.bounds import bounded, check_fields
from actfer_env.chat import ChatConfig, system_prompt, user_prompt
from actfer_env.chat.prompts import own_question
from actfer_env.data.registry import load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.files import draft_file, new_folder
from actfer_env.packages import needs
from actfer_env.plugins import changes
from actfer_env.sample import Dataset, Sample

AGENT = "actfer_agent"
"""The agent loop that plays these rows."""
COLUMNS = ("data_source", "agent_name", "prompt", "images", "ability", "reward_model", "extra_info")
"""Columns of a shard."""


@dataclass(frozen=True)
class ParquetConfig:
    """Settings of the rows that are written; chosen here.

    Attributes:
        shard_size: Rows of a file.
        batch_size: Rows held in memory at once.
        images: "path" names picture files, "bytes" embeds pictures as PNG, "auto" is "path" where the first picture is
            a file and else "bytes", "none" leaves them out (the agent loop finds pictures by their reference).
        number: Rows in all; None is the whole data set.
    """

    shard_size: int = bounded(10_000, ge=1)
    batch_size: int = bounded(64, ge=1)
    images: Literal["auto", "path", "bytes", "none"] = "auto"
    number: int | None = bounded(None, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.images not in ("auto", "path", "bytes", "none"):
            raise DataError(f"unknown images {self.images!r}: use auto, path, bytes or none")


def write_parquet(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    config: ParquetConfig | None = None,
    chat: ChatConfig | None = None,
    episode: EpisodeConfig | None = None,
) -> list[Path]:
    """Write a data set as shards ``part-00000.parquet`` and so on, with constant memory.

    A shard appears under its name when it is whole. Samples without an emotion are refused: nothing could be learnt
    from them.

    Args:
        dataset: A data set of `load_dataset`.
        folder: Folder to write; it must hold no shards.
        config: Sizes.
        chat: Chat settings of the prompts.
        episode: Episode settings of the prompts.

    Returns:
        The shards, checked by `check_parquet`.

    Raises:
        DataError: no pyarrow, shards are there already, a sample has no emotion, or a shard is not as written.
    """
    config, target = config or ParquetConfig(), Path(folder)
    _pyarrow()  # what is missing is told before the work
    if sorted(target.glob("*.parquet")):
        raise DataError(f"{target} holds parquet files already: choose an empty folder")
    if config.images == "auto":
        config = replace(config, images="path" if _is_file(dataset[0]) else "bytes")
    count = min(len(dataset), config.number or len(dataset))
    shards = []
    with new_folder(target):
        for number, start in enumerate(range(0, count, config.shard_size)):
            stop = min(start + config.shard_size, count)
            path = target / f"part-{number:05d}.parquet"
            prompts = chat or ChatConfig(), episode or EpisodeConfig()
            _write_shard(path, _rows(dataset, start, stop, config, prompts), config)
            shards.append(path)
    found = check_parquet(shards)
    if found != count:
        raise DataError(f"{target} holds {found} of {count} rows: write it again")
    return shards


def check_parquet(shards: list[Path]) -> int:
    """Read shards back, and return how many rows they hold.

    Raises:
        DataError: a shard cannot be read, lacks a column, or has a row without picture or label; one line.
    """
    parquet, total = _pyarrow().parquet, 0
    for path in shards:
        try:
            file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
        missing = set(COLUMNS) - set(file.schema_arrow.names)
        if missing:
            raise DataError(f"{path} has no column {min(missing)!r}: write it with 'actfer data verl'")
        for batch in file.iter_batches(batch_size=64):
            for row in batch.to_pylist():
                _check_row(row, path)
                total += 1
    return total


def reference(sample: Sample, dataset: Dataset) -> dict[str, Any]:
    """Return JSON values from which `sample_of` makes the sample again, in any process.

    A picture in a file is named by its absolute path and carries its labels, so that no data set is loaded; any
    other is named by its data set's arguments and its id.
    """
    if not _is_file(sample):
        return {"dataset": dataset.arguments, "id": sample.id}
    units = None if sample.aus is None else sorted(sample.aus)
    return {
        "id": sample.id, "path": _path(sample), "emotion": sample.emotion, "aus": units,
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


def _rows(
    dataset: Dataset, start: int, stop: int, config: ParquetConfig, prompts: tuple[ChatConfig, EpisodeConfig]
) -> Iterator[dict[str, Any]]:
    for index in range(start, stop):
        sample = dataset[index]
        if sample.emotion is None:
            raise DataError(f"sample {sample.id!r} has no emotion: a reward needs one; leave it out")
        yield _row(sample, dataset, index, config, prompts)


def _row(
    sample: Sample, dataset: Dataset, index: int, config: ParquetConfig, prompts: tuple[ChatConfig, EpisodeConfig]
) -> dict[str, Any]:
    system, user = system_prompt(*prompts), user_prompt(
        prompts[0], emotions=prompts[1].emotions, question=own_question(sample)
    )
    mark = "" if config.images == "none" else "<image>"
    units = None if sample.aus is None else [facs.format_au(au) for au in sorted(sample.aus & prompts[1].known_aus)]
    return {
        "data_source": "actfer", "agent_name": AGENT, "ability": "fer",
        "prompt": [{"role": "system", "content": system}, {"role": "user", "content": mark + user}],
        "images": [] if config.images == "none" else [_picture(sample, config)],
        "reward_model": {"style": "rule", "ground_truth": json.dumps({"emotion": sample.emotion, "aus": units})},
        "extra_info": {"index": index, "split": sample.split or "", "sample": json.dumps(reference(sample, dataset))},
    }  # fmt: skip


def _picture(sample: Sample, config: ParquetConfig) -> dict[str, Any]:
    if config.images == "path":
        if not _is_file(sample):
            raise DataError(f"sample {sample.id!r} lies in no file: write with --images bytes")
        return {"image": _path(sample)}
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(sample.load()).save(buffer, "PNG")
    return {"bytes": buffer.getvalue()}


def _is_file(sample: Sample) -> bool:
    return isinstance(sample.source, str | os.PathLike)


def _path(sample: Sample) -> str:
    assert isinstance(sample.source, str | os.PathLike)
    return str(Path(sample.source).resolve())


def _schema(embedded: bool) -> Any:
    """Return the columns; verl refuses a picture that has a path and bytes, were one of them null."""
    arrow = _pyarrow()
    text, struct = arrow.string(), arrow.struct
    message = struct([("role", text), ("content", text)])
    picture = ("bytes", arrow.binary()) if embedded else ("image", text)
    return arrow.schema([
        ("data_source", text), ("agent_name", text), ("prompt", arrow.list_(message)),
        ("images", arrow.list_(struct([picture]))), ("ability", text),
        ("reward_model", struct([("style", text), ("ground_truth", text)])),
        ("extra_info", struct([("index", arrow.int64()), ("split", text), ("sample", text)])),
    ])  # fmt: skip


def _write_shard(path: Path, rows: Iterator[dict[str, Any]], config: ParquetConfig) -> None:
    """Write a shard, all or nothing."""
    arrow, schema = _pyarrow(), _schema(config.images == "bytes")
    with draft_file(path) as draft, arrow.parquet.ParquetWriter(draft, schema) as writer:
        while batch := list(islice(rows, config.batch_size)):
            writer.write_batch(arrow.RecordBatch.from_pylist(batch, schema=schema))


def _check_row(row: dict[str, Any], path: Path) -> None:
    sample = sample_of(row["extra_info"]["sample"])
    truth = json.loads(row["reward_model"]["ground_truth"])
    shown = sum(message["content"].count("<image>") for message in row["prompt"])
    if truth["emotion"] != sample.emotion or shown != len(row["images"]):
        raise DataError(f"{path}: the row of sample {sample.id!r} differs from the data set: write it again")
    for picture in row["images"]:
        if "image" in picture and not Path(picture["image"]).is_file():
            raise DataError(f"{path}: no picture {picture['image']}: move it back, or write with --images bytes")


def _pyarrow() -> Any:
    with needs("verl"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow
