"""A page of example episodes of a trained light policy."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from actfer_env.agents.light.policy import LightPolicy
from actfer_env.agents.light.rollouts import play_groups
from actfer_env.agents.light.session import SessionConfig, held_out
from actfer_env.agents.light.trainer import CHECKPOINT, load_checkpoint
from actfer_env.evaluation.report import write_report
from actfer_env.evaluation.run import Rollouts, Run, scored_columns, write_run
from actfer_env.rewards import UCGRPO

FOLDER = "examples"


def write_examples(config: SessionConfig, folder: Path, cache: Path, *, groups: int = 12, members: int = 4) -> Path:
    """Play groups of held-out samples with the policy of a finished run, and write the run and its report.

    Actions are sampled as in training, so that the members of a group differ, and are scored with the EMA at the end of
    training.

    Args:
        config: The run's.
        folder: The run's.
        cache: Folder of pictures.
        groups: Samples.
        members: Episodes of each.

    Returns:
        The report's path.

    Raises:
        DataError: the folder has no checkpoint, or cannot be written.
    """
    state, reward = load_checkpoint(folder / CHECKPOINT), config.rewards()
    policy = LightPolicy(config.policy, config.views.sides)
    policy.load_state_dict(state["policy"])
    _, held = held_out(config, cache, lambda text: None)
    groups = min(groups, len(held.dataset))
    venv, scorer = held.groups(groups, members, reward, max_zooms=config.max_zooms), UCGRPO(reward)
    if kept := json.loads(state["venv"])["scorer"]:
        scorer.load_state_dict(kept)
    batch = play_groups(venv, policy.eval(), torch.Generator().manual_seed(config.seed), list(range(groups)))
    first = {held.dataset[index].id for index in range(groups)}
    rollouts = [rollout for rollout in batch.rollouts if rollout.sample_id in first]
    rollouts.sort(key=lambda rollout: (rollout.group_id, rollout.member))
    settings = {"agent": f"light policy, variant {config.variant}, seed {config.seed}, sampled"}
    run = Run(Rollouts(rollouts), held.dataset.arguments, settings, reward, scorer.state_dict(),
              scored_columns(scorer.score(rollouts)))  # fmt: skip
    write_run(folder / FOLDER, run)
    return write_report(folder / FOLDER, run, keep=False)
