"""The table of paper_path.sh: each model over the same held-out faces, with 95 % intervals, and what it must show.

python examples/sft/paper_table.py OUT [--format 0.95] [--accuracy 0.5]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from actfer_env.evaluation.intervals import bootstrap
from actfer_env.evaluation.metrics import summarize
from actfer_env.rollout import read_rollouts

ROWS = {
    "before": "eyes alone, before SFT", "sft": "SFT, greedy", "sft-sampled": "SFT, sampled",
    "sft-exchanged": "SFT, greedy, pictures exchanged", "ucgrpo": "UC-GRPO, greedy",
    "ucgrpo-sampled": "UC-GRPO, sampled",
}  # fmt: skip


def main() -> None:
    """Print the table, write it, and end with 1 where SFT does not show what it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--format", type=float, default=0.95, help="least share of clean answers after SFT")
    parser.add_argument("--accuracy", type=float, default=0.5, help="least greedy accuracy after SFT")
    options = parser.parse_args()

    found, hits = dict[str, dict[str, float]](), dict[str, list[bool]]()
    lines = ["| model | faces | accuracy | AU F1 | format | thoughts | zoomed |", "|---|---|---|---|---|---|---|"]
    for name, title in ROWS.items():
        folder = options.out / "eval" / name
        if not (folder / "figures.json").is_file():
            continue
        figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        rollouts = list(read_rollouts(folder / "episodes.jsonl"))
        units = summarize(rollouts).au_instance_f1
        found[name] = figures
        hits[name] = [bool(rollout.correct) for rollout in rollouts]
        low, high = bootstrap(np.array(hits[name], float))
        lines.append(
            f"| {title} | {figures['n']} | {figures['accuracy']:.3f} ({low:.3f} to {high:.3f}) | {units:.3f} | "
            f"{figures['format']:.3f} | {figures['thoughts']:.3f} | {figures['zoomed']:.3f} |"
        )
    table = "\n".join(lines) + "\n"
    (options.out / "table.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)

    before, sft, exchanged = found["before"], found["sft"], found["sft-exchanged"]
    checks = {
        f"format near 0 before SFT ({before['format']:.3f})": before["format"] < 0.05,
        f"format {options.format} after it ({sft['format']:.3f})": sft["format"] >= options.format,
        f"thoughts in 95 % of turns ({sft['thoughts']:.3f})": sft["thoughts"] >= 0.95,
        f"accuracy {options.accuracy} ({sft['accuracy']:.3f})": sft["accuracy"] >= options.accuracy,
        f"chance with exchanged pictures ({exchanged['accuracy']:.3f})": near_chance(hits["sft-exchanged"]),
    }
    for name, holds in checks.items():
        sys.stdout.write(f"{'holds' if holds else 'FAILS'}: {name}\n")
    sys.exit(0 if all(checks.values()) else 1)


def near_chance(hits: Sequence[bool]) -> bool:
    """Tell whether the interval of an accuracy reaches down to 0.16: 1 in 8, and some, since classes are unequal."""
    return bootstrap(np.array(hits, float))[0] <= 0.16


if __name__ == "__main__":
    main()
