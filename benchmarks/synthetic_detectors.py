"""Real detectors on drawn faces: share found, landmark error, agreement with the simulated detector, fairness.

python benchmarks/synthetic_detectors.py --scrfd scrfd_500m_bnkps.onnx
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from actfer_env._version import GENERATOR_VERSION
from actfer_env.data import load_dataset
from actfer_env.data.synthetic.faces import is_detectable
from actfer_env.tools import make_detector
from actfer_env.tools.detectors.simulated import SimulatedConfig

HIT = 0.35
"""A face counts as found when the mean landmark error is below this share of the inter-ocular distance."""


@dataclass(frozen=True)
class Look:
    """One sample: what the rules say, and each detector's error on its labelled face."""

    detectable: bool
    simulated: bool
    tone: int
    width: float
    errors: dict[str, float]


def look(sample: Any, detectors: dict[str, Any], rule: SimulatedConfig) -> Look:
    face, image = sample.annotate()[-1], sample.image
    five = face.five() + 0.5
    errors = {}
    for name, detector in detectors.items():
        found = [np.linalg.norm(f.landmarks - five, axis=1).mean() for f in detector.detect(image)]
        errors[name] = min(found, default=np.inf) / face.inter_ocular
    width = sample.meta["face_width"]
    return Look(is_detectable(face), rule.finds(face), sample.meta["skin_tone"], width, errors)


def kappa(a: Iterable[bool], b: Iterable[bool]) -> float:
    """Cohen's kappa of two yes-or-no judgements."""
    x, y = np.array(list(a)), np.array(list(b))
    chance = x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean())
    return float(((x == y).mean() - chance) / (1 - chance))


def table(looks: list[Look], name: str) -> None:
    sure = [item.errors[name] for item in looks if item.detectable]
    hits = [error for error in sure if error < HIT]
    error = f"median {np.median(hits):.1%}, 90th percentile {np.percentile(hits, 90):.1%} of the inter-ocular distance"
    print(f"{name:12} finds {len(hits) / len(sure):6.1%} of the detectable, landmark error {error}")


def groups(looks: list[Look], name: str, title: str, key: Callable[[Look], Any]) -> None:
    sure = [item for item in looks if item.detectable]
    parts = []
    for value in sorted({key(item) for item in sure}):
        hits = [item.errors[name] < HIT for item in sure if key(item) == value]
        parts.append(f"{value}: {np.mean(hits):.1%} ({len(hits)})")
    print(f"{name:12} found by {title}: " + ", ".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scrfd", help="an InsightFace detector, .onnx")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("-n", type=int, default=500)
    args = parser.parse_args()
    detectors = {"mtcnn": make_detector("mtcnn")}
    if args.scrfd:
        detectors["scrfd"] = make_detector(f"insightface:{args.scrfd}")
    dataset = load_dataset("synthetic", split="test", preset=args.preset, n=args.n)
    looks = [look(sample, detectors, SimulatedConfig()) for sample in dataset]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("actfer-env", "numpy", "opencv-python"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}, generator {GENERATOR_VERSION}")
    sure = [item for item in looks if item.detectable]
    print(f"{args.n} test samples of {args.preset!r}: {len(sure) / len(looks):.1%} detectable by the rule")
    rest = [item for item in looks if not item.detectable]
    half = rest + sure[: len(rest)]
    for name in detectors:
        table(looks, name)
        groups(looks, name, "skin tone", lambda item: f"{item.tone // 2 * 2}-{item.tone // 2 * 2 + 1}")
        groups(looks, name, "face width", lambda item: "narrow" if item.width < 0 else "wide")
    for label, part in (("half detectable, half not", half), ("all", looks)):
        value = kappa((i.simulated for i in part), (i.errors["mtcnn"] < HIT for i in part))
        print(f"simulated against mtcnn, {label} ({len(part)}): Cohen's kappa {value:.2f}")


if __name__ == "__main__":
    main()
