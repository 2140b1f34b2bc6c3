from __future__ import annotations

import pytest

from contextual_bandit.actions import action_of, no_offer, offer_features
from contextual_bandit.types import Offer


def test_what_is_set_becomes_a_feature_and_nothing_else() -> None:
    assert offer_features(Offer("a", "garden")) == {"category": "garden"}
    offer = Offer("a", "garden", features={"size": "large"}, type="percentage", discount=0.1, price=24.9, margin=0.35,
                  cost=2.0, code="SPRING", creative={"title": "x"}, tags=("promoted",), priority=3)  # fmt: skip
    assert offer_features(offer) == {
        "category": "garden", "type": "percentage", "discount": 0.1, "price_band": "p4", "margin": 0.35,
        "size": "large",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("price", "band"), [(0.0, "p-7"), (0.5, "p-1"), (0.99, "p-1"), (1.0, "p0"), (15.99, "p3"), (16.0, "p4")]
)
def test_prices_have_bands_that_double(price: float, band: str) -> None:
    assert offer_features(Offer("a", "garden", price=price))["price_band"] == band


def test_an_offers_own_feature_goes_first() -> None:
    assert offer_features(Offer("a", "garden", features={"discount": 0.5}, discount=0.1))["discount"] == 0.5


def test_an_action_keeps_cost_version_and_promotion() -> None:
    offer = Offer("a", "garden", version=7, cost=0.4, tags=("star",))
    action = action_of(offer, {"category": "garden"}, {"r4": 1.0}, "star")
    assert (action.version, action.cost, action.promoted, action.affinity) == (7, 0.4, True, {"r4": 1.0})
    assert not action_of(offer, {}, {}, "promoted").promoted
    assert no_offer().features == {"type": "none"}
