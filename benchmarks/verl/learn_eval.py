"""Plays held-out drawn faces with a model, for learn_on_cpu.sh: greedy, sampled, or with the pictures exchanged.

    python learn_eval.py MODEL OUT [--number 2500] [--mode greedy] [--split val] [--pictures FOLDER]

A second start with the same folders plays what is missing.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import _installed  # noqa: F401
import torch

from actfer_env.agents.qwen.fast_vision import use_fast_vision
from actfer_env.agents.qwen.tiny import BRIEF_CHAT
from actfer_env.agents.qwen.torchvision_guard import guard
from actfer_env.data import Dataset, load_dataset
from actfer_env.episode import EpisodeConfig
from actfer_env.evaluation import EvalConfig, evaluate
from actfer_env.files import write_text_atomic
from actfer_env.rewards.thoughts import thought_share
from actfer_env.rollout import Rollout
from actfer_env.tools import DEFAULT_TOOLS

TEMPERATURES = {"greedy": 0.0, "sampled": 1.0, "exchanged": 0.0}
"""Mode -> temperature; "exchanged" is greedy, with each face's label beside the picture of another."""


def exchanged(dataset: Dataset) -> Dataset:
    """Return a data set in which every sample shows the picture of the next."""
    samples = [dataset[index] for index in range(len(dataset))]
    shown = [replace(sample, source=other.source, annotate=other.annotate, meta={**sample.meta, "image": other.id})
             for sample, other in zip(samples, samples[1:] + samples[:1], strict=True)]  # fmt: skip
    return Dataset(dataset.name, shown, {**dataset.arguments, "pictures": "exchanged"})


def figures(rollouts: list[Rollout]) -> dict[str, float]:
    """Return shares over rollouts; "format" is an answer without any violation, "thoughts" of turns."""
    count = len(rollouts)
    clean = sum(r.predicted_emotion is not None and not r.violations for r in rollouts)
    return {
        "n": count, "accuracy": sum(bool(r.correct) for r in rollouts) / count, "format": clean / count,
        "zoomed": sum(r.zoomed for r in rollouts) / count,
        "thoughts": thought_share(rollouts),
    }  # fmt: skip


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    guard()
    use_fast_vision()
    from actfer_env.agents.qwen.agent import QwenVLAgent, SamplingConfig

    out = Path(options.out)
    choice = {"preset": options.preset, "n": options.number, "cache": options.pictures}
    dataset = load_dataset("synthetic", None, options.split, **choice)
    sampling = SamplingConfig(
        max_new_tokens=options.turn_tokens, temperature=TEMPERATURES[options.mode], seed=options.seed
    )
    agent = QwenVLAgent(
        options.model, device=options.device, dtype="float32", sampling=sampling, batch_size=options.batch
    )
    shown: Dataset = exchanged(dataset) if options.mode == "exchanged" else dataset
    episode = EpisodeConfig(max_turns=6, tools=tuple(options.tools.split(",")))
    run = evaluate(agent, shown, EvalConfig(chat=replace(BRIEF_CHAT, parsing="strict"), episode=episode), out)
    found = figures(list(run.rollouts))
    write_text_atomic(out / "figures.json", json.dumps(found) + "\n")
    print(options.mode, json.dumps(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--mode", choices=list(TEMPERATURES), default="greedy")
    parser.add_argument("--number", type=int, default=2500)
    parser.add_argument("--split", default="test", help='"val" for choosing constants')
    parser.add_argument("--preset", default="easy")
    parser.add_argument("--pictures")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--turn-tokens", type=int, default=128)
    parser.add_argument("--tools", default=",".join(DEFAULT_TOOLS), help="tools that the prompts offer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
