"""A tiny Qwen3-VL with its own tokenizer, image processor and chat template, made offline, for tests and dry runs.

It has the architecture of the real model and knows nothing: its weights are random. Needs the `[vlm]` extra.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from itertools import permutations
from pathlib import Path
from typing import Any

from actfer_env import facs
from actfer_env.agents.qwen.torchvision_guard import guard
from actfer_env.bounds import bounded, check_fields
from actfer_env.chat import CHAT_PRESETS, ChatConfig, ChatEpisode, chat_tools, system_prompt, user_prompt
from actfer_env.chat.turns import answer_text, look_texts
from actfer_env.data import load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.files import draft_folder, write_text_atomic
from actfer_env.tools.base import usual_calls
from actfer_env.tools.schema import tool_schemas

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")


@dataclass(frozen=True)
class TinyQwenConfig:
    """Sizes of the model; all chosen here. The defaults make 0.1 million parameters.

    Attributes:
        hidden: Width of the language model, a multiple of 32.
        layers: Layers of the language model.
        vision_hidden: Width of the vision tower, a multiple of 16.
        vision_layers: Layers of the vision tower.
        vocabulary: Tokens that the tokenizer learns, special ones apart; at least 300.
        positions: Longest sequence, tokens.
        min_pixels: Fewest pixels of a picture after resizing.
        max_pixels: Most pixels of a picture after resizing; 1,024 are one token.
        initializer_range: Standard deviation of the weights.
        seed: Random seed of the weights.
        brief: The chat template writes the tools' names instead of their schemas, and the tokenizer learns the brief
            conversations of `ChatConfig.brief`: a model that is trained from scratch needs no more.
    """

    hidden: int = bounded(32, ge=32)
    layers: int = bounded(2, ge=1)
    vision_hidden: int = bounded(32, ge=16)
    vision_layers: int = bounded(2, ge=1)
    vocabulary: int = bounded(512, ge=300)
    positions: int = bounded(16_384, ge=1)
    min_pixels: int = bounded(32 * 32, ge=1)
    max_pixels: int = bounded(96 * 96, ge=1)
    initializer_range: float = bounded(0.02, ge=0)
    seed: int = bounded(0, ge=0)
    brief: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


SMALL_QWEN = TinyQwenConfig(hidden=128, layers=4, vision_hidden=128, vision_layers=4, vocabulary=1_600,
                            max_pixels=64 * 64, initializer_range=0.05, brief=True)  # fmt: skip
"""2.5 million parameters; chosen here, after short trials."""
MEDIUM_QWEN = replace(SMALL_QWEN, hidden=384, layers=8, vision_hidden=384, vision_layers=6, initializer_range=0.03)
"""Tens of millions of parameters, for a GPU; chosen here."""
TINY_QWEN = replace(SMALL_QWEN, layers=2, vision_hidden=32, vision_layers=2)
"""For smoke tests: a step takes seconds. vLLM's kernels for CPUs need heads of 32."""
SIZES = {"tiny": TINY_QWEN, "small": SMALL_QWEN, "medium": MEDIUM_QWEN}
BRIEF_CHAT = ChatConfig(brief=True, image_side=64, face_side=64, crop_side=64)
"""The conversation of a tiny model: short prompts, and pictures of four tokens at most (chosen here)."""


def build(
    folder: str | os.PathLike[str], config: TinyQwenConfig | None = None, texts: Iterable[str] = ()
) -> Path:  # fmt: skip
    """Write the model, its tokenizer, image processor and chat template into a folder, as `from_pretrained` reads them.

    Args:
        folder: Folder to write; it is replaced as a whole, when everything is written.
        config: Sizes and seed; the same config and texts give the same bytes.
        texts: Turns with thoughts, such as those of a curated set, which a `brief` tokenizer learns as well.

    Returns:
        The folder.

    Raises:
        DataError: the folder cannot be written.
    """
    config, target = config or TinyQwenConfig(), Path(folder)
    with draft_folder(target, replace=True) as draft:
        tokenizer = _brief_tokenizer(config, texts) if config.brief else _tokenizer(config)
        tokenizer.save_pretrained(draft)
        _save_processor(config, draft)
        _model(config, tokenizer).save_pretrained(draft)
    return target


def chat_template() -> str:
    """Return the tiny model's chat template: ChatML, Hermes tool calls, pictures in every role."""
    return (resources.files("actfer_env.agents.qwen") / "chat_template.jinja").read_text(encoding="utf-8")


def brief_template() -> str:
    """Return the chat template of `TinyQwenConfig.brief`: tools by name alone."""
    schemas, names = "(tool | tojson)", "tool.function.name"
    assert schemas in chat_template()
    return chat_template().replace(schemas, names)


def _corpus() -> Iterable[str]:
    """Yield texts that episodes are made of."""
    for preset in CHAT_PRESETS:
        chat = ChatConfig(preset=preset)
        yield system_prompt(chat, EpisodeConfig())
        yield user_prompt(chat)
    yield json.dumps(tool_schemas())
    for emotion in facs.EMOTIONS:
        units = [facs.format_au(au) for au in sorted(facs.prototype_aus(emotion))]
        yield f"<answer>{json.dumps({'emotion': emotion, 'aus': units})}</answer>"
    for name, arguments in usual_calls(facs.REGIONS)[1:]:
        yield json.dumps({"name": name, "arguments": arguments})


def _tokenizer(config: TinyQwenConfig) -> Any:
    from tokenizers import pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _trained(config, words, list(_corpus()) * 3, chat_template())


def _brief_tokenizer(config: TinyQwenConfig, texts: Iterable[str]) -> Any:
    """Return a tokenizer whose tokens are JSON strings and what stands between them, rather than words."""
    from tokenizers import Regex, pre_tokenizers

    quoted = pre_tokenizers.Split(Regex(r'"[^"]*"'), "isolated")
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split, template = pre_tokenizers.Sequence([quoted, pieces]), brief_template()
    blank = _trained(config, split, [], template)
    marks = re.compile("|".join(re.escape(token) for token in (*SPECIAL, *TAGS)))
    corpus = [part for text in (*_brief_conversations(blank), *texts) for part in marks.split(text)]
    return _trained(config, split, corpus, template)


def _brief_conversations(tokenizer: Any) -> Iterable[str]:
    """Yield brief conversations as the chat template writes them: two zooms at most, every emotion and Action Unit."""
    chat, sample = ChatConfig(brief=True), load_dataset("synthetic", split="train", n=1)[0]
    tools = chat_tools("simulated", chat)
    looks = [(), *permutations(facs.REGIONS, 1), *permutations(facs.REGIONS, 2)]
    answers = [(emotion, au) for emotion in facs.EMOTIONS for au in facs.CORE_AUS]
    for number, (emotion, au) in enumerate(answers):
        episode = ChatEpisode(sample, tools, chat)
        for text in look_texts(looks[number % len(looks)]):
            episode.step(text)
        episode.step(answer_text(emotion, [au, facs.CORE_AUS[number % len(facs.CORE_AUS)]]))
        yield tokenizer.apply_chat_template(episode.messages, tools=episode.tools, tokenize=False)


def _trained(config: TinyQwenConfig, split: Any, corpus: list[str], template: str) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = split, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=config.vocabulary, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(corpus, trainer)
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]), clean_up_tokenization_spaces=False,
        model_max_length=config.positions,
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


def _save_processor(config: TinyQwenConfig, folder: Path) -> None:
    """Write the processors' files; written by hand, since the video processor's class needs torchvision."""
    patches = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "processor_class": "Qwen3VLProcessor"}
    picture = {
        "image_processor_type": "Qwen2VLImageProcessor", "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3,
        "size": {"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels},
        "min_pixels": config.min_pixels, "max_pixels": config.max_pixels, **patches,
    }  # fmt: skip
    video = {"video_processor_type": "Qwen3VLVideoProcessor", **patches}
    for name, content in (("preprocessor_config", picture), ("video_preprocessor_config", video)):
        write_text_atomic(folder / f"{name}.json", json.dumps(content, indent=2))


def _model(config: TinyQwenConfig, tokenizer: Any) -> Any:
    import torch

    guard()
    from transformers import Qwen3VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Qwen3VLForConditionalGeneration(_architecture(config, tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _architecture(config: TinyQwenConfig, tokenizer: Any) -> Any:
    from transformers import Qwen3VLConfig

    number, head = tokenizer.convert_tokens_to_ids, max(config.hidden // 4, 8)
    half = head // 2
    sections = [half - 2 * (half // 4), half // 4, half // 4]
    text = {
        "vocab_size": len(tokenizer), "hidden_size": config.hidden, "intermediate_size": 3 * config.hidden,
        "num_hidden_layers": config.layers, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": head,
        "max_position_embeddings": config.positions, "initializer_range": config.initializer_range,
        "eos_token_id": number("<|im_end|>"), "pad_token_id": number("<|endoftext|>"), "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": sections,
                            "mrope_interleaved": True},
    }  # fmt: skip
    vision = {
        "depth": config.vision_layers, "hidden_size": config.vision_hidden, "num_heads": 2, "patch_size": 16,
        "intermediate_size": 3 * config.vision_hidden, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": config.hidden, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
        "initializer_range": config.initializer_range,
    }  # fmt: skip
    return Qwen3VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"), vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
