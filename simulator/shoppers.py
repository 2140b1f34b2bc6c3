"""Customers of a simulated market: what a shop knows of them, and the tastes and habits that no policy sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contextual_bandit.types import FeatureValue
from simulator.assumed import (
    BOT_SHARE,
    BOT_VISITS,
    CATEGORIES,
    GOLD_IF_NOT,
    GOLD_IF_SURE,
    SURE_FAVOURITES,
    SURE_SHARE,
)
from simulator.targets import INCOMES, KIDS

AGE_BANDS = ("18-34", "35-54", "55+")
AGE_SHARES = (0.3, 0.4, 0.3)
# Of the households of which the shop knows them; as published, of those that campaigns of type A targeted.
INCOME_SHARES = (0.27, 0.46, 0.27)
KIDS_SHARES = (0.645, 0.20, 0.07, 0.085)
SINGLE_SHARE = 0.3
# Share of households whose demographics are known, by quartile of spending; as published, 0.54 of those targeted.
KNOWN_BY_SPENDING = (0.15, 0.30, 0.50, 0.68)
LOYALTIES = ("none", "silver", "gold")
SILVER_SHARE = 0.3
TASTE_SPREAD = 0.9
# A habit is a taste that shows: the share of categories bought within 90 days, and how noisily taste tells of it.
# The shares are as published: 0.545 of all household-offer pairs, of which 0.174 had bought the very product.
HABIT_SHARE = 0.545
HABIT_NOISE = 1.5
PRODUCT_SHARE = 0.174
# The standard normal quantile of 1 - HABIT_SHARE.
LEAST_TELLING = -0.1130
MOST_OFFERS_OF_A_HABIT = 4096

# Log-odds per category. Demographic effects make tastes correlated with what the shop knows of a customer.
AGE_EFFECTS: Mapping[str, Mapping[str, float]] = {
    "18-34": {"coffee": 0.5, "garden": -0.7, "ice_cream": 0.3, "snacks": 0.5, "beauty": 0.4},
    "35-54": {"coffee": 0.3, "pet_food": 0.4, "rainwear": 0.2, "household": 0.3},
    "55+": {"garden": 0.9, "soup": 0.5, "ice_cream": -0.4, "bakery": 0.4, "snacks": -0.4},
}
HOUSEHOLD_EFFECTS: Mapping[str, float] = {
    "ice_cream": 0.3, "pet_food": 0.2, "coffee": -0.15, "soup": -0.1, "snacks": 0.2, "household": 0.15, "beauty": -0.1,
}  # fmt: skip

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer as the shop has them; ``number`` is their row in the population.

    ``age_band`` and ``household_size`` exist for everybody but are sent only when ``is_known``. ``joined_day`` counts
    from the market's first day.
    """

    customer_id: str
    number: int
    age_band: str
    household_size: int
    income: str
    kids: str
    loyalty: str
    region: str
    is_known: bool
    joined_day: float
    is_bot: bool

    @property
    def demographics(self) -> dict[str, FeatureValue]:
        """What the shop knows of the customer."""
        if not self.is_known:
            return {"loyalty": self.loyalty}
        return {
            "age_band": self.age_band,
            "household_size": self.household_size,
            "income": self.income,
            "kids": self.kids,
            "loyalty": self.loyalty,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """All customers as columns: shape (customers,), (customers, categories) or (customers, offers).

    Indices point into AGE_BANDS, INCOMES, KIDS, LOYALTIES and the regions; ``spending`` is a quartile from 0.
    ``taste`` and ``other_taste`` are log-odds per category: what a customer likes, and what they turn to as tastes
    drift. ``sensitivity`` multiplies the response to discounts, 1 on average.
    """

    age: Indices
    household_size: Indices
    income: Indices
    kids: Indices
    loyalty: Indices
    spending: Indices
    region: Indices
    is_sure: Flags
    is_bot: Flags
    proneness: Floats
    sensitivity: Floats
    visit_weight: Floats
    joined_day: Floats
    taste: Floats
    other_taste: Floats
    favourite: Flags
    bought_category: Flags
    product_luck: Floats

    @property
    def size(self) -> int:
        """Number of customers."""
        return self.age.size

    def habits(self, categories: Sequence[int]) -> Indices:
        """What each customer bought within 90 days: 0 nothing of it, 1 the category, 2 the very product.

        Args:
            categories: the category's index of each offer; returns shape (customers, offers).
        """
        bought = self.bought_category[:, list(categories)]
        products = self.product_luck[:, : len(categories)] < PRODUCT_SHARE
        return np.where(bought, 1 + products.astype(np.int64), 0)

    def customer(self, number: int, prefix: str, regions: Sequence[str]) -> Customer:
        """One row as the shop has it."""
        known = self.income[number] < len(INCOMES) - 1
        return Customer(
            f"{prefix}-{number}", number, AGE_BANDS[self.age[number]], int(self.household_size[number]),
            INCOMES[self.income[number]], KIDS[self.kids[number]], LOYALTIES[self.loyalty[number]],
            regions[self.region[number]], bool(known), float(self.joined_day[number]), bool(self.is_bot[number]),
        )  # fmt: skip


def draw_population(
    seed: int, customers: int, offers: int, regions: int, *, days: float = 0.0, late_share: float = 0.0
) -> Population:
    """Draw customers; more of them leave the first ones as they are.

    Args:
        seed: Where chance comes from.
        customers: How many, at least 1.
        offers: How many offers there are to have habits about.
        regions: How many regions they live in.
        days: The market's length, over which newcomers join.
        late_share: Share of customers who join after the first day.

    Raises:
        ValueError: no customer, or more offers than habits are drawn of.
    """
    if customers < 1:
        raise ValueError(f"a market needs at least 1 customer, got {customers}")
    if not 1 <= offers <= MOST_OFFERS_OF_A_HABIT:
        raise ValueError(f"a market has 1 to {MOST_OFFERS_OF_A_HABIT} offers, got {offers}")
    # One row of numbers per customer, so that the first rows do not depend on how many follow.
    luck = np.random.default_rng([seed, 0]).random((customers, 14))
    width = len(CATEGORIES)
    normal = np.random.default_rng([seed, 1]).standard_normal((customers, 3 * width + 1))
    gamma = np.random.default_rng([seed, 2]).standard_gamma([4.0, 2.0], (customers, 2))
    products = np.random.default_rng([seed, 3]).random((customers, offers), dtype=np.float64)
    age, kids_own = _pick(luck[:, 0], AGE_SHARES), _pick(luck[:, 1], KIDS_SHARES)
    adults = np.where(luck[:, 2] < SINGLE_SHARE, 1, 2)
    spending = (4.0 * luck[:, 3]).astype(np.int64)
    known = luck[:, 4] < np.array(KNOWN_BY_SPENDING)[spending]
    sure, bot = luck[:, 6] < SURE_SHARE, luck[:, 7] < BOT_SHARE
    size = adults + kids_own
    usual = _usual_tastes(age, size)
    own = normal[:, :width]
    taste = usual + TASTE_SPREAD * own
    # A normal variable of variance 1 + noise^2, above the quantile that leaves the published share.
    telling = (own + HABIT_NOISE * normal[:, 2 * width : 3 * width]) / (1.0 + HABIT_NOISE**2) ** 0.5
    ranks = np.argsort(np.argsort(-taste, axis=1), axis=1)
    joins = np.where(luck[:, 10] < late_share, luck[:, 11] * days, 0.0)
    return Population(
        age=age,
        household_size=size,
        income=np.where(known, _pick(luck[:, 5], INCOME_SHARES), len(INCOMES) - 1),
        kids=np.where(known, kids_own, len(KIDS) - 1),
        loyalty=_loyalty(luck[:, 8], sure),
        spending=spending,
        region=np.minimum((regions * luck[:, 9]).astype(np.int64), regions - 1),
        is_sure=sure & ~bot,
        is_bot=bot,
        proneness=normal[:, -1],
        sensitivity=0.25 * gamma[:, 0],
        visit_weight=np.where(bot, BOT_VISITS, 0.5 * gamma[:, 1]),
        joined_day=joins,
        taste=taste,
        other_taste=usual + TASTE_SPREAD * normal[:, width : 2 * width],
        favourite=ranks < SURE_FAVOURITES,
        bought_category=telling > LEAST_TELLING,
        product_luck=products,
    )


def _pick(luck: Floats, shares: Sequence[float]) -> Indices:
    """An index per number in [0, 1): each as often as its share says."""
    return np.minimum(np.searchsorted(np.cumsum(shares), luck, side="right"), len(shares) - 1).astype(np.int64)


def _loyalty(luck: Floats, sure: Flags) -> Indices:
    gold = luck < np.where(sure, GOLD_IF_SURE, GOLD_IF_NOT)
    silver = luck > 1.0 - SILVER_SHARE * np.where(sure, 1.0 - GOLD_IF_SURE, 1.0)
    return np.where(gold, 2, np.where(silver, 1, 0)).astype(np.int64)


def _usual_tastes(age: Indices, size: Indices) -> Floats:
    """What customers of an age and household usually like, shape (customers, categories)."""
    by_age = np.array([[AGE_EFFECTS[band].get(category, 0.0) for category in CATEGORIES] for band in AGE_BANDS])
    by_size = np.array([HOUSEHOLD_EFFECTS.get(category, 0.0) for category in CATEGORIES])
    usual: Floats = by_age[age] + by_size * (size - 2)[:, np.newaxis]
    return usual
