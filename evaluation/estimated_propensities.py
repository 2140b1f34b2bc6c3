"""Propensities of a log that did not keep them: estimated, so that no verdict rests on them alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from contextual_bandit.types import Decision, Distribution
from evaluation.arrays import FloatArray, IntArray
from evaluation.chunks import Chunk, LogNotes
from evaluation.log_decisions import LazyDecisions
from evaluation.log_layout import FileLog
from evaluation.reward_model import FOLDS, fold_of

# How many draws, spread evenly over what was eligible, an offer's frequency begins with.
SMOOTHING = 1.0
NOTE = (
    "the log has no propensities: they are estimated by how often each offer was served, which is wrong as far as the "
    "choice depended on the customer"
)


def _zeros() -> FloatArray:
    return np.zeros((FOLDS, 0))


@dataclass(frozen=True, slots=True, eq=False)
class ServedFrequency:
    """How often each offer was served where it was eligible, from the folds that a decision is not in.

    Offer a's odds are s_a = (served_a + sum 1/k) / (eligible_a + 1), and p(a) = s_a / sum_b s_b over the decision's own
    k eligible offers. Where all decisions have the same offers it is the served frequency itself. It knows nothing of
    the context: a logging policy that looked at the customer is not reproduced, and estimates by it are biased.
    Leaving a decision's own fold out keeps its choice out of its own propensity.

    Attributes:
        served: how often, (folds, offers).
        expected: how often it would have been by an even draw, sum of 1 / k, (folds, offers).
        eligible: how often it could have been, (folds, offers).
    """

    served: FloatArray = field(default_factory=_zeros)
    expected: FloatArray = field(default_factory=_zeros)
    eligible: FloatArray = field(default_factory=_zeros)

    @classmethod
    def of(cls, chunk: Chunk) -> Self:
        """Count a chunk's decisions."""
        offers, fold = len(chunk.codes), fold_of(chunk.hashes)
        even = 1.0 / chunk.per_decision(np.ones(len(chunk.row)))
        pairs = fold[chunk.row] * offers + chunk.offer

        def counted(places: IntArray, weights: FloatArray | None = None) -> FloatArray:
            table = np.bincount(places, weights=weights, minlength=FOLDS * offers)
            return table.reshape(FOLDS, offers).astype(np.float64)

        return cls(counted(fold * offers + chunk.offer[chunk.chosen]), counted(pairs, even[chunk.row]), counted(pairs))

    def __add__(self, other: Self) -> Self:
        offers = max(self.served.shape[1], other.served.shape[1])
        return type(self)(
            _widened(self.served, offers) + _widened(other.served, offers),
            _widened(self.expected, offers) + _widened(other.expected, offers),
            _widened(self.eligible, offers) + _widened(other.eligible, offers),
        )

    def probabilities(self, chunk: Chunk) -> FloatArray:
        """Estimated probability of each pair, (m,); sums to 1 in each decision, never 0."""
        served, expected, eligible = (one.sum(axis=0) - one for one in (self.served, self.expected, self.eligible))
        share = np.divide(expected, eligible, out=np.ones_like(expected), where=eligible > 0.0)
        odds = (served + SMOOTHING * share) / (eligible + SMOOTHING)
        found = odds[fold_of(chunk.hashes)[chunk.row], chunk.offer]
        return np.asarray(found / chunk.per_decision(found)[chunk.row])


def _widened(table: FloatArray, offers: int) -> FloatArray:
    return np.pad(table, ((0, 0), (0, offers - table.shape[1])))


class EstimatedPropensities:
    """A log whose propensities are estimated by ``ServedFrequency``: read once to count, and once more to be used."""

    def __init__(self, opener: Callable[[], FileLog]) -> None:
        """Take what opens the log, anew each time and in the same order."""
        self._opener = opener
        log = opener()
        self.layout = log.layout
        self.found = LogNotes(loop=log.found.loop, estimated=True)

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions, with a whole distribution each.

        Raises:
            LogUnusable: there are none.
        """
        frequency = ServedFrequency()
        for chunk in self._opener().chunks():
            frequency += ServedFrequency.of(chunk)
        log = self._opener()
        for chunk in log.chunks():
            yield with_served(chunk, frequency.probabilities(chunk))
        found = self.found
        found.skipped, found.inconsistent = log.found.skipped, log.found.inconsistent
        found.notes = [
            *log.found.notes,
            NOTE,
        ]


def with_served(chunk: Chunk, served: FloatArray) -> Chunk:
    """The chunk with other logged probabilities, (m,), also in its decisions."""
    propensity, decisions = served[chunk.chosen], chunk.decisions

    def decision_at(row: int) -> Decision:
        decision = decisions[row]
        start = int(chunk.first[row])
        whole = tuple(served[start : start + len(decision.actions)].tolist())
        slot = replace(decision.slots[0], distribution=Distribution(whole, whole), propensity=float(propensity[row]))
        return replace(decision, slots=(slot,))

    lazy: Sequence[Decision] = LazyDecisions(len(decisions), decision_at) if decisions else ()
    return replace(chunk, served=served, propensity=propensity, decisions=lazy)
