"""A market whose truth is known: seeded customers, weather, offers, and what each offer is really worth to the shop.

For a customer, a moment and an offer of category c the market knows three probabilities exactly: ``organic``, that the
customer buys of c anyway; ``induced``, that the offer makes one buy who would not have; and ``claimed``, that one who
buys anyway takes the discount along. With p the offer's price, m its margin, d its discount and k the contact's cost,
showing it earns

    (1 - returns) [ (1 - organic) induced p (m - d) + organic claimed (p (m - d) - p' m) ] - k

beside what the customer buys of their own accord (p' is the category's usual price). Redemptions are calibrated
(calibration.py); what is merely assumed is in assumed.py. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from contextual_bandit.season import SEASONS, days_to_next_sale
from simulator.assumed import (
    ASSUMED_BAND_EFFECTS,
    ASSUMED_CONDITION_EFFECTS,
    ASSUMED_SALE_EFFECT,
    ASSUMED_SEASON_EFFECTS,
    BAND_MATRIX,
    BOT_CLICK,
    CATEGORIES,
    CLAIM_LIFT,
    CLICK_LIFT,
    CONDITION_MATRIX,
    DISCOUNT_RESPONSE,
    FATIGUE,
    FATIGUE_HALF_LIFE_SECONDS,
    MARGINS,
    ORGANIC,
    ORGANIC_BY_SPENDING,
    PRESSURE,
    PRICE_RESPONSE,
    RETURN_SHARE,
    SEASON_MATRIX,
    SURE_INDUCED,
    SURE_ORGANIC,
    USUAL_DISCOUNT,
    USUAL_PRICES,
)
from simulator.calibration import FITTED
from simulator.climate import BANDS, CONDITIONS, REGIONS, Weather, WeatherTable, generate_weather
from simulator.drift import Drift
from simulator.shelf import MarketOffer, Shelf, draw_offers
from simulator.shoppers import Customer, Floats, Indices, Population, draw_population

__all__ = ["ASSUMED_BAND_EFFECTS", "ASSUMED_CONDITION_EFFECTS", "ASSUMED_SEASON_EFFECTS", "CATEGORIES", "START",
           "Customer", "Exposures", "MarketOffer", "Moment", "Moments", "Truth", "Weather", "World",
           "make_world"]  # fmt: skip

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SALE_WEEK_DAYS = 7
Objective: TypeAlias = Literal["clicks", "margin"]
Placement: TypeAlias = Literal["web", "mail"]

_PRICES = np.array([USUAL_PRICES[name] for name in CATEGORIES])
_EARNED = _PRICES * np.array([MARGINS[name] for name in CATEGORIES])


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


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Many visits as columns, each of shape (rows,); ``shown`` is (rows, offers), or None for nobody was shown any.

    ``band``, ``condition`` and ``season`` are indices into BANDS, CONDITIONS and SEASONS, ``day`` counts from the
    market's start with its fraction, ``is_sale`` says whether a sales date is at most a week away.
    """

    customer: Indices
    day: Floats
    season: Indices
    band: Indices
    condition: Indices
    is_sale: NDArray[np.bool_]
    shown: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is true of each row: probabilities and money, shape (rows, offers), and ``organic`` (rows, categories).

    ``interest`` are the log-odds that a customer who would not have bought redeems; ``gain`` is the expected money that
    showing the offer adds, ``base`` (rows,) what the customer's own purchases earn. ``is_available`` says which offers
    there are at the moment.
    """

    interest: Floats
    claim_interest: Floats
    organic: Floats
    clicks: Floats
    redemptions: Floats
    gain: Floats
    base: Floats
    is_available: NDArray[np.bool_]

    def reward(self, objective: Objective) -> Floats:
        """Expected reward of each offer, shape (rows, offers); -inf where the offer is not available."""
        value = self.clicks if objective == "clicks" else self.base[:, np.newaxis] + self.gain
        return np.where(self.is_available, value, -np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A market: its customers and offers, the weather of each region and day, and the truth about responses.

    ``weather_effect`` and ``season_effect`` multiply the assumed effects; with 0 there is weather, but nobody minds it.
    ``placement`` is where offers are seen, ``static`` log-odds that do not change with the moment. ``objective`` says
    what ``expected_reward`` counts: clicks, or the money that is left. ``wanted`` says how much each category is wanted
    as long as nothing shifts, in log-odds of its best offer.
    """

    seed: int
    start: datetime
    days: int
    customers: tuple[Customer, ...]
    offers: tuple[MarketOffer, ...]
    regions: tuple[str, ...]
    weather: Mapping[str, tuple[Weather, ...]]
    population: Population
    shelf: Shelf
    drift: Drift
    objective: Objective
    weather_effect: float
    season_effect: float
    placement: Placement
    static: Floats
    table: WeatherTable
    wanted: Floats

    def weather_at(self, region: str, at: datetime) -> Weather:
        """The weather of a region on the (UTC) day of a moment.

        Raises:
            ValueError: the day lies outside the market's time.
        """
        series = self.weather[region]
        day = (at - self.start) // DAY
        if not 0 <= day < len(series):
            raise ValueError(f"no weather on {at.date()}: the market lasts {len(series)} days from {self.start.date()}")
        return series[day]

    def moment(self, customer: Customer, at: datetime, shown: Mapping[str, float] | None = None) -> Moment:
        """The moment of a visit."""
        return Moment(at, self.weather_at(customer.region, at), shown or {})

    def moments(self, customers: Indices, seconds: Indices, shown: Floats | None = None) -> Moments:
        """The moments of many visits.

        Args:
            customers: Row of each visitor in the population, shape (rows,).
            seconds: Seconds since the market's start, shape (rows,).
            shown: Decayed exposures, shape (rows, offers).

        Raises:
            ValueError: a visit outside the market's time.
        """
        whole = seconds // 86400
        if whole.size and (whole.min() < 0 or whole.max() >= self.days):
            raise ValueError(f"visits on days {whole.min()} to {whole.max()}: the market lasts {self.days} days")
        days = [self.start + number * DAY for number in range(self.days)]
        seasons = np.array([SEASONS.index(SEASONS[day.month % 12 // 3]) for day in days])
        sales = np.array([_is_sale(day) for day in days])
        region = self.population.region[customers]
        return Moments(
            customers, seconds / 86400.0, seasons[whole], self.table.band[region, whole],
            self.table.condition[region, whole], sales[whole], shown,
        )  # fmt: skip

    def truth(self, moments: Moments) -> Truth:
        """What is true of many moments at once."""
        people, shelf, who = self.population, self.shelf, moments.customer
        pull = self._pull(moments)
        interest = self.static[who] + pull[:, shelf.category] + self._response(who)
        if moments.shown is not None:
            interest -= FATIGUE * moments.shown + PRESSURE * moments.shown.sum(axis=1, keepdims=True)
        unmoved = interest + SURE_INDUCED * people.is_sure[who][:, np.newaxis]
        organic = _sigmoid(
            ORGANIC
            + pull
            + (ORGANIC_BY_SPENDING * (people.spending[who] - 1.5))[:, np.newaxis]
            + SURE_ORGANIC * (people.favourite[who] & people.is_sure[who][:, np.newaxis])
        )
        organic[people.is_bot[who]] = 0.0
        return self._funnel(moments, unmoved, interest + CLAIM_LIFT, organic)

    def expected_rewards(self, customer: Customer, moment: Moment) -> Floats:
        """True expected rewards in the order of ``offers``; -inf for those that are not available."""
        return np.asarray(self.truth(self.single(customer, moment)).reward(self.objective)[0])

    def expected_reward(self, customer: Customer, moment: Moment, offer: MarketOffer) -> float:
        """True expected reward of one offer."""
        return float(self.expected_rewards(customer, moment)[self.offers.index(offer)])

    def best_offer(self, customer: Customer, moment: Moment) -> MarketOffer:
        """The offer with the highest expected reward at this moment; of equals the first."""
        return self.offers[int(self.expected_rewards(customer, moment).argmax())]

    def single(self, customer: Customer, moment: Moment) -> Moments:
        """One moment as a row."""
        shown = None
        if moment.shown:
            shown = np.array([[moment.shown.get(offer.offer_id, 0.0) for offer in self.offers]])
        return Moments(
            np.array([customer.number]),
            np.array([(moment.at - self.start) / DAY]),
            np.array([SEASONS.index(moment.season)]),
            np.array([BANDS.index(moment.weather.band)]),
            np.array([CONDITIONS.index(moment.weather.condition)]),
            np.array([_is_sale(moment.at)]),
            shown,
        )

    def _pull(self, moments: Moments) -> Floats:
        """Log-odds per category at each moment, shape (rows, categories): taste, weather, season, sales, the shift."""
        people, who = self.population, moments.customer
        mood = (
            self.weather_effect * (BAND_MATRIX[moments.band] + CONDITION_MATRIX[moments.condition])
            + self.season_effect * SEASON_MATRIX[moments.season]
            + (self.season_effect * ASSUMED_SALE_EFFECT * moments.is_sale)[:, np.newaxis]
            + self.drift.popularity(self.wanted, moments.day)
        )
        tastes = self.drift.tastes(people.taste[who], people.other_taste[who], moments.day)
        return np.asarray(mood + tastes)

    def _response(self, who: Indices) -> Floats:
        """Log-odds of discount and price, shape (rows, offers)."""
        shelf = self.shelf
        by_discount = DISCOUNT_RESPONSE * (shelf.discount - USUAL_DISCOUNT)
        by_price = PRICE_RESPONSE * np.log(np.where(shelf.is_none, 1.0, shelf.price / shelf.usual_price))
        return np.asarray(self.population.sensitivity[who][:, np.newaxis] * by_discount + by_price)

    def _funnel(self, moments: Moments, interest: Floats, claim_interest: Floats, organic: Floats) -> Truth:
        shelf = self.shelf
        is_bot = self.population.is_bot[moments.customer][:, np.newaxis]
        buys = organic[:, shelf.category]
        induced = np.where(is_bot | shelf.is_none, 0.0, (1.0 - buys) * _sigmoid(interest))
        claimed = np.where(is_bot | shelf.is_none, 0.0, buys * _sigmoid(claim_interest))
        clicks = (1.0 - buys) * _sigmoid(interest + CLICK_LIFT) + buys * _sigmoid(claim_interest + CLICK_LIFT)
        left = shelf.price * (shelf.margin - shelf.discount)
        instead = left - _EARNED[shelf.category]
        day = moments.day[:, np.newaxis]
        return Truth(
            interest,
            claim_interest,
            organic,
            np.where(shelf.is_none, 0.0, np.where(is_bot, BOT_CLICK, clicks)),
            induced + claimed,
            (1.0 - RETURN_SHARE) * (induced * left + claimed * instead) - shelf.cost,
            (1.0 - RETURN_SHARE) * (organic @ _EARNED),
            (shelf.first_day <= day) & (day < shelf.last_day),
        )


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


def make_world(
    seed: int,
    customers: int,
    days: int,
    start: datetime = START,
    *,
    objective: Objective = "clicks",
    drift: Drift | None = None,
    offers: Sequence[MarketOffer] | None = None,
    late_share: float = 0.0,
    weather: Mapping[str, Sequence[Weather]] | None = None,
    weather_effect: float = 1.0,
    season_effect: float = 1.0,
    placement: Placement = "web",
) -> World:
    """Build a market.

    Args:
        seed: Equal seeds (with equal sizes) give equal markets; at least 0.
        customers: Number of customers, at least 1.
        days: Days for which there is weather, at least 1.
        start: First day, midnight UTC.
        objective: What rewards count. With ``margin``, offering nothing is one of the offers.
        drift: How the market changes; by default not at all.
        offers: The offers; by default two per category.
        late_share: Share of customers who join after the first day.
        weather: Real days of regions, from ``start`` on, which replace the generated ones of their names.
        weather_effect: Multiplies the assumed effects of weather.
        season_effect: Multiplies the assumed effects of season and sales.
        placement: Where offers are seen: by mail, as the market is calibrated, or (assumed) in the shop.

    Raises:
        ValueError: names what no market can have.
    """
    if days < 1:
        raise ValueError(f"a market lasts at least 1 day, got {days}")
    given = tuple(offers) if offers is not None else draw_offers(seed, with_none=objective == "margin")
    shelf = Shelf.of(given)
    series = _series(seed, start, days, weather or {})
    names = tuple(series)
    population = draw_population(seed, customers, len(given), len(names), days=days, late_share=late_share)
    effects = FITTED.on_the_web if placement == "web" else FITTED.by_mail
    static = effects(population, shelf.campaign, population.habits(shelf.category.tolist()))
    people = tuple(population.customer(number, f"market-{seed}-customer", names) for number in range(customers))
    return World(
        seed, start, days, people, given, names, series, population, shelf, drift or Drift(), objective,
        weather_effect, season_effect, placement, static, WeatherTable.of(series), _wanted(population, shelf, static),
    )  # fmt: skip


def _series(
    seed: int, start: datetime, days: int, given: Mapping[str, Sequence[Weather]]
) -> dict[str, tuple[Weather, ...]]:
    """Weather by region: as given, else generated."""
    climates = {region.name: region for region in REGIONS}
    if unknown := set(given) - set(climates):
        raise ValueError(f"unknown regions {sorted(unknown)}; a market has {', '.join(climates)}")
    if short := [name for name, known in given.items() if len(known) < days]:
        raise ValueError(f"weather of {short[0]!r} has {len(given[short[0]])} days, the market {days}")
    return {
        name: tuple(given[name])[:days] if name in given
        else generate_weather(region, start, days, np.random.default_rng([seed, 6, number]))
        for number, (name, region) in enumerate(climates.items())
    }  # fmt: skip


def _wanted(population: Population, shelf: Shelf, static: Floats) -> Floats:
    """Mean log-odds of each category's best offer, shape (categories,); without an offer the lowest of all."""
    usual = static.mean(axis=0) + DISCOUNT_RESPONSE * shelf.discount
    best = [usual[(shelf.category == index) & ~shelf.is_none].max(initial=usual.min()) for index in range(_PRICES.size)]
    return np.asarray(np.array(best) + population.taste.mean(axis=0))


def _is_sale(at: datetime) -> bool:
    return days_to_next_sale(at.date()) <= SALE_WEEK_DAYS


def _sigmoid(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))
