"""Drawn faces per second of CPU time on one thread, and what share of an episode the drawing takes.

python benchmarks/synthetic_speed.py
python benchmarks/synthetic_speed.py --against ../older_checkout  # both by turns: how many times as fast
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np

from actfer_env.data import load_dataset
from actfer_env.data.synthetic.faces import Expression, Identity, Pose, render_face

FACE = Expression.both({1: 3, 4: 2, 6: 4, 12: 3, 25: 2})


def rate(draw: Callable[[int], object], seconds: float) -> float:
    """Return calls per second of CPU time; what else the machine does hardly counts."""
    for warm in range(8):
        draw(warm)
    done, cpu, start = 8, time.process_time(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        draw(done)
        done += 1
    return (done - 8) / (time.process_time() - cpu)


def drawing(seconds: float) -> dict[str, float]:
    """Return the rate of each kind of drawing."""
    few = [Identity.sample(np.random.default_rng(i)) for i in range(8)]
    rates = {}
    for size in (256, 512):
        rates[f"{size} px, known people"] = rate(
            lambda i, size=size: render_face(few[i % 8], FACE, Pose(8, 4, 3), size=size), seconds
        )
        rates[f"{size} px, new people"] = rate(
            lambda i, size=size: render_face(Identity.sample(np.random.default_rng(100 + i)), FACE, size=size), seconds
        )
    dataset = load_dataset("synthetic", split="train")
    rates["sample of 'standard' (scene, camera, JPEG)"] = rate(lambda i: dataset[i].image, seconds)
    return rates


def episodes(seconds: float) -> None:
    """Print how many episodes are played, and what share of them is drawing."""
    import gymnasium as gym

    from actfer_env.agents import ScriptedAgent

    env = gym.make("ActFER-Discrete-v0", dataset=load_dataset("synthetic", split="train"))
    agent = ScriptedAgent(env.action_space)

    def episode(index: int) -> None:
        obs, info = env.reset(options={"sample": index})
        while "rollout" not in info:
            obs, _, _, _, info = env.step(agent.act(obs, info))

    new = rate(lambda i: episode(5000 + i), seconds)
    again = rate(lambda i: episode(5000 + i % 50), seconds)
    print(f"episodes of four turns: {new:6.0f} on new samples, {again:6.0f} on kept ones; "
          f"drawing takes {1 - new / again:.0%}")  # fmt: skip


def turn(checkout: Path, seconds: float) -> dict[str, float]:
    """Return the rates of a checkout, measured in a process of its own."""
    command = [sys.executable, __file__, "--json", "--seconds", str(seconds)]
    paths = os.pathsep.join([str(checkout.resolve()), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    shown = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True, capture_output=True, text=True)
    return json.loads(shown.stdout)


def compare(other: Path, turns: int, seconds: float) -> None:
    """Measure this checkout and another by turns; print the median rates and the median of the turns' ratios."""
    both = (Path(__file__).parents[1], other)
    results: tuple[list[dict[str, float]], ...] = ([], [])
    for number in range(turns):
        for which in (0, 1) if number % 2 else (1, 0):
            results[which].append(turn(both[which], seconds))
    for name in results[0][0]:
        here, there = ([rates[name] for rates in side] for side in results)
        ratios = [a / b for a, b in zip(here, there, strict=True)]
        print(f"{name:44}{statistics.median(here):6.0f} against {statistics.median(there):6.0f}, ratio "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--turns", type=int, default=5, help="for each side, with --against")
    parser.add_argument("--json", action="store_true", help="print the drawing's rates alone, as JSON")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.json:
        print(json.dumps(drawing(args.seconds)))
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("actfer-env", "numpy", "opencv-python"))
    print(f"{platform.machine()}, one thread, Python {platform.python_version()}, {versions}; per second of CPU time:")
    if args.against:
        compare(args.against, args.turns, args.seconds)
        return
    for name, value in drawing(args.seconds).items():
        print(f"{name:44}{value:6.0f}")
    episodes(args.seconds)


if __name__ == "__main__":
    main()
