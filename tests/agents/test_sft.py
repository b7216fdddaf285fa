"""Teaching a tiny Qwen3-VL: what carries the loss, that it falls, and that it is the same twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actfer_env import facs
from actfer_env.chat import ChatConfig, parse_turn, system_prompt
from actfer_env.chat.turns import answer_text, call_text
from actfer_env.data import Dataset, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.evaluation import EvalConfig, evaluate
from actfer_env.tools.detectors import simulated

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")

from actfer_env.agents import sft  # noqa: E402
from actfer_env.agents.lessons import BRIEF_CHAT, SFTDataset, codec_of, lessons_name, prepare_lessons  # noqa: E402
from actfer_env.agents.qwen.agent import QwenVLAgent, SamplingConfig, load  # noqa: E402
from actfer_env.agents.qwen.conversation import ModelError  # noqa: E402
from actfer_env.agents.qwen.fast_vision import _attend, _embed, _worth  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402
from actfer_env.agents.sft import IGNORED, SFTConfig, collate, finetune  # noqa: E402

FEW = SFTConfig(vision_steps=12, vision_batch=8, steps=25, batch=8, lr=3e-3, warm_up=5)
ZOOMS = len(facs.REGIONS)


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return load_dataset("synthetic", split="train", preset="easy", n=8)


@pytest.fixture(scope="module")
def lessons(model: Path, faces: Dataset) -> SFTDataset:
    return prepare_lessons(faces, model, model.parent / "lessons", workers=1)


@pytest.fixture(scope="module")
def taught(model: Path, faces: Dataset, lessons: SFTDataset) -> tuple[Path, dict[str, list[float]]]:
    out = model.parent / "taught"
    return out, finetune(model, faces, out, FEW, lessons_dir=model.parent / "lessons")


def test_a_lesson_is_the_conversation_that_an_episode_makes(faces: Dataset, model: Path, lessons: SFTDataset) -> None:
    tokenizer = codec_of(model).tokenizer
    text = tokenizer.decode(lessons.plays[0][1].ids.tolist())
    region = facs.REGIONS[0]
    assert text.count("<|im_start|>assistant\n") == 3
    assert call_text("zoom_in", regions=[region]) in text
    assert f"Magnified {region}." in text
    assert text.endswith(f"{answer_text(faces[0].emotion or '', faces[0].aus or ())}<|im_end|>")


def test_only_what_the_policy_writes_carries_a_loss(model: Path, lessons: SFTDataset, faces: Dataset) -> None:
    codec = codec_of(model)
    plays = [lessons.plays[0][0], lessons.plays[1][2]]
    batch = collate(plays, lessons, codec.image_id, codec.tokenizer.pad_token_id)
    for row, (sample, zoom) in enumerate(((faces[0], []), (faces[1], [facs.REGIONS[1]]))):
        kept = batch["labels"][row][batch["labels"][row] != IGNORED].tolist()
        calls = [call_text("detect_align"), *(call_text("zoom_in", regions=[region]) for region in zoom)]
        assert codec.tokenizer.decode(kept) == "".join(calls) + answer_text(sample.emotion, sample.aus) + "<|im_end|>"
    assert codec.image_id not in batch["labels"]
    features = int(batch["image_grid_thw"].prod(1).sum()) // 4
    assert int((batch["input_ids"] == codec.image_id).sum()) == features == int(batch["mm_token_type_ids"].sum())


def test_kept_pictures_are_those_of_the_image_processor(model: Path, lessons: SFTDataset, faces: Dataset) -> None:
    codec = codec_of(model)
    from actfer_env.chat import ChatEpisode, chat_tools

    episode = ChatEpisode(faces[0], chat_tools("auto", BRIEF_CHAT), BRIEF_CHAT)
    shown = codec.pictures(episode.images)[0][0]
    np.testing.assert_allclose(lessons.pixels(lessons.plays[0][0].pictures[:1]), shown, atol=1e-6)


def test_lessons_are_kept(model: Path, lessons: SFTDataset, faces: Dataset) -> None:
    again = prepare_lessons(faces, model, model.parent / "lessons", workers=1)
    np.testing.assert_array_equal(again.patches, lessons.patches)
    assert len(list((model.parent / "lessons").iterdir())) == 1
    assert [len(plays) for plays in lessons.plays] == [1 + ZOOMS] * len(faces)


def test_lessons_are_named_by_all_that_changes_them(
    model: Path, faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(model, tmp_path / "model")
    assert lessons_name(faces, other) == lessons_name(faces, model), "a copy of the model lays out the same tokens"
    (other / "chat_template.jinja").write_text("{{ messages }}")
    names = {lessons_name(faces, model), lessons_name(faces, other), lessons_name(faces, model, ChatConfig())}
    names.add(lessons_name(faces, model, detector="simulated"))
    names.add(lessons_name(load_dataset("synthetic", split="train", preset="hard", n=8), model))
    config = simulated.SimulatedConfig
    monkeypatch.setattr(simulated, "SimulatedConfig", lambda: config(min_eyes=50.0))
    names.add(lessons_name(faces, model))
    assert len(names) == 6


def test_lessons_of_no_model_and_in_no_folder_are_one_line(model: Path, faces: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"it is no folder with a tokenizer\.json"):
        prepare_lessons(faces, tmp_path / "nowhere", tmp_path / "lessons")
    (tmp_path / "file").write_text("")
    few = Dataset(faces.name, faces[:1], faces.arguments)
    with pytest.raises(DataError, match="cannot write"):
        prepare_lessons(few, model, tmp_path / "file" / "lessons", workers=1)
    with pytest.raises(DataError, match="cannot write"):
        build(tmp_path / "file" / "model")
    broken = tmp_path / "lessons" / lessons_name(faces, model)
    broken.mkdir(parents=True)
    with pytest.raises(DataError, match="is broken"):
        prepare_lessons(faces, model, tmp_path / "lessons")


def test_a_teaching_that_was_begun_otherwise_is_not_gone_on_with(
    model: Path, faces: Dataset, lessons: SFTDataset, tmp_path: Path
) -> None:
    def begin(name: str, given: Any, config: SFTConfig, data: Dataset = faces) -> None:
        def stop(phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if done == 2:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(sft, "KEPT_EVERY", 1)
            finetune(given, data, tmp_path / name, config, lessons_dir=model.parent / "lessons", watch=stop)

    few = replace(FEW, vision_steps=2, steps=1)
    begin("run", model, few)
    other = build(tmp_path / "other", TinyQwenConfig(brief=True, max_pixels=64 * 64, vocabulary=900, seed=1))
    for given, config, message in (
        (other, few, r"model\.model\.safetensors is"),
        (model, replace(few, lr=1.0), "lr is 1"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            finetune(given, faces, tmp_path / "run", config, lessons_dir=tmp_path / "none")
        assert "\n" not in str(caught.value) and not (tmp_path / "none").exists(), "refused before any work"
    (tmp_path / "run" / "teaching.pt").write_bytes(b"half")
    with pytest.raises(DataError, match=r"teaching\.pt is broken"):
        finetune(model, faces, tmp_path / "run", few)


def test_both_losses_fall(taught: tuple[Path, dict[str, list[float]]]) -> None:
    losses = taught[1]
    assert np.mean(losses["vision"][-4:]) < losses["vision"][0]
    assert np.mean(losses["turns"][-4:]) < 0.8 * losses["turns"][0]
    assert json.loads((taught[0] / "sft.json").read_text())["losses"]["turns"] == losses["turns"]


def test_the_same_seed_gives_the_same_weights(model: Path, faces: Dataset, lessons: SFTDataset, tmp_path: Path) -> None:
    few = replace(FEW, vision_steps=3, steps=3)
    kwargs: Any = {"lessons_dir": model.parent / "lessons"}
    same = [finetune(model, faces, tmp_path / name, few, **kwargs) for name in ("a", "b")]
    other = finetune(model, faces, tmp_path / "c", replace(few, seed=1), **kwargs)
    hashes = [hashlib.sha256((tmp_path / n / "model.safetensors").read_bytes()).hexdigest() for n in "abc"]
    assert same[0] == same[1] != other
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_stopped_teaching_ends_like_one_that_was_not(
    model: Path, faces: Dataset, lessons: SFTDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, kwargs = replace(FEW, vision_steps=3, steps=4), {"lessons_dir": model.parent / "lessons"}
    monkeypatch.setattr(sft, "KEPT_EVERY", 2)
    whole = finetune(model, faces, tmp_path / "whole", few, **kwargs)
    for stop in (("vision", 3, 3), ("turns", 3, 4)):

        def interrupt(*progress: Any, stop: Any = stop) -> None:
            if progress[:3] == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            finetune(model, faces, tmp_path / "stopped", few, watch=interrupt, **kwargs)
    with pytest.raises(DataError, match=r"config\.seed is 1"):
        finetune(model, faces, tmp_path / "stopped", replace(few, seed=1), **kwargs)
    assert finetune(model, faces, tmp_path / "stopped", few, **kwargs) == whole
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "stopped" / "teaching.pt").exists()


def test_a_taught_model_is_evaluated_like_any_other(taught: tuple[Path, Any], faces: Dataset) -> None:
    agent = QwenVLAgent(taught[0], device="cpu", dtype="float32", sampling=SamplingConfig(max_new_tokens=48))
    run = evaluate(agent, faces, EvalConfig(chat=BRIEF_CHAT, episode=EpisodeConfig(max_turns=3), number=2))
    assert all(rollout.texts for rollout in run.rollouts)


def test_quick_vision_gives_the_same_features(model: Path, lessons: SFTDataset) -> None:
    from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen

    tower = load(model, "float32")[0].model.visual
    pictures = [*lessons.plays[0][1].pictures, *lessons.plays[1][4].pictures]
    pixels, grids = torch.from_numpy(lessons.pixels(pictures)), torch.from_numpy(lessons.grids[pictures])
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


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"steps": -1}, {"zoom_share": 1.5}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="must be"):
        SFTConfig(**wrong)
