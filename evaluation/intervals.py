"""Intervals around point estimates: normal (delta method where self-normalised) and Poisson bootstrap."""

from __future__ import annotations

from statistics import NormalDist

from contextual_bandit.types import Estimate
from evaluation.estimators import PointEstimator


def normal_interval(estimator: PointEstimator, name: str, level: float = 0.95) -> Estimate:
    """Give value +- z standard_error, two-sided.

    UNDERCOVERS when few rewarded decisions carry weight, because the terms are skewed and the spread is itself
    estimated from those few: at a 1% reward rate, 5% exploration and 5,000 decisions a 95% interval holds the truth
    only 69% of the time, and less when the target's mass lies on explored offers alone. Measured by the number of
    effective rewarded decisions (``WeightDiagnostics.effective_rewards``) its coverage is 0.83 at 5, 0.92 at 20, 0.93
    at 30 and 0.94 at 50; the gate gives no verdict below 30. It is for one look at a fixed log, not for a page that is
    watched all day. Reports show ``default_interval``, which does not undercover; this one is what others are compared
    with.

    Raises:
        ValueError: when the level is outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"interval level {level} is outside (0, 1)")
    value, error = estimator.value, estimator.standard_error
    half = NormalDist().inv_cdf(0.5 + level / 2.0) * error
    return Estimate(name, value, value - half, value + half, estimator.n, estimator.effective_sample_size)
