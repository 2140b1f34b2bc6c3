"""The interval that reports show: for every estimator, and for the difference of two policies on the same decisions."""

from __future__ import annotations

import math
from statistics import NormalDist

from contextual_bandit.types import Estimate
from evaluation.gamma_interval import gamma_interval
from evaluation.interval_sums import Influence, IntervalSums, PairedIntervalSums

WIDEST = 2.5
"""An interval wider than so many normal ones is not believed: it says how large one weight can be, and no more.

The normal one's variance is itself estimated from few rewards. Of intervals that are twice as wide as one with the true
variance, this limit marks some and leaves some; of those at 1.5 it marks few, of those at 2.6 nearly all.
"""

LARGEST_BIAS = 0.1
"""The part of the half-width that a bound on the estimator's bias may have."""

OWN_EXPECTATION = "gamma, own expectation"


def default_interval(
    sums: IntervalSums, estimator: str, low: float = 0.0, high: float = 1.0, level: float = 0.95
) -> Estimate:
    """Give the value by one estimator with an interval for one look at a fixed log.

    The interval is ``gamma_interval`` of the decisions' influences on the value (the terms themselves for means, the
    delta method for ratios). The decision that may not have been drawn has the worst reward and prediction and the
    policy's largest weight, or a smaller one where hardly any could have that (``typical_large_weight``).
    docs/INTERVALS.md has the measured coverage.

    ``reliable`` is False, and no verdict should rest on the interval, when

    - it is more than ``WIDEST`` times as wide as a normal one whose variance is the log's or, if that is more, what the
      log's weights and rewards lead one to expect: there are too few rewarded decisions with weight;
    - the estimator is biased (``dm`` always; clipped, switching and shrinking ones when the weight that they leave out
      could move the value by more than ``LARGEST_BIAS`` of the half-width): the interval is then about the estimator's
      own expectation and not about the policy's value, and its name says so.

    Args:
        sums: of the log.
        estimator: a key of ``ESTIMATORS`` whose columns the sums have.
        low: smallest reward of the loop.
        high: largest reward.
        level: in (0, 1).

    Raises:
        ValueError: when the estimator is unknown or its columns are missing, the level is outside (0, 1), or a reward
            of the log is outside [low, high].
    """
    point = sums.point(estimator)
    if not math.isfinite(point.value):
        return Estimate(estimator, point.value, low, high, point.n, point.effective_sample_size, "gamma", False)
    seen = sums.influence(estimator, low, high, sums.typical_large_weight)
    expected = sums.moments.moments.second_moment[0, 0] * sums.variance_of_reward * sums.weight_scale(estimator) ** 2
    bias = _bias(sums, estimator, high - low)
    return _estimate(estimator, seen, (low, high), float(expected), bias, level)


def default_difference(
    sums: PairedIntervalSums, estimator: str, low: float = 0.0, high: float = 1.0, level: float = 0.95
) -> Estimate:
    """Give the first policy's value minus the second's on the same decisions, otherwise as ``default_interval``.

    Pairing takes out what both share: two equal policies differ by 0. The effective sample size is the first policy's.

    Raises:
        ValueError: as ``default_interval``.
    """
    name, span = f"{estimator} difference", high - low
    point, value = sums.one.point(estimator), sums.other.point(estimator).value
    if not math.isfinite(point.value - value):
        return Estimate(name, math.nan, -span, span, point.n, point.effective_sample_size, "gamma", False)
    expected = sums.squared_gap * sums.one.variance_of_reward
    expected *= sums.one.weight_scale(estimator) * sums.other.weight_scale(estimator)
    bias = _bias(sums.one, estimator, span) + _bias(sums.other, estimator, span)
    return _estimate(name, sums.influence(estimator, low, high), (-span, span), expected, bias, level)


def _estimate(
    name: str, seen: Influence, limits: tuple[float, float], expected: float, bias: float, level: float
) -> Estimate:
    """The gamma interval, inside the limits but never without the value."""
    bounds = gamma_interval(seen.centre, seen.squares, seen.cubes, seen.n, seen.least, seen.most, level)
    below, above = (float(one) + seen.value - seen.centre for one in bounds)
    low, high = min(seen.value, max(limits[0], below)), max(seen.value, min(limits[1], above))
    normal = 2.0 * NormalDist().inv_cdf(0.5 + level / 2.0) * math.sqrt(max(seen.squares, expected)) / seen.n
    biased = bias > LARGEST_BIAS * (high - low) / 2.0
    reliable = seen.n >= 2 and not biased and high - low <= WIDEST * normal * (1.0 + 1e-9)
    method = OWN_EXPECTATION if biased else "gamma"
    return Estimate(name, seen.value, low, high, seen.n, seen.effective_sample_size, method, reliable)


def _bias(sums: IntervalSums, estimator: str, span: float) -> float:
    """Bound on the bias; inf where nothing bounds it."""
    return span * sums.weight_left_out(estimator) if sums.kind(estimator).weighted else math.inf
