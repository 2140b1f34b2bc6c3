"""Draws that happen inside a policy, beside units that are counted elsewhere: drawn, then taken or drawn again.

The script that counts units cannot ask a policy. So the policy draws first, and the script takes what was drawn if
nothing that it was drawn among is exhausted. Else it says what is exhausted, and the policy draws again without all of
that. Whether a draw stands never depends on what was drawn, so that its probabilities hold
(docs/decisions/0017-ccb-inside.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.units import Entry, LimitedTake
from contextual_bandit.limits import CAP_EXHAUSTED
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy_draws import PolicyDraws
from contextual_bandit.types import Decision, Offer

# The position of a decision that was not logged, as something is exhausted.
REFUSED = ""


@dataclass(frozen=True, slots=True)
class InsideDraws:
    """What a policy draws from, and the offers among it whose shows are counted, by index, as of ``now_ms``."""

    draws: PolicyDraws
    offers: tuple[tuple[int, Entry], ...]
    now_ms: int

    def take(self, decision: Decision) -> LimitedTake | None:
        """What is to be taken for a decision that was drawn; None when nothing that it was drawn among is counted."""
        offers = tuple((index, entry) for index, entry in self.offers if index not in self.draws.exhausted)
        if not offers or decision.use == "fallback":
            return None
        shown = tuple(slot.chosen for slot in decision.slots if slot.distribution is not None)
        return LimitedTake((), self.now_ms, decision.customer_id, offers, shown, len(decision.slots))

    def without(self, masked: Iterable[tuple[int, int]]) -> InsideDraws:
        """The same without what is exhausted as well: index and the reason's code."""
        return replace(self, draws=replace(self.draws, exhausted={**self.draws.exhausted, **dict(masked)}))

    def without_units(self) -> Decision:
        """The decision where no units are counted: what has limits counts as exhausted."""
        closed = [(index, CAP_EXHAUSTED) for index, entry in self.offers if entry.is_limited]
        draws = self.without(closed).draws
        return replace(draws, took={}).drawn()


def draws_of(
    loop: LoopConfig,
    draws: PolicyDraws,
    offers: Sequence[Offer],
    counted: tuple[tuple[int, Entry], ...],
    tiers: tuple[int, ...] | None,
) -> InsideDraws:
    """What a policy draws from, with what the catalogue says of it.

    Args:
        loop: the loop's settings.
        draws: the decision, not drawn yet.
        offers: of its actions, in their order.
        counted: those whose shows are counted.
        tiers: each one's priority, where they make a difference.
    """
    decision = draws.decision
    moment = decision.occurred_at if loop.clock == "simulated" else decision.decided_at
    # As everywhere, relations are about what a customer is shown, so that nobody has none.
    excludes = {} if decision.customer_id is None else _excludes(offers)
    took = {index: int(entry.spec["took"]) for index, entry in counted}
    return InsideDraws(
        replace(draws, tiers=tiers, excludes=excludes, took=took), counted, int(moment.timestamp() * 1000)
    )  # fmt: skip


def _excludes(offers: Sequence[Offer]) -> Mapping[int, frozenset[int]]:
    """By index the offers that must not be shown below it: those whose limits exclude it."""
    places = {offer.offer_id: index for index, offer in enumerate(offers)}
    found: dict[int, set[int]] = {}
    for index, offer in enumerate(offers):
        for name in offer.limits.excludes:
            if name in places:
                found.setdefault(places[name], set()).add(index)
    return {index: frozenset(below) for index, below in found.items()}
