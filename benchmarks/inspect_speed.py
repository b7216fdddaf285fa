"""Seconds of `actfer inspect` beside the batch function on the same images, by turns in one process.

python benchmarks/inspect_speed.py my_photos/ [--detector mtcnn] [-n 40] [--repeats 3]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2

from actfer_env.inspection import InspectConfig, inspect_all
from actfer_env.tools import detect_align_batch, find_images, make_detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--detector", default="mtcnn")
    parser.add_argument("-n", type=int, default=40, help="images")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    paths = find_images(args.folder)[: args.n]
    detector = make_detector(args.detector)
    with tempfile.TemporaryDirectory() as folder:
        base = {"detector": args.detector, "out": Path(folder)}
        both = ("faces", "crops")
        sides: dict[str, Callable[[], Any]] = {
            "detect_align_batch": lambda: detect_align_batch(paths, detector, on_error="return"),
            "inspect --no-panels": lambda: list(inspect_all(paths, InspectConfig(**base, panels=False))),
            "inspect": lambda: list(inspect_all(paths, InspectConfig(**base))),
            "inspect --save faces,crops": lambda: list(inspect_all(paths, InspectConfig(**base, save=both))),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.repeats):
            for name, run in sides.items():
                start = time.process_time()
                run()
                times[name].append(time.process_time() - start)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("actfer-env", "numpy", "opencv-python"))
    print(f"{platform.machine()}, {cv2.getNumberOfCPUs()} cores, Python {platform.python_version()}, {versions}")
    print(f"{len(paths)} images, {args.detector}; median of {args.repeats} runs by turns, seconds of processor time")
    batch = statistics.median(times["detect_align_batch"])
    for name, values in times.items():
        print(f"{name:28} {statistics.median(values):7.2f} s   ratio {statistics.median(values) / batch:.2f}")


if __name__ == "__main__":
    main()
