"""Data sets as parquet for verl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actfer_env.data import load_dataset
from actfer_env.errors import DataError

parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'actfer-env[verl]'")

from actfer_env.verl_plugin.rows import COLUMNS, ParquetConfig, check_parquet, sample_of, write_parquet  # noqa: E402


def photos(folder: Path) -> Path:
    for emotion in ("happiness", "fear"):
        (folder / emotion).mkdir(parents=True)
        Image.fromarray(np.full((40, 40, 3), 99, np.uint8)).save(folder / emotion / "a.png")
    return folder


def test_rows_name_their_samples_and_come_in_shards(tmp_path: Path) -> None:
    data = load_dataset("synthetic", split="train", n=8)
    shards = write_parquet(data, tmp_path, ParquetConfig(shard_size=2, batch_size=1, number=5))
    assert [path.name for path in shards] == [f"part-0000{i}.parquet" for i in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in shards]
    rows = [row for path in shards for row in parquet.read_table(path).to_pylist()]
    assert len(rows) == 5 and set(rows[0]) == set(COLUMNS)
    for row, sample in zip(rows, data, strict=False):
        again = sample_of(row["extra_info"]["sample"])
        assert (again.id, again.emotion, again.aus) == (sample.id, sample.emotion, sample.aus)
        np.testing.assert_array_equal(again.load(), sample.load())
        assert again.annotate is not None
        assert json.loads(row["reward_model"]["ground_truth"])["emotion"] == sample.emotion


def test_photos_are_named_by_path_or_embedded(tmp_path: Path) -> None:
    data = load_dataset("photos", photos(tmp_path / "photos"))
    (named,) = write_parquet(data, tmp_path / "a")
    (held,) = write_parquet(data, tmp_path / "b", ParquetConfig(images="bytes"))
    row = parquet.read_table(named).to_pylist()[0]
    assert list(row["images"][0]) == ["image"] and Path(row["images"][0]["image"]).is_file()
    assert parquet.read_table(held).to_pylist()[0]["images"][0]["bytes"].startswith(b"\x89PNG")
    assert sample_of(row["extra_info"]["sample"]).emotion == data[0].emotion


def test_the_check_finds_what_is_lost(tmp_path: Path) -> None:
    (shard,) = write_parquet(load_dataset("photos", photos(tmp_path / "photos")), tmp_path / "out")
    assert check_parquet([shard]) == 2
    (tmp_path / "photos/fear/a.png").unlink()
    with pytest.raises(DataError, match="no picture"):
        check_parquet([shard])
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot read"):
        check_parquet([shard])


def test_no_label_or_a_used_folder_gives_one_line(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "bare.png")
    with pytest.raises(DataError, match="has no emotion"):
        write_parquet(load_dataset("photos", tmp_path / "bare.png"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    data = load_dataset("synthetic", split="val", n=1)
    write_parquet(data, tmp_path / "out")
    with pytest.raises(DataError, match="already"):
        write_parquet(data, tmp_path / "out")


def test_the_command_writes_shards(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "actfer_env", "data", "verl", "synthetic", "--out", str(tmp_path), "-n", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("part-00000.parquet") or "part-00000" in done.stdout.replace("\n", "")
