"""Population affinities per demographic cell and season: what is usual among customers like one without history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import exp, log, sqrt
from typing import Any

import orjson

from contextual_bandit.profile import HORIZON_DAYS, Population, Profile, day_of
from contextual_bandit.season import SEASONS
from contextual_bandit.types import Features, FeatureValue

# A ratio counts as much as the population after so many customers, and after so many expected purchase days.
PRIOR_CUSTOMERS = 50.0
PRIOR_DAYS = 50.0
# A value that fewer customers share says nothing, and a feature with more values is no cell.
LEAST_CUSTOMERS = 10
MOST_VALUES = 12
MOST_USED = 8
# Bounds of what a fit may hold: sums per feature, value and category.
MOST_FEATURES = 32
MOST_CATEGORIES = 2000
# Ratios of computed cells that a process keeps (about 20 MB).
MOST_CACHED = 200_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CellFeature:
    """One demographic feature: how those who state it differ from all, and each of its values from those.

    ``stated`` and ``values`` hold ratios of purchase rates by category; one that is absent is 1.
    """

    name: str
    stated: Mapping[str, float]
    values: Mapping[str, Mapping[str, float]]


class Cells:
    """Purchase rates of customers by what they are like and by season, as ratios to the population's.

    A cell is the tuple of a customer's values of the installation's cell features. Its rate in a category is

        population rate x (product of s_f)^(1/n) x (product of r_f)^(1/sqrt(n)) x season ratio

    over the n features f whose value is known: s_f compares the customers who state f with all, r_f those of the
    customer's value with those who state f. Were the features independent, the exponent of r_f would be 1, were they
    the same, 1/n; the root lies between. The season's ratio compares a category's share of the season's purchase days
    with its share of all: a season says what is bought, not how much. Every ratio is (O + m) / (E + m), O being
    purchase days seen, E those expected, m = PRIOR_DAYS + PRIOR_CUSTOMERS E / customers, so that few customers or few
    purchases leave it near 1 (docs/decisions/0012-precomputed-affinities.md).
    """

    def __init__(
        self, features: Sequence[CellFeature] = (), seasons: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        """``seasons`` holds ratios by season and category."""
        self.features = tuple(features)
        self.seasons = seasons or {}
        self._cached: dict[tuple[str | None, ...], dict[str, float]] = {}
        self._ratios_cached = 0

    def rate(self, demographics: Features, season: str, category: str, population_rate: float) -> float:
        """Purchase days per customer-week, at least 0; the population's for whom or what nothing is known."""
        return self.of(demographics, season)(category, population_rate)

    def of(self, demographics: Features, season: str) -> Callable[[str, float], float]:
        """The rates of one cell: a function of a category and the population's rate, quick for many categories."""
        cell = tuple(_word(demographics.get(feature.name)) for feature in self.features)
        found = self._cached.get((season, *cell))
        ratios = self._remember(cell, season) if found is None else found
        return lambda category, population_rate: population_rate * ratios.get(category, 1.0)

    def prior(
        self, population: Population, demographics: Features, season: str, now: datetime
    ) -> Callable[[str], float]:
        """What affinities shrink to: the cell's purchase days per customer-week in a category at a moment."""
        cell, today = self.of(demographics, season), day_of(now.timestamp())
        return lambda category: cell(category, population.rate(category, today))

    def _remember(self, cell: Sequence[str | None], season: str) -> dict[str, float]:
        ratios = self._ratios(cell, season)
        if self._ratios_cached + len(ratios) > MOST_CACHED:
            self._cached.clear()
            self._ratios_cached = 0
        self._cached[season, *cell] = ratios
        self._ratios_cached += len(ratios) + 1
        return ratios

    def _ratios(self, cell: Sequence[str | None], season: str) -> dict[str, float]:
        known = [
            (feature.stated, feature.values[value])
            for feature, value in zip(self.features, cell, strict=True)
            if value is not None and value in feature.values
        ]
        of_season = self.seasons.get(season, {})
        logs = {category: log(ratio) for category, ratio in of_season.items()}
        for stated, values in known:
            for ratios, power in ((stated, 1.0 / len(known)), (values, 1.0 / sqrt(len(known)))):
                for category, ratio in ratios.items():
                    logs[category] = logs.get(category, 0.0) + power * log(ratio)
        return {category: exp(value) for category, value in logs.items()}

    def encode(self) -> bytes:
        """The stored form, compact JSON."""
        features = [[feature.name, feature.stated, feature.values] for feature in self.features]
        return orjson.dumps({"v": 1, "f": features, "s": self.seasons})


@dataclass(frozen=True, slots=True)
class CellCustomer:
    """A customer as the fit sees one; ``southern``: lives where July is in winter."""

    profile: Profile | None
    demographics: Features
    southern: bool = False


def decode_cells(data: bytes) -> Cells:
    """Stored cells read back; empty bytes are cells that know nothing."""
    if not data:
        return Cells()
    raw: Mapping[str, Any] = orjson.loads(data)
    return Cells([CellFeature(name, stated, values) for name, stated, values in raw["f"]], raw["s"])


def fit_cells(customers: Iterable[CellCustomer], now: datetime) -> Cells:
    """Cells from the purchase days of the last HORIZON_DAYS, one pass over the customers in a stable order.

    Candidates are demographic features that are strings or booleans and have at most MOST_VALUES values. One is used
    when what each half of its customers shows makes the other half's purchases likelier; at most the best MOST_USED.
    Memory is bounded by MOST_FEATURES, MOST_VALUES and MOST_CATEGORIES; what comes later than those is left out.
    """
    fit = _Fit(day_of(now.timestamp()))
    for number, customer in enumerate(customers):
        # Multiples of the golden ratio fall into either half evenly, also along any pattern that the order may have.
        fit.add(customer, (number * 2654435769 & 0xFFFFFFFF) >> 31)
    return fit.cells()


@dataclass(slots=True)
class _Sums:
    """Customers, their purchase days by category, and what those are measured against: weeks seen, or all days."""

    customers: int = 0
    exposure: float = 0.0
    days: dict[str, int] = field(default_factory=dict)

    def add(self, exposure: float, days: Mapping[str, int]) -> None:
        self.customers += 1
        self.exposure += exposure
        for category, count in days.items():
            self.days[category] = self.days.get(category, 0) + count

    def rates(self) -> dict[str, float]:
        return {category: count / self.exposure for category, count in self.days.items()} if self.exposure else {}

    def ratios(self, rates: Mapping[str, float]) -> dict[str, float]:
        """How these customers' rates compare with others, shrunk towards 1; above 0."""
        found: dict[str, float] = {}
        for category, rate in rates.items():
            expected = rate * self.exposure
            prior = PRIOR_DAYS + PRIOR_CUSTOMERS * expected / max(self.customers, 1)
            found[category] = (self.days.get(category, 0) + prior) / (expected + prior)
        return found


def _together(parts: Iterable[_Sums]) -> _Sums:
    total = _Sums()
    for part in parts:
        total.customers += part.customers
        total.exposure += part.exposure
        for category, count in part.days.items():
            total.days[category] = total.days.get(category, 0) + count
    return total


class _Fit:
    """The sums of one pass: everybody, by season, and by feature, value and half."""

    def __init__(self, today: int) -> None:
        self._today = today
        self._all = _Sums()
        self._seasons = {season: _Sums() for season in SEASONS}
        self._features: dict[str, dict[str, tuple[_Sums, _Sums]] | None] = {}
        self._masks = _season_masks(today)

    def add(self, customer: CellCustomer, half: int) -> None:
        """Take one customer in; one without purchases in the horizon changes nothing."""
        profile = customer.profile
        if profile is None or profile.first_purchase_day is None or profile.first_purchase_day > self._today:
            return
        seen = min(self._today - profile.first_purchase_day + 1, HORIZON_DAYS)
        days = self._days(profile, (1 << seen) - 1)
        counts = {category: mask.bit_count() for category, mask in days.items()}
        self._all.add(seen / 7.0, counts)
        for index, mask in enumerate(self._masks):
            in_season = {category: count for category, bits in days.items() if (count := (bits & mask).bit_count())}
            if in_season:
                season = SEASONS[(index + 2 * customer.southern) % 4]
                self._seasons[season].add(sum(in_season.values()), in_season)
        for name, value in customer.demographics.items():
            word = _word(value)
            if word is not None:
                self._add_value(name, word, half, seen / 7.0, counts)

    def _days(self, profile: Profile, window: int) -> dict[str, int]:
        """Purchase days by category; bit k is the day k days before today."""
        found: dict[str, int] = {}
        for category, history in profile.categories.items():
            mask = history.until(self._today) & window
            if mask and (category in self._all.days or len(self._all.days) + len(found) < MOST_CATEGORIES):
                found[category] = mask
        return found

    def _add_value(self, name: str, word: str, half: int, weeks: float, counts: Mapping[str, int]) -> None:
        if name not in self._features and len(self._features) >= MOST_FEATURES:
            return
        values = self._features.setdefault(name, {})
        if values is None:
            return
        if word not in values and len(values) >= MOST_VALUES:
            self._features[name] = None
            return
        values.setdefault(word, (_Sums(), _Sums()))[half].add(weeks, counts)

    def cells(self) -> Cells:
        """What the sums say."""
        usual = self._all.rates()
        found: list[tuple[float, str]] = []
        for name, values in self._features.items():
            gain = _gain(values) if values else 0.0
            if gain > 0.0:
                found.append((-gain, name))
        features = [self._feature(name, usual) for _, name in sorted(found)[:MOST_USED]]
        mix = _together(self._seasons.values()).rates()
        seasons = {season: _rounded(sums.ratios(mix)) for season, sums in self._seasons.items() if sums.customers}
        return Cells(features, seasons)

    def _feature(self, name: str, usual: Mapping[str, float]) -> CellFeature:
        values = {value: _together(halves) for value, halves in (self._features[name] or {}).items()}
        stated = _together(values.values())
        rates = stated.rates()
        kept = {value: sums for value, sums in values.items() if sums.customers >= LEAST_CUSTOMERS}
        ratios = {value: _rounded(sums.ratios(rates)) for value, sums in sorted(kept.items())}
        return CellFeature(name, _rounded(stated.ratios(usual)), ratios)


def _gain(values: Mapping[str, tuple[_Sums, _Sums]]) -> float:
    """How much likelier (log-likelihood, Poisson) a feature makes each half, judged by the ratios of the other."""
    kept = [halves for halves in values.values() if halves[0].customers + halves[1].customers >= LEAST_CUSTOMERS]
    if len(kept) < 2:
        return 0.0
    gain = 0.0
    rates = [_together(halves[half] for halves in values.values()).rates() for half in (0, 1)]
    for halves in kept:
        for judged, judge in ((0, 1), (1, 0)):
            for category, ratio in halves[judge].ratios(rates[judge]).items():
                expected = rates[judged].get(category, 0.0) * halves[judged].exposure
                gain += halves[judged].days.get(category, 0) * log(ratio) - expected * (ratio - 1.0)
    return gain


def _season_masks(today: int) -> tuple[int, ...]:
    """By season of the northern half, the days of the horizon in it; bit k is the day k days before today."""
    masks = [0, 0, 0, 0]
    for age in range(min(HORIZON_DAYS, today + 1)):
        month = (_EPOCH + timedelta(days=today - age)).month
        masks[month % 12 // 3] |= 1 << age
    return tuple(masks)


def _word(value: FeatureValue | None) -> str | None:
    """A value that can make a cell; numbers cannot."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _rounded(ratios: Mapping[str, float]) -> dict[str, float]:
    """Ratios as they are stored: four decimals, above 0, without those that say nothing."""
    return {name: value for name, ratio in sorted(ratios.items()) if (value := max(round(ratio, 4), 0.0001)) != 1.0}
