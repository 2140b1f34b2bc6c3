"""Empirical likelihood on a histogram of weights and rewards, so that it has constant size and merges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import special

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray, IntArray
from evaluation.moments import compensated_add, with_zero_error
from evaluation.terms import Terms

_PER_DOUBLING = 4
_SMALLEST, _LARGEST = -8, 16  # powers of 2 between which weights have bins of their own
_WEIGHT_BINS = _PER_DOUBLING * (_LARGEST - _SMALLEST) + 2
_REWARD_BINS = 8
_STEPS, _HALVINGS = 60, 40


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodHistogram:
    """Decisions by bins of weight (a quarter of a doubling each) and reward (an eighth of the range each).

    A bin keeps the count, the sum of w and the sum of w (r - low): it stands where its decisions are on average. The
    spread inside bins that is lost so is known from the exact sums of squares, and intervals are widened by it.

    Attributes:
        low: smallest reward.
        high: largest reward.
        largest_weight: the policy's bound.
        bins: sums, shape (2, 3, 98 * 8), with their rounding errors.
        squares: sums of w^2, w^2 (r - low) and w^2 (r - low)^2, shape (2, 3).
    """

    low: float
    high: float
    largest_weight: float
    bins: FloatArray
    squares: FloatArray

    @classmethod
    def empty(cls, low: float = 0.0, high: float = 1.0) -> Self:
        """No decisions yet, of a loop with rewards in [low, high]."""
        if not low < high:
            raise ValueError(f"rewards cannot lie between {low} and {high}")
        return cls(low, high, 0.0, np.zeros((2, 3, _WEIGHT_BINS * _REWARD_BINS)), np.zeros((2, 3)))

    @classmethod
    def of(cls, terms: Terms, low: float = 0.0, high: float = 1.0, repeats: IntArray | None = None) -> Self:
        """Take decisions; ``repeats``, shape (n,), says how many equal ones each of them stands for.

        Raises:
            ValueError: when a reward is outside [low, high] or a number is not finite.
        """
        empty = cls.empty(low, high)
        weight, reward = terms.weight, terms.reward - low
        if not (np.all(np.isfinite(weight)) and np.all((reward >= 0.0) & (reward <= high - low))):
            raise ValueError(f"a reward is outside [{low}, {high}] or a weight is not finite")
        with np.errstate(divide="ignore"):
            steps = np.ceil(_PER_DOUBLING * (np.log2(weight) - _SMALLEST))
        weight_bin = np.clip(steps, 0, _WEIGHT_BINS - 1).astype(np.int64)
        reward_bin = np.minimum(_REWARD_BINS - 1, (reward / (high - low) * _REWARD_BINS).astype(np.int64))
        place = weight_bin * _REWARD_BINS + reward_bin
        count = np.ones(len(weight)) if repeats is None else repeats.astype(np.float64)
        sums = [
            np.bincount(place, weights=one, minlength=empty.bins.shape[2])
            for one in (count, count * weight, count * weight * reward)
        ]
        squares = np.array([(count * weight**2 * reward**power).sum() for power in range(3)])
        largest = max(terms.largest_weight, float(weight.max(initial=0.0)))
        return cls(low, high, largest, with_zero_error(np.stack(sums)), with_zero_error(squares))

    def __add__(self, other: Self) -> Self:
        if (self.low, self.high) != (other.low, other.high):
            raise ValueError(f"rewards in [{self.low}, {self.high}] do not add to [{other.low}, {other.high}]")
        return type(self)(
            self.low,
            self.high,
            max(self.largest_weight, other.largest_weight),
            compensated_add(self.bins, other.bins),
            compensated_add(self.squares, other.squares),
        )

    def interval(self, level: float = 0.95) -> Estimate:
        """Give the values whose likelihood ratio is not rejected, with SNIPS as the estimate's value.

        The likelihood of a value v is the largest product of probabilities that decisions can have under mean weight 1
        and mean weighted reward v; -2 log of its ratio to the largest is compared with the quantile of chi^2(1). For
        each bound one decision more is assumed, with the policy's largest weight and the reward that is worst for it.
        Owen 2001, "Empirical likelihood"; Karampatziakis, Langford, Mineiro 2020, "Empirical likelihood for contextual
        bandits".

        Raises:
            ValueError: when the level is outside (0, 1).
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"interval level {level} is outside (0, 1)")
        count, weight, rewarded = self.bins[0] + self.bins[1]
        n, total, square = float(count.sum()), float(weight.sum()), float((self.squares[0] + self.squares[1])[0])
        effective = total**2 / square if square > 0.0 else 0.0
        if total <= 0.0:
            return Estimate("snips", math.nan, self.low, self.high, int(n), effective, "empirical likelihood", False)
        value = float(rewarded.sum()) / total
        seen = count > 0.0
        count, weight, rewarded = count[seen], weight[seen] / count[seen], rewarded[seen] / count[seen]
        allowed = float(special.chdtri(1, 1.0 - level))
        wider = self._lost_spread(count, weight, rewarded, value)
        span, bound = self.high - self.low, self.largest_weight
        below = _smallest_value(_added(count, 1.0), _added(weight, bound), _added(rewarded, 0.0), allowed)
        turned = weight * span - rewarded  # the weighted distance to the largest reward
        above = span - _smallest_value(_added(count, 1.0), _added(weight, bound), _added(turned, 0.0), allowed)
        low, high = value - wider * max(0.0, value - below), value + wider * max(0.0, above - value)
        return Estimate(
            "snips",
            self.low + value,
            self.low + max(0.0, low),
            self.low + min(span, high),
            int(n),
            effective,
            "empirical likelihood",
        )

    def _lost_spread(self, count: FloatArray, weight: FloatArray, rewarded: FloatArray, value: float) -> float:
        """Standard deviation of w (r - V) over what bins keep of it, at least 1."""
        zeroth, first, second = self.squares[0] + self.squares[1]
        exact = float(second - 2.0 * value * first + value**2 * zeroth)
        kept = float((count * (rewarded - value * weight) ** 2).sum())
        return math.sqrt(max(1.0, exact / kept)) if kept > 0.0 else 1.0


def _added(values: FloatArray, one: float) -> FloatArray:
    return np.append(values, one)


def _smallest_value(count: FloatArray, weight: FloatArray, rewarded: FloatArray, allowed: float) -> float:
    """Smallest mean of ``rewarded`` (>= 0) that is not rejected, by halving."""
    tilt, best = _maximised(count, np.stack([weight - 1.0]), np.zeros(1))
    probability = count / (1.0 + tilt @ np.stack([weight - 1.0])) / count.sum()
    high = max(0.0, float(probability @ rewarded) / max(1e-300, float(probability.sum())))
    low, start = 0.0, np.array([tilt[0], 0.0])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        tilt, ratio = _maximised(count, np.stack([weight - 1.0, rewarded - middle]), start)
        if 2.0 * (ratio - best) > allowed:
            low = middle
        else:
            high, start = middle, tilt
        if high - low <= 1e-6 * high:
            break
    return low


def _maximised(count: FloatArray, columns: FloatArray, start: FloatArray) -> tuple[FloatArray, float]:
    """Maximise sum_b n_b log(1 + t . x_b) over t by Newton's method; x has shape (k, b).

    Below 1 / n the logarithm goes on as a parabola, so that every t is allowed (Owen 2001, section 3.14).
    """
    least = 1.0 / float(count.sum())
    tilt, (value, slope, bend) = start, _log(1.0 + start @ columns, least)
    total = float(count @ value)
    for _ in range(_STEPS):
        gradient = columns @ (count * slope)
        hessian = (columns * (count * bend)) @ columns.T
        hessian += np.eye(len(tilt)) * 1e-12 * max(1e-300, float(np.trace(hessian)))
        step = np.linalg.solve(hessian, gradient)
        gain, size = float(gradient @ step), 1.0
        if gain < 1e-10:
            break
        while size > 1e-8:
            value, slope, bend = _log(1.0 + (tilt + size * step) @ columns, least)
            if float(count @ value) >= total + 1e-4 * size * gain:
                break
            size /= 2.0
        tilt, total = tilt + size * step, float(count @ value)
    return tilt, total


def _log(z: FloatArray, least: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The logarithm, its slope and its negative curvature, continued by a parabola below ``least``."""
    inside = np.maximum(z, least)
    beyond = np.minimum(z - least, 0.0) / least
    return np.log(inside) + beyond - beyond**2 / 2.0, (1.0 / inside) * (1.0 - beyond), 1.0 / inside**2
