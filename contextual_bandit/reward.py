"""From a decision's outcomes to its one reward: pure functions (step Reward)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from contextual_bandit.loops import RewardDefinition
from contextual_bandit.types import Outcome


class UnknownOutcomeKind(ValueError):
    """The loop gives no value to outcomes of this kind."""


class RewardOutOfRange(ValueError):
    """A reward value outside the loop's range; ``why`` says which."""

    def __init__(self, value: float, low: float, high: float) -> None:
        self.value = value
        self.why = f"a reward must lie in [{low:g}, {high:g}]"
        super().__init__(f"{self.why}, got {value!r}")


def outcome_value(definition: RewardDefinition, value: float | None, kind: str | None, amount: float | None) -> float:
    """The value of one outcome as the sender gave it, or as its kind is worth.

    Raises:
        UnknownOutcomeKind: the loop's reward definition does not list the kind.
        RewardOutOfRange: the value lies outside [low, high].
    """
    if value is None:
        if kind is None or kind not in definition.kinds:
            known = ", ".join(sorted(definition.kinds)) or "none"
            raise UnknownOutcomeKind(f"unknown outcome kind {kind!r}; this loop knows: {known}")
        value = definition.kinds[kind] * (1.0 if amount is None else amount)
    if not definition.low <= value <= definition.high:
        raise RewardOutOfRange(value, definition.low, definition.high)
    return value


def aggregate(definition: RewardDefinition, outcomes: Sequence[Outcome]) -> float:
    """One reward from the outcomes that count, in the order received; clipped to [low, high].

    >>> from datetime import datetime, UTC
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> clicks = [Outcome(str(n), "d", "click", value, at) for n, value in enumerate((0.25, 0.5))]
    >>> aggregate(RewardDefinition(aggregation="sum"), clicks)
    0.75
    """
    if not outcomes:
        return definition.default
    values = [outcome.value for outcome in outcomes]
    match definition.aggregation:
        case "earliest":
            reward = values[0]
        case "sum":
            reward = sum(values)
        case "average":
            reward = fmean(values)
        case "median":
            reward = median(values)
        case "min":
            reward = min(values)
        case "max":
            reward = max(values)
    return min(max(reward, definition.low), definition.high)
