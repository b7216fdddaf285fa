"""Presets of the drawn faces: how hard pictures are to read, and which world a data set shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from actfer_env.bounds import bounded, check_fields
from actfer_env.errors import DataError


@dataclass(frozen=True)
class Difficulty:
    """Distributions that one preset draws from; all ranges are uniform, all shares are probabilities, all chosen here.

    Attributes:
        side: Side of the square picture, pixels.
        scale: Half the head's width, pixels; the inter-ocular distance is about 0.9 of it.
        yaw: Largest turn in degrees; pitch goes to two thirds of it.
        roll: Largest tilt in degrees.
        poor: Share of pictures with less native detail than a zoom asks for.
        poor_detail: Their camera's detail is multiplied by this: larger faces need less to hold as little.
        second: Share with a second, smaller face.
        hand: Share with a hand near the face.
        lost: Share in which no face should be found: too small, cut by the border, covered, or too dark.
        intensity: Intensity of an active Action Unit, 1 (A) to 5 (E).
        drop: Chance that a prototype's unit is left out; at least one stays.
        add: Chance of one unit that does not belong to the prototype.
        variant: Chance of a variant of the prototype instead of the prototype.
    """

    side: tuple[int, int] = (288, 384)
    scale: tuple[float, float] = (44.0, 78.0)
    yaw: float = 20.0
    roll: float = 18.0
    poor: float = 0.3
    poor_detail: float = 1.0
    second: float = 0.08
    hand: float = 0.06
    lost: float = 0.08
    intensity: tuple[float, float] = (2.0, 5.0)
    drop: float = 0.12
    add: float = 0.15
    variant: float = 0.4


PRESETS: Mapping[str, Difficulty] = MappingProxyType({
    "easy": Difficulty(
        scale=(58.0, 82.0), yaw=8.0, roll=6.0, poor=0.0, second=0.0, hand=0.0, lost=0.0, intensity=(3.0, 5.0),
        drop=0.0, add=0.0, variant=0.0,
    ),
    "standard": Difficulty(),
    "hard": Difficulty(
        scale=(34.0, 78.0), yaw=28.0, roll=28.0, poor=0.45, second=0.15, hand=0.15, lost=0.12, intensity=(1.2, 4.0),
        drop=0.2, add=0.3, variant=0.35,
    ),
    "mixed": Difficulty(poor=0.5),
    "subtle": Difficulty(
        side=(448, 512), scale=(108.0, 138.0), yaw=10.0, roll=10.0, poor_detail=0.5, second=0.0, hand=0.0,
        intensity=(1.0, 2.5), drop=0.0, add=0.0,
    ),
    "micro": Difficulty(
        side=(384, 448), scale=(92.0, 118.0), yaw=10.0, roll=10.0, poor_detail=0.5, second=0.0, hand=0.0, lost=0.04,
        intensity=(1.0, 2.0), drop=0.2, add=0.0,
    ),
})  # fmt: skip
"""Difficulty by name.

"mixed" is "standard" with as many poor pictures as good ones, for the benchmark tasks. In "subtle" large, frontal faces
show whole prototypes and variants, weakly (FACS A to C): the picture holds what a small face loses. Poor pictures hold
as little of these larger faces as of those in "standard". "micro", for "synthetic-micro", is fainter still, and its
prototypes are not always whole.
"""


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of a drawn data set.

    Attributes:
        seed: Random seed of the data set.
        preset: A name in `PRESETS`.
        emotions: "balanced" or "prior".
    """

    seed: int = bounded(0, ge=0)
    preset: str = "standard"
    emotions: Literal["balanced", "prior"] = "balanced"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.preset not in PRESETS:
            raise DataError(f"unknown preset {self.preset!r}: use one of {', '.join(PRESETS)}")
        if self.emotions not in ("balanced", "prior"):
            raise DataError(f"unknown emotions {self.emotions!r}: use 'balanced' or 'prior'")
