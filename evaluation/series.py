"""A value over time in a bounded number of points, each with the confidence sequence's interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.chunks import TimeArray
from evaluation.confidence_sequences import confidence_bounds, squared_surprise

MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class WeightSums:
    """Sums of a policy's weights w and rewards r over decisions; 0 <= ``nonzero`` <= n.

    Attributes:
        terms: sum of w r.
        weights: sum of w.
        squares: sum of (w r)^2.
        nonzero: decisions that the policy could have made too: w > 0.
    """

    terms: float = 0.0
    weights: float = 0.0
    squares: float = 0.0
    nonzero: float = 0.0


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """Cumulative IPS estimates by policy after ``n`` decisions, each (value, low, high).

    The intervals hold at all points together with the level: they may be watched. ``sums`` are what they are made of.
    """

    n: int
    closed_at: datetime
    values: Mapping[str, tuple[float, float, float]]
    sums: Mapping[str, WeightSums]


@dataclass(frozen=True, slots=True)
class _Mark:
    """The state of every policy's sequence after n decisions: squares of surprise, and the sums of ``WeightSums``."""

    n: int
    at: datetime
    states: Mapping[str, tuple[float, ...]]


@dataclass(slots=True)
class Series:
    """Cumulative sums at every ``stride`` decisions; thinned by half when full, so its size is bounded.

    ``low`` and ``high`` are where a reward is expected; they make the guesses better and never the intervals wrong.
    """

    low: float = 0.0
    high: float = 1.0
    stride: int = 25
    n: int = 0
    sums: dict[str, FloatArray] = field(default_factory=dict)
    marks: list[_Mark] = field(default_factory=list)

    def add(self, at: TimeArray, reward: FloatArray, weights: Mapping[str, FloatArray]) -> None:
        """Continue with decisions: when they closed, their rewards, and their weights by policy; each of shape (n,)."""
        running, count = {}, len(at)
        for name, weight in weights.items():
            term = weight * reward
            before = self.sums.get(name, np.zeros(5))
            surprise = squared_surprise(term, self.low, self.high, self.n, float(before[1]))
            columns = np.stack((surprise, term, weight, term * term, (weight > 0.0).astype(np.float64)))
            running[name] = np.cumsum(columns, axis=1) + before[:, np.newaxis]
            self.sums[name] = running[name][:, -1]
        for n in range((self.n // self.stride + 1) * self.stride, self.n + count + 1, self.stride):
            place = n - self.n - 1
            states = {name: tuple(sums[:, place].tolist()) for name, sums in running.items()}
            self.marks.append(_Mark(n, as_datetime(at[place]), states))
        self.n += count
        while len(self.marks) > MOST_POINTS:
            self.stride *= 2
            self.marks = [mark for mark in self.marks if mark.n % self.stride == 0]

    def totals(self) -> dict[str, WeightSums]:
        """The sums over all decisions, by policy."""
        return {name: WeightSums(*sums[1:].tolist()) for name, sums in self.sums.items()}

    def points(
        self, rewards: tuple[float, float], largest_weights: Mapping[str, float], level: float = 0.95
    ) -> tuple[SeriesPoint, ...]:
        """The points with their intervals.

        Args:
            rewards: smallest and largest possible reward.
            largest_weights: the largest weight that a decision could have had, by policy.
            level: in (0, 1), of each policy's sequence.
        """
        low, high = rewards
        n = np.array([float(mark.n) for mark in self.marks])
        bands = {}
        for name in self.sums:
            squares, total = np.array([mark.states[name] for mark in self.marks]).reshape(-1, 5).T[:2]
            most = max(1.0, largest_weights[name])
            reach = (min(low, low * most, self.low), max(high, high * most, self.high))
            bands[name] = np.stack((total / n, *confidence_bounds(n, total, squares, rewards, reach, level)), axis=1)
        return tuple(
            SeriesPoint(
                mark.n,
                mark.at,
                {name: tuple(band[index].tolist()) for name, band in bands.items()},
                {name: WeightSums(*state[1:]) for name, state in mark.states.items()},
            )
            for index, mark in enumerate(self.marks)
        )


def as_datetime(at: np.datetime64) -> datetime:
    """UTC, from a chunk's time."""
    found: datetime = at.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)
