"""What the simulated market assumes because no published data measured it: weather, season, sales, the web, fatigue.

The effects are as large as a shopkeeper might guess, and only there so that a policy has something to find. Nothing
that is learned from them says anything about real customers. ``ASSUMED`` is what every output must say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from contextual_bandit.season import SEASONS
from simulator.climate import BANDS, CONDITIONS

ASSUMED = ("weather effects", "season and sales effects", "web placement", "fatigue", "sure buyers", "returns", "bots")

CATEGORIES = (
    "soup", "ice_cream", "rainwear", "garden", "coffee", "pet_food", "bakery", "snacks", "household", "beauty",
)  # fmt: skip
# Money; what an item usually costs, and the share of it that is left before any discount.
USUAL_PRICES: Mapping[str, float] = {
    "soup": 4.0, "ice_cream": 6.0, "rainwear": 14.0, "garden": 12.0, "coffee": 9.0, "pet_food": 11.0, "bakery": 5.0,
    "snacks": 4.5, "household": 8.0, "beauty": 10.0,
}  # fmt: skip
MARGINS: Mapping[str, float] = {
    "soup": 0.45, "ice_cream": 0.45, "rainwear": 0.40, "garden": 0.40, "coffee": 0.42, "pet_food": 0.40,
    "bakery": 0.50, "snacks": 0.45, "household": 0.40, "beauty": 0.48,
}  # fmt: skip

# Log-odds per category under a temperature band, a condition and a season.
ASSUMED_BAND_EFFECTS: Mapping[str, Mapping[str, float]] = {
    "cold": {"soup": 1.1, "coffee": 0.4, "ice_cream": -1.2, "garden": -1.0},
    "cool": {"soup": 0.5, "coffee": 0.2, "ice_cream": -0.6, "garden": -0.3},
    "mild": {"garden": 0.3},
    "warm": {"ice_cream": 0.8, "garden": 0.5, "soup": -0.6},
    "hot": {"ice_cream": 1.6, "soup": -1.2, "coffee": -0.5},
}
ASSUMED_CONDITION_EFFECTS: Mapping[str, Mapping[str, float]] = {
    "clear": {"garden": 0.4, "ice_cream": 0.2, "rainwear": -1.0},
    "cloudy": {"rainwear": -0.2},
    "rain": {"rainwear": 2.0, "soup": 0.3, "garden": -0.9},
    "snow": {"rainwear": 0.4, "soup": 0.5, "coffee": 0.3, "garden": -1.5},
}
ASSUMED_SEASON_EFFECTS: Mapping[str, Mapping[str, float]] = {
    "winter": {"soup": 0.3, "garden": -0.8, "bakery": 0.3},
    "spring": {"garden": 1.0, "household": 0.3},
    "summer": {"ice_cream": 0.5, "soup": -0.4, "snacks": 0.2},
    "autumn": {"rainwear": 0.4, "coffee": 0.3},
}
# Log-odds of every category from a week before a sales date to the date itself.
ASSUMED_SALE_EFFECT = 0.3

# A banner in the shop: its log-odds over the published rate per coupon of its type of campaign, and how much of what
# tells households apart by mail is left. And log-odds of each step of the funnel over the next one.
WEB_LIFT = -0.2
WEB_SHARE = 0.2
CART_LIFT = 0.5
CLICK_LIFT = 1.3
# Log-odds of the offer per share of the price taken off (times the customer's own sensitivity, 1 on average), and per
# logarithm of its price over the usual one.
DISCOUNT_RESPONSE = 4.0
USUAL_DISCOUNT = 0.2
PRICE_RESPONSE = -0.8
# Log-odds lost per recent exposure to the same offer, and to any.
FATIGUE = 0.2
PRESSURE = 0.02
FATIGUE_HALF_LIFE_SECONDS = 86400.0

# Log-odds of buying a category of one's own accord around a visit; more in each quartile of spending.
ORGANIC = -6.2
ORGANIC_BY_SPENDING = 0.3
# Who buys anyway uses a coupon that is at hand: log-odds over who would not have bought.
CLAIM_LIFT = 3.0
# Sure buyers: a share of customers who buy their favourite categories anyway and hardly anything for an offer's sake.
SURE_SHARE = 0.25
SURE_FAVOURITES = 3
SURE_ORGANIC = 4.5
SURE_INDUCED = -3.0
# Share of customers with a gold card, among sure buyers and others: what the shop can know of it beforehand.
GOLD_IF_SURE = 0.85
GOLD_IF_NOT = 0.05

RETURN_SHARE = 0.06
CONTACT_COST = 0.05
BOT_SHARE = 0.02
BOT_CLICK = 0.35
BOT_VISITS = 5.0


def effect_matrix(table: Mapping[str, Mapping[str, float]], words: Sequence[str]) -> NDArray[np.float64]:
    """A table of effects as an array of shape (words, categories); what it does not name is 0."""
    return np.array([[table.get(word, {}).get(category, 0.0) for category in CATEGORIES] for word in words])


BAND_MATRIX = effect_matrix(ASSUMED_BAND_EFFECTS, BANDS)
CONDITION_MATRIX = effect_matrix(ASSUMED_CONDITION_EFFECTS, CONDITIONS)
SEASON_MATRIX = effect_matrix(ASSUMED_SEASON_EFFECTS, SEASONS)
