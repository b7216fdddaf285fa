"""`SessionConfig`: the settings of one training run, and the sizes that have names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from actfer_env import facs
from actfer_env.agents.light.policy import PolicyConfig, check_sides
from actfer_env.agents.light.trainer import TrainerConfig
from actfer_env.agents.light.warmstart import WarmStartConfig
from actfer_env.bounds import bounded, check_fields
from actfer_env.data.views import ViewConfig
from actfer_env.errors import DataError
from actfer_env.rewards import UCGRPOConfig
from actfer_env.rewards.registry import OTHER_REWARDS

Splitting: TypeAlias = Literal["auto", "own", "subject", "share"]
"""Origin of train, val and test: the data set's own splits; or its people, or its samples, drawn by a seed.
"auto" takes the own ones where there are two at least, else people where all are known, else samples."""
Balance: TypeAlias = Literal["auto", "draw", "weights", "none"]
"""Way in which rare emotions are made up for: their samples are drawn as often as those of common ones, or they weigh
more in the warm start's loss; "auto" draws, but not of drawn faces."""


@dataclass(frozen=True)
class SessionConfig:
    """One training run.

    Attributes:
        variant: Variant of the reward, a key of `rewards.VARIANTS` or of `OTHER_REWARDS`.
        seed: Seed of weights, samples and actions.
        train: Samples of the training split.
        val: Samples of the validation split: for the warm start's rule, and for tuning.
        test: Samples of the test split, for the figures; 0 takes those of val.
        dataset: Registered name of the data set; the default is that of the benchmark tasks. Of a data set that is not
            drawn `train`, `val` and `test` are the most samples to take of a split; `test` 0 takes all.
        root: Folder or file of the data set, for those that need one.
        data_preset: Preset of drawn faces; None is the data set's own.
        split: Origin of train, val and test; see `Splitting`.
        split_seed: Seed of splits that are drawn.
        balance: Way in which rare emotions are made up for; see `Balance`.
        rl_share: Share of the training samples that are kept for UC-GRPO, and not shown to the warm start; 0 lets both
            learn from all. None is 0 of drawn faces, and `samples.RL_SHARE` of others.
        zoom_cost: See `UCGRPOConfig`.
        outcome_gate: See `UCGRPOConfig`.
        normalize_std: See `UCGRPOConfig`.
        reward: Further fields of the reward.
        max_zooms: Regions that an episode may magnify; fewer than four make the policy choose.
        threads: Threads of torch; another number gives other bits.
        views: Sizes of pictures.
        policy: Sizes of the policy.
        warm: Constants of the warm start.
        trainer: Constants of the policy updates.
    """

    variant: str = "full"
    seed: int = bounded(0, ge=0)
    train: int = bounded(12_000, ge=1)
    val: int = bounded(1_500, ge=1)
    test: int = bounded(2_500, ge=0)
    dataset: str = "synthetic-mixed"
    root: str | None = None
    data_preset: str | None = None
    split: Splitting = "auto"
    split_seed: int = bounded(0, ge=0)
    balance: Balance = "auto"
    rl_share: float | None = bounded(None, ge=0, lt=1)
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
        switches = {"zoom_cost": 0.0, "outcome_gate": False, "normalize_std": True}
        for name, value in dict(self.reward).items():  # the same by either door
            if name not in switches:
                continue
            if getattr(self, name) not in (switches[name], value):
                raise DataError(f"{name} is given twice, as {getattr(self, name)} and as {value}: leave out one")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "reward", tuple((key, value) for key, value in self.reward if key not in switches))
        check_fields(self)
        check_sides(self.views.sides)
        for name, known in (("split", get_args(Splitting)), ("balance", get_args(Balance))):
            if getattr(self, name) not in known:
                raise DataError(f"{name}={getattr(self, name)!r} is unknown: use one of {', '.join(known)}")

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
