"""How far chance may go: the limits of the gate, and the scores that are held against them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class GateLimits:
    """When a verdict is refused, and when a log or its interval is not believed.

    Attributes:
        mean_weight_z: the mean weight is refused beyond it.
        mean_weight_warning_z: and warned of beyond this.
        least_effective_sample_size: decisions, drawn or expected.
        least_effective_share: of the log's decisions.
        most_unsupported_mass: of the target's probability, in [0, 1].
        calibration_z: of one family of calibration tests; Bonferroni shares it among them.
        least_calibration_variance: what is tested must have been expected at least so variably.
        least_effective_rewards: for a normal interval to be believed; other intervals say ``reliable`` themselves.
        drift_p: probability by chance below which a change of rewards is warned of.
        sample_ratio_z: the holdout's share of customers is refused beyond it.
    """

    mean_weight_z: float = 3.3
    mean_weight_warning_z: float = 2.0
    least_effective_sample_size: float = 100.0
    least_effective_share: float = 0.01
    most_unsupported_mass: float = 0.01
    calibration_z: float = 4.0
    least_calibration_variance: float = 25.0
    least_effective_rewards: float = 30.0
    drift_p: float = 0.001
    sample_ratio_z: float = 3.3


DEFAULT_LIMITS = GateLimits()


def z_score(difference: float, variance: float, scale: float = 1.0) -> float:
    """Give difference / sqrt(variance); 0 if it is mere rounding (1e-9 of ``scale``), inf if no variance allows it.

    >>> z_score(6.0, 4.0), z_score(0.0, 0.0)
    (3.0, 0.0)
    """
    if abs(difference) <= 1e-9 * scale:
        return 0.0
    return difference / math.sqrt(variance) if variance > 0.0 else math.copysign(math.inf, difference)


def bonferroni_z(z: float, tests: int) -> float:
    """Two-sided limit that keeps the false alarms of one test at ``z`` over so many tests.

    >>> round(bonferroni_z(4.0, 10), 2)
    4.51
    """
    tail = math.erfc(z / math.sqrt(2.0)) / 2.0
    return -NormalDist().inv_cdf(tail / max(1, tests))


def skewed_limit(z: float, largest: float, variance: float) -> float:
    """Upper limit of a z score whose terms are skewed to the right, from the limit ``z`` of a normal one.

    z + (z^2 - 1) / 6 * skewness, the first term of Cornish and Fisher 1938, "Moments and cumulants in the
    specification of distributions". The skewness of a sum of independent centred terms is at most largest /
    sqrt(variance), as each third moment is at most the largest term times its variance.

    Args:
        z: the limit if the sum were normal.
        largest: largest possible term.
        variance: of the sum.

    >>> round(skewed_limit(4.0, 1.0, 25.0), 2)
    4.5
    """
    return z + (z * z - 1.0) / 6.0 * (largest / math.sqrt(variance)) if variance > 0.0 else z


def more_decisions(n: int, have: float, need: float) -> str:
    """Say how many more decisions it would take if what is had grows with n; empty when nothing is had yet.

    >>> more_decisions(1000, 50.0, 100.0)
    '; about 1,000 more decisions like these would tell'
    """
    if not 0.0 < have < need or n * need / have > 1e12:
        return ""
    more = n * (need / have - 1.0)
    rounded = round(more, 1 - math.floor(math.log10(more))) if more >= 1.0 else 1.0
    return f"; about {rounded:,.0f} more decisions like these would tell"
