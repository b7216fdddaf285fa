"""Effects of Action Units on the head: skin drift, relief, and the shapes of eyes and mouth.

The tables hold the viewer's right half (x > 0, outwards positive, y down); the left half mirrors them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from actfer_env.data.synthetic.faces.expression import RENDERED_AUS, Expression, Pull
from actfer_env.data.synthetic.faces.geometry import Anatomy, Array, bump, grid, grid_direction, step
from actfer_env.data.synthetic.faces.identity import Identity

# AU -> (x, y, spread x, spread y, shift outwards, shift down): how the skin slides at full intensity.
DRIFT: dict[int, tuple[tuple[float, ...], ...]] = {
    1: ((0.17, -0.33, 0.19, 0.15, -0.01, -0.13), (0.17, -0.62, 0.22, 0.18, 0.0, -0.05)),
    2: ((0.60, -0.33, 0.22, 0.15, 0.0, -0.13), (0.55, -0.62, 0.22, 0.18, 0.0, -0.05)),
    4: ((0.20, -0.31, 0.25, 0.13, -0.055, 0.085),),
    6: ((0.50, 0.39, 0.24, 0.18, 0.0, -0.07),),
    9: ((0.17, 0.48, 0.12, 0.2, 0.0, -0.018), (0.16, -0.3, 0.18, 0.11, -0.006, 0.01)),
    10: ((0.22, 0.71, 0.18, 0.12, 0.0, -0.06),),
    12: ((0.42, 0.89, 0.2, 0.2, 0.07, -0.11),),
    14: ((0.42, 0.91, 0.1, 0.1, 0.006, 0.0),),
    15: ((0.36, 0.95, 0.15, 0.13, 0.004, 0.022),),
    17: ((0.10, 1.27, 0.2, 0.14, 0.0, -0.08),),
    20: ((0.42, 0.91, 0.2, 0.18, 0.1, 0.01),),
    23: ((0.30, 0.91, 0.12, 0.1, -0.012, 0.0),),
    26: ((0.10, 1.29, 0.4, 0.17, 0.0, 0.1),),
}

# AU -> (x, y, spread x, spread y, height): how the surface bulges or sinks at full intensity.
RELIEF: dict[int, tuple[tuple[float, ...], ...]] = {
    1: ((0.15, -0.42, 0.14, 0.07, 0.015),),
    2: ((0.58, -0.42, 0.16, 0.07, 0.015),),
    4: ((0.17, -0.25, 0.11, 0.08, 0.035), (0.0, -0.3, 0.06, 0.1, -0.02)),
    6: ((0.50, 0.33, 0.19, 0.12, 0.07), (0.44, 0.17, 0.17, 0.04, -0.025)),
    7: ((0.44, 0.11, 0.15, 0.04, 0.01),),
    9: ((0.09, 0.12, 0.08, 0.1, 0.012), (0.18, 0.55, 0.06, 0.06, 0.018), (0.27, 0.60, 0.05, 0.08, -0.01)),
    10: ((0.30, 0.67, 0.11, 0.1, 0.045), (0.41, 0.72, 0.05, 0.1, -0.035)),
    12: ((0.54, 0.46, 0.18, 0.15, 0.1), (0.46, 0.72, 0.05, 0.13, -0.07), (0.6, 0.86, 0.08, 0.1, 0.03)),
    14: ((0.475, 0.90, 0.032, 0.05, -0.036), (0.545, 0.89, 0.034, 0.055, 0.03)),
    15: ((0.41, 1.04, 0.05, 0.06, -0.03), (0.30, 1.07, 0.05, 0.05, 0.025)),
    17: ((0.08, 1.33, 0.14, 0.1, 0.07), (0.0, 1.17, 0.16, 0.045, -0.04)),
    20: ((0.48, 0.93, 0.08, 0.14, -0.04), (0.1, 1.27, 0.2, 0.1, -0.04)),
    23: ((0.15, 0.81, 0.18, 0.04, 0.01), (0.15, 1.04, 0.16, 0.04, 0.01)),
    24: ((0.15, 0.82, 0.2, 0.05, 0.035), (0.15, 1.02, 0.18, 0.05, 0.035), (0.38, 0.91, 0.05, 0.08, -0.03)),
    26: ((0.56, 0.76, 0.14, 0.24, -0.05), (0.0, 1.16, 0.16, 0.06, 0.05), (0.0, 1.27, 0.2, 0.05, -0.02)),
}


@lru_cache(maxsize=1)
def _bases() -> tuple[tuple[Array | None, ...], tuple[Array | None, ...]]:
    """Return the tables as arrays over cells, by side * AU: drift (h, w, 2) and relief (h, w), None if all zero."""
    x, y = grid()
    drifts, reliefs = [], []
    for sign in (-1.0, 1.0):
        side = step(-0.1, 0.1, sign * x)
        for au in RENDERED_AUS:
            drift, relief = np.zeros((*x.shape, 2), np.float32), np.zeros(x.shape, np.float32)
            for cx, cy, sx, sy, out, down in DRIFT.get(au, ()):
                bell = side * bump(sign * x, y, cx, cy, sx, sy)
                drift += np.stack([sign * out * bell, down * bell], axis=-1)
            for cx, cy, sx, sy, height in RELIEF.get(au, ()):
                relief += height * side * bump(sign * x, y, cx, cy, sx, sy)
            drifts.append(drift if au in DRIFT else None)
            reliefs.append(relief if au in RELIEF else None)
    return tuple(drifts), tuple(reliefs)


def _mixed(bases: tuple[Array | None, ...], weights: Array, shape: tuple[int, ...]) -> Array:
    """Return the weighted sum, in a fixed order: a matrix product's rounding depends on the machine."""
    total, part = np.zeros(shape, np.float32), np.empty(shape, np.float32)
    for i in np.flatnonzero(weights).tolist():
        base = bases[i]
        if base is not None:
            total += np.multiply(base, weights.flat[i], out=part)
    return total


def deform(neutral: Array, weights: Array) -> tuple[Array, Array]:
    """Apply intensities to a neutral head.

    Args:
        neutral: `geometry.base_surface` of the person.
        weights: `Expression.weights`.

    Returns:
        The head's layers (outline x, outline y, depth), and the skin's drift, each on the coarse chart.
    """
    drifts, reliefs = _bases()
    shape = neutral.shape[:2]
    layers = neutral.copy()
    layers[..., 2] += _mixed(reliefs, weights, shape)
    jaw = 0.5 * (weights[0, RENDERED_AUS.index(26)] + weights[1, RENDERED_AUS.index(26)])
    if jaw:
        layers[..., 1] *= 1 + 0.1 * jaw * step(0.5, 0.92, grid_direction()[1])
    return layers, _mixed(drifts, weights, (*shape, 2))


@dataclass(frozen=True)
class EyeShape:
    """One eye's opening in face coordinates: place, heights of the lids and of the crease, squint."""

    sign: float
    x: float
    y: float
    half: float
    upper: float
    lower: float
    crease: float
    tilt: float
    straight: float


@dataclass(frozen=True)
class MouthShape:
    """The mouth in face coordinates; pairs are (viewer's left, viewer's right)."""

    y: float
    half: tuple[float, float]
    corner: tuple[float, float]
    raise_upper: tuple[float, float]
    gap_upper: float
    gap_lower: float
    upper: tuple[float, float]
    lower: float
    pressed: float
    jaw: float
    teeth_y: float


def eye_shape(who: Identity, row: int, weights: Array) -> EyeShape:
    """Return the eye of one half of the face (0: the viewer's left)."""
    a, pull = Anatomy.of(who), Pull(weights[row])
    sign = -1.0 if row == 0 else 1.0
    upper, lower = 0.1 * a.eye_h * (1 - 0.2 * who.lids), 0.074 * a.eye_h * (1 - 0.28 * who.lids)
    squint = min(1.0, 0.3 * pull[7] + 0.35 * pull[6] + 0.06 * pull[9])
    upper_now = upper * (1 + 0.9 * pull[5]) * (1 - 0.12 * pull[7] - 0.1 * pull[6] - 0.14 * pull[4] - 0.04 * pull[9])
    lower_now = lower * (1 - 0.62 * squint) * (1 + 0.08 * pull[5])
    closed = pull[43]
    upper_now = upper_now * (1 - closed) - closed * (0.55 * lower_now)
    return EyeShape(
        sign=sign,
        x=a.eye_x,
        y=a.eye_y,
        half=a.eye_w,
        upper=upper_now,
        lower=lower_now,
        crease=upper + 0.035 + 0.02 * who.eye_fold - 0.02 * pull[4] + 0.012 * (pull[1] + pull[2]) / 2,
        tilt=0.05 + 0.1 * who.eye_tilt,
        straight=min(1.0, squint + 0.25 + 0.25 * who.lids),
    )


def mouth_shape(who: Identity, weights: Array) -> MouthShape:
    """Return the mouth."""
    a = Anatomy.of(who)
    sides = [Pull(weights[row]) for row in (0, 1)]
    mean = Pull((weights[0] + weights[1]) / 2)
    thin = (1 - 0.22 * mean[23]) * (1 - 0.6 * mean[24]) * (1 - 0.15 * mean[20])
    upper = [_upper_lip(who, pull) * thin for pull in sides]
    lower = (
        (0.125 + 0.042 * who.lip_lower) * thin * (1 - 0.28 * mean[12]) * (1 - 0.12 * mean[26]) * (1 + 0.1 * mean[17])
    )
    shut = (1 - 0.75 * mean[24]) * (1 - 0.3 * mean[23])
    part = mean[25] * shut
    open_ = min(1.0, 2 * mean[25])
    return MouthShape(
        y=a.mouth_y - 0.045 * mean[17] - 0.02 * mean[10],
        half=tuple(_half(a, pull) for pull in sides),  # type: ignore[arg-type]
        corner=tuple(_corner(who, pull, sign) for pull, sign in zip(sides, (-1.0, 1.0), strict=True)),  # type: ignore[arg-type]
        raise_upper=tuple(0.075 * p[10] + 0.012 * p[9] + 0.012 * p[12] for p in sides),  # type: ignore[arg-type]
        gap_upper=0.036 * part + 0.015 * mean[25] * mean[12],
        gap_lower=(0.075 * part + 0.235 * mean[26] * (0.45 + 0.55 * open_)) * shut * (1 - 0.2 * mean[17]),
        upper=tuple(upper),  # type: ignore[arg-type]
        lower=lower,
        pressed=max(mean[24], 0.3 * mean[23]),
        jaw=mean[26],
        teeth_y=a.mouth_y - 0.03 + 0.075 * open_,
    )


def _upper_lip(who: Identity, pull: Pull) -> float:
    return (0.094 + 0.04 * who.lip_upper) * (1 - 0.3 * pull[12]) * (1 + 0.12 * pull[10])


def _half(a: Anatomy, pull: Pull) -> float:
    wider = 0.085 * pull[12] + 0.1 * pull[20] + 0.006 * pull[14] + 0.004 * pull[15]
    return a.mouth_w + wider - 0.032 * pull[23] - 0.02 * pull[24] - 0.035 * pull[26]


def _corner(who: Identity, pull: Pull, sign: float) -> float:
    rest = -0.05 * who.mouth_corner - 0.022 * sign * who.mouth_skew
    return rest - 0.125 * pull[12] + 0.03 * pull[15] - 0.003 * pull[14] + 0.015 * pull[20] + 0.06 * pull[26]


def muscles(who: Identity, face: Expression) -> tuple[EyeShape, EyeShape, MouthShape]:
    """Return both eyes and the mouth."""
    weights = face.weights()
    return eye_shape(who, 0, weights), eye_shape(who, 1, weights), mouth_shape(who, weights)
