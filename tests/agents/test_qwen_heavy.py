"""What takes a minute: many episodes, a small model that learns to look, and a real server.

The small model learns a fact that only a zoomed crop shows. The faces are stripes, of one of four directions and so
fine that the overview and the aligned face average them away. Only the crop tells the direction, and the direction is
the emotion. A random model would hide a picture that lands in another episode of the batch, or at another place of the
conversation; a model that reads its crop cannot.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from helpers import DETECT, ROOT, ZOOM

from actfer_env.agents.endpoint import EndpointConfig, EndpointError, OpenAIChatAgent
from actfer_env.chat import ChatConfig, ChatEpisode, ChatStep, chat_tools
from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.evaluation import EvalConfig, evaluate
from actfer_env.images import RGB
from actfer_env.rollout import Rollout
from actfer_env.tools.detectors import Face

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers: pip install 'actfer-env[vlm]'")

from actfer_env.agents.qwen.agent import QwenVLAgent, SamplingConfig  # noqa: E402
from actfer_env.agents.qwen.conversation import Conversation  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
EMOTIONS = ("happiness", "fear", "anger", "sadness")
CHAT = ChatConfig(face_side=32, crop_side=64, image_side=64)
BUDGET = EpisodeConfig(max_turns=3)
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


def finetune(agent: QwenVLAgent, demonstrations: list[Conversation]) -> None:
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> QwenVLAgent:
    """A small model that detects, zooms into the nose and names the emotion of the stripes."""
    folder = tmp_path_factory.mktemp("models") / "stripes"
    build(folder, TinyQwenConfig(max_pixels=64 * 64, initializer_range=0.05))
    settings = SamplingConfig(max_new_tokens=48)
    agent = QwenVLAgent(folder, device="cpu", dtype="float32", batch_size=16, sampling=settings)
    finetune(agent, [shown(agent, sample) for sample in samples(160, seed=0)])
    agent.model.generation_config.eos_token_id = agent._stops
    agent.model.generation_config.suppress_tokens = agent.forbidden
    agent.model.save_pretrained(folder)
    return agent


def test_what_only_the_crop_shows_is_learned_and_follows_the_crop(trained: QwenVLAgent) -> None:
    test = samples(64, seed=1)
    assert agreement(played(trained, test), test) > 0.9  # chance is 0.25
    others = test[1:] + test[:1]
    swapped = played(trained, test, [crop_of(sample) for sample in others])
    assert agreement(swapped, test) < 0.45 and agreement(swapped, others) > 0.9


class Server:
    """`transformers serve` as a process of its own."""

    def __init__(self, model: str, port: int = 0) -> None:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            self.port = port = free.getsockname()[1]
        self.url, self.model = f"http://127.0.0.1:{port}/v1", model
        script = ROOT / "tests" / "transformers_serve.py"
        options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
        self.process = subprocess.Popen(
            [sys.executable, str(script), model, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._await(f"http://127.0.0.1:{port}/health")

    def _await(self, address: str) -> None:
        for _ in range(240):
            assert self.process.poll() is None, "the server did not start"
            try:
                urlopen(address, timeout=5).close()
                return
            except (URLError, OSError):
                time.sleep(0.5)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(agent: QwenVLAgent, port: int = 0) -> Iterator[Server]:
    for name in ("fastapi", "uvicorn", "pydantic", "openai", "accelerate"):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'transformers[serving]' accelerate")
    server = Server(agent.name, port)
    try:
        yield server
    finally:
        server.kill()


def client(server: Server, **options: Any) -> OpenAIChatAgent:
    settings = {"temperature": 0.0, "max_tokens": 48, "images_in_tool": True, "retries": 1, **options}
    return OpenAIChatAgent(EndpointConfig(server.url, server.model, **settings))


def results(agent: Any, test: Sequence[Sample], budget: EpisodeConfig) -> dict[str, tuple[Rollout, int, int]]:
    episodes = [ShortEpisode(sample, TOOLS, CHAT, budget) for sample in test]
    return {
        one.episode.sample.id: (one.episode.rollout(), usage.prompt_tokens, len(one.episode.images))
        for one, usage in agent.play(episodes)
    }


def test_a_served_model_plays_the_same_episodes_as_a_local_one(trained: QwenVLAgent) -> None:
    test = samples(12, seed=2)
    with serving(trained) as server:
        for budget in (BUDGET, EpisodeConfig(max_turns=2, max_zooms=0)):
            local, served = results(trained, test, budget), results(client(server), test, budget)
            assert served == local  # texts, calls, violations, answers; prompt tokens; pictures
    assert all(rollout.violations for rollout, _, _ in local.values())  # no zoom was left to it


def test_pictures_may_follow_in_a_user_message(trained: QwenVLAgent) -> None:
    with serving(trained) as server:
        played = results(client(server, images_in_tool=False), samples(2, seed=3), BUDGET)
    assert len(played) == 2 and all(images >= 2 for _, _, images in played.values())


def test_a_killed_server_leaves_what_was_finished(trained: QwenVLAgent, tmp_path: Path) -> None:
    data = Dataset("stripes", samples(10, seed=4))
    config = EvalConfig(CHAT, EpisodeConfig(max_turns=2))
    with serving(trained) as server:
        expected = evaluate(client(server, max_tokens=8), data, config)

        def kill_in_the_middle(_phase: str, done: int, *_rest: object) -> None:
            if done >= 3:
                server.kill()

        with pytest.raises(EndpointError, match="finished episodes are kept") as caught:
            evaluate(client(server, max_tokens=8), data, config, tmp_path, kill_in_the_middle)
    assert "\n" not in str(caught.value)
    kept = len((tmp_path / "episodes.jsonl").read_text().splitlines())
    assert 3 <= kept < 10
    with serving(trained, server.port) as server:  # the address is part of an evaluation's identity
        again = client(server, max_tokens=8)
        run = evaluate(again, data, config, tmp_path)
    assert again.total.calls == 2 * (10 - kept)
    assert [one.texts for one in run.rollouts] == [one.texts for one in expected.rollouts]


class Dictated(QwenVLAgent):
    """Writes the turns of a script as long as it goes, and its own afterwards; the model runs on every turn."""

    def write(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        own = super().write(conversations)
        return [self._next(one, ids) for one, ids in zip(conversations, own, strict=True)]

    def _next(self, conversation: Conversation, own: list[int]) -> list[int]:
        turn = len(conversation.turns)
        rng = np.random.default_rng(int(conversation.episode.sample.id.rpartition("-")[2]))
        if turn > rng.integers(5):
            return own
        x, y = rng.integers(0, 600, (5, 2))[turn]
        call = f'{{"name": "zoom_in", "arguments": {{"boxes": [[{x}, {y}, {x + 300}, {y + 350}]]}}}}'
        text = f"<tool_call>{call}</tool_call>" if turn else DETECT
        return list(self.codec.tokenizer(text, add_special_tokens=False).input_ids)


def test_eighty_episodes_of_ten_turns_in_batches_of_sixteen(tmp_path: Path) -> None:
    """Placeholders are compared with picture features on every turn by `Conversation` itself."""
    faces, config = load_dataset("synthetic", split="test", n=80), EpisodeConfig(max_turns=10)
    tools, folder = chat_tools(chat=CHAT), build(tmp_path / "tiny")

    def play(batch: int, count: int, limit: int = 16_384) -> dict[str, tuple[list[int], str, int]]:
        settings = SamplingConfig(max_new_tokens=6, max_length=limit)
        agent = Dictated(folder, device="cpu", dtype="float32", batch_size=batch, sampling=settings)
        fresh = (ShortEpisode(faces[i], tools, CHAT, config) for i in range(count))
        return {
            one.episode.sample.id: (one.ids, one.episode.rollout().meta["outcome"], len(one.grids))
            for one, _ in agent.play(fresh)
        }

    together = play(16, 80)
    assert len(together) == 80 and {outcome for _, outcome, _ in together.values()} == {"truncated"}
    assert {2, 3, 4, 5, 6} <= {pictures for _, _, pictures in together.values()}
    alone = play(1, 16)
    assert all(together[name] == one for name, one in alone.items())
    short = play(16, 20, limit=1000)
    assert {outcome for _, outcome, _ in short.values()} == {"too_long", "truncated"}
    assert short == play(1, 20, limit=1000)
