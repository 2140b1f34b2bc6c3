"""Season, holidays and sales dates as features."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.season import (
    BadSalesDate,
    Region,
    check_sales_date,
    days_to_next_sale,
    holiday_on,
    is_known_place,
    next_holiday_within,
    season_at,
    season_features,
)

SEATTLE = Region("seattle", "America/Los_Angeles", "US", "WA", 47.6, -122.3)
SYDNEY = Region("sydney", "Australia/Sydney", "AU", "NSW", -33.9, 151.2)


@pytest.mark.parametrize(
    ("month", "northern", "southern"),
    [(12, "winter", "summer"), (1, "winter", "summer"), (2, "winter", "summer"), (3, "spring", "autumn"),
     (5, "spring", "autumn"), (6, "summer", "winter"), (8, "summer", "winter"), (9, "autumn", "spring"),
     (11, "autumn", "spring")],
)  # fmt: skip
def test_seasons_are_opposite_on_the_other_hemisphere(month: int, northern: str, southern: str) -> None:
    local = datetime(2026, month, 15, 9)
    assert season_features(local)["season"] == northern
    assert season_features(local, southern=True)["season"] == southern


@pytest.mark.parametrize(
    ("hour", "part"),
    [(0, "night"), (5, "night"), (6, "morning"), (11, "morning"), (12, "afternoon"), (18, "evening"), (23, "evening")],
)
def test_month_weekday_and_part_of_day(hour: int, part: str) -> None:
    assert season_features(datetime(2026, 3, 2, hour, 59)) == {
        "season": "spring", "month": "m3", "weekday": "d1", "day_part": part,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("days", "band"),
    [(0, "today"), (1, "week"), (7, "week"), (8, "fortnight"), (14, "fortnight"), (15, "month"), (30, "month"),
     (31, "far"), (300, "far")],
)  # fmt: skip
def test_the_distance_to_a_sale_is_a_band(days: int, band: str) -> None:
    assert season_features(datetime(2026, 3, 2), days_to_sale=days)["sale"] == band


def test_what_is_not_known_is_left_out() -> None:
    assert set(season_features(datetime(2026, 3, 2))) == {"season", "month", "weekday", "day_part"}


def test_local_time_is_the_regions() -> None:
    moment = datetime(2026, 7, 4, 20, tzinfo=UTC)
    here = season_at(moment, SEATTLE)
    assert (here["weekday"], here["day_part"], here["holiday"]) == ("d6", "afternoon", "Independence Day")
    there = season_at(moment, SYDNEY)
    assert (there["season"], there["weekday"], there["day_part"]) == ("winter", "d7", "morning")
    assert "holiday" not in there
    nowhere = season_at(moment, None, "Asia/Tokyo")
    assert (nowhere["weekday"], nowhere["day_part"]) == ("d7", "night")
    assert "holiday" not in nowhere


def test_a_region_may_say_its_hemisphere_outright() -> None:
    moment = datetime(2026, 7, 4, 20, tzinfo=UTC)
    assert season_at(moment, Region("quito", "America/Guayaquil", latitude=-0.2, southern=False))["season"] == "summer"
    assert season_at(moment, Region("x", "UTC"))["season"] == "summer"
    assert season_at(moment, Region("x", "UTC", southern=True))["season"] == "winter"


def test_holidays_are_near_for_a_week_and_named_on_their_day() -> None:
    thanksgiving = datetime(2026, 11, 26, 20, tzinfo=UTC)
    seen = {}
    for ahead in range(9):
        features = season_at(thanksgiving - timedelta(days=ahead), SEATTLE)
        seen[ahead] = (features.get("holiday"), features.get("holiday_near"))
    assert seen[0][0] == "Thanksgiving Day"
    assert all(seen[ahead] == (None, "Thanksgiving Day") for ahead in range(1, 8))
    assert seen[8] == (None, None)


def test_one_callers_features_are_not_anothers() -> None:
    moment = datetime(2026, 7, 4, 20, tzinfo=UTC)
    season_at(moment, SEATTLE)["holiday"] = "spoilt"  # type: ignore[index]
    assert season_at(moment, SEATTLE)["holiday"] == "Independence Day"


def test_subdivisions_have_holidays_of_their_own() -> None:
    epiphany = date(2026, 1, 6)
    assert holiday_on("DE-BY", epiphany) == "Epiphany"
    assert holiday_on("DE", epiphany) is None
    assert holiday_on("DE-BY", date(2026, 10, 3)) == "German Unity Day"
    assert next_holiday_within("DE-BY", date(2026, 1, 1), 5) == "Epiphany"
    assert next_holiday_within("DE-BY", date(2026, 1, 1), 4) is None


def test_the_end_of_a_year_sees_the_next() -> None:
    assert next_holiday_within("US", date(2026, 12, 28), 7) == "New Year's Day"


def test_days_off_instead_of_a_weekend_are_no_holidays() -> None:
    assert holiday_on("US", date(2021, 7, 4)) == "Independence Day"
    assert holiday_on("US", date(2021, 7, 5)) is None


@pytest.mark.parametrize("place", [None, "", "XX", "us", "-WA", "country_holidays", "list_supported_countries", "NYSE"])
def test_unknown_places_have_no_holidays(place: str | None) -> None:
    assert holiday_on(place, date(2026, 12, 25)) is None
    assert next_holiday_within(place, date(2026, 12, 20), 7) is None


def test_an_unknown_subdivision_has_its_countrys_holidays() -> None:
    assert holiday_on("US-ZZ", date(2026, 12, 25)) == "Christmas Day"


def test_known_places() -> None:
    assert is_known_place("US")
    assert is_known_place("US", "WA")
    assert not is_known_place("US", "ZZ")
    assert not is_known_place("XX")
    assert not is_known_place("Us")


@pytest.mark.parametrize(
    ("day", "days"),
    [(date(2026, 11, 27), 0), (date(2026, 11, 28), 2), (date(2024, 11, 29), 0), (date(2024, 12, 2), 0),
     (date(2023, 11, 24), 0), (date(2026, 11, 11), 0), (date(2026, 12, 25), 0), (date(2026, 12, 26), 50),
     (date(2026, 2, 14), 0), (date(2026, 8, 24), 1)],
)  # fmt: skip
def test_big_sales_dates_are_known(day: date, days: int) -> None:
    assert days_to_next_sale(day) == days


def test_a_loop_has_sales_dates_of_its_own() -> None:
    assert days_to_next_sale(date(2026, 6, 1), ("06-03",)) == 2
    assert days_to_next_sale(date(2026, 2, 27), ("02-29",)) == 1
    assert days_to_next_sale(date(2028, 2, 27), ("02-29",)) == 2
    moment = datetime(2026, 6, 2, 23, tzinfo=UTC)
    assert season_at(moment, None, "UTC", ("06-03",))["sale"] == "week"
    assert season_at(moment, None, "Asia/Tokyo", ("06-03",))["sale"] == "today"
    assert season_at(moment)["sale"] == "far"


@given(st.dates(date(1970, 1, 2), date(2199, 12, 31)), st.sampled_from([(), ("01-01",), ("12-31", "02-29")]))
def test_the_next_sale_comes_ever_nearer(day: date, sales_dates: tuple[str, ...]) -> None:
    days = days_to_next_sale(day, sales_dates)
    assert 0 <= days <= 193
    tomorrow = days_to_next_sale(day + timedelta(days=1), sales_dates)
    assert tomorrow == days - 1 if days else 0 <= tomorrow <= 192


@pytest.mark.parametrize("text", ["", "13-01", "00-10", "02-30", "2-3", "02/14", "2026-02-14", "aa-bb", "11-27 "])
def test_bad_sales_dates_are_refused_by_name(text: str) -> None:
    with pytest.raises(BadSalesDate, match="sales date") as refused:
        check_sales_date(text)
    assert repr(text) in str(refused.value)
    assert check_sales_date("02-29") == "02-29"
