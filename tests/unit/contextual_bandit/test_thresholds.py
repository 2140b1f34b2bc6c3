from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.profile import Activity, Profile
from contextual_bandit.thresholds import (
    FEWEST_CUSTOMERS,
    BadThresholds,
    RfmThresholds,
    decode_thresholds,
    fit_thresholds,
    quintile,
)

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def customer(*ages: float, amount: float = 1.0) -> Profile:
    profile = Profile()
    for number, age in enumerate(ages):
        profile.apply(Activity(f"a{number}", "c", "purchase", NOW - timedelta(days=age), "garden", None, amount))
    return profile


@pytest.mark.parametrize(
    ("value", "expected"), [(-9.0, 1), (7.0, 1), (7.1, 2), (28.0, 2), (28.1, 3), (91.0, 3), (91.1, 4), (182.0, 4), (183.0, 5)]
)  # fmt: skip
def test_a_value_on_a_limit_is_in_the_lower_quintile(value: float, expected: int) -> None:
    assert quintile(RfmThresholds().recency_days, value) == expected


def test_equal_limits_leave_quintiles_empty() -> None:
    assert [quintile((2.0, 2.0, 2.0, 5.0), value) for value in (1.0, 2.0, 3.0, 5.0, 6.0)] == [1, 1, 4, 4, 5]


@given(st.lists(st.floats(0.0, 1e6), min_size=4, max_size=4), st.floats(-1.0, 1e6), st.floats(-1.0, 1e6))
def test_quintiles_follow_the_order_of_values(limits: list[float], one: float, other: float) -> None:
    limits.sort()
    assert 1 <= quintile(limits, min(one, other)) <= quintile(limits, max(one, other)) <= 5


def test_without_ties_a_fifth_is_in_each_quintile() -> None:
    # The n-th customer bought n days ago and n - 1 days before that, for n each.
    customers = [customer(float(n), 2.0 * n - 1.0, amount=float(n)) for n in range(1, 101)]
    random.Random(3).shuffle(customers)
    fitted = fit_thresholds(customers, NOW)
    assert fitted.recency_days == (20.0, 40.0, 60.0, 80.0)
    assert fitted.per_order == (20.0, 40.0, 60.0, 80.0)
    assert Counter(quintile(fitted.recency_days, float(n)) for n in range(1, 101)) == dict.fromkeys(range(1, 6), 20)
    frequencies = [52.0 * 2.0 / ((2 * n - 1) / 7.0 + 4.0) for n in range(2, 101)] + [52.0 / (1.0 / 7.0 + 4.0)]
    assert Counter(quintile(fitted.per_year, value) for value in frequencies) == dict.fromkeys(range(1, 6), 20)


def test_limits_are_values_that_so_many_do_not_exceed() -> None:
    # 52 customers: a fifth is 10.4, so the 11th, 21st, 32nd and 42nd.
    fitted = fit_thresholds([customer(float(n)) for n in range(1, 53)], NOW)
    assert fitted.recency_days == (11.0, 21.0, 32.0, 42.0)


def test_equal_customers_share_the_lowest_quintile() -> None:
    fitted = fit_thresholds([customer(3.0, amount=8.0)] * 60, NOW)
    assert fitted.recency_days == (3.0, 3.0, 3.0, 3.0)
    assert quintile(fitted.recency_days, 3.0) == quintile(fitted.per_order, 8.0) == 1
    assert quintile(fitted.per_order, 8.5) == 5


def test_customers_without_a_purchase_and_what_comes_later_do_not_count() -> None:
    browsing = Profile()
    browsing.apply(Activity("a", "c", "view", NOW - timedelta(days=500), "garden"))
    customers = [customer(float(n)) for n in range(1, 101)]
    expected = fit_thresholds(customers, NOW)
    later = [customer(-float(n)) for n in range(1, 101)]
    assert fit_thresholds([*customers, *[browsing] * 50, Profile(), *later], NOW) == expected


def test_few_customers_leave_the_defaults() -> None:
    customers = [customer(float(n)) for n in range(1, FEWEST_CUSTOMERS + 1)]
    assert fit_thresholds(customers[1:], NOW) == fit_thresholds([], NOW) == RfmThresholds()
    assert fit_thresholds(customers, NOW) != RfmThresholds()
    assert fit_thresholds(iter(customers), NOW) == fit_thresholds(customers, NOW)


def test_thresholds_are_stored_and_read_back() -> None:
    for thresholds in (
        RfmThresholds(),
        RfmThresholds((0.0, 0.0, 1.5, 9.0), (1.0, 2.0, 3.0, 4.0), (0.1, 0.2, 0.3, 1e6)),
    ):
        assert decode_thresholds(thresholds.encode()) == thresholds
    stored = b'{"v":1,"recency_days":[1,2,3,4],"per_year":[1,2,3,4.5],"per_order":[0,0,0,0]}'
    assert decode_thresholds(stored).per_year == (1.0, 2.0, 3.0, 4.5)


@pytest.mark.parametrize(
    "limits", [(1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 4.0, 5.0), (1.0, 3.0, 2.0, 4.0), (1.0, 2.0, 3.0, float("nan")),
               (1.0, 2.0, 3.0, float("inf")), (1.0, 2.0, 3.0, "4"), (True, 2.0, 3.0, 4.0)],
)  # fmt: skip
def test_bad_limits_are_refused_by_name(limits: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadThresholds, match="per_year"):
        RfmThresholds(per_year=limits)


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        (b"{", "JSON"),
        (b"[]", "version 1"),
        (b'{"v":2}', "version 1"),
        (b'{"v":1,"recency_days":[1,2,3,4],"per_year":[1,2,3,4]}', "per_order"),
        (b'{"v":1,"recency_days":"1234","per_year":[1,2,3,4],"per_order":[1,2,3,4]}', "recency_days"),
        (b'{"v":1,"recency_days":[1,2,3,"4"],"per_year":[1,2,3,4],"per_order":[1,2,3,4]}', "recency_days"),
    ],
)
def test_what_is_no_thresholds_is_refused_by_name(stored: bytes, named: str) -> None:
    with pytest.raises(BadThresholds, match=named):
        decode_thresholds(stored)
