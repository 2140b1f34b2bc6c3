"""What intervals need of a log: sums of constant size, under one policy or under two at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.columns import DEFAULT_HYPERPARAMETERS, Column, Columns, Hyperparameters
from evaluation.estimators import ESTIMATORS, RatioEstimator
from evaluation.ratio_sums import Point, RatioSums
from evaluation.reach import Gaps, Reach
from evaluation.terms import Terms
from evaluation.third_moments import ThirdMoments

_WEIGHT_LEFT_OUT: Mapping[Column, Callable[[FloatArray, Hyperparameters], FloatArray]] = {
    "clipped_reward": lambda weight, chosen: np.maximum(0.0, weight - chosen.clip),
    "switch_correction": lambda weight, chosen: np.where(weight > chosen.switch_tau, weight, 0.0),
    "shrunk_correction": lambda weight, chosen: weight**3 / (weight**2 + chosen.dros_lambda),
}


def _left_out(columns: Columns) -> list[Column]:
    return [name for name in columns.names if name in _WEIGHT_LEFT_OUT]


@dataclass(frozen=True, slots=True)
class Influence:
    """How single decisions move a value: all that an interval is computed from.

    Attributes:
        value: the estimate.
        centre: mean influence; equal to ``value`` for estimators that are means.
        squares: sum of (influence - centre)^2.
        cubes: sum of (influence - centre)^3.
        n: number of decisions.
        effective_sample_size: as in ``Point``.
        least: smallest influence that a decision could have had.
        most: largest.
    """

    value: float
    centre: float
    squares: float
    cubes: float
    n: int
    effective_sample_size: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, eq=False)
class IntervalSums:
    """What intervals need of a log under one policy: of constant size, adds with ``+``.

    Attributes:
        columns: of the estimators that intervals are wanted for (``columns_of``).
        hyperparameters: that these columns were computed with.
        moments: of the columns.
        reward: moments of the rewards.
        bias: moments of the weight that clipped, switching and shrinking estimators leave out, one column each.
        reach: the most extreme decisions that were possible.
    """

    columns: Columns
    hyperparameters: Hyperparameters
    moments: ThirdMoments
    reward: ThirdMoments
    bias: ThirdMoments
    reach: Reach

    @classmethod
    def empty(cls, columns: Columns, hyperparameters: Hyperparameters = DEFAULT_HYPERPARAMETERS) -> Self:
        """No decisions yet."""
        moments, bias = ThirdMoments.empty(len(columns.names)), ThirdMoments.empty(len(_left_out(columns)))
        return cls(columns, hyperparameters, moments, ThirdMoments.empty(1), bias, Reach())

    @classmethod
    def of(
        cls,
        columns: Columns,
        terms: Terms,
        hyperparameters: Hyperparameters = DEFAULT_HYPERPARAMETERS,
        repeats: IntArray | None = None,
    ) -> Self:
        """Take decisions; ``repeats``, shape (n,), says how many equal ones each of them stands for.

        Raises:
            ValueError: when a number is not finite, a weight is above the largest possible one, or ``mrdr`` is asked
                for and there are no predictions for it.
        """
        without = [_WEIGHT_LEFT_OUT[name](terms.weight, hyperparameters) for name in _left_out(columns)]
        return cls(
            columns,
            hyperparameters,
            ThirdMoments.of_table(columns.table(terms, hyperparameters), repeats),
            ThirdMoments.of_table(terms.reward[np.newaxis], repeats),
            ThirdMoments.of_table(np.array(without).reshape(len(without), len(terms.weight)), repeats),
            Reach.of(terms),
        )

    def __add__(self, other: Self) -> Self:
        if (self.columns, self.hyperparameters) != (other.columns, other.hyperparameters):
            raise ValueError(f"sums of {self.columns.names} do not add to sums of {other.columns.names}")
        return type(self)(
            self.columns,
            self.hyperparameters,
            self.moments + other.moments,
            self.reward + other.reward,
            self.bias + other.bias,
            self.reach + other.reach,
        )

    def point(self, estimator: str) -> Point:
        """Value, standard error and sample sizes.

        Raises:
            ValueError: when the estimator is unknown or its columns are missing.
        """
        kind = self.kind(estimator)
        sums = RatioSums(self.columns, self.moments.moments, np.zeros(len(self.columns.names)))
        return sums.point(kind.ratios, weighted=kind.weighted)

    def kind(self, estimator: str) -> type[RatioEstimator]:
        """The class of an estimator whose columns these sums have.

        Raises:
            ValueError: when the estimator is unknown or its columns are missing.
        """
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator {estimator!r} is not among {', '.join(ESTIMATORS)}")
        kind = ESTIMATORS[estimator]
        if missing := [above for above, _ in kind.ratios if above not in self.columns.names]:
            raise ValueError(f"the sums have no column {missing[0]!r}, which estimator {estimator!r} needs")
        return kind

    def direction(self, estimator: str) -> FloatArray:
        """Direction in the columns along which a decision moves the value, shape (k,); see ``RatioSums.point``."""
        totals, n = self.moments.moments.sums, self.moments.moments.count
        direction = np.zeros(len(totals))
        for above, below in self.kind(estimator).ratios:
            place = self.columns.names.index(above)
            divisor = float(totals[0]) if below == "weight" else float(n)
            direction[place] += n / divisor
            if below == "weight":
                direction[0] -= float(totals[place]) / divisor * n / divisor
        return direction

    def influence(self, estimator: str, low: float, high: float, unseen_weight: float | None = None) -> Influence:
        """How decisions move the value, and how they could have.

        Args:
            estimator: a key of ``ESTIMATORS``.
            low: smallest reward of the loop.
            high: largest.
            unseen_weight: largest weight of the extremes ``least`` and ``most``; by default the largest possible one.

        Raises:
            ValueError: when the estimator is unknown, its columns are missing, or a reward of the log is outside.
        """
        self.reach.check_rewards(low, high)
        point, direction = self.point(estimator), self.direction(estimator)
        bound = self.reach.largest_weight if unseen_weight is None else unseen_weight
        reach = replace(self.reach, largest_weight=bound)
        corners = direction @ reach.corners(self.columns, self.hyperparameters, low, high)
        return _influence(self.moments, direction, corners, point.value, point)

    @property
    def typical_large_weight(self) -> float:
        """Weight of the decision that may not have been drawn: (sum w^3 + W^3) / (sum w^2 + W^2), W the largest.

        Where the variance comes from, weights are this large on average. On a log that holds few large ones it is W,
        and so it is where all large ones are alike; it is less where only a few of many could have W.
        """
        moments, largest = self.moments.moments, self.reach.largest_weight
        if moments.count == 0 or largest <= 0.0:
            return largest
        mean, second = float(moments.mean[0]), float(moments.second_moment[0, 0])
        centred = float((self.moments.third[0] + self.moments.third[1])[0, 0, 0])
        third = max(0.0, centred + 3.0 * mean * second - 2.0 * moments.count * mean**3)
        return min(largest, (third + largest**3) / (second + largest**2))

    @property
    def variance_of_reward(self) -> float:
        """Variance of the logged rewards, over n."""
        moments = self.reward.moments
        return float((moments.comoment[0] + moments.comoment[1])[0, 0]) / max(1, moments.count)

    def weight_scale(self, estimator: str) -> float:
        """What a weight counts in the value: 1, or n / sum w where the estimator divides by the weights."""
        normalised = any(below == "weight" for _, below in self.kind(estimator).ratios)
        return self.moments.moments.count / float(self.moments.moments.sums[0]) if normalised else 1.0

    def weight_left_out(self, estimator: str) -> float:
        """Mean weight that the estimator does not use, or might not have used: a bound on its bias per unit of reward.

        What was not seen may still make up 3 / n of the decisions (Jovanovic and Levy 1997, "A look at the rule of
        three").
        """
        names, n = _left_out(self.columns), max(1, self.moments.moments.count)
        largest = np.array([self.reach.largest_weight])
        total = 0.0
        for above, _ in self.kind(estimator).ratios:
            if above in names:
                unseen = float(_WEIGHT_LEFT_OUT[above](largest, self.hyperparameters)[0])
                total += float(self.bias.moments.mean[names.index(above)]) + 3.0 * unseen / n
        return total


@dataclass(frozen=True, slots=True, eq=False)
class PairedIntervalSums:
    """What intervals of a difference need of a log under two policies: of constant size, adds with ``+``.

    Attributes:
        one: sums of the first policy.
        other: sums of the second on the same decisions.
        moments: of both policies' columns, the first's before the second's.
        gaps: how far the policies can be apart on one decision.
    """

    one: IntervalSums
    other: IntervalSums
    moments: ThirdMoments
    gaps: Gaps

    @classmethod
    def empty(cls, columns: Columns, hyperparameters: Hyperparameters = DEFAULT_HYPERPARAMETERS) -> Self:
        """No decisions yet."""
        nothing = IntervalSums.empty(columns, hyperparameters)
        return cls(nothing, nothing, ThirdMoments.empty(2 * len(columns.names)), Gaps())

    @classmethod
    def of(
        cls,
        columns: Columns,
        terms: Terms,
        against: Terms,
        hyperparameters: Hyperparameters = DEFAULT_HYPERPARAMETERS,
        gap: tuple[float, float] | None = None,
        repeats: IntArray | None = None,
    ) -> Self:
        """Take decisions as two policies see them.

        Args:
            columns: of the estimators that differences are wanted for.
            terms: under the first policy.
            against: under the second; the same decisions in the same order.
            hyperparameters: of both.
            gap: smallest and largest value of pi(a) / p(a) - pi'(a) / p(a) over logged actions. Without it the two
                largest weights are taken, which is too much for policies that agree nearly everywhere.
            repeats: how many equal decisions each one stands for.

        Raises:
            ValueError: as ``IntervalSums.of``, when the rewards differ, or when the gap is exceeded.
        """
        if not np.array_equal(terms.reward, against.reward):
            raise ValueError("the two policies were not given the same decisions: rewards differ")
        table = np.vstack([columns.table(one, hyperparameters) for one in (terms, against)])
        return cls(
            IntervalSums.of(columns, terms, hyperparameters, repeats),
            IntervalSums.of(columns, against, hyperparameters, repeats),
            ThirdMoments.of_table(table, repeats),
            Gaps.of(terms, against, gap or (-against.largest_weight, terms.largest_weight)),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.one + other.one, self.other + other.other, self.moments + other.moments, self.gaps + other.gaps
        )

    def influence(self, estimator: str, low: float, high: float) -> Influence:
        """How decisions move the difference of the values; sample sizes are those of the first policy.

        The extremes are those of weights that are as large as ``IntervalSums.typical_large_weight``.

        Raises:
            ValueError: as ``IntervalSums.influence``.
        """
        self.one.reach.check_rewards(low, high)
        point, value = self.one.point(estimator), self.other.point(estimator).value
        one, other = self.one.direction(estimator), -self.other.direction(estimator)
        reach, chosen = self.one.reach + self.other.reach, self.one.hyperparameters
        shares = [
            one.typical_large_weight / one.reach.largest_weight if one.reach.largest_weight > 0.0 else 1.0
            for one in (self.one, self.other)
        ]
        gaps = replace(self.gaps, weight=(self.gaps.weight[0] * shares[1], self.gaps.weight[1] * shares[0]))
        tables = gaps.corners(reach, self.one.columns, chosen, low, high)
        corners = one @ tables[0] + other @ tables[1]
        return _influence(self.moments, np.concatenate((one, other)), corners, point.value - value, point)

    @property
    def squared_gap(self) -> float:
        """Sum of the squared differences of the weights."""
        other = len(self.one.columns.names)
        second = self.moments.moments.second_moment
        return max(0.0, float(second[0, 0] - 2.0 * second[0, other] + second[other, other]))


def _influence(
    moments: ThirdMoments, direction: FloatArray, corners: FloatArray, value: float, point: Point
) -> Influence:
    squares, cubes = moments.along(direction)
    centre = float(direction @ moments.moments.mean)
    least, most = min(centre, float(corners.min())), max(centre, float(corners.max()))
    return Influence(value, centre, squares, cubes, point.n, point.effective_sample_size, least, most)
