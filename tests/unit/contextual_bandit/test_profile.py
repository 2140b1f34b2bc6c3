from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.profile import (
    HORIZON_DAYS,
    INTEREST_HALF_LIFE_DAYS,
    MOST_RECENT,
    POPULATION_HALF_LIFE_DAYS,
    RECENT_SECONDS,
    Activity,
    ActivityKind,
    Categories,
    CategoryHistory,
    Days,
    Population,
    Profile,
    Recent,
    day_of,
    decode_population,
    decode_profile,
)

START = datetime(2024, 1, 1, 12, tzinfo=UTC)
TODAY = day_of(START.timestamp())


def activity(
    number: int,
    day: float,
    kind: ActivityKind = "purchase",
    category: str | None = "garden",
    amount: float | None = 2.0,
) -> Activity:
    return Activity(f"a{number}", "c1", kind, START + timedelta(days=day), category, None, amount)


def profile_of(*activities: Activity) -> Profile:
    profile = Profile()
    for one in activities:
        profile.apply(one)
    return profile


def test_days_begin_in_utc() -> None:
    assert day_of(0.0) == 0
    assert day_of(86399.9) == 0
    assert day_of(86400.0) == 1


def test_a_purchase_counts_once_a_day_and_category() -> None:
    profile = Profile()
    assert profile.apply(activity(1, 0.0)) == [("garden", TODAY)]
    assert profile.apply(activity(2, 0.1)) == []
    assert profile.apply(activity(3, 0.1, category="toys")) == [("toys", TODAY)]
    assert profile.apply(activity(4, 1.0)) == [("garden", TODAY + 1)]
    assert (profile.purchases, profile.spend, profile.browses) == (4, 8.0, 0)
    assert profile.categories["garden"].orders == 3
    assert profile.categories["garden"].spend == 6.0
    assert profile.first_purchase_day == TODAY


def test_a_purchase_without_category_or_amount_still_counts() -> None:
    profile = Profile()
    assert profile.apply(activity(1, 0.0, category=None, amount=None)) == []
    assert (profile.purchases, profile.spend, profile.first_purchase_day) == (1, 0.0, None)
    assert profile.last_purchase_at == START.timestamp()
    assert profile.categories == {}


@pytest.mark.parametrize("kind", ["view", "click", "cart_add"])
def test_browsing_is_interest_and_no_purchase(kind: ActivityKind) -> None:
    profile = profile_of(activity(1, 0.0, kind), activity(2, 1.0, kind, category=None))
    assert (profile.purchases, profile.browses, profile.last_purchase_at) == (0, 2, None)
    assert profile.categories["garden"].interest == 1.0
    assert not profile.categories["garden"].days
    assert profile.categories["garden"].visits == Days(TODAY, 1)
    assert profile.browsing == Days(TODAY + 1, 0b11)


def test_interest_halves_in_a_week_in_any_order() -> None:
    for days in ((0.0, 7.0), (7.0, 0.0)):
        profile = profile_of(*(activity(number, day, "view") for number, day in enumerate(days)))
        history = profile.categories["garden"]
        assert history.interest == pytest.approx(1.5)
        assert history.interest_at == (START + timedelta(days=INTEREST_HALF_LIFE_DAYS)).timestamp()


def test_ages_leave_out_what_comes_later() -> None:
    history = profile_of(activity(1, 0.0), activity(2, 3.0), activity(3, 10.0)).categories["garden"]
    assert history.ages(TODAY + 10) == [0, 7, 10]
    assert history.ages(TODAY + 12) == [2, 9, 12]
    assert history.ages(TODAY + 3) == [0, 3]
    assert history.ages(TODAY + 2) == [2]
    assert history.ages(TODAY - 1) == []
    assert CategoryHistory().ages(TODAY) == []


def test_the_days_up_to_a_day_are_a_mask_of_their_ages() -> None:
    days = Days()
    for day in (10, 13, 20):
        assert days.add_day(day)
    assert days.until(20) == 0b10010000001
    assert days.until(22) == days.until(20) << 2
    assert days.until(13) == 0b1001
    assert days.until(9) == 0


def test_days_behind_the_horizon_are_forgotten() -> None:
    history = CategoryHistory()
    assert history.add_day(1000)
    assert not history.add_day(1000 - HORIZON_DAYS)
    assert history.add_day(1000 - HORIZON_DAYS + 1)
    assert history.add_day(1001)
    assert history.ages(1001) == [0, 1]


KINDS = st.sampled_from(["view", "click", "cart_add", "purchase"])
ACTIVITIES = st.lists(
    st.builds(
        lambda day, kind, category: (day, kind, category),
        st.integers(0, HORIZON_DAYS - 1), KINDS, st.sampled_from(["garden", "toys", None]),
    ),
    max_size=25,
)  # fmt: skip


@given(ACTIVITIES, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_profile(
    drawn: list[tuple[int, ActivityKind, str]], shuffler: random.Random
) -> None:
    activities = [activity(number, day, kind, category) for number, (day, kind, category) in enumerate(drawn)]
    shuffled = list(activities)
    shuffler.shuffle(shuffled)
    one, other = profile_of(*activities), profile_of(*shuffled)
    assert set(one.categories) == set(other.categories)
    for name, history in one.categories.items():
        twin = other.categories[name]
        assert (history.last_day, history.days, history.orders) == (twin.last_day, twin.days, twin.orders)
        assert history.spend == pytest.approx(twin.spend)
        assert history.interest == pytest.approx(twin.interest)
        assert history.interest_at == twin.interest_at
        assert history.visits == twin.visits
    assert (one.browsing, one.recent) == (other.browsing, other.recent)
    for name in ("first_at", "last_at", "last_purchase_at", "first_purchase_day", "purchases", "browses"):
        assert getattr(one, name) == getattr(other, name)


def test_any_order_gives_the_same_first_purchase_day_beyond_the_horizon_too() -> None:
    old, new = activity(1, 0.0), activity(2, HORIZON_DAYS + 50.0)
    assert profile_of(old, new).first_purchase_day == profile_of(new, old).first_purchase_day


@given(ACTIVITIES)
def test_a_profile_is_stored_and_read_back(drawn: list[tuple[int, ActivityKind, str]]) -> None:
    profile = profile_of(*(activity(number, day, kind, category) for number, (day, kind, category) in enumerate(drawn)))
    assert decode_profile(profile.encode()) == profile


def test_a_profile_stored_by_version_1_is_read() -> None:
    stored = b'{"v":1,"t":[1.5,9.5,9.5,0],"n":[2,3.5,1],"m":[[0,1.5],[3,2.0]],"b":[2,"5"],"c":{"garden":[3,"9",2,3.5,0.5,200000.5],"toys":[3,"1",1,2.0,0.0,0.0]}}'
    # Of a category's visits the newest is known, of single events nothing up to the newest.
    garden = CategoryHistory(3, 9, 2, 3.5, 0.5, 200000.5, Days(2, 1))
    toys = CategoryHistory(3, 1, 1, 2.0)
    expected = Profile(
        1.5, 9.5, 9.5, 0, 2, 3.5, 1, {0: 1.5, 3: 2.0}, Days(2, 5), Categories({"garden": garden, "toys": toys}),
        Recent(complete_after=9.5),
    )  # fmt: skip
    assert decode_profile(stored) == expected
    assert decode_profile(decode_profile(stored).encode()) == expected


def test_an_empty_profile_of_version_1_is_read() -> None:
    stored = b'{"v":1,"t":[null,null,null,null],"n":[0,0.0,0],"m":[],"b":[0,"0"],"c":{}}'
    assert decode_profile(stored) == Profile()


def test_a_profile_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 3"):
        decode_profile(b'{"v":3}')


def test_a_stored_profile_goes_on() -> None:
    activities = [
        activity(1, 0.0), activity(2, 1.0, "view"), activity(3, 1.0, "cart_add", "toys"), activity(4, 2.0),
        activity(5, 2.0, "click", None), activity(6, 2.5, "view", "books"),
    ]  # fmt: skip
    stored = Profile()
    for one in activities:
        stored = decode_profile(stored.encode())
        stored.apply(one)
    assert stored == profile_of(*activities)


def test_categories_are_a_mapping() -> None:
    categories = decode_profile(profile_of(activity(1, 0.0), activity(2, 0.0, category="toys")).encode()).categories
    assert (len(categories), list(categories), "toys" in categories) == (2, ["garden", "toys"], True)
    assert categories.get("books") is None
    assert categories["toys"] is categories["toys"]
    del categories["garden"]
    assert categories == {"toys": CategoryHistory(TODAY, 1, 1, 2.0)}


def test_recent_events_stand_in_the_order_of_time() -> None:
    recent = profile_of(
        activity(1, 2.0, "view"), activity(2, 1.0, "purchase", None, 3.5), activity(3, 3.0, "cart_add", "toys"),
        activity(4, 1.5, "click", "toys"),
    ).recent  # fmt: skip
    assert recent.at == [(START + timedelta(days=day)).timestamp() for day in (1.0, 1.5, 2.0, 3.0)]
    assert recent.kinds == "pcva"
    assert recent.categories == [None, "toys", "garden", "toys"]
    assert recent.amounts == [3.5, 0, 0, 0]
    assert recent.complete_after == 0.0


def test_recent_events_are_of_the_30_days_before_the_newest() -> None:
    month = RECENT_SECONDS / 86400.0
    for days in ((0.0, 1.0, month), (month, 1.0, 0.0)):
        recent = profile_of(*(activity(number, day, "view") for number, day in enumerate(days))).recent
        assert recent.at == [(START + timedelta(days=day)).timestamp() for day in (1.0, month)]
        assert recent.complete_after == START.timestamp()


def test_recent_events_are_the_newest_200() -> None:
    profile = profile_of(*(activity(number, number / 100, "view") for number in range(MOST_RECENT + 5)))
    assert len(profile.recent.at) == len(profile.recent.kinds) == len(profile.recent.categories) == MOST_RECENT
    assert profile.recent.at[0] == (START + timedelta(days=0.05)).timestamp()
    assert profile.recent.complete_after == (START + timedelta(days=0.04)).timestamp()
    profile.apply(activity(999, 0.0, "view"))
    assert profile.recent.at[0] == (START + timedelta(days=0.05)).timestamp()


@given(st.randoms(use_true_random=False))
def test_which_events_are_kept_does_not_depend_on_the_order(shuffler: random.Random) -> None:
    # Many at the same time, and more than are kept.
    activities = [
        activity(number, shuffler.randrange(8) / 4, shuffler.choice(["view", "click", "cart_add", "purchase"]),
                 shuffler.choice(["garden", "toys", None]), shuffler.randrange(3) / 4)
        for number in range(MOST_RECENT + 40)
    ]  # fmt: skip
    one = profile_of(*activities).recent
    shuffler.shuffle(activities)
    assert profile_of(*activities).recent == one
    assert len(one.at) == MOST_RECENT


def population_of(*customers: list[int]) -> Population:
    population = Population()
    for days in customers:
        population.customers += 1
        profile = Profile()
        for number, day in enumerate(days):
            first = profile.first_purchase_day
            for category, new_day in profile.apply(activity(number, day)):
                population.add_day(category, new_day)
            population.move_first(first, profile.first_purchase_day)
    return population


def test_without_buyers_nothing_is_usual() -> None:
    population = Population()
    assert population.rate("garden", TODAY) == 0.0
    population.move_first(None, None)
    assert population.buyers == 0


def test_a_rate_needs_more_than_a_week_of_customers() -> None:
    assert population_of([0]).rate("garden", TODAY + 6) == 0.0
    assert population_of([0]).rate("garden", TODAY + 8) > 0.0


def test_the_rate_is_days_over_customer_weeks() -> None:
    # 50 customers who buy every 7th day for half a year: about one day a week.
    weekly = population_of(*(list(range(0, 183, 7)) for _ in range(50)))
    assert weekly.rate("garden", TODAY + 183) == pytest.approx(1.0, rel=0.06)
    assert weekly.rate("toys", TODAY + 183) == 0.0
    assert weekly.customers == weekly.buyers == 50


def test_an_earlier_first_day_replaces_the_later_one() -> None:
    one, other = population_of([0, 20]), population_of([20, 0])
    assert other.buyers == 1
    assert other.firsts == pytest.approx(one.firsts)
    assert other.rate("garden", TODAY + 40) == pytest.approx(one.rate("garden", TODAY + 40))


@given(
    st.lists(st.lists(st.integers(0, HORIZON_DAYS - 1), min_size=1, max_size=6), min_size=1, max_size=5),
    st.integers(1, 400),
)
def test_any_order_gives_the_same_population(customers: list[list[int]], later: int) -> None:
    today = TODAY + HORIZON_DAYS + later
    one = population_of(*customers)
    other = population_of(*(days[::-1] for days in customers[::-1]))
    assert other.rate("garden", today) == pytest.approx(one.rate("garden", today))
    assert one.rate("garden", today) >= 0.0


def test_sums_decay_with_the_half_life() -> None:
    population = population_of([0])
    population.add_day("toys", TODAY + int(POPULATION_HALF_LIFE_DAYS))
    assert population.days == {"garden": pytest.approx(0.5), "toys": 1.0}
    assert population.firsts == pytest.approx(0.5)


def test_a_population_is_stored_and_read_back() -> None:
    population = population_of([0, 7], [3, 400])
    assert decode_population(population.encode()) == population
