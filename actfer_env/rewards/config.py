"""`UCGRPOConfig`: every constant of the UC-GRPO reward, and the paper's ablation variants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal, get_args

from actfer_env.errors import ActFERError

Utility = Literal["contrastive", "fallback", "zoom", "none"]
"""How the utility is formed: by contrast (ActFER eq. 12-14), by the fallback alone, by zooming alone, or not at all."""

FallbackOf = Literal["own", "unzoomed"]
"""Whose answer the fallback judges: the rollout's own, or that of the group's members that did not zoom."""


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
        "structure_clean": 0.0, "quality_floor": 0.0,
    }),
})  # fmt: skip
"""Name -> the fields in which a variant of the ablation (ActFER table 3) differs from the full method.

"task_only" is ours: the task reward and nothing else."""


@dataclass(frozen=True)
class UCGRPOConfig:
    """Constants and switches of UC-GRPO (ActFER section 3.4).

    The paper's extraction lost most numbers: "ActFER 3.4" names what the text fixes, "chosen here" what this
    project had to choose.

    Attributes:
        alpha: weight of the emotion in the task reward; ActFER 3.4 (alpha + beta = 1), value chosen here.
        beta: weight of the AU-set F1; ActFER 3.4 (alpha + beta = 1), value chosen here.
        gamma: penalty of a wrong or missing emotion, > 0; ActFER 3.4, value chosen here.
        wrong_au_share: share of the AU term that a wrong emotion keeps; ActFER 3.4 (one half).
        r: reward of a zoom decision that agrees with delta, or is neutral; ActFER 3.4, value chosen here.
        margin: half-width of the neutral interval of delta; ActFER 3.4, value chosen here.
        phi_scale: upper bound of the penalty phi; ActFER 3.4 (bounded, tanh), value chosen here.
        phi_width: |delta| at which phi reaches tanh(1) of its bound; ActFER 3.4, value chosen here.
        ema_decay: rho of the emotion-wise EMA; ActFER 3.4, value chosen here.
        ema_gain: slope k of the sigmoid of the EMA; ActFER 3.4 (monotone sigmoid), value chosen here.
        ema_span: the lambdas lie in (1 - span, 1 + span); ActFER 3.4 (bounded), value chosen here.
        ema_min_count: valid deltas of an emotion before its lambdas leave 1; ActFER 3.4, value chosen here.
        fallback: size of the symmetric fallback; ActFER 3.4, value chosen here.
        fallback_of: whose answer the fallback judges; ActFER 3.4 leaves it open. "own": right earns, wrong pays, zoomed
            or not. "unzoomed": where most of the group's unzoomed answers are right, not zooming earns and zooming
            pays, otherwise the reverse; without any unzoomed member the rollout's own answer counts.
        structure_violation: added for each violation, <= 0; chosen here.
        structure_unlooked: added for an answer on a raw image without detect_align, <= 0; chosen here.
        structure_floor: lower bound of the structure term, <= 0; chosen here.
        structure_clean: bonus of a clean legal trajectory, >= 0, also the upper bound; chosen here.
        quality_floor: lower bound of the quality term, <= 0; chosen here.
        quality_format: weight of the share of turns with a severe format error; chosen here.
        quality_repetition: weight of the share of repeated word 4-grams; chosen here.
        quality_language: weight of the share of letters outside the prompt's script; chosen here.
        quality_script: the prompt's script(s) as in Unicode's character names, such as "LATIN"; chosen here.
        std_ddof: 1 divides the group's variance by n - 1 as verl and TRL do, 0 by n; chosen here.
        std_eps: added to the group's std; chosen here (as verl does).
        dense_au: whether the AU-set F1 enters the task reward; ActFER table 3.
        utility: how the utility term is formed; ActFER table 3.
        use_ema: whether the lambdas follow the EMA instead of staying 1; ActFER table 3.
        outcome_gate: keep the task term alone in groups without any right emotion; chosen here, off.
        normalize_std: divide advantages by the group's std; ActFER 3.4.
        zoom_cost: taken from the utility of a rollout that zoomed, >= 0; ours, not the paper's, off.

    Raises:
        RewardError: a field is out of its range; one line that names it.
    """

    alpha: float = 0.6
    beta: float = 0.4
    gamma: float = 0.2
    wrong_au_share: float = 0.5
    r: float = 0.1
    margin: float = 0.05
    phi_scale: float = 0.3
    phi_width: float = 0.3
    ema_decay: float = 0.9
    ema_gain: float = 4.0
    ema_span: float = 0.5
    ema_min_count: int = 8
    fallback: float = 0.1
    fallback_of: FallbackOf = "own"
    structure_violation: float = -0.1
    structure_unlooked: float = -0.1
    structure_floor: float = -0.5
    structure_clean: float = 0.05
    quality_floor: float = -0.2
    quality_format: float = 0.1
    quality_repetition: float = 0.2
    quality_language: float = 0.2
    quality_script: str = "LATIN"
    std_ddof: int = 1
    std_eps: float = 1e-6
    dense_au: bool = True
    utility: Utility = "contrastive"
    use_ema: bool = True
    outcome_gate: bool = False
    normalize_std: bool = True
    zoom_cost: float = 0.0

    def __post_init__(self) -> None:
        """Check every field, and turn NumPy numbers into Python's."""
        for item in fields(self):
            value = check_field(item.name, str(item.type), getattr(self, item.name))
            object.__setattr__(self, item.name, value)
        if abs(self.alpha + self.beta - 1.0) > 1e-9:
            raise RewardError(f"alpha + beta must be 1, got {self.alpha} + {self.beta}: set both")

    @classmethod
    def variant(cls, name: str, **overrides: Any) -> UCGRPOConfig:
        """Return a variant of the ablation (ActFER table 3).

        Args:
            name: a key of `VARIANTS`.
            overrides: fields to set on top of it.

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


_Rule = tuple[str, Callable[[Any], bool]]
_SHARE: _Rule = ("in [0, 1]", lambda value: 0 <= value <= 1)
_POSITIVE: _Rule = ("> 0", lambda value: value > 0)
_NOT_NEGATIVE: _Rule = (">= 0", lambda value: value >= 0)
_NOT_POSITIVE: _Rule = ("<= 0", lambda value: value <= 0)
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("alpha", "beta", "wrong_au_share"), _SHARE),
    **dict.fromkeys(("gamma", "phi_scale", "phi_width", "ema_gain", "std_eps"), _POSITIVE),
    **dict.fromkeys(("r", "margin", "ema_min_count", "fallback", "structure_clean", "zoom_cost"), _NOT_NEGATIVE),
    **dict.fromkeys(("format_bonus", "max_boxes"), _NOT_NEGATIVE),
    **dict.fromkeys(("quality_format", "quality_repetition", "quality_language"), _NOT_NEGATIVE),
    **dict.fromkeys(("structure_violation", "structure_unlooked", "structure_floor"), _NOT_POSITIVE),
    "quality_floor": _NOT_POSITIVE,
    "ema_decay": ("in [0, 1)", lambda value: 0 <= value < 1),
    "ema_span": _SHARE,
    "std_ddof": ("0 or 1", lambda value: value in (0, 1)),
    "quality_script": ("a script such as 'LATIN'", lambda value: value.isupper()),
    "fallback_of": (f"one of {', '.join(get_args(FallbackOf))}", lambda value: value in get_args(FallbackOf)),
    "utility": (f"one of {', '.join(get_args(Utility))}", lambda value: value in get_args(Utility)),
}


def check_field(name: str, kind: str, value: Any) -> Any:
    """Return a field's value as its plain Python type, or raise one line that names the field."""
    rule, holds = _RULES.get(name, ("true or false", lambda value: True))
    plain = _plain(kind, value)
    if plain is None or not holds(plain):
        raise RewardError(f"{name} must be {rule}, got {value!r}")
    return plain


def _plain(kind: str, value: Any) -> Any:
    """Return the value as the float, int, bool or str of the field's annotation, or None if it is not one."""
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind == "int":
        return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if kind == "float":
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if number else None
    return value if isinstance(value, str) else None
