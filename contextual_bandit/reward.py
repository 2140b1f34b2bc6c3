"""From a decision's outcomes to its one reward, the sum over its slots: pure functions (step Reward)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from contextual_bandit.loops import OutcomeKind, RewardDefinition
from contextual_bandit.types import Action, Decision, Outcome

# The kind of outcomes whose sender gave a value; a loop's kind of this name is worth the plain number too.
DIRECT = "value"
# Money or pieces that one outcome may tell of, and what it may be worth: sums of them stay finite.
MOST_AMOUNT = 1e9
MOST_WORTH = 1e15
_PLAIN = OutcomeKind()


class UnknownOutcomeKind(ValueError):
    """The loop gives no value to outcomes of this kind."""


class UnusableAmount(ValueError):
    """An amount that is missing or too large for its kind; ``why`` says which."""

    def __init__(self, amount: float | None, why: str) -> None:
        self.amount = amount
        self.why = why
        super().__init__(f"amount {why}, got {amount!r}")


class RewardOutOfRange(ValueError):
    """A reward value outside the loop's range; ``why`` says which."""

    def __init__(self, value: float, low: float, high: float) -> None:
        self.value = value
        self.why = f"a reward must lie in [{low:g}, {high:g}]"
        super().__init__(f"{self.why}, got {value!r}")


def outcome_value(definition: RewardDefinition, value: float | None, kind: str | None, amount: float | None) -> float:
    """The value of one outcome as the sender gave it, or what its kind is worth times the amount.

    Of a kind that measures margin this is the revenue's worth; ``aggregate`` takes from it what the offer costs. Values
    and counts must lie in the reward's range. Money and corrections need not: only the reward made of them does.

    Raises:
        UnknownOutcomeKind: the loop's reward definition does not list the kind.
        RewardOutOfRange: the value, or what the count is worth, lies outside [low, high].
        UnusableAmount: money without an amount, an amount beyond 1e9, or one that is worth more than 1e15.
    """
    if value is None:
        if kind is None or kind not in definition.kinds:
            known = ", ".join(sorted(definition.kinds)) or "none"
            raise UnknownOutcomeKind(f"unknown outcome kind {kind!r}; this loop knows: {known}")
        known_kind = definition.kinds[kind]
        if known_kind.correction or known_kind.measure != "count":
            return _unbounded(kind, known_kind, amount)
        value = known_kind.worth * (1.0 if amount is None else amount)
    if not definition.low <= value <= definition.high:
        raise RewardOutOfRange(value, definition.low, definition.high)
    return value


def _unbounded(name: str, kind: OutcomeKind, amount: float | None) -> float:
    if amount is None:
        if kind.measure != "count":
            raise UnusableAmount(amount, f"is needed: outcomes of kind {name!r} are measured in money")
        amount = 1.0
    if not abs(amount) <= MOST_AMOUNT:
        raise UnusableAmount(amount, f"must lie in [-{MOST_AMOUNT:g}, {MOST_AMOUNT:g}]")
    value = kind.worth * amount
    if not abs(value) <= MOST_WORTH:
        raise UnusableAmount(amount, f"is worth {value:g} here, and may be worth {MOST_WORTH:g}")
    return value


def aggregate(definition: RewardDefinition, outcomes: Sequence[Outcome], action: Action) -> float:
    """One reward from the outcomes that count, in the order received; clipped to [low, high].

    Corrections are added to the aggregate of the others, or to the default when there is nothing but corrections.
    Margins are those of ``action``, the chosen offer as the decision saw it: of a revenue, its margin less its discount
    is left (an offer that names no margin leaves nothing). The contact's cost is taken once, from the first of them; a
    correction does not bring it back.

    >>> from datetime import datetime, UTC
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> clicks = [Outcome(str(n), "d", "click", value, at) for n, value in enumerate((0.25, 0.5))]
    >>> aggregate(RewardDefinition(aggregation="sum"), clicks, Action("spring-10", {}))
    0.75
    """
    values: list[float] = []
    corrections, contact_cost = 0.0, action.cost
    for outcome in outcomes:
        kind = _PLAIN if outcome.kind == DIRECT else definition.kinds.get(outcome.kind, _PLAIN)
        value = outcome.value
        if kind.measure == "margin":
            value *= _share_left(action)
        if kind.correction:
            corrections += value
            continue
        if kind.measure == "margin":
            value -= kind.worth * contact_cost
            contact_cost = 0.0
        values.append(value)
    reward = (_combined(definition, values) if values else definition.default) + corrections
    return min(max(reward, definition.low), definition.high)


def rewards_of(
    definition: RewardDefinition, outcomes: Sequence[Outcome], decision: Decision
) -> tuple[float, tuple[float, ...]]:
    """A decision's reward, and where slots were asked for that of each slot, of which it is the sum.

    Each slot's is made of the outcomes that name it (those without a name are about the first), by what it shows; one
    without outcomes has the default. An outcome of a slot that the decision does not have counts for none.
    """
    if not decision.has_slots:
        return aggregate(definition, outcomes, decision.chosen), ()
    by_slot: list[list[Outcome]] = [[] for _ in decision.slots]
    for outcome in outcomes:
        index = decision.slot_index(outcome.slot)
        if index is not None:
            by_slot[index].append(outcome)
    rewards = tuple(aggregate(definition, mine, decision.shown(index)) for index, mine in enumerate(by_slot))
    return sum(rewards), rewards


def _combined(definition: RewardDefinition, values: Sequence[float]) -> float:
    match definition.aggregation:
        case "earliest":
            return values[0]
        case "sum":
            return sum(values)
        case "average":
            return sum(values) / len(values)
        case "median":
            return median(values)
        case "min":
            return min(values)
        case "max":
            return max(values)


def _share_left(action: Action) -> float:
    """The share of revenue that the offer's margin leaves after its discount, in [-2, 1]."""
    return _share(action, "margin", -1.0) - _share(action, "discount", 0.0)


def _share(action: Action, name: str, low: float) -> float:
    """A feature in [low, 1]; an inline offer may have sent anything under its name."""
    value = action.features.get(name, 0.0)
    return 0.0 if isinstance(value, bool | str) else min(max(value, low), 1.0)
