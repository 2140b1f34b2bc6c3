"""A target policy's weights on a log: how heavy they are, and how much of the policy the log cannot know."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.importance import importance_weights
from evaluation.moments import Moments, compensated_add, with_zero_error
from evaluation.significance import z_score

# Ten bars a decade; weights of 0, those below the first edge and those above the last have a bar each.
EDGES = np.array([10.0 ** (step / 10) for step in range(-40, 41)])
TAIL = 0.01
HEAVY = 10.0
# Where the chosen actions' propensities alone are known, smaller ones were there and not drawn: so many times smaller.
NOT_DRAWN = 3.0


@dataclass(frozen=True, slots=True)
class WeightBar:
    """Weights in (low, high]: how many decisions, and which shares of the sums of w and of w^2 they hold."""

    low: float
    high: float
    count: int
    share: float
    square_share: float


@dataclass(frozen=True, slots=True)
class WeightDiagnostics:
    """Summary of a target policy's weights on a log.

    Attributes:
        n: decisions.
        mean: mean weight; 1 in expectation when the target is supported and propensities are right.
        mean_z: (sum w - n) / sqrt(variance). With the logged distributions the variance is exact, the sum of
            sum_a pi(a)^2 / p(a) - mass^2, as the sample's is blind when a rare weight was never drawn. Without them
            it is the sample's, and what is missing from n counts as draws of the heaviest weight there could be.
        largest: largest weight.
        effective_sample_size: (sum w)^2 / sum w^2.
        effective_rewards: the same over decisions whose reward is not 0: how many of those carry the estimate.
        unsupported_share: share of decisions where the target puts mass on offers that could not be logged there.
        unsupported_mass: mean of that mass; the target's value on it cannot be known from this log.
        expected_effective_sample_size: n^2 / (n + variance), whether or not the heavy weights were drawn.
        largest_possible: largest weight that any decision could have had; without the logged distributions, the
            target's largest probability over a third of the log's least propensity.
        variance: of the sum of weights, as in ``mean_z``.
        propensity_z: as ``mean_z``, against the supported mass in place of 1: only wrong propensities move it. None
            without the logged distributions.
        tail_share: share of the sum of w that the heaviest 1% of decisions hold.
        tail_square_share: their share of the sum of w^2, which is what the spread of an estimate comes from.
        heavy_share: share of the sum of w that weights above 10 hold.
        heavy_square_share: their share of the sum of w^2.
        bars: histogram of the weights.
    """

    n: int
    mean: float
    mean_z: float
    largest: float
    effective_sample_size: float
    effective_rewards: float
    unsupported_share: float
    unsupported_mass: float
    expected_effective_sample_size: float = math.inf
    largest_possible: float = 0.0
    variance: float = 0.0
    propensity_z: float | None = None
    tail_share: float = 0.0
    tail_square_share: float = 0.0
    heavy_share: float = 0.0
    heavy_square_share: float = 0.0
    bars: tuple[WeightBar, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class WeightHistogram:
    """Weights by size; adds with ``+``. ``sums`` has shape (2, bars, 3): count, sum of w, sum of w^2."""

    sums: FloatArray

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(np.zeros((2, len(EDGES) + 2, 3)))

    @classmethod
    def of(cls, weight: FloatArray) -> Self:
        """Take weights >= 0, (n,)."""
        bar = np.where(weight > 0.0, np.searchsorted(EDGES, weight, side="left") + 1, 0)
        columns = (np.ones_like(weight), weight, weight**2)
        return cls(
            with_zero_error(np.stack([np.bincount(bar, one, minlength=len(EDGES) + 2) for one in columns], axis=1))
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(compensated_add(self.sums, other.sums))

    @property
    def totals(self) -> FloatArray:
        """Sums by bar, (bars, 3)."""
        return np.asarray(self.sums[0] + self.sums[1])

    def bars(self) -> tuple[WeightBar, ...]:
        """The bars that hold any decision, in order of weight."""
        ends = [0.0, 0.0, *EDGES.tolist(), math.inf]
        totals = self.totals
        _, total, square = np.maximum(totals.sum(axis=0), np.finfo(np.float64).tiny)
        return tuple(
            WeightBar(ends[index], ends[index + 1], int(count), float(w / total), float(w2 / square))
            for index, (count, w, w2) in enumerate(totals.tolist())
            if count
        )

    def heavier_than(self, weight: float) -> tuple[float, float]:
        """Shares of the sums of w and w^2 above a weight that is an edge (exact) or lies between two (the next up)."""
        above = self.totals[int(np.searchsorted(EDGES, weight, side="left")) + 2 :]
        return self._shares(above.sum(axis=0))

    def heaviest(self, share: float = TAIL) -> tuple[float, float]:
        """Shares of the sums of w and w^2 that the heaviest share of decisions holds, to within one bar's width."""
        falling = self.totals[::-1]
        counts = falling[:, 0]
        left = np.clip(share * counts.sum() - (np.cumsum(counts) - counts), 0.0, counts)
        part = np.divide(left, counts, out=np.zeros_like(counts), where=counts > 0.0)
        return self._shares(part @ falling)

    def _shares(self, part: FloatArray) -> tuple[float, float]:
        whole = self.totals.sum(axis=0)
        if not whole[1] > 0.0:
            return 0.0, 0.0
        return float(part[1] / whole[1]), float(part[2] / whole[2])


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Accumulator of ``WeightDiagnostics``; adds with ``+``.

    Columns of ``moments``: weight, weight of a rewarded decision, unsupported mass, whether there is any, variance.
    """

    moments: Moments
    histogram: WeightHistogram = field(default_factory=WeightHistogram.empty)
    largest: float = 0.0
    largest_possible: float = 0.0
    most_wanted: float = 0.0
    least_propensity: float = 1.0
    is_exact: bool = True

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(Moments.empty(5))

    @classmethod
    def of(
        cls,
        weight: FloatArray,
        reward: FloatArray,
        mass: FloatArray,
        variance: FloatArray | None,
        *,
        largest_possible: float = 0.0,
        most_wanted: float = 1.0,
        least_propensity: float = 1.0,
    ) -> Self:
        """Take decisions, each array (n,).

        Args:
            weight: pi / p of the chosen action.
            reward: the reward.
            mass: target mass on actions with a logged probability above 0, in [0, 1].
            variance: of the weight under the logged probabilities, sum_a pi^2 / p - mass^2; None when they are not
                known.
            largest_possible: largest pi / p of any action of these decisions, where known.
            most_wanted: largest target probability of any action.
            least_propensity: smallest propensity.
        """
        missing = np.clip(1.0 - mass, 0.0, 1.0)
        missing[missing < 1e-9] = 0.0
        columns = (
            weight,
            np.where(reward != 0.0, weight, 0.0),
            missing,
            (missing > 0.0).astype(np.float64),
            np.zeros_like(weight) if variance is None else variance,
        )
        largest = float(weight.max(initial=0.0))
        return cls(
            Moments.of(*columns),
            WeightHistogram.of(weight),
            largest,
            max(largest, largest_possible),
            most_wanted,
            least_propensity,
            variance is not None,
        )

    @classmethod
    def of_chunk(cls, chunk: Chunk, target: FloatArray) -> Self:
        """Take a chunk's decisions under a target policy's probabilities of its pairs, (m,).

        Raises:
            ValueError: when a propensity is outside (0, 1] or a target probability of a chosen action outside [0, 1].
        """
        weight = importance_weights(chunk.propensity, target[chunk.chosen])
        if chunk.served is None:
            # A log of the chosen actions alone does not tell how much the target wanted of others.
            return cls.of(
                weight,
                chunk.reward,
                np.ones(chunk.n) if chunk.is_flat else chunk.per_decision(target),
                None,
                most_wanted=float(target.max(initial=0.0)),
                least_propensity=float(chunk.propensity.min(initial=1.0)),
            )
        supported = chunk.served > 0.0
        ratio = np.divide(target, chunk.served, out=np.zeros_like(target), where=supported)
        mass = chunk.per_decision(np.where(supported, target, 0.0))
        variance = np.maximum(0.0, chunk.per_decision(target * ratio) - mass**2)
        return cls.of(weight, chunk.reward, mass, variance, largest_possible=float(ratio.max(initial=0.0)))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.moments + other.moments,
            self.histogram + other.histogram,
            max(self.largest, other.largest),
            max(self.largest_possible, other.largest_possible),
            max(self.most_wanted, other.most_wanted),
            min(self.least_propensity, other.least_propensity),
            self.is_exact and other.is_exact,
        )

    @property
    def result(self) -> WeightDiagnostics:
        """The diagnostics of all that was added."""
        n = self.moments.count
        if n == 0:
            return WeightDiagnostics(0, math.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        weight, rewarded, missing, any_missing, _ = (float(one) for one in self.moments.sums)
        second = self.moments.second_moment
        variance, largest_possible = self._spread(weight)
        return WeightDiagnostics(
            n,
            weight / n,
            z_score(weight - n, variance, scale=n),
            self.largest,
            _kish(weight, float(second[0, 0])),
            _kish(rewarded, float(second[1, 1])),
            any_missing / n,
            missing / n,
            n * n / (n + variance),
            largest_possible,
            variance,
            z_score(weight - (n - missing), variance, scale=n) if self.is_exact else None,
            *self.histogram.heaviest(),
            *self.histogram.heavier_than(HEAVY),
            self.histogram.bars(),
        )

    def _spread(self, weight: float) -> tuple[float, float]:
        """Variance of the sum of weights, and the largest weight that could be."""
        n = self.moments.count
        if self.is_exact:
            return float(self.moments.sums[4]), self.largest_possible
        largest_possible = max(self.largest, NOT_DRAWN * self.most_wanted / self.least_propensity)
        sampled = float(self.moments.covariance[0, 0]) * n if n > 1 else 0.0
        # What is missing may be heavy weights that were not drawn: so many of them, each with its own square.
        return sampled + max(0.0, n - weight) * largest_possible, largest_possible


def _kish(total: float, square: float) -> float:
    return total**2 / square if square > 0.0 else 0.0
