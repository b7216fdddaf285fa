"""Make a tiny Qwen3-VL that writes well-formed turns and, where it samples, zooms in about half of its episodes.

It learns the form on a few drawn faces, not to read them: that is what `learn_on_cpu.sh` is about. Half a minute on one
core.

    python benchmarks/verl/teach_format.py OUT [--steps 200] [--faces 64]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import _installed  # noqa: F401

from actfer_env.agents.qwen.torchvision_guard import guard

guard()

from actfer_env.agents.lessons import prepare_lessons  # noqa: E402
from actfer_env.agents.qwen.tiny import TinyQwenConfig, build  # noqa: E402
from actfer_env.agents.sft import SFTConfig, finetune  # noqa: E402
from actfer_env.data import load_dataset  # noqa: E402
from actfer_env.errors import ActFERError  # noqa: E402

MODEL = TinyQwenConfig(hidden=128, layers=2, vocabulary=900, max_pixels=64 * 64, initializer_range=0.05, brief=True)
"""Chosen here, so that a step of verl takes seconds; vLLM's kernels for CPUs need heads of 32."""
BATCH, RATE, WARM_UP, ZOOM_SHARE = 16, 3e-3, 20, 0.5


def main() -> None:
    """Build the model beside the folder, teach it, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--faces", type=int, default=64)
    options = parser.parse_args()
    try:
        sys.stdout.write(f"taught the format: loss {teach_format(options.out, options.steps, options.faces):.2f}\n")
    except ActFERError as error:
        sys.exit(f"teach_format: {error}")


def teach_format(out: Path, steps: int, faces: int) -> float:
    """Return the last step's loss, nats a token."""
    blank, lessons = out.parent / f"{out.name}-blank", out.parent / "lessons"
    build(blank, MODEL)
    dataset = load_dataset("synthetic", split="train", n=faces)
    prepare_lessons(dataset, blank, lessons, workers=1)  # here: other processes lack the two operators
    config = SFTConfig(vision_steps=0, steps=steps, batch=BATCH, lr=RATE, warm_up=WARM_UP, zoom_share=ZOOM_SHARE)
    return finetune(blank, dataset, out, config, lessons_dir=lessons)["turns"][-1]


if __name__ == "__main__":
    main()
