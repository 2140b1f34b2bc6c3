"""A value over time in a bounded number of points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from evaluation.chunks import Chunk
from evaluation.estimators import FloatArray

MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """Cumulative IPS estimates by policy after ``n`` decisions, each (value, standard error)."""

    n: int
    closed_at: datetime
    values: Mapping[str, tuple[float, float]]


@dataclass(slots=True)
class Series:
    """Cumulative sums at every ``stride`` decisions; thinned by half when full, so its size is bounded."""

    stride: int = 25
    n: int = 0
    sums: dict[str, FloatArray] = field(default_factory=dict)
    points: list[SeriesPoint] = field(default_factory=list)

    def add(self, chunk: Chunk, terms: Mapping[str, FloatArray]) -> None:
        """Continue with a chunk's terms, whose mean is the value, by policy; each of shape (n,)."""
        rows = chunk.n
        running = {}
        for name, term in terms.items():
            before = self.sums.get(name, np.zeros(2))
            running[name] = np.cumsum(np.stack((term, term**2)), axis=1) + before[:, np.newaxis]
            self.sums[name] = running[name][:, -1]
        for n in range((self.n // self.stride + 1) * self.stride, self.n + rows + 1, self.stride):
            at = n - self.n - 1
            values = {}
            for name, sums in running.items():
                mean, square = float(sums[0, at]) / n, float(sums[1, at]) / n
                values[name] = (mean, (max(0.0, square - mean**2) / n) ** 0.5)
            self.points.append(SeriesPoint(n, as_datetime(chunk.at[at]), values))
        self.n += rows
        while len(self.points) > MOST_POINTS:
            self.stride *= 2
            self.points = [point for point in self.points if point.n % self.stride == 0]


def as_datetime(at: np.datetime64) -> datetime:
    """UTC, from a chunk's time."""
    found: datetime = at.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)
