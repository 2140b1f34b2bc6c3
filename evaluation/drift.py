"""Did the rewards of what was served change while the log was written? A warning, as an estimate is then an average."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import NormalDist
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.chunks import TimeArray
from evaluation.significance import DEFAULT_LIMITS

NARROWEST_SECONDS = 60
MOST_BUCKETS = 1024
PERIODS = 12
LEAST_PER_PERIOD = 30


@dataclass(frozen=True, slots=True)
class Period:
    """Mean reward of the decisions of some time, from ``start`` on (UTC)."""

    start: datetime
    n: int
    mean: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Drift:
    """How rewards moved over the log.

    Attributes:
        first: the first half of the decisions.
        last: the second half.
        z: of the difference of the two means.
        cusum_p: probability by chance of so large a maximum of |S_k - k/n S_n| / (s sqrt(n)), S_k the sum of the first
            k rewards; it sees a change at any time (Ploberger and Kraemer 1992, "The CUSUM test with OLS residuals").
        periods: consecutive, of about equal numbers of decisions.
        chi_square_p: probability by chance of so much spread between the periods; it sees what comes and goes.
        warning: what to tell the reader; None when chance explains it.
    """

    first: Period
    last: Period
    z: float
    cusum_p: float
    periods: tuple[Period, ...]
    chi_square_p: float
    warning: str | None


@dataclass(frozen=True, slots=True, eq=False)
class RewardDrift:
    """Sums of rewards by time; adds with ``+``.

    Buckets are ``width`` seconds wide, a minute times a power of 2, aligned to 1970, so that two neighbours make one
    of the next width: the size is bounded however long the log.

    Attributes:
        width: seconds.
        number: of the buckets that hold decisions, rising, (b,).
        sums: count, sum and sum of squares of rewards, (b, 3).
    """

    width: int
    number: IntArray
    sums: FloatArray

    @classmethod
    def empty(cls) -> Self:
        """No decisions yet."""
        return cls(NARROWEST_SECONDS, np.zeros(0, dtype=np.int64), np.zeros((0, 3)))

    @classmethod
    def of(cls, at: TimeArray, reward: FloatArray) -> Self:
        """Take decisions: time (UTC) and reward, each (n,)."""
        seconds = at.astype("datetime64[s]").astype(np.int64)
        number, into = np.unique(seconds // NARROWEST_SECONDS, return_inverse=True)
        columns = (np.ones_like(reward), reward, reward**2)
        sums = np.stack([np.bincount(into, one, minlength=len(number)) for one in columns], axis=1).astype(np.float64)
        return cls(NARROWEST_SECONDS, number, sums)._bounded()

    def __add__(self, other: Self) -> Self:
        width = max(self.width, other.width)
        left, right = self._widened(width), other._widened(width)
        number, into = np.unique(np.concatenate((left.number, right.number)), return_inverse=True)
        sums = np.zeros((len(number), 3))
        np.add.at(sums, into, np.concatenate((left.sums, right.sums)))
        return type(self)(width, number, sums)._bounded()

    def _widened(self, width: int) -> Self:
        if width == self.width:
            return self
        number, into = np.unique(self.number // (width // self.width), return_inverse=True)
        sums = np.zeros((len(number), 3))
        np.add.at(sums, into, self.sums)
        return type(self)(width, number, sums)

    def _bounded(self) -> Self:
        narrow = self
        while len(narrow.number) > MOST_BUCKETS:
            narrow = narrow._widened(2 * narrow.width)
        return narrow

    def result(self, least_p: float = DEFAULT_LIMITS.drift_p) -> Drift | None:
        """What was found; None when there are too few decisions, or moments, to compare.

        Args:
            least_p: a change that chance explains with less than this probability is warned of.
        """
        count, total, square = self.sums.sum(axis=0) if len(self.sums) else (0.0, 0.0, 0.0)
        running = np.cumsum(self.sums[:, 0])
        if len(self.sums) < 2 or count < 2 * LEAST_PER_PERIOD:
            return None
        spread = max(0.0, square / count - (total / count) ** 2)
        half = 1 + int(np.argmin(np.abs(running[:-1] - count / 2.0)))
        first, last = self._period(0, half, spread), self._period(half, len(self.sums), spread)
        error = math.hypot(first.standard_error, last.standard_error)
        z = (last.mean - first.mean) / error if error > 0.0 else 0.0
        cusum_p, periods = self._cusum_p(spread), self._periods(spread)
        chi_square_p = _chi_square_p(periods, total / count)
        warning = None
        if min(cusum_p, chi_square_p) < least_p:
            warning = (
                f"rewards changed while the log was written: {first.mean:.4g} per decision in its first half, "
                f"{last.mean:.4g} in its last (probability by chance {min(cusum_p, chi_square_p):.1g}); "
                "an estimate is the average over that time"
            )
        return Drift(first, last, z, cusum_p, periods, chi_square_p, warning)

    def _period(self, start: int, end: int, spread: float) -> Period:
        n, total, _ = self.sums[start:end].sum(axis=0)
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(self.number[start]) * self.width)
        return Period(at, int(n), float(total / n), math.sqrt(spread / n))

    def _periods(self, spread: float) -> tuple[Period, ...]:
        running = np.cumsum(self.sums[:, 0])
        most = min(PERIODS, int(running[-1]) // LEAST_PER_PERIOD)
        wanted = running[-1] * np.arange(1, most) / most
        cuts = np.unique(np.concatenate(([0], np.searchsorted(running, wanted) + 1, [len(running)])))
        return tuple(self._period(int(a), int(b), spread) for a, b in pairwise(cuts))

    def _cusum_p(self, spread: float) -> float:
        if spread <= 0.0:
            return 1.0
        running = np.cumsum(self.sums, axis=0)
        n, total, _ = running[-1]
        largest = float(np.abs(running[:, 1] - running[:, 0] / n * total).max()) / math.sqrt(spread * n)
        # Kolmogorov's distribution: what a Brownian bridge reaches by chance.
        terms = (2.0 * (-1.0) ** (k - 1) * math.exp(-2.0 * (k * largest) ** 2) for k in range(1, 101))
        return min(1.0, max(0.0, math.fsum(terms))) if largest > 0.2 else 1.0


def _chi_square_p(periods: tuple[Period, ...], mean: float) -> float:
    """Probability of so much spread between periods by chance (Wilson and Hilferty 1931, cube root)."""
    free = len(periods) - 1
    if free < 1 or any(period.standard_error <= 0.0 for period in periods):
        return 1.0
    found = sum(((period.mean - mean) / period.standard_error) ** 2 for period in periods)
    middle = 1.0 - 2.0 / (9.0 * free)
    return 1.0 - NormalDist().cdf(((found / free) ** (1.0 / 3.0) - middle) / math.sqrt(2.0 / (9.0 * free)))
