"""A small Qwen3-VL taught from scratch, on a CPU or a GPU: its eyes first, then the conversation. Imports torch.

`finetune` trains the vision tower on Action Units and emotions through two throw-away heads, then the whole model on
the lessons of `actfer_env.agents.lessons`, with a loss on the tokens that a policy writes and on no other.

    python -m actfer_env.agents.sft --out models/start
"""

from __future__ import annotations

# Longer than 400 lines: settings, both stages of the training and its command stand in one file, as in a script.
import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from actfer_env import facs
from actfer_env._moved import old_names
from actfer_env._version import __version__
from actfer_env.agents.lessons import BRIEF_CHAT, SFTDataset, Trajectory, codec_of, lessons_name, prepare_lessons
from actfer_env.agents.qwen.agent import load
from actfer_env.agents.qwen.fast_vision import use_fast_vision
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build
from actfer_env.agents.torch_files import load_state, save_atomic
from actfer_env.bounds import bounded, check_fields
from actfer_env.chat import ChatConfig
from actfer_env.data import Dataset, load_dataset
from actfer_env.errors import DataError
from actfer_env.files import check_writable, draft_files, write_text_atomic
from actfer_env.identity import as_json, dataset_facts, model_facts, refuse_other
from actfer_env.progress import Watch

__getattr__ = old_names(__name__)

SMALL_QWEN = TinyQwenConfig(hidden=128, layers=4, vision_hidden=128, vision_layers=4, vocabulary=900,
                            max_pixels=64 * 64, initializer_range=0.05, brief=True)  # fmt: skip
"""2.4 million parameters; chosen here, after short trials."""
MEDIUM_QWEN = replace(SMALL_QWEN, hidden=384, layers=8, vision_hidden=384, vision_layers=6, initializer_range=0.03)
"""Tens of millions of parameters, for a GPU; chosen here."""
SIZES = {"small": SMALL_QWEN, "medium": MEDIUM_QWEN}
IGNORED = -100
"""The label of a token without loss."""
LOG, DRAFT = "sft.json", "teaching.pt"
KEPT_EVERY = 100
"""Steps between two states of a teaching that can be taken up again; chosen here."""


@dataclass(frozen=True)
class SFTConfig:
    """Settings of fine-tuning; all chosen here.

    Attributes:
        vision_steps: Steps of the vision tower's warm-up; 0 leaves it out.
        vision_batch: Pictures of a warm-up step.
        vision_lr: Largest learning rate of the warm-up.
        steps: Steps of fine-tuning.
        batch: Trajectories of a step.
        lr: Largest learning rate.
        warm_up: Steps in which the learning rate rises; it then falls along a cosine to a twentieth.
        weight_decay: Weight decay of AdamW, on matrices only.
        clip: Bound on the gradient's norm.
        zoom_share: Share of trajectories that zoom, into a region drawn at random.
        seed: Random seed of everything.
    """

    vision_steps: int = bounded(700, ge=0)
    vision_batch: int = bounded(64, ge=1)
    vision_lr: float = bounded(1e-3, ge=0)
    steps: int = bounded(450, ge=0)
    batch: int = bounded(32, ge=1)
    lr: float = bounded(1e-3, ge=0)
    warm_up: int = bounded(50, ge=0)
    weight_decay: float = bounded(0.05, ge=0)
    clip: float = bounded(1.0, ge=0)
    zoom_share: float = bounded(0.8, ge=0, le=1)
    seed: int = bounded(0, ge=0)

    def __post_init__(self) -> None:
        check_fields(self)


def finetune(
    model_dir: str | os.PathLike[str],
    dataset: Dataset,
    out_dir: str | os.PathLike[str],
    config: SFTConfig | None = None,
    *,
    chat: ChatConfig = BRIEF_CHAT,
    lessons_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
) -> dict[str, list[float]]:
    """Teach a model and write the result as a folder that `from_pretrained` reads.

    On a CPU the same model, data, config and number of threads give the same weights. A call that was stopped goes on
    from its last hundred steps when it is repeated, and ends with the weights of one that was never stopped.

    Args:
        model_dir: Folder of the model to begin with, such as `tiny_qwen.build` writes.
        dataset: Samples with an emotion and Action Units.
        out_dir: Folder to write; besides the model it gets `sft.json` with the settings and losses.
        config: Steps and rates.
        chat: Formats and picture sizes; evaluate and train with the same.
        lessons_dir: Folder of prepared lessons; default is a folder beside `out_dir`.
        device: Such as "cpu" or "cuda".
        watch: Called after each step with the phase ("vision" or "turns") and the step's loss.

    Returns:
        The losses of each phase, step by step.

    Raises:
        ModelError: the model cannot be loaded.
        ImageError: a picture cannot be read.
        DataError: the folder holds the beginning of another teaching, or cannot be written.
    """
    config, out = config or SFTConfig(), Path(out_dir)
    facts = {"config": asdict(config), "chat": asdict(chat), "faces": len(dataset), "threads": torch.get_num_threads(),
             "device": device, "dataset": dataset_facts(dataset), "lessons": lessons_name(dataset, model_dir, chat),
             "model": model_facts(model_dir, whole=True)["files"],
             "versions": {"actfer_env": __version__, "torch": torch.__version__}}  # fmt: skip
    draft = Draft(out / DRAFT, facts)
    draft.check()
    check_writable(out)
    lessons = prepare_lessons(dataset, model_dir, lessons_dir or out.parent / "lessons", chat)
    model, tokenizer, _ = load(model_dir, "float32")
    model.to(device)
    model.set_attn_implementation("eager")  # short rows: faster than torch's fused attention on a CPU
    trainer = SFTTrainer(model, lessons, codec_of(model_dir).image_id, config, draft)
    with _quick_products():
        trainer.train_vision(watch)
        trainer.train_language(watch)
    _save(model, tokenizer, Path(model_dir), out)
    record = facts | {"seconds": round(trainer.seconds, 1), "losses": trainer.losses}
    write_text_atomic(out / LOG, json.dumps(record, default=str) + "\n")
    (out / DRAFT).unlink(missing_ok=True)
    return trainer.losses


class Draft:
    """State that a fine-tuning has reached, in a file.

    Args:
        path: The file.
        facts: Facts that the fine-tuning depends on; another one's file is refused.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self._facts = path, as_json(facts)

    def check(self) -> None:
        """Refuse another teaching's file before any work.

        Raises:
            DataError: it is another teaching's, or broken.
        """
        self.read()

    def read(self) -> dict[str, Any] | None:
        """Return the state, or None where there is none.

        Raises:
            DataError: it is another teaching's, or broken.
        """
        if not self.path.exists():
            return None
        state: dict[str, Any] = load_state(self.path)
        try:
            found = json.loads(state["facts"])
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(f"{self.path} is broken ({type(error).__name__}): delete it and run again") from error
        refuse_other(self.path.parent, "teaching", found, self._facts)
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Keep a state."""
        save_atomic(self.path, {**state, "facts": json.dumps(self._facts)})


class SFTTrainer:
    """Trains one model on lessons, in place.

    Args:
        model: A `Qwen3VLForConditionalGeneration` in float32.
        lessons: Conversations to learn from, tokenised by the model's own tokenizer.
        image_id: The token that stands for a quarter of a picture's features.
        config: Steps and rates.
        draft: File in which states are kept; what it holds is taken up.

    Attributes:
        losses: Losses of each phase, step by step.
        seconds: Seconds of training so far.
    """

    def __init__(
        self, model: Any, lessons: SFTDataset, image_id: int, config: SFTConfig, draft: Draft | None = None
    ) -> None:
        self.model, self.lessons, self.config = model, lessons, config
        self.image_id, self.pad = image_id, int(model.config.text_config.pad_token_id or 0)
        self.batches, self.device = Batches(lessons, config), model.device
        self.losses: dict[str, list[float]] = {"vision": [], "turns": []}
        self.seconds = 0.0
        self._draft, self._held = draft, draft.read() if draft else None
        if self._held:
            model.load_state_dict(self._held["model"])
            self.losses, self.seconds = self._held["losses"], self._held["seconds"]
        use_fast_vision()

    def train_vision(self, watch: Watch | None = None) -> None:
        """Train the vision tower through heads that are then thrown away."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            heads = Heads(int(self.model.config.vision_config.out_hidden_size)).to(self.device)
        trained = nn.ModuleList([self.model.model.visual, heads])
        batches = self.batches.pictures(self.config.vision_steps)
        rate, steps = self.config.vision_lr, self.config.vision_steps
        self._descend("vision", trained, rate, steps, ((partial(self._see, heads), batch) for batch in batches), watch)

    def train_language(self, watch: Watch | None = None) -> None:
        """Train the whole model on whole trajectories."""
        batches = self.batches.plays(self.config.steps)
        rate, steps = self.config.lr, self.config.steps
        self._descend("turns", self.model, rate, steps, ((self.loss, (plays,)) for plays in batches), watch)

    def loss(self, plays: Sequence[Trajectory]) -> Tensor:
        """Return the mean negative log-likelihood of the tokens that a policy writes in some trajectories."""
        inputs = self._here(**collate(plays, self.lessons, self.image_id, self.pad))
        labels = inputs.pop("labels")[:, 1:]
        hidden = self.model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        mine = labels != IGNORED
        return functional.cross_entropy(self.model.lm_head(hidden[mine]), labels[mine])

    def _see(self, heads: Heads, pictures: NDArray[np.int64], faces: NDArray[np.int64]) -> Tensor:
        grids = torch.from_numpy(self.lessons.grids[pictures])
        truth = {"units": torch.from_numpy(self.lessons.aus[faces]).float(),
                 "emotions": torch.from_numpy(self.lessons.emotion[faces])}  # fmt: skip
        pixels = torch.from_numpy(self.lessons.pixels(pictures))
        seen = self.model.model.visual(**self._here(hidden_states=pixels, grid_thw=grids))
        return heads.loss([seen.pooler_output, *seen.deepstack_features], grids.prod(1) // 4, **self._here(**truth))

    def _here(self, **tensors: Tensor) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def _descend(
        self, phase: str, trained: nn.Module, rate: float, steps: int,
        batches: Iterator[tuple[Callable[..., Tensor], tuple[Any, ...]]], watch: Watch | None,
    ) -> None:  # fmt: skip
        """Train some weights by gradient descent on the losses of batches, from wherever the phase was stopped."""
        # AdamW without decay of biases and norms; the rate rises linearly, then falls along a cosine to a twentieth.
        config, parameters = self.config, list(trained.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))

        def factor(step: int) -> float:
            if step < config.warm_up:
                return (step + 1) / config.warm_up
            done = (step - config.warm_up) / max(steps - config.warm_up, 1)
            return 0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * min(done, 1.0))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        parts: dict[str, Any] = {"trained": trained, "optimizer": optimizer, "schedule": schedule}
        since = time.perf_counter() - self.seconds
        if self._held and self._held["phase"] == phase:
            for name, part in parts.items():
                part.load_state_dict(self._held[name])
        self.model.train()
        for step, (loss_of, batch) in enumerate(batches):
            if step < len(self.losses[phase]):
                continue
            loss = loss_of(*batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            self.losses[phase].append(float(loss.detach()))
            if watch is not None:
                watch(phase, step + 1, steps, {"loss": self.losses[phase][-1]})
            self.seconds = time.perf_counter() - since
            if (step + 1) % KEPT_EVERY == 0 and self._draft:
                states = {name: part.state_dict() for name, part in {"model": self.model, **parts}.items()}
                self._draft.write({"phase": phase, "losses": self.losses, "seconds": self.seconds, **states})
        self.seconds = time.perf_counter() - since
        self.model.eval()


class Heads(nn.Module):
    """Reads Action Units and the emotion from the features of a picture; thrown away after the warm-up.

    Args:
        width: Width of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.units = nn.Linear(2 * width, len(facs.CORE_AUS))
        self.emotion = nn.Linear(2 * width, len(facs.EMOTIONS))

    def loss(self, features: list[Tensor], counts: Tensor, units: Tensor, emotions: Tensor) -> Tensor:
        """Return the summed losses over the tower's outputs.

        Args:
            features: float (tokens, width), of the last layer and of each deep-stacked one.
            counts: int (pictures,), tokens of each picture.
            units: float (pictures, units), the targets.
            emotions: int (pictures,), the targets.
        """
        total = units.new_zeros(())
        for rows in features:
            parts = rows.split(counts.tolist())  # of each picture; its mean and its maximum are read
            pooled = torch.stack([torch.cat([part.mean(0), part.amax(0)]) for part in parts])
            total = total + functional.binary_cross_entropy_with_logits(self.units(pooled), units)
            total = total + functional.cross_entropy(self.emotion(pooled), emotions)
        return total / len(features)


class Batches:
    """Draws batches; the same seed draws the same."""

    def __init__(self, lessons: SFTDataset, config: SFTConfig) -> None:
        self.lessons, self.config = lessons, config

    def pictures(self, steps: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield (pictures, their faces): the aligned face or a crop of each face drawn."""
        rng = np.random.default_rng([self.config.seed, 0])
        for faces in self._faces(rng, steps, self.config.vision_batch):
            plays = [self._play(int(face), rng) for face in faces]
            later = [play.pictures[1:] or play.pictures for play in plays]
            chosen = [pictures[int(rng.integers(len(pictures)))] for pictures in later]
            yield np.array(chosen), faces

    def plays(self, steps: int) -> Iterator[list[Trajectory]]:
        """Yield trajectories."""
        rng = np.random.default_rng([self.config.seed, 1])
        for faces in self._faces(rng, steps, self.config.batch):
            yield [self._play(int(face), rng) for face in faces]

    def _faces(self, rng: np.random.Generator, steps: int, size: int) -> Iterator[NDArray[np.int64]]:
        """Yield faces, each once before any comes again."""
        order = np.zeros(0, np.int64)
        for _ in range(steps):
            while len(order) < size:
                order = np.concatenate([order, rng.permutation(len(self.lessons))])
            yield order[:size]
            order = order[size:]

    def _play(self, face: int, rng: np.random.Generator) -> Trajectory:
        plays = self.lessons.plays[face]
        if len(plays) == 1 or rng.random() >= self.config.zoom_share:
            return plays[0]
        return plays[int(rng.integers(1, len(plays)))]


def collate(plays: Sequence[Trajectory], lessons: SFTDataset, image_id: int, pad: int) -> dict[str, Tensor]:
    """Return the model's inputs for some trajectories, padded on the right, and their labels.

    Args:
        plays: Trajectories.
        lessons: The data set that they come from.
        image_id: The placeholder's token.
        pad: The padding's token.

    Returns:
        `input_ids`, `attention_mask`, `mm_token_type_ids`, `labels` (n, length); `labels` hold the tokens that the
        policy writes and `IGNORED` elsewhere. `pixel_values` and `image_grid_thw` of all pictures in order.
    """
    shape = len(plays), max(len(play.ids) for play in plays)
    ids, seen, labels = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED)
    for row, play in enumerate(plays):
        length, tokens = len(play.ids), torch.from_numpy(play.ids.astype(np.int64))
        ids[row, :length], seen[row, :length] = tokens, 1
        labels[row, :length] = torch.where(torch.from_numpy(play.written), tokens, IGNORED)
    pictures = [picture for play in plays for picture in play.pictures]
    return {
        "input_ids": ids, "attention_mask": seen, "labels": labels,
        "mm_token_type_ids": (ids == image_id).int() * seen.int(),
        "pixel_values": torch.from_numpy(lessons.pixels(pictures)),
        "image_grid_thw": torch.from_numpy(lessons.grids[pictures]),
    }  # fmt: skip


@contextmanager
def _quick_products() -> Iterator[None]:
    """Let CPUs that can multiply float32 matrices in bfloat16 pieces; the losses agree to about 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _save(model: Any, tokenizer: Any, source: Path, out: Path) -> None:
    """Write the model with the processors' files of the one that it began as."""
    with draft_files(out) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
            write_text_atomic(draft / name, (source / name).read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Build a small Qwen3-VL, fine-tune it, and write it; see ``--help``."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    out = Path(options.out)
    start = build(out.parent / f"{out.name}-untaught", replace(SIZES[options.size], seed=options.seed))
    dataset = load_dataset("synthetic", None, "train", preset=options.preset, n=options.faces, cache=options.pictures)
    chosen = ("vision_steps", "vision_lr", "steps", "lr", "batch", "seed")
    config = SFTConfig(**{name: getattr(options, name) for name in chosen})
    finetune(start, dataset, out, config, lessons_dir=options.lessons, device=options.device, watch=_Progress())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m actfer_env.agents.sft", description=(main.__doc__ or "").strip())
    parser.add_argument("--out", required=True, help="folder of the taught model")
    parser.add_argument("--faces", type=int, default=7_000, help="drawn faces to learn from")
    parser.add_argument("--preset", default="easy", help="of the data set 'synthetic'")
    parser.add_argument("--pictures", help="folder in which drawn pictures are kept as PNG files")
    parser.add_argument("--lessons", help="folder of prepared lessons; default is beside --out")
    parser.add_argument("--vision-steps", type=int, default=SFTConfig.vision_steps)
    parser.add_argument("--vision-lr", type=float, default=SFTConfig.vision_lr)
    parser.add_argument("--steps", type=int, default=SFTConfig.steps)
    parser.add_argument("--lr", type=float, default=SFTConfig.lr)
    parser.add_argument("--batch", type=int, default=SFTConfig.batch)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser


class _Progress:
    """Prints the mean loss of every hundred steps, and how long they took."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._start = time.perf_counter()

    def __call__(self, phase: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        self._losses.append(figures["loss"])
        if done % 100 == 0:
            mean, seconds = np.mean(self._losses[-100:]), time.perf_counter() - self._start
            print(f"{phase} {done}: loss {mean:.3f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    from actfer_env.cli import run

    run(main)
