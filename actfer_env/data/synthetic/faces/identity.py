"""Identity of a drawn person: everything that stays when the expression changes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from actfer_env.errors import DataError

SKIN_TONES: tuple[tuple[int, int, int], ...] = (
    (243, 214, 196), (235, 200, 176), (226, 184, 154), (213, 166, 133), (196, 146, 112),
    (174, 122, 88), (148, 98, 69), (121, 78, 55), (100, 65, 47), (81, 52, 40),
)  # fmt: skip
"""Ten skin tones (sRGB under a white key light), from lightest to darkest."""

HAIR_COLOURS: tuple[tuple[int, int, int], ...] = (
    (24, 20, 19), (40, 28, 22), (66, 43, 29), (96, 64, 40), (139, 98, 58),
    (190, 152, 96), (133, 60, 28), (150, 148, 146), (205, 203, 200),
)  # fmt: skip
"""Black, two browns, light brown, dark blond, blond, red, grey, white."""

EYE_COLOURS: tuple[tuple[int, int, int], ...] = (
    (52, 30, 18), (84, 50, 28), (112, 82, 44), (84, 100, 66), (96, 124, 150), (110, 122, 132),
)  # fmt: skip
"""Dark brown, brown, hazel, green, blue, grey."""

HAIR_STYLES: tuple[str, ...] = (
    "bald",
    "buzz",
    "short",
    "side",
    "fringe",
    "bob",
    "long",
    "afro",
    "receding",
    "bun",
)
BEARD_STYLES: tuple[str, ...] = ("none", "stubble", "moustache", "goatee", "full")
GLASSES_STYLES: tuple[str, ...] = ("none", "thin", "thick", "round")

_CHOICES = {
    "tone": len(SKIN_TONES), "hair_colour": len(HAIR_COLOURS), "eye_colour": len(EYE_COLOURS),
    "hair_style": HAIR_STYLES, "beard": BEARD_STYLES, "glasses": GLASSES_STYLES,
}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """A person. Shape fields are offsets in -1..1 (0 is the average face); `age` and `freckles` run 0..1.

    Attributes:
        seed: Drives the fine texture (mottle, strands, freckles), 0 or more.
        tone: Index into `SKIN_TONES`, 0 (lightest) to 9 (darkest).
        undertone: -1 cool and pink to 1 warm and yellow.
        age: 0 young to 1 old: permanent lines, bags, sagging.
        freckles: 0 none to 1 many.
        width: Face width against height.
        jaw: -1 tapered to 1 square.
        chin: Chin length and projection.
        cheeks: -1 hollow to 1 full.
        eye_spacing: Distance between the eyes.
        eye_size: Lid opening and width.
        eye_tilt: Outer corner down (-1) to up (1).
        eye_fold: -1 hooded or single lid to 1 deep crease.
        brow_height: Low to high.
        brow_arch: Straight to arched.
        brow_thickness: Thin to bushy.
        nose_width: Narrow to wide.
        nose_length: Short to long.
        nose_bridge: Flat to prominent.
        lip_width: Narrow to wide.
        lip_upper: Thin to full.
        lip_lower: Thin to full.
        lip_tint: Pale to red.
        lids: Slack and open to tense and narrow, at rest.
        mouth_corner: Corners of the mouth at rest, down (-1) to up (1).
        mouth_skew: Side of the corner that hangs lower at rest: the viewer's right (-1) or left (1).
        eye_colour: Index into `EYE_COLOURS`.
        hair_style: One of `HAIR_STYLES`.
        hair_colour: Index into `HAIR_COLOURS`.
        beard: One of `BEARD_STYLES`.
        glasses: One of `GLASSES_STYLES`.
        cloth: SRGB colour of the clothes.
    """

    seed: int = 0
    tone: int = 3
    undertone: float = 0.0
    age: float = 0.3
    freckles: float = 0.0
    width: float = 0.0
    jaw: float = 0.0
    chin: float = 0.0
    cheeks: float = 0.0
    eye_spacing: float = 0.0
    eye_size: float = 0.0
    eye_tilt: float = 0.0
    eye_fold: float = 0.0
    brow_height: float = 0.0
    brow_arch: float = 0.0
    brow_thickness: float = 0.0
    nose_width: float = 0.0
    nose_length: float = 0.0
    nose_bridge: float = 0.0
    lip_width: float = 0.0
    lip_upper: float = 0.0
    lip_lower: float = 0.0
    lip_tint: float = 0.0
    lids: float = 0.0
    mouth_corner: float = 0.0
    mouth_skew: float = 0.0
    eye_colour: int = 1
    hair_style: str = "short"
    hair_colour: int = 2
    beard: str = "none"
    glasses: str = "none"
    cloth: tuple[int, int, int] = (70, 84, 104)

    def __post_init__(self) -> None:
        """Refuse values outside the documented ranges."""
        for field in fields(self):
            _check(field.name, getattr(self, field.name))

    @classmethod
    def sample(cls, rng: np.random.Generator, tone: int | None = None) -> Identity:
        """Draw a person; `tone` fixes the skin tone, everything else follows `rng` alone."""
        drawn_tone = int(rng.integers(len(SKIN_TONES)))
        tone = drawn_tone if tone is None else tone
        masculine = bool(rng.random() < 0.5)
        age = float(rng.beta(1.6, 2.2))
        return cls(
            seed=int(rng.integers(2**31)),
            tone=tone,
            age=age,
            freckles=float(rng.random() ** 3) if tone < 4 and rng.random() < 0.35 else 0.0,
            **_shape(rng, tone, masculine),
            **_colours(rng, tone, age),
            **_styles(rng, masculine, age, tone),
        )


def _check(name: str, value: Any) -> None:
    choices: Any = _CHOICES.get(name)
    if name == "cloth":
        valid = isinstance(value, tuple) and len(value) == 3 and all(0 <= int(v) <= 255 for v in value)
        wanted = "three numbers 0 to 255"
    elif isinstance(choices, tuple):
        valid, wanted = value in choices, f"one of {', '.join(choices)}"
    else:
        low, high = _bounds(name, choices)
        valid = isinstance(value, int | float | np.number) and bool(low <= value <= high)
        wanted = f"a number from {low} to {high}"
    if not valid:
        raise DataError(f"identity {name}={value!r}: use {wanted}")


def _bounds(name: str, count: int | None) -> tuple[int, int]:
    if name == "seed":
        return 0, 2**63 - 1
    if count is not None:
        return 0, count - 1
    return (0, 1) if name in ("age", "freckles") else (-1, 1)


def _shape(rng: np.random.Generator, tone: int, masculine: bool) -> dict[str, Any]:
    sign = 1.0 if masculine else -1.0
    lean = {
        "undertone": 0.0, "width": 0.1 * sign, "jaw": 0.45 * sign, "chin": 0.15 * sign, "cheeks": -0.1 * sign,
        "eye_spacing": 0.0, "eye_size": -0.2 * sign, "eye_tilt": 0.1, "eye_fold": 0.1,
        "brow_height": -0.25 * sign, "brow_arch": -0.3 * sign, "brow_thickness": 0.4 * sign,
        "nose_width": -0.15 + 0.06 * tone + 0.1 * sign, "nose_length": 0.1 * sign,
        "nose_bridge": 0.2 - 0.05 * tone, "lip_width": 0.0,
        "lip_upper": -0.25 + 0.07 * tone - 0.1 * sign, "lip_lower": -0.15 + 0.06 * tone,
        "lip_tint": -0.35 * sign, "lids": 0.0, "mouth_corner": 0.0, "mouth_skew": 0.0,
    }  # fmt: skip
    return {name: min(max(mean + 0.38 * float(rng.standard_normal()), -1.0), 1.0) for name, mean in lean.items()}


def _colours(rng: np.random.Generator, tone: int, age: float) -> dict[str, Any]:
    light = max(0, 5 - tone)
    hair = rng.choice(7, p=_normalised([3, 3, 2 + light, light, light, 0.7 * light, 0.4 * light]))
    greying = rng.random() < 1.3 * (age - 0.45)
    eyes = rng.choice(6, p=_normalised([3 + 2 * tone, 4, 0.5 * light, 0.4 * light, 0.8 * light, 0.4 * light]))
    return {"hair_colour": int(rng.integers(7, 9)) if greying else int(hair), "eye_colour": int(eyes)}


def _styles(rng: np.random.Generator, masculine: bool, age: float, tone: int) -> dict[str, Any]:
    afro = 1.2 if tone >= 6 else 0.0
    if masculine:
        hair = rng.choice(HAIR_STYLES, p=_normalised([0.8, 1.5, 3, 2, 1, 0, 0.3, afro * 0.5, 2 * age, 0]))
        beard = rng.choice(BEARD_STYLES, p=_normalised([5, 2, 0.6, 0.9, 1.5]))
    else:
        hair = rng.choice(HAIR_STYLES, p=_normalised([0, 0.1, 0.8, 1, 1.2, 2, 3, afro, 0, 2]))
        beard = "none"
    glasses = rng.choice(GLASSES_STYLES, p=_normalised([8, 1, 0.8, 0.6]))
    cloth = tuple(int(v) for v in rng.integers(20, 210, 3) * 0.6 + rng.integers(0, 90))
    return {"hair_style": str(hair), "beard": str(beard), "glasses": str(glasses), "cloth": cloth}


def _normalised(weights: list[float]) -> np.ndarray:
    values = np.asarray(weights, dtype=np.float64)
    return values / values.sum()
