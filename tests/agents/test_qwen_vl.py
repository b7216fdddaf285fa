"""A vision-language model as policy: the tiny Qwen3-VL through real conversations."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actfer_env.chat import ChatConfig, ChatEpisode, chat_tools
from actfer_env.data import Dataset, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.errors import DataError
from actfer_env.evaluation import EvalConfig, evaluate

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")

from actfer_env.agents.qwen.agent import QwenVLAgent, SamplingConfig, load  # noqa: E402
from actfer_env.agents.qwen.conversation import Conversation, ModelError  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

DETECT = '<think>.</think><tool_call>{"name": "detect_align", "arguments": {}}</tool_call>'
CHAT = ChatConfig(face_side=64, crop_side=64, image_side=96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def samples() -> Dataset:
    return load_dataset("synthetic", split="test", n=16)


def agent(folder: Path, batch_size: int = 4, **sampling: Any) -> QwenVLAgent:
    settings = {"max_new_tokens": 12, **sampling}
    return QwenVLAgent(
        folder, device="cpu", dtype="float32", batch_size=batch_size, sampling=SamplingConfig(**settings)
    )


def episodes(samples: Dataset, count: int, max_turns: int = 3) -> Iterator[ChatEpisode]:
    tools = chat_tools(chat=CHAT)
    return (ChatEpisode(samples[i], tools, CHAT, EpisodeConfig(max_turns=max_turns)) for i in range(count))


def test_the_tiny_model_is_small_and_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sum(sizes.values()) < 5_000_000
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    other = build(tmp_path / "other", TinyQwenConfig(seed=1))
    assert (other / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()


def test_placeholders_equal_features_over_ten_turns(folder: Path, samples: Dataset) -> None:
    player = agent(folder)
    episode = ChatEpisode(samples[0], chat_tools(chat=CHAT), CHAT, EpisodeConfig(max_turns=12))
    conversation = Conversation(episode, player.codec)
    texts = [DETECT, *[f'<tool_call>{{"name": "zoom_in", "arguments": {{"regions": ["{name}"]}}}}</tool_call>'
                       for name in ("nose", "mouth-chin", "eye-periorbital", "forehead-eyebrow")],
             "<|image_pad|> what", "x", DETECT, "y", "z"]  # fmt: skip
    for text in texts:
        conversation.write(player.codec.tokenizer(text.replace("<|", "< |"), add_special_tokens=False).input_ids)
        conversation.check()
    assert len(conversation.turns) == 10 and len(conversation.grids) == 6
    assert player.write([conversation])[0]


def test_only_what_the_policy_wrote_carries_a_loss(folder: Path, samples: Dataset) -> None:
    player = agent(folder)
    for conversation, usage in player.play(episodes(samples, 3)):
        assert sum(conversation.written) == sum(stop - start for start, stop in conversation.turns)
        assert usage.completion_tokens == sum(conversation.written)
        written = [token for token, mine in zip(conversation.ids, conversation.written, strict=True) if mine]
        assert not set(written) & set(player.forbidden)
        texts = [player.codec.decode(conversation.ids[a:b]) for a, b in conversation.turns]
        assert list(conversation.episode.rollout().texts) == texts


def test_batched_greedy_output_equals_one_at_a_time(folder: Path, samples: Dataset) -> None:
    def played(batch_size: int) -> dict[str, list[int]]:
        found = agent(folder, batch_size).play(episodes(samples, 9))
        return {conversation.episode.sample.id: conversation.ids for conversation, _ in found}

    assert played(5) == played(1)


def test_sampling_repeats_with_the_seed(folder: Path, samples: Dataset) -> None:
    def played(seed: int) -> list[list[int]]:
        player = agent(folder, temperature=1.0, seed=seed)
        return [conversation.ids for conversation, _ in player.play(episodes(samples, 4))]

    assert played(1) == played(1) != played(2)


def test_draws_depend_neither_on_the_batch_nor_on_a_second_start(
    folder: Path, samples: Dataset, tmp_path: Path
) -> None:
    def player(batch_size: int, **sampling: Any) -> QwenVLAgent:
        return agent(folder, batch_size, temperature=1.2, top_p=0.9, **sampling)

    config = EvalConfig(CHAT, EpisodeConfig(max_turns=2), number=4, repeats=2)
    whole = [rollout.texts for rollout in evaluate(player(8), samples, config).rollouts]
    evaluate(player(3), samples, replace(config, number=2), tmp_path)
    with pytest.raises(DataError, match=r"sampling\.seed is 1"):
        evaluate(player(3, seed=1), samples, config, tmp_path)
    assert [rollout.texts for rollout in evaluate(player(1), samples, config, tmp_path).rollouts] == whole
    assert len(set(whole)) == 8  # repeats of a sample draw anew


def test_draws_follow_the_probabilities() -> None:
    from actfer_env.agents.qwen.sampling import sampling_chain

    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05, 0.0, 0.9]]))
    chain = sampling_chain(SamplingConfig(temperature=1.0, top_p=0.9), 5, [torch.Generator().manual_seed(0)])
    drawn = torch.stack([chain(None, scores.clone()).argmax() for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=6) / 4000
    # The last row is no token; of the others top_p keeps the first three, 0.95 in all.
    expected = torch.tensor([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0, 0, 0])
    torch.testing.assert_close(shares, expected, atol=0.025, rtol=0)
    greedy = sampling_chain(SamplingConfig(), 5, [])
    assert int(greedy(None, scores.clone()).argmax()) == 0


def test_log_probs_are_those_of_sampling(folder: Path, samples: Dataset) -> None:
    player = agent(folder, temperature=1.0)
    conversations = [conversation for conversation, _ in player.play(episodes(samples, 3, max_turns=2))]
    with torch.no_grad():
        together = player.log_probs(conversations)
        for conversation, (logs, mask) in zip(conversations, together, strict=True):
            ((alone, _),) = player.log_probs([conversation])
            torch.testing.assert_close(logs[mask], alone[mask], atol=1e-4, rtol=0)
            assert bool((logs[mask] < 0).all()) and int(mask.sum()) == sum(conversation.written[1:])


def test_a_conversation_beyond_the_limit_ends(folder: Path, samples: Dataset) -> None:
    player = agent(folder, max_length=900)
    ((conversation, _),) = player.play(episodes(samples, 1))
    assert conversation.episode.rollout().meta["outcome"] == "too_long"


def test_the_image_budget_bounds_tokens(folder: Path, samples: Dataset) -> None:
    player = QwenVLAgent(folder, device="cpu", dtype="float32", max_pixels=32 * 64)
    conversation = Conversation(next(episodes(samples, 1)), player.codec)
    assert conversation.ids.count(player.codec.image_id) <= 2


def test_a_missing_or_foreign_checkpoint_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        load(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot load") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_template_without_tools_gets_them_in_the_prompt(folder: Path, samples: Dataset, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    template = (folder / "chat_template.jinja").read_text("utf-8")
    (tmp_path / "m" / "chat_template.jinja").write_text(template.replace("and tools", "and false"), "utf-8")
    player = agent(tmp_path / "m")
    assert player.chat.schemas_in_prompt and not agent(folder).chat.schemas_in_prompt
    with pytest.raises(ModelError, match="schemas_in_prompt"):
        next(player.play(episodes(samples, 1)))
    episode = ChatEpisode(samples[0], chat_tools(chat=CHAT), replace(player.chat, image_side=96))
    prompt = player.codec.decode(Conversation(episode, player.codec).ids)
    assert '"detect_align"' in prompt and "zoom_in" in prompt


def actfer_eval(*arguments: Any) -> list[str]:
    fixed = ["--device", "cpu", "--dtype", "float32", "--max-turns", "2", "--max-new-tokens", "4", "--batch", "2"]
    command = [sys.executable, "-m", "actfer_env", "eval", "synthetic", "--split", "test", *fixed]
    return [*command, *map(str, arguments)]


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_killed(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "episodes.jsonl"
    command = actfer_eval("--model", folder, "--out", tmp_path, "-n", 24)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (kept.exists() and kept.stat().st_size):
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = kept.read_bytes()
    lines = before[: before.rfind(b"\n") + 1]
    assert 0 < lines.count(b"\n") < 24
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert kept.read_bytes().startswith(lines) and kept.read_bytes().count(b"\n") == 24
    assert {"rollouts.jsonl", "run.json", "report.html", "summary.json"} <= {path.name for path in tmp_path.iterdir()}
    assert all(word in done.stdout for word in ("accuracy", "macro-F1", "AU F1", "parse failures", "tokens"))


def test_the_command_says_in_one_line_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    command = actfer_eval("--model", folder, "--native-calls", "--out", tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("actfer: a local model writes its calls as text")


def build_qwen25(tiny: Path, folder: Path) -> Path:
    """A tiny random Qwen2.5-VL with the other model's tokenizer: patches of 14 pixels, windowed attention."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    shutil.copytree(tiny, folder)
    tokens = agent(tiny).codec.tokenizer
    sizes = {"hidden_size": 32, "intermediate_size": 64}
    text = {
        **sizes, "vocab_size": len(tokens), "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "bos_token_id": None, "eos_token_id": tokens.eos_token_id, "pad_token_id": tokens.pad_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision = {
        **sizes,
        "depth": 2,
        "num_heads": 2,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "out_hidden_size": 32,
    }
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}  # fmt: skip
    markup = {name: tokens.convert_tokens_to_ids(token) for name, token in names.items()}
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **markup)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "patch_size": 14}), "utf-8")
    return folder


def test_qwen25_plays_too_and_writes_boxes_in_pixels(folder: Path, samples: Dataset, tmp_path: Path) -> None:
    older = build_qwen25(folder, tmp_path / "m")
    together, alone = (
        {one.episode.sample.id: one.ids for one, _ in agent(older, size).play(episodes(samples, 4))} for size in (3, 1)
    )
    assert together == alone and agent(older).chat.coordinates == "pixels"
