"""Every example runs as a user would run it."""

import subprocess
import sys

import pytest
from helpers import ROOT, VERL_CHECKS, answered

from actfer_env.rollout import write_rollouts

ELSEWHERE = {"trl_grpo.py"}
"""Examples that need an extra of their own: tests/integrations runs them."""
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name not in ELSEWHERE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example(path, tmp_path):
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_learning_report_pairs_faces_and_averages_seeds(tmp_path):
    faces = [f"face-{number}" for number in range(4)]
    evaluate(tmp_path, "start", dict(zip(faces, "1000", strict=True)))
    evaluate(tmp_path, "full-0", dict(zip(faces, "1110", strict=True)))
    evaluate(tmp_path, "full-1", dict(zip(reversed(faces), "0011", strict=True)))  # another order, by face 1100
    report = VERL_CHECKS / "learn_report.py"
    done = subprocess.run([sys.executable, report, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {cells[1].strip(): cells[2].strip() for line in done.stdout.splitlines() if (cells := line.split("|"))[2:]}
    # 1000 -> 1110: changes 0 1 1 0, mean 1/2, standard deviation 0.577, standard error 0.289
    assert rows["UC-GRPO, seed 0"] == "+50.0 ± 28.9"
    assert rows["UC-GRPO, seed 1"] == "+25.0 ± 25.0"
    # by face 0 1 1/2 0: mean 3/8, standard deviation 0.479
    assert rows["**UC-GRPO, mean of 2 seeds**"] == "+37.5 ± 23.9"
    assert (tmp_path / "learn.png").stat().st_size > 1000


def evaluate(work, run, right):
    """Write what learn_eval.py leaves, for faces that were read rightly (1) or not (0)."""
    for mode in ("greedy", "sampled"):
        folder = work / "eval" / run / mode
        rollouts = [answered("happiness" if hit == "1" else "fear", sample_id=name) for name, hit in right.items()]
        write_rollouts(folder / "episodes.jsonl", rollouts)
        (folder / "figures.json").write_text("{}")
    if run != "start":
        write_rollouts(work / "runs" / run / "rollouts" / "step_1.jsonl", rollouts)
