"""Sums, co-moments and third co-moments of columns: what an interval needs that follows the skew of its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.moments import Moments, compensated_add, with_zero_error

_BLOCK = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class ThirdMoments:
    """Moments up to the third of k columns, centred, of constant size; adds with ``+``.

    T = sum_g [ T_g + 3 sym(d_g, M_g) + n_g d_g^(3) ] with d_g = m_g - m, the pairwise rule of ``Moments`` one order up
    (Pebay 2008, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
    moments"). ``third`` has shape (2, k, k, k): the sum of centred triple products and its rounding error.
    """

    moments: Moments
    third: FloatArray

    @classmethod
    def empty(cls, columns: int) -> Self:
        """No rows of so many columns."""
        return cls(Moments.empty(columns), np.zeros((2, columns, columns, columns)))

    @classmethod
    def of_table(cls, table: FloatArray, repeats: IntArray | None = None) -> Self:
        """Take k columns as the rows of a table, shape (k, n).

        Args:
            table: one column of it per decision.
            repeats: how often each of them stands for an equal decision, >= 0, shape (n,); once each by default.

        Raises:
            ValueError: when a number is not finite or a repeat is negative.
        """
        if repeats is not None:
            return cls._of_repeated(table, repeats)
        total = cls.empty(table.shape[0])
        for start in range(0, table.shape[1], _BLOCK):
            block = table[:, start : start + _BLOCK]
            moments = Moments.of_table(block)
            total = total + cls(moments, _triples(block - moments.mean[:, np.newaxis], None))
        return total

    @classmethod
    def _of_repeated(cls, table: FloatArray, repeats: IntArray) -> Self:
        if np.any(repeats < 0):
            raise ValueError(f"a decision is repeated {int(repeats.min())} times")
        if not np.all(np.isfinite(table)):
            raise ValueError("rewards, probabilities and predictions must be finite")
        count = int(repeats.sum())
        if count == 0:
            return cls.empty(table.shape[0])
        sums = table @ repeats
        centred = table - (sums / count)[:, np.newaxis]
        moments = Moments(count, with_zero_error(sums), with_zero_error((centred * repeats) @ centred.T))
        return cls(moments, _triples(centred, repeats))

    def __add__(self, other: Self) -> Self:
        if self.moments.count == 0:
            return other
        if other.moments.count == 0:
            return self
        moments = self.moments + other.moments
        third = compensated_add(self.third, other.third)
        for one in (self, other):
            third = compensated_add(third, with_zero_error(_moved(one.moments, one.moments.mean - moments.mean)))
        return type(self)(moments, third)

    def along(self, direction: FloatArray) -> tuple[float, float]:
        """Sums of squares and of cubes, centred, of the column ``direction @ table``; direction has shape (k,)."""
        square = direction @ (self.moments.comoment[0] + self.moments.comoment[1]) @ direction
        cube = np.einsum("ijk,i,j,k->", self.third[0] + self.third[1], direction, direction, direction)
        return max(0.0, float(square)), float(cube)


def _triples(centred: FloatArray, repeats: IntArray | None) -> FloatArray:
    """Sums of products of three columns, shape (2, k, k, k); each pair of columns is multiplied once."""
    width = centred.shape[0]
    left, right = np.triu_indices(width)
    pairs = (centred[left] * centred[right]) @ (centred if repeats is None else centred * repeats).T
    full = np.empty((width, width, width))
    full[left, right] = pairs
    full[right, left] = pairs
    return with_zero_error(full)


def _moved(moments: Moments, apart: FloatArray) -> FloatArray:
    """What is added to third moments when their centre moves by ``-apart``, shape (k, k, k)."""
    comoment = moments.comoment[0] + moments.comoment[1]
    once = np.multiply.outer(apart, comoment)
    cube = np.multiply.outer(apart, np.multiply.outer(apart, apart))
    return np.asarray(once + once.transpose(1, 0, 2) + once.transpose(1, 2, 0) + moments.count * cube)
