"""Clopper-Pearson intervals of rewards that are 0 or 1."""

from __future__ import annotations

import numpy as np
from scipy import special

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray
from evaluation.interval_sums import IntervalSums


def clopper_pearson(
    successes: FloatArray | float, n: FloatArray | float, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Give the exact two-sided interval of a probability; successes need not be whole, arguments broadcast.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".

    Raises:
        ValueError: when the level is outside (0, 1), or successes outside [0, n].
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"interval level {level} is outside (0, 1)")
    count, trials = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if np.any((count < 0.0) | (count > trials)):
        raise ValueError(f"{successes} successes are outside [0, {n}]")
    miss = (1.0 - level) / 2.0
    inside = np.maximum(count, 1e-300), np.maximum(trials - count, 1e-300)
    low = np.where(count > 0.0, special.betaincinv(inside[0], trials - count + 1.0, miss), 0.0)
    high = np.where(count < trials, special.betaincinv(count + 1.0, inside[1], 1.0 - miss), 1.0)
    return low, high


def binomial_interval(sums: IntervalSums, level: float = 0.95) -> Estimate:
    """Give the interval of IPS for rewards in {0, 1}: n draws with (sum w r) / W successes, times the weight bound W.

    Exact when every positive weight equals W (a policy with one action under a logger that explores evenly), and wide
    when most are smaller, as each of the terms w r is taken for the fraction w / W of a success.

    Raises:
        ValueError: when the level is outside (0, 1), a reward outside [0, 1], or the columns of ips are missing.
    """
    sums.reach.check_rewards(0.0, 1.0)
    point, bound = sums.point("ips"), sums.reach.largest_weight
    if point.n == 0 or bound <= 0.0:
        return Estimate("ips", point.value, 0.0, 1.0, point.n, point.effective_sample_size, "clopper-pearson", False)
    low, high = clopper_pearson(min(float(point.n), point.value * point.n / bound), point.n, level)
    above = max(point.value, min(1.0, float(high) * bound))
    return Estimate(
        "ips", point.value, float(low) * bound, above, point.n, point.effective_sample_size, "clopper-pearson"
    )
