"""Recompute a verl run's scores and advantages from its stored rollouts, and compare: the numbers must be equal."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from actfer_env.errors import ActFERError, DataError
from actfer_env.rewards import UCGRPO
from actfer_env.rollout import read_rollouts
from actfer_env.verl_plugin.scoring import STATE_FILE, reward_config

TOLERANCE = 1e-6


def main() -> None:
    """Audit every step of a run; one line and exit code 1 at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="trainer.default_local_dir")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--group-size", type=int, required=True)
    parser.add_argument("--variant", default="full")
    options = parser.parse_args()
    try:
        audit(options.folder, options.steps, options.group_size, options.variant)
    except ActFERError as error:
        sys.exit(f"audit: {error}")


def audit(folder: Path, steps: int, group_size: int, variant: str) -> None:
    """Compare steps 1 to `steps`; raise DataError at a difference."""
    scorer, worst = UCGRPO(reward_config({"variant": variant})), 0.0
    for step in range(1, steps + 1):
        stem = folder / "rollouts" / f"step_{step:06d}"
        rollouts, record = read_rollouts(stem.with_suffix(".jsonl")), json.loads(stem.with_suffix(".json").read_text())
        if record["state"] != scorer.state_dict():
            raise DataError(f"step {step}: the run began it with another state than its rollouts give")
        scores = scorer.score(rollouts)
        for name, wanted in (("total", scores.total), ("advantage", scores.advantage)):
            worst = max(worst, float(np.abs(np.subtract(record[name], wanted)).max()))
        worst = max(worst, record["spread"], record["leak"])
        sizes = {scores.group_ids.count(group) for group in set(scores.group_ids)}
        if worst > TOLERANCE or sizes != {group_size}:
            raise DataError(f"step {step}: difference {worst:.2e}, group sizes {sorted(sizes)}")
        scorer.commit(scores)
        _compare_state(folder / f"global_step_{step}" / STATE_FILE, scorer)
    sys.stdout.write(f"audited {steps} steps: largest difference {worst:.1e}; the state is equal in each checkpoint\n")


def _compare_state(path: Path, scorer: UCGRPO) -> None:
    if json.loads(path.read_text()) != json.loads(json.dumps(scorer.state_dict())):
        raise DataError(f"{path} is not the state that the rollouts give")


if __name__ == "__main__":
    main()
