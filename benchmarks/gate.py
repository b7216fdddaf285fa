"""Gate reports of reference policies: results in benchmarks/results/gate-*.json, and the page that is built from them.

    python -m benchmarks.gate add gate/ --task ActFER-Budget1-v0 --system "light policy" --command "actfer eval ..."
    python -m benchmarks.gate page                    # docs/gate_results.md

Each file holds the command, the versions and machine, and the figures with their intervals.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from actfer_env.files import write_text_atomic
from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS.parents[1] / "docs" / "gate_results.md"
HEAD = """# Gate reports of reference policies

What `actfer eval --gate` says of policies of this package; the terms are explained in [gate.md](gate.md). Each row is
a file `benchmarks/results/gate-*.json`; this page is built from those files, and a test builds it again.

Accuracy with the policy's own choice, and with that of each reference gate over the same weights. Intervals are 95 %:
over seeds (Student's t) where there are several, else over samples (bootstrap).
"""
WHERE = """## Where it looks, and whether the crops count

One look: accuracy with one crop of the policy's choice, of the best fixed region (chosen on one half of the samples,
scored on the other), of a random one. Moved: share of zooming episodes whose answer changes where the crops are another
person's, or of another region. A dash: not defined, or not played.
"""
GATES = ("never", "always", "random", "focus", "privileged", "oracle")
KEPT = (
    "intervals",
    "quality",
    "zoom_ratio",
    "unanswered",
    "values",
    "regret",
    "reference_gates",
    "gain_and_harm",
    "evidence",
    "where",
)
"""What a result keeps of gate.json, beside the Qini, the rank correlation and the stability."""


def versions() -> dict[str, str]:
    """Return the versions that change the figures."""
    names = ("actfer-env", "torch", "numpy", "opencv-python")
    return {**{name: metadata.version(name) for name in names}, "python": platform.python_version()}


def gate_result(figures: Mapping[str, Any], task: str, system: str, command: str, **facts: Any) -> dict[str, Any]:
    """Return a result of a gate report's figures."""
    each = figures.get("seeds") or [figures]
    metrics = {name: figures[name] for name in KEPT if name in figures}
    metrics["qini"] = {name: figures["qini"][name] for name in ("value", "low", "high")}
    metrics["rank_correlation"] = figures["calibration"]["rank_correlation"]
    metrics["stability"] = figures["stability"]
    return {
        "kind": "gate", "schema": 1, "task": task, "system": system, "command": command, "seeds": len(each),
        "samples": [one["n"] for one in each], "version": versions(), "machine": machine(), **facts,
        "metrics": rounded(metrics),
    }  # fmt: skip


def rounded(value: Any) -> Any:
    """Return JSON values with numbers of four digits."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def write(result: Mapping[str, Any], path: Path | None = None) -> Path:
    """Write a result, under a name that follows from its task and system if no other is given."""
    if path is None:
        name = re.sub(r"[^a-z0-9]+", "-", f"gate {result['task']} {result['system']}".lower()).strip("-")
        path = RESULTS / f"{name}.json"
    write_text_atomic(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def read_results() -> list[dict[str, Any]]:
    """Return the results of gate reports, in the order of their tasks and systems."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("gate-*.json"))]
    return sorted(found, key=lambda one: (one["task"], one["system"]))


def cell(figure: Mapping[str, Any] | None) -> str:
    """Return a figure with its interval; a dash where there is none."""
    if figure is None or figure["value"] is None:
        return "–"
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def page() -> str:
    """Return the page."""
    results = read_results()
    heads = ["policy", "task", "samples", "zoomed, by seed", "its own gate", *GATES, "regret", "Qini"]
    lines = [HEAD, "| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    looks = ["policy", "task", "its own", "best fixed", "random", "best", "moved: person", "moved: region"]
    second = [WHERE, "| " + " | ".join(looks) + " |", "|---|---|" + "---:|" * (len(looks) - 2)]
    notes = []
    for number, one in enumerate(results, 1):
        found = one["metrics"]
        gates = found["reference_gates"]["0"]
        ratios = ", ".join("–" if ratio is None else f"{ratio:.2f}" for ratio in found["stability"]["zoom_ratios"])
        cells = [cell(gates["policy"]), *(cell(gates.get(name)) for name in GATES), cell(found["regret"]["0"]),
                 cell(found["qini"])]  # fmt: skip
        lines.append(f"| {number}. {one['system']} | {one['task']} | {sum(one['samples']):,} | {ratios} | "
                     f"{' | '.join(cells)} |")  # fmt: skip
        first, swaps = found["where"].get("first") or {}, found["evidence"]
        cells = [*(cell(first.get(name)) for name in ("policy", "fixed", "random", "best")),
                 *(cell(swaps[name]["moved"]) for name in ("person", "region"))]  # fmt: skip
        second.append(f"| {number}. {one['system']} | {one['task']} | {' | '.join(cells)} |")
        versions = ", ".join(f"{name} {value}" for name, value in one["version"].items())
        silent = {way: share for way, share in found.get("unanswered", {}).items() if share > 0.1}
        told = "".join(f"; {share:.0%} of pass {way} without an answer" for way, share in silent.items())
        notes.append(f"{number}. `{one['command']}`: {one['machine']}; {versions}{told}")
    return "\n".join([*lines, "", *second, "", "## Made by", "", *notes, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("page")
    adding = commands.add_parser("add")
    adding.add_argument("run", type=Path, help="a folder with gate.json")
    for name in ("task", "system", "command"):
        adding.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    if args.what == "page":
        write_text_atomic(PAGE, page())
        print(PAGE)
        return
    figures = json.loads((args.run / "gate.json").read_text(encoding="utf-8"))
    print(write(gate_result(figures, args.task, args.system, args.command)))


if __name__ == "__main__":
    main()
