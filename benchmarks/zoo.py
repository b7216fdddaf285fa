"""Rewards that say when to use a tool, compared by their policies' gates: drawn faces, and real photos.

    actfer ablate --preset paper --seeds 5 --variants full,task_only,deepeyes,... --out RUNS
    python -m benchmarks.zoo drawn --runs RUNS --dataset synthetic-mixed -n 500
    python -m benchmarks.zoo photos --root FOLDER --out OUT --only SEED     # for each seed, then without --only

All variants of a seed begin with the same warm start. Each policy is played with zooms forbidden, forced and free;
worth is accuracy, whatever the reward was. Intervals are 95 %, Student's t over seeds; differences are paired by seed.
What is finished is kept: the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env.data import load_dataset
from actfer_env.evaluation.gate import statistics
from actfer_env.evaluation.gate.figures import gate_figures
from actfer_env.evaluation.gate.outcomes import ALWAYS, FREE, NEVER, Plays, holds_plays, joined, read_plays, write_plays
from actfer_env.evaluation.gate.play import play_gate
from actfer_env.evaluation.intervals import Interval
from actfer_env.evaluation.play import config_for
from benchmarks.gate import rounded, versions, write
from benchmarks.machine import machine
from benchmarks.real_photos import kept_photos, one_seed, options

VARIANTS = ("full", "task_only", "facial_r1", "tag", "deepeyes", "adatooler", "hdpo", "visionthink", "autotool",
            "nemo_gym")  # fmt: skip


def drawn(runs: Path, dataset: str, preset: str | None, number: int, variants: Sequence[str]) -> dict[str, Plays]:
    """Play the policies of a folder of `actfer ablate` on the first samples of the test split."""
    found = {}
    for variant in variants:
        place = runs / "gates" / variant
        if not holds_plays(place):
            folders = sorted(runs.glob(f"{variant}-[0-9]*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
            held = load_dataset(dataset, split="test", **({"preset": preset} if preset else {}))
            config = config_for(tuple(f"light:{folder}" for folder in folders), number=number)
            plays, _ = play_gate(held, config, ways=(FREE, NEVER, ALWAYS), swaps=False)
            write_plays(place, plays)
            print(f"played {variant}: {len(folders)} seeds", flush=True)
        found[variant] = read_plays(place)
    return found


def table(gates: Mapping[str, Plays]) -> dict[str, dict[str, Any]]:
    """Return a row for each variant; each figure has "value", "low", "high"."""
    rows: dict[str, dict[str, Any]] = {}
    own: dict[str, list[float]] = {}
    for variant, plays in gates.items():
        figures = gate_figures(plays)
        seeds = figures.get("seeds") or [figures]
        own[variant] = [one["values"]["free"]["value"] for one in seeds]
        gate = figures["reference_gates"]["0"]
        rows[variant] = {
            "zoom_ratios": figures["stability"]["zoom_ratios"],
            "accuracy": figures["values"]["free"], "never": gate["never"], "always": gate["always"],
            "less_never": gate["policy_less_never"], "less_always": gate["policy_less_always"],
            "regret": {name: figures["regret"]["0"][name] for name in ("value", "low", "high")},
            "qini": {name: figures["qini"][name] for name in ("value", "low", "high")},
        }  # fmt: skip
    first = next(iter(gates))
    for variant, row in rows.items():
        if variant != first:
            gaps = Interval.of([a - b for a, b in zip(own[variant], own[first], strict=True)])
            row[f"less_{first}"] = {"value": gaps.mean, "low": gaps.low, "high": gaps.high}
    return rows


def cell(figure: Mapping[str, Any] | None, signed: bool = False) -> str:
    """Return a figure with its interval."""
    if figure is None or figure["value"] is None:
        return "–"
    sign = "+" if signed else ""
    if figure["low"] is None or not np.isfinite(figure["low"]):  # of one seed
        return f"{figure['value']:{sign}.3f}"
    return f"{figure['value']:{sign}.3f} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    first = next(iter(rows))
    lines = [f"| reward | zoomed, by seed | accuracy | less `{first}` | less never | less always | regret | Qini |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in rows.items():
        ratios = ", ".join("–" if one is None else f"{one:.2f}" for one in row["zoom_ratios"])
        cells = (cell(row["accuracy"]), cell(row.get(f"less_{first}"), True), cell(row["less_never"], True),
                 cell(row["less_always"], True), cell(row["regret"]), cell(row["qini"]))  # fmt: skip
        lines.append(f"| `{name}` | {ratios} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    on_drawn = kinds.add_parser("drawn")
    on_drawn.add_argument("--runs", type=Path, required=True)
    on_drawn.add_argument("--dataset", default="synthetic-mixed")
    on_drawn.add_argument("--preset")
    on_drawn.add_argument("-n", type=int, default=500)
    on_drawn.add_argument("--results", type=Path)
    on_photos = kinds.add_parser("photos", parents=[options()])
    for one in (on_drawn, on_photos):
        one.add_argument("--variants", default=",".join(VARIANTS))
    args = parser.parse_args()
    statistics.DRAWS = 2  # of intervals within a seed, which this table does not show and which take minutes
    variants = args.variants.split(",")
    if args.what == "drawn":
        gates = drawn(args.runs, args.dataset, args.preset, args.n, variants)
        task, command = args.dataset, f"actfer ablate; python -m benchmarks.zoo drawn -n {args.n}"
    else:
        photos, seeds = kept_photos(args), range(args.seeds) if args.only is None else [args.only]
        folders = {
            name: [one_seed(photos, seed, args, name, whole=name == "full") for seed in seeds] for name in variants
        }
        gates = {name: joined([read_plays(folder) for folder in places]) for name, places in folders.items()}
        task, command = "facial_expressions, people apart", f"python -m benchmarks.zoo photos --seeds {args.seeds}"
    rows = table(gates)
    print(markdown(rows))
    if args.results is not None and getattr(args, "only", None) is None:
        seeds = len(next(iter(rows.values()))["zoom_ratios"])
        result = {"kind": "zoo", "schema": 1, "task": task, "command": command, "seeds": seeds, "version": versions(),
                  "machine": machine(), "rows": rows}  # fmt: skip
        print(f"result: {write(rounded(result), args.results)}")


if __name__ == "__main__":
    main()
