"""UC-GRPO for the light policy (ActFER sections 3.4 and 4.1): `Trainer.step` is one update from samples to log.

A step plays groups with the current policy in the real environment, which scores them with `UCGRPO`; takes a few
clipped policy gradient steps on the group-relative advantages, held near the warm start by a KL term; and moves the
emotion-wise EMA once. Simplified against the paper: the policy writes no text, so an action is a decision and not a
token, and the KL divergence is exact and not an estimate.
"""

from __future__ import annotations

import csv
import gc
import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actfer_env import facs
from actfer_env._version import GENERATOR_VERSION, __version__
from actfer_env.agents.light.board import TensorBoardLog
from actfer_env.agents.light.policy import ANSWER, Features, LightPolicy, divergence, entropy, log_prob
from actfer_env.agents.light.rollouts import play_groups
from actfer_env.agents.torch_files import load_state, save_atomic
from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import DataError
from actfer_env.files import write_text_atomic
from actfer_env.identity import as_json, dataset_facts, refuse_other
from actfer_env.progress import Watch
from actfer_env.rewards import UCGRPO
from actfer_env.rewards.guards import collapse_figures, collapse_warnings
from actfer_env.rewards.other_papers import reward_facts, whole_facts
from actfer_env.wrappers.group_vec import GroupVectorEnv

CHECKPOINT, LOG = "checkpoint.pt", "log.csv"
CHECKPOINT_VERSION = 2
"""Version of a checkpoint's contents. Those of version 1 tell no version and have a log without collapse figures; they
are read, too."""


@dataclass(frozen=True)
class TrainerConfig:
    """Constants of the policy updates.

    Attributes:
        steps: Number of updates.
        groups: Query groups a step (the paper: 32 prompts).
        group_size: Rollouts of a group (lost in the paper's extraction; chosen here).
        epochs: Gradient steps on one batch (chosen here).
        rate: Learning rate of Adam (chosen here on the validation split, with the next one: the readers must not get
            used to bad crops before the gate has learned to leave them alone).
        gate_factor: Ratio of the gate's learning rate to `rate` (chosen here).
        anneal: Whether learning rates fall linearly to zero over the steps, as in CleanRL's PPO.
        clip: Half-width of the interval around 1 in which the probability ratio counts (PPO's usual value).
        kl: Weight of the KL divergence to the warm start, in nats (ActFER 4.1).
        entropy: Weight of the tools' entropy, in nats (ActFER 4.1).
        freeze_vision: Whether the encoders keep the warm start's weights, as the paper's vision encoder does
            (ActFER 4.1).
        max_norm: L2 norm to which gradients are clipped, the gate's apart from the others' (chosen here).
        save_every: Steps between checkpoints.
    """

    steps: int = bounded(400, ge=0)
    groups: int = bounded(32, ge=1)
    group_size: int = bounded(8, ge=1)
    epochs: int = bounded(4, ge=1)
    rate: float = bounded(2e-5, ge=0)
    gate_factor: float = bounded(50.0, ge=0)
    anneal: bool = False
    clip: float = bounded(0.2, ge=0)
    kl: float = bounded(0.1, ge=0)
    entropy: float = bounded(0.01, ge=0)
    freeze_vision: bool = True
    max_norm: float = bounded(1.0, ge=0)
    save_every: int = bounded(25, ge=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass
class Trainer:
    """Trains a policy with UC-GRPO; can be saved and resumed to the last bit on CPU.

    Args:
        policy: The warm start; it is trained in place.
        venv: Groups over the training split; its scorer holds the reward's configuration and the EMA.
        config: The constants.
        seed: Seed of samples and actions.
        folder: Place of checkpoints, log and TensorBoard events; None keeps nothing.
        known: Features of the training split by the warm start's encoders (`encode_all`); only where those are frozen.
        facts: Further facts of the run, as JSON values; a checkpoint of a run with other facts is not taken over.

    Attributes:
        reference: The warm start, frozen.
        done: Number of steps so far.
        log: Figures of each step.
    """

    policy: LightPolicy
    venv: GroupVectorEnv
    config: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    folder: Path | None = None
    known: Features | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.known is not None and not self.config.freeze_vision:
            raise ValueError("features are known only of frozen encoders: use freeze_vision=True")
        self.policy.eval()
        self.reference = deepcopy(self.policy).requires_grad_(False)
        self.policy.encoders().requires_grad_(not self.config.freeze_vision)
        gate, others = self.policy.gate_parameters(), self.policy.other_parameters()
        self.optimizer = torch.optim.Adam([{"params": others}, {"params": gate}])
        self.generator = torch.Generator().manual_seed(self.seed)
        self.done = 0
        self.log: list[dict[str, float]] = []
        self._warned: set[str] = set()
        self.venv.reset(seed=self.seed)

    def train(self, watch: Watch | None = None) -> list[dict[str, float]]:
        """Train to the end, from wherever `resume` has left off.

        Args:
            watch: Called after each step with "training" and the step's figures.

        Returns:
            The log, a row a step.
        """
        board = None if self.folder is None else TensorBoardLog(self.folder / "tensorboard", self.done)
        # The data set stays; without this the garbage collector walks through it again and again, a fifth of the time.
        gc.collect()
        gc.freeze()
        try:
            while self.done < self.config.steps:
                row = self.step()
                if board is not None:
                    board.write(row)
                if watch is not None:
                    watch("training", self.done, self.config.steps, row)
                if self.done % self.config.save_every == 0 or self.done == self.config.steps:
                    self.save()
        finally:
            gc.unfreeze()
            if board is not None:
                board.close()
        return self.log

    def step(self) -> dict[str, float]:
        """Play one batch of groups and update the policy.

        Returns:
            The step's figures, a row of the log: numbers of groups, decisions and contrasts, mean rewards, and shares
            of rollouts in [0, 1]; "loss", "kl", "entropy" and "clipped" (share of ratios beyond the clip) of the last
            gradient step; "ema_" + emotion before the step; and the shares by which a collapse shows.
        """
        config, policy, scorer = self.config, self.policy, self.venv.scorer

        # Learning rates; the gate has its own.
        left = 1.0 - self.done / config.steps if config.anneal else 1.0
        others, gate = self.optimizer.param_groups
        others["lr"] = config.rate * left
        gate["lr"] = others["lr"] * config.gate_factor

        # Sample and roll out. The environment draws the samples and scores each group as it ends (`UCGRPO.score`); the
        # batch holds every decision with its log-probability and its rollout's group-relative advantage (eq. 16).
        batch = play_groups(self.venv, policy, self.generator, known=self.known)
        rollouts, scores = batch.rollouts, batch.scores

        # The encoders' features are those of the rollouts, but where the encoders learn.
        learning = None if config.freeze_vision else batch.memory
        with torch.no_grad():
            features = batch.features if learning is None else self.reference.encode(learning)
            reference = self.reference.decide(features, batch.decisions)

        # Update: some gradient steps on the clipped surrogate, near the warm start, with some entropy (ActFER 4.1).
        for _ in range(config.epochs):
            features = batch.features if learning is None else policy.encode(learning)
            out = policy.decide(features, batch.decisions)
            ratio = (log_prob(out, batch.tool, batch.emotion, batch.aus) - batch.old).exp()
            kl, spread = divergence(out, reference, batch.tool).mean(), entropy(out).mean()
            loss = clipped(ratio, batch.advantage, config.clip) + config.kl * kl - config.entropy * spread
            self.optimizer.zero_grad()
            loss.backward()
            for part in (gate, others):
                torch.nn.utils.clip_grad_norm_(part["params"], config.max_norm)
            self.optimizer.step()

        # Log the step. The EMA is the one that its rewards used: it moves once a step, after it (eq. 11).
        deltas = [delta for delta in scores.delta.values() if delta is not None]
        collapse = collapse_figures(rollouts, scores)
        row = {
            "step": float(self.done),
            "groups": float(len({rollout.group_id for rollout in rollouts})), "decisions": float(len(batch.tool)),
            "task": float(scores.task.mean()), "reward": float(scores.total.mean()),
            "accuracy": float(np.mean([bool(rollout.correct) for rollout in rollouts])),
            "zoom": float(np.mean([rollout.zoomed for rollout in rollouts])),
            "violations": float(np.mean([bool(rollout.violations) for rollout in rollouts])),
            "delta": float(np.mean(deltas)) if deltas else 0.0, "contrasts": float(len(deltas)),
            "answers": float((batch.tool == ANSWER).float().mean()),
            "loss": loss.item(), "kl": kl.item(), "entropy": spread.item(),
            "clipped": ((ratio - 1).abs() > config.clip).float().mean().item(),
            **({f"ema_{name}": scorer.ema[name] for name in facs.EMOTIONS} if isinstance(scorer, UCGRPO) else {}),
            "flat_groups": collapse["flat_groups"], "wrong_groups": collapse["wrong_groups"],
            "zoom_found": collapse["zoom"],
        }  # fmt: skip
        self.venv.commit()
        for line in collapse_warnings(collapse):  # once of each kind
            if line not in self._warned:
                self._warned.add(line)
                warnings.warn(f"step {self.done + 1}: {line}", RuntimeWarning, stacklevel=2)
        self.done += 1
        self.log.append(row)
        return row

    def save(self) -> None:
        """Write a checkpoint and the log; each file is replaced as a whole.

        Raises:
            DataError: the folder cannot be written.
        """
        if self.folder is None:
            return
        state = {
            "version": CHECKPOINT_VERSION, "done": self.done,
            "policy": self.policy.state_dict(), "reference": self.reference.state_dict(),
            "optimizer": self.optimizer.state_dict(), "venv": json.dumps(self.venv.state_dict()),
            "generator": self.generator.get_state(), "log": self.log, "facts": json.dumps(self._facts()),
        }  # fmt: skip
        save_atomic(self.folder / CHECKPOINT, state)
        table = io.StringIO()
        writer = csv.DictWriter(table, list(dict.fromkeys(name for row in self.log for name in row)))
        if self.log:
            writer.writeheader()
            writer.writerows(self.log)
        write_text_atomic(self.folder / LOG, table.getvalue())

    def resume(self) -> bool:
        """Take over the folder's checkpoint, if there is one; return whether there was.

        Raises:
            DataError: it is broken, or belongs to another configuration.
        """
        path = None if self.folder is None else self.folder / CHECKPOINT
        if path is None or not path.exists():
            return False
        state = load_checkpoint(path)
        found, mine = facts_in(state, path), self._facts()
        if not self.config.anneal:  # only then the rates depend on the number of steps
            found["trainer"]["steps"] = mine["trainer"]["steps"]
        refuse_other(path.parent, "run", found, mine)
        self.policy.load_state_dict(state["policy"])
        self.reference.load_state_dict(state["reference"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.venv.load_state_dict(json.loads(state["venv"]))
        self.generator.set_state(state["generator"])
        self.done, self.log = state["done"], state["log"]
        return True

    def _facts(self) -> dict[str, Any]:
        """Return what a resumed run must share: all that changes its bytes."""
        own = asdict(self.config)
        own.pop("save_every")
        seen: Any = self.venv.single_observation_space
        pictures = {name: space.shape for name, space in seen.items()}
        return dict(as_json({
            "trainer": own, "reward": reward_facts(self.venv.scorer), "seed": self.seed,
            "threads": torch.get_num_threads(),
            "data": dataset_facts(self.venv.dataset), "observations": pictures, **self.venv.config.facts(),
            "policy": asdict(self.policy.config), "versions": versions(), **self.facts,
        }))  # fmt: skip


def versions() -> dict[str, Any]:
    """Return the versions that change the bytes of a training."""
    return {"actfer_env": __version__, "generator": GENERATOR_VERSION, "torch": torch.__version__}


def facts_in(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what a checkpoint is of.

    Raises:
        DataError: it does not say so, or is of a newer version.
    """
    if state.get("version", 1) not in range(1, CHECKPOINT_VERSION + 1):
        raise DataError(f"{path} is of version {state['version']}, this package reads up to {CHECKPOINT_VERSION}: "
                        "update actfer-env, or choose another folder")  # fmt: skip
    if "facts" not in state:
        raise DataError(f"{path} does not say what it is of, as those of older versions: choose another folder")
    facts = dict(json.loads(state["facts"]))
    return facts | ({"reward": whole_facts(facts["reward"])} if "reward" in facts else {})


def check_begun(folder: Path, facts: Mapping[str, Any]) -> None:
    """Compare a run that is begun in a folder with the one that is asked for, before any work.

    Args:
        folder: The run's; without a checkpoint nothing is begun.
        facts: The `facts` that `Trainer` takes.

    Raises:
        DataError: it is another run.
    """
    path = folder / CHECKPOINT
    if path.exists():
        found = facts_in(load_checkpoint(path), path)
        for name, wanted in facts.items():
            refuse_other(folder, "run", found.get(name, {}), wanted)


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """Return PPO's clipped surrogate as a loss, the mean over decisions.

    Args:
        ratio: float (m,), probability of each decision now over that when it was taken.
        advantage: float (m,).
        clip: Half-width of the interval around 1.
    """
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def weights_hash(module: torch.nn.Module) -> str:
    """Return a SHA-256 of a policy's weights, or of a part's."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(path: Path) -> Any:
    """Read a torch file.

    Raises:
        DataError: it is broken.
    """
    what = path.parent if path.name == CHECKPOINT else path  # a run's result would outlive its checkpoint
    return load_state(path, fault="no checkpoint", delete=what)
