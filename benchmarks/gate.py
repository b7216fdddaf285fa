"""Turn finished gate reports into results: benchmarks/results/gate-*.json.

    python -m benchmarks.gate gate/ --task ActFER-Budget1-v0 --system "light policy, full" --command "actfer eval ..."

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder with gate.json")
    for name in ("task", "system", "command"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    figures = json.loads((args.run / "gate.json").read_text(encoding="utf-8"))
    print(write(gate_result(figures, args.task, args.system, args.command)))


if __name__ == "__main__":
    main()
