"""Cressie-Read empirical likelihood: intervals that know that weights have mean 1."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray
from evaluation.interval_sums import IntervalSums


def cressie_read_interval(sums: IntervalSums, low: float = 0.0, high: float = 1.0, level: float = 0.95) -> Estimate:
    """Give the interval of the values that distributions near the log's could have, with mean weight 1.

    Distributions q on the n decisions and one that was not seen, with E_q[w] = 1, are near when n^2 sum_i (q_i - 1/n)^2
    exceeds its least value by no more than the quantile of F(1, n); the interval is the range of E_q[w r]. Its middle
    is IPS with the weights as a control variate. The unseen decision has the reward that is worst for the bound and
    weight 0 or the *policy's* largest, whichever is worse, rather than the largest weight that was seen.
    Karampatziakis, Langford, Mineiro 2020, "Empirical likelihood for contextual bandits"; CR(-2), which needs moments
    only.

    The estimate's value is that of SNIPS, for which this interval is meant.

    Raises:
        ValueError: when the level is outside (0, 1), a reward outside [low, high], or the columns of snips are missing.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"interval level {level} is outside (0, 1)")
    sums.reach.check_rewards(low, high)
    point = sums.point("snips")
    if not math.isfinite(point.value):
        return Estimate("snips", point.value, low, high, point.n, point.effective_sample_size, "cressie-read", False)
    places = [sums.columns.names.index(name) for name in ("weight", "weighted_reward")]
    totals = sums.moments.moments.sums[places]
    squares = sums.moments.moments.second_moment[np.ix_(places, places)]
    bound = sums.reach.largest_weight
    below = _lowest(point.n, totals, squares, bound, low, level)
    turned = np.array([1.0, -1.0])
    above = -_lowest(point.n, totals * turned, squares * np.outer(turned, turned), bound, -high, level)
    return Estimate(
        "snips",
        point.value,
        min(point.value, max(low, below)),
        max(point.value, min(high, above)),
        point.n,
        point.effective_sample_size,
        "cressie-read",
    )


def _lowest(n: int, totals: FloatArray, squares: FloatArray, bound: float, reward: float, level: float) -> float:
    """Smallest E_q[w r]: sums of (w, w r) and of their products, with one more decision of that reward."""
    allowed = float(special.stdtrit(n, 0.5 + level / 2.0)) ** 2
    nearest = _distance(n, totals, squares, bound if totals[0] < n else 0.0, reward)
    found = -math.inf
    candidates = []
    for weight in (0.0, bound):
        left = allowed + nearest - _distance(n, totals, squares, weight, reward)
        mean, covariance = _with_one_more(n, totals, squares, weight, reward)
        if left < 0.0 or covariance[0, 0] <= 0.0:
            continue
        slope = covariance[0, 1] / covariance[0, 0]
        rest = max(0.0, covariance[1, 1] - slope * covariance[0, 1])
        candidates.append(mean[1] + (1.0 - mean[0]) * slope - math.sqrt(rest * left / (n + 1)))
    return float(min(candidates)) if candidates else found


def _with_one_more(
    n: int, totals: FloatArray, squares: FloatArray, weight: float, reward: float
) -> tuple[FloatArray, FloatArray]:
    row = np.array([weight, weight * reward])
    mean = (totals + row) / (n + 1)
    return mean, (squares + np.outer(row, row)) / (n + 1) - np.outer(mean, mean)


def _distance(n: int, totals: FloatArray, squares: FloatArray, weight: float, reward: float) -> float:
    """How far the nearest distribution with mean weight 1 is."""
    mean, covariance = _with_one_more(n, totals, squares, weight, reward)
    if covariance[0, 0] <= 0.0:
        return 0.0 if abs(mean[0] - 1.0) < 1e-12 else math.inf
    return float((n + 1) * (1.0 - mean[0]) ** 2 / covariance[0, 0])
