"""Supervised fine-tuning: rows as tokens, what carries a loss, TRL's trainer, and the folder that comes out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")
pytest.importorskip("pydantic", reason="needs the extra [data]")
datasets = pytest.importorskip("datasets", reason="needs datasets: pip install 'actfer-env[data]'")

from actfer_env.agents.qwen.agent import QwenVLAgent, SamplingConfig, load  # noqa: E402
from actfer_env.agents.qwen.conversation import Conversation, ModelError, TokenCodec  # noqa: E402
from actfer_env.agents.qwen.supervised import IGNORED, TurnsCollator  # noqa: E402
from actfer_env.agents.qwen.tiny import BRIEF_CHAT, TinyQwenConfig, build  # noqa: E402
from actfer_env.chat import ChatEpisode  # noqa: E402
from actfer_env.curate.curate import curate  # noqa: E402
from actfer_env.curate.exports import export  # noqa: E402
from actfer_env.curate.options import CurateOptions  # noqa: E402
from actfer_env.curate.replay import Curated  # noqa: E402
from actfer_env.data import load_dataset  # noqa: E402

TRAIN = ROOT / "examples" / "sft" / "train_sft.py"
needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="needs TRL: pip install 'actfer-env[trl]'")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated") / "c"
    chat = {"brief": True, "image_side": 64, "face_side": 64, "crop_side": 64}
    options = CurateOptions.build(length="short", views="none", rl_size=0, chat=chat)
    curate(load_dataset("synthetic", split="train", preset="easy", n=8), folder, options)
    return folder


@pytest.fixture(scope="module")
def rows(curated: Path, model: Path) -> Path:
    folder = curated.parent / "rows"
    export(Curated.open(curated), "trl", folder, model=model)
    return folder


@pytest.fixture(scope="module")
def codec(model: Path) -> TokenCodec:
    return TokenCodec(*load(model, "float32")[1:])


def read(rows: Path) -> Any:
    return datasets.load_dataset("parquet", data_files=str(rows / "*.parquet"), split="train")


def test_rows_have_the_tokens_and_pictures_of_evaluation(rows: Path, curated: Path, codec: TokenCodec) -> None:
    source, collator, looks = Curated.open(curated), TurnsCollator(codec), set()
    for row, line in zip(read(rows), source.lines(), strict=True):
        episode = ChatEpisode(source.replay(line).sample, source.tools, source.chat, source.episode)
        played = Conversation(episode, codec)
        for turn in line.turns:
            played.write([*codec.encode(turn), codec.end_id])
        made = collator.tokens(row)
        assert made.ids == played.ids and made.written == played.written and made.grids == played.grids
        assert all(torch.equal(one, two) for one, two in zip(made.pixels, played.pixels, strict=True))
        looks.add(len(made.grids))
    assert len(looks) > 1


def test_only_what_the_policy_writes_carries_a_loss(rows: Path, curated: Path, codec: TokenCodec) -> None:
    some = read(rows).select(range(3))
    batch = TurnsCollator(codec)(list(some))
    for row, line in zip(batch["labels"], Curated.open(curated).lines(), strict=False):
        assert codec.tokenizer.decode(row[row != IGNORED]) == "".join(f"{turn}<|im_end|>" for turn in line.turns)
    features = int(batch["image_grid_thw"].prod(1).sum()) // 4
    assert int((batch["input_ids"] == codec.image_id).sum()) == features == int(batch["mm_token_type_ids"].sum())
    assert batch["attention_mask"].sum(1).tolist() == [len(TurnsCollator(codec).tokens(row).ids) for row in some]


def test_tools_beside_the_messages_are_written_by_the_models_template(
    rows: Path, curated: Path, codec: TokenCodec
) -> None:
    source, collator = Curated.open(curated), TurnsCollator(codec)
    line, episode = next(source.replays())
    plain = {"id": line.id, "messages": episode.messages, "images": episode.images}
    wanted = collator.tokens(read(rows)[0])
    for tools in (episode.tools, json.dumps(episode.tools)):
        assert collator.tokens({**plain, "tools": tools}).ids == wanted.ids
    assert collator.tokens(plain).ids != wanted.ids


def test_a_row_that_is_too_long_loses_whole_turns(rows: Path, codec: TokenCodec) -> None:
    row = max(read(rows), key=lambda one: len(one["messages"]))
    whole = TurnsCollator(codec).tokens(row)
    collator = TurnsCollator(codec, len(whole.ids) - 1)
    short = collator.tokens(row)
    assert short.left_out == 1 and short.ids == whole.ids[: len(short.ids)] and short.ids[-1] == codec.end_id
    assert len(short.grids) < len(whole.grids) or whole.written[len(short.ids) :].count(True) > 0
    collator([row])
    assert collator.left_out == 1
    with pytest.raises(ModelError, match=r"its first turn ends behind \d+ tokens, more than max_length 20"):
        TurnsCollator(codec, 20).tokens(row)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "pictures": (lambda row: row["images"].pop(), "placeholders for"),
    "no turn": (lambda row: row.update(messages=row["messages"][:2], images=row["images"][:1]), "no message has"),
    "special": (lambda row: row["messages"][2].update(content="a<|im_start|>b"), r"special token '<\|im_start\|>'"),
    "native": (lambda row: row["messages"][2].update(tool_calls=[{"id": "1"}]), "write calls as text"),
    "column": (lambda row: row.pop("images"), "no 'images'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_row_is_named(rows: Path, codec: TokenCodec, fault: str) -> None:
    spoil, message = BROKEN[fault]
    row = read(rows)[0]
    spoil(row)
    with pytest.raises(ModelError, match=f"row of sample .* cannot be laid out: .*{message}") as caught:
        TurnsCollator(codec).tokens(row)
    assert "\n" not in str(caught.value)


def test_an_opening_thought_of_the_template_is_not_written_twice(rows: Path, model: Path, tmp_path: Path) -> None:
    thinking = shutil.copytree(model, tmp_path / "thinking")
    template = (thinking / "chat_template.jinja").read_text()
    head = "<|im_start|>assistant\\n"
    at = template.rindex(head) + len(head)
    (thinking / "chat_template.jinja").write_text(template[:at] + "<think>\\n" + template[at:])
    codec = TokenCodec(*load(thinking, "float32")[1:])
    assert codec.prefix == "<think>\n"
    ids = TurnsCollator(codec).tokens(read(rows)[0]).ids
    text = codec.tokenizer.decode(ids)
    assert "<think>\n<think>" not in text and "assistant\n<think>\n" in text


@pytest.fixture(scope="module")
def script() -> Any:
    sys.path.insert(0, str(TRAIN.parent))
    try:
        import train_sft
    finally:
        sys.path.remove(str(TRAIN.parent))
    return train_sft


@pytest.fixture(scope="module")
def taught(script: Any, model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that TRL taught for two steps, and for a third behind its checkpoint."""
    if find_spec("trl") is None:
        pytest.skip("needs TRL: pip install 'actfer-env[trl]'")
    out = tmp_path_factory.mktemp("taught") / "out"
    command = ["train_sft.py", "--config", TRAIN.parent / "small.yaml", "--model", model, "--data", rows,
               "--output_dir", out, "--per_device_train_batch_size", "2", "--logging_steps", "1",
               "--trained", "language", "--learning_rate", "3e-3", "--projector_lr", "1e-3", "--weight_decay", "0.01",
               "--lr_scheduler_type", "constant", "--warmup_steps", "0", "--lr_scheduler_kwargs", "{}",
               "--save_steps", "2"]  # fmt: skip
    for steps in ("2", "3"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [*map(str, command), "--max_steps", steps])
            script.main()
    return out


def test_trl_teaches_the_chosen_weights_each_at_its_rate_and_goes_on(taught: Path, model: Path) -> None:
    record = json.loads((taught / "sft.json").read_text())
    assert [entry["step"] for entry in record["history"]] == [1, 2, 3]
    assert json.loads((taught / "checkpoint-3" / "trainer_state.json").read_text())["global_step"] == 3
    before, after = (dict(load(one, "float32")[0].named_parameters()) for one in (model, taught))
    moved = {name: float((weight - before[name]).detach().abs().max()) for name, weight in after.items()}
    projector = [name for name in moved if "merger" in name]
    encoder = [name for name in moved if ".visual." in name and "merger" not in name]
    language = [name for name in moved if ".visual." not in name]
    assert not any(moved[name] for name in encoder)
    # A step of AdamW is at most about the learning rate; three of 1e-3 and of 3e-3.
    assert 0.5e-3 < max(moved[name] for name in projector) < 4e-3 < max(moved[name] for name in language) < 12e-3
    assert record["rows"] == 8 and record["learning"] == sum(after[name].numel() for name in projector + language)


def test_what_trl_writes_is_played_and_is_what_the_grpo_script_takes(
    taught: Path, model: Path, curated: Path, tmp_path: Path
) -> None:
    agent = QwenVLAgent(taught, device="cpu", dtype="float32", sampling=SamplingConfig(max_new_tokens=8))
    sample = load_dataset("synthetic", split="test", preset="easy", n=1)[0]
    source = Curated.open(curated)
    conversation, _ = next(iter(agent.play([ChatEpisode(sample, source.tools, BRIEF_CHAT, source.episode)])))
    assert conversation.episode.done
    for name in ("preprocessor_config.json", "video_preprocessor_config.json", "chat_template.jinja"):
        assert (taught / name).read_bytes() == (model / name).read_bytes(), name
    assert (taught / "config.json").is_file() and (taught / "generation_config.json").is_file()
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.parquet").write_bytes(b"")
    grpo = ROOT / "examples" / "verl_grpo" / "train_qwen3vl_4b.sh"
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = {"SFT": str(taught), "DATA": str(tmp_path), "OUT": str(tmp_path / "rl"), "DRY_RUN": "1", "PATH": path}
    done = subprocess.run(["bash", grpo], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert f"model.path={taught}" in done.stdout


@needs_trl
def test_trls_own_collator_makes_the_same_tokens_of_the_rows(rows: Path, codec: TokenCodec) -> None:
    from transformers import Qwen3VLProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    with pytest.MonkeyPatch.context() as patch:  # the processor for videos would need torchvision
        patch.setattr(Qwen3VLProcessor, "check_argument_for_proper_class", lambda *_: None)
        processor = Qwen3VLProcessor(
            codec.image_processor, codec.tokenizer, None, chat_template=codec.tokenizer.chat_template
        )
    some = [dict(row) for row in read(rows).select(range(3))]
    ours = TurnsCollator(codec)(some)
    theirs = DataCollatorForVisionLanguageModeling(processor, max_length=1024)(some)
    for row in range(3):
        ids = [batch["input_ids"][row][batch["attention_mask"][row] == 1].tolist() for batch in (ours, theirs)]
        assert [*ids[0], *codec.encode("\n")] == ids[1], "but for the last line end, which nobody writes"
    np.testing.assert_array_equal(ours["image_grid_thw"], theirs["image_grid_thw"])
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"])


def test_freezing_knows_the_parts_of_a_qwen(script: Any, tmp_path: Path) -> None:
    net = load(build(tmp_path / "m", TinyQwenConfig(brief=True, vocabulary=900)), "float32")[0]
    counts = {trained: script.freeze(net, trained) for trained in ("linear", "language", "all")}
    assert counts["linear"] < counts["language"] < counts["all"] == sum(one.numel() for one in net.parameters())
    script.freeze(net, "linear")
    learning = {name for name, weight in net.named_parameters() if weight.requires_grad}
    assert any("q_proj" in name for name in learning) and any("deepstack_merger_list" in name for name in learning)
    assert not any("visual.blocks" in name or "layernorm" in name for name in learning if "merger" not in name)
