"""Features of a moment, point in time: history, season, and this customer's affinity to a category."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime
from math import log
from zoneinfo import ZoneInfo

from contextual_bandit.loops import LoopConfig
from contextual_bandit.profile import HORIZON_DAYS, Population, Profile, day_of
from contextual_bandit.types import Context, Features, FeatureValue

HALF_LIVES_DAYS = {"r4": 28.0, "r16": 112.0, "r52": 364.0}
PRIOR_WEEKS = 4.0
WEEKS_PER_YEAR = 52.0
RECENCY_BANDS = (7, 14, 28, 56, 112)
RECENCY_NAMES = ("week", "fortnight", "month", "two_months", "four_months", "longer")
MONETARY_BANDS = (5.0, 10.0, 20.0, 50.0, 100.0)
FREQUENCY_BANDS = (6.0, 12.0, 26.0, 52.0, 104.0)
SEGMENTS = ("new", "browsing_only", "transactions_only", "both")
SEASONS = ("winter", "spring", "summer", "autumn")
DAY_PARTS = ("night", "morning", "afternoon", "evening")

_DECAY = {
    name: tuple(0.5 ** ((age - 0.5) / half_life) for age in range(HORIZON_DAYS))
    for name, half_life in HALF_LIVES_DAYS.items()
}
_WEEKS = {
    name: tuple(half_life / 7.0 / log(2.0) * (1.0 - 0.5 ** (age / half_life)) for age in range(HORIZON_DAYS))
    for name, half_life in HALF_LIVES_DAYS.items()
}


class Affinities:
    """A customer's purchase rates by category at one moment.

    ``r4``, ``r16`` and ``r52`` are purchase days per year with half-lives of 4, 16 and 52 weeks, shrunk towards the
    population's rate: 52 (S + K p) / (n + K), where S is the decayed count of the customer's purchase days, n the
    weeks observed decayed alike, p the population's days per customer-week and K = 4 weeks. A customer without
    history has the population's rate.
    """

    def __init__(self, profile: Profile | None, population: Population, now: datetime) -> None:
        self._profile = profile
        self._population = population
        self._today = day_of(now.timestamp())
        first = profile.first_purchase_day if profile else None
        observed = 0 if first is None else min(max(self._today - first, 0), HORIZON_DAYS - 1)
        self._scales = {name: WEEKS_PER_YEAR / (weeks[observed] + PRIOR_WEEKS) for name, weeks in _WEEKS.items()}
        self._found: dict[str, Features] = {}

    def of(self, category: str | None) -> Features:
        """Affinity features for one category; none for an offer without a category."""
        if category is None:
            return {}
        features = self._found.get(category)
        if features is None:
            features = self._found[category] = self._rates(category)
        return features

    def _rates(self, category: str) -> Features:
        history = self._profile.categories.get(category) if self._profile else None
        ages = [age for age in history.ages(self._today) if age < HORIZON_DAYS] if history else []
        prior = PRIOR_WEEKS * self._population.rate(category, self._today)
        return {
            name: round((prior + sum([decay[age] for age in ages])) * self._scales[name], 2)
            for name, decay in _DECAY.items()
        }


def build_context(
    loop: LoopConfig,
    now: datetime,
    profile: Profile | None,
    demographics: Mapping[str, FeatureValue],
    sent: Mapping[str, Features],
) -> Context:
    """The shared features; what the request sent goes before what is stored or derived."""
    local = now.astimezone(ZoneInfo(loop.time_zone))
    namespaces: dict[str, Features] = {"H": history_features(profile, now), "S": season_features(local)}
    if demographics:
        namespaces["D"] = demographics
    for name, features in sent.items():
        namespaces[name] = {**namespaces.get(name, {}), **features}
    return Context(namespaces)


def history_features(profile: Profile | None, now: datetime) -> Features:
    """Segment, and recency, frequency and monetary value as bands, from the days up to ``now``.

    Recency is days since the last purchase day, frequency purchase days a year (shrunk by four weeks without any),
    monetary value money per purchase day.
    """
    today = day_of(now.timestamp())
    days = [day for day in profile.money if day <= today] if profile else []
    browsed = profile is not None and bool(profile.browsing.ages(today))
    if profile is None or not days:
        segment = "browsing_only" if browsed else "new"
        return {"segment": segment, "recency": "never", "frequency": "f0", "monetary": "m0"}
    per_year = WEEKS_PER_YEAR * len(days) / ((today - min(days)) / 7.0 + PRIOR_WEEKS)
    spend = sum([profile.money[day] for day in days])
    return {
        "segment": "both" if browsed else "transactions_only",
        "recency": RECENCY_NAMES[bisect_right(RECENCY_BANDS, today - max(days))],
        "frequency": f"f{bisect_right(FREQUENCY_BANDS, per_year)}",
        "monetary": f"m{bisect_right(MONETARY_BANDS, spend / len(days))}",
    }


def season_features(local: datetime) -> Features:
    """Season (northern), month, weekday and part of day of a local time."""
    return {
        "season": SEASONS[local.month % 12 // 3],
        "month": f"m{local.month}",
        "weekday": f"d{local.isoweekday()}",
        "day_part": DAY_PARTS[local.hour // 6],
    }
