"""UC-GRPO for the light policy, in one file that can be read in one sitting (ActFER section 3.4 and 4.1).

A step: play groups with the current policy in the real environment; score them with `UCGRPO`; take a few clipped policy
gradient steps on the group-relative advantages, held near the warm start by a KL term; move the emotion-wise EMA once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actfer_env import facs
from actfer_env._version import __version__
from actfer_env.agents.light.policy import ANSWER, Features, LightPolicy, Outputs, divergence, entropy, log_prob
from actfer_env.agents.light.rollouts import Batch, Player
from actfer_env.agents.torch_files import load_state, save_atomic
from actfer_env.data.synthetic import GENERATOR_VERSION
from actfer_env.errors import DataError
from actfer_env.files import write_text_atomic
from actfer_env.identity import as_json, dataset_facts, refuse_other
from actfer_env.rewards import UCGRPO, UCGRPOConfig
from actfer_env.rewards.presets import reward_facts
from actfer_env.wrappers.group_vec import GroupVectorEnv

CHECKPOINT, LOG = "checkpoint.pt", "log.csv"


@dataclass(frozen=True)
class TrainerConfig:
    """Constants of the policy updates.

    Attributes:
        steps: updates.
        groups: query groups a step (the paper: 32 prompts).
        group_size: rollouts of a group (lost in the paper's extraction; chosen here).
        epochs: gradient steps on one batch (chosen here).
        rate: learning rate of Adam (chosen here on the validation split, with the next one: the readers must not get
            used to bad crops before the gate has learned to leave them alone).
        gate_factor: the gate's learning rate over that (chosen here).
        anneal: whether learning rates fall linearly to zero over the steps, as in CleanRL's PPO.
        clip: of the probability ratio (PPO's usual value).
        kl: weight of the KL divergence to the warm start (ActFER 4.1).
        entropy: weight of the tools' entropy (ActFER 4.1).
        freeze_vision: whether the encoders keep the warm start's weights, as the paper's vision encoder does
            (ActFER 4.1).
        max_norm: of the gradients, the gate's apart from the others' (chosen here).
        save_every: steps between checkpoints.
    """

    steps: int = 400
    groups: int = 32
    group_size: int = 8
    epochs: int = 4
    rate: float = 2e-5
    gate_factor: float = 50.0
    anneal: bool = False
    clip: float = 0.2
    kl: float = 0.1
    entropy: float = 0.01
    freeze_vision: bool = True
    max_norm: float = 1.0
    save_every: int = 25

    def __post_init__(self) -> None:
        check_bounds(self, steps=0, groups=1, group_size=1, epochs=1, save_every=1)
        check_bounds(self, rate=0, gate_factor=0, clip=0, kl=0, entropy=0, max_norm=0)


@dataclass
class Trainer:
    """Trains a policy with UC-GRPO; can be saved and resumed to the last bit on CPU.

    Args:
        policy: the warm start; it is trained in place.
        venv: groups over the training split; its scorer holds the reward's configuration and the EMA.
        config: the constants.
        seed: of the sampling.
        folder: for checkpoints and the log; None keeps nothing.
        known: features of the training split by the warm start's encoders (`encode_all`); only where those are frozen.
        facts: what else the run is of, as JSON values; a checkpoint of a run with other facts is not taken over.
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
        self.venv.reset(seed=self.seed)

    def train(self, say: Callable[[dict[str, float]], None] = lambda row: None) -> list[dict[str, float]]:
        """Train to the end, from wherever `resume` has left off; return the log, a row a step."""
        while self.done < self.config.steps:
            say(self.step())
            if self.done % self.config.save_every == 0 or self.done == self.config.steps:
                self.save()
        return self.log

    def step(self) -> dict[str, float]:
        """Play one batch of groups and update the policy; return the step's figures."""
        self._set_rates()
        batch = Player(self.venv, self.policy, self.generator, known=self.known).play()
        with torch.no_grad():
            old = self.reference.decide(self._features(self.reference, batch), batch.decisions)
        figures = [self._update(batch, old) for _ in range(self.config.epochs)]
        row = {"step": float(self.done), **outcome(batch), **figures[-1], **self._ema()}
        self.venv.commit()
        self.done += 1
        self.log.append(row)
        return row

    def _set_rates(self) -> None:
        left = 1.0 - self.done / self.config.steps if self.config.anneal else 1.0
        others, gate = self.optimizer.param_groups
        others["lr"] = self.config.rate * left
        gate["lr"] = others["lr"] * self.config.gate_factor

    def _features(self, policy: LightPolicy, batch: Batch) -> Features:
        return batch.features if self.config.freeze_vision or batch.memory is None else policy.encode(batch.memory)

    def _update(self, batch: Batch, old: Outputs) -> dict[str, float]:
        """Take one gradient step on a batch; `old` is what the warm start would say."""
        out = self.policy.decide(self._features(self.policy, batch), batch.decisions)
        ratio = (log_prob(out, batch.tool, batch.emotion, batch.aus) - batch.old).exp()
        surrogate = clipped(ratio, batch.advantage, self.config.clip)
        kl, spread = divergence(out, old, batch.tool).mean(), entropy(out).mean()
        loss = surrogate + self.config.kl * kl - self.config.entropy * spread
        self.optimizer.zero_grad()
        loss.backward()
        for parameters in (self.policy.gate_parameters(), self.policy.other_parameters()):
            torch.nn.utils.clip_grad_norm_(parameters, self.config.max_norm)
        self.optimizer.step()
        share = ((ratio - 1).abs() > self.config.clip).float().mean()
        return {"loss": loss.item(), "kl": kl.item(), "entropy": spread.item(), "clipped": share.item()}

    def _ema(self) -> dict[str, float]:
        scorer = self.venv.scorer
        return {f"ema_{name}": scorer.ema[name] for name in facs.EMOTIONS} if isinstance(scorer, UCGRPO) else {}

    def save(self) -> None:
        """Write a checkpoint and the log; each file is replaced as a whole.

        Raises:
            DataError: the folder cannot be written.
        """
        if self.folder is None:
            return
        state = {
            "policy": self.policy.state_dict(), "reference": self.reference.state_dict(), "done": self.done,
            "optimizer": self.optimizer.state_dict(), "venv": json.dumps(self.venv.state_dict()),
            "generator": self.generator.get_state(), "log": self.log, "facts": json.dumps(self._facts()),
        }  # fmt: skip
        save_atomic(self.folder / CHECKPOINT, state)
        write_text_atomic(self.folder / LOG, _csv(self.log))

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
            "data": dataset_facts(self.venv.dataset), "observations": pictures, **asdict(self.venv.config),
            "policy": asdict(self.policy.config), "versions": versions(), **self.facts,
        }))  # fmt: skip


def versions() -> dict[str, Any]:
    """Return the versions that change the bytes of a training."""
    return {"actfer_env": __version__, "generator": GENERATOR_VERSION, "torch": torch.__version__}


def facts_in(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what a checkpoint is of.

    Raises:
        DataError: it does not say so.
    """
    if "facts" not in state:
        raise DataError(f"{path} does not say what it is of, as those of older versions: choose another folder")
    return dict(json.loads(state["facts"]))


def check_begun(folder: Path, facts: Mapping[str, Any]) -> None:
    """Compare a run that is begun in a folder with the one that is asked for, before any work.

    Args:
        folder: of the run; without a checkpoint nothing is begun.
        facts: as `Trainer` takes them.

    Raises:
        DataError: it is another run.
    """
    path = folder / CHECKPOINT
    if path.exists():
        found = facts_in(load_checkpoint(path), path)
        for name, wanted in facts.items():
            refuse_other(folder, "run", found.get(name, {}), wanted)


def check_bounds(config: Any, **least: float) -> None:
    """Refuse a configuration whose numbers lie below their bounds.

    Raises:
        DataError: the first that does.
    """
    for name, bound in least.items():
        value = getattr(config, name)
        if not value >= bound:
            raise DataError(f"{type(config).__name__}: {name} is {value}; it must be at least {bound}")


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """Return PPO's clipped surrogate as a loss, averaged over decisions."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def outcome(batch: Batch) -> dict[str, float]:
    """Return what a batch of groups amounts to."""
    rollouts = batch.rollouts
    deltas = [delta for scores in batch.scores for delta in scores.delta.values() if delta is not None]
    task = np.concatenate([scores.task for scores in batch.scores])
    return {
        "groups": float(len({rollout.group_id for rollout in rollouts})), "decisions": float(len(batch.tool)),
        "task": float(task.mean()), "reward": float(np.concatenate([scores.total for scores in batch.scores]).mean()),
        "accuracy": float(np.mean([bool(rollout.correct) for rollout in rollouts])),
        "zoom": float(np.mean([rollout.zoomed for rollout in rollouts])),
        "violations": float(np.mean([bool(rollout.violations) for rollout in rollouts])),
        "delta": float(np.mean(deltas)) if deltas else 0.0, "contrasts": float(len(deltas)),
        "answers": float((batch.tool == ANSWER).float().mean()),
    }  # fmt: skip


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


def _csv(rows: list[dict[str, float]]) -> str:
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def reward_config(
    variant: str, zoom_cost: float = 0.0, outcome_gate: bool = False, normalize_std: bool = True
) -> UCGRPOConfig:
    """Return a variant's reward with this project's switches."""
    return UCGRPOConfig.variant(variant, zoom_cost=zoom_cost, outcome_gate=outcome_gate, normalize_std=normalize_std)
