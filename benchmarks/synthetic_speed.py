"""Drawn faces per second on one thread, and what share of an episode the drawing takes.

python benchmarks/synthetic_speed.py
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib import metadata

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import gymnasium as gym
import numpy as np

from actfer_env.agents import ScriptedAgent
from actfer_env.data import load_dataset
from actfer_env.data.faces import Expression, Identity, Pose, render_face

FACE = Expression.both({1: 3, 4: 2, 6: 4, 12: 3, 25: 2})


def rate(draw: Callable[[int], object], seconds: float) -> float:
    """Return calls per second."""
    draw(0)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += 1
        draw(done)
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("actfer-env", "numpy", "opencv-python"))
    print(f"{platform.machine()}, one thread, Python {platform.python_version()}, {versions}")
    few = [Identity.sample(np.random.default_rng(i)) for i in range(8)]
    for size in (256, 512):
        known = rate(lambda i, size=size: render_face(few[i % 8], FACE, Pose(8, 4, 3), size=size), args.seconds)
        new = rate(
            lambda i, size=size: render_face(Identity.sample(np.random.default_rng(100 + i)), FACE, size=size),
            args.seconds,
        )
        print(f"face {size} px: {known:6.0f} a second for known people, {new:6.0f} for new ones")
    dataset = load_dataset("synthetic", split="train")
    samples = rate(lambda i: dataset[i].image, args.seconds)
    print(f"sample of 'standard' (scene, camera, JPEG): {samples:6.0f} a second")
    env = gym.make("ActFER-Discrete-v0", dataset=dataset)
    agent = ScriptedAgent(env.action_space)

    def episode(index: int) -> None:
        obs, info = env.reset(options={"sample": index})
        while "rollout" not in info:
            obs, _, _, _, info = env.step(agent.act(obs, info))

    episodes = rate(lambda i: episode(5000 + i), args.seconds)
    again = rate(lambda i: episode(5000 + i % 50), args.seconds)
    print(f"episodes of four turns: {episodes:6.0f} a second on new samples, {again:6.0f} on kept ones; "
          f"drawing takes {1 - episodes / again:.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
