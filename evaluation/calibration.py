"""Are the logged probabilities those that offers were served with? Checks that need no target policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.moments import compensated_add, with_zero_error
from evaluation.significance import DEFAULT_LIMITS, GateLimits, bonferroni_z, skewed_limit, z_score

CALIBRATION_EDGES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)


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
    """Served frequency against logged probability, for logs of whole distributions. Adds with ``+``.

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
        bucket = bucket_of(served)
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
                # A bucket whose count cannot vary (it holds whole decisions) is right or wrong for certain.
                certain = variance <= 1e-9 * actions and abs(observed - expected) > 0.5
                z = z_score(observed - expected, variance) if enough or certain else None
                low, high = CALIBRATION_EDGES[index : index + 2]
                found.append(CalibrationBucket(low, high, int(actions), expected, observed, variance, z))
        return tuple(found)


def bucket_of(probability: FloatArray) -> IntArray:
    """Number of the bucket (low, high] that each probability falls into; 0 falls into the first."""
    found = np.searchsorted(CALIBRATION_EDGES, probability, side="left") - 1
    return np.clip(found, 0, len(CALIBRATION_EDGES) - 2).astype(np.int64)


def bucket_faults(buckets: tuple[CalibrationBucket, ...], limits: GateLimits = DEFAULT_LIMITS) -> tuple[str, ...]:
    """Say which buckets were served too often or too rarely for their probabilities to be right."""
    tested = [(bucket, bucket.z) for bucket in buckets if bucket.z is not None]
    limit = bonferroni_z(limits.calibration_z, len(tested))
    return tuple(
        f"calibration: offers logged with probability {bucket.low:g} to {bucket.high:g} were served "
        f"{bucket.observed:,.0f} times where {bucket.expected:,.0f} were expected (z = {z:.1f}): propensities are wrong"
        for bucket, z in tested
        if abs(z) > (skewed_limit(limit, 1.0, bucket.variance) if z > 0.0 else limit)
    )
