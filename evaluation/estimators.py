"""Point estimators of a policy's value as accumulators of constant size that add with ``+``.

Notation: decision i was logged with reward r_i and propensity p_i of its chosen action; the target policy gives that
action probability pi_i, so its weight is w_i = pi_i / p_i. Every estimator keeps the count, compensated sums and
centred co-moments of a few columns per decision, so that any split of a log gives the same result to 1e-9 relative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]


class PointEstimator(Protocol):
    """What an interval needs from an estimator."""

    @property
    def n(self) -> int:
        """Number of decisions."""

    @property
    def value(self) -> float:
        """Estimated mean reward per decision; nan when the log cannot give one."""

    @property
    def standard_error(self) -> float:
        """Standard error of ``value``; inf below two decisions."""

    @property
    def effective_sample_size(self) -> float:
        """Number of equally weighted decisions that would carry the same information."""


def compensated_add(left: FloatArray, right: FloatArray) -> FloatArray:
    """Add two sums of shape (2, ...), each a rounded sum and the error lost so far (Knuth 1969, TwoSum)."""
    high = left[0] + right[0]
    from_right = high - left[0]
    error = (left[0] - (high - from_right)) + (right[0] - from_right)
    return np.stack((high, left[1] + right[1] + error))


def with_zero_error(sums: FloatArray) -> FloatArray:
    """Start a compensated sum: shape (...) becomes (2, ...)."""
    return np.stack((sums, np.zeros_like(sums)))


def importance_weights(propensity: FloatArray, target: FloatArray) -> FloatArray:
    """Return w = pi / p, shape (n,).

    Raises:
        ValueError: when a propensity is outside (0, 1] or a target probability outside [0, 1].
    """
    if not np.all((propensity > 0.0) & (propensity <= 1.0 + 1e-9)):
        raise ValueError("a logged propensity is outside (0, 1]")
    if not np.all((target >= 0.0) & (target <= 1.0 + 1e-9)):
        raise ValueError("a target probability is outside [0, 1]")
    return target / propensity


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, sums and centred co-moments of k columns, merged pairwise.

    M = M_a + M_b + (m_b - m_a)(m_b - m_a)^T n_a n_b / (n_a + n_b)  (Chan, Golub, LeVeque 1979, "Updating formulae and
    a pairwise algorithm for computing sample variances"). Centring keeps the variance exact where mean >> spread.
    ``total`` has shape (2, k) and ``comoment`` (2, k, k): the sum and its rounding error.
    """

    count: int
    total: FloatArray
    comoment: FloatArray

    @classmethod
    def empty(cls, columns: int) -> Self:
        """No rows of so many columns."""
        return cls(0, np.zeros((2, columns)), np.zeros((2, columns, columns)))

    @classmethod
    def of(cls, *columns: FloatArray) -> Self:
        """Take k columns of shape (n,).

        Raises:
            ValueError: when a number is not finite.
        """
        rows = np.stack([np.asarray(column, dtype=np.float64) for column in columns])
        if not np.all(np.isfinite(rows)):
            raise ValueError("rewards, probabilities and predictions must be finite")
        width, count = rows.shape
        if count == 0:
            return cls.empty(width)
        sums = rows.sum(axis=1)
        centred = rows - (sums / count)[:, np.newaxis]
        return cls(count, with_zero_error(sums), with_zero_error(centred @ centred.T))

    def __add__(self, other: Self) -> Self:
        if self.count == 0:
            return other
        if other.count == 0:
            return self
        count = self.count + other.count
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.count * (other.count / count))
        comoment = compensated_add(compensated_add(self.comoment, other.comoment), with_zero_error(between))
        return type(self)(count, compensated_add(self.total, other.total), comoment)

    @property
    def sums(self) -> FloatArray:
        """Column sums, shape (k,)."""
        return np.asarray(self.total[0] + self.total[1])

    @property
    def mean(self) -> FloatArray:
        """Column means, shape (k,); nan without rows."""
        return self.sums / self.count if self.count else np.full(self.total.shape[1], math.nan)

    @property
    def second_moment(self) -> FloatArray:
        """Sums of products, not centred, shape (k, k)."""
        centred: FloatArray = self.comoment[0] + self.comoment[1]
        return centred + np.outer(self.mean, self.mean) * self.count if self.count else centred

    @property
    def covariance(self) -> FloatArray:
        """Sample covariance with n - 1, shape (k, k); inf below two rows."""
        if self.count < 2:
            return np.full(self.comoment.shape[1:], math.inf)
        return np.asarray((self.comoment[0] + self.comoment[1]) / (self.count - 1))


def _effective(weights: Moments) -> float:
    """Kish's effective sample size (sum w)^2 / sum w^2 of column 0 (Kish 1965, Survey Sampling)."""
    square = float(weights.second_moment[0, 0])
    return float(weights.sums[0]) ** 2 / square if square > 0.0 else 0.0


def _mean_error(moments: Moments, column: int) -> float:
    if moments.count < 2:
        return math.inf
    return math.sqrt(max(0.0, float(moments.covariance[column, column])) / moments.count)


@dataclass(frozen=True, slots=True, eq=False)
class Ips:
    """Inverse propensity scoring: V = (1/n) sum_i w_i r_i, unbiased when propensities are exact.

    Horvitz and Thompson 1952, "A generalization of sampling without replacement from a finite universe".

    >>> log = Ips.of(reward=np.array([1.0, 0.0]), propensity=np.array([0.5, 0.5]), target=np.array([1.0, 0.0]))
    >>> log.value, log.effective_sample_size
    (1.0, 1.0)
    """

    moments: Moments

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(Moments.empty(2))

    @classmethod
    def of(cls, reward: FloatArray, propensity: FloatArray, target: FloatArray) -> Self:
        """Take decisions: reward, logged propensity and target probability of the chosen action, each (n,)."""
        weight = importance_weights(propensity, target)
        return cls(Moments.of(weight, weight * reward))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.moments + other.moments)

    @property
    def n(self) -> int:
        """Number of decisions."""
        return self.moments.count

    @property
    def value(self) -> float:
        """Estimated mean reward per decision."""
        return float(self.moments.mean[1])

    @property
    def standard_error(self) -> float:
        """Standard deviation of w r over sqrt(n)."""
        return _mean_error(self.moments, 1)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2."""
        return _effective(self.moments)


@dataclass(frozen=True, slots=True, eq=False)
class Snips:
    """Self-normalised IPS: V = sum_i w_i r_i / sum_i w_i; bias of order 1/n, less variance, inside the rewards' range.

    Swaminathan and Joachims 2015, "The self-normalized estimator for counterfactual learning".

    >>> log = Snips.of(np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.25, 0.5]), np.array([0.5, 0.5, 0.5]))
    >>> log.value
    0.5
    """

    moments: Moments

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(Moments.empty(2))

    @classmethod
    def of(cls, reward: FloatArray, propensity: FloatArray, target: FloatArray) -> Self:
        """Take decisions: reward, logged propensity and target probability of the chosen action, each (n,)."""
        weight = importance_weights(propensity, target)
        return cls(Moments.of(weight, weight * reward))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.moments + other.moments)

    @property
    def n(self) -> int:
        """Number of decisions."""
        return self.moments.count

    @property
    def value(self) -> float:
        """Estimated mean reward per decision; nan when no decision carries weight."""
        weight, rewarded = self.moments.sums
        return float(rewarded / weight) if weight > 0.0 else math.nan

    @property
    def standard_error(self) -> float:
        """Delta method: sqrt(var(w (r - V)) / n) / mean(w)."""
        weight = float(self.moments.sums[0])
        if self.n < 2 or weight <= 0.0:
            return math.inf
        covariance, value = self.moments.covariance, self.value
        variance = covariance[1, 1] - 2.0 * value * covariance[0, 1] + value**2 * covariance[0, 0]
        return math.sqrt(max(0.0, float(variance)) / self.n) * self.n / weight

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2."""
        return _effective(self.moments)


@dataclass(frozen=True, slots=True, eq=False)
class DirectMethod:
    """Direct method: V = (1/n) sum_i sum_a pi(a|x_i) q(x_i, a).

    As good as the reward model and no better: its standard error knows nothing of the model's bias, so its interval is
    for comparison only and no verdict rests on it. Beygelzimer and Langford 2009, "The offset tree".
    """

    moments: Moments

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(Moments.empty(1))

    @classmethod
    def of(cls, q_target: FloatArray) -> Self:
        """Take decisions: the model's mean reward under the target, sum_a pi(a) q(a), shape (n,)."""
        return cls(Moments.of(q_target))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.moments + other.moments)

    @property
    def n(self) -> int:
        """Number of decisions."""
        return self.moments.count

    @property
    def value(self) -> float:
        """Predicted mean reward per decision."""
        return float(self.moments.mean[0])

    @property
    def standard_error(self) -> float:
        """Spread of the predictions only; leaves out the model's bias."""
        return _mean_error(self.moments, 0)

    @property
    def effective_sample_size(self) -> float:
        """Every decision counts fully, as no weights are used."""
        return float(self.n)


@dataclass(frozen=True, slots=True, eq=False)
class DoublyRobust:
    """Doubly robust: V = (1/n) sum_i [ sum_a pi(a|x_i) q(x_i, a) + w_i (r_i - q(x_i, a_i)) ].

    Unbiased when propensities are exact, whatever q (as long as q was not fitted on decision i); the better q, the less
    variance. With q = 0 it is IPS. Dudik, Langford, Li 2011, "Doubly robust policy evaluation and learning".

    >>> log = DoublyRobust.of(*(np.array([x]) for x in (1.0, 0.5, 1.0, 0.25, 0.25)))
    >>> log.value
    1.75
    """

    moments: Moments

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(Moments.empty(2))

    @classmethod
    def of(
        cls, reward: FloatArray, propensity: FloatArray, target: FloatArray, q_chosen: FloatArray, q_target: FloatArray
    ) -> Self:
        """Take decisions, each array (n,): q of the chosen action and sum_a pi(a) q(a) beside the inputs of IPS."""
        weight = importance_weights(propensity, target)
        return cls(Moments.of(weight, q_target + weight * (reward - q_chosen)))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.moments + other.moments)

    @property
    def n(self) -> int:
        """Number of decisions."""
        return self.moments.count

    @property
    def value(self) -> float:
        """Estimated mean reward per decision."""
        return float(self.moments.mean[1])

    @property
    def standard_error(self) -> float:
        """Standard deviation of the terms over sqrt(n)."""
        return _mean_error(self.moments, 1)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 of the correction's weights."""
        return _effective(self.moments)


@dataclass(frozen=True, slots=True, eq=False)
class PairedDifference:
    """Difference of two policies' doubly robust terms on the same decisions: mean_i (term_i - other_i).

    Pairing cancels what both share: two equal policies differ by exactly 0, with no interval to argue about.
    """

    moments: Moments

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(Moments.empty(2))

    @classmethod
    def of(cls, weight: FloatArray, term: FloatArray, other: FloatArray) -> Self:
        """Take decisions, each array (n,): the target's weight, its doubly robust term and the other policy's."""
        return cls(Moments.of(weight, term - other))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.moments + other.moments)

    @property
    def n(self) -> int:
        """Number of decisions."""
        return self.moments.count

    @property
    def value(self) -> float:
        """Mean reward per decision that the target earns more."""
        return float(self.moments.mean[1])

    @property
    def standard_error(self) -> float:
        """Standard deviation of the paired differences over sqrt(n)."""
        return _mean_error(self.moments, 1)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 of the target."""
        return _effective(self.moments)
