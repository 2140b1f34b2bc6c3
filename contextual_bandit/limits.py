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
# Reasons that a slot's view of a decision adds: an earlier slot shows the offer, or this one must not.
SHOWN_ABOVE = "shown_above"
SLOT_EXCLUDED = "slot_excludes"
GONE = frozenset({SHOWN_ABOVE, SLOT_EXCLUDED})
UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Draw:
    """What was left out (index and code, rising), and the index that was drawn; -1 when nothing was left.

    ``took``: 0, or COUNTED or HOLDS_STOCK when the drawn offer's units were taken.
    """

    masked: tuple[tuple[int, int], ...]
    chosen: int
    took: int = 0


@dataclass(frozen=True, slots=True)
class SlotDraw:
    """What one slot is drawn from; a plain decision has one.

    Args:
        served: probability of each action, as the policy gave it and the floor and promotion changed it.
        number: the slot's own number in [0, 1).
        tiers: each action's priority.
        preferred: the tiers are a baseline's own order, and no reason to remove anything.
        policy: probability of each action as the policy gave it; used when some are gone.
        floor: total mass that is spread evenly over what is left to the slot.
        share: probability that goes evenly to the promoted of what is left.
        promoted: which actions are promoted.
        excluded: the actions that the slot must not show.
    """

    served: tuple[float, ...]
    number: float
    tiers: tuple[int, ...] | None = None
    preferred: bool = False
    policy: tuple[float, ...] = ()
    floor: float = 0.0
    share: float = 0.0
    promoted: tuple[bool, ...] = ()
    excluded: frozenset[int] = frozenset()

    def left_to(self, gone: frozenset[int]) -> tuple[float, ...]:
        """The distribution over what is left when some actions are gone, which have probability 0.

        The policy's probabilities in proportion, then floor and promotion over what is left: what a plain decision
        among these alone would get from the same policy's proportions.
        """
        if not gone:
            return self.served
        return left_over(self.policy, gone, self.floor, self.promoted, self.share)


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


def left_over(
    policy: Sequence[float], gone: frozenset[int], floor: float, promoted: Sequence[bool], share: float
) -> tuple[float, ...]:
    """The policy's distribution without what is gone, with floor and promotion over what is left.

    >>> left_over((0.5, 0.25, 0.25), frozenset({0}), 0.5, (True, True, False), 0.5)
    (0.0, 0.75, 0.25)
    """
    left = len(policy) - len(gone)
    if left == 0:
        return (0.0,) * len(policy)
    kept, each = 1.0 - floor, floor / left
    served = [
        0.0 if index in gone else kept * one + each for index, one in enumerate(mask(policy, gone))
    ]  # fmt: skip
    count = sum(is_promoted for index, is_promoted in enumerate(promoted) if index not in gone)
    if count and share:
        kept, extra = 1.0 - share, share / count
        served = [
            0.0 if index in gone else kept * one + (extra if promoted[index] else 0.0)
            for index, one in enumerate(served)
        ]
    return tuple(served)


def draw(
    served: Sequence[float],
    number: float,
    exhausted: Mapping[int, int],
    tiers: Sequence[int] | None = None,
    *,
    preferred: bool = False,
) -> Draw:
    """One slot's draw (see ``draw_slots``)."""
    slot = SlotDraw(tuple(served), number, None if tiers is None else tuple(tiers), preferred)
    return draw_slots([slot], exhausted)[0]


def draw_slots(slots: Sequence[SlotDraw], exhausted: Mapping[int, int]) -> tuple[Draw, ...]:
    """Draw one slot after the other without replacement.

    At each slot what earlier ones show and what it must not show is gone; of the rest the exhausted are masked, and
    with tiers all but the highest one left; then its number picks.

    Args:
        slots: what each is drawn from, over the same actions.
        exhausted: the reason's code by index.
    """
    taken: set[int] = set()
    found: list[Draw] = []
    for slot in slots:
        gone = slot.excluded | taken
        closed = {index: code for index, code in exhausted.items() if index not in gone}
        if len(closed) + len(gone) == len(slot.served):
            found.append(Draw(tuple(sorted(closed.items())), -1))
            continue
        lower = below(slot.tiers, {*closed, *gone})
        masked = {**closed, **dict.fromkeys(() if slot.preferred else lower, LOWER_PRIORITY)}
        chosen = pick(_masked(slot.left_to(gone), gone, frozenset(closed) | lower), slot.number)
        found.append(Draw(tuple(sorted(masked.items())), chosen))
        taken.add(chosen)
    return tuple(found)


def drawn_from(slot: SlotDraw, gone: frozenset[int], drawn: Draw) -> tuple[float, ...]:
    """The distribution that a slot's draw was made from, recomputed from what the draw left out."""
    out = frozenset(index for index, _ in drawn.masked)
    if slot.preferred:
        out |= below(slot.tiers, out | gone)
    return _masked(slot.left_to(gone), gone, out)


def _masked(served: tuple[float, ...], gone: frozenset[int], out: frozenset[int]) -> tuple[float, ...]:
    """Masked anew only when more than what is gone already is out: dividing by a sum near 1 would change last bits."""
    return mask(served, gone | out) if out else served


def below(tiers: Sequence[int] | None, exhausted: Collection[int]) -> frozenset[int]:
    """The actions that are left but not of the highest tier left."""
    if tiers is None:
        return frozenset()
    best = max((tier for index, tier in enumerate(tiers) if index not in exhausted), default=0)
    return frozenset(index for index, tier in enumerate(tiers) if index not in exhausted and tier < best)


def resolve(
    decision: Decision,
    drawn: Draw,
    fallback: Action,
    preferred: Sequence[int] | None = None,
    *,
    is_rescaled: bool = False,
) -> Decision:
    """A plain decision as it was drawn: masked actions are removed with their reasons and have probability 0.

    When nothing was left it is a fallback: no distribution, no propensity. ``preferred`` is a baseline's own order of
    the actions: all but the highest left have probability 0, and are not removed. ``is_rescaled``: the script divided
    by the sum also when nothing was masked, as it did before there were slots.
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
    out |= below(preferred, out)
    served = slot.distribution.served
    if out or is_rescaled:
        served = mask(served, out)
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
    if removed.isdisjoint([action.offer_id for action in decision.actions]):
        return frozenset()
    return frozenset(index for index, action in enumerate(decision.actions) if action.offer_id in removed)
