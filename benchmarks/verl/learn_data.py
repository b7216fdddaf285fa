"""Writes the prompts of learn_on_cpu.sh: drawn faces behind those of the fine-tuning, as parquet, and detects them.

python learn_data.py OUT --first 12000 --number 1536 [--pictures FOLDER] [--detections FOLDER]
"""

from __future__ import annotations

import argparse

import _installed  # noqa: F401

from actfer_env.agents.qwen.tiny import BRIEF_CHAT
from actfer_env.data import Dataset, load_dataset
from actfer_env.data.precompute import PrecomputeConfig, precompute
from actfer_env.verl_plugin.rows import ParquetConfig, write_parquet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--first", type=int, default=12_000)
    parser.add_argument("--number", type=int, default=1_536)
    parser.add_argument("--preset", default="easy")
    parser.add_argument("--pictures")
    parser.add_argument("--detections", help="folder for the detector cached:FOLDER")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    last = options.first + options.number
    every = load_dataset("synthetic", None, "train", preset=options.preset, n=last, cache=options.pictures)
    samples = Dataset(every.name, every[options.first : last], every.arguments)
    if options.detections:
        precompute(samples, options.detections, PrecomputeConfig(workers=options.workers))
    write_parquet(samples, options.out, ParquetConfig(images="none"), BRIEF_CHAT)


if __name__ == "__main__":
    main()
