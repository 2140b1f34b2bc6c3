"""Guardrails: what a policy's own decisions came to, held against bounds at every look.

A bound counts as broken when the whole interval lies beyond it. The intervals hold at all looks together, so that a
policy that keeps its bounds is taken back with probability 1 - level at most, however long it is watched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from contextual_bandit.loops import Guardrail
from evaluation.asymptotic_sequences import AsymptoticSequence
from evaluation.confidence_sequences import ConfidenceSequence

LEVEL = 0.95
REWARD = "reward"
FALLBACK_RATE = "fallback_rate"
OUTCOME = "outcome:"
Status: TypeAlias = Literal["waiting", "within", "open", "violated"]
_Sequence: TypeAlias = ConfidenceSequence | AsymptoticSequence


@dataclass(frozen=True, slots=True)
class Served:
    """One decision that a policy served, closed.

    Attributes:
        reward: of several slots their mean; None where no policy filled any slot (a fallback).
        outcomes: summed values by kind, of the kinds that guardrails ask for.
    """

    reward: float | None
    outcomes: Mapping[str, float] = field(default_factory=dict)

    def measure(self, metric: str) -> float | None:
        """What the decision adds to a metric; None where it says nothing about it."""
        if metric == FALLBACK_RATE:
            return float(self.reward is None)
        if self.reward is None or metric == REWARD:
            return self.reward
        return self.outcomes.get(metric.removeprefix(OUTCOME), 0.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """A guardrail as it stands.

    Attributes:
        guardrail: the bounds.
        n: own decisions.
        value: the metric, or its difference to the other policy's; None before there is one.
        low: of the interval, None where it has no end.
        high: of it.
        bound: the one that is violated.
        status: ``waiting``: too few decisions; ``within`` the bounds; ``open``: the interval holds a bound; or
            ``violated``.
    """

    guardrail: Guardrail
    n: int
    value: float | None
    low: float | None
    high: float | None
    bound: float | None
    status: Status


@dataclass(slots=True)
class GuardrailSums:
    """One guardrail's sums: of the policy's own decisions, and of the other policy's of the same time."""

    own: _Sequence
    other: _Sequence

    @classmethod
    def empty(cls, guardrail: Guardrail, low: float, high: float) -> Self:
        """No decisions yet; rewards will be in [low, high].

        Two intervals make a difference, each wrong half as often.
        """
        level = 1.0 - (1.0 - LEVEL) / 2.0 if guardrail.relative else LEVEL
        return cls(_empty(guardrail, low, high, level), _empty(guardrail, low, high, level))

    def add(self, guardrail: Guardrail, own: Sequence[Served], other: Sequence[Served]) -> None:
        """Take decisions in the order of the log."""
        for sequence, served in ((self.own, own), (self.other, other)):
            measured = [one.measure(guardrail.metric) for one in served]
            values = np.array([value for value in measured if value is not None], dtype=np.float64)
            if isinstance(sequence, ConfidenceSequence):
                values = np.clip(values, sequence.least, sequence.most)
            sequence.update(values)
        if (
            guardrail.relative
            and isinstance(self.own, AsymptoticSequence)
            and isinstance(self.other, AsymptoticSequence)
        ):
            # Outcomes of one that never come to the other would otherwise say nothing of it.
            self.own.largest = self.other.largest = max(self.own.largest, self.other.largest)

    def reading(self, guardrail: Guardrail) -> Reading:
        """How the guardrail stands."""
        own, other = self.own, self.other
        low, high = own.interval
        value = own.mean if own.n else math.nan
        n = own.n
        if guardrail.relative:
            below, above = other.interval
            low, high = low - above, high - below
            value = value - other.mean if other.n else math.nan
            n = min(own.n, other.n)
        status, bound = _status(guardrail, n, low, high)
        return Reading(guardrail, own.n, _finite(value), _finite(low), _finite(high), bound, status)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store."""
        return {"own": self.own.to_dict(), "other": self.other.to_dict()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave.

        Raises:
            ValueError: when the numbers do not make such sums.
        """
        try:
            return cls(_sequence(stored["own"]), _sequence(stored["other"]))
        except KeyError as error:
            raise ValueError(f"{sorted(stored)} are not the sums of a guardrail") from error


def _empty(guardrail: Guardrail, low: float, high: float, level: float) -> _Sequence:
    if guardrail.metric == REWARD:
        return ConfidenceSequence(low, high, low, high, level)
    if guardrail.metric == FALLBACK_RATE:
        return ConfidenceSequence(0.0, 1.0, 0.0, 1.0, level)
    return AsymptoticSequence(max(1, guardrail.least_decisions), level)


def _sequence(stored: Mapping[str, Any]) -> _Sequence:
    numbers = dict(stored)
    return AsymptoticSequence.from_dict(numbers) if "tightest_at" in numbers else ConfidenceSequence.from_dict(numbers)


def _status(guardrail: Guardrail, n: int, low: float, high: float) -> tuple[Status, float | None]:
    if n < max(1, guardrail.least_decisions):
        return "waiting", None
    if guardrail.low is not None and high < guardrail.low:
        return "violated", guardrail.low
    if guardrail.high is not None and low > guardrail.high:
        return "violated", guardrail.high
    within = (guardrail.low is None or low >= guardrail.low) and (guardrail.high is None or high <= guardrail.high)
    return "within" if within else "open", None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(slots=True)
class GuardrailWatch:
    """All guardrails of one policy. A guardrail that is new, or was changed, begins to count when it is first seen."""

    low: float
    high: float
    sums: dict[str, GuardrailSums] = field(default_factory=dict)

    def add(self, guardrails: Sequence[Guardrail], own: Sequence[Served], other: Sequence[Served]) -> None:
        """Take decisions in the order of the log: the policy's own, and the other policy's of the same time."""
        wanted = {_key(guardrail): guardrail for guardrail in guardrails}
        self.sums = {key: sums for key, sums in self.sums.items() if key in wanted}
        for key, guardrail in wanted.items():
            sums = self.sums.setdefault(key, GuardrailSums.empty(guardrail, self.low, self.high))
            sums.add(guardrail, own, other)

    def readings(self, guardrails: Sequence[Guardrail]) -> tuple[Reading, ...]:
        """How each stands, in their order."""
        empty = (GuardrailSums.empty(guardrail, self.low, self.high) for guardrail in guardrails)
        return tuple(
            self.sums.get(_key(guardrail), nothing).reading(guardrail)
            for guardrail, nothing in zip(guardrails, empty, strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store."""
        return {"low": self.low, "high": self.high, "sums": {key: one.to_dict() for key, one in self.sums.items()}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave.

        Raises:
            ValueError: when the numbers are not those of a watch.
        """
        try:
            sums = {key: GuardrailSums.from_dict(one) for key, one in stored["sums"].items()}
            return cls(stored["low"], stored["high"], sums)
        except KeyError as error:
            raise ValueError(f"{sorted(stored)} are not the numbers of a watch") from error


def _key(guardrail: Guardrail) -> str:
    # The bounds are no part of it: sums stand when those move.
    return f"{guardrail.metric}{' relative' if guardrail.relative else ''}"
