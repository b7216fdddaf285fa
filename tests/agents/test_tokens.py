"""The tokens of a conversation: those that transformers' own processor makes, and which of them carry a loss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from token_cases import SHAPES, box, drawn, episode

from actfer_env.chat import ChatEpisode
from actfer_env.chat.messages import to_transformers
from actfer_env.chat.turns import answer_text, call_text

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")

from actfer_env.agents.qwen.agent import QwenVLAgent, SamplingConfig, load  # noqa: E402
from actfer_env.agents.qwen.conversation import CALL_END, Conversation, ModelError, TokenCodec  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny", TinyQwenConfig(max_pixels=512 * 512))


@pytest.fixture(scope="module")
def codec(folder: Path) -> TokenCodec:
    _, tokenizer, image_processor = load(folder, "float32")
    return TokenCodec(tokenizer, image_processor)


@pytest.fixture
def processor(codec: TokenCodec, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Transformers' processor for pictures and text; that for videos needs torchvision, and no video is shown."""
    from transformers import Qwen3VLProcessor

    monkeypatch.setattr(Qwen3VLProcessor, "check_argument_for_proper_class", lambda *_: None)
    tokenizer = codec.tokenizer
    return Qwen3VLProcessor(codec.image_processor, tokenizer, None, chat_template=tokenizer.chat_template)


def shown_by(processor: Any, played: ChatEpisode) -> Any:
    """What transformers' processor makes of a conversation."""
    messages, pictures = to_transformers(played.messages, played.images)
    text = processor.apply_chat_template(
        messages, tools=played.tools or None, tokenize=False, add_generation_prompt=True
    )
    return processor(text=[text], images=pictures, return_tensors="pt")


@pytest.mark.parametrize("seed", range(8))
def test_ids_and_pictures_are_those_of_transformers_processor(seed: int, codec: TokenCodec, processor: Any) -> None:
    rng = np.random.default_rng(seed)
    played = episode(rng, drawn(rng, SHAPES[seed]), max_turns=12)
    conversation = Conversation(played, codec)
    turns = [call_text("detect_align"), *(call_text("zoom_in", boxes=[box(rng)]) for _ in range(4)),
             "I cannot see much.", '<tool_call>{"name": "no', call_text("zoom_in", regions=["chin"]),
             "<think>née 🙂 &lt;</think>" + call_text("detect_align")]  # fmt: skip
    kept = [turns[0], *(turns[place] for place in sorted(rng.choice(range(1, 9), int(rng.integers(1, 9)), False)))]
    counts = set()
    for turn in ["", *kept]:
        if turn:
            conversation.write(codec.cut([*codec.encode(turn), codec.end_id]))
        wanted = shown_by(processor, played)
        assert conversation.ids == wanted.input_ids[0].tolist()
        assert [list(grid) for grid in conversation.grids] == wanted.image_grid_thw.tolist()
        assert torch.equal(torch.cat(conversation.pixels), wanted.pixel_values)
        counts.add(len(conversation.images))
    assert min(counts) == 1 and len(conversation.turns) == len(kept)


def test_a_conversation_of_six_pictures_is_that_of_transformers_processor(codec: TokenCodec, processor: Any) -> None:
    rng = np.random.default_rng(9)
    for shape in SHAPES:
        played = episode(rng, drawn(rng, shape))
        conversation = Conversation(played, codec)
        for turn in (call_text("detect_align"), call_text("zoom_in", boxes=[box(rng) for _ in range(4)])):
            conversation.write(codec.encode(turn))
        assert len(conversation.images) == 6
        assert conversation.ids == shown_by(processor, played).input_ids[0].tolist()


def drawn_turn(rng: np.random.Generator, codec: TokenCodec) -> list[int]:
    """Tokens as an untaught model may draw them: calls, nonsense, nothing, special tokens, several stops."""
    kinds = [
        codec.encode(call_text("detect_align")), codec.encode(call_text("zoom_in", regions=["nose"])), [],
        codec.encode("<|endoftext|>"), codec.encode("<|endoftext|>x<|im_end|>"), codec.encode("<|im_end|>"),
        codec.encode("a<|image_pad|>b<|im_end|>"), codec.encode("<|vision_start|><|image_pad|><|vision_end|>"),
        codec.encode("x<|im_end|><|im_end|>y</tool_call>"), codec.encode("x</tool_call></tool_call><|im_end|>"),
        codec.encode(call_text("detect_align"))[: int(rng.integers(1, 9))], codec.encode("<|im_start|>user\nI am"),
        rng.integers(0, len(codec.tokenizer), int(rng.integers(1, 30))).tolist(),
    ]  # fmt: skip
    return list(kinds[rng.integers(len(kinds))])


@pytest.mark.parametrize("seed", range(25))
def test_only_tokens_that_were_sampled_are_written(seed: int, codec: TokenCodec) -> None:
    rng = np.random.default_rng(seed)
    played = episode(rng, drawn(rng, (64, 64)), max_turns=8)
    conversation = Conversation(played, codec)
    sampled: list[int] = []
    while not played.done:
        made = drawn_turn(rng, codec)
        kept = codec.cut(made)
        assert kept == made[: len(kept)] and not set(kept) & set(codec.forbidden)
        stops, _ = codec.stops()
        assert not set(kept[:-1]) & set(stops)
        sampled += kept
        conversation.write(kept)
        written = [token for token, mine in zip(conversation.ids, conversation.written, strict=True) if mine]
        assert written == sampled
        conversation.check()


def test_a_reply_without_room_goes_with_its_pictures(codec: TokenCodec) -> None:
    rng = np.random.default_rng(0)
    played = episode(rng, drawn(rng, (300, 200)))
    conversation = Conversation(played, codec)
    conversation.write(codec.encode(call_text("detect_align")))
    before = len(conversation.grids), len(conversation.images)
    conversation.write(codec.encode(call_text("zoom_in", regions=["nose", "mouth-chin"])))
    assert len(conversation.images) == 4 and before == (2, 2)
    conversation.drop_reply()
    assert (len(conversation.grids), len(conversation.images)) == before and conversation.written[-1]
    assert len(conversation.ids) == len(conversation.written) == conversation.turns[-1][1]
    conversation.check()


def test_a_placeholder_too_many_names_the_sample(codec: TokenCodec) -> None:
    rng = np.random.default_rng(0)
    conversation = Conversation(episode(rng, drawn(rng, (97, 640))), codec)
    conversation.ids.append(codec.image_id)
    with pytest.raises(ModelError, match=r"sample '97x640' has \d+ picture placeholders for \d+ features") as caught:
        conversation.check()
    assert "\n" not in str(caught.value)


def without_names(folder: Path, to: Path) -> Path:
    """A checkpoint whose special tokens are marked in the vocabulary alone, as some fine-tuned ones have it."""
    settings = json.loads((shutil.copytree(folder, to) / "tokenizer_config.json").read_text("utf-8"))
    kept = {name: value for name, value in settings.items() if "special_tokens" not in name}
    (to / "tokenizer_config.json").write_text(json.dumps(kept), "utf-8")
    return to


def without_calls(folder: Path, to: Path) -> Path:
    """A checkpoint that writes the end of a call in several tokens."""
    vocabulary = json.loads((shutil.copytree(folder, to) / "tokenizer.json").read_text("utf-8"))
    tokens = [token for token in vocabulary["added_tokens"] if "tool_call" not in token["content"]]
    (to / "tokenizer.json").write_text(json.dumps({**vocabulary, "added_tokens": tokens}), "utf-8")
    return to


def test_special_tokens_are_forbidden_whatever_they_are_called_by(folder: Path, tmp_path: Path) -> None:
    named, bare = (QwenVLAgent(one, device="cpu") for one in (folder, without_names(folder, tmp_path / "bare")))
    assert named.codec.forbidden == bare.codec.forbidden and named.forbidden == bare.forbidden
    assert len(bare.forbidden) == 7 and bare.codec.end_id not in bare.forbidden
    assert bare.codec.cut(bare.codec.encode("a<|im_start|>b")) == bare.codec.encode("a")


def test_a_call_that_ends_in_several_tokens_ends_a_turn_by_its_text(folder: Path, tmp_path: Path) -> None:
    split = QwenVLAgent(without_calls(folder, tmp_path / "split"), device="cpu")
    assert split.codec.stops() == ([split.codec.end_id], [CALL_END])
    assert split.generation_settings()["stop_strings"] == [CALL_END]
    whole = QwenVLAgent(folder, device="cpu", sampling=SamplingConfig(stop_at_call=False))
    assert whole.codec.stops() == ([whole.codec.end_id, *whole.codec.encode(CALL_END)], [])
    assert whole.generation_settings()["eos_token_id"] == [whole.codec.end_id]


def test_an_answer_ends_at_its_own_end(codec: TokenCodec) -> None:
    rng = np.random.default_rng(1)
    played = episode(rng, drawn(rng, (64, 64)))
    conversation = Conversation(played, codec)
    ids = codec.encode(answer_text("fear", [1, 2]) + "<|im_end|>and more")
    conversation.write(codec.cut(ids))
    assert played.done and conversation.ids[-1] == codec.end_id and played.rollout().predicted_emotion == "fear"
