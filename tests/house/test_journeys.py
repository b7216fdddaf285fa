"""The measurement of journeys through the code."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from helpers import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.journeys", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_calls_moves_and_files_are_counted_by_hand(tmp_path: Path) -> None:
    near_code = "def inner():\n    return 1\n\n\ndef again():\n    return [inner() for _ in 'ab']\n"
    far_code = "def outer(near):\n    return sorted([2, 1], key=lambda x: near.inner()), near.again()\n"
    (tmp_path / "near.py").write_text(near_code)
    (tmp_path / "far.py").write_text(far_code)
    near, far = (SimpleNamespace(**runpy.run_path(str(tmp_path / name))) for name in ("near.py", "far.py"))
    module = runpy.run_path(str(ROOT / "benchmarks" / "journeys.py"))
    journey = module["Journey"]()
    with module["followed"](journey, tmp_path):
        far.outer(near)
    near.inner()
    assert list(journey.functions) == [("far.py", "outer"), ("near.py", "inner"), ("near.py", "again")]
    assert journey.row() == {"files": 2, "functions": 3, "moves": 3, "calls": 6}


def test_a_table_of_any_checkout_with_its_functions() -> None:
    done = run("group reward", "--root", str(ROOT), "--functions")
    assert done.returncode == 0, done.stderr
    _, _, row, *listed = done.stdout.splitlines()
    name, files, functions, moves, calls = row.strip("| ").split(" | ")
    assert name == "group reward" and int(files) == len(listed)
    assert 0 < int(functions) <= int(moves) <= int(calls)
    assert any(line.strip().startswith("rewards/uc_grpo.py: UCGRPO.score") for line in listed)


def test_an_unknown_journey_is_named() -> None:
    done = run("a walk")
    assert done.returncode == 2
    assert "unknown journey 'a walk': use one of zoom turn, group reward, light step" in done.stderr
