"""What the weights and the log say about whether an estimate can be believed, and the gate that acts on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Self, TypeAlias

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.estimators import FloatArray, IntArray, Moments, compensated_add, with_zero_error

Verdict: TypeAlias = Literal["better", "worse", "not_shown", "refused"]

CALIBRATION_EDGES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class GateLimits:
    """When a verdict is refused (all but the last), or the interval is not believed (``least_effective_rewards``)."""

    mean_weight_z: float = 3.3
    mean_weight_warning_z: float = 2.0
    least_effective_sample_size: float = 100.0
    least_effective_share: float = 0.01
    most_unsupported_mass: float = 0.01
    calibration_z: float = 4.0
    least_calibration_variance: float = 25.0
    least_effective_rewards: float = 30.0


DEFAULT_LIMITS = GateLimits()


@dataclass(frozen=True, slots=True)
class WeightDiagnostics:
    """Summary of a target policy's weights on a log.

    Attributes:
        n: decisions.
        mean: mean weight; 1 in expectation when the target is supported and propensities are right.
        mean_z: (sum w - n) / sqrt(sum_i var_i), with the exact variance sum_a pi(a)^2 / p(a) - 1 under the logged
            probabilities rather than the sample's, which is blind when a rare weight was never drawn.
        largest: largest weight.
        effective_sample_size: (sum w)^2 / sum w^2.
        effective_rewards: the same over decisions whose reward is not 0: how many of those carry the estimate.
        unsupported_share: share of decisions where the target puts mass on offers that could not be logged there.
        unsupported_mass: mean of that mass; the target's value on it cannot be known from this log.
    """

    n: int
    mean: float
    mean_z: float
    largest: float
    effective_sample_size: float
    effective_rewards: float
    unsupported_share: float
    unsupported_mass: float


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Accumulator of ``WeightDiagnostics``; adds with ``+``."""

    moments: Moments
    largest: float = 0.0

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(Moments.empty(5))

    @classmethod
    def of(cls, weight: FloatArray, reward: FloatArray, mass: FloatArray, variance: FloatArray) -> Self:
        """Take decisions, each array (n,).

        Args:
            weight: pi / p of the chosen action.
            reward: the reward.
            mass: target mass on actions with a logged probability above 0, in [0, 1].
            variance: variance of the weight under the logged probabilities, sum_a pi^2 / p - mass^2.
        """
        missing = np.clip(1.0 - mass, 0.0, 1.0)
        missing[missing < 1e-9] = 0.0
        columns = (weight, np.where(reward != 0.0, weight, 0.0), missing, (missing > 0.0).astype(np.float64), variance)
        return cls(Moments.of(*columns), float(weight.max(initial=0.0)))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.moments + other.moments, max(self.largest, other.largest))

    @property
    def result(self) -> WeightDiagnostics:
        """The diagnostics of all that was added."""
        n = self.moments.count
        if n == 0:
            return WeightDiagnostics(0, math.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        weight, rewarded, missing, any_missing, variance = (float(one) for one in self.moments.sums)
        second = self.moments.second_moment
        return WeightDiagnostics(
            n=n,
            mean=weight / n,
            mean_z=z_score(weight - n, variance, scale=n),
            largest=self.largest,
            effective_sample_size=_kish(weight, float(second[0, 0])),
            effective_rewards=_kish(rewarded, float(second[1, 1])),
            unsupported_share=any_missing / n,
            unsupported_mass=missing / n,
        )


@dataclass(frozen=True, slots=True)
class CalibrationBucket:
    """Logged probabilities in (low, high]: how often such actions should have been served, and how often they were.

    ``z`` is (observed - expected) / sqrt(variance), or None where too little was expected for a normal test.
    """

    low: float
    high: float
    actions: int
    expected: float
    observed: float
    variance: float
    z: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Served frequency against logged probability; the check that needs no policy. Adds with ``+``.

    Within a decision at most one action of a bucket is served, so its count has variance P (1 - P), P the summed
    probability of the bucket's actions there. ``sums`` has shape (2, buckets, 4): actions, expected, observed and
    variance, each with its rounding error.
    """

    sums: FloatArray

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(np.zeros((2, len(CALIBRATION_EDGES) - 1, 4)))

    @classmethod
    def of(cls, row: IntArray, served: FloatArray, chosen: IntArray) -> Self:
        """Take decisions flattened to actions: their row and served probability (m,), positions of the chosen (n,)."""
        buckets, rows = len(CALIBRATION_EDGES) - 1, len(chosen)
        bucket = np.clip(np.searchsorted(CALIBRATION_EDGES, served, side="left") - 1, 0, buckets - 1)
        mass = np.bincount(row * buckets + bucket, weights=served, minlength=rows * buckets).reshape(rows, buckets)
        columns = (
            np.bincount(bucket, minlength=buckets).astype(np.float64),
            mass.sum(axis=0),
            np.bincount(bucket[chosen], minlength=buckets).astype(np.float64),
            (mass * np.clip(1.0 - mass, 0.0, 1.0)).sum(axis=0),
        )
        return cls(with_zero_error(np.stack(columns, axis=1)))

    def __add__(self, other: Self) -> Self:
        return type(self)(compensated_add(self.sums, other.sums))

    def buckets(self, limits: GateLimits = DEFAULT_LIMITS) -> tuple[CalibrationBucket, ...]:
        """The buckets that hold any action, in order of probability."""
        found = []
        for index, (actions, expected, observed, variance) in enumerate((self.sums[0] + self.sums[1]).tolist()):
            if actions:
                enough = variance >= limits.least_calibration_variance
                z = z_score(observed - expected, variance) if enough else None
                low, high = CALIBRATION_EDGES[index : index + 2]
                found.append(CalibrationBucket(low, high, int(actions), expected, observed, variance, z))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Gate:
    """A verdict on one policy against another, why, and what to watch all the same."""

    verdict: Verdict
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()


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


def log_faults(
    calibration: Sequence[CalibrationBucket], inconsistent: int, limits: GateLimits = DEFAULT_LIMITS
) -> tuple[str, ...]:
    """Say why the log itself supports no verdict; empty when it may.

    Args:
        calibration: buckets of the log.
        inconsistent: decisions whose propensity is not their distribution's probability of the chosen action.
        limits: the gate's limits.
    """
    faults = []
    if inconsistent:
        faults.append(
            f"{inconsistent:,} decisions carry a propensity that is missing, impossible or not the probability their "
            "distribution gives the chosen offer"
        )
    tested = [bucket for bucket in calibration if bucket.z is not None]
    limit = bonferroni_z(limits.calibration_z, len(tested))
    for bucket in tested:
        if bucket.z is not None and abs(bucket.z) > limit:
            faults.append(
                f"offers logged with probability {bucket.low:g} to {bucket.high:g} were served {bucket.observed:,.0f} "
                f"times where {bucket.expected:,.0f} were expected (z = {bucket.z:.1f}): propensities are wrong"
            )
    return tuple(faults)


def gate(
    weights: WeightDiagnostics, difference: Estimate, faults: Sequence[str] = (), limits: GateLimits = DEFAULT_LIMITS
) -> Gate:
    """Judge a target policy by its paired difference from another policy on the same decisions.

    Args:
        weights: the target's weights.
        difference: target minus other, with the interval that the verdict rests on.
        faults: ``log_faults``; any of them refuses.
        limits: when to refuse.
    """
    warnings: tuple[str, ...] = ()
    if limits.mean_weight_warning_z < abs(weights.mean_z) <= limits.mean_weight_z:
        warnings = (f"mean weight is {weights.mean:.3f} (z = {weights.mean_z:.1f}), 1 expected",)
    refusals = (*faults, *_weight_faults(weights, limits))
    if refusals:
        return Gate("refused", refusals, warnings)
    if difference.value == difference.low == difference.high == 0.0:
        return Gate("not_shown", ("both policies give every logged decision the same probabilities",), warnings)
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return Gate("not_shown", ("not enough data: no interval can be computed",), warnings)
    if weights.effective_rewards < limits.least_effective_rewards:
        more = _more(weights.n, weights.effective_rewards, limits.least_effective_rewards)
        reason = (
            f"not enough data: the estimate rests on {weights.effective_rewards:.1f} effective rewarded decisions, "
            f"{limits.least_effective_rewards:g} are needed for its interval to hold{more}"
        )
        return Gate("not_shown", (reason,), warnings)
    shown = f"difference {difference.value:+.4g}, interval [{difference.low:+.4g}, {difference.high:+.4g}]"
    if difference.low > 0.0:
        return Gate("better", (shown,), warnings)
    if difference.high < 0.0:
        return Gate("worse", (shown,), warnings)
    half = (difference.high - difference.low) / 2.0
    more = _more(weights.n, abs(difference.value) ** 2, half**2) if difference.value else ""
    return Gate("not_shown", (f"{shown} holds 0{more}",), warnings)


def _weight_faults(weights: WeightDiagnostics, limits: GateLimits) -> list[str]:
    faults = []
    if weights.unsupported_mass > limits.most_unsupported_mass:
        faults.append(
            f"not supported: {weights.unsupported_mass:.1%} of the policy's probability lies on offers that could not "
            f"be served (in {weights.unsupported_share:.1%} of decisions)"
        )
    if abs(weights.mean_z) > limits.mean_weight_z:
        faults.append(f"mean weight is {weights.mean:.3f} where 1 is expected (z = {weights.mean_z:.1f})")
    effective = weights.effective_sample_size
    if effective < limits.least_effective_sample_size:
        more = _more(weights.n, effective, limits.least_effective_sample_size)
        faults.append(
            f"not enough data: effective sample size {effective:.0f} of {weights.n:,} decisions, "
            f"{limits.least_effective_sample_size:g} needed{more}"
        )
    if effective < limits.least_effective_share * weights.n:
        faults.append(
            f"weights too heavy: effective sample size is {effective / weights.n:.2%} of the decisions, "
            f"{limits.least_effective_share:.0%} needed"
        )
    return faults


def _more(n: int, have: float, need: float) -> str:
    """How many more decisions it would take if what is had grows with n; empty when nothing is had yet."""
    if not 0.0 < have < need or n * need / have > 1e12:
        return ""
    more = n * (need / have - 1.0)
    rounded = round(more, 1 - math.floor(math.log10(more))) if more >= 1.0 else 1.0
    return f"; about {rounded:,.0f} more decisions like these would tell"


def _kish(total: float, square: float) -> float:
    return total**2 / square if square > 0.0 else 0.0
