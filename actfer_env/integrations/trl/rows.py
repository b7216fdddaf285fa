"""The rows of `actfer data verl` as TRL reads them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from actfer_env.chat import ChatConfig
from actfer_env.data import Dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.packages import needs
from actfer_env.verl_plugin.rows import ParquetConfig, write_parquet


def rows(source: str | Path | Dataset, chat: ChatConfig | None = None, episode: EpisodeConfig | None = None) -> Any:
    """Return the rows of `actfer data verl` as TRL reads them.

    The system prompt stays; question and picture come from `FaceEnv.reset`, from the sample that the row names.

    Args:
        source: A folder of `actfer data verl`, or a data set, of which such rows are made in memory.
        chat: Formats of the conversation; a folder has its own.
        episode: Budgets and Action Units; a folder has its own.

    Returns:
        A `datasets.Dataset` with the columns "prompt" and "extra_info".

    Raises:
        DataError: the folder has no rows, or a package of `[trl]` is missing.
    """
    with needs("trl"):
        import datasets
    if isinstance(source, Dataset):
        with tempfile.TemporaryDirectory() as folder:
            write_parquet(source, Path(folder) / "rows", ParquetConfig(images="none"), chat, episode)
            return _rows(datasets, Path(folder) / "rows")
    return _rows(datasets, Path(source))


def _rows(datasets: Any, folder: Path) -> Any:
    shards = sorted(map(str, folder.glob("*.parquet")))
    if not shards:
        raise DataError(f"{folder} holds no parquet files: write them with 'actfer data verl'")
    import pyarrow.parquet

    made = []
    for shard in shards:
        table = pyarrow.parquet.read_table(shard, columns=["prompt", "extra_info"])
        for row in table.to_pylist():
            system = [message for message in row["prompt"] if message["role"] == "system"]
            made.append({"prompt": [*system, {"role": "user", "content": ""}], "extra_info": row["extra_info"]})
    return datasets.Dataset.from_list(made)
