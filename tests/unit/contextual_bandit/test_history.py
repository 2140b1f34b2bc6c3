from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import log, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.history import (
    HALF_LIVES_DAYS,
    MONETARY_BANDS,
    SEGMENTS,
    Affinities,
    history_features,
    unchanged_until,
)
from contextual_bandit.profile import HORIZON_DAYS, MOST_RECENT, Activity, ActivityKind, Population, Profile, day_of
from contextual_bandit.profile import decode_profile as decode
from contextual_bandit.thresholds import RfmThresholds
from contextual_bandit.types import Features

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TODAY = day_of(NOW.timestamp())
THRESHOLDS = RfmThresholds((1.0, 7.0, 30.0, 90.0), (2.0, 4.0, 8.0, 16.0), (5.0, 10.0, 20.0, 40.0))
NO_ORDERS = {
    "recency": "never", "frequency": "f0", "monetary": "m0",
    "recency_quintile": "none", "frequency_quintile": "none", "monetary_quintile": "none",
}  # fmt: skip
RATES = tuple(HALF_LIVES_DAYS)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=seconds) for seconds in (1, 60, 3600, 86400))

# What happened: how long before NOW (negative: after it), what, in which category, for how much.
Done = tuple[timedelta, ActivityKind, str | None, float]


def done(ago: timedelta, kind: ActivityKind = "view", category: str | None = "garden", amount: float = 8.0) -> Done:
    return ago, kind, category, amount


def profile_of(events: Sequence[Done]) -> Profile:
    profile = Profile()
    for number, (ago, kind, category, amount) in enumerate(events):
        profile.apply(Activity(f"a{number}", "c1", kind, NOW - ago, category, None, amount))
    return profile


def bought(*ages: float, category: str = "garden", amount: float = 0.0) -> Profile:
    return profile_of([done(timedelta(days=age), "purchase", category, amount) for age in ages])


def history(*events: Done, at: datetime = NOW) -> Features:
    return history_features(profile_of(events), at, THRESHOLDS)


def usual(per_week: float) -> Callable[[str], float]:
    """A prior that knows gardens only."""
    return lambda category: per_week if category == "garden" else 0.0


def affinity(*events: Done, category: str = "garden", at: datetime = NOW) -> Features:
    """Everything but the rates."""
    found = Affinities(profile_of(events), usual(0.1), at).of(category)
    return {name: value for name, value in found.items() if name not in RATES}


# History: segment and bands


def test_nobody_is_new() -> None:
    assert history_features(None, NOW, THRESHOLDS) == history() == {"segment": "new", **NO_ORDERS}


@pytest.mark.parametrize(
    ("kinds", "segment"),
    [
        ([], "new"),
        (["view"], "browsing_only"), (["click"], "browsing_only"), (["cart_add"], "browsing_only"),
        (["purchase"], "transactions_only"),
        (["purchase", "view"], "both"), (["cart_add", "purchase"], "both"),
    ],
)  # fmt: skip
def test_segments_follow_what_was_done(kinds: list[ActivityKind], segment: str) -> None:
    assert segment in SEGMENTS
    for age in (SECOND, 3 * DAY, 300 * DAY, 900 * DAY):
        assert history(*(done(age, kind) for kind in kinds))["segment"] == segment


@pytest.mark.parametrize(
    ("age", "recency"),
    [(-3, "never"), (0, "week"), (6, "week"), (7, "fortnight"), (13, "fortnight"), (14, "month"), (28, "two_months"),
     (56, "four_months"), (111, "four_months"), (112, "longer"), (900, "longer")],
)  # fmt: skip
def test_recency_is_a_band(age: float, recency: str) -> None:
    assert history_features(bought(age), NOW, THRESHOLDS)["recency"] == recency


@pytest.mark.parametrize(("days", "band"), [(1, "f0"), (3, "f1"), (6, "f2"), (12, "f3"), (24, "f4"), (48, "f5")])
def test_frequency_is_a_band_of_orders_a_year(days: int, band: str) -> None:
    # First seen 20 weeks ago: 52 n / (20 + 4) orders a year; a second purchase on a day changes nothing.
    ages = [140.0, *[float(age) for age in range(1, days)]]
    assert history_features(bought(*ages, 140.0), NOW, THRESHOLDS)["frequency"] == band


@pytest.mark.parametrize("band", range(len(MONETARY_BANDS) + 1))
def test_monetary_value_is_a_band_of_the_average_order(band: int) -> None:
    amount = MONETARY_BANDS[band - 1] if band else 0.0
    assert history_features(bought(0, 1, 2, amount=amount), NOW, THRESHOLDS)["monetary"] == f"m{band}"
    # Two purchases of a day are one order.
    halves = bought(0, 0, 1, 1, amount=amount / 2.0)
    assert history_features(halves, NOW, THRESHOLDS)["monetary"] == f"m{band}"


def test_quintiles_follow_the_thresholds() -> None:
    # Orders 3 and 31 days ago of 15 together: 52 x 2 / (31 / 7 + 4) = 12.3 a year, 7.5 each.
    found = history(done(3 * DAY, "purchase", "garden", 5.0), done(31 * DAY, "purchase", None, 10.0))
    assert (found["recency_quintile"], found["frequency_quintile"], found["monetary_quintile"]) == ("r4", "f4", "m2")
    newest = history(done(SECOND, "purchase", "garden", 100.0))
    assert (newest["recency_quintile"], newest["frequency_quintile"], newest["monetary_quintile"]) == ("r5", "f4", "m5")
    oldest = history(done(700 * DAY, "purchase", "garden", 1.0))
    assert (oldest["recency_quintile"], oldest["frequency_quintile"], oldest["monetary_quintile"]) == ("r1", "f1", "m1")


# History: windows


def test_windows_count_what_was_done_in_them() -> None:
    found = history(
        done(30 * SECOND), done(59 * MINUTE), done(2 * HOUR), done(23 * HOUR), done(25 * HOUR),
        done(2 * MINUTE, "click"), done(3 * HOUR, "cart_add"), done(10 * SECOND, "purchase", "toys"),
    )  # fmt: skip
    counts = {name: value for name, value in found.items() if name.endswith(("_day", "_hour", "_minute"))}
    assert counts == {
        "views_minute": 1.0, "views_hour": 1.58, "views_day": 2.32,
        "clicks_hour": 1.0, "clicks_day": 1.0, "cart_adds_day": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(("window", "length"), [("minute", MINUTE), ("hour", HOUR), ("day", DAY)])
def test_a_window_is_up_to_and_including_the_moment(window: str, length: timedelta) -> None:
    instant = timedelta(microseconds=1)
    assert history(done(length - instant), done(timedelta()))[f"views_{window}"] == 1.58
    assert f"views_{window}" not in history(done(length))
    assert f"views_{window}" not in history(done(-instant))


def test_counts_end_at_what_is_kept() -> None:
    found = history(*(done(number * SECOND) for number in range(MOST_RECENT + 50)))
    assert found["views_day"] == found["views_hour"] == round(log2(1 + MOST_RECENT), 2) == 7.65


def test_the_last_category_is_of_the_last_hour() -> None:
    garden, toys = done(50 * MINUTE, "cart_add", "garden"), done(20 * MINUTE, "click", "toys")
    assert history(garden, toys)["last_category"] == history(toys, garden)["last_category"] == "toys"
    later = [done(10 * MINUTE, "view", None), done(5 * MINUTE, "purchase", "books")]
    assert history(garden, toys, *later)["last_category"] == "toys"
    assert "last_category" not in history(done(HOUR, "view"), *later)


@pytest.mark.parametrize(
    ("events", "carts", "garden"),
    [
        ([done(HOUR, "cart_add")], 1, True),
        ([done(DAY, "cart_add")], 0, False),
        ([done(HOUR, "cart_add"), done(MINUTE, "purchase", "toys")], 1, True),
        ([done(HOUR, "cart_add"), done(MINUTE, "purchase")], 0, False),
        ([done(HOUR, "cart_add"), done(HOUR, "purchase")], 0, False),
        ([done(HOUR, "cart_add"), done(2 * HOUR, "purchase")], 1, True),
        ([done(3 * HOUR, "cart_add"), done(2 * HOUR, "purchase"), done(HOUR, "cart_add")], 1, True),
        # A purchase that names no category ends every cart, a cart add that names none ends with any purchase.
        ([done(HOUR, "cart_add"), done(MINUTE, "purchase", None)], 0, False),
        ([done(HOUR, "cart_add", None), done(MINUTE, "purchase", "toys")], 0, False),
        ([done(HOUR, "cart_add", None), done(HOUR, "cart_add", "garden"), done(2 * HOUR, "purchase", "toys")], 2, True),
        # Bought after the moment.
        ([done(HOUR, "cart_add"), done(-MINUTE, "purchase")], 1, True),
    ],
)
def test_carts_are_abandoned_until_their_category_is_bought(events: list[Done], carts: int, garden: bool) -> None:
    found = history(*events)
    assert found.get("abandoned") == (round(log2(1 + carts), 2) if carts else None)
    assert affinity(*events).get("abandoned") == (1.0 if garden else None)


# Affinity: rates


def test_an_offer_without_category_has_no_affinity() -> None:
    assert Affinities(bought(1), usual(0.1), NOW).of(None) == {}


def test_without_history_the_affinity_is_the_priors_rate() -> None:
    for profile in (None, Profile()):
        assert Affinities(profile, usual(0.1), NOW).of("garden") == dict.fromkeys(RATES, 5.2)
        assert Affinities(profile, usual(0.1), NOW).of("toys") == dict.fromkeys(RATES, 0.0)


def rates(profile: Profile, per_week: float) -> dict[str, float]:
    found = Affinities(profile, usual(per_week), NOW).of("garden")
    return {name: float(found[name]) for name in RATES}


def test_history_and_prior_blend_as_history_grows() -> None:
    weekly, short = rates(bought(*range(0, 700, 7)), 0.0), rates(bought(0, 7), 0.0)
    for name in RATES:
        assert 0.0 < short[name] < weekly[name]
    assert weekly["r52"] == pytest.approx(52.0, rel=0.12)
    # The other way: customers who buy weekly pull up one who rarely does.
    assert rates(bought(700), 1.0)["r4"] > rates(bought(700), 0.0)["r4"]


def test_the_formula_by_hand() -> None:
    # One purchase, today: S = 2 ** (0.5 / half-life), n = 0, K = 4, p = 0.1.
    for name, half_life in HALF_LIVES_DAYS.items():
        assert rates(bought(0), 0.1)[name] == round(52.0 * (0.5 ** (-0.5 / half_life) + 4.0 * 0.1) / 4.0, 2)
    # Two, 10 and 30 days ago: n weeks of decayed observation.
    for name, half_life in HALF_LIVES_DAYS.items():
        decayed = 0.5 ** (9.5 / half_life) + 0.5 ** (29.5 / half_life)
        weeks = half_life / 7.0 / log(2.0) * (1.0 - 0.5 ** (30.0 / half_life))
        assert rates(bought(30, 10), 0.1)[name] == round(52.0 * (decayed + 0.4) / (weeks + 4.0), 2)


def test_a_newer_habit_shows_in_the_shorter_half_life() -> None:
    new_habit = rates(bought(700, 1, 3, 5), 0.0)
    assert new_habit["r4"] > new_habit["r16"] > new_habit["r52"]


def test_purchases_behind_the_horizon_do_not_count() -> None:
    found = Affinities(bought(HORIZON_DAYS + 100), usual(0.0), NOW).of("garden")
    assert found == dict.fromkeys(RATES, 0.0)
    # Nor among the orders of which others are a share.
    old = Affinities(bought(HORIZON_DAYS + 100, 3, 2, 1), usual(0.0), NOW).of("garden")
    assert old["order_share"] == 0.6


def test_the_prior_of_a_population() -> None:
    population = Population(100, 100, TODAY, 0.0, {"garden": 0.1 * 364.0 / 7.0 / log(2.0) * 100})
    found = Affinities(None, lambda category: population.rate(category, TODAY), NOW).of("garden")
    assert found == dict.fromkeys(RATES, 5.2)


def test_one_moment_computes_a_category_once() -> None:
    affinities = Affinities(bought(1), usual(0.1), NOW)
    assert affinities.of("garden") is affinities.of("garden")


# Affinity: shares and recent interest


def test_shares_are_of_orders_money_and_visits() -> None:
    events = [
        done(1 * DAY, "purchase", "garden", 10.0), done(1 * DAY, "purchase", "toys", 40.0),
        done(2 * DAY, "purchase", "garden", 20.0), done(3 * DAY, "purchase", None, 30.0),
        done(4 * DAY, "view"), done(4 * DAY, "click"), done(5 * DAY, "view", "toys"), done(6 * DAY, "view", None),
    ]  # fmt: skip
    # 2 of 3 orders have gardens, 30 of 100 went to them; 1 of 3 days of visits.
    assert affinity(*events) == {"order_share": 0.4, "value_share": 0.18, "visit_share": 0.2}
    assert affinity(*events, category="toys") == {"order_share": 0.2, "value_share": 0.24, "visit_share": 0.2}
    assert affinity(*events, category="books") == {}


def test_shares_grow_towards_one_with_the_evidence() -> None:
    found = [float(affinity(*(done(n * DAY, "purchase") for n in range(1, days + 1)))["order_share"])
             for days in (1, 2, 10, 100)]  # fmt: skip
    assert found == [0.333, 0.5, 0.833, 0.98]


def test_purchases_without_money_have_no_share_of_it() -> None:
    assert affinity(done(DAY, "purchase", "garden", 0.0)) == {"order_share": 0.333}


def test_interest_of_the_last_day_is_by_category() -> None:
    events = [done(HOUR), done(2 * HOUR), done(3 * HOUR, "click"), done(4 * HOUR, "cart_add", "toys"), done(DAY)]
    shares = {"visit_share": 0.5}
    assert affinity(*events) == {**shares, "viewed_day": 1.58, "clicked_day": 1.0}
    toys = affinity(*events, category="toys")
    assert toys == {"visit_share": 0.25, "carted_day": 1.0, "abandoned": 1.0}


# Point in time

KINDS: st.SearchStrategy[ActivityKind] = st.sampled_from(["view", "click", "cart_add", "purchase"])
# Far and near, before and after; money in quarters, so that sums are exact.
AGOS = st.one_of(
    st.integers(-28 * 24, 700 * 24).map(lambda hours: hours * HOUR),
    st.integers(-90, 90).map(lambda seconds: seconds * SECOND),
    st.integers(-26 * 60, 26 * 60).map(lambda minutes: minutes * MINUTE),
)
EVENTS = st.lists(
    st.builds(done, AGOS, KINDS, st.sampled_from(["garden", "toys", None]), st.integers(0, 400).map(lambda q: q / 4.0)),
    max_size=30,
)
CATEGORIES = ("garden", "toys", "books")


def all_features(profile: Profile, at: datetime = NOW) -> list[Features]:
    affinities = Affinities(profile, usual(0.1), at)
    return [history_features(profile, at, THRESHOLDS), *map(affinities.of, CATEGORIES)]


@given(EVENTS)
def test_a_moment_sees_what_came_up_to_it_and_nothing_else(events: list[Done]) -> None:
    """The profile that has seen everything tells of the moment what the profile of that moment told."""
    known_then = [event for event in events if event[0] >= timedelta()]
    assert all_features(profile_of(events)) == all_features(profile_of(known_then))


@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_and_a_restart_change_no_feature(events: list[Done], shuffler: random.Random) -> None:
    expected = all_features(profile_of(events))
    shuffled = list(events)
    shuffler.shuffle(shuffled)
    profile = profile_of(shuffled)
    assert all_features(profile) == all_features(decode(profile.encode())) == expected


@given(EVENTS)
def test_an_activity_that_is_applied_twice_changes_no_day(events: list[Done]) -> None:
    """Days are idempotent; counts and money are not: who applies activities leaves out those that he knows."""
    once, twice = all_features(profile_of(events)), all_features(profile_of([*events, *events]))
    for name in ("segment", "recency", "frequency", "recency_quintile", "frequency_quintile", "last_category"):
        assert twice[0].get(name) == once[0].get(name)
    for after, before in zip(twice[1:], once[1:], strict=True):
        for name in (*RATES, "order_share", "visit_share", "abandoned"):
            assert after.get(name) == before.get(name)


@given(EVENTS)
def test_features_keep_their_ranges(events: list[Done]) -> None:
    found, *affinities = all_features(profile_of(events))
    for name, value in found.items():
        assert isinstance(value, str) or (1.0 <= value <= 7.65 and name not in NO_ORDERS)
    for features in affinities:
        assert all(0.0 < float(features[name]) <= 1.0 for name in features if name.endswith("_share"))
        assert all(float(features[name]) >= 0.0 for name in RATES)


def later_views(count: int) -> list[Done]:
    return [done(-5 * DAY - number * SECOND, "view", "books") for number in range(count)]


def test_a_moment_behind_the_recent_events_sees_whole_days_before_its_own() -> None:
    before = [done(2 * DAY, "purchase", "garden", 10.0), done(3 * DAY, "purchase", "toys", 30.0), done(2 * DAY)]
    own_day = [done(HOUR, "purchase", "garden", 50.0), done(-HOUR, "purchase", "toys", 70.0), done(HOUR, "click")]
    profile = profile_of([*before, *own_day, *later_views(MOST_RECENT)])
    expected, *known_then = all_features(profile_of(before))
    found, *affinities = all_features(profile)
    assert found == expected
    # Money by category is not known as of then, so every order counts the same.
    for features, then in zip(affinities, known_then, strict=True):
        share = {"value_share": then["order_share"]} if "order_share" in then else {}
        assert features == {**then, **share}


def test_the_day_of_a_busy_customer_is_known_up_to_the_moment() -> None:
    # The recent events begin behind the order, but before the moment: what came later is known to the second.
    order = done(2 * HOUR, "purchase", "garden", 10.0)
    busy = [order, *(done(number * SECOND) for number in range(MOST_RECENT)), done(-MINUTE, "click")]
    found, garden, _, _ = all_features(profile_of(busy))
    assert (found["recency"], found["monetary"], found["views_day"]) == ("week", "m2", round(log2(MOST_RECENT), 2))
    assert (garden["order_share"], garden["value_share"], "clicked_day" in garden) == (0.333, 0.333, False)
    _, _, toys, _ = all_features(profile_of([*busy, done(-HOUR, "purchase", "toys", 5.0)]))
    assert toys == dict.fromkeys(RATES, 0.0)
    _, tomorrow, _, _ = all_features(profile_of([*busy, done(-DAY, "purchase", "garden", 5.0)]))
    assert tomorrow == garden


def test_an_order_is_worth_what_it_was_at_the_moment() -> None:
    order = done(HOUR, "purchase", "garden", 10.0)
    assert history(order, done(-HOUR, "purchase", "toys", 90.0)) == history(order)
    assert history(order)["monetary"] == "m2"


def test_visits_behind_the_horizon_have_no_share() -> None:
    old, new = done((HORIZON_DAYS + 50) * DAY), done(100 * DAY, "view", "toys")
    assert affinity(old, new) == {}
    assert affinity(old, new, category="toys") == {"visit_share": 0.333}


def test_a_profile_of_version_1_has_its_bands_and_rates() -> None:
    garden = f'[{TODAY - 3},"81",2,30.0,1.0,{(NOW - 5 * DAY).timestamp()}]'
    at = f"{(NOW - 10 * DAY).timestamp()},{(NOW - 3 * DAY).timestamp()},{(NOW - 3 * DAY).timestamp()},{TODAY - 10}"
    money = f"[[{TODAY - 3},10.0],[{TODAY - 10},20.0]]"
    stored = f'{{"v":1,"t":[{at}],"n":[2,30.0,1],"m":{money},"b":[{TODAY - 5},"1"],"c":{{"garden":{garden}}}}}'
    events = [
        done(3 * DAY, "purchase", "garden", 10.0), done(10 * DAY, "purchase", "garden", 20.0), done(5 * DAY),
    ]  # fmt: skip
    assert all_features(decode(stored.encode())) == all_features(profile_of(events))


ACTIVITY_KINDS: tuple[ActivityKind, ...] = ("view", "click", "cart_add", "purchase")
LATELY = st.builds(
    done,
    st.timedeltas(-HOUR, 3 * DAY),
    st.sampled_from(ACTIVITY_KINDS),
    st.sampled_from(("garden", "toys", None)),
)


@given(st.lists(LATELY, max_size=12), st.floats(0.0, 1.0))
def test_nothing_changes_until_it_is_said_to(events: list[Done], share: float) -> None:
    profile = profile_of(events)
    until = unchanged_until(profile, NOW)
    at = NOW.timestamp()
    assert at <= until or until == pytest.approx(at, abs=0.01)
    later = datetime.fromtimestamp(at + share * (until - at), UTC)
    if not at <= later.timestamp() < until:
        return
    assert history_features(profile, later, THRESHOLDS) == history_features(profile, NOW, THRESHOLDS)
    now, then = (Affinities(profile, usual(0.1), moment) for moment in (NOW, later))
    for category in ("garden", "toys", "other"):
        assert then.of(category) == now.of(category)


def test_what_is_derived_changes_with_the_windows_and_the_day() -> None:
    viewed = profile_of([done(timedelta(seconds=20))])
    assert unchanged_until(viewed, NOW) == pytest.approx(NOW.timestamp() + 40.0, abs=0.01)
    assert unchanged_until(bought(30.0), NOW) == (TODAY + 1) * 86400.0
    # About what is past already anything may be said later.
    assert unchanged_until(profile_of([done(timedelta(seconds=-5))]), NOW) == NOW.timestamp()
