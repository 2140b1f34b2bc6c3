"""Sums of columns, and from them any value that is a sum of ratios, with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.columns import Columns, Ratio
from evaluation.moments import Moments


@dataclass(frozen=True, slots=True)
class Point:
    """A point estimate: what an interval needs of it.

    Attributes:
        n: number of decisions.
        value: estimated mean reward per decision; nan when the log cannot give one.
        standard_error: of ``value``; inf below two decisions, or without a value.
        effective_sample_size: number of equally weighted decisions that would carry the same information.
    """

    n: int
    value: float
    standard_error: float
    effective_sample_size: float


@dataclass(frozen=True, slots=True, eq=False)
class RatioSums:
    """Moments of columns, of constant size; adds with ``+``, and any split of a log gives the same to 1e-9 relative.

    Of a column that is divided by the weights, a multiple of the weights is taken out before moments are formed
    (``slope``: about its ratio to the weights). Otherwise the error of w r - V w would be a small difference of large
    numbers when rewards are large beside their spread.

    ``slope`` has shape (k,): column j is kept as x_j - slope_j w.
    """

    columns: Columns
    moments: Moments
    slope: FloatArray

    @classmethod
    def empty(cls, columns: Columns) -> Self:
        """No decisions yet."""
        return cls(columns, Moments.empty(len(columns.names)), np.zeros(len(columns.names)))

    @classmethod
    def of(cls, columns: Columns, table: FloatArray) -> Self:
        """Take decisions: ``columns.table(...)``, shape (k, n).

        Raises:
            ValueError: when a number is not finite.
        """
        slope = np.zeros(len(columns.names))
        total = float(table[0].sum())
        if columns.normalised and 0.0 < total < math.inf:
            with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused by the moments
                for place in columns.normalised:
                    slope[place] = table[place].sum() / total
        return cls(columns, Moments.of_table(table, slope if columns.normalised else None), slope)

    def __add__(self, other: Self) -> Self:
        if self.columns != other.columns:
            raise ValueError(f"sums of {self.columns.names} do not add to sums of {other.columns.names}")
        if self.moments.count >= other.moments.count:
            return type(self)(self.columns, self.moments + other._sloped(self.slope), self.slope)
        return type(self)(self.columns, self._sloped(other.slope) + other.moments, other.slope)

    def _sloped(self, slope: FloatArray) -> Moments:
        if np.array_equal(slope, self.slope):
            return self.moments
        matrix = np.eye(len(slope))
        matrix[:, 0] += self.slope - slope
        return self.moments.mapped(matrix)

    def point(self, ratios: Sequence[Ratio], *, weighted: bool = True) -> Point:
        """Give the sum of these ratios, with a standard error by the delta method.

        V = sum_k V_k with V_k = sum_i x_ki / sum_i d_ki; its error is that of the mean of the decisions' influences
        sum_k (x_ki - V_k d_ki) / mean(d_k) (Cochran 1977, "Sampling Techniques", section 2.11). For plain means it is
        the standard deviation over sqrt(n).

        Args:
            ratios: of columns that these sums have.
            weighted: whether the weights decide the effective sample size, (sum w)^2 / sum w^2 (Kish 1965, "Survey
                Sampling"); otherwise every decision counts fully.
        """
        n, sums = self.moments.count, self.moments.sums
        influence = np.zeros(len(sums))
        value = 0.0
        for above, below in ratios:
            place = self.columns.names.index(above)
            divisor = float(sums[0]) if below == "weight" else float(n)
            if divisor <= 0.0:
                return Point(n, math.nan, math.inf, self._effective() if weighted else float(n))
            # The column is x = kept + slope w; with d = w its slope need not be added to be taken away again.
            rest, slope = float(sums[place]) / divisor, float(self.slope[place])
            influence[place] += n / divisor
            if below == "weight":
                value += slope + rest
                influence[0] -= rest * n / divisor
            else:
                value += slope * float(sums[0]) / divisor + rest
                influence[0] += slope
        return Point(n, value, self._error(influence), self._effective() if weighted else float(n))

    def _error(self, influence: FloatArray) -> float:
        if self.moments.count < 2:
            return math.inf
        variance = float(influence @ self.moments.covariance @ influence)
        return math.sqrt(max(0.0, variance) / self.moments.count)

    def _effective(self) -> float:
        square = float(self.moments.second_moment[0, 0])
        return float(self.moments.sums[0]) ** 2 / square if square > 0.0 else 0.0
