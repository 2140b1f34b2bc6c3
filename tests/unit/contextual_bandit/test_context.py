from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import log

import pytest

from contextual_bandit.context import (
    HALF_LIVES_DAYS,
    MONETARY_BANDS,
    Affinities,
    build_context,
    history_features,
    season_features,
)
from contextual_bandit.loops import LoopConfig
from contextual_bandit.profile import HORIZON_DAYS, Activity, ActivityKind, Population, Profile, day_of

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TODAY = day_of(NOW.timestamp())
LOOP = LoopConfig("homepage")


def profile_of(*purchase_ages: float, category: str = "garden", kind: ActivityKind = "purchase") -> Profile:
    """A customer with one activity so many days ago, each."""
    profile = Profile()
    for number, age in enumerate(purchase_ages):
        profile.apply(Activity(f"a{number}", "c1", kind, NOW - timedelta(days=age), category))
    return profile


def usual(per_week: float) -> Population:
    """A population that buys gardens so often."""
    population = Population(100, 100, TODAY, 0.0, {})
    weeks = 364.0 / 7.0 / log(2.0) * 100
    population.days["garden"] = per_week * weeks
    assert population.rate("garden", TODAY) == pytest.approx(per_week)
    return population


def test_nobody_is_new() -> None:
    nothing = {"segment": "new", "recency": "never", "frequency": "f0", "monetary": "m0"}
    assert history_features(None, NOW) == history_features(Profile(), NOW) == nothing


def test_segments_follow_what_was_done() -> None:
    assert history_features(profile_of(1), NOW)["segment"] == "transactions_only"
    browsing = profile_of(1, kind="view")
    assert history_features(browsing, NOW)["segment"] == "browsing_only"
    assert history_features(browsing, NOW)["recency"] == "never"
    browsing.apply(Activity("x", "c1", "purchase", NOW))
    assert history_features(browsing, NOW)["segment"] == "both"


@pytest.mark.parametrize(
    ("age", "recency"),
    [(-3, "never"), (0, "week"), (6, "week"), (7, "fortnight"), (13, "fortnight"), (14, "month"), (28, "two_months"),
     (56, "four_months"), (111, "four_months"), (112, "longer"), (900, "longer")],
)  # fmt: skip
def test_recency_is_a_band(age: float, recency: str) -> None:
    assert history_features(profile_of(age), NOW)["recency"] == recency


@pytest.mark.parametrize(("days", "band"), [(1, "f0"), (3, "f1"), (6, "f2"), (12, "f3"), (24, "f4"), (48, "f5")])
def test_frequency_is_a_band_of_purchase_days_a_year(days: int, band: str) -> None:
    # First seen 20 weeks ago: 52 n / (20 + 4) purchase days a year; a second purchase on a day changes nothing.
    ages = [140.0, *[float(age) for age in range(1, days)]]
    assert history_features(profile_of(*ages, 140.0), NOW)["frequency"] == band


def test_history_knows_nothing_of_what_came_later() -> None:
    """Point in time: a decision about an earlier moment sees the days before it."""
    profile = Profile()
    for number, (age, kind, amount) in enumerate([(30, "purchase", 8.0), (9, "view", None), (2, "purchase", 90.0)]):
        profile.apply(Activity(f"a{number}", "c1", kind, NOW - timedelta(days=age), "garden", None, amount))  # type: ignore[arg-type]
    before = history_features(profile, NOW - timedelta(days=20))
    assert before == {"segment": "transactions_only", "recency": "fortnight", "frequency": "f1", "monetary": "m1"}
    assert history_features(profile, NOW - timedelta(days=5))["segment"] == "both"
    assert history_features(profile, NOW - timedelta(days=40)) == history_features(None, NOW)
    assert history_features(profile, NOW)["monetary"] == "m3"


@pytest.mark.parametrize("band", range(len(MONETARY_BANDS) + 1))
def test_monetary_value_is_a_band_of_money_per_purchase_day(band: int) -> None:
    amount = MONETARY_BANDS[band - 1] if band else 0.0
    profile = Profile()
    for number in range(3):
        profile.apply(Activity(f"a{number}", "c1", "purchase", NOW - timedelta(days=number), "garden", None, amount))
    assert history_features(profile, NOW)["monetary"] == f"m{band}"


@pytest.mark.parametrize(
    ("local", "season", "part"),
    [
        (datetime(2026, 12, 1, 0, 0, tzinfo=UTC), "winter", "night"),
        (datetime(2026, 2, 28, 5, 59, tzinfo=UTC), "winter", "night"),
        (datetime(2026, 3, 1, 6, 0, tzinfo=UTC), "spring", "morning"),
        (datetime(2026, 6, 1, 12, 0, tzinfo=UTC), "summer", "afternoon"),
        (datetime(2026, 9, 1, 18, 0, tzinfo=UTC), "autumn", "evening"),
    ],
)
def test_seasons_and_parts_of_the_day(local: datetime, season: str, part: str) -> None:
    found = season_features(local)
    assert found["season"] == season
    assert found["day_part"] == part
    assert found["month"] == f"m{local.month}"
    assert found["weekday"] == f"d{local.isoweekday()}"


def test_the_context_has_history_season_and_what_is_known_of_the_person() -> None:
    context = build_context(LOOP, NOW, None, {"age_band": "30s"}, {"device": {"kind": "phone"}})
    assert set(context.namespaces) == {"H", "S", "D", "device"}
    assert context.namespaces["D"] == {"age_band": "30s"}
    assert context.namespaces["S"]["weekday"] == "d1"
    assert "D" not in build_context(LOOP, NOW, None, {}, {}).namespaces


def test_the_loops_time_zone_says_what_the_hour_is() -> None:
    auckland = LoopConfig("homepage", time_zone="Pacific/Auckland")
    found = build_context(auckland, NOW, None, {}, {}).namespaces["S"]
    assert (found["day_part"], found["weekday"]) == ("evening", "d1")
    assert build_context(LOOP, NOW, None, {}, {}).namespaces["S"]["day_part"] == "morning"


def test_what_was_sent_goes_before_what_is_stored() -> None:
    sent = {"H": {"segment": "both"}, "D": {"region": "north"}}
    namespaces = build_context(LOOP, NOW, None, {"region": "south", "age_band": "30s"}, sent).namespaces
    assert namespaces["H"] == {"segment": "both", "recency": "never", "frequency": "f0", "monetary": "m0"}
    assert namespaces["D"] == {"region": "north", "age_band": "30s"}


def test_an_offer_without_category_has_no_affinity() -> None:
    assert Affinities(profile_of(1), usual(0.1), NOW).of(None) == {}


def test_without_history_the_affinity_is_the_populations_rate() -> None:
    rate = round(52.0 * 0.1, 2)
    for profile in (None, Profile()):
        assert Affinities(profile, usual(0.1), NOW).of("garden") == dict.fromkeys(HALF_LIVES_DAYS, rate)
        assert Affinities(profile, usual(0.1), NOW).of("toys") == dict.fromkeys(HALF_LIVES_DAYS, 0.0)


def test_history_and_population_blend_as_history_grows() -> None:
    weekly = Affinities(profile_of(*range(0, 700, 7)), usual(0.0), NOW).of("garden")
    short = Affinities(profile_of(0, 7), usual(0.0), NOW).of("garden")
    for name in HALF_LIVES_DAYS:
        assert 0.0 < float(short[name]) < float(weekly[name])
    assert float(weekly["r52"]) == pytest.approx(52.0, rel=0.12)
    # The other way: a population that buys weekly pulls up one who rarely does.
    rare = profile_of(700)
    assert float(Affinities(rare, usual(1.0), NOW).of("garden")["r4"]) > float(
        Affinities(rare, usual(0.0), NOW).of("garden")["r4"]
    )


def test_the_formula_by_hand() -> None:
    # One purchase, today: S = 2 ** (0.5 / half-life), n = 0, K = 4, p = 0.1.
    found = Affinities(profile_of(0), usual(0.1), NOW).of("garden")
    for name, half_life in HALF_LIVES_DAYS.items():
        assert found[name] == round(52.0 * (0.5 ** (-0.5 / half_life) + 4.0 * 0.1) / 4.0, 2)


def test_a_newer_habit_shows_in_the_shorter_half_life() -> None:
    new_habit = Affinities(profile_of(700, 1, 3, 5), usual(0.0), NOW).of("garden")
    assert float(new_habit["r4"]) > float(new_habit["r16"]) > float(new_habit["r52"])


def test_purchases_after_the_moment_do_not_count() -> None:
    before = Affinities(profile_of(30), usual(0.1), NOW).of("garden")
    after = Affinities(profile_of(30, -1, -40), usual(0.1), NOW).of("garden")
    assert after == before
    only_later = Affinities(profile_of(-1), usual(0.1), NOW).of("garden")
    assert only_later == Affinities(None, usual(0.1), NOW).of("garden")


def test_purchases_behind_the_horizon_do_not_count() -> None:
    old = profile_of(HORIZON_DAYS + 100)
    assert float(Affinities(old, usual(0.0), NOW).of("garden")["r52"]) == 0.0


def test_one_moment_computes_a_category_once() -> None:
    affinities = Affinities(profile_of(1), usual(0.1), NOW)
    assert affinities.of("garden") is affinities.of("garden")
