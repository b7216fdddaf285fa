"""Pictures reach the right places: a small model learns a fact that only a zoomed crop shows.

The faces are stripes, of one of four directions and so fine that the overview and the aligned face average them away.
Only the crop tells the direction, and the direction is the emotion. A random model would hide a picture that lands in
another episode of the batch, or at another place of the conversation; a model that reads its crop cannot.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actfer_env.chat import ChatConfig, ChatEpisode, ChatStep, chat_tools
from actfer_env.data import Sample
from actfer_env.episode import EpisodeConfig
from actfer_env.tools.detectors import Face
from actfer_env.tools.image import RGB

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")

from actfer_env.agents.conversation import Conversation  # noqa: E402
from actfer_env.agents.qwen_vl import QwenVLAgent, SamplingConfig  # noqa: E402
from actfer_env.agents.tiny_qwen import TinyQwenConfig, build  # noqa: E402

EMOTIONS = ("happiness", "fear", "anger", "sadness")
CHAT = ChatConfig(face_side=32, crop_side=64, image_side=64)
BUDGET = EpisodeConfig(max_turns=3)
DETECT = '<tool_call>{"name": "detect_align", "arguments": {}}</tool_call>'
ZOOM = '<tool_call>{"name": "zoom_in", "arguments": {"regions": ["nose"]}}</tool_call>'
STEPS, BATCH, RATE = 160, 16, 5e-3


class FixedFace:
    """Finds the same face in every picture."""

    name = "fixed"

    def detect(self, image: RGB) -> list[Face]:
        points = np.array([[200.0, 220], [312, 220], [256, 285], [215, 345], [297, 345]])
        return [Face((150.0, 120.0, 362.0, 420.0), points, 0.99)]


TOOLS = chat_tools(FixedFace(), CHAT)


class ShortEpisode(ChatEpisode):
    """An episode with a short prompt, in whose place of the crop another can be shown."""

    crop: RGB | None = None

    @property
    def tools(self) -> list[dict[str, Any]]:
        return []

    def _begin(self) -> None:
        super()._begin()
        self.messages[0] = {"role": "system", "content": [{"type": "text", "text": "Look closer."}]}

    def step(self, *args: Any, **kwargs: Any) -> ChatStep:
        step = super().step(*args, **kwargs)
        if self.crop is None or len(self.images) < 3 or not step.images:
            return step
        self.images[2] = self.crop
        return replace(step, images=(self.crop,))


def stripes(direction: int, rng: np.random.Generator) -> RGB:
    """A noisy picture of stripes eight pixels wide: across, down, or along a diagonal; they start anywhere."""
    y, x = np.mgrid[:512, :512]
    place = (x, y, x + y, x - y)[direction] + rng.integers(8)
    picture = np.where(place % 8 < 4, 60.0, 190.0)[..., None] + rng.normal(0, 15, (512, 512, 3))
    return picture.clip(0, 255).astype(np.uint8)


def samples(count: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    kinds = rng.integers(4, size=count)
    return [
        Sample(f"{seed}-{i}", stripes(kind, rng), EMOTIONS[kind], frozenset(), meta={"dataset": "stripes"})
        for i, kind in enumerate(kinds)
    ]


def shown(agent: QwenVLAgent, sample: Sample) -> Conversation:
    """A demonstration: detect, zoom, answer rightly."""
    conversation = Conversation(ShortEpisode(sample, TOOLS, CHAT, BUDGET), agent.codec)
    answer = f'<answer>{{"emotion": "{sample.emotion}", "aus": []}}</answer><|im_end|>'
    for text in (DETECT, ZOOM, answer):
        conversation.write(agent.codec.tokenizer(text, add_special_tokens=False).input_ids)
    return conversation


def teach(agent: QwenVLAgent, demonstrations: list[Conversation]) -> None:
    """Fit the demonstrations; the answer counts more than the calls, which never change."""
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(agent.model.parameters())
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 20) * (1 - step / STEPS)
        batch = [demonstrations[i] for i in rng.integers(len(demonstrations), size=BATCH)]
        rows = agent.log_probs(batch)
        answers = [logs[one.turns[-1][0] - 1 :].sum() for (logs, _), one in zip(rows, batch, strict=True)]
        loss = -torch.cat([logs[mask] for logs, mask in rows]).mean() - torch.stack(answers).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(agent.model.parameters(), 1.0)
        optimiser.step()


def crop_of(sample: Sample) -> RGB:
    episode = ShortEpisode(sample, TOOLS, CHAT, BUDGET)
    episode.step(DETECT)
    episode.step(ZOOM)
    return episode.images[2]


def played(agent: QwenVLAgent, test: list[Sample], crops: list[RGB] | None = None) -> list[str | None]:
    """Let the policy play by itself, and return its answers."""
    episodes = [ShortEpisode(sample, TOOLS, CHAT, BUDGET) for sample in test]
    for episode, crop in zip(episodes, crops or [], strict=False):
        episode.crop = crop
    rollouts = {one.episode.sample.id: one.episode.rollout() for one, _ in agent.play(episodes)}
    assert all(rollout.zoomed for rollout in rollouts.values())
    return [rollouts[sample.id].predicted_emotion for sample in test]


def agreement(answers: list[str | None], truth: list[Sample]) -> float:
    return float(np.mean([answer == sample.emotion for answer, sample in zip(answers, truth, strict=True)]))


@pytest.mark.slow
def test_what_only_the_crop_shows_is_learned_and_follows_the_crop(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = TinyQwenConfig(max_pixels=64 * 64, initializer_range=0.05)
    settings = SamplingConfig(max_new_tokens=48)
    agent = QwenVLAgent(build(tmp_path / "m", config), device="cpu", dtype="float32", batch_size=16, sampling=settings)
    test = samples(64, seed=1)
    teach(agent, [shown(agent, sample) for sample in samples(160, seed=0)])
    assert agreement(played(agent, test), test) > 0.9  # chance is 0.25
    others = test[1:] + test[:1]
    swapped = played(agent, test, [crop_of(sample) for sample in others])
    assert agreement(swapped, test) < 0.45 and agreement(swapped, others) > 0.9
