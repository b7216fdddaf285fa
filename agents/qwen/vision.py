"""A vision tower taught from scratch: what fine-tuning libraries cannot do for a model that was never trained.

`teach_vision` trains the tower of a small Qwen3-VL on Action Units and emotions through two throw-away heads. What the
model says is then taught by `examples/sft/train_sft.py`. Imports torch.

    python -m actfer_env.agents.qwen.vision curated/sft.jsonl --out models/blank
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from actfer_env import facs
from actfer_env._version import __version__
from actfer_env.agents.qwen.agent import load
from actfer_env.agents.qwen.fast_vision import use_fast_vision
from actfer_env.agents.qwen.tiny import BRIEF_CHAT, SIZES, build
from actfer_env.bounds import bounded, check_fields
from actfer_env.curate.lines import read_lines
from actfer_env.data import Dataset, load_dataset
from actfer_env.data.views import PreparedImages, ViewConfig, prepare
from actfer_env.files import check_writable, draft_folder, write_text_atomic
from actfer_env.identity import dataset_facts
from actfer_env.progress import Watch

LOG = "vision.json"
FACE_SHARE = 0.6
"""Share of aligned faces among the pictures of the warm-up; the others are crops (chosen here)."""
VIEWS = ViewConfig(BRIEF_CHAT.image_side, BRIEF_CHAT.face_side, BRIEF_CHAT.crop_side)
"""Sizes of the pictures, those of the tiny model's conversation."""
_KEPT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
         "preprocessor_config.json", "video_preprocessor_config.json")  # fmt: skip


@dataclass(frozen=True)
class VisionConfig:
    """Settings of the warm-up; all chosen here.

    Attributes:
        steps: Steps.
        batch: Pictures of a step.
        lr: Largest learning rate.
        warm_up: Steps in which the learning rate rises; it then falls along a cosine to a twentieth.
        weight_decay: Weight decay of AdamW, on matrices only.
        clip: Bound on the gradient's norm.
        seed: Random seed of everything.
    """

    steps: int = bounded(700, ge=0)
    batch: int = bounded(64, ge=1)
    lr: float = bounded(1e-3, ge=0)
    warm_up: int = bounded(50, ge=0)
    weight_decay: float = bounded(0.05, ge=0)
    clip: float = bounded(1.0, ge=0)
    seed: int = bounded(0, ge=0)

    def __post_init__(self) -> None:
        check_fields(self)


def teach_vision(
    model_dir: str | os.PathLike[str],
    dataset: Dataset,
    out_dir: str | os.PathLike[str],
    config: VisionConfig | None = None,
    *,
    views_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
) -> list[float]:
    """Teach a model's vision tower, and write the model as a folder that `from_pretrained` reads.

    On a CPU the same model, data, config and number of threads give the same weights.

    Args:
        model_dir: Folder of the model to begin with, such as `tiny.build` writes.
        dataset: Samples with an emotion; those without Action Units teach the emotion alone.
        out_dir: Folder to write; it appears when it is whole, with `vision.json` in it.
        config: Steps and rates.
        views_dir: Folder in which aligned faces and crops are kept; default is "views" beside `out_dir`.
        workers: Processes that draw and detect; default is one for each core.
        device: Such as "cpu" or "cuda".
        watch: Called after each step with the phase "vision" and the step's loss.

    Returns:
        The losses, step by step.

    Raises:
        ModelError: the model cannot be loaded.
        ImageError: a picture cannot be read.
        DataError: a folder cannot be written.
    """
    config, out = config or VisionConfig(), Path(out_dir)
    check_writable(out)
    views = prepare(dataset, views_dir or out.parent / "views", VIEWS, workers=workers)
    model, _, image_processor = load(model_dir, "float32")
    model.to(device).set_attn_implementation("eager")  # small pictures: faster than torch's fused attention
    use_fast_vision()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        heads = Heads(int(model.config.vision_config.out_hidden_size)).to(device)
    learning = nn.ModuleList([model.model.visual, heads])
    matrices, rest = ([w for w in learning.parameters() if (w.ndim >= 2) is flat] for flat in (True, False))
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    losses, since = list[float](), time.perf_counter()
    model.train()
    with _quick_products():
        for shown, faces in batches(views, config):
            pictures = image_processor(images=list(shown), return_tensors="pt")
            grids = pictures["image_grid_thw"].to(device)
            seen = model.model.visual(pictures["pixel_values"].to(device), grid_thw=grids)
            loss = heads.loss(
                [seen.pooler_output, *seen.deepstack_features], grids.prod(1) // 4,
                torch.from_numpy(views.aus[faces]).float().to(device), torch.from_numpy(views.coded[faces]).to(device),
                torch.from_numpy(views.emotion[faces]).to(device),
            )  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learning.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if watch is not None:
                watch("vision", len(losses), config.steps, {"loss": losses[-1]})
    facts = {"config": asdict(config), "dataset": dataset_facts(dataset), "threads": torch.get_num_threads(),
             "device": device, "versions": {"actfer_env": __version__, "torch": torch.__version__},
             "seconds": round(time.perf_counter() - since, 1), "losses": losses}  # fmt: skip
    with draft_folder(out, replace=True) as draft:
        model.save_pretrained(draft)
        for name in _KEPT:
            if (Path(model_dir) / name).is_file():
                write_text_atomic(draft / name, (Path(model_dir) / name).read_text(encoding="utf-8"))
        write_text_atomic(draft / LOG, json.dumps(facts, default=str) + "\n")
    return losses


class Heads(nn.Module):
    """Reads Action Units and the emotion from the features of a picture; thrown away after the warm-up.

    Args:
        width: Width of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.units = nn.Linear(2 * width, len(facs.CORE_AUS))
        self.emotion = nn.Linear(2 * width, len(facs.EMOTIONS))

    def loss(self, features: list[Tensor], counts: Tensor, units: Tensor, coded: Tensor, emotions: Tensor) -> Tensor:
        """Return the summed losses over the tower's outputs.

        Args:
            features: float (tokens, width), of the last layer and of each deep-stacked one.
            counts: int (pictures,), tokens of each picture.
            units: float (pictures, units), the targets.
            coded: bool (pictures,), whether units were annotated.
            emotions: int (pictures,), the targets; -1 where there is none.
        """
        total = units.new_zeros(())
        for rows in features:
            parts = rows.split(counts.tolist())
            pooled = torch.stack([torch.cat([part.mean(0), part.amax(0)]) for part in parts])
            if coded.any():
                found = self.units(pooled[coded])
                total = total + functional.binary_cross_entropy_with_logits(found, units[coded])
            if (emotions >= 0).any():
                total = total + functional.cross_entropy(self.emotion(pooled), emotions, ignore_index=-1)
        return total / len(features)


def batches(views: PreparedImages, config: VisionConfig) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield (pictures, their faces), each face once before any comes again; the same seed draws the same.

    A picture is the aligned face or one of its four crops; where no face was found, the raw picture. uint8
    (batch, side, side, 3).
    """
    rng, order = np.random.default_rng([config.seed, 0]), np.zeros(0, np.int64)
    for _ in range(config.steps):
        while len(order) < config.batch:
            order = np.concatenate([order, rng.permutation(len(views))])
        faces, order = order[: config.batch], order[config.batch :]
        whole, region = rng.random(len(faces)) < FACE_SHARE, rng.integers(len(facs.REGIONS), size=len(faces))
        shown = [
            views.image[face] if not views.found[face] else views.face[face] if one else views.crops[face][part]
            for face, one, part in zip(faces, whole, region, strict=True)
        ]
        yield np.stack(shown), faces


@contextmanager
def _quick_products() -> Iterator[None]:
    """Let CPUs that can multiply float32 matrices in bfloat16 pieces; the losses agree to about 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _rate(step: int, config: VisionConfig) -> float:
    if step < config.warm_up:
        return (step + 1) / config.warm_up
    done = (step - config.warm_up) / max(config.steps - config.warm_up, 1)
    return 0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * min(done, 1.0))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Build a small Qwen3-VL whose vision tower was taught, and write it; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m actfer_env.agents.qwen.vision", description=main.__doc__)
    parser.add_argument("lines", help="lines of 'actfer data curate': faces to learn from, wording for the tokenizer")
    parser.add_argument("--out", required=True, help="folder of the model")
    parser.add_argument("--views", help="folder of aligned faces and crops; default is beside --out")
    parser.add_argument("--steps", type=int, default=VisionConfig.steps)
    parser.add_argument("--lr", type=float, default=VisionConfig.lr)
    parser.add_argument("--batch", type=int, default=VisionConfig.batch)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    out, since = Path(options.out), time.perf_counter()
    turns = [turn for line in read_lines(Path(options.lines)) for turn in line.turns]
    blank = build(out.parent / f"{out.name}-untaught", replace(SIZES[options.size], seed=options.seed), turns)
    dataset = load_dataset("curated", options.lines)

    def tell(phase: str, done: int, total: int, figures: Any) -> None:
        if done % 100 == 0 or done == total:
            print(f"{phase} {done}: loss {figures['loss']:.3f}, {time.perf_counter() - since:.0f} s", flush=True)

    config = VisionConfig(**{name: getattr(options, name) for name in ("steps", "lr", "batch", "seed")})
    teach_vision(blank, dataset, out, config, views_dir=options.views, workers=options.threads, device=options.device,
                 watch=tell)  # fmt: skip


if __name__ == "__main__":
    from actfer_env.cli import run

    run(main)
