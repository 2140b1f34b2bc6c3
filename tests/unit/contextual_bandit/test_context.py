from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contextual_bandit.context import Known, age_band, bought_lately, build_context, derive, visible
from contextual_bandit.features import BadFeature
from contextual_bandit.history import Affinities, history_features
from contextual_bandit.loops import FeatureSchema, FeatureSpec, LoopConfig
from contextual_bandit.profile import Activity, ActivityKind, Profile
from contextual_bandit.season import Region
from contextual_bandit.thresholds import RfmThresholds
from contextual_bandit.types import CustomerRecord
from contextual_bandit.weather import Observation

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LOOP = LoopConfig("homepage")
RECORD = CustomerRecord(
    {"household_size": 3.0}, {"likes": "garden"}, {"personalise": True}, age=38, region="home"
)  # fmt: skip


def did(*what: tuple[ActivityKind, str, float]) -> Profile:
    """A customer who did this in that category so many days ago."""
    profile = Profile()
    for number, (kind, category, age) in enumerate(what):
        at = NOW - timedelta(days=age)
        profile.apply(Activity(f"a{number}", "c1", kind, at, category, amount=10.0 if kind == "purchase" else None))
    return profile


def test_every_namespace_says_where_it_came_from() -> None:
    known = Known(
        did(("purchase", "garden", 3.0)), RECORD, "US-WA", Region("US-WA", "America/Los_Angeles", "US", "WA"),
        Observation(8.0, 4.0, "rain"), "table",
    )  # fmt: skip
    context, sources = build_context(LOOP, NOW, known, {})
    assert set(context.namespaces) == {"H", "D", "P", "S", "L", "W"}
    assert context.namespaces["D"] == {"household_size": 3.0, "age_band": "35-44"}
    assert context.namespaces["P"] == {"likes": "garden"}
    assert context.namespaces["L"] == {"region": "US-WA"}
    assert context.namespaces["W"] == {"band": "cool", "condition": "rain", "precipitation": "light"}
    # 09:30 UTC on a Monday is the night before dawn in Seattle.
    assert context.namespaces["S"]["day_part"] == "night"
    assert context.namespaces["S"]["weekday"] == "d1"
    assert sources == {"H": "stored", "D": "stored", "P": "stored", "S": "clock", "L": "stored", "W": "table"}


def test_what_is_not_known_is_absent_and_marked() -> None:
    context, sources = build_context(LOOP, NOW, Known(), {})
    assert set(context.namespaces) == {"H", "S"}
    assert sources == {
        "H": "missing", "D": "missing", "P": "missing", "S": "clock", "L": "missing", "W": "missing",
    }  # fmt: skip


def test_what_was_sent_goes_before_what_is_stored_and_is_marked_feature_by_feature() -> None:
    known = Known(None, RECORD, "US-WA", None, Observation(8.0, 4.0, "rain"), "table")
    sent = {"D": {"age_band": "65+"}, "W": {"condition": "snow"}, "device": {"kind": "phone"}}
    context, sources = build_context(LOOP, NOW, known, sent)
    assert context.namespaces["D"] == {"household_size": 3.0, "age_band": "65+"}
    assert context.namespaces["W"] == {"band": "cool", "condition": "snow", "precipitation": "light"}
    assert context.namespaces["device"] == {"kind": "phone"}
    assert sources["D"] == "stored"
    assert sources["D.age_band"] == sources["W.condition"] == "request"
    assert sources["W"] == "table"


def test_the_loops_time_zone_says_what_the_hour_is_where_no_region_does() -> None:
    auckland = LoopConfig("homepage", time_zone="Pacific/Auckland")
    found = build_context(auckland, NOW, Known(), {})[0].namespaces["S"]
    assert (found["weekday"], found["day_part"]) == ("d1", "evening")


def test_thresholds_make_the_quintiles() -> None:
    profile = did(("purchase", "garden", 3.0))
    strict = RfmThresholds(recency_days=(0.5, 1.0, 1.5, 2.0))
    usual = build_context(LOOP, NOW, Known(profile), {})[0].namespaces["H"]
    assert usual["recency_quintile"] == "r5"
    assert (
        build_context(LOOP, NOW, Known(profile, thresholds=strict), {})[0].namespaces["H"]["recency_quintile"] == "r1"
    )


def test_sent_ages_distances_and_degrees_become_bands() -> None:
    sent: dict[str, Any] = {
        "D": {"age": 17.0}, "L": {"store_km": 3.2},
        "W": {"temperature_c": 31.0, "precipitation_mm": 0.0, "condition": "sunny"},
    }  # fmt: skip
    namespaces = build_context(LOOP, NOW, Known(), derive(sent))[0].namespaces
    assert namespaces["D"] == {"age_band": "0-17"}
    assert namespaces["L"] == {"store_distance": "near"}
    assert namespaces["W"] == {"band": "hot", "condition": "clear", "precipitation": "none"}


@pytest.mark.parametrize(
    ("namespace", "features", "path"),
    [
        ("L", {"store_km": -1.0}, "context.location.store_km"),
        ("L", {"store_km": "near"}, "context.location.store_km"),
        ("W", {"temperature_c": 20.0}, "context.weather.precipitation_mm"),
        ("W", {"temperature_c": 400.0, "precipitation_mm": 0.0, "condition": "sun"}, "context.weather.temperature_c"),
        ("W", {"temperature_c": True, "precipitation_mm": 0.0, "condition": "sun"}, "context.weather.temperature_c"),
        ("W", {"band": "icy"}, "context.weather.band"),
        ("W", {"condition": "lava"}, "context.weather.condition"),
        ("L", {"store_distance": "galaxy"}, "context.location.store_distance"),
        ("D", {"age": 300.0}, "context.demographics.age"),
        ("D", {"age": "old"}, "context.demographics.age"),
        ("W", {"temperature_c": 4.0, "precipitation_mm": 0.0, "condition": "frogs"}, "context.weather.condition"),
    ],
)
def test_weather_and_distances_that_are_none_are_refused(namespace: str, features: Any, path: str) -> None:
    with pytest.raises(BadFeature) as caught:
        derive({namespace: features})
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("age", "band"), [(0, "0-17"), (17, "0-17"), (18, "18-24"), (34, "25-34"), (64, "55-64"), (65, "65+"), (120, "65+")]
)
def test_ages_have_bands(age: int, band: str) -> None:
    assert age_band(age) == band


def test_without_consent_nothing_about_the_person_is_used_stored_or_sent() -> None:
    schema = FeatureSchema(
        {"device.kind": FeatureSpec("string", personal=False), "device.owner_since": FeatureSpec("number")}
    )
    sent: dict[str, Any] = {
        "D": {"age_band": "65+"}, "H": {"segment": "both"}, "P": {"likes": "tea"}, "c": {"mood": "fine"},
        "device": {"kind": "phone", "owner_since": 2020.0}, "W": {"condition": "snow"},
    }  # fmt: skip
    known = Known(did(("purchase", "garden", 1.0)), RECORD, "US-WA", personalise=False)
    context, sources = build_context(replace(LOOP, schema=schema), NOW, known, sent)
    assert set(context.namespaces) == {"S", "L", "W", "device"}
    assert context.namespaces["device"] == {"kind": "phone"}
    assert {"D", "H", "P"}.isdisjoint(sources)
    unknown, _ = build_context(LOOP, NOW, replace(known, profile=None, record=CustomerRecord()), sent)
    assert set(unknown.namespaces) == {"S", "L", "W"}


def test_hidden_categories_leave_no_trace_in_features() -> None:
    open_days: list[tuple[ActivityKind, str, float]] = [("purchase", "garden", 9.0), ("view", "garden", 2.0)]
    secret: list[tuple[ActivityKind, str, float]] = [
        ("view", "tests", 0.01), ("cart_add", "tests", 0.005), ("purchase", "tests", 4.0)
    ]  # fmt: skip
    profile = did(*open_days, *secret)
    before = profile.encode()
    seen = visible(profile, frozenset({"tests"}))
    assert seen is not None
    assert "last_category" in history_features(profile, NOW, RfmThresholds())
    assert "last_category" not in history_features(seen, NOW, RfmThresholds())
    affinities = Affinities(seen, lambda _: 0.25, NOW)
    assert affinities.of("tests") == {**Affinities(did(*open_days), lambda _: 0.25, NOW).of("tests")}
    assert set(bought_lately(seen, NOW)) == {"garden"}
    assert profile.encode() == before
    assert visible(profile, frozenset({"other"})) is profile
    assert visible(None, frozenset({"tests"})) is None


def test_what_was_bought_lately_is_decayed_and_point_in_time() -> None:
    profile = did(("purchase", "garden", 0.0), ("purchase", "garden", 112.0), ("purchase", "tea", -5.0))
    assert bought_lately(profile, NOW) == {"garden": pytest.approx(1.5), "tea": 0.0}
