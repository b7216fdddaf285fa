"""`UCGRPOConfig`: every constant of the UC-GRPO reward, and the paper's ablation variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import ActFERError

Utility = Literal["contrastive", "fallback", "zoom", "none"]
"""Form of the utility: by contrast (ActFER eq. 12-14), by the fallback alone, by zooming alone, or not at all."""

FallbackOf = Literal["own", "unzoomed"]
"""Answer that the fallback judges: the rollout's own, or that of the group's members that did not zoom."""

ContrastMembers = Literal["detected", "answered", "looked", "legal"]
"""Rollouts whose task rewards enter delta, each choice leaving out what the one before does: those whose detection did
not fail; that answered; that looked before they answered; that broke no rule."""


class RewardError(ActFERError, ValueError):
    """A reward configuration, state or commit that cannot be used; the message is one line."""


VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "emotion_only": MappingProxyType({"dense_au": False, "utility": "fallback", "use_ema": False}),
    "au_grounded": MappingProxyType({"utility": "fallback", "use_ema": False}),
    "zoom_biased": MappingProxyType({"utility": "zoom", "use_ema": False}),
    "no_ema": MappingProxyType({"use_ema": False}),
    "full": MappingProxyType({}),
    "task_only": MappingProxyType({
        "utility": "none", "use_ema": False, "structure_violation": 0.0, "structure_unlooked": 0.0,
        "structure_clean": 0.0, "structure_thought": 0.0, "structure_section": 0.0, "structure_repair": 0.0,
        "quality_floor": 0.0,
    }),
})  # fmt: skip
"""Name -> the fields in which a variant of the ablation (ActFER table 3) differs from the full method.

"task_only" is ours: the task reward and nothing else."""

FORMATS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "lenient": MappingProxyType({}),
    "strict": MappingProxyType({"structure_thought": -0.1, "structure_repair": -0.05}),
})  # fmt: skip
"""Name -> the fields by which the structure term sees how turns are written (ActFER 3.4 checks the response format; the
values are chosen here). "strict" goes with ``ChatConfig(parsing="strict")``, which refuses what "lenient" repairs."""


@dataclass(frozen=True)
class UCGRPOConfig:
    """Constants and switches of UC-GRPO (ActFER section 3.4).

    The paper's extraction lost most numbers: "ActFER 3.4" names what the text fixes, "chosen here" what this
    project had to choose.

    Attributes:
        alpha: Weight of the emotion in the task reward; ActFER 3.4 (alpha + beta = 1), value chosen here.
        beta: Weight of the AU-set F1; ActFER 3.4 (alpha + beta = 1), value chosen here.
        gamma: Penalty of a wrong or missing emotion, > 0; ActFER 3.4, value chosen here.
        wrong_au_share: Share of the AU term that a wrong emotion keeps; ActFER 3.4 (one half).
        r: Reward of a zoom decision that agrees with delta, or is neutral; ActFER 3.4, value chosen here.
        margin: Half-width of the neutral interval of delta; ActFER 3.4, value chosen here.
        phi_scale: Upper bound of the penalty phi; ActFER 3.4 (bounded, tanh), value chosen here.
        phi_width: |delta| at which phi reaches tanh(1) of its bound; ActFER 3.4, value chosen here.
        ema_decay: Rho of the emotion-wise EMA; ActFER 3.4, value chosen here.
        ema_gain: Slope k of the sigmoid of the EMA; ActFER 3.4 (monotone sigmoid), value chosen here.
        ema_span: The lambdas lie in (1 - span, 1 + span); ActFER 3.4 (bounded), value chosen here.
        ema_min_count: Valid deltas of an emotion before its lambdas leave 1; ActFER 3.4, value chosen here.
        fallback: Size of the symmetric fallback; ActFER 3.4, value chosen here.
        fallback_of: Answer that the fallback judges; ActFER 3.4 leaves it open. "own": right earns, wrong pays, zoomed
            or not. "unzoomed": where most of the group's unzoomed answers are right, not zooming earns and zooming
            pays, otherwise the reverse; without any unzoomed member the rollout's own answer counts.
        structure_violation: Added for each violation, <= 0; chosen here.
        structure_unlooked: Added for an answer on a raw image without detect_align, <= 0; chosen here.
        structure_floor: Lower bound of the structure term, <= 0; chosen here.
        structure_clean: Bonus of a clean legal trajectory, >= 0, also the upper bound; chosen here.
        structure_thought: Added for each turn without a thought, <= 0; such a trajectory is not clean. Chosen here,
            off.
        structure_section: Added where the answering turn's thought has no Global and no Local Analysis, <= 0; such a
            trajectory is not clean. Chosen here, off.
        structure_repair: Added for each repair that the lenient parser made, <= 0; such a trajectory is not clean.
            Chosen here, off.
        quality_floor: Lower bound of the quality term, <= 0; chosen here.
        quality_format: Weight of the share of turns with a severe format error; chosen here.
        quality_repetition: Weight of the share of repeated word 4-grams; chosen here.
        quality_language: Weight of the share of letters outside the prompt's script; chosen here.
        quality_script: The prompt's script(s) as in Unicode's character names, such as "LATIN"; chosen here.
        std_ddof: 1 divides the group's variance by n - 1 as verl and TRL do, 0 by n; chosen here.
        std_eps: Added to the group's std; chosen here (as verl does).
        dense_au: Whether the AU-set F1 enters the task reward; ActFER table 3.
        utility: Form of the utility term; ActFER table 3.
        contrast_members: Rollouts that enter delta; the others get the fallback. ActFER 3.4 leaves out failed
            detections and wants "legal and executable" trajectories; how far that goes is open, chosen here.
        use_ema: Whether the lambdas follow the EMA instead of staying 1; ActFER table 3.
        outcome_gate: Keep the task term alone in groups without any right emotion; chosen here, off.
        normalize_std: Divide advantages by the group's std; ActFER 3.4.
        zoom_cost: Taken from the utility of a rollout that zoomed, >= 0; ours, not the paper's, off.

    Raises:
        RewardError: a field is out of its range; one line that names it.
    """

    alpha: float = bounded(0.6, ge=0, le=1)
    beta: float = bounded(0.4, ge=0, le=1)
    gamma: float = bounded(0.2, gt=0)
    wrong_au_share: float = bounded(0.5, ge=0, le=1)
    r: float = bounded(0.1, ge=0)
    margin: float = bounded(0.05, ge=0)
    phi_scale: float = bounded(0.3, gt=0)
    phi_width: float = bounded(0.3, gt=0)
    ema_decay: float = bounded(0.9, ge=0, lt=1)
    ema_gain: float = bounded(4.0, gt=0)
    ema_span: float = bounded(0.5, ge=0, le=1)
    ema_min_count: int = bounded(8, ge=0)
    fallback: float = bounded(0.1, ge=0)
    fallback_of: FallbackOf = bounded("own", choices=get_args(FallbackOf))
    structure_violation: float = bounded(-0.1, le=0)
    structure_unlooked: float = bounded(-0.1, le=0)
    structure_floor: float = bounded(-0.5, le=0)
    structure_clean: float = bounded(0.05, ge=0)
    structure_thought: float = bounded(0.0, le=0)
    structure_section: float = bounded(0.0, le=0)
    structure_repair: float = bounded(0.0, le=0)
    quality_floor: float = bounded(-0.2, le=0)
    quality_format: float = bounded(0.1, ge=0)
    quality_repetition: float = bounded(0.2, ge=0)
    quality_language: float = bounded(0.2, ge=0)
    quality_script: str = "LATIN"
    std_ddof: int = bounded(1, choices=(0, 1))
    std_eps: float = bounded(1e-6, gt=0)
    dense_au: bool = True
    utility: Utility = bounded("contrastive", choices=get_args(Utility))
    contrast_members: ContrastMembers = bounded("detected", choices=get_args(ContrastMembers))
    use_ema: bool = True
    outcome_gate: bool = False
    normalize_std: bool = True
    zoom_cost: float = bounded(0.0, ge=0)

    def __post_init__(self) -> None:
        """Check every field, and turn NumPy numbers into Python's."""
        check_fields(self, RewardError)
        if not isinstance(self.quality_script, str) or not self.quality_script.isupper():
            raise RewardError(f"quality_script must be a script such as 'LATIN', got {self.quality_script!r}")
        if abs(self.alpha + self.beta - 1.0) > 1e-9:
            raise RewardError(f"alpha + beta must be 1, got {self.alpha} + {self.beta}: set both")

    @classmethod
    def variant(cls, name: str, **overrides: Any) -> UCGRPOConfig:
        """Return a variant of the ablation (ActFER table 3).

        Args:
            name: A key of `VARIANTS`.
            overrides: Fields to set on top of it.

        Raises:
            RewardError: the variant or a field is unknown, or a value is out of range.
        """
        if name not in VARIANTS:
            raise RewardError(f"unknown variant {name!r}: use one of {', '.join(VARIANTS)}")
        return cls.from_dict({**VARIANTS[name], **overrides})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UCGRPOConfig:
        """Build a configuration from its JSON form; fields that are left out keep their defaults.

        Raises:
            RewardError: a field is unknown or out of range.
        """
        known = {item.name for item in fields(cls)}
        for key in data:
            if key not in known:
                raise RewardError(f"unknown field {key!r} of UCGRPOConfig: use one of {', '.join(sorted(known))}")
        return cls(**data)
