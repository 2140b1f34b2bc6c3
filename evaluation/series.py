"""A value over time in a bounded number of points, each with the confidence sequence's interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.confidence_sequences import confidence_bounds, squared_surprise

MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """Cumulative IPS estimates by policy after ``n`` decisions, each (value, low, high).

    The intervals hold at all points together with the level: they may be watched.
    """

    n: int
    closed_at: datetime
    values: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class _Mark:
    """The state of every policy's sequence after n decisions: sum and squares."""

    n: int
    at: datetime
    states: Mapping[str, tuple[float, float]]


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

    def add(self, chunk: Chunk, terms: Mapping[str, FloatArray]) -> None:
        """Continue with a chunk's terms w r by policy; each of shape (n,)."""
        running = {}
        for name, term in terms.items():
            before = self.sums.get(name, np.zeros(2))
            squares = squared_surprise(term, self.low, self.high, self.n, float(before[0]))
            running[name] = np.cumsum(np.stack((term, squares)), axis=1) + before[:, np.newaxis]
            self.sums[name] = running[name][:, -1]
        for n in range((self.n // self.stride + 1) * self.stride, self.n + chunk.n + 1, self.stride):
            at = n - self.n - 1
            states = {name: (float(sums[0, at]), float(sums[1, at])) for name, sums in running.items()}
            self.marks.append(_Mark(n, as_datetime(chunk.at[at]), states))
        self.n += chunk.n
        while len(self.marks) > MOST_POINTS:
            self.stride *= 2
            self.marks = [mark for mark in self.marks if mark.n % self.stride == 0]

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
            total, squares = np.array([mark.states[name] for mark in self.marks]).reshape(-1, 2).T
            most = max(1.0, largest_weights[name])
            reach = (min(low, low * most, self.low), max(high, high * most, self.high))
            bands[name] = np.stack((total / n, *confidence_bounds(n, total, squares, rewards, reach, level)), axis=1)
        return tuple(
            SeriesPoint(mark.n, mark.at, {name: tuple(band[index].tolist()) for name, band in bands.items()})
            for index, mark in enumerate(self.marks)
        )


def as_datetime(at: np.datetime64) -> datetime:
    """UTC, from a chunk's time."""
    found: datetime = at.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)
