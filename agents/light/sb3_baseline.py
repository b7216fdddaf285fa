"""Stable-Baselines3's PPO on the same pictures, from scratch: the ablation's baseline at equal environment steps.

Needs the extra "sb3".
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actfer_env._version import GENERATOR_VERSION
from actfer_env.agents.light.evaluate import as_numbers, free_figures, task_of
from actfer_env.agents.light.session import (
    RESULT,
    SessionConfig,
    SplitData,
    check_result,
    held_out,
    read_result,
    session_facts,
    split_data,
)
from actfer_env.agents.light.trainer import LOG
from actfer_env.files import write_text_atomic
from actfer_env.packages import needs
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rollout import Rollout

SB3_PPO = "sb3_ppo"
"""The name under which the baseline stands among the variants."""
ENVS, TURNS = 64, 16


def run_sb3(
    config: SessionConfig, steps: int, folder: Path, cache: Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train PPO, and measure it as `session.run` measures the light policy; a finished run is not made again.

    Its reward is that of groups of one: the task, the structure and the symmetric fallback.

    Args:
        config: The run whose data, seed and picture sizes it shares.
        steps: Environment steps.
        folder: Folder for the result.
        cache: Folder of pictures.
        say: Takes progress lines.

    Raises:
        DataError: stable-baselines3 is not installed, or the folder holds another run.
    """
    facts = {**session_facts(config), "steps": steps}
    made = {"config": asdict(config), "generator": GENERATOR_VERSION, "steps": steps, "facts": facts}
    path = folder / RESULT
    if path.exists():
        result = read_result(path)
        check_result(folder, result, facts)
        return result
    torch.set_num_threads(1)
    model = _learn(split_data("train", config.train, config, cache, say, 1), config, steps)
    split, held = held_out(config, cache, say, 1)
    reward = UCGRPOConfig(zoom_cost=config.rewards().zoom_cost)  # as the variants beside it are measured
    rollouts = play(model, held, len(held.dataset), config)
    figures = free_figures(rollouts, task_of(rollouts, reward), np.array(held.views.good))
    result = {**made, "split": split, "figures": as_numbers(figures)}
    write_text_atomic(path, json.dumps(result, indent=1) + "\n")
    return result


def _learn(train: SplitData, config: SessionConfig, steps: int) -> Any:
    with needs("sb3"):
        from stable_baselines3 import PPO

        from actfer_env.wrappers.sb3 import POLICY, CollapseCallback, SB3GroupVecEnv
    envs = SB3GroupVecEnv(
        train.groups(ENVS, 1, config.rewards(), autoreset_mode="SameStep", copy=True, max_zooms=config.max_zooms)
    )
    # The settings of benchmarks/sb3.py, which were chosen for ten minutes of training.
    model = PPO("MultiInputPolicy", envs, n_steps=TURNS, batch_size=256, n_epochs=4, learning_rate=1e-3,
                ent_coef=0.005, policy_kwargs=POLICY, seed=config.seed)  # fmt: skip
    return model.learn(steps, callback=CollapseCallback())


def play(model: Any, held: SplitData, n: int, config: SessionConfig, size: int = 100) -> tuple[Rollout, ...]:
    """Return the greedy rollouts of an SB3 model over the first n samples, in their order."""
    venv = held.groups(min(size, n), 1, config.rewards(), max_zooms=config.max_zooms)
    found: dict[str, Rollout] = {}
    for start in range(0, n, venv.num_envs):
        samples = [min(start + k, n - 1) for k in range(venv.num_envs)]
        obs, _ = venv.reset(options={"samples": samples})
        left = {held.dataset[index].id for index in samples}
        while left - set(found):
            obs, _, _, _, info = venv.step(model.predict(obs, deterministic=True)[0])
            found |= {one.sample_id: one for one in info.get("rollout", ()) if one is not None}
    return tuple(found[held.dataset[index].id] for index in range(n))


def steps_of(folder: Path) -> int:
    """Return the environment steps that a light policy's run took, from its log."""
    with (folder / LOG).open(newline="") as handle:
        return int(sum(float(row["decisions"]) for row in csv.DictReader(handle)))
