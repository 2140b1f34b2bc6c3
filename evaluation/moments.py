"""Sums and co-moments of columns that come out the same for any split of the rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray

# Rows worked on at once, so that what is computed on the way stays in the processor's cache.
_BLOCK = 8192


def compensated_add(left: FloatArray, right: FloatArray) -> FloatArray:
    """Add two sums of shape (2, ...), each a rounded sum and the error lost so far (Knuth 1969, TwoSum)."""
    high = left[0] + right[0]
    from_right = high - left[0]
    error = (left[0] - (high - from_right)) + (right[0] - from_right)
    return np.stack((high, left[1] + right[1] + error))


def with_zero_error(sums: FloatArray) -> FloatArray:
    """Start a compensated sum: shape (...) becomes (2, ...)."""
    return np.stack((sums, np.zeros_like(sums)))


def _centred_products(table: FloatArray, mean: FloatArray, slope: FloatArray | None) -> FloatArray:
    """Sums of products of the columns (k, n) about their means (k, 1), less the slopes' multiples of column 0."""
    width, count = table.shape
    sloped = [] if slope is None else [(place, float(one)) for place, one in enumerate(slope) if one != 0.0]
    products = np.zeros((width, width))
    scratch = np.empty((width, min(count, _BLOCK)))
    for start in range(0, count, _BLOCK):
        part = table[:, start : start + _BLOCK]
        centred = np.subtract(part, mean, out=scratch[:, : part.shape[1]])
        for place, one in sloped:
            centred[place] -= one * centred[0]
        products += centred @ centred.T
    return products


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
        return cls.of_table(np.stack([np.asarray(column, dtype=np.float64) for column in columns]))

    @classmethod
    def of_table(cls, table: FloatArray, slope: FloatArray | None = None) -> Self:
        """Take k columns as the rows of a table, shape (k, n).

        Args:
            table: the columns.
            slope: of shape (k,), makes column j x_j - slope_j x_0; 0 for column 0 itself.

        Raises:
            ValueError: when a number is not finite.
        """
        width, count = table.shape
        if count == 0:
            return cls.empty(width)
        # Of any number that is not finite the sum is not finite either, and one pass is saved.
        with np.errstate(invalid="ignore", over="ignore"):
            sums = table.sum(axis=1)
        if not np.all(np.isfinite(sums)):
            raise ValueError("rewards, probabilities and predictions must be finite, and their sums too")
        comoment = _centred_products(table, (sums / count)[:, np.newaxis], slope)
        if slope is not None:
            sums = sums - slope * sums[0]
        return cls(count, with_zero_error(sums), with_zero_error(comoment))

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

    def mapped(self, matrix: FloatArray) -> Self:
        """The moments of other columns, ``matrix`` times these: shape (k', k) makes k' of k."""
        return type(self)(self.count, self.total @ matrix.T, matrix @ self.comoment @ matrix.T)

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
