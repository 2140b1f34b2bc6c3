"""Empirical Bernstein interval: valid for every n and every log, and wide for it."""

from __future__ import annotations

import math

from contextual_bandit.types import Estimate
from evaluation.interval_sums import IntervalSums


def bernstein_interval(
    sums: IntervalSums, estimator: str, low: float = 0.0, high: float = 1.0, level: float = 0.95
) -> Estimate:
    """Give value +- [ sqrt(2 v ln(4 / a) / n) + 7 R ln(4 / a) / (3 (n - 1)) ] with a = 1 - level, inside [low, high].

    v is the sample variance of the terms and R their range, which the policy's weight bound gives: it is never taken
    from the largest weight seen. Maurer and Pontil 2009, "Empirical Bernstein bounds and sample variance penalization",
    theorem 4, for each side with a / 2. Exact for estimators that are means (ips, clipped_ips, dr, switch_dr, dros,
    mrdr) with a model fitted elsewhere, by the delta method for the self-normalised.

    Raises:
        ValueError: when the level is outside (0, 1), the estimator unknown or without its columns, or a reward outside
            [low, high].
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"interval level {level} is outside (0, 1)")
    point = sums.point(estimator)
    if point.n < 2 or not math.isfinite(point.value):
        return Estimate(estimator, point.value, low, high, point.n, point.effective_sample_size, "bernstein", False)
    seen = sums.influence(estimator, low, high)
    log = math.log(4.0 / (1.0 - level))
    half = math.sqrt(2.0 * seen.squares / (seen.n - 1) * log / seen.n)
    half += 7.0 * (seen.most - seen.least) * log / (3.0 * (seen.n - 1))
    below, above = max(low, seen.value - half), min(high, seen.value + half)
    return Estimate(estimator, seen.value, below, above, seen.n, seen.effective_sample_size, "bernstein")
