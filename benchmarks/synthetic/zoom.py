"""What is zooming worth? One emotion reader sees the 64-pixel aligned face, or that and the four 48-pixel crops.

Both views are trained in one network (crops are blanked for half of each batch, as in an episode without zooms), with
an agent's view sizes. A second network is trained on good samples alone, to see what poor crops do to a reader that
never met one. Several seeds; a gain is (accuracy with zoom - without) on the same faces, with its paired standard
error over faces, after averaging the seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from actfer_env import facs
from benchmarks.synthetic import common

QUALITIES = ("good", "poor")


class EmotionReader(nn.Module):
    """Features of the face and of each crop, joined; crops pass through one trunk and a layer of their region's own."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.face = nn.Sequential(
            common.block(3, w), common.block(w, 2 * w, 2), common.block(2 * w, 3 * w, 2), common.block(3 * w, 4 * w, 2),
            nn.Conv2d(4 * w, w, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(w * 64, 128), nn.ReLU(),
        )  # fmt: skip
        self.crop = nn.Sequential(
            common.block(3, w), common.block(w, 2 * w, 2), common.block(2 * w, 3 * w, 2), common.block(3 * w, 4 * w, 2),
            nn.Conv2d(4 * w, w, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        )  # fmt: skip
        self.regions = nn.ModuleList(nn.Sequential(nn.Linear(w * 36, 64), nn.ReLU()) for _ in facs.REGIONS)
        self.join = nn.Sequential(nn.Linear(128 + 256 + 1, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 8))
        self.units = nn.Linear(128 + 256 + 1, len(common.AUS))

    def forward(self, face: Tensor, crops: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Return emotion and Action Unit scores; `shown` is 1 where the crops may be seen."""
        n = len(face)
        seen = self.crop(crops).view(n, len(facs.REGIONS), -1)
        parts = [layer(seen[:, i]) for i, layer in enumerate(self.regions)]
        joined = torch.cat([self.face(face), torch.cat(parts, 1) * shown[:, None], shown[:, None]], 1)
        return self.join(joined), self.units(joined)


def inputs(
    split: common.Split, batch: np.ndarray, rng: np.random.Generator | None = None, flip: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    face, crops = split.coarse[batch], split.crops[batch]
    n = len(batch)
    turned = np.full(n, flip) if rng is None else rng.random(n) < 0.5
    face = common.mirror(face, turned)
    crops = np.where(turned[:, None, None, None, None], crops[:, :, :, ::-1], crops)
    if rng is not None:
        gain = rng.uniform(0.8, 1.25, (n, 1, 1, 1)) * rng.uniform(0.92, 1.08, (n, 1, 1, 3))
        face = np.clip(face * gain, 0, 255)
        crops = np.clip(crops * gain[:, None], 0, 255)
    return common.to_input(face), common.to_input(crops.reshape(n * 4, *crops.shape[2:]))


def train(split: common.Split, index: np.ndarray, epochs: int, seed: int) -> EmotionReader:
    common.setup(seed)
    model = EmotionReader().to(memory_format=torch.channels_last)
    label = torch.from_numpy(np.asarray(split.emotion)).long()
    units = torch.from_numpy(np.asarray(split.aus)).float()

    def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
        face, crops = inputs(split, batch, rng)
        shown = torch.from_numpy(rng.random(len(batch)) < 0.5).float()
        emotion, au = model(face, crops, shown)
        read = nn.functional.binary_cross_entropy_with_logits(au.float(), units[batch])
        return nn.functional.cross_entropy(emotion.float(), label[batch], label_smoothing=0.05) + 2 * read

    common.fit(model, loss, index, epochs, seed=seed)
    return model.eval()


def right(model: EmotionReader, split: common.Split, index: np.ndarray, zoomed: bool) -> np.ndarray:
    """Return 1 where the emotion is read rightly, 0 elsewhere."""

    def answer(batch: np.ndarray) -> Tensor:
        shown = torch.full((len(batch),), float(zoomed))
        both = [model(*inputs(split, batch, flip=flip), shown)[0].float().softmax(1) for flip in (False, True)]
        return both[0] + both[1]

    return (common.predict(answer, index, 128).argmax(1) == split.emotion[index]).astype(float)


def row(name: list[str], plain: np.ndarray, zoomed: np.ndarray) -> list[object]:
    gain = zoomed - plain
    error = 100 * gain.std() / np.sqrt(max(len(gain), 1))
    return [*name, len(gain), f"{100 * plain.mean():.1f}", f"{100 * zoomed.mean():.1f}",
            f"{100 * gain.mean():+.1f} ± {error:.1f}"]  # fmt: skip


def table(
    reader: str, split: common.Split, index: np.ndarray, hits: tuple[np.ndarray, np.ndarray]
) -> list[list[object]]:
    rows = []
    for quality in (*QUALITIES, "all"):
        part = np.ones(len(index), bool) if quality == "all" else split.quality[index] == quality
        for number, emotion in [*enumerate(facs.EMOTIONS), (-1, "all")]:
            chosen = part & ((split.emotion[index] == number) | (number < 0))
            rows.append(row([reader, quality, emotion], hits[0][chosen], hits[1][chosen]))
    return rows


def plot(rows: list[list[object]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7.2, 3.2), dpi=100)
    series = (("all", "good", "#1f77b4"), ("all", "poor", "#aaaaaa"), ("good only", "poor", "#d62728"))
    for k, (reader, quality, colour) in enumerate(series):
        chosen = [r for r in rows if r[0] == reader and r[1] == quality]
        gains = [[float(v) for v in str(r[-1]).split(" ± ")] for r in chosen]
        places = np.arange(len(chosen)) + (k - 1) * 0.27
        axis.bar(places, [g for g, _ in gains], 0.26, yerr=[e for _, e in gains], color=colour, ecolor="#444444",
                 error_kw={"lw": 0.8}, label=f"{quality} pictures, reader trained on {reader}")  # fmt: skip
    axis.set_xticks(range(9), [*facs.EMOTIONS, "all"], rotation=25, ha="right", fontsize=8)
    axis.set_ylabel("gain of zooming, points", fontsize=8)
    axis.axhline(0, color="black", lw=0.6)
    axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eval", choices=("val", "test"), default="test")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--readers", nargs="+", default=["all", "good only"])
    args = parser.parse_args()
    source, split = (common.load(args.cache, name) for name in ("train", args.eval))
    index, rows = split.where(), []
    for reader in args.readers:
        taught = source.where("good" if reader == "good only" else None)
        print(f"{reader}: {len(taught)} faces", flush=True)
        models = [train(source, taught, args.epochs, seed) for seed in range(args.seeds)]
        hits = [np.mean([right(model, split, index, zoomed) for model in models], 0) for zoomed in (False, True)]
        rows += table(reader, split, index, (hits[0], hits[1]))
        header = ["trained on", "pictures", "emotion", "faces", "without, %", "with zoom, %", "gain, points"]
        title = f"Accuracy of the emotion reader without and with zoom, split {args.eval}, {args.seeds} seed(s)"
        common.write(args.out, "zoom", title, header, rows)
    if len(args.readers) == 2:
        plot(rows, args.out / "zoom_gain.png")


if __name__ == "__main__":
    main()
