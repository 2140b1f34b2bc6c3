"""How far the terms of a decision could have gone, seen or not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.columns import Columns, Hyperparameters
from evaluation.terms import Terms


def _seen(values: FloatArray | None) -> tuple[float, float]:
    return (0.0, 0.0) if values is None or len(values) == 0 else (float(values.min()), float(values.max()))


def _wider(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


@dataclass(frozen=True, slots=True)
class Reach:
    """The largest weight that was possible, and the smallest and largest rewards and predictions; adds with ``+``.

    Each pair is (smallest, largest); of no decisions (inf, -inf).
    """

    largest_weight: float = 0.0
    reward: tuple[float, float] = (math.inf, -math.inf)
    q_chosen: tuple[float, float] = (math.inf, -math.inf)
    q_target: tuple[float, float] = (math.inf, -math.inf)
    mrdr_chosen: tuple[float, float] = (math.inf, -math.inf)
    mrdr_target: tuple[float, float] = (math.inf, -math.inf)

    @classmethod
    def of(cls, terms: Terms) -> Self:
        """Take decisions.

        Raises:
            ValueError: when a weight is above ``largest_weight``.
        """
        if len(terms.weight) == 0:
            return cls()
        largest = float(terms.weight.max())
        if largest > terms.largest_weight * (1.0 + 1e-9):
            raise ValueError(f"weight {largest} is above the largest possible one, {terms.largest_weight}")
        return cls(
            terms.largest_weight,
            _seen(terms.reward),
            _seen(terms.q_chosen),
            _seen(terms.q_target),
            _seen(terms.mrdr_chosen),
            _seen(terms.mrdr_target),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            max(self.largest_weight, other.largest_weight),
            _wider(self.reward, other.reward),
            _wider(self.q_chosen, other.q_chosen),
            _wider(self.q_target, other.q_target),
            _wider(self.mrdr_chosen, other.mrdr_chosen),
            _wider(self.mrdr_target, other.mrdr_target),
        )

    def check_rewards(self, low: float, high: float) -> None:
        """Refuse a range that the rewards leave.

        Raises:
            ValueError: when low is not below high or a reward is outside [low, high].
        """
        if not low < high:
            raise ValueError(f"rewards cannot lie between {low} and {high}")
        slack = 1e-9 * (high - low)
        for reward in self.reward:
            if math.isfinite(reward) and not low - slack <= reward <= high + slack:
                raise ValueError(f"reward {reward} is outside [{low}, {high}]")

    def corners(self, columns: Columns, chosen: Hyperparameters, low: float, high: float) -> FloatArray:
        """Columns of the decisions that could be most extreme, shape (k, m).

        Every column is linear in the reward and in each prediction, and in the weight it turns only at 0, at the bounds
        of the hyperparameters and at the largest weight: some of these corners is the most extreme decision.
        """
        weights = _turns(self.largest_weight, chosen)
        grid = list(itertools.product(weights, (low, high), *self.predictions(columns)))
        return columns.table(_decisions(grid, self.largest_weight), chosen)

    def predictions(self, columns: Columns) -> list[tuple[float, float]]:
        """Ranges of q_chosen, q_target, mrdr_chosen and mrdr_target as far as the columns need them."""
        ranges = (self.q_chosen, self.q_target, self.mrdr_chosen, self.mrdr_target)
        of_q = any("correction" in name or "prediction" in name for name in columns.names)
        of_mrdr = any(name.startswith("mrdr") for name in columns.names)
        nothing = (0.0, 0.0)
        return [one if needed else nothing for one, needed in zip(ranges, (of_q, of_q, of_mrdr, of_mrdr), strict=True)]


@dataclass(frozen=True, slots=True)
class Gaps:
    """How far two policies can be apart on one decision, (smallest, largest), each range holding 0; adds with ``+``.

    Attributes:
        weight: of the difference of the two weights.
        q_target: of the difference of the two predictions for the policies.
        mrdr_target: of those by the models of ``mrdr``.
    """

    weight: tuple[float, float] = (0.0, 0.0)
    q_target: tuple[float, float] = (0.0, 0.0)
    mrdr_target: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, terms: Terms, against: Terms, weight: tuple[float, float]) -> Self:
        """Take decisions as both policies see them, and the range of differences of weights that was possible.

        Raises:
            ValueError: when a difference of weights is outside that range.
        """
        least, most = weight
        low, high = _seen(terms.weight - against.weight)
        slack = 1e-9 * max(1.0, abs(least), abs(most))
        if low < least - slack or high > most + slack:
            raise ValueError(f"weights differ by {low} to {high}, outside the gap {least} to {most}")
        mrdr = (
            (0.0, 0.0)
            if terms.mrdr_target is None or against.mrdr_target is None
            else _seen(terms.mrdr_target - against.mrdr_target)
        )
        prediction = _seen(terms.q_target - against.q_target)
        return cls(_wider((0.0, 0.0), weight), _wider((0.0, 0.0), prediction), _wider((0.0, 0.0), mrdr))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            _wider(self.weight, other.weight),
            _wider(self.q_target, other.q_target),
            _wider(self.mrdr_target, other.mrdr_target),
        )

    def corners(
        self, reach: Reach, columns: Columns, chosen: Hyperparameters, low: float, high: float
    ) -> tuple[FloatArray, FloatArray]:
        """Columns of the decisions on which the policies could be furthest apart, as each sees them, (k, m) both.

        A decision has one reward and one prediction for its chosen action, whoever judges it (``reach``: of both
        policies); the predictions for the policies count by their difference alone.
        """
        q_chosen, _, mrdr_chosen, _ = reach.predictions(columns)
        pairs = [(weight, 0.0) for weight in _turns(max(0.0, self.weight[1]), chosen)]
        pairs += [(0.0, weight) for weight in _turns(max(0.0, -self.weight[0]), chosen)]
        rows = list(itertools.product(pairs, (low, high), q_chosen, self.q_target, mrdr_chosen, self.mrdr_target))
        mine = [(pair[0], *rest) for pair, *rest in rows]
        theirs = [(pair[1], reward, q, 0.0, mrdr_q, 0.0) for pair, reward, q, _, mrdr_q, _ in rows]
        bound = reach.largest_weight
        return columns.table(_decisions(mine, bound), chosen), columns.table(_decisions(theirs, bound), chosen)


def _turns(largest: float, chosen: Hyperparameters) -> tuple[float, ...]:
    inner = (chosen.clip, chosen.switch_tau, math.sqrt(chosen.dros_lambda))
    return (0.0, *(one for one in inner if one < largest), largest)


def _decisions(rows: Sequence[tuple[float, ...]], largest_weight: float) -> Terms:
    """Rows (weight, reward, q_chosen, q_target, mrdr_chosen, mrdr_target), each once."""
    weight, reward, q_chosen, q_target, mrdr_chosen, mrdr_target = np.array(rows).T
    hashes = np.zeros(len(weight), dtype=np.int64)
    return Terms(hashes, reward, weight, q_chosen, q_target, largest_weight, mrdr_chosen, mrdr_target)
