"""Memory of a curation over many samples: the template writer on small drawn squares, which cost little to make.

python benchmarks/curate_memory.py [SAMPLES ...]            default: 2000 20000 100000
python benchmarks/curate_memory.py --drawing [SAMPLES ...]  the drawing of the sets alone, of made-up lines
Each number runs in a process of its own. Printed: its time, the peak of its memory, and what the start alone took. A
face is "found" in the middle of every picture; everything else (episodes, quality filter, journals, hashes, drawing the
sets) is the package's own.
"""

from __future__ import annotations

import json
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
from actfer_env.curate.curate import _draw_sets, curate
from actfer_env.curate.journals import Outcomes
from actfer_env.curate.options import CurateOptions
from actfer_env.curate.sampling import Pilot
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


def draw(count: int) -> None:
    """Write outcomes that differ in id, person, emotion and hash, and draw the sets from them."""
    register_detector("curate-benchmark", Middle)
    register_dataset("squares", lambda root, n=count: Squares(n))
    options = CurateOptions.build(detector="curate-benchmark", chat=SMALL, views="none")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "first"
        curate(Dataset("squares", Squares(50), {"name": "squares", "n": 50}), place, options)
        line = json.loads((place / "sft.jsonl").read_text().splitlines()[0])
        outcomes = Outcomes(Path(folder) / "all", count, options.shard_size, sync=False)
        outcomes.thumbnails[:] = rng.integers(-127, 128, outcomes.thumbnails.shape, dtype=np.int8)
        outcomes.folder.mkdir()
        for shard in range(outcomes.shards):
            with outcomes.journal(shard).path.open("w", encoding="utf-8") as file:
                for index in outcomes.members(shard):
                    own = {"id": f"square-{index}", "index": index, "subject": f"person-{index // 3}",
                           "emotion": facs.EMOTIONS[min(index % 11, 7)], "picture": f"{index:08x}" * 4,
                           "hash": f"{int(rng.integers(0, 2**63)):016x}"}  # fmt: skip
                    row = {"schema": 1, "index": index, "id": own["id"], "line": {**line, **own}}
                    file.write(json.dumps(row) + "\n")
        before, start = peak(), time.perf_counter()
        found = _draw_sets(outcomes, options, Pilot(), None)
        seconds = time.perf_counter() - start
        print(f"{count} lines drawn in {seconds:.0f} s, peak {peak():.0f} MiB, of which {before:.0f} MiB before; "
              f"SFT {found.sets['sft']['lines']}, RL {found.sets['rl']['lines']}", flush=True)  # fmt: skip


def main() -> None:
    if sys.argv[1:2] in (["--one"], ["--draw"]):
        (run if sys.argv[1] == "--one" else draw)(int(sys.argv[2]))
        return
    drawing = sys.argv[1:2] == ["--drawing"]
    for count in map(int, sys.argv[1 + drawing :] or ("2000", "20000", "100000")):
        subprocess.run([sys.executable, __file__, "--draw" if drawing else "--one", str(count)], check=True)


if __name__ == "__main__":
    main()
