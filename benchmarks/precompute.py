"""What detection of a training set costs, and what a kept one costs: the figures behind the scale plan of docs/verl.md.

python -m benchmarks.precompute
python -m benchmarks.precompute simulated mtcnn insightface:/weights/scrfd_500m_bnkps.onnx
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from actfer_env.data import Dataset, Sample, load_dataset
from actfer_env.data.precompute import PrecomputeConfig, precompute
from actfer_env.tools.detectors import make_detector
from actfer_env.tools.detectors.cached import picture_digest
from actfer_env.tools.orientation import detect_in
from actfer_env.verl_plugin.rows import ParquetConfig, write_parquet

Pair = tuple[Sample, np.ndarray]


def milliseconds(work: Callable[[Pair], object], pairs: Sequence[Pair]) -> float:
    """Return CPU time a picture; what else the machine does hardly counts."""
    work(pairs[0])
    start = time.process_time()
    for pair in pairs:
        work(pair)
    return 1000 * (time.process_time() - start) / len(pairs)


def row(name: str, cost: float) -> None:
    print(f"| {name} | {cost:.2f} ms | {1000 / cost:,.0f} |", flush=True)


def size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


def shard_bytes(dataset: Dataset, folder: Path, images: str) -> float:
    write_parquet(dataset, folder, ParquetConfig(images=images))  # type: ignore[arg-type]
    return size(folder, "*.parquet") / len(dataset)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="*", default=["simulated", "mtcnn"])
    parser.add_argument("--number", type=int, default=200)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "opencv-python"))
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}; one thread\n")
    dataset = load_dataset("synthetic", split="train", n=args.number)
    pairs = [(sample, sample.image) for sample in (dataset[i] for i in range(args.number))]
    print(f"{args.number} drawn pictures, mean side {np.mean([max(image.shape) for _, image in pairs]):.0f} px\n")
    print("| what | CPU time a picture | pictures a second and core |\n|---|---|---|")
    for spec in args.detectors:
        detector = make_detector(spec)
        row(spec, milliseconds(lambda pair, detector=detector: detect_in(detector, *pair), pairs))
    with tempfile.TemporaryDirectory() as name:
        kept = Path(name) / "kept"
        precompute(dataset, kept, PrecomputeConfig(detector="simulated"))
        reader = make_detector(f"cached-only:{kept}")
        row("cached:FOLDER", milliseconds(lambda pair: detect_in(reader, *pair), pairs))
        large = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), np.uint8)
        row("digest of 1280 x 960", milliseconds(lambda pair: picture_digest(large), pairs))
        few = Dataset(dataset.name, dataset[:100], dataset.arguments)
        bare, whole = (shard_bytes(few, Path(name) / images, images) for images in ("none", "bytes"))
        print(f"\nkept detection {size(kept, '*.sqlite*') / args.number:.0f} bytes; "
              f"parquet row {bare:.0f} bytes without picture, {whole / 1000:.0f} KB with it")  # fmt: skip


if __name__ == "__main__":
    main()
