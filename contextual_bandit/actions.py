"""Offers as the policy sees them: their features, and the action that a decision freezes."""

from __future__ import annotations

from math import floor, log2

from contextual_bandit.loops import NO_OFFER
from contextual_bandit.types import Action, Features, FeatureValue, Offer

LOWEST_PRICE = 0.01


def offer_features(offer: Offer) -> Features:
    """Features of the namespace O: what is set of category, type, discount, price band and margin, and its own.

    ``price_band`` is pN for prices from 2^N up to 2^(N+1); an offer's own feature of the same name goes first.
    """
    features: dict[str, FeatureValue] = {"category": offer.category}
    if offer.type is not None:
        features["type"] = offer.type
    if offer.discount is not None:
        features["discount"] = offer.discount
    if offer.price is not None:
        features["price_band"] = f"p{floor(log2(max(offer.price, LOWEST_PRICE)))}"
    if offer.margin is not None:
        features["margin"] = offer.margin
    return {**features, **offer.features}


def action_of(offer: Offer, features: Features, affinity: Features, promoted_tag: str) -> Action:
    """The action of an offer in one decision."""
    return Action(offer.offer_id, features, affinity, offer.version, offer.cost, promoted_tag in offer.tags)


def no_offer() -> Action:
    """Nothing at all: what is served when nothing is eligible and the loop names nothing else."""
    return Action(NO_OFFER, {"type": "none"})
