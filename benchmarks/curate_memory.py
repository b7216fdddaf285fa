"""Memory of a curation over many samples: the template writer on small drawn squares, which cost little to make.

python benchmarks/curate_memory.py [SAMPLES ...]            default: 2000 20000 100000
Each number runs in a process of its own. Printed: its time, the peak of its memory, and what the start alone took. A
face is "found" in the middle of every picture; everything else (episodes, quality filter, journals, hashes, drawing the
sets) is the package's own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from actfer_env import facs
from actfer_env.curate.curate import curate
from actfer_env.curate.options import CurateOptions
from actfer_env.data import register_dataset
from actfer_env.images import RGB
from actfer_env.sample import Dataset, Sample
from actfer_env.tools import register_detector
from actfer_env.tools.detectors import Face

SMALL = {"image_side": 32, "face_side": 32, "crop_side": 32}


def square(number: int) -> RGB:
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


class Squares(Sequence):
    """Samples that are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(index)
        emotion = facs.EMOTIONS[min(index % 11, 7)]
        return Sample(f"square-{index}", partial(square, index), emotion, facs.prototype_aus(emotion),
                      meta={"subject": f"person-{index // 3}"})  # fmt: skip

    def position(self, name: str) -> int | None:
        number = name.partition("-")[2]
        return int(number) if number.isdigit() and int(number) < self.count else None


class Middle:
    name = "curate-benchmark"

    def detect(self, image: RGB) -> list[Face]:
        height, width = image.shape[:2]
        points = np.array([[0.4, 0.42], [0.6, 0.42], [0.5, 0.55], [0.43, 0.68], [0.57, 0.68]])
        return [Face((0.0, 0.0, float(width), float(height)), points * [width, height], 0.9)]


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(count: int) -> None:
    register_detector("curate-benchmark", Middle)
    register_dataset("squares", lambda root, n=count: Squares(n))
    dataset = Dataset("squares", Squares(count), {"name": "squares", "root": None, "split": None, "n": count})
    options = CurateOptions.build(detector="curate-benchmark", chat=SMALL, views="none")
    with tempfile.TemporaryDirectory() as folder:
        curate(Dataset("squares", Squares(50), dict(dataset.arguments)), Path(folder) / "first", options)
        before, start = peak(), time.perf_counter()
        found = curate(dataset, Path(folder) / "all", options)
        seconds = time.perf_counter() - start
        print(f"{count} samples: {found.kept} kept, {seconds:.0f} s, peak {peak():.0f} MiB, of which {before:.0f} MiB "
              f"after 50 samples; SFT {found.sets['sft']['lines']}, RL {found.sets['rl']['lines']}")  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        run(int(sys.argv[2]))
        return
    for count in map(int, sys.argv[1:] or ("2000", "20000", "100000")):
        subprocess.run([sys.executable, __file__, "--one", str(count)], check=True)


if __name__ == "__main__":
    main()
