"""What the draw leaves out: exhausted caps and lower priorities, masked before one seeded pick (step Decide).

The same arithmetic, in the same order, stands in the script of ``adapters/units.py``, which masks and draws where the
units are counted: both add probabilities from the first action to the last, so that their sums agree to the bit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from contextual_bandit.policy import pick
from contextual_bandit.types import Action, Decision, Distribution, Limits, Removed, SlotDecision

CAP_EXHAUSTED = 1
LOWER_PRIORITY = 5
# How a show was counted.
COUNTED = 1
HOLDS_STOCK = 2
# Codes of the draw, as the script gives them, and the reasons that the log keeps.
REASONS: Mapping[int, str] = MappingProxyType(
    {
        CAP_EXHAUSTED: "cap_exhausted",
        2: "recently_redeemed",
        3: "excluded_by",
        4: "requires_missing",
        LOWER_PRIORITY: "lower_priority",
    }
)
# The reason of offers that a holdout without offers is not shown.
HOLDOUT = "holdout"
UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Draw:
    """What was left out (index and code, rising), and the index that was drawn; -1 when nothing was left.

    ``took``: 0, or COUNTED or HOLDS_STOCK when the drawn offer's units were taken.
    """

    masked: tuple[tuple[int, int], ...]
    chosen: int
    took: int = 0


def mask(served: Sequence[float], masked: frozenset[int]) -> tuple[float, ...]:
    """Probabilities of what is left, in proportion; those of masked actions are 0.

    When what is left has no mass, the first action left has all of it; when nothing is left, all are 0.

    >>> mask((0.5, 0.25, 0.25), frozenset({0}))
    (0.0, 0.5, 0.5)
    """
    total = 0.0
    for index, probability in enumerate(served):
        if index not in masked:
            total += probability
    if total > 0.0:
        return tuple(0.0 if index in masked else one / total for index, one in enumerate(served))
    first = next((index for index in range(len(served)) if index not in masked), -1)
    return tuple(1.0 if index == first else 0.0 for index in range(len(served)))


def draw(
    served: Sequence[float],
    number: float,
    exhausted: Mapping[int, int],
    tiers: Sequence[int] | None = None,
    *,
    preferred: bool = False,
) -> Draw:
    """Mask the exhausted, and with ``tiers`` all but the highest one left, then pick at ``number``.

    Args:
        served: probability of each action, as the policy gave it and the floor and promotion changed it.
        number: the decision's own number in [0, 1).
        exhausted: the reason's code by index.
        tiers: each action's priority.
        preferred: the tiers are a baseline's own order, and no reason to remove anything.
    """
    lower = below(tiers, exhausted)
    masked = {**exhausted, **dict.fromkeys(() if preferred else lower, LOWER_PRIORITY)}
    if len(exhausted) == len(served):
        return Draw(tuple(sorted(masked.items())), -1)
    return Draw(tuple(sorted(masked.items())), pick(mask(served, frozenset(exhausted) | lower), number))


def below(tiers: Sequence[int] | None, exhausted: Collection[int]) -> frozenset[int]:
    """The actions that are left but not of the highest tier left."""
    if tiers is None:
        return frozenset()
    best = max((tier for index, tier in enumerate(tiers) if index not in exhausted), default=0)
    return frozenset(index for index, tier in enumerate(tiers) if index not in exhausted and tier < best)


def resolve(decision: Decision, drawn: Draw, fallback: Action, preferred: Sequence[int] | None = None) -> Decision:
    """The decision as it was drawn: masked actions are removed with their reasons and have probability 0.

    When nothing was left it is a fallback: no distribution, no propensity. ``preferred`` is a baseline's own order of
    the actions: all but the highest left have probability 0, and are not removed.
    """
    removed = (
        *decision.removed,
        *(Removed(decision.actions[index].offer_id, REASONS[code]) for index, code in drawn.masked),
    )
    if drawn.chosen < 0:
        return as_fallback(decision, removed, fallback)
    slot = decision.slots[0]
    if slot.distribution is None:
        return decision
    out = frozenset(index for index, _ in drawn.masked)
    served = mask(slot.distribution.served, out | below(preferred, out))
    fresh = SlotDecision(
        drawn.chosen, Distribution(slot.distribution.policy, served), served[drawn.chosen], slot.draw
    )  # fmt: skip
    return replace(decision, removed=removed, slots=(fresh,), took_units=drawn.took)


def as_fallback(decision: Decision, removed: Sequence[Removed], fallback: Action) -> Decision:
    """The decision when no offer was left: the fallback alone, never learned from."""
    return replace(
        decision,
        actions=(fallback,),
        removed=tuple(removed),
        slots=(SlotDecision(0, None, None, None),),
        use="fallback",
    )


def masked_indices(decision: Decision) -> frozenset[int]:
    """The actions that were left out at the draw: they stand among the actions and among the removed."""
    if len(decision.actions) == 1:
        # Were it left out, nothing would be left, and the fallback stood here.
        return frozenset()
    removed = {entry.offer_id for entry in decision.removed}
    return frozenset(index for index, action in enumerate(decision.actions) if action.offer_id in removed)
