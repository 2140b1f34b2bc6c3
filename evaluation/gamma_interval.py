"""The gamma interval: a mean of skewed, bounded terms of which only a few are large."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from scipy import special

from evaluation.arrays import FloatArray

Numbers: TypeAlias = FloatArray | float

UNSEEN = 0.6
"""How much of one decision with the most extreme term is added, because none of it may have been drawn yet.

One whole decision is exact for equal terms (Garwood 1936) and covers 0.97 where 0.95 was asked for. With 0.6 and
``MISSES`` the coverage of a Poisson mean is 0.938 at its lowest (a mean near 3 terms) and 0.968 on average.
"""

MISSES = 0.8
"""The part of the allowed misses that is used up: the rest is for what three moments leave out."""

_NORMAL_FROM = 1e6


def gamma_interval(
    mean: Numbers, squares: Numbers, cubes: Numbers, n: Numbers, least: Numbers, most: Numbers, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Give a two-sided interval (low, high) of the expectation of bounded terms.

    The sum of the terms is taken for a shifted multiple of a Poisson number with the sum's first three moments, and the
    gamma distribution gives the bounds of its mean, as it does for a plain Poisson count (Garwood 1936, "Fiducial
    limits for the Poisson distribution"). For each bound a part of one decision with the extreme term is added first:
    on a log with few rewarded decisions the largest may be missing, and then the spread is underestimated as well. With
    terms >= 0 and two moments this is Fay and Feuer 1997, "Confidence intervals for directly standardized rates". With
    many terms of weight it becomes the normal interval. It is an approximation without a proof for finite n:
    docs/INTERVALS.md has its measured coverage.

    All arguments broadcast.

    Args:
        mean: of the n terms x.
        squares: sum (x - mean)^2, >= 0.
        cubes: sum (x - mean)^3.
        n: number of decisions, > 0.
        least: smallest term that a decision could have had which was not drawn.
        most: largest such term.
        level: in (0, 1).

    Raises:
        ValueError: when the level is outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"interval level {level} is outside (0, 1)")
    quantile = 1.0 - MISSES * (1.0 - level) / 2.0
    above = _half(squares, cubes, np.maximum(0.0, np.asarray(most) - mean), quantile)
    below = _half(squares, -np.asarray(cubes), np.maximum(0.0, np.asarray(mean) - least), quantile)
    return np.asarray(mean - below / n), np.asarray(mean + above / n)


def _half(squares: Numbers, cubes: Numbers, extreme: FloatArray, quantile: float) -> FloatArray:
    """How far above its sum the mean of n terms may lie, times n; >= 0."""
    variance = np.asarray(squares) + UNSEEN * extreme**2
    skew = np.asarray(cubes) + UNSEEN * extreme**3
    z = float(special.ndtri(quantile))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        step = np.where(variance > 0.0, skew / variance, 0.0)  # the size of one Poisson step
        steps = np.where(step != 0.0, variance / step**2, np.inf)  # how many were seen
        few = steps < _NORMAL_FROM
        drawn = special.gammaincinv(np.where(few, steps, 1.0), np.where(step > 0.0, quantile, 1.0 - quantile))
        exact = step * (drawn - steps)
        nearly_normal = np.sqrt(variance) * z + step * (z**2 - 1.0) / 3.0
    return np.asarray(np.maximum(0.0, UNSEEN * extreme + np.where(few, exact, nearly_normal)))
