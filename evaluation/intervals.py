"""Intervals around point estimates: normal (delta method where self-normalised) and Poisson bootstrap."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Self

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.estimators import FloatArray, IntArray, PointEstimator, compensated_add, with_zero_error

BUCKETS = 4096


def normal_interval(estimator: PointEstimator, name: str, level: float = 0.95) -> Estimate:
    """Give value +- z standard_error, two-sided.

    UNDERCOVERS when few rewarded decisions carry weight, because the terms are skewed and the spread is itself
    estimated from those few: at a 1% reward rate, 5% exploration and 5,000 decisions a 95% interval holds the truth
    only 69% of the time, and less when the target's mass lies on explored offers alone. Measured by the number of
    effective rewarded decisions (``WeightDiagnostics.effective_rewards``) its coverage is 0.83 at 5, 0.92 at 20, 0.93
    at 30 and 0.94 at 50; the gate gives no verdict below 30. It is for one look at a fixed log, not for a page that is
    watched all day.

    Raises:
        ValueError: when the level is outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"interval level {level} is outside (0, 1)")
    value, error = estimator.value, estimator.standard_error
    half = NormalDist().inv_cdf(0.5 + level / 2.0) * error
    return Estimate(name, value, value - half, value + half, estimator.n, estimator.effective_sample_size)


def hash_ids(decision_ids: Sequence[str]) -> IntArray:
    """Hash decision ids to 63-bit integers that are the same on every machine, shape (n,)."""
    # The personalisation keeps them independent of the draws, which hash the same ids.
    digests = (hashlib.blake2b(one.encode(), digest_size=8, person=b"evaluation").digest() for one in decision_ids)
    return np.fromiter((int.from_bytes(digest, "big") >> 1 for digest in digests), np.int64, len(decision_ids))


@lru_cache(maxsize=2)
def _poisson_weights(replicates: int, seed: int) -> FloatArray:
    weights = np.random.default_rng(seed).poisson(1.0, (replicates, BUCKETS)).astype(np.float64)
    weights.setflags(write=False)
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class PoissonBootstrap:
    """Column sums by bucket of the decision id, from which any number of replicates can be drawn at the end.

    Decision i falls into bucket h(id_i) mod 4096; in replicate b every bucket gets a weight ~ Poisson(1), and a ratio's
    replicate is sum_j W_bj num_j / sum_j W_bj den_j, so self-normalised estimators (den = w) renormalise in each one
    and means (den = count) have their number of decisions resampled. Constant size, no draw per row, merges with ``+``.
    Oza and Russell 2001, "Online bagging and boosting"; Chamandy et al. 2012, "Estimating uncertainty for massive data
    streams".

    A percentile interval follows the skew that the normal one ignores, but it too UNDERCOVERS when the log holds few
    rewarded decisions with weight: what was never drawn cannot be resampled.

    ``sums`` has shape (2, 4096, 1 + k): the count of rows, then the k columns; each with its rounding error.
    """

    sums: FloatArray

    @classmethod
    def empty(cls, columns: int) -> Self:
        """No rows of so many columns."""
        return cls(np.zeros((2, BUCKETS, 1 + columns)))

    @classmethod
    def of(cls, hashes: IntArray, *columns: FloatArray) -> Self:
        """Take rows: ``hash_ids`` of their decision ids and k columns, each (n,)."""
        bucket = hashes % BUCKETS
        sums = [np.bincount(bucket, minlength=BUCKETS).astype(np.float64)]
        sums.extend(np.bincount(bucket, weights=one, minlength=BUCKETS).astype(np.float64) for one in columns)
        return cls(with_zero_error(np.stack(sums, axis=1)))

    def __add__(self, other: Self) -> Self:
        return type(self)(compensated_add(self.sums, other.sums))

    def intervals(
        self, *ratios: tuple[int, int], level: float = 0.95, replicates: int = 1000, seed: int = 0
    ) -> list[tuple[float, float]]:
        """Give the percentile interval (low, high) of each ratio of sums.

        Args:
            ratios: pairs (numerator, denominator) of columns; column 0 is the count.
            level: in (0, 1).
            replicates: how many to draw; those without a denominator are left out.
            seed: the same seed draws the same weights for any log, so intervals of two policies are comparable.

        Returns:
            One pair per ratio; (nan, nan) when no replicate has a value.
        """
        drawn: FloatArray = _poisson_weights(replicates, seed) @ (self.sums[0] + self.sums[1])
        return [_percentiles(drawn[:, numerator], drawn[:, denominator], level) for numerator, denominator in ratios]


def _percentiles(above: FloatArray, below: FloatArray, level: float) -> tuple[float, float]:
    values = above[below != 0.0] / below[below != 0.0]
    if values.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(values, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return float(low), float(high)
