"""Drawn pictures kept as arrays, training, scores and tables."""

from __future__ import annotations

import csv
import io
import platform
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from actfer_env import __version__, facs
from actfer_env._version import GENERATOR_VERSION
from actfer_env.files import write_text_atomic
from benchmarks.machine import machine

AUS = facs.CORE_AUS
FAST_HALVES = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
"""Whether this processor multiplies bfloat16 itself: elsewhere it takes seven times as long as float32."""
CPU = torch.device("cpu")
FINE_AUS = (7, 9, 14, 15, 23)
"""Action Units that fine furrows tell, and that a small view should therefore lose."""


@dataclass
class Split:
    """One split as arrays, in the order of the samples; `native` is the aligned face, cut to brow, cheeks and chin."""

    arrays: dict[str, np.ndarray]

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __len__(self) -> int:
        return len(self.arrays["emotion"])

    def where(self, quality: str | None = None) -> np.ndarray:
        """Indices of samples whose face was found, of one quality if named, never those made to be lost."""
        found = self.arrays["found"] & (self.arrays["quality"] != "lost")
        return np.flatnonzero(found if quality is None else found & (self.arrays["quality"] == quality))


def load(cache: Path, split: str) -> Split:
    folder = cache / split
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing: run benchmarks.synthetic.cache first")
    return Split({path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))})


def join(names: Sequence[str], *parts: tuple[Split, np.ndarray]) -> Split:
    """Return some arrays of some samples of several splits, one after the other."""
    return Split({name: np.concatenate([split.arrays[name][index] for split, index in parts]) for name in names})


def setup(seed: int = 0, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    random.seed(seed)
    torch.manual_seed(seed)


def made_on() -> str:
    """Return a line with the machine, versions and the checkout's commit."""
    card = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "opencv-python", "scikit-learn"))
    return (f"{card}{machine()}; Python {platform.python_version()}, actfer-env {__version__}, "
            f"{versions}; generator version {GENERATOR_VERSION}, commit {commit()}")  # fmt: skip


def commit() -> str:
    """Return the checkout's commit; a copy has none, and not every machine has git."""
    try:
        said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def version(package: str) -> str:
    """Return a package's version; not every measurement needs every package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def halves(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where the device multiplies it itself."""
    return torch.autocast(device.type, torch.bfloat16, FAST_HALVES or device.type == "cuda")


def batches(index: np.ndarray, size: int, rng: np.random.Generator | None) -> Iterator[np.ndarray]:
    order = index if rng is None else rng.permutation(index)
    for start in range(0, len(order), size):
        yield np.sort(order[start : start + size])


def to_input(images: np.ndarray) -> Tensor:
    """Turn (n, h, w, 3) bytes into a (n, 3, h, w) tensor around zero, channels last in memory."""
    return around_zero(torch.from_numpy(np.ascontiguousarray(images)))


def around_zero(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float().div(64).sub_(2)


def block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)
    )


def fit(
    model: nn.Module, loss: Callable[[np.ndarray, np.random.Generator], Tensor], index: np.ndarray, epochs: int,
    rate: float = 2e-3, size: int = 64, seed: int = 0,
) -> None:  # fmt: skip
    """Train with AdamW and a one-cycle rate; `loss` takes the indices of a batch."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.02)
    steps = epochs * -(-len(index) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.15)
    device = next(model.parameters()).device
    for epoch in range(epochs):
        model.train()
        total = torch.zeros((), device=device)
        for batch in batches(index, size, rng):
            with halves(device):
                value = loss(batch, rng)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            total += value.detach() * len(batch)
        print(f"  epoch {epoch + 1}/{epochs}  loss {float(total) / len(index):.4f}", flush=True)


def predict(
    model: Callable[[np.ndarray], Tensor], index: np.ndarray, size: int = 256, device: torch.device = CPU
) -> np.ndarray:
    with torch.no_grad(), halves(device):
        return np.concatenate([model(batch).float().cpu().numpy() for batch in batches(index, size, None)])


def f1(truth: np.ndarray, call: np.ndarray) -> float:
    hits = float((truth & call).sum())
    return 2 * hits / max(float(truth.sum() + call.sum()), 1.0)


def best_thresholds(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return each unit's threshold with the best F1."""
    grid = np.linspace(-4, 5, 91)
    return np.array([max(grid, key=lambda t: f1(truth[:, i], score[:, i] > t)) for i in range(truth.shape[1])])


def mirror(images: np.ndarray, flip: np.ndarray) -> np.ndarray:
    return np.where(flip[:, None, None, None], images[:, :, ::-1], images)


def write(out: Path, name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table and write it as CSV and Markdown."""
    cells = io.StringIO()
    csv.writer(cells).writerows([header, *rows])
    write_text_atomic(out / f"{name}.csv", cells.getvalue())
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows)]
    text = f"{title}\n\n" + "\n".join(lines) + f"\n\n{made_on()}\n"
    write_text_atomic(out / f"{name}.md", text)
    print("\n" + text, flush=True)
