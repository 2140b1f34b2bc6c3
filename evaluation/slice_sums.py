"""Sums of one slice of a log, from which every policy's value and paired difference follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray, IntArray
from evaluation.moments import compensated_add, with_zero_error
from evaluation.terms import Terms

# Columns of a policy: numerator and denominator of its value and of the value compared with, the products of these
# four, then weight, weight^2, and the same of decisions whose reward is not 0.
_PRODUCTS = [(one, other) for one in range(4) for other in range(one, 4)]
_WEIGHTS = 4 + len(_PRODUCTS)
_COLUMNS = _WEIGHTS + 4


@dataclass(frozen=True, slots=True, eq=False)
class SliceSums:
    """A slice's sums; adds with ``+``, and a part can be taken out with ``-``.

    A value is a ratio sum(above) / sum(below): of doubly robust terms over decisions, or of weighted rewards over
    weights. Its variance is linearised, that of a difference with the covariance of the two values, which are of the
    same decisions (Sarndal, Swensson, Wretman 1992, Model assisted survey sampling, section 5.5).

    ``sums`` has shape (2, policies, 18), each sum with its rounding error.
    """

    policies: tuple[str, ...]
    n: int
    sums: FloatArray

    @classmethod
    def by_group(
        cls,
        group: IntArray,
        groups: int,
        above: Mapping[str, FloatArray],
        below: Mapping[str, FloatArray],
        weight: Mapping[str, FloatArray],
        terms: Mapping[str, Terms],
        against: str,
    ) -> list[Self]:
        """Take decisions, each array (n,), and give the sums of each group; -1 is none.

        Args:
            group: of each decision.
            groups: how many there are.
            above: numerator terms by policy.
            below: denominator terms by policy.
            weight: by policy.
            terms: whose rewards say which decisions carry an estimate.
            against: the policy compared with.
        """
        mine = group >= 0
        code = group[mine]
        counts = np.bincount(code, minlength=groups)
        sums = np.empty((groups, len(above), _COLUMNS))
        for place, name in enumerate(above):
            four = [one[mine] for one in (above[name], below[name], above[against], below[against])]
            heavy = weight[name][mine]
            rewarded = np.where(terms[name].reward[mine] != 0.0, heavy, 0.0)
            columns = [*four, *(four[one] * four[other] for one, other in _PRODUCTS)]
            columns += [heavy, heavy**2, rewarded, rewarded**2]
            for column, values in enumerate(columns):
                sums[:, place, column] = np.bincount(code, values, minlength=groups)
        names = tuple(above)
        return [cls(names, int(n), with_zero_error(one)) for n, one in zip(counts.tolist(), sums, strict=True)]

    def __add__(self, other: Self) -> Self:
        return type(self)(self.policies, self.n + other.n, compensated_add(self.sums, other.sums))

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.policies, self.n - other.n, compensated_add(self.sums, -other.sums))

    def enough(self, least_decisions: int, least_effective: float) -> frozenset[str]:
        """Policies whose value can be told here: enough decisions, and enough of them effective and rewarded.

        Those without a reward among effective ones are told nothing of: a normal interval of no rewards has no width.
        """
        if self.n < least_decisions:
            return frozenset()
        totals = self.sums[0] + self.sums[1]
        return frozenset(
            name
            for place, name in enumerate(self.policies)
            if min(self._effective(totals[place], 0), self._effective(totals[place], 2)) >= least_effective
        )

    def value(self, policy: str, level: float) -> Estimate:
        """A policy's value with a normal interval."""
        totals = self._totals(policy)
        return self._estimate("value", totals, (1.0, 0.0), level)

    def difference(self, policy: str, level: float) -> Estimate:
        """A policy's value minus the one compared with, paired, with a normal interval."""
        return self._estimate("difference", self._totals(policy), (1.0, -1.0), level)

    def _totals(self, policy: str) -> FloatArray:
        return np.asarray((self.sums[0] + self.sums[1])[self.policies.index(policy)])

    def _estimate(self, name: str, totals: FloatArray, signs: tuple[float, float], level: float) -> Estimate:
        one = float(totals[0] / totals[1])
        other = float(totals[2] / totals[3]) if totals[3] > 0.0 else 0.0
        # The influence of a decision is gradient . (above, below, other above, other below).
        gradient = np.zeros(4)
        gradient[:2] = np.array([1.0, -one]) * signs[0] / totals[1]
        if signs[1]:
            gradient[2:] = np.array([1.0, -other]) * signs[1] / totals[3]
        variance = sum(
            gradient[i] * gradient[j] * totals[4 + index] * (1.0 if i == j else 2.0)
            for index, (i, j) in enumerate(_PRODUCTS)
        )
        value = signs[0] * one + signs[1] * other
        half = NormalDist().inv_cdf(0.5 + level / 2.0) * math.sqrt(max(0.0, float(variance)))
        return Estimate(name, value, value - half, value + half, self.n, self._effective(totals, 0))

    def _effective(self, totals: FloatArray, offset: int) -> float:
        weight, square = float(totals[_WEIGHTS + offset]), float(totals[_WEIGHTS + offset + 1])
        return weight**2 / square if square > 0.0 else 0.0
