"""Offers of a simulated market: per category a small and a large discount, newcomers, and offering nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from contextual_bandit.types import FeatureValue
from simulator.assumed import CATEGORIES, CONTACT_COST, MARGINS, USUAL_PRICES
from simulator.targets import CAMPAIGN_TYPES

NONE = "none"


@dataclass(frozen=True, slots=True)
class MarketOffer:
    """One offer: ``discount`` is the share taken off ``price``; valid from ``first_day`` until before ``last_day``.

    ``margin`` is the share of the price that is left before the discount, ``cost`` the money that a contact costs.
    Category "none" offers nothing.
    """

    offer_id: str
    category: str
    discount: float
    price: float
    margin: float = 0.0
    campaign_type: str = "A"
    cost: float = 0.0
    first_day: float = 0.0
    last_day: float = inf

    @property
    def is_none(self) -> bool:
        """Whether it offers nothing."""
        return self.category == NONE

    @property
    def features(self) -> dict[str, FeatureValue]:
        """Features of the catalogue beside its fields."""
        return {} if self.is_none else {"campaign": self.campaign_type}


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """All offers as columns of shape (offers,); the offer of nothing has category 0 and counts for nothing."""

    category: NDArray[np.int64]
    campaign: NDArray[np.int64]
    discount: NDArray[np.float64]
    price: NDArray[np.float64]
    margin: NDArray[np.float64]
    cost: NDArray[np.float64]
    first_day: NDArray[np.float64]
    last_day: NDArray[np.float64]
    is_none: NDArray[np.bool_]
    usual_price: NDArray[np.float64]

    @classmethod
    def of(cls, offers: Sequence[MarketOffer]) -> Shelf:
        """The columns of offers.

        Raises:
            ValueError: no offer, or two of one id.
        """
        ids = [offer.offer_id for offer in offers]
        if not ids or len(set(ids)) < len(ids):
            raise ValueError(f"a market needs offers with different ids, got {ids}")
        category = np.array([0 if offer.is_none else CATEGORIES.index(offer.category) for offer in offers])
        numbers = {
            name: np.array([getattr(offer, name) for offer in offers], dtype=np.float64)
            for name in ("discount", "price", "margin", "cost", "first_day", "last_day")
        }
        return cls(
            category=category.astype(np.int64),
            campaign=np.array([CAMPAIGN_TYPES.index(offer.campaign_type) for offer in offers], dtype=np.int64),
            is_none=np.array([offer.is_none for offer in offers]),
            usual_price=np.array([USUAL_PRICES[name] for name in CATEGORIES])[category],
            **numbers,
        )


def draw_offers(
    seed: int, *, per_category: int = 2, newcomers: int = 0, days: float = 0.0, with_none: bool = False
) -> tuple[MarketOffer, ...]:
    """Offers of each category: by turns a small discount of a mass campaign and a large one of a personal campaign.

    Args:
        seed: Where chance comes from.
        per_category: How many each category has from the first day on.
        newcomers: How many more come one after another within the market's ``days``; as many of the first ones end.
        days: The market's length.
        with_none: Whether nothing may be offered too; it comes last.

    Raises:
        ValueError: fewer than 1 per category, or newcomers that would take all old offers away.
    """
    total = per_category * len(CATEGORIES)
    if per_category < 1 or not 0 <= newcomers < total:
        raise ValueError(f"{per_category} offers per category and {newcomers} newcomers make no market")
    generator = np.random.default_rng([seed, 4])
    offers = [
        _draw_offer(seed, category, number, generator) for number in range(per_category) for category in CATEGORIES
    ]
    for number in range(newcomers):
        day = days * (number + 1) / (newcomers + 1)
        category = CATEGORIES[int(generator.integers(len(CATEGORIES)))]
        offers.append(_draw_offer(seed, category, per_category + number, generator, first_day=day))
    if newcomers:
        ending = generator.choice(total, newcomers, replace=False)
        for number, index in enumerate(sorted(ending.tolist())):
            old = offers[index]
            last_day = days * (number + 1.5) / (newcomers + 1)
            offers[index] = MarketOffer(
                old.offer_id, old.category, old.discount, old.price, old.margin, old.campaign_type, old.cost,
                old.first_day, last_day,
            )  # fmt: skip
    if with_none:
        offers.append(MarketOffer(f"market-{seed}-{NONE}", NONE, 0.0, 0.0))
    return tuple(offers)


def _draw_offer(
    seed: int, category: str, number: int, generator: np.random.Generator, first_day: float = 0.0
) -> MarketOffer:
    large = number % 2 == 1
    discount = round((0.20 if large else 0.05) + 0.05 * float(generator.integers(0, 3)), 2)
    price = round(USUAL_PRICES[category] * float(generator.uniform(0.85, 1.2)), 2)
    campaign = "A" if large else ("B", "C")[int(generator.integers(2))]
    name = f"market-{seed}-{category}-{('small', 'large')[large]}" + (f"-{number}" if number > 1 else "")
    return MarketOffer(name, category, discount, price, MARGINS[category], campaign, CONTACT_COST, first_day)
