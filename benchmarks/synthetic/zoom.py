"""What is zooming worth? One emotion reader sees the small aligned face, or that and the four crops.

Both views are trained in one network (crops are withheld from half of each batch, as in an episode without zooms), with
an agent's view sizes. It also learns to name Action Units, from the face, from each crop, and from all together, on
train and on practice (see cache). A second network is trained on good samples alone, to see what poor crops do to a
reader that never met one. A gain is (accuracy with zoom - without) on the same faces, with its paired standard error
over faces, after averaging the seeds.

Crops bring detail, but also four more looks by layers of their own. With --even the view without zoom gets them too:
the same four regions, cut out of its small face. What is gained then is detail alone.

With --stem gradients the networks begin with fixed gradient energies (as histograms of oriented gradients do) instead
of learned convolutions, and train three times as fast.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from actfer_env import facs
from actfer_env.agents.torch_files import save_atomic
from actfer_env.evaluation.intervals import PLUS_MINUS, Interval
from actfer_env.files import draft_file
from actfer_env.tools.sampling import sample_box
from benchmarks.synthetic import common

QUALITIES = ("good", "poor")
MIDDLE = {64: (12, 5, 52, 61), 48: (9, 4, 39, 46)}
"""Side of the small face -> x1, y1, x2, y2 of its brow, cheeks and chin."""
FACES = {64: "coarse", 48: "small"}
"""Side of the small face -> its array in the cache."""
AXES = 8
"""Axes of the gradient energies (chosen here); even, since each half of them is the other's opposite."""
Stem = Literal["learned", "gradients"]


class Gradients(nn.Module):
    """Energy of the gradients along some axes, and the colours, averaged over square cells; nothing is learned."""

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell = cell

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Turn pictures around zero, (n, 3, h, w), into (n, AXES + 3, h / cell, w / cell)."""
        even, odd = doubled(images.float().mean(1, keepdim=True))
        lobes = [math.cos(turn) * even + math.sin(turn) * odd
                 for turn in (2 * math.pi * k / AXES for k in range(AXES // 2))]  # fmt: skip
        ahead = [self.averaged(lobe.clamp(min=0)) for lobe in lobes]
        across = [part - self.averaged(lobe) for part, lobe in zip(ahead, lobes, strict=True)]
        energy = torch.cat([*ahead, *across], 1)
        return torch.cat([(32 * energy).log1p(), self.averaged(images.float())], 1)

    def averaged(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, self.cell)


def doubled(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients, (n, 1, h, w), at twice their angle, since an axis has no direction."""
    padded = nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    size = (x * x + y * y).sqrt_().add_(1e-6)
    return (x * x - y * y) / size, 2 * x * y / size


class EmotionReader(nn.Module):
    """Features of the face and of each crop, joined; crops pass through one trunk and a layer of their region's own."""

    def __init__(self, crop: int = 48, stem: Stem = "learned", width: int = 32) -> None:
        super().__init__()
        self.face, self.crop = trunk(width, 80, stem), trunk(width, crop, stem)
        far, near = 4 * stride(80, stem), 4 * stride(crop, stem)
        self.whole = nn.Sequential(nn.Linear(width * (112 // far) * (80 // far), 128), nn.ReLU())
        self.regions = nn.ModuleList(
            nn.Sequential(nn.Linear(width * (crop // near) ** 2, 64), nn.ReLU()) for _ in facs.REGIONS
        )
        self.join = nn.Sequential(nn.Linear(385, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 8))
        self.units = nn.Linear(385, len(common.AUS))
        self.far_units = nn.Linear(128, len(common.AUS))
        self.near_units = nn.Linear(256, len(common.AUS))

    def forward(self, face: Tensor, crops: Tensor, shown: Tensor) -> tuple[Tensor, ...]:
        """Return scores; `crops` are of all faces, or of those only whose `shown` is true.

        The scores are of emotions, and of Action Units from all, from the face, and from the crops.
        """
        whole = self.whole(self.face(face))
        closer = torch.zeros(len(face), 256, dtype=whole.dtype, device=whole.device)
        if len(crops):
            there = shown if len(crops) < len(face) else torch.ones_like(shown)
            seen = self.crop(crops.flatten(0, 1).contiguous(memory_format=torch.channels_last)).unflatten(0, (-1, 4))
            closer[there] = torch.cat([layer(seen[:, i]) for i, layer in enumerate(self.regions)], 1)
        joined = torch.cat([whole, closer, shown[:, None].to(whole.dtype)], 1)
        return self.join(joined), self.units(joined), self.far_units(whole), self.near_units(closer[shown])


def stride(side: int, stem: Stem) -> int:
    """Return how many pixels become one in the stem: gradients leave 20 to 24, convolutions halve once, or twice."""
    return -(-side // 24) if stem == "gradients" else 2 if side < 96 else 4


def trunk(width: int, side: int, stem: Stem) -> nn.Sequential:
    """Return convolutions for pictures so wide: a stem, then two halvings."""
    w, first = width, 3 * width // 2
    return nn.Sequential(
        *start(side, stem, first), common.block(first, 2 * w, 2), common.block(2 * w, 3 * w, 2),
        common.block(3 * w, 3 * w), nn.Conv2d(3 * w, w, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
    )  # fmt: skip


def start(side: int, stem: Stem, channels: int) -> list[nn.Module]:
    """Return the stem of a trunk."""
    step = stride(side, stem)
    if stem == "gradients":
        return [Gradients(step), common.block(AXES + 3, channels)]
    more = [common.block(channels, channels, 2)] if step == 4 else []
    return [nn.PixelUnshuffle(2), common.block(12, channels), *more]


def blown_up(faces: np.ndarray) -> np.ndarray:
    """Cut brow, cheeks and chin out of small faces and enlarge them, so that the trunk loses no detail."""
    x1, y1, x2, y2 = MIDDLE[faces.shape[1]]
    return np.stack([cv2.resize(face[y1:y2, x1:x2], (80, 112), interpolation=cv2.INTER_CUBIC) for face in faces])


def cut_out(faces: np.ndarray, regions: np.ndarray, size: int) -> np.ndarray:
    """Return the four regions of small faces, enlarged as a zoom would show them, uint8 (n, 4, size, size, 3).

    Faces that were not found have no regions, and stay black.
    """
    frame = np.eye(2, 3) / faces.shape[1]
    cuts = np.zeros((len(faces), len(facs.REGIONS), size, size, 3), np.uint8)
    for i in np.flatnonzero(regions.any(axis=(1, 2))):
        cuts[i] = [sample_box(faces[i], frame, box, (size, size)) for box in regions[i]]
    return cuts


def pictures(split: common.Split, batch: np.ndarray, shown: np.ndarray, even: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the faces, and the crops of those faces that are to have any, as bytes."""
    face = blown_up(split.coarse[batch])
    if not even:
        return face, split.crops[batch[shown]]
    crops = np.empty((len(batch), *split.crops.shape[1:]), np.uint8)
    crops[shown], crops[~shown] = split.crops[batch[shown]], split.cuts[batch[~shown]]
    return face, crops


def inputs(
    split: common.Split, batch: np.ndarray, shown: np.ndarray, rng: np.random.Generator | None = None,
    flip: bool = False, even: bool = False, device: torch.device = common.CPU,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return a batch as `EmotionReader` takes it, varied by `rng`, or mirrored by `flip`."""
    n, there = len(batch), np.ones_like(shown) if even else shown
    face, crops = (torch.from_numpy(bytes_).to(device) for bytes_ in pictures(split, batch, shown, even))
    turned = np.full(n, flip) if rng is None else rng.random(n) < 0.5
    face, crops = mirrored(face, turned), mirrored(crops, turned[there])
    if rng is not None:
        gain = rng.uniform(0.8, 1.25, (n, 1, 1, 1)) * rng.uniform(0.92, 1.08, (n, 1, 1, 3))
        light = torch.tensor(gain, dtype=torch.float32, device=device)
        near_light = light[torch.from_numpy(there).to(device)].unsqueeze(1)
        face, crops = (face * light).clamp_(0, 255), (crops * near_light).clamp_(0, 255)
    near = common.around_zero(crops.flatten(0, 1)).unflatten(0, (-1, len(facs.REGIONS)))
    return common.around_zero(face), near, torch.from_numpy(shown).to(device)


def mirrored(images: Tensor, turned: np.ndarray) -> Tensor:
    """Mirror some pictures; the width is the last but one axis."""
    chosen = torch.from_numpy(turned).to(images.device).view(-1, *[1] * (images.ndim - 1))
    return torch.where(chosen, images.flip(-2), images)


def fresh(seed: int, crop: int, stem: Stem, device: torch.device) -> EmotionReader:
    common.setup(seed)
    return EmotionReader(crop, stem).to(device, memory_format=torch.channels_last)


def train(model: EmotionReader, split: common.Split, epochs: int, seed: int, even: bool = False) -> EmotionReader:
    """Train a network; samples whose emotion is -1 teach Action Units only."""
    device = next(model.parameters()).device
    label = torch.tensor(np.asarray(split.emotion)).long().to(device)
    units = torch.tensor(np.asarray(split.aus)).float().to(device)

    def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
        shown = rng.permutation(len(batch)) < (len(batch) + 1) // 2
        emotion, *reads = model(*inputs(split, batch, shown, rng, even=even, device=device))
        truths = (units[batch], units[batch], units[batch[shown]])
        error = sum(
            nn.functional.binary_cross_entropy_with_logits(read.float(), truth)
            for read, truth in zip(reads, truths, strict=True)
        )
        named = max(int((label[batch] >= 0).sum()), 1)  # a short last batch may hold practice faces alone
        summed = nn.functional.cross_entropy(emotion.float(), label[batch], ignore_index=-1, reduction="sum")
        return summed / named + 1.5 * error

    common.fit(model, loss, np.arange(len(label)), epochs, seed=seed)
    return model.eval()


def right(model: EmotionReader, split: common.Split, index: np.ndarray, zoomed: bool, even: bool = False) -> np.ndarray:
    """Return 1 where the emotion is read rightly, 0 elsewhere."""
    device = next(model.parameters()).device

    def answer(batch: np.ndarray) -> Tensor:
        shown = np.full(len(batch), zoomed)
        views = [inputs(split, batch, shown, flip=flip, even=even, device=device) for flip in (False, True)]
        both = [model(*view)[0].float().softmax(1) for view in views]
        return both[0] + both[1]

    return (common.predict(answer, index, 128, device).argmax(1) == split.emotion[index]).astype(float)


def row(name: list[str], plain: np.ndarray, zoomed: np.ndarray) -> list[object]:
    gain = Interval.of(zoomed - plain).text(1, spread="error", scale=100, sign=True)
    return [*name, len(plain), f"{100 * plain.mean():.1f}", f"{100 * zoomed.mean():.1f}", gain]


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


def by_seed(reader: str, quality: np.ndarray, gains: np.ndarray) -> list[list[object]]:
    """Return the mean gains (seed, face) of each seed's network."""
    return [[reader, name, ", ".join(f"{100 * gain[quality == name].mean():+.1f}" for gain in gains)]
            for name in QUALITIES]  # fmt: skip


def plot(rows: list[list[object]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7.2, 3.2), dpi=100)
    series = (("all", "good", "#1f77b4"), ("all", "poor", "#aaaaaa"), ("good only", "poor", "#d62728"))
    for k, (reader, quality, colour) in enumerate(series):
        chosen = [r for r in rows if r[0] == reader and r[1] == quality]
        gains = [[float(part or 0) for part in str(r[-1]).partition(" ± ")[::2]] for r in chosen]
        places = np.arange(len(chosen)) + (k - 1) * 0.27
        axis.bar(places, [g for g, _ in gains], 0.26, yerr=[e for _, e in gains], color=colour, ecolor="#444444",
                 error_kw={"lw": 0.8}, label=f"{quality} pictures, reader trained on {reader}")  # fmt: skip
    axis.set_xticks(range(9), [*facs.EMOTIONS, "all"], rotation=25, ha="right", fontsize=8)
    axis.set_ylabel("gain of zooming, points", fontsize=8)
    axis.axhline(0, color="black", lw=0.6)
    axis.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    with draft_file(path) as draft:
        figure.savefig(draft, format="png")


def seen(split: common.Split, args: argparse.Namespace) -> common.Split:
    """Return the split with the small face of the chosen side under the name of the default's, and its cut-outs."""
    small = split.arrays[FACES[args.face]]
    cuts = {"cuts": cut_out(small, split.regions, split.crops.shape[2])} if args.even else {}
    return common.Split({**split.arrays, "coarse": small, **cuts})


def weights(args: argparse.Namespace, reader: str, seed: int) -> Path:
    args.out.mkdir(parents=True, exist_ok=True)
    kind = f"{'_even' * args.even}{'_gradients' * (args.stem == 'gradients')}"
    return args.out / f"emotion_{reader.replace(' ', '_')}{kind}_{args.face}_{seed}.pt"


def kept(args: argparse.Namespace, reader: str, seed: int, crop: int) -> EmotionReader | None:
    """Return the network of an earlier run, if it is to be used again."""
    path = weights(args, reader, seed)
    if not args.reuse or not path.exists():
        return None
    model = fresh(seed, crop, args.stem, args.device)
    model.load_state_dict(torch.load(path, map_location=args.device))
    return model.eval()


def taught(args: argparse.Namespace, reader: str, seed: int) -> EmotionReader:
    source, practice = (common.load(args.cache, name) for name in ("train", "practice"))
    index = source.where("good" if reader == "good only" else None)
    index = index[index < args.train]
    more = practice.where("good")
    names = (FACES[args.face], "crops", "aus", "emotion", "regions")
    split = seen(common.join(names, (source, index), (practice, more)), args)
    split.emotion[len(index) :] = -1
    print(f"{reader}: {len(index)} faces, and {len(more)} to practise on", flush=True)
    model = fresh(seed, split.crops.shape[2], args.stem, args.device)
    return train(model, split, args.epochs, seed, args.even)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eval", choices=("val", "test"), default="test")
    parser.add_argument("--train", type=int, default=2**31, help="samples of train; all if left out")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--even", action="store_true", help="give the view without zoom its own four regions")
    parser.add_argument("--face", type=int, choices=tuple(FACES), default=64, help="side of the small face, pixels")
    parser.add_argument("--stem", choices=get_args(Stem), default="learned", help="what the networks begin with")
    parser.add_argument("--device", type=torch.device, default=common.CPU)
    parser.add_argument("--reuse", action="store_true", help="score the networks in --out, where there are any")
    parser.add_argument("--readers", nargs="+", default=["all", "good only"])
    return parser.parse_args()


def main() -> None:
    args = options()
    split = seen(common.load(args.cache, args.eval), args)
    index, crop, rows, seeds = split.where(), split.crops.shape[2], [], []
    for reader in args.readers:
        models = [kept(args, reader, seed, crop) or taught(args, reader, seed) for seed in range(args.seeds)]
        for seed, model in enumerate(models):
            save_atomic(weights(args, reader, seed), model.state_dict())
        hits = np.array([[right(model, split, index, zoomed, args.even) for zoomed in (False, True)]
                         for model in models])  # fmt: skip
        rows += table(reader, split, index, (hits[:, 0].mean(0), hits[:, 1].mean(0)))
        seeds += by_seed(reader, split.quality[index], hits[:, 1] - hits[:, 0])
        header = ["trained on", "pictures", "emotion", "faces", "without, %", "with zoom, %", "gain, points"]
        title = (f"Accuracy of the emotion reader without and with zoom, split {args.eval}, {args.seeds} seed(s); "
                 f"{PLUS_MINUS['error']}")  # fmt: skip
        name = "zoom_even" if args.even else "zoom"
        common.write(args.out, name, title, header, rows)
        common.write(args.out, f"{name}_seeds", "The same by seed", ["trained on", "pictures", "gain, points"], seeds)
    if len(args.readers) == 2:
        plot(rows, args.out / f"zoom_gain{'_even' * args.even}.png")


if __name__ == "__main__":
    main()
