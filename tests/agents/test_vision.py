"""Teaching a tiny Qwen3-VL to see: what is shown, that the loss falls, and that it is the same twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actfer_env.chat import ChatConfig, parse_turn, system_prompt
from actfer_env.chat.turns import answer_text, call_text
from actfer_env.data import Dataset, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")

from actfer_env.agents.qwen.agent import load  # noqa: E402
from actfer_env.agents.qwen.conversation import ModelError  # noqa: E402
from actfer_env.agents.qwen.fast_vision import _attend, _embed, _worth  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402
from actfer_env.agents.qwen.vision import VIEWS, Heads, VisionConfig, batches, teach_vision  # noqa: E402
from actfer_env.data.views import PreparedImages, prepare  # noqa: E402

FEW = VisionConfig(steps=12, batch=8, lr=3e-3, warm_up=3)


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return load_dataset("synthetic", split="train", preset="easy", n=8)


@pytest.fixture(scope="module")
def shown(faces: Dataset, model: Path) -> PreparedImages:
    return prepare(faces, model.parent / "views", VIEWS, workers=1)


def teach(model: Path, faces: Dataset, out: Path, config: VisionConfig) -> list[float]:
    return teach_vision(model, faces, out, config, views_dir=model.parent / "views", workers=1)


def test_a_batch_has_each_face_once_as_a_whole_or_in_part(shown: PreparedImages) -> None:
    pictures, rows = next(batches(shown, FEW))
    assert sorted(rows.tolist()) == list(range(8)) and pictures.shape == (8, 64, 64, 3)
    for picture, row in zip(pictures, rows, strict=True):
        assert any(np.array_equal(picture, one) for one in (shown.face[row], *shown.crops[row]))
    again = next(batches(shown, FEW))
    np.testing.assert_array_equal(again[0], pictures)


def test_a_face_without_labels_teaches_nothing() -> None:
    heads, features = Heads(4), torch.ones(4, 4)
    counts, units = torch.tensor([2, 2]), torch.zeros(2, heads.units.out_features)
    coded, emotions = torch.tensor([True, False]), torch.tensor([3, -1])
    both = heads.loss([features], counts, units, coded, emotions)
    one = heads.loss([features[:2]], counts[:1], units[:1], coded[:1], emotions[:1])
    torch.testing.assert_close(both, one)
    assert float(heads.loss([features], counts, units, torch.zeros(2, dtype=torch.bool), torch.full((2,), -1))) == 0


def test_the_loss_falls_and_the_same_seed_gives_the_same_weights(
    model: Path, faces: Dataset, shown: PreparedImages, tmp_path: Path
) -> None:
    losses = teach(model, faces, tmp_path / "a", FEW)
    assert np.mean(losses[-4:]) < losses[0]
    assert json.loads((tmp_path / "a" / "vision.json").read_text())["losses"] == losses
    few = replace(FEW, steps=2)
    same = [teach(model, faces, tmp_path / name, few) for name in ("b", "c")]
    other = teach(model, faces, tmp_path / "d", replace(few, seed=1))
    hashes = [hashlib.sha256((tmp_path / n / "model.safetensors").read_bytes()).hexdigest() for n in "bcd"]
    assert same[0] == same[1] != other and hashes[0] == hashes[1] != hashes[2]


def test_only_the_tower_changes_and_the_folder_loads(
    model: Path, faces: Dataset, shown: PreparedImages, tmp_path: Path
) -> None:
    teach(model, faces, tmp_path / "a", replace(FEW, steps=1))
    before, after = (dict(load(one, "float32")[0].named_parameters()) for one in (model, tmp_path / "a"))
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved and all(".visual." in name for name in moved)
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_faults_are_one_line_before_any_work(model: Path, faces: Dataset, shown: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        teach(model, faces, tmp_path / "file" / "out", FEW)
    with pytest.raises(ModelError, match="no model folder"):
        teach_vision(tmp_path / "nowhere", faces, tmp_path / "out", FEW, views_dir=model.parent / "views", workers=1)
    for wrong in ({"batch": 0}, {"steps": -1}):
        with pytest.raises(DataError, match="must be"):
            VisionConfig(**wrong)


def test_the_tokenizer_learns_the_wording_that_it_is_given(tmp_path: Path) -> None:
    turns = [
        f"<think>Global Analysis: the lip corners are pulled up (AU12). Happiness, {n}.</think>" for n in range(40)
    ]
    config = TinyQwenConfig(brief=True, max_pixels=64 * 64, vocabulary=900)
    lengths = []
    for name, texts in (("without", []), ("with", turns)):
        tokenizer = load(build(tmp_path / name, config, texts), "float32")[1]
        assert tokenizer.decode(tokenizer(turns[0]).input_ids) == turns[0]
        lengths.append(len(tokenizer(turns[0]).input_ids))
    assert lengths[1] < lengths[0] / 2


def test_quick_vision_gives_the_same_features(model: Path, shown: PreparedImages) -> None:
    from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen

    loaded, _, image_processor = load(model, "float32")
    tower = loaded.model.visual
    made = image_processor(images=[shown.face[0], shown.crops[1][3], shown.face[1][:32]], return_tensors="pt")
    pixels, grids = made["pixel_values"], made["image_grid_thw"]
    lengths = torch.tensor([0, *grids.prod(1)]).cumsum(0).int()
    slow_embed = _plain(qwen.Qwen3VLVisionPatchEmbed)
    torch.testing.assert_close(_embed(tower.patch_embed, pixels), slow_embed(tower.patch_embed, pixels))
    hidden, angles = torch.randn(len(pixels), 32), torch.randn(len(pixels), 16)
    around = angles.cos(), angles.sin()
    attention = tower.blocks[0].attn
    found = _attend(qwen.apply_rotary_pos_emb_vision, attention, hidden, lengths, around)
    wanted = _plain(qwen.Qwen3VLVisionAttention)(attention, hidden, cu_seqlens=lengths, position_embeddings=around)
    assert len(set(grids.prod(1).tolist())) > 1
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("attention", "longest", "device", "quick"),
    [("flash_attention_2", 900, "cpu", True), ("sdpa", 16, "meta", True), ("eager", 257, "meta", False),
     ("flash_attention_2", 16, "meta", False)],
)  # fmt: skip
def test_on_a_gpu_only_short_pictures_are_padded(attention: str, longest: int, device: str, quick: bool) -> None:
    module = SimpleNamespace(config=SimpleNamespace(_attn_implementation=attention))
    lengths = torch.tensor([0, 4, 4 + longest], dtype=torch.int32)
    assert _worth(module, torch.empty(1, device=device), cu_seqlens=lengths) is quick


def _plain(kind: Any) -> Any:
    """Return the class's own forward, quickened or not."""
    return getattr(kind.forward, "__wrapped__", kind.forward)


def test_brief_conversations_have_the_same_format() -> None:
    brief, full = (system_prompt(ChatConfig(brief=brief), EpisodeConfig()) for brief in (True, False))
    assert len(brief) < 0.05 * len(full)
    parsed = parse_turn(answer_text("fear", {26, 1, 2}), ChatConfig(brief=True, parsing="strict"))
    assert parsed.answer is not None
    assert (parsed.answer.emotion, parsed.answer.aus) == ("fear", ["AU1", "AU2", "AU26"])
    call = parse_turn(call_text("zoom_in", regions=["nose"]), ChatConfig(parsing="strict")).calls[0]
    assert (call.name, call.arguments) == ("zoom_in", {"regions": ["nose"]})
