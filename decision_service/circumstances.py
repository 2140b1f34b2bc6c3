"""Who asks, where and when: what stores and providers know of it, gathered for one rank call."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from adapters.weather import QUARTER_SECONDS, WeatherBook
from contextual_bandit.context import Known, bought_lately, demographic_features, known_context, visible, with_sent
from contextual_bandit.eligibility import Situation, age_from_band, situate
from contextual_bandit.history import Affinities, unchanged_until
from contextual_bandit.loops import LoopConfig
from contextual_bandit.profile import Population, day_of
from contextual_bandit.season import Region, season_at
from contextual_bandit.similarity import Similarity
from contextual_bandit.types import Context, CustomerRecord, Features
from contextual_bandit.weather import Observation
from decision_service.customers import Customer, Customers
from decision_service.held import Catalogue, Precomputed
from decision_service.outlook import Outlooks
from decision_service.schemas import RankIn
from decision_service.serving import Serving

# Customer, loop, and the region that the request names.
_Key: TypeAlias = tuple[str | None, str, str | None]

PERSONALISE = "personalise"
# Of customers, in one process: some 10 kB each.
MOST_KEPT = 1_000
KEPT_SECONDS = float(QUARTER_SECONDS)
# 1973-01-01: the last time zones with seconds had gone.
KEPT_SINCE = 94_694_400.0


@dataclass(frozen=True, slots=True)
class Grounds:
    """What circumstances are made from; while all of it is the same, and the time allows it, so are they."""

    loop: LoopConfig
    customer: Customer
    population: Population
    catalogue: Catalogue
    computed: Precomputed
    region_name: str | None
    region_source: str
    region: Region | None
    weather: Observation | None
    weather_source: str

    def is_same(self, other: Grounds) -> bool:
        """Whether every part is the same object, or says the same."""
        return (
            self.customer.mark == other.customer.mark
            and self.loop is other.loop
            and self.population is other.population
            and self.catalogue is other.catalogue
            and self.computed is other.computed
            and self.region is other.region
            and self.weather is other.weather
            and self.region_name == other.region_name
            and self.region_source == other.region_source
            and self.weather_source == other.weather_source
        )


@dataclass(frozen=True, slots=True)
class Circumstance:
    """Circumstances of a call: what features are built from, and what gates ask for.

    They hold for later calls too, from ``since`` to before ``until`` (seconds since 1970, of the moments that features
    speak of). ``found`` are the features that do not come with the request, and their sources; ``outlooks`` are kept
    for calls that ask the same.
    """

    grounds: Grounds
    known: Known
    found: tuple[Context, dict[str, str]]
    affinities: Affinities
    similarity: Similarity
    bought: Mapping[str, float]
    consents: frozenset[str]
    since: float
    until: float
    outlooks: Outlooks = field(default_factory=Outlooks)
    _affinity: dict[str, Features] = field(default_factory=dict)

    def affinity(self, category: str | None) -> Features:
        """The customer's affinity to a category: their own past, and what is bought together with it."""
        if not self.bought or category is None:
            return self.affinities.of(category)
        features = self._affinity.get(category)
        if features is None:
            features = self.affinities.of(category)
            also = self.similarity.affinity(self.bought, category)
            features = self._affinity[category] = {**features, "also": also} if also else features
        return features

    def context(self, sent: Mapping[str, Features]) -> tuple[Context, dict[str, str]]:
        """All features of a call and their sources, those that it sent before all others."""
        return with_sent(self.grounds.loop, self.found, sent, personalise=self.known.personalise)

    def situation(self, now: datetime, context: Context, request: RankIn) -> Situation:
        """What the rules know of the call at ``now``."""
        return situate(
            now, context, channel=request.channel, region=self.known.region_name,
            age=_age(self.known.record, request.context), consents=self.consents, home_region=self.known.record.region,
        )  # fmt: skip


class Circumstances:
    """Gathers circumstances of calls in one service process, and keeps the latest customers' while they hold."""

    def __init__(self, serving: Serving, customers: Customers, weather: WeatherBook) -> None:
        self._serving = serving
        self._customers = customers
        self._weather = weather
        # Those that were made last are at the end, each with when it was made (monotonic seconds).
        self._kept: OrderedDict[_Key, tuple[float, Circumstance]] = OrderedDict()

    async def of(self, loop: LoopConfig, request: RankIn, occurred_at: datetime, catalogue: Catalogue) -> Circumstance:
        """The circumstances of one call; a store or provider that is away counts as knowing nothing."""
        key = request.customer_id, loop.loop, request.region
        _, kept = self._kept.get(key, (0.0, None))
        customer = await self._customers.known(request.customer_id, kept.grounds.customer if kept else None)
        population = await self._customers.population()
        personalise = _personalise(customer.record, loop)
        region = request.region or (customer.record.region if personalise else None) or loop.region
        weather, weather_source = await self._weather.at(region, occurred_at)
        grounds = Grounds(
            loop, customer, population, catalogue, self._serving.precomputed, region,
            "request" if request.region else "stored", self._serving.regions.get(region or ""), weather, weather_source,
        )  # fmt: skip
        if kept is not None and kept.since <= occurred_at.timestamp() < kept.until and kept.grounds.is_same(grounds):
            return kept
        fresh = circumstance_of(grounds, occurred_at)
        self._keep(key, fresh)
        return fresh

    def _keep(self, key: _Key, fresh: Circumstance) -> None:
        kept, now = self._kept, time.monotonic()
        kept.pop(key, None)
        kept[key] = now, fresh
        # Whom nobody asked about for so long is forgotten, erased customers too.
        while len(kept) > MOST_KEPT or next(iter(kept.values()))[0] < now - KEPT_SECONDS:
            kept.popitem(last=False)


def circumstance_of(grounds: Grounds, now: datetime) -> Circumstance:
    """What follows from all that is known at a moment."""
    loop, record, computed = grounds.loop, grounds.customer.record, grounds.computed
    consents = frozenset(name for name, given in record.consents.items() if given)
    personalise = _personalise(record, loop)
    profile = grounds.customer.profile if personalise else None
    if profile is not None:
        profile = visible(profile, grounds.catalogue.hidden(profile.categories, consents))
    known = Known(
        profile, record, grounds.region_name, grounds.region, grounds.weather, grounds.weather_source,
        loop.rfm or computed.thresholds, personalise, grounds.region_source,
    )  # fmt: skip
    bought = bought_lately(profile, now) if profile and computed.similarity.categories else {}
    at = now.timestamp()
    # Seasons change at hours of the local clock, which begin on quarters of an hour in every time zone of today; those
    # of long ago had seconds, and what is about such moments is not kept.
    until = (at // QUARTER_SECONDS + 1) * QUARTER_SECONDS if at >= KEPT_SINCE else at
    if profile is not None:
        until = min(until, unchanged_until(profile, now))
    return Circumstance(
        grounds, known, known_context(loop, now, known), Affinities(profile, _prior(grounds, known, now), now),
        computed.similarity, bought, consents, at, until,
    )  # fmt: skip


def _personalise(record: CustomerRecord, loop: LoopConfig) -> bool:
    return record.consents.get(PERSONALISE, not loop.consent_required)


def _prior(grounds: Grounds, known: Known, now: datetime) -> Callable[[str], float]:
    """What is usual of customers like this one: the demographic cell's rates, or the population's."""
    cells, loop, population = grounds.computed.cells, grounds.loop, grounds.population
    if cells is None:
        today = day_of(now.timestamp())
        return lambda category: population.rate(category, today)
    season = season_at(now, known.region, loop.time_zone, loop.sales_dates)["season"]
    # Without consent nobody belongs to a cell; the season is nobody's.
    demographics = demographic_features(known.record) if known.personalise else {}
    return cells.prior(population, demographics, str(season), now)


def _age(record: CustomerRecord, sent: Mapping[str, object]) -> int | None:
    """The age that the record states, or else the request, in years or as a band; never one that was inferred."""
    if record.age is not None:
        return record.age
    demographics = sent.get("demographics")
    stated = demographics if isinstance(demographics, Mapping) else {}
    for source in (record.demographics, stated):
        age, band = source.get("age"), source.get("age_band")
        if isinstance(age, int | float) and not isinstance(age, bool):
            return int(age)
        if isinstance(band, str) and (lowest := age_from_band(band)) is not None:
            return lowest
    return None
