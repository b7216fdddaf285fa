"""What thoughts, the strict format and `contrast_members` change at toy size, beside a finished examples/paper_path.sh.

    python -m benchmarks.toy_ablation thoughts OUT/rows BARE/rows      # rows of fine-tuning without their thoughts
    python -m benchmarks.toy_ablation rescore OUT/rl/rollouts          # stored rollouts under each setting
    python -m benchmarks.toy_ablation compare OUT/eval/sft BARE/eval/sft ...   # folders of learn_eval.py, pair by pair
    python -m benchmarks.toy_ablation seeds strict-0 strict-1 strict-2 --against legal-0 legal-1 legal-2

Runs to compare: copy OUT without `settings` and what shall change, and start the path again; what is finished is kept.
For thoughts that is `rows` (made as above), `sft`, `eval`, `rl`, `ucgrpo`; for the format `rl`, `ucgrpo` and their
parts of `eval`, with FORMAT=lenient; for `contrast_members` the same, with `+ucgrpo.contrast_members=legal` behind OUT.
Intervals are 95 %: bootstrap over faces or groups, Student's t over seeds.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env.evaluation.intervals import Interval, bootstrap
from actfer_env.files import draft_folder
from actfer_env.rewards import FORMATS, UCGRPO, UCGRPOConfig
from actfer_env.rewards.thoughts import thought_share
from actfer_env.rollout import Rollout, read_rollouts

THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "strict, detected": FORMATS["strict"], "lenient, detected": FORMATS["lenient"],
    "strict, legal": {**FORMATS["strict"], "contrast_members": "legal"},
    "strict, answered": {**FORMATS["strict"], "contrast_members": "answered"},
    "strict, looked": {**FORMATS["strict"], "contrast_members": "looked"},
}  # fmt: skip
"""Setting -> fields of the reward; the first one is what the others are compared with."""


def without_thoughts(rows: Path, out: Path) -> int:
    """Write rows of fine-tuning anew, without the thoughts of their assistant turns; return how many thoughts went."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cut = 0
    with draft_folder(out) as draft:
        for part in sorted(rows.glob("*.parquet")):
            table = pq.read_table(part)
            messages = table["messages"].to_pylist()
            for message in (one for row in messages for one in row if one["role"] == "assistant"):
                for text in (piece for piece in message["content"] if piece["type"] == "text"):
                    text["text"], count = THOUGHT.subn("", text["text"])
                    cut += count
            place = table.schema.get_field_index("messages")
            bare = pa.array(messages, type=table.schema.field(place).type)
            pq.write_table(table.set_column(place, table.schema.field(place), bare), draft / part.name)
    return cut


def rescored(folder: Path) -> dict[str, list[tuple[np.ndarray, bool]]]:
    """Return the advantages of each stored group, and whether it had a contrast, under each setting."""
    found: dict[str, list[tuple[np.ndarray, bool]]] = {}
    steps = sorted(folder.glob("step_*.jsonl"))
    for name, fields in SETTINGS.items():
        scorer, groups = UCGRPO(replace(UCGRPOConfig(), **fields)), []
        for step in steps:
            rollouts = list(read_rollouts(step))
            scores = scorer.score(rollouts)
            rows: dict[str, list[int]] = {}
            for row, rollout in enumerate(rollouts):
                rows.setdefault(rollout.group_id, []).append(row)
            groups += [(scores.advantage[mine], scores.delta[group] is not None) for group, mine in rows.items()]
            scorer.commit(scores)
        found[name] = groups
    return found


def with_interval(values: np.ndarray, signed: bool = False) -> str:
    """Return a mean with its interval."""
    low, high = bootstrap(np.asarray(values, float))
    sign = "+" if signed else ""
    return f"{np.mean(values):{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def rescore(folder: Path) -> str:
    """Return a table: in how many groups a setting changes the advantages, and by how much."""
    found = rescored(folder)
    base = next(iter(found.values()))
    lines = ["| setting | groups with a contrast | groups whose advantages differ | mean change of an advantage |",
             "|---|---|---|---|"]  # fmt: skip
    for name, groups in found.items():
        gaps = np.array([np.abs(mine - theirs).mean() for (mine, _), (theirs, _) in zip(groups, base, strict=True)])
        contrasts = np.array([contrast for _, contrast in groups], float)
        lines.append(f"| {name} | {with_interval(contrasts)} | {with_interval((gaps > 1e-6).astype(float))} | "
                     f"{with_interval(gaps)} |")  # fmt: skip
    return "\n".join([f"{len(base)} groups", "", *lines])


def figures(rollouts: list[Rollout]) -> dict[str, np.ndarray]:
    """Return figures of each episode; "format" is an answer without a violation, "thoughts" the share of its turns."""
    return {
        "accuracy": np.array([bool(one.correct) for one in rollouts], float),
        "format": np.array([one.predicted_emotion is not None and not one.violations for one in rollouts], float),
        "zoomed": np.array([one.zoomed for one in rollouts], float),
        "thoughts": np.array([thought_share([one]) for one in rollouts], float),
    }


def compare(folders: list[Path]) -> str:
    """Return a table of pairs of evaluations over the same faces."""
    lines = ["| pair | figure | first | second | second less first |", "|---|---|---|---|---|"]
    for first, second in zip(folders[::2], folders[1::2], strict=True):
        one, two = ({r.sample_id: r for r in read_rollouts(place / "episodes.jsonl")} for place in (first, second))
        shared = [name for name in one if name in two]
        before, after = (figures([part[name] for name in shared]) for part in (one, two))
        for name in before:
            gap = with_interval(after[name] - before[name], signed=True)
            lines.append(f"| {first.name}, {len(shared)} faces | {name} | {before[name].mean():.3f} | "
                         f"{after[name].mean():.3f} | {gap} |")  # fmt: skip
    return "\n".join(lines)


def trained(out: Path) -> dict[str, float]:
    """Return the figures of one run of the path: its UC-GRPO as it trained, and its model on held-out faces.

    "while training" is over the last five steps' rollouts.
    """
    steps = sorted((out / "rl" / "rollouts").glob("step_*.jsonl"))
    parts = {"while training": [one for step in steps[-5:] for one in read_rollouts(step)]}
    for title, name in (("greedy", "ucgrpo"), ("sampled", "ucgrpo-sampled")):
        parts[title] = list(read_rollouts(out / "eval" / name / "episodes.jsonl"))
    return {
        f"{name}, {title}": float(values.mean()) for title, rollouts in parts.items()
        for name, values in figures(rollouts).items()
    }  # fmt: skip


def over_seeds(first: list[Path], second: list[Path]) -> str:
    """Return a table of two settings, trained from the same models with the same seeds, pair by pair."""
    one, two = [trained(out) for out in first], [trained(out) for out in second]
    lines = [f"| figure, {len(one)} seeds | first | second | second less first |", "|---|---|---|---|"]
    for name in one[0]:
        before, after = (np.array([run[name] for run in runs]) for runs in (one, two))
        gap = Interval.of(after - before)
        lines.append(f"| {name} | {before.mean():.3f} | {after.mean():.3f} | "
                     f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    bare = kinds.add_parser("thoughts")
    bare.add_argument("rows", type=Path)
    bare.add_argument("out", type=Path)
    kinds.add_parser("rescore").add_argument("rollouts", type=Path)
    kinds.add_parser("compare").add_argument("folders", type=Path, nargs="+", help="first, second, first, second, ...")
    seeds = kinds.add_parser("seeds")
    seeds.add_argument("first", type=Path, nargs="+", help="folders of paper_path.sh, one a seed")
    seeds.add_argument("--against", type=Path, nargs="+", required=True, help="as many, in the same order of seeds")
    args = parser.parse_args()
    if args.what == "seeds" and len(args.first) != len(args.against):
        parser.error(f"{len(args.first)} folders against {len(args.against)}: give one a seed on both sides")
    if args.what == "thoughts":
        print(f"{without_thoughts(args.rows, args.out)} thoughts left out: {args.out}")
    elif args.what == "rescore":
        print(rescore(args.rollouts))
    elif args.what == "seeds":
        print(over_seeds(args.first, args.against))
    else:
        print(compare(args.folders))


if __name__ == "__main__":
    main()
