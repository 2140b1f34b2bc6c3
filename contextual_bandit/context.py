"""The context of a decision, point in time: who, what they did, where, the weather, the season; and what said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from contextual_bandit.features import BadFeature
from contextual_bandit.history import HALF_LIVES_DAYS, history_features
from contextual_bandit.location import STORE_BANDS, location_features
from contextual_bandit.loops import LoopConfig
from contextual_bandit.past import Past
from contextual_bandit.profile import HORIZON_DAYS, Profile
from contextual_bandit.schema import path_of, spec_of
from contextual_bandit.season import Region, season_at
from contextual_bandit.thresholds import RfmThresholds
from contextual_bandit.types import Context, CustomerRecord, Features, FeatureValue
from contextual_bandit.weather import (
    COLDEST_CELSIUS,
    CONDITIONS,
    HOTTEST_CELSIUS,
    PRECIPITATION_BANDS,
    TEMPERATURE_BANDS,
    WETTEST_MM,
    Observation,
    condition_of_word,
    weather_features,
)

# Namespaces about the person; a client's own count as such unless the loop's schema says otherwise.
PERSONAL = frozenset("DHP")
OWN = frozenset("DHLPSW")
AGE_BANDS = ((18, "0-17"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
OLDEST_BAND = "65+"
OLDEST_AGE = 120.0
WEATHER_WORDS = {
    "band": tuple(name for _, name in TEMPERATURE_BANDS),
    "precipitation": tuple(name for _, name in PRECIPITATION_BANDS),
}
BOUGHT_DECAY = tuple(0.5 ** (age / HALF_LIVES_DAYS["r16"]) for age in range(HORIZON_DAYS))
# How far the store is says where the customer lives.
STORE_WORDS = tuple(name for _, name in STORE_BANDS)
STORE_DISTANCE = ("store_km", "store_distance")
RAW_WEATHER = ("temperature_c", "precipitation_mm", "condition")


@dataclass(frozen=True, slots=True)
class Known:
    """What the stores and providers know of a customer and a moment.

    ``profile`` is what may be seen of it (``visible``). ``personalise`` is the customer's consent; without it nothing
    about the person is used.
    """

    profile: Profile | None = None
    record: CustomerRecord = field(default_factory=CustomerRecord)
    region_name: str | None = None
    region: Region | None = None
    weather: Observation | None = None
    weather_source: str = "missing"
    thresholds: RfmThresholds = field(default_factory=RfmThresholds)
    personalise: bool = True
    region_source: str = "stored"


def build_context(
    loop: LoopConfig, now: datetime, known: Known, sent: Mapping[str, Features]
) -> tuple[Context, dict[str, str]]:
    """The shared features and their sources; what the request sent goes before what is stored or derived.

    Args:
        loop: gives the time zone and sales dates where the region does not, and the schema.
        now: the moment that the features speak of.
        known: what is known of the customer and the moment.
        sent: namespaces of the request, as ``derive`` made them.
    """
    return with_sent(loop, known_context(loop, now, known), sent, personalise=known.personalise)


def known_context(loop: LoopConfig, now: datetime, known: Known) -> tuple[Context, dict[str, str]]:
    """The features that are stored or derived, and their sources: the same for every request until something changes.

    See ``build_context``.
    """
    namespaces: dict[str, Features] = {}
    sources: dict[str, str] = {}
    if known.personalise:
        namespaces["H"] = history_features(known.profile, now, known.thresholds)
        sources["H"] = "stored" if known.profile else "missing"
        _put(namespaces, sources, "D", demographic_features(known.record), "stored")
        _put(namespaces, sources, "P", known.record.preferences, "stored")
    namespaces["S"] = season_at(now, known.region, loop.time_zone, loop.sales_dates)
    sources["S"] = "clock"
    _put(namespaces, sources, "L", location_features(known.region_name), known.region_source)
    _put(namespaces, sources, "W", weather_features(known.weather) if known.weather else {}, known.weather_source)
    return Context(namespaces), sources


def with_sent(
    loop: LoopConfig, found: tuple[Context, Mapping[str, str]], sent: Mapping[str, Features], *, personalise: bool
) -> tuple[Context, dict[str, str]]:
    """What was ``found`` (``known_context``), and before it what the request sent; ``found`` stays as it is."""
    namespaces, sources = dict(found[0].namespaces), dict(found[1])
    for name, given in sent.items():
        features = given if personalise else _impersonal(loop, name, given)
        if not features:
            continue
        namespaces[name] = {**namespaces[name], **features} if name in namespaces else features
        if name in OWN:
            sources |= {f"{name}.{feature}": "request" for feature in features}
            if sources.get(name, "missing") == "missing":
                sources[name] = "request"
    return Context(namespaces), sources


def derive(sent: Mapping[str, Features]) -> dict[str, Features]:
    """Sent namespaces in the form that a policy sees: bands instead of ages, distances, degrees and millimetres.

    Raises:
        BadFeature: an age, a distance or weather that is no such thing.
    """
    return {name: _derived(name, features) for name, features in sent.items()}


def visible(profile: Profile | None, hidden: frozenset[str]) -> Profile | None:
    """The profile without what it tells of hidden categories; days, sums and events keep, without a category."""
    if profile is None or hidden.isdisjoint(profile.categories):
        return profile
    seen = [None if category in hidden else category for category in profile.recent.categories]
    return replace(
        profile, categories=profile.categories.without(hidden), recent=replace(profile.recent, categories=seen)
    )


def bought_lately(profile: Profile, now: datetime) -> dict[str, float]:
    """Purchase days by category up to a moment, each counting half as much every 16 weeks."""
    past = Past(profile, now)
    return {
        name: sum([BOUGHT_DECAY[age] for age in past.ordered(name, history)])
        for name, history in profile.categories.items()
    }


def age_band(age: float) -> str:
    """The band of an age in years."""
    return next((name for limit, name in AGE_BANDS if age < limit), OLDEST_BAND)


def _put(namespaces: dict[str, Features], sources: dict[str, str], name: str, features: Features, source: str) -> None:
    if features:
        namespaces[name] = features
    sources[name] = source if features else "missing"


def demographic_features(record: CustomerRecord) -> Features:
    """Features of the namespace D: as stated, with the age as a band."""
    if record.age is None or "age_band" in record.demographics:
        return record.demographics
    return {"age_band": age_band(record.age), **record.demographics}


def _impersonal(loop: LoopConfig, name: str, features: Features) -> Features:
    """Without consent: nothing about the person, and of a client's own features those declared impersonal."""
    if name in PERSONAL:
        return {}
    if name in OWN:
        return _without(features, *STORE_DISTANCE)
    if loop.schema is None:
        return {}
    found = {feature: spec_of(loop.schema, path_of(name, feature)) for feature in features}
    return {feature: value for feature, value in features.items() if (spec := found[feature]) and not spec.personal}


def _derived(name: str, features: Features) -> Features:
    if name == "D" and "age" in features:
        age = _within(features, "age", 0.0, OLDEST_AGE, "context.demographics")
        return {"age_band": age_band(age), **_without(features, "age")}
    if name == "L" and "store_km" in features:
        distance = features["store_km"]
        if isinstance(distance, bool | str) or distance < 0.0:
            raise BadFeature("context.location.store_km", distance, "must be kilometres, at least 0")
        return {**_without(features, "store_km"), **location_features(None, distance)}
    if name == "L" and features.get("store_distance", STORE_WORDS[0]) not in STORE_WORDS:
        why = f"must be one of {', '.join(STORE_WORDS)}"
        raise BadFeature("context.location.store_distance", features["store_distance"], why)
    if name == "W":
        _check_words(features)
    if name == "W" and ("temperature_c" in features or "precipitation_mm" in features):
        return {**_without(features, *RAW_WEATHER), **weather_features(_sent_weather(features))}
    if name == "W" and "condition" in features:
        return {**features, "condition": _condition(features)}
    return features


def _check_words(features: Features) -> None:
    for name, known in WEATHER_WORDS.items():
        if name in features and features[name] not in known:
            raise BadFeature(f"context.weather.{name}", features[name], f"must be one of {', '.join(known)}")


def _sent_weather(features: Features) -> Observation:
    temperature = _within(features, "temperature_c", COLDEST_CELSIUS, HOTTEST_CELSIUS)
    precipitation = _within(features, "precipitation_mm", 0.0, WETTEST_MM)
    return Observation(temperature, precipitation, _condition(features))


def _condition(features: Features) -> str:
    word = features.get("condition")
    condition = condition_of_word(word) if isinstance(word, str) else None
    if condition is None:
        raise BadFeature("context.weather.condition", word, f"must be one of {', '.join(CONDITIONS)}")
    return condition


def _within(features: Features, name: str, low: float, high: float, group: str = "context.weather") -> float:
    value: FeatureValue | None = features.get(name)
    if value is None or isinstance(value, bool | str) or not low <= value <= high:
        raise BadFeature(f"{group}.{name}", value, f"must be a number from {low:g} to {high:g}")
    return value


def _without(features: Features, *names: str) -> dict[str, FeatureValue]:
    return {name: value for name, value in features.items() if name not in names}
