"""Who asks, where and when: what stores and providers know of it, gathered for one rank call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from adapters.weather import WeatherBook
from contextual_bandit.context import Known, bought_lately, demographic_features, visible
from contextual_bandit.eligibility import Situation, age_from_band, situate
from contextual_bandit.history import Affinities
from contextual_bandit.loops import LoopConfig
from contextual_bandit.profile import Population, day_of
from contextual_bandit.season import season_at
from contextual_bandit.similarity import Similarity
from contextual_bandit.types import Context, CustomerRecord, Features
from decision_service.customers import Customers
from decision_service.schemas import RankIn
from decision_service.serving import Serving

PERSONALISE = "personalise"


@dataclass(frozen=True, slots=True)
class Circumstance:
    """One call's circumstances: what features are built from, and what gates ask for."""

    known: Known
    affinities: Affinities
    similarity: Similarity
    bought: Mapping[str, float]
    consents: frozenset[str]
    age: int | None

    def affinity(self, category: str | None) -> Features:
        """The customer's affinity to a category: their own past, and what is bought together with it."""
        features = self.affinities.of(category)
        if not self.bought or category is None:
            return features
        also = self.similarity.affinity(self.bought, category)
        return {**features, "also": also} if also else features

    def situation(self, now: datetime, context: Context, request: RankIn) -> Situation:
        """What the rules know of the call at ``now``."""
        return situate(
            now, context, channel=request.channel, region=self.known.region_name, age=self.age,
            consents=self.consents, home_region=self.known.record.region,
        )  # fmt: skip


class Circumstances:
    """Gathers circumstances of calls in one service process."""

    def __init__(self, serving: Serving, customers: Customers, weather: WeatherBook) -> None:
        self._serving = serving
        self._customers = customers
        self._weather = weather

    async def of(self, loop: LoopConfig, request: RankIn, occurred_at: datetime) -> Circumstance:
        """The circumstances of one call; a store or provider that is away counts as knowing nothing."""
        customer = await self._customers.known(request.customer_id)
        population = await self._customers.population()
        record = customer.record
        consents = frozenset(name for name, given in record.consents.items() if given)
        personalise = record.consents.get(PERSONALISE, not loop.consent_required)
        region = request.region or (record.region if personalise else None) or loop.region
        region_source = "request" if request.region else "stored"
        computed = self._serving.precomputed
        weather, source = await self._weather.at(region, occurred_at)
        profile = customer.profile if personalise else None
        if profile is not None:
            profile = visible(profile, self._serving.catalogue.hidden(profile.categories, consents))
        known = Known(
            profile, record, region, self._serving.regions.get(region or ""), weather, source,
            loop.rfm or computed.thresholds, personalise, region_source,
        )  # fmt: skip
        prior = self._prior(population, known, loop, occurred_at)
        affinities = Affinities(profile, prior, occurred_at)
        bought = bought_lately(profile, occurred_at) if profile and computed.similarity.categories else {}
        return Circumstance(
            known, affinities, computed.similarity, bought, consents, _age(record, request.context)
        )  # fmt: skip

    def _prior(self, population: Population, known: Known, loop: LoopConfig, now: datetime) -> Callable[[str], float]:
        """What is usual of customers like this one: the demographic cell's rates, or the population's."""
        cells = self._serving.precomputed.cells
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
