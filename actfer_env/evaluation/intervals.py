"""Means with their uncertainty, and the one way in which tables show it.

What stands behind "±" differs from table to table, so every table that has one carries a line of `PLUS_MINUS`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Spread: TypeAlias = Literal["interval", "error"]

PLUS_MINUS: dict[Spread, str] = {
    "interval": "± half of the 95 % interval (Student's t)",
    "error": "± one standard error",
}
"""Meaning of "±" in words, for the line that goes with a table."""


@dataclass(frozen=True)
class Interval:
    """A mean of independent values with its standard error and 95 % interval (Student's t).

    Attributes:
        mean: Arithmetic mean; NaN without values.
        error: Standard error of the mean; infinite with fewer than two values.
        low: Lower end of the interval.
        high: Upper end.
        n: Number of values, NaN left out.
    """

    mean: float
    error: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.float64]) -> Interval:
        """Return the interval of some values, such as those of several seeds; NaN is left out.

        Args:
            values: Values, float (n,).
        """
        found = np.asarray(values, float)
        found = found[~np.isnan(found)]
        n = len(found)
        mean = float(found.mean()) if n else math.nan
        error = float(found.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf
        half = t_quantile(n - 1) * error if n > 1 else math.inf
        return cls(mean, error, mean - half, mean + half, n)

    def text(self, digits: int = 3, *, spread: Spread = "interval", scale: float = 1.0, sign: bool = False) -> str:
        """Return "mean ± spread", the mean alone where there is one value, and a dash where there is none.

        Args:
            digits: Behind the point.
            spread: Meaning of the number after "±": half of the 95 % interval, or one standard error.
            scale: Factor of both numbers, such as 100 for per cent.
            sign: Write "+" before positive means.
        """
        if not self.n:
            return "–"
        size = self.high - self.mean if spread == "interval" else self.error
        return plus_minus(scale * self.mean, scale * size if self.n > 1 else None, digits, sign=sign)

    def __str__(self) -> str:
        return self.text()


def plus_minus(mean: float, size: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return "mean ± size" for a table; the mean alone where the size is None."""
    shown = f"{mean:{'+' if sign else ''}.{digits}f}"
    return shown if size is None else f"{shown} ± {size:.{digits}f}"


def t_quantile(degrees: int, level: float = 0.95) -> float:
    """Return by how many standard errors a two-sided interval of Student's t reaches to each side.

    Args:
        degrees: Degrees of freedom, at least 1; one less than the number of values.
        level: Share of the interval, in (0, 1).
    """
    from scipy.special import stdtrit  # a twentieth of scipy.stats' import time

    return float(stdtrit(degrees, (1 + level) / 2))


def bootstrap(values: NDArray[np.float64], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean.

    Args:
        values: float (n,), independent of one another.
        draws: Samples of n values, drawn with replacement.
        seed: Random seed of the draws.
    """
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_sums(
    counts: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    draws: int = 1000, seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Return 95 % percentile bootstrap intervals of figures that follow from sums, such as F1 from counts.

    Args:
        counts: float (n, k), what each of n independent units (a sample with all its episodes) adds to k sums.
        statistic: Function from sums, float (draws, k), to figures, float (draws, m); NaN where one is undefined.
        draws: Samples of n units, drawn with replacement.
        seed: Random seed of the draws.

    Returns:
        Low and high ends, float (m,) each; NaN for a figure that is undefined in every draw.
    """
    rng, n = np.random.default_rng(seed), len(counts)
    sums = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) @ counts for _ in range(draws)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of figures that are undefined in every draw
        low, high = np.nanpercentile(statistic(sums), [2.5, 97.5], axis=0)
    return low, high
