"""Target policies and reward models that stand as numbers in the log itself."""

from __future__ import annotations

from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.targets import TargetPolicy


class NoSuchColumn(ValueError):
    """A column that the log does not have."""

    def __init__(self, name: str, chunk: Chunk) -> None:
        """Take the column and a chunk of the log."""
        there = ", ".join(sorted(chunk.columns)) or "none"
        super().__init__(f"the log has no column {name!r} of numbers; it has {there}")


def column_target(name: str) -> TargetPolicy:
    """The probabilities that the log itself holds in a column, such as ``target_probs``.

    The policy raises NoSuchColumn for a log without it.
    """

    def target(chunk: Chunk) -> FloatArray:
        return _column(name, chunk)

    return target


class ColumnModel:
    """The log's own predictions of the mean reward, such as ``q_hat``, as a ``RewardModel``.

    They must not have been fitted on the rewards they predict, or the doubly robust estimates are biased.
    """

    def __init__(self, name: str) -> None:
        """Take the column; ``q_chosen`` for a log of the chosen actions alone."""
        self._name = name

    def predict(self, chunk: Chunk) -> FloatArray:
        """The column, (m,).

        Raises:
            NoSuchColumn: the log has none of this name.
        """
        return _column(self._name, chunk)

    def under_target(self, chunk: Chunk, target: FloatArray) -> FloatArray:
        """Predicted mean reward under a target policy, sum_a pi(a) q(a), (n,).

        A log of the chosen actions alone cannot sum over the others: its column ``q_target`` is taken, which holds for
        the policy of its ``target_prob`` and no other.

        Raises:
            NoSuchColumn: the log has none of these names.
        """
        if "q_target" in chunk.columns:
            return chunk.columns["q_target"]
        return chunk.per_decision(target * self.predict(chunk))


def _column(name: str, chunk: Chunk) -> FloatArray:
    if name not in chunk.columns:
        raise NoSuchColumn(name, chunk)
    return chunk.columns[name]
