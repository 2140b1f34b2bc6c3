"""Target policies: what each would do with the decisions of a log, as probabilities per eligible action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import numpy as np

from contextual_bandit.types import Decision
from evaluation.estimators import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """Decisions as arrays: n decisions, and their m (decision, eligible action) pairs in order.

    Attributes:
        decisions: the n decisions.
        codes: number of each offer id seen so far in the log.
        row: decision of each pair, (m,).
        first: pair of each decision's first action, (n,).
        chosen: pair that was chosen, (n,).
        offer: offer code of each pair, (m,).
        key: reward model's key of each pair, (m,).
        served: logged probability of each pair, (m,).
        reward: (n,).
        propensity: logged probability of the chosen action, (n,).
        hashes: of the decision ids, (n,).
        closed_at: (n,).
    """

    decisions: tuple[Decision, ...]
    codes: Mapping[str, int]
    row: IntArray
    first: IntArray
    chosen: IntArray
    offer: IntArray
    key: IntArray
    served: FloatArray
    reward: FloatArray
    propensity: FloatArray
    hashes: IntArray
    closed_at: tuple[datetime, ...]

    def per_decision(self, values: FloatArray) -> FloatArray:
        """Sum over each decision's actions: (m,) becomes (n,)."""
        return np.bincount(self.row, weights=values, minlength=len(self.decisions)).astype(np.float64)


TargetPolicy: TypeAlias = Callable[[Chunk], FloatArray]
"""Probability of every (decision, eligible action) pair, (m,); what it leaves below 1 in a decision is unsupported."""


def logged(chunk: Chunk) -> FloatArray:
    """The served policy itself."""
    return chunk.served


def uniform(chunk: Chunk) -> FloatArray:
    """Every eligible offer alike."""
    return np.asarray((1.0 / np.bincount(chunk.row))[chunk.row])


def first_action(chunk: Chunk) -> FloatArray:
    """Always the first action of the request."""
    target = np.zeros(len(chunk.row))
    target[chunk.first] = 1.0
    return target


def fixed_offer(offer_id: str) -> TargetPolicy:
    """Always this offer; where it was not eligible, its mass has no support."""

    def target(chunk: Chunk) -> FloatArray:
        return np.where(chunk.offer == chunk.codes.get(offer_id, -1), 1.0, 0.0)

    return target


def from_function(function: Callable[[Decision], Sequence[float]]) -> TargetPolicy:
    """A function that gives each decision's probabilities over ``decision.actions``.

    The policy raises ValueError when the function gives another number of probabilities.
    """

    def target(chunk: Chunk) -> FloatArray:
        given = [tuple(function(decision)) for decision in chunk.decisions]
        for decision, one in zip(chunk.decisions, given, strict=True):
            if len(one) != len(decision.actions):
                name = decision.decision_id
                raise ValueError(f"decision {name}: {len(one)} probabilities for {len(decision.actions)} actions")
        return np.concatenate([np.asarray(one, dtype=np.float64) for one in given])

    return target


STANDARD_TARGETS: Mapping[str, TargetPolicy] = {"logged": logged, "uniform": uniform, "first": first_action}
