"""Which offers may be decided among now: rules come before exploration, and say why (step Decide)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from contextual_bandit.types import Offer, Removed


def reason_against(offer: Offer, now: datetime) -> str | None:
    """The code of the first rule that removes the offer at ``now``, or None when it is eligible.

    An offer is valid from ``valid_from`` (inclusive) to ``valid_to`` (exclusive).
    """
    if offer.status != "active":
        return f"status_{offer.status}"
    if offer.valid_from is not None and now < offer.valid_from:
        return "not_yet_valid"
    if offer.valid_to is not None and now >= offer.valid_to:
        return "expired"
    return None


def split(offers: Iterable[Offer], now: datetime) -> tuple[list[Offer], list[Removed]]:
    """Eligible offers in their order, and the removed ones with reason codes."""
    eligible: list[Offer] = []
    removed: list[Removed] = []
    for offer in offers:
        reason = reason_against(offer, now)
        if reason is None:
            eligible.append(offer)
        else:
            removed.append(Removed(offer.offer_id, reason))
    return eligible, removed
