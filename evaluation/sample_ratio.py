"""Is the holdout as large as it was meant to be? Counts customers, not decisions, as customers are what is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import IntArray

# Customers kept, by hash: of a longer log they are an even sample.
MOST_KEPT = 65536
# Customers on both sides: more than this share of all, and the holdout's share was changed within the log.
MOST_ON_BOTH_SIDES = 0.005
_SPACE = 2**63


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The share of known customers that was held out.

    Attributes:
        customers: counted (a sample, when there are more than 65,536).
        held_out: those of them in the holdout.
        both: those of them who were on both sides; they count on neither.
        expected: share that was asked for.
        z: of the difference, binomial.
        is_sound: whether the two sides can be compared.
        words: the numbers, in words.
    """

    customers: int
    held_out: int
    both: int
    expected: float
    z: float
    is_sound: bool
    words: str


@dataclass(frozen=True, slots=True, eq=False)
class CustomerSample:
    """Distinct customers of either side whose hash is below a limit; adds with ``+``.

    When there are too many, the limit is halved, so that the sample is the same for any order and split of the log
    (Gibbons 2001, "Distinct sampling for highly-accurate answers to distinct values queries").
    """

    limit: int
    learned: IntArray
    held_out: IntArray

    @classmethod
    def empty(cls) -> Self:
        """Nobody yet."""
        return cls(_SPACE, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, hashes: IntArray, *, is_held_out: bool) -> Self:
        """Take decisions' customers, by hash in [0, 2^63), (n,)."""
        found, nobody = np.unique(hashes), np.zeros(0, dtype=np.int64)
        one = cls(_SPACE, nobody, found) if is_held_out else cls(_SPACE, found, nobody)
        return one._bounded()

    def __add__(self, other: Self) -> Self:
        limit = min(self.limit, other.limit)
        left, right = self._below(limit), other._below(limit)
        learned, held_out = np.union1d(left.learned, right.learned), np.union1d(left.held_out, right.held_out)
        return type(self)(limit, learned, held_out)._bounded()

    def _below(self, limit: int) -> Self:
        if limit == self.limit:
            return self
        return type(self)(limit, self.learned[self.learned < limit], self.held_out[self.held_out < limit])

    def _bounded(self) -> Self:
        fewer = self
        while len(fewer.learned) + len(fewer.held_out) > MOST_KEPT:
            fewer = fewer._below(fewer.limit // 2)
        return fewer

    def ratio(self, share: float, most_z: float) -> SampleRatio:
        """Compare with the share of customers that was to be held out.

        Args:
            share: in [0, 1].
            most_z: beyond it chance does not explain the difference.

        Raises:
            ValueError: when the share is outside [0, 1].
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share of the holdout {share} is outside [0, 1]")
        both = len(np.intersect1d(self.learned, self.held_out, assume_unique=True))
        held_out = len(self.held_out) - both
        customers = len(self.learned) + len(self.held_out) - 2 * both
        spread = math.sqrt(customers * share * (1.0 - share))
        apart = held_out - share * customers
        z = apart / spread if spread > 0.0 else (math.copysign(math.inf, apart) if apart else 0.0)
        observed = held_out / customers if customers else 0.0
        words = (
            f"{held_out:,} of {customers:,} customers were held out, {observed:.2%} where {share:.2%} were asked for"
        )
        is_mixed = both > MOST_ON_BOTH_SIDES * (customers + both)
        if is_mixed:
            words = f"{both:,} of {customers + both:,} customers were on both sides: the holdout was changed meanwhile"
        elif abs(z) > most_z:
            words += f" (z = {z:.1f}): sides that differ in number may differ in kind"
        return SampleRatio(customers, held_out, both, share, z, not is_mixed and abs(z) <= most_z, words)
