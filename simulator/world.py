"""A market whose truth is known: seeded customers, weather and offers, and how likely each click really is.

The true click probability of an offer is

    sigmoid(BASE + taste + weather effect + season effect + discount response + price response + fatigue)

where a customer's taste per category depends on their demographics. Weather and season effects are **assumed**: no
published data measured them; they are as large as a shopkeeper might guess, and only there so that a policy has
something to find. Nothing here does I/O or reads a clock; equal seeds give equal markets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import cos, log, pi

import numpy as np
from numpy.typing import NDArray

from contextual_bandit.season import SEASONS
from contextual_bandit.types import Features, FeatureValue

CATEGORIES = ("soup", "ice_cream", "rainwear", "garden", "coffee", "pet_food")
AGE_BANDS = ("18-34", "35-54", "55+")
LARGEST_HOUSEHOLD = 5
START = datetime(2024, 1, 1, tzinfo=UTC)

BASE = -3.9
TASTE_SPREAD = 0.9
DISCOUNT_RESPONSE = 4.0
PRICE_RESPONSE = -0.8
USUAL_PRICE = 6.0
FATIGUE = 0.2
FATIGUE_HALF_LIFE_SECONDS = 86400.0
MEDIAN_DELAY_SECONDS = 900.0
DELAY_SPREAD = 2.2

# Log-odds per category. Demographic effects make tastes correlated with what the shop knows of a customer.
AGE_EFFECTS: Mapping[str, Mapping[str, float]] = {
    "18-34": {"coffee": 0.5, "garden": -0.7, "ice_cream": 0.3},
    "35-54": {"coffee": 0.3, "pet_food": 0.4, "rainwear": 0.2},
    "55+": {"garden": 0.9, "soup": 0.5, "ice_cream": -0.4},
}
HOUSEHOLD_EFFECTS: Mapping[str, float] = {"ice_cream": 0.3, "pet_food": 0.2, "coffee": -0.15, "soup": -0.1}

# Assumed (see the module's docstring): log-odds per category under a temperature band, a condition and a season.
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
    "winter": {"soup": 0.3, "garden": -0.8},
    "spring": {"garden": 1.0},
    "summer": {"ice_cream": 0.5, "soup": -0.4},
    "autumn": {"rainwear": 0.4, "coffee": 0.3},
}


@dataclass(frozen=True, slots=True)
class Region:
    """A climate in degrees Celsius; ``turns_wet`` is the chance that a wet day follows a dry one."""

    name: str
    mean_celsius: float
    swing_celsius: float
    turns_wet: float


REGIONS = (
    Region("north", 7.0, 11.0, 0.30),
    Region("coast", 12.0, 6.0, 0.40),
    Region("inland", 13.0, 13.0, 0.20),
    Region("south", 19.0, 9.0, 0.12),
)


@dataclass(frozen=True, slots=True)
class Weather:
    """One day of one region."""

    celsius: float
    condition: str

    @property
    def band(self) -> str:
        """Temperature band: cold below 5 degrees Celsius, cool below 13, mild below 20, warm below 27, hot."""
        for limit, name in ((5.0, "cold"), (13.0, "cool"), (20.0, "mild"), (27.0, "warm")):
            if self.celsius < limit:
                return name
        return "hot"

    @property
    def features(self) -> Features:
        """What a shop would send as context."""
        return {"band": self.band, "condition": self.condition}


@dataclass(frozen=True, slots=True)
class Customer:
    """Who visits. ``tastes`` (log-odds per category) and ``discount_sensitivity`` are latent: no policy sees them."""

    customer_id: str
    age_band: str
    household_size: int
    region: str
    tastes: tuple[float, ...]
    discount_sensitivity: float
    visit_weight: float

    @property
    def demographics(self) -> dict[str, FeatureValue]:
        """What the shop knows of the customer."""
        return {"age_band": self.age_band, "household_size": self.household_size}


@dataclass(frozen=True, slots=True)
class MarketOffer:
    """One offer: ``discount`` is the share taken off ``price``."""

    offer_id: str
    category: str
    discount: float
    price: float

    @property
    def features(self) -> dict[str, FeatureValue]:
        """Features of the catalogue; the price as a band."""
        band = "low" if self.price < 5.0 else "middle" if self.price < 15.0 else "high"
        return {"discount": self.discount, "price_band": band}


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision is made. ``shown`` counts recent exposures of this customer by offer, decayed to ``at``."""

    at: datetime
    weather: Weather
    shown: Mapping[str, float] = field(default_factory=dict)

    @property
    def season(self) -> str:
        """The season (northern), as the service's own features have it in UTC."""
        return SEASONS[self.at.month % 12 // 3]


@dataclass(frozen=True, slots=True)
class Response:
    """What came of showing an offer; ``delay_seconds`` passes before the shop hears of a click."""

    clicked: bool
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class World:
    """A market: its customers and offers, the weather of each region and day, and the truth about responses.

    ``weather_effect`` and ``season_effect`` multiply the assumed effects; with 0 there is weather, but nobody minds it.
    """

    seed: int
    start: datetime
    customers: tuple[Customer, ...]
    offers: tuple[MarketOffer, ...]
    weather: Mapping[str, tuple[Weather, ...]]
    weather_effect: float = 1.0
    season_effect: float = 1.0

    def weather_at(self, region: str, at: datetime) -> Weather:
        """The weather of a region on the (UTC) day of a moment.

        Raises:
            ValueError: the day lies outside the market's time.
        """
        day = (at - self.start) // timedelta(days=1)
        series = self.weather[region]
        if not 0 <= day < len(series):
            raise ValueError(f"no weather on {at.date()}: the market lasts {len(series)} days from {self.start.date()}")
        return series[day]

    def moment(self, customer: Customer, at: datetime, shown: Mapping[str, float] | None = None) -> Moment:
        """The moment of a visit."""
        return Moment(at, self.weather_at(customer.region, at), shown or {})

    def expected_reward(self, customer: Customer, moment: Moment, offer: MarketOffer) -> float:
        """True probability, in (0, 1), that the customer clicks the offer at this moment."""
        category = CATEGORIES.index(offer.category)
        log_odds = (
            BASE
            + customer.tastes[category]
            + self.weather_effect * assumed_weather_effect(offer.category, moment.weather)
            + self.season_effect * assumed_season_effect(offer.category, moment.season)
            + DISCOUNT_RESPONSE * customer.discount_sensitivity * offer.discount
            + PRICE_RESPONSE * log(offer.price / USUAL_PRICE)
            - FATIGUE * moment.shown.get(offer.offer_id, 0.0)
        )
        return float(1.0 / (1.0 + np.exp(-log_odds)))

    def expected_rewards(self, customer: Customer, moment: Moment) -> NDArray[np.float64]:
        """True click probabilities in the order of ``offers``."""
        return np.array([self.expected_reward(customer, moment, offer) for offer in self.offers])

    def best_offer(self, customer: Customer, moment: Moment) -> MarketOffer:
        """The offer with the highest expected reward at this moment; of equals the first."""
        return self.offers[int(self.expected_rewards(customer, moment).argmax())]

    def respond(
        self, customer: Customer, moment: Moment, offer: MarketOffer, generator: np.random.Generator
    ) -> Response:
        """Draw what the customer does; the delay is log-normal: seconds to hours, now and then days."""
        clicked = bool(generator.random() < self.expected_reward(customer, moment, offer))
        return Response(clicked, float(MEDIAN_DELAY_SECONDS * np.exp(DELAY_SPREAD * generator.standard_normal())))

    def browse(self, customer: Customer, generator: np.random.Generator, size: int) -> list[str]:
        """Draw categories that the customer looks at or buys of their own accord, by taste."""
        weights = np.exp(np.array(customer.tastes))
        drawn = generator.choice(len(CATEGORIES), size=size, p=weights / weights.sum())
        return [CATEGORIES[index] for index in drawn]


class Exposures:
    """How often each customer was recently shown each offer; one exposure halves in weight every day."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[datetime, float]] = {}
        self._offers: dict[str, list[str]] = {}

    def of(self, customer_id: str, at: datetime) -> dict[str, float]:
        """Decayed counts by offer, for those shown at least once."""
        return {offer_id: self._weight(customer_id, offer_id, at) for offer_id in self._offers.get(customer_id, ())}

    def add(self, customer_id: str, offer_id: str, at: datetime) -> None:
        """Count one exposure; a customer's exposures come in order of time."""
        key = (customer_id, offer_id)
        if key not in self._seen:
            self._offers.setdefault(customer_id, []).append(offer_id)
        self._seen[key] = (at, self._weight(customer_id, offer_id, at) + 1.0)

    def _weight(self, customer_id: str, offer_id: str, at: datetime) -> float:
        since, weight = self._seen.get((customer_id, offer_id), (at, 0.0))
        return float(weight * 0.5 ** ((at - since).total_seconds() / FATIGUE_HALF_LIFE_SECONDS))


def assumed_weather_effect(category: str, weather: Weather) -> float:
    """Log-odds that weather adds to a category: assumed, not measured."""
    band, condition = ASSUMED_BAND_EFFECTS[weather.band], ASSUMED_CONDITION_EFFECTS[weather.condition]
    return band.get(category, 0.0) + condition.get(category, 0.0)


def assumed_season_effect(category: str, season: str) -> float:
    """Log-odds that a season adds to a category: assumed, not measured."""
    return ASSUMED_SEASON_EFFECTS[season].get(category, 0.0)


def make_world(seed: int, customers: int, days: int, start: datetime = START) -> World:
    """Build a market.

    Args:
        seed: Equal seeds (with equal sizes) give equal markets.
        customers: Number of customers, at least 1.
        days: Days for which there is weather, at least 1.
        start: First day, midnight UTC.
    """
    people, sky, goods = (np.random.default_rng([seed, part]) for part in range(3))
    return World(
        seed,
        start,
        tuple(_customer(f"market-{seed}-customer-{number}", people) for number in range(customers)),
        _offers(seed, goods),
        {region.name: _weather(region, start, days, sky) for region in REGIONS},
    )


def _customer(customer_id: str, generator: np.random.Generator) -> Customer:
    age_band = AGE_BANDS[generator.choice(len(AGE_BANDS), p=(0.3, 0.4, 0.3))]
    household_size = int(generator.choice(LARGEST_HOUSEHOLD, p=(0.28, 0.34, 0.16, 0.14, 0.08))) + 1
    region = REGIONS[generator.integers(len(REGIONS))].name
    own = TASTE_SPREAD * generator.standard_normal(len(CATEGORIES))
    tastes = tuple(
        float(own[index])
        + AGE_EFFECTS[age_band].get(category, 0.0)
        + HOUSEHOLD_EFFECTS.get(category, 0.0) * (household_size - 2)
        for index, category in enumerate(CATEGORIES)
    )
    sensitivity = float(generator.gamma(4.0, 0.25))
    return Customer(
        customer_id, age_band, household_size, region, tastes, sensitivity, float(generator.gamma(2.0, 0.5))
    )


def _offers(seed: int, generator: np.random.Generator) -> tuple[MarketOffer, ...]:
    """Two offers per category: a small discount on a cheap product, a larger one on a dearer product."""
    offers = []
    for category in CATEGORIES:
        price = float(generator.uniform(2.5, 12.0))
        for name, least, times in (("small", 0.05, 1.0), ("large", 0.20, 2.0)):
            discount = round(least + 0.05 * float(generator.integers(0, 3)), 2)
            offers.append(MarketOffer(f"market-{seed}-{category}-{name}", category, discount, round(times * price, 2)))
    return tuple(offers)


def _weather(region: Region, start: datetime, days: int, generator: np.random.Generator) -> tuple[Weather, ...]:
    """Temperature: a yearly cosine plus noise that fades from day to day. Wet days follow wet days."""
    series = []
    noise, wet = 0.0, False
    for day in range(days):
        day_of_year = (start + timedelta(days=day)).timetuple().tm_yday
        noise = 0.7 * noise + 2.8 * float(generator.standard_normal())
        celsius = region.mean_celsius + region.swing_celsius * cos(2.0 * pi * (day_of_year - 200) / 365.25) + noise
        wet = bool(generator.random() < (0.6 if wet else region.turns_wet))
        dry_condition = "clear" if generator.random() < 0.55 else "cloudy"
        condition = ("snow" if celsius < 1.0 else "rain") if wet else dry_condition
        series.append(Weather(round(celsius, 1), condition))
    return tuple(series)
