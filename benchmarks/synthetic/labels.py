"""Do the labels mean something? A small CNN reads Action Units on held-out people, natively and from 48 pixels.

Trained on the good samples of train and on practice (see cache), tested on the good samples; thresholds are chosen on
val. With `--eval val` they are chosen on one half of val's people and the scores are of the other half.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from actfer_env import facs
from actfer_env.agents.torch_files import save_atomic
from actfer_env.evaluation.intervals import PLUS_MINUS, plus_minus
from benchmarks.synthetic import common
from benchmarks.synthetic.cache import SHAPE, small_view

SUPPORT = 100
"""Faces that a unit needs to count in the table of groups, whose members are few."""


class Reader(nn.Module):
    """Strided convolutions over the native view, and one score for each Action Unit."""

    def __init__(self, width: int = 32, outputs: int = len(common.AUS)) -> None:
        super().__init__()
        w = width
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2), common.block(12, w, 2), common.block(w, w), common.block(w, 2 * w, 2),
            common.block(2 * w, 2 * w), common.block(2 * w, 3 * w, 2), common.block(3 * w, 3 * w),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Conv2d(3 * w, w, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(w * 77, 256), nn.ReLU(),
            nn.Dropout(0.4), nn.Linear(256, outputs),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


def vary(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror, shift, and change gain, offset and colour balance."""
    images = common.mirror(images, rng.random(len(images)) < 0.5)
    moved = np.empty_like(images)
    for i, (dx, dy) in enumerate(rng.integers(-4, 5, (len(images), 2))):
        moved[i] = np.roll(images[i], (dy, dx), (0, 1))
    gain = rng.uniform(0.75, 1.3, (len(images), 1, 1, 1)) * rng.uniform(0.9, 1.1, (len(images), 1, 1, 3))
    shift = rng.uniform(-20, 20, (len(images), 1, 1, 1))
    return np.clip(moved * gain.astype(np.float32) + shift.astype(np.float32), 0, 255)


def views(split: common.Split, index: np.ndarray, view: str) -> np.ndarray:
    if view == "native":
        return split.native[index]
    return np.stack([small_view(face) for face in split.small[index]])


def train(split: common.Split, view: str, epochs: int, seed: int) -> Reader:
    common.setup(seed)
    index = np.arange(len(split.aus))
    model = Reader().to(memory_format=torch.channels_last)
    truth = torch.tensor(np.asarray(split.aus)).float()
    share = truth[index].mean(0)
    weight = ((1 - share) / share).sqrt()

    def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
        images = common.to_input(vary(views(split, batch, view), rng))
        return nn.functional.binary_cross_entropy_with_logits(model(images).float(), truth[batch], pos_weight=weight)

    print(f"{view}: {len(index)} faces", flush=True)
    common.fit(model, loss, index, epochs, seed=seed)
    return model.eval()


def kept(args: argparse.Namespace, view: str) -> Reader | None:
    """Return the reader of an earlier run, if it is to be used again."""
    path = args.out / f"reader_{view}.pt"
    if not args.reuse or not path.exists():
        return None
    common.setup(args.seed)
    model = Reader().to(memory_format=torch.channels_last)
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    return model.eval()


def scores(model: Reader, images: np.ndarray) -> Tensor:
    """Return the mean score of a batch and its mirror image."""
    both = (images, np.ascontiguousarray(images[:, :, ::-1]))
    return torch.stack([model(common.to_input(view)) for view in both]).mean(0)


def evaluate(model: Reader, split: common.Split, view: str, index: np.ndarray) -> np.ndarray:
    return common.predict(lambda batch: scores(model, views(split, batch, view)), index, 128)


def halves(split: common.Split, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    odd = split.identity[index] % 2 == 1
    return index[~odd], index[odd]


def groups(split: common.Split, index: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """Return (attribute, group, members) for skin tones in pairs and for thirds of the shape parameters."""
    tone = split.tone[index] // 2
    found = [("skin tone", f"{2 * i}-{2 * i + 1}", tone == i) for i in range(5)]
    for column, name in enumerate(SHAPE):
        value = split.shape[index][:, column]
        low, high = np.quantile(value, [1 / 3, 2 / 3])
        thirds = (value < low, (value >= low) & (value <= high), value > high)
        found += [(name, label, part) for label, part in zip(("low", "middle", "high"), thirds, strict=True)]
    return found


def mean_f1(truth: np.ndarray, call: np.ndarray) -> float:
    return float(np.mean([common.f1(truth[:, i], call[:, i]) for i in range(truth.shape[1])]))


def interval(people: np.ndarray, truth: np.ndarray, call: np.ndarray, draws: int = 400) -> tuple[float, float]:
    """Return the standard errors of the mean F1 and of the pooled F1, from resampling people."""
    rng = np.random.default_rng(0)
    known, owner = np.unique(people, return_inverse=True)
    parts = [np.zeros((len(known), truth.shape[1])) for _ in range(2)]
    for part, values in zip(parts, (2 * (truth & call), truth.astype(int) + call), strict=True):
        np.add.at(part, owner, values)
    taken = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), draws)
    top, bottom = (taken @ part for part in parts)
    return (float((top / np.maximum(bottom, 1)).mean(1).std()), float((top.sum(1) / bottom.sum(1)).std()))


def fairness(split: common.Split, index: np.ndarray, call: np.ndarray, out: Path) -> None:
    truth, rows = split.aus[index], []
    frequent = truth.sum(0) >= SUPPORT
    truth, call = truth[:, frequent], call[:, frequent]
    for attribute, group, part in groups(split, index):
        error, pooled_error = interval(split.identity[index][part], truth[part], call[part])
        rows.append([
            attribute, group, int(part.sum()), plus_minus(mean_f1(truth[part], call[part]), error),
            plus_minus(common.f1(truth[part], call[part]), pooled_error),
        ])  # fmt: skip
    header = ["attribute", "group", "faces", "mean F1", "pooled F1"]
    title = (f"AU F1 of the native reader by group, over the {frequent.sum()} units with at least {SUPPORT} faces; "
             f"{PLUS_MINUS['error']} over people")  # fmt: skip
    common.write(out, "fairness", title, header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eval", choices=("val", "test"), default="test")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reuse", action="store_true", help="score the readers in --out, where there are any")
    parser.add_argument("--views", nargs="+", default=["native", "small"])
    args = parser.parse_args()
    splits = {name: common.load(args.cache, name) for name in {"train", "val", args.eval}}
    parts = [(split, split.where("good")) for split in (splits["train"], common.load(args.cache, "practice"))]
    source = common.join(("native", "small", "aus"), *parts)
    tuned, tested = splits["val"].where("good"), splits[args.eval].where("good")
    if args.eval == "val":
        tuned, tested = halves(splits["val"], tuned)
    truth, calls = splits[args.eval].aus[tested], {}
    for view in args.views:
        model = kept(args, view) or train(source, view, args.epochs, args.seed)
        threshold = common.best_thresholds(splits["val"].aus[tuned], evaluate(model, splits["val"], view, tuned))
        calls[view] = evaluate(model, splits[args.eval], view, tested) > threshold
        args.out.mkdir(parents=True, exist_ok=True)
        state = {"model": model.state_dict(), "threshold": torch.from_numpy(threshold)}
        save_atomic(args.out / f"reader_{view}.pt", state)
    report(args, truth, calls)
    if "native" in calls:
        fairness(splits[args.eval], tested, calls["native"], args.out)


def report(args: argparse.Namespace, truth: np.ndarray, calls: dict[str, np.ndarray]) -> None:
    names = {"native": "F1 native", "small": "F1 48 px"}
    rows = [
        [facs.format_au(au) + (" *" if au in common.FINE_AUS else ""), int(truth[:, i].sum()),
         *(f"{common.f1(truth[:, i], call[:, i]):.3f}" for call in calls.values())]
        for i, au in enumerate(common.AUS)
    ]  # fmt: skip
    rows.append(["mean", "", *(f"{mean_f1(truth, call):.3f}" for call in calls.values())])
    fine = [common.AUS.index(au) for au in common.FINE_AUS]
    rows.append(["mean of *", "", *(f"{mean_f1(truth[:, fine], call[:, fine]):.3f}" for call in calls.values())])
    title = f"AUs read on {len(truth)} good faces of people not trained on (split {args.eval})"
    common.write(args.out, "labels", title, ["AU", "support", *(names[view] for view in calls)], rows)


if __name__ == "__main__":
    main()
