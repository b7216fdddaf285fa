"""Collect the figures of finished `actfer ablate` folders into benchmarks/reference_scores.json.

    python benchmarks/reference.py "paper=actfer ablate --preset paper" FOLDER "cost=actfer ablate ..." FOLDER

Each pair is a name with the command that made the runs, and their folder. What other names hold already is kept.
"""

from __future__ import annotations

import json
import math
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from actfer_env._version import GENERATOR_VERSION
from actfer_env.files import write_text_atomic

OUT = Path(__file__).with_name("reference_scores.json")


def row(path: Path) -> dict[str, Any]:
    """Return a run's seed, weights and figures; what is not defined is null, since JSON knows no NaN."""
    result = json.loads(path.read_text(encoding="utf-8"))
    if result["generator"] != GENERATOR_VERSION:
        raise SystemExit(f"{path} was made with generator {result['generator']}, not {GENERATOR_VERSION}")
    shown = {
        key: None if value is None or math.isnan(value) else round(value, 4) for key, value in result["figures"].items()
    }
    return {"seed": result["config"]["seed"], "weights": result.get("weights"), "split": result["split"], **shown}


def main() -> None:
    names, folders = sys.argv[1::2], sys.argv[2::2]
    parts = json.loads(OUT.read_text(encoding="utf-8"))["tasks"] if OUT.exists() else {}
    for name, folder in zip(names, folders, strict=True):
        key, command = name.split("=", 1)
        runs: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(Path(folder).glob("*-*/result.json")):
            runs.setdefault(path.parent.name.rsplit("-", 1)[0], []).append(row(path))
        parts[key] = {"command": command, "runs": runs}
    versions = {name: metadata.version(name) for name in ("actfer-env", "torch", "numpy", "opencv-python")}
    facts = {"generator": GENERATOR_VERSION, "data": "first 2,500 test samples of synthetic-mixed, seed 0",
             "python": platform.python_version(), "versions": versions}  # fmt: skip
    write_text_atomic(OUT, json.dumps({**facts, "tasks": parts}, indent=1) + "\n")
    print(OUT)


if __name__ == "__main__":
    main()
