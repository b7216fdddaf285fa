"""The leaderboard: results in benchmarks/results/, and the page docs/leaderboard.md that is built from them.

    python -m benchmarks.leaderboard add RUN... --task ActFER-Quality-v0 --system NAME --command "actfer eval ..."
    python -m benchmarks.leaderboard ablation FOLDER --task ActFER-Budget1-v0 --command "actfer ablate ..."
    python -m benchmarks.leaderboard reference     # rows of benchmarks/reference_scores.json
    python -m benchmarks.leaderboard page

RUN is an --out folder of `actfer eval` or `actfer rollout`; several are seeds of one system.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actfer_env._version import GENERATOR_VERSION
from actfer_env.evaluation import read_run, summarize
from actfer_env.evaluation.intervals import Interval
from actfer_env.files import write_text_atomic
from benchmarks.gate import versions
from benchmarks.machine import machine
from benchmarks.reference import row as figures_of

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "leaderboard.md"
KIND, SCHEMA = "leaderboard", 1
TASKS = {
    "ActFER-Quality-v0": "Drawn faces, half of them in pictures where a zoom shows little that is new. A conversation "
    "on the same pictures counts as well.",
    "ActFER-Cost-v0": "The same pictures; an episode that zooms pays 0.1.",
    "ActFER-Budget1-v0": "Drawn faces of the preset `subtle`; one crop, so that where to look matters.",
    "ActFER-Budget2-v0": "The same with two crops.",
    "ActFER-Micro-v0": "Drawn micro-expressions, as motion maps.",
}
"""Task -> what it is, in the order of the page."""
METRICS = {"task": "task reward", "accuracy": "accuracy", "macro_f1": "macro-F1", "au_f1": "AU F1", "zoom": "zoomed"}
"""Metric -> its heading; the first one orders the rows. The task reward is less the task's cost of zooming."""
GATES = {
    "task_never": ("gate: never zoom", 0.0), "task_always": ("gate: always zoom", 1.0),
    "task_privileged": ("gate: zoom into good pictures (privileged)", None),
    "task_oracle": ("gate: the better of both, sample by sample (not reachable)", None),
}  # fmt: skip
"""Figure of a light policy whose gate is replaced -> name of the row, and the share that it zooms, where known."""
_EPYC = "two cores of an AMD EPYC with AVX-512"
REFERENCE = {
    "quality-newer": ("ActFER-Quality-v0", "light policy, {}", _EPYC),
    "cost-newer": ("ActFER-Cost-v0", "light policy, {}", _EPYC),
    "sb3_ppo": ("ActFER-Quality-v0", "Stable-Baselines3’s PPO, from scratch", "two cores, which ones was not noted"),
}  # fmt: skip
"""Part of reference_scores.json -> its task, what its systems are called, and the machine."""
MISSING = (
    "Light policies of the data presets `easy`, `standard`, `hard` and `subtle`, and of the training preset `quick`.",
    "Stable-Baselines3’s PPO on `ActFER-Cost-v0`.",
    "Vision-language models with trained weights: none was run. The tiny Qwen3-VL has random weights; it shows that "
    "the path works, and what no knowledge scores.",
    "Data sets of photographs, whose licences forbid to ship them; `actfer eval --benchmark` makes those tables.",
)
HEAD = """# Leaderboard

Reference results of this package on its benchmark tasks. Each row is a file in `benchmarks/results/` with its command,
version and machine; this page is built from those files, and a test builds it again.

± is half of the 95 % interval over seeds (Student's t). Report split `test` once; tune on `val`.
"""
TAIL = """## Add a row

Play the task's test split, turn the run into a result, build the page, and send both files.

<!-- not run: needs a trained policy or a model -->
```bash
actfer eval synthetic-mixed --split test -n 2500 --agent light:RUN --out out/seed0
python -m benchmarks.leaderboard add out/seed0 out/seed1 --task ActFER-Quality-v0 --system NAME --command "..."
python -m benchmarks.leaderboard page
```

For `ActFER-Cost-v0` play with `--set zoom_cost=0.1`. Give the command that others can run, and say by
`--needs` what it takes beside the package.
"""


def result(task: str, system: str, command: str, values: dict[str, list[float | None]], **facts: Any) -> dict[str, Any]:
    """Return a result, as its file holds it: each metric by seed."""
    if task not in TASKS:
        raise SystemExit(f"unknown task {task}: use one of {', '.join(TASKS)}")
    rounded = {name: [None if value is None else round(value, 4) for value in many] for name, many in values.items()}
    return {"kind": KIND, "schema": SCHEMA, "task": task, "system": system, "command": command, **facts,
            "metrics": rounded}  # fmt: skip


def write(found: dict[str, Any]) -> Path:
    """Write a result under a name that follows from its task and system."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{found['task'].split('-')[1]} {found['system']}".lower()).strip("-")
    path = RESULTS / f"{name}.json"
    RESULTS.mkdir(exist_ok=True)
    write_text_atomic(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return path


def add(runs: list[str], task: str, system: str, command: str, needs: str | None = None) -> Path:
    """Turn finished runs, one a seed, into a result."""
    values: dict[str, list[float | None]] = {name: [] for name in METRICS}
    counts = set()
    for folder in runs:
        run = read_run(folder)
        counts.add(len({rollout.sample_id for rollout in run.rollouts}))
        summary = summarize(run.rollouts, run.scores, run.au_set)
        cost = run.reward.zoom_cost * np.array([rollout.zoomed for rollout in run.rollouts])
        values["task"].append(float((run.scores.task - cost).mean()))
        for name, value in (("accuracy", summary.accuracy), ("macro_f1", summary.macro_f1),
                            ("au_f1", summary.au_macro_f1), ("zoom", summary.zoom_ratio)):  # fmt: skip
            values[name].append(value)
    if len(counts) != 1:
        raise SystemExit(f"the runs have different numbers of samples: {sorted(counts)}")
    versions = {"actfer-env": run.version, "python": platform.python_version()}
    facts = {"samples": counts.pop(), "seeds": len(runs), "generator": run.generator, "version": versions,
             "machine": machine(), **({"needs": needs} if needs else {})}  # fmt: skip
    return write(result(task, system, command, values, **facts))


def reference() -> list[Path]:
    """Write the rows of the policies that `actfer ablate` has trained, and of the gates put in their place."""
    kept = json.loads((HERE / "reference_scores.json").read_text(encoding="utf-8"))
    written = []
    for part, (task, name, where) in REFERENCE.items():
        found = kept["tasks"][part]
        facts = {"samples": 2500, "generator": kept["generator"],
                 "version": {**kept["versions"], "python": kept["python"]}, "machine": where}  # fmt: skip
        for variant, rows in found["runs"].items():
            written += write_rows(task, name.format(variant), found["command"], rows, variant == "full", facts)
    return written


def write_rows(
    task: str, system: str, command: str, rows: Sequence[Mapping[str, Any]], gates: bool, facts: Mapping[str, Any]
) -> list[Path]:
    """Write the row of a light policy, given each seed's figures, and those of the gates put in its gate's place."""
    values = {metric: [row[metric] for row in rows] for metric in METRICS}
    written = [write(result(task, system, command, values, seeds=len(rows), **facts))]
    for figure, (gate, zoomed) in GATES.items() if gates else ():
        values = {"task": [row[figure] for row in rows], "zoom": [zoomed] * len(rows)}
        written.append(write(result(task, f"{system}; {gate}", command, values, seeds=len(rows), **facts)))
    return written


def ablation(folder: str, task: str, command: str) -> list[Path]:
    """Turn the runs of `actfer ablate` into rows: each variant, and the gates in the place of that of "full"."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(Path(folder).glob("*-*/result.json")):
        runs.setdefault(path.parent.name.rsplit("-", 1)[0], []).append(figures_of(path))
    counts = {
        json.loads(path.read_text(encoding="utf-8"))["config"]["test"] for path in Path(folder).glob("*-*/result.json")
    }
    facts = {"samples": counts.pop(), "generator": GENERATOR_VERSION, "version": versions(), "machine": machine()}
    written: list[Path] = []
    for variant, rows in runs.items():
        written += write_rows(task, f"light policy, {variant}", command, rows, variant == "full", facts)
    return written


def read_results() -> list[dict[str, Any]]:
    """Return the results of the leaderboard, in the order of their files' names."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json")))
    return [one for one in found if isinstance(one, dict) and one.get("kind") == KIND]


def cell(values: list[float | None] | None) -> str:
    """Return a metric's mean over seeds with its interval, as the page shows it."""
    known = [value for value in values or () if value is not None]
    return Interval.of(known).text() if known else "–"


def page() -> str:
    """Return the page."""
    results, lines = read_results(), [HEAD]
    for task, words in TASKS.items():
        rows = [one for one in results if one["task"] == task]
        if not rows:
            continue
        rows.sort(key=lambda one: -np.mean(one["metrics"]["task"]))
        heads = ["system", *METRICS.values(), "samples", "seeds", "made by"]
        lines += [f"## {task}", "", words, "", "| " + " | ".join(heads) + " |",
                  "|" + "|".join(["---", *["---:"] * (len(heads) - 1)]) + "|"]  # fmt: skip
        origins = list(dict.fromkeys(map(origin, rows)))
        for one in rows:
            cells = [cell(one["metrics"].get(name)) for name in METRICS]
            last = (f"{one['samples']:,}", str(one["seeds"]), str(origins.index(origin(one)) + 1))
            lines.append("| " + " | ".join([one["system"], *cells, *last]) + " |")
        lines += ["", *(f"{number}. {words}" for number, words in enumerate(origins, 1)), ""]
    empty = [f"`{task}`" for task in TASKS if task not in {one["task"] for one in results}]
    missing = [*MISSING, *([f"Any row of {', '.join(empty)}."] if empty else [])]
    lines += ["## Missing", "", *(f"- {line}" for line in missing), "", TAIL]
    return "\n".join(lines)


def origin(one: dict[str, Any]) -> str:
    """Return which command made a row, where, with which versions."""
    versions = ", ".join(f"{name} {value}" for name, value in one["version"].items())
    needs = f", where {one['needs']}" if "needs" in one else ""
    return f"`{one['command']}`{needs}: {one['machine']}; generator {one['generator']}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    adding = commands.add_parser("add")
    adding.add_argument("runs", nargs="+")
    for name in ("--task", "--system", "--command"):
        adding.add_argument(name, required=True)
    adding.add_argument("--needs", help="What the command needs, where it is not in the package.")
    trained = commands.add_parser("ablation")
    trained.add_argument("folder")
    for name in ("--task", "--command"):
        trained.add_argument(name, required=True)
    commands.add_parser("reference")
    commands.add_parser("page")
    given = parser.parse_args()
    if given.what == "add":
        print(add(given.runs, given.task, given.system, given.command, given.needs))
    elif given.what == "ablation":
        print(*ablation(given.folder, given.task, given.command), sep="\n")
    elif given.what == "reference":
        print(*reference(), sep="\n")
    write_text_atomic(PAGE, page())
    print(PAGE)


if __name__ == "__main__":
    main()
