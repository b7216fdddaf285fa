"""Exports: the tokens of evaluation, every picture in its place, and what was written is read back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curate_data import SMALL, write_set
from PIL import Image

pytest.importorskip("pydantic", reason="needs pydantic: pip install 'actfer-env[data]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")
datasets = pytest.importorskip("datasets", reason="needs datasets: pip install 'actfer-env[data]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'actfer-env[data]'")

from actfer_env.agents.qwen.agent import load  # noqa: E402
from actfer_env.agents.qwen.conversation import Conversation, TokenCodec  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402
from actfer_env.chat import ChatEpisode  # noqa: E402
from actfer_env.curate.conversations import Template  # noqa: E402
from actfer_env.curate.curate import curate  # noqa: E402
from actfer_env.curate.exports import FORMATS, export  # noqa: E402
from actfer_env.curate.options import CurateOptions  # noqa: E402
from actfer_env.curate.replay import Curated, target_sample  # noqa: E402
from actfer_env.data import load_dataset  # noqa: E402
from actfer_env.errors import DataError  # noqa: E402
from actfer_env.verl_plugin.rows import check_parquet, write_parquet  # noqa: E402


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny", TinyQwenConfig(max_pixels=64 * 64))


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated")
    data = write_set(folder / "data", 14, dark=2)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[4]["question"] = "<image>How does this person feel?"
    data.write_text("\n".join(map(json.dumps, rows)))
    options = CurateOptions.build(detector="curate-middle", chat=SMALL, views="none", rl_size=3, seed=2)
    curate(load_dataset("jsonl", data), folder / "out", options)
    return folder / "out"


def conversations(curated: Path, tiny: Path) -> dict[str, Conversation]:
    """Play each line as a local model would: turn by turn, in tokens."""
    _, tokenizer, image_processor = load(tiny, "float32")
    codec, source, found = TokenCodec(tokenizer, image_processor), Curated.open(curated), {}
    for line in source.lines():
        episode = ChatEpisode(target_sample(line), source.tools, source.chat, source.episode)
        found[line.id] = Conversation(episode, codec)
        for turn in line.turns:
            found[line.id].write([*codec.encode(turn), codec.end_id])
    return found


def test_the_tokens_are_those_of_evaluation(curated: Path, tiny: Path, tmp_path: Path) -> None:
    export(Curated.open(curated), "trl", tmp_path / "trl", model=tiny, shard_size=4)
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "trl" / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )  # fmt: skip
    played, template = conversations(curated, tiny), Template(tiny)
    assert set(rows["id"]) == set(played) and len(list((tmp_path / "trl").iterdir())) == 3
    tokenizer = template.tokenizer
    _, _, image_processor = load(tiny, "float32")
    for row in rows:
        wanted = played[row["id"]]
        text = template.render(row["messages"])
        codec = TokenCodec(tokenizer, image_processor)
        pictures = [np.asarray(image.convert("RGB")) for image in row["images"]]
        assert all(np.array_equal(*pair) for pair in zip(pictures, wanted.episode.images, strict=True))
        ids = codec._chunk(text, pictures).ids
        assert ids == [*wanted.ids, *codec.encode("\n")]  # the last turn's line end, which a policy never writes
        assert {message["role"] for message in row["messages"]} == {"system", "user", "assistant"}


def test_a_question_of_ones_own_is_in_the_prompt(curated: Path, tiny: Path, tmp_path: Path) -> None:
    export(Curated.open(curated), "verl", tmp_path / "verl", model=tiny)
    rows = [row for path in (tmp_path / "verl").iterdir() for row in parquet.read_table(path).to_pylist()]
    users = {row["id"]: row["messages"][1]["content"] for row in rows}
    if "face-4" in users:
        assert users["face-4"] == "<image>How does this person feel?"
    assert all(row["messages"][0]["content"].count('"zoom_in"') for row in rows)
    for row in rows:
        assert sum(message["content"].count("<image>") for message in row["messages"]) == len(row["images"])
        assert [message["role"] for message in row["messages"][1:]] == ["user", "assistant"] * (
            len(row["messages"]) // 2
        )


def test_llamafactory_alternates_and_keeps_pictures_as_files(curated: Path, tiny: Path, tmp_path: Path) -> None:
    export(Curated.open(curated), "llamafactory", tmp_path / "out", model=tiny)
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["actfer"]
    assert info["formatting"] == "sharegpt" and info["tags"]["observation_tag"] == "observation"
    for line in (tmp_path / "out" / info["file_name"]).read_text().splitlines():
        row = json.loads(line)
        speakers = [turn["from"] for turn in row["conversations"]]
        assert speakers[0] == "human" and set(speakers[1::2]) == {"gpt"} and set(speakers[2::2]) <= {"observation"}
        assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == len(row["images"])
        assert all(Image.open(tmp_path / "out" / name).size[0] <= 64 for name in row["images"])


def test_hugging_face_features_and_card(curated: Path, tiny: Path, tmp_path: Path) -> None:
    count = export(Curated.open(curated), "huggingface", tmp_path / "out", model=tiny)
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == count and type(rows.features["images"].feature).__name__ == "Image"
    assert rows[0]["images"][0].size == (48, 48) and rows[0]["aus"] is not None and rows[0]["mode"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{count} multi-turn conversations" in card and "| emotion | lines |" in card and "no redistribution" in card


def test_facial_r1_lines_have_its_ids_and_load_again(curated: Path, tmp_path: Path) -> None:
    count = export(Curated.open(curated), "facial_r1", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "faces.jsonl").read_text().splitlines()]
    assert len(rows) == count
    for row in rows:
        assert row["id"] == hashlib.md5(f"faces_{row['image']}_{row['question']}".encode()).hexdigest()
        assert (tmp_path / "out" / "faces" / row["image"]).is_file() and row["labels"][0] in row["description"].lower()
    assert len(load_dataset("jsonl", tmp_path / "out" / "faces.jsonl")) == count


def test_the_rl_set_is_a_data_set_with_its_targets(curated: Path, tmp_path: Path) -> None:
    dataset = load_dataset("curated", curated)
    lines = {line.id: line for line in Curated.open(curated / "rl.jsonl").lines()}
    assert {sample.id for sample in dataset} == set(lines) and len(dataset) == 3
    assert all(
        sample.aus == lines[sample.id].units and sample.emotion == lines[sample.id].emotion for sample in dataset
    )
    pytest.importorskip("pyarrow")
    assert check_parquet(write_parquet(dataset, tmp_path / "verl")) == 3


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_is_left_where_an_export_fails(
    to: str, curated: Path, tiny: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    source = Curated.open(curated)
    if to == "facial_r1":
        monkeypatch.setattr("actfer_env.curate.exports.load_jsonl", lambda path: [])
    else:
        monkeypatch.setattr("actfer_env.curate.exports.row_digest", _never_equal())
    with pytest.raises(DataError, match="what was read back differs"):
        export(source, to, tmp_path / "out", model=tiny)
    assert list(tmp_path.iterdir()) == []


def _never_equal() -> Any:
    counter = iter(range(10_000))
    return lambda *_: str(next(counter))


def test_tools_need_the_models_template_and_changed_pictures_are_noticed(
    curated: Path, tiny: Path, tmp_path: Path
) -> None:
    source = Curated.open(curated)
    with pytest.raises(DataError, match="give --model FOLDER"):
        export(source, "trl", tmp_path / "out")
    with pytest.raises(DataError, match="unknown format 'csv'"):
        export(source, "csv", tmp_path / "out", model=tiny)
    line = next(one for one in source.lines() if one.mode != "degraded")
    path = Path(line.reference["path"])
    before = path.read_bytes()
    Image.new("RGB", (48, 48)).save(path)
    try:
        with pytest.raises(DataError, match="its picture or the detector has changed"):
            export(Curated.open(curated), "trl", tmp_path / "out", model=tiny)
    finally:
        path.write_bytes(before)
    assert not (tmp_path / "out").exists()
