"""CPU time that imports and `--help` take, of one checkout or of two side by side.

    python -m benchmarks.start                       # this checkout
    python -m benchmarks.start OLD NEW --repeats 9   # two, run in turn, with the ratio of the second to the first

Each start is a process of its own, with the libraries of this interpreter. The figure is the smallest of the repeats:
CPU seconds of the process, user and system, so that other work on the machine counts for little. The first round, which
compiles, does not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

if __package__:
    from benchmarks.journeys import lay_out
else:
    from journeys import lay_out

STARTS = {
    "python alone": "pass",
    "import actfer_env": "import actfer_env",
    "import actfer_env.data": "import actfer_env.data",
    "import actfer_env.chat": "import actfer_env.chat",
    "import actfer_env.evaluation": "import actfer_env.evaluation",
    "actfer --help": "from actfer_env.cli import main; main()",
    "actfer eval --help": "from actfer_env.cli import main; main()",
}


def cpu_seconds(start: str, folder: str) -> float:
    """Return the CPU seconds of a start, with the package of a folder."""
    code = STARTS[start]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *start.split()[1:]]
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {args.repeats} repeats, CPU seconds")
    heads = [checkout.name for checkout in args.checkouts] + ["ratio"] * (len(args.checkouts) == 2)
    print(f"| start | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    with tempfile.TemporaryDirectory() as name:
        folders = []
        for number, checkout in enumerate(args.checkouts):
            folder = Path(name, str(number))
            folder.mkdir()
            lay_out(checkout.resolve(), folder)
            folders.append(str(folder))
        for start in STARTS:
            rounds = [[cpu_seconds(start, folder) for folder in folders] for _ in range(args.repeats + 1)]
            best = [min(column) for column in zip(*rounds[1:], strict=True)]
            cells = [f"{value:.2f}" for value in best] + [f"{best[1] / best[0]:.2f}"] * (len(best) == 2)
            print(f"| {start} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
