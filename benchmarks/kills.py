"""Does a training run that is killed again and again end with the weights of one that never was?

python -m benchmarks.kills --kills 10

The run is `actfer train` with the preset "smoke", made longer; SIGKILL comes at random moments, drawing, warm start and
measuring included.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUN = """
import sys; from dataclasses import replace; from pathlib import Path
from actfer_env.agents.light.session import PRESETS, run
preset = PRESETS["smoke"]
config = replace(preset, trainer=replace(preset.trainer, steps=120, save_every=2))
print(run(config, Path(sys.argv[1]), Path(sys.argv[2]), lambda text: None, 1)["weights"])
"""


def start(folder: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(folder), str(cache)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def finish(folder: Path, cache: Path) -> str:
    return start(folder, cache).communicate()[0].split()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        begin = time.monotonic()
        whole = finish(work / "whole", work / "cache")
        length = time.monotonic() - begin
        print(f"never killed: {whole[:16]}, {length:.0f} s, pictures and warm start included", flush=True)
        runs = kill(args.kills, work, whole, length, np.random.default_rng(args.seed))
    print(f"killed {args.kills} times, {runs} run(s): {whole[:16]}, the same")


def kill(kills: int, work: Path, whole: str, length: float, rng: np.random.Generator) -> int:
    """Kill runs at random moments, and return how many ended; each must end with the weights of `whole`."""
    done, ends = 0, 0
    while done < kills:
        process = start(work / f"torn-{ends}", work / f"other-{ends}")
        wait = rng.uniform(0.05, 0.6) * length
        time.sleep(wait)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            done += 1
            print(f"kill {done} after {wait:.1f} s", flush=True)
        else:  # it got to its end between two kills: compare, and begin another
            check(process.communicate()[0].split()[-1], whole)
            ends += 1
        process.wait()
    check(finish(work / f"torn-{ends}", work / f"other-{ends}"), whole)
    return ends + 1


def check(torn: str, whole: str) -> None:
    if torn != whole:
        raise SystemExit(f"a killed run ended with {torn[:16]}, DIFFERENT from {whole[:16]}")


if __name__ == "__main__":
    main()
