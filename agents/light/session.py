"""From nothing to a trained and measured policy: data, warm start, UC-GRPO, held-out figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actfer_env import facs
from actfer_env.agents.base import Watch
from actfer_env.agents.light.evaluate import ZOOM_MODES, figures, hold_out
from actfer_env.agents.light.policy import Features, LightPolicy, PolicyConfig
from actfer_env.agents.light.rollouts import encode_all
from actfer_env.agents.light.trainer import (
    Trainer,
    TrainerConfig,
    check_begun,
    load_checkpoint,
    versions,
    weights_hash,
)
from actfer_env.agents.light.views import PreparedImages, ViewConfig, ViewTools, prepare, views_name
from actfer_env.agents.light.warmstart import WarmStartConfig, warm_start
from actfer_env.agents.torch_files import save_atomic
from actfer_env.bounds import bounded, check_fields
from actfer_env.data import Dataset, load_dataset
from actfer_env.data.synthetic.samples import GENERATOR_VERSION
from actfer_env.errors import DataError
from actfer_env.files import check_writable, write_text_atomic
from actfer_env.identity import as_json, dataset_facts, detector_facts, digest, refuse_other
from actfer_env.rewards import VARIANTS, UCGRPOConfig
from actfer_env.rewards.other_papers import OTHER_REWARDS
from actfer_env.wrappers.group_vec import GroupVectorEnv

ENV_ID = "ActFER-MultiDiscrete-v0"
WARM, RESULT = "warmstart.pt", "result.json"
CACHE_VERSION = 1
"""Raised whenever the same settings give another warm start or other features."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class SessionConfig:
    """One training run.

    Attributes:
        variant: variant of the reward, a key of `rewards.VARIANTS` or of `OTHER_REWARDS`.
        seed: seed of weights, samples and actions.
        train: samples of the training split.
        val: samples of the validation split: for the warm start's rule, and for tuning.
        test: samples of the test split, for the figures; 0 takes those of val.
        dataset: registered name of the data set; the default is that of the benchmark tasks.
        zoom_cost: see `UCGRPOConfig`.
        outcome_gate: see `UCGRPOConfig`.
        normalize_std: see `UCGRPOConfig`.
        reward: further fields of the reward.
        max_zooms: regions that an episode may magnify; fewer than four make the policy choose.
        threads: threads of torch; another number gives other bits.
        views: sizes of pictures.
        policy: sizes of the policy.
        warm: constants of the warm start.
        trainer: constants of the policy updates.
    """

    variant: str = "full"
    seed: int = bounded(0, ge=0)
    train: int = bounded(12_000, ge=1)
    val: int = bounded(1_500, ge=1)
    test: int = bounded(2_500, ge=0)
    dataset: str = "synthetic-mixed"
    zoom_cost: float = bounded(0.0, ge=0)
    outcome_gate: bool = False
    normalize_std: bool = True
    reward: tuple[tuple[str, Any], ...] = ()
    max_zooms: int = bounded(4, ge=0, le=len(facs.REGIONS))
    threads: int = bounded(1, ge=1)
    views: ViewConfig = field(default_factory=ViewConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    warm: WarmStartConfig = field(default_factory=WarmStartConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        switches = {"zoom_cost": 0.0, "outcome_gate": False, "normalize_std": True}
        for name, value in dict(self.reward).items():
            if name in switches and getattr(self, name) not in (switches[name], value):
                raise DataError(f"{name} is given twice, as {getattr(self, name)} and as {value}: leave out one")

    def rewards(self) -> UCGRPOConfig:
        """Return the configuration of UC-GRPO's reward, whose task term also measures policies of other rewards."""
        name = "full" if self.variant in OTHER_REWARDS else self.variant
        switches = ("zoom_cost", "outcome_gate", "normalize_std")
        own = {switch: getattr(self, switch) for switch in switches}
        return UCGRPOConfig.variant(name, **{**own, **dict(self.reward)})


PRESETS: dict[str, SessionConfig] = {
    "smoke": SessionConfig(train=400, val=120, test=120, warm=WarmStartConfig(epochs=1, retries=0),
                           trainer=TrainerConfig(steps=6, groups=8, group_size=4, save_every=3)),
    "quick": SessionConfig(train=5_000, val=800, test=0, threads=2, warm=WarmStartConfig(epochs=7, retries=0),
                           trainer=TrainerConfig(steps=150)),
    "paper": SessionConfig(warm=WarmStartConfig(epochs=10), trainer=TrainerConfig(steps=300)),
    "long": SessionConfig(warm=WarmStartConfig(epochs=10), trainer=TrainerConfig(steps=1_000, anneal=True)),
}  # fmt: skip
"""Sizes by name: a test of the parts, three minutes, the ablation, and one that lets the gate settle."""


@dataclass
class SplitData:
    """The samples of a split and their pictures.

    Attributes:
        dataset: n samples.
        views: their pictures, in the same order.
        config: sizes of the pictures.
    """

    dataset: Dataset
    views: PreparedImages
    config: ViewConfig

    def groups(self, groups: int, size: int, reward: UCGRPOConfig, **kwargs: Any) -> GroupVectorEnv:
        """Return group environments over the split; the next step overwrites their observations."""
        return GroupVectorEnv(
            ENV_ID, groups, size, dataset=self.dataset, tools=ViewTools(self.dataset, self.views, self.config),
            reward=reward, image_size=self.config.image_size, face_size=self.config.face_size,
            crop_size=self.config.crop_size, **{"copy": False, **kwargs},
        )  # fmt: skip


def split_data(
    split: str, n: int, config: SessionConfig, cache: Path, say: Say = print, workers: int | None = None
) -> SplitData:
    """Return the first n samples of a split with their pictures, drawn if they are not in the cache."""
    dataset = load_dataset(config.dataset, split=split, n=n)

    def advance(done: int) -> None:
        if done % 512 == 0 or done == n:
            say(f"pictures of {split}: {done} of {n}")

    return SplitData(dataset, prepare(dataset, cache, config.views, workers=workers, advance=advance), config.views)


def run(
    config: SessionConfig, folder: Path, cache: Path, say: Say = print, workers: int | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train one policy and measure it; an interrupted run goes on where it stopped.

    Args:
        config: the run.
        folder: place of checkpoints, the log and the result.
        cache: folder of pictures, warm starts and features, shared between runs.
        say: called with lines of progress.
        workers: processes that draw pictures.
        watch: called after each epoch of the warm start and each step of training; `say` takes a line if left out.

    Returns:
        The result: figures, the warm start's skill, the weights' hash.

    Raises:
        DataError: the folder holds another run, or cannot be written.
    """
    torch.set_num_threads(config.threads)
    watch = watch or (lambda *progress: say(line_of(*progress)))
    facts = session_facts(config)
    if (folder / RESULT).exists():
        result = read_result(folder / RESULT)
        check_result(folder, result, facts)
        return result
    # A run that goes on shares all facts with its beginning but for the test split, and for how often it saves and,
    # where that changes no rates, how long it is.
    free = {"save_every"} if config.trainer.anneal else {"save_every", "steps"}
    begun = {name: value for name, value in facts.items() if name != "test"}
    begun["trainer"] = {name: value for name, value in facts["trainer"].items() if name not in free}
    begun["data"] = {split: value for split, value in facts["data"].items() if split != "test"}
    check_begun(folder, {"session": begun})
    check_writable(folder)

    # The data and the warm start, both from the cache where they are.
    train = split_data("train", config.train, config, cache, say, workers)
    val = split_data("val", config.val, config, cache, say, workers)
    policy, skill = cached_warm_start(config, train, val, cache, watch)
    say(f"warm start: good pictures {skill['good_never']:.3f} without, {skill['good_always']:.3f} with zoom; "
        f"poor ones {skill['poor_never']:.3f}, {skill['poor_always']:.3f}")  # fmt: skip

    # UC-GRPO.
    reward, frozen = config.rewards(), config.trainer.freeze_vision
    venv = train.groups(config.trainer.groups, config.trainer.group_size, reward, max_zooms=config.max_zooms)
    if config.variant in OTHER_REWARDS:
        venv.scorer = OTHER_REWARDS[config.variant]()
    known = known_features(policy, train, cache) if frozen else None
    trainer = Trainer(policy, venv, config.trainer, config.seed, folder, known, {"session": begun})
    if trainer.resume():
        say(f"going on from step {trainer.done}")
    trainer.train(watch)

    # What the policy is worth on people that it has not seen.
    held = split_data("test", config.test, config, cache, say, workers) if config.test else val
    known = known_features(policy, held, cache) if frozen else None
    shown = measure(policy, held, UCGRPOConfig(zoom_cost=reward.zoom_cost), config.max_zooms, known)
    result = {
        "config": asdict(config), "generator": GENERATOR_VERSION, "split": "test" if config.test else "val",
        "warm": skill, "figures": shown, "weights": weights_hash(trainer.policy), "facts": facts,
    }  # fmt: skip
    write_text_atomic(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def measure(
    policy: LightPolicy, held: SplitData, reward: UCGRPOConfig, max_zooms: int = 4, known: Features | None = None
) -> dict[str, Any]:
    """Return a policy's figures on a split: its own gate, and the same weights forced never and always to zoom.

    Every variant is measured by the same task reward, whatever it was trained on.
    """
    n = len(held.dataset)
    venv = held.groups(min(100, n), len(ZOOM_MODES), reward, max_zooms=max_zooms)
    return figures(hold_out(policy, venv, n, reward, known), np.array(held.views.good).tolist())


def known_features(policy: LightPolicy, part: SplitData, cache: Path) -> Features:
    """Return the features of a split by a policy's encoders, from the cache where they are: while the encoders are
    frozen, all variants of a seed share them.

    Raises:
        DataError: the cache holds a broken file, or cannot be written.
    """
    facts = [CACHE_VERSION, versions(), views_name(part.dataset, part.config), torch.get_num_threads()]
    path = cache / f"features-{digest([*facts, weights_hash(policy.encoders())])}.pt"
    if not path.exists():
        save_atomic(path, encode_all(policy.eval(), part.views))
    image, face, crops, fine = load_checkpoint(path)
    return image, face, crops, fine


def check_variant(name: str) -> None:
    """Refuse an unknown variant of the reward with a `DataError`."""
    known = (*VARIANTS, *OTHER_REWARDS)
    if name not in known:
        raise DataError(f"unknown variant {name!r}: use one of {', '.join(known)}")


def read_result(path: Path) -> dict[str, Any]:
    """Read a finished run's figures.

    Raises:
        DataError: the file is broken.
    """
    try:
        result = dict(json.loads(path.read_text(encoding="utf-8")))
        result["config"], result["generator"], result["figures"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is broken ({error}): delete its folder and run again") from error
    return result


def session_facts(config: SessionConfig) -> dict[str, Any]:
    """Return what a run is of, as JSON values: its settings, what its data hold, its detector, and versions."""
    sizes = {"train": config.train, "val": config.val, "test": config.test}
    data = {
        split: dataset_facts(load_dataset(config.dataset, split=split, n=n), content=True)
        for split, n in sizes.items() if n
    }  # fmt: skip
    own = {name: value for name, value in versions().items() if name != "torch"}  # a finished run outlives its torch
    return dict(as_json({
        **asdict(config), "data": data, "detector": detector_facts(config.views.detector), "package": own,
    }))  # fmt: skip


def check_result(folder: Path, result: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare a finished run with the one that is asked for; those of older versions tell less.

    Raises:
        DataError: it is another run.
    """
    found = result.get("facts") or {**result["config"], "package": {"generator": result["generator"]}}
    older = {**{name: facts[name] for name in result["config"]}, "package": {"generator": GENERATOR_VERSION}}
    refuse_other(folder, "run", found, facts if "facts" in result else older)


def cached_warm_start(
    config: SessionConfig, train: SplitData, val: SplitData, cache: Path, watch: Watch | None = None
) -> tuple[LightPolicy, dict[str, float]]:
    """Return the warm start of a seed and its skill, trained if it is not in the cache.

    All variants of a seed begin from the same one.

    Raises:
        DataError: the cache holds a broken file, or cannot be written.
    """
    policy = LightPolicy(config.policy)
    shapes = [(name, tuple(value.shape)) for name, value in policy.state_dict().items()]
    facts = [
        CACHE_VERSION, versions(), *(views_name(part.dataset, part.config) for part in (train, val)), config.threads,
        config.seed, asdict(config.warm), asdict(config.policy), shapes,
    ]  # fmt: skip
    path = cache / f"warm-{digest(facts)}-{WARM}"
    if path.exists():
        kept = load_checkpoint(path)
        policy.load_state_dict(kept["policy"])
        return policy.eval(), kept["skill"]
    policy, skill = warm_start(train.views, val.views, config.warm, config.seed, config.policy, watch)
    save_atomic(path, {"policy": policy.state_dict(), "skill": skill})
    return policy, skill


def line_of(phase: str, done: int, total: int, figures: Mapping[str, float]) -> str:
    """Return a step's figures as a line; the arguments are those of `Watch`."""
    if phase != "training":
        return f"{phase}: epoch {done} of {total}, loss {figures['loss']:.3f}"
    return (f"step {done} of {total}: task {figures['task']:+.3f}, accuracy {figures['accuracy']:.3f}, "
            f"zoom {figures['zoom']:.2f}, delta {figures['delta']:+.3f}, kl {figures['kl']:.3f}")  # fmt: skip
