from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contextual_bandit.eligibility import reason_against, split
from contextual_bandit.types import Offer, OfferStatus, Removed

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_an_active_offer_without_dates_is_eligible() -> None:
    assert reason_against(Offer("a", "garden"), NOW) is None


@pytest.mark.parametrize("status", ["draft", "paused", "ended"])
def test_only_active_offers_are_eligible(status: OfferStatus) -> None:
    assert reason_against(Offer("a", "garden", status=status), NOW) == f"status_{status}"


def test_an_offer_is_valid_from_its_first_moment_to_before_its_last() -> None:
    offer = Offer("a", "garden", valid_from=NOW, valid_to=NOW + 10 * SECOND)
    assert reason_against(offer, NOW - SECOND) == "not_yet_valid"
    assert reason_against(offer, NOW) is None
    assert reason_against(offer, NOW + 9 * SECOND) is None
    assert reason_against(offer, NOW + 10 * SECOND) == "expired"


def test_the_status_is_named_before_the_dates() -> None:
    assert reason_against(Offer("a", "garden", status="paused", valid_to=NOW), NOW) == "status_paused"


def test_eligible_offers_keep_their_order_and_removed_ones_their_reason() -> None:
    offers = [
        Offer("c", "garden"),
        Offer("late", "garden", valid_to=NOW),
        Offer("a", "garden"),
        Offer("early", "garden", valid_from=NOW + SECOND),
        Offer("draft", "garden", status="draft"),
    ]
    eligible, removed = split(iter(offers), NOW)
    assert [offer.offer_id for offer in eligible] == ["c", "a"]
    assert removed == [Removed("late", "expired"), Removed("early", "not_yet_valid"), Removed("draft", "status_draft")]


def test_nothing_in_nothing_out() -> None:
    assert split([], NOW) == ([], [])
