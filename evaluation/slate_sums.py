"""Whole slates under a target policy: what a decision of several slots earns in all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray, IntArray
from evaluation.chunks import Chunk
from evaluation.default_interval import default_interval
from evaluation.estimators import columns_of
from evaluation.interval_sums import IntervalSums
from evaluation.terms import Terms

ESTIMATORS = ("ips", "snips")
_COLUMNS = columns_of(ESTIMATORS)


@dataclass(frozen=True, slots=True, eq=False)
class SlateSums:
    """Sums of whole slates under one policy; adds with ``+``.

    A slate's weight is the product of its slots' conditional weights, as each slot was drawn below the ones above it,
    and its reward the sum of theirs: V = (1/n) sum_i (prod_j w_ij) (sum_j r_ij) (Precup, Sutton, Singh 2000,
    "Eligibility traces for off-policy policy evaluation"). Unbiased however slots act on each other, and wide: weights
    multiply.
    """

    sums: IntervalSums = field(default_factory=lambda: IntervalSums.empty(_COLUMNS))
    most_slots: int = 0

    @classmethod
    def of(cls, chunk: Chunk, weight: FloatArray, possible: FloatArray) -> Self:
        """Take a chunk's decisions; one slot or many.

        Args:
            chunk: of which the slots of one decision are consecutive rows.
            weight: of each row, (n,).
            possible: weight of each pair if it had been drawn, (m,).
        """
        slot = np.zeros(chunk.n, dtype=np.int64) if chunk.slot is None else chunk.slot
        starts = np.flatnonzero(np.concatenate(([True], slot[1:] <= slot[:-1])))
        most = np.zeros(chunk.n)
        np.maximum.at(most, chunk.row, possible)
        reward = np.add.reduceat(chunk.reward, starts)
        zeros = np.zeros(len(starts))
        largest = float(np.multiply.reduceat(most, starts).max(initial=0.0))
        product = np.multiply.reduceat(weight, starts)
        terms = Terms(chunk.hashes[starts], reward, product, zeros, zeros, largest)
        return cls(IntervalSums.of(_COLUMNS, terms), _longest(starts, chunk.n))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.sums + other.sums, max(self.most_slots, other.most_slots))

    def estimates(self, rewards: tuple[float, float], level: float) -> dict[str, Estimate]:
        """Value of a whole slate by estimator; none where no decision had several slots.

        Args:
            rewards: smallest and largest possible reward of one slot.
            level: of the intervals, in (0, 1).
        """
        if self.most_slots < 2:
            return {}
        low, high = (one * self.most_slots for one in rewards)
        return {key: default_interval(self.sums, key, min(low, rewards[0]), high, level) for key in ESTIMATORS}


def _longest(starts: IntArray, n: int) -> int:
    return int(np.diff(np.append(starts, n)).max(initial=0))
