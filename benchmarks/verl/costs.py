"""Print where the wall time of a verl run's steps went, from the files of verl's logger "file", as a Markdown table.

A launch's first step also waits for the workers to start, which counts as rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

PARTS = ("model", "tools", "rewards", "rest")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    lines = ["| step | wall s | " + " | ".join(f"{part} s (share)" for part in PARTS) + " |", "|---" * 6 + "|"]
    for path in parser.parse_args().files:
        lines += [_line(row["step"], row["data"]) for row in map(json.loads, path.read_text().splitlines())]
    sys.stdout.write("\n".join(lines) + "\n")


def _line(step: int, data: dict[str, float]) -> str:
    cells = [f"{data[f'ucgrpo/cost/{part}_s']:.3f} ({data[f'ucgrpo/cost/{part}_share']:.1%})" for part in PARTS]
    return f"| {step} | {data['timing_s/step']:.2f} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
