"""Tests of simulator.climate: the generated weather is like Seattle's where it says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from simulator.assumed import ASSUMED_BAND_EFFECTS, ASSUMED_CONDITION_EFFECTS, ASSUMED_SEASON_EFFECTS, CATEGORIES
from simulator.climate import BANDS, CONDITIONS, REGIONS, Weather, WeatherTable, generate_weather, like_condition

START = datetime(2020, 1, 1, tzinfo=UTC)
DAYS = 20 * 365
# Monthly means of daily mean temperatures (Celsius) and shares of days with 0.2 mm or more: Seattle, 2012 to 2015.
SEATTLE = {1: (5.5, 0.53), 4: (10.7, 0.49), 7: (20.1, 0.09), 10: (12.9, 0.49)}


@pytest.fixture(scope="module")
def coast() -> tuple[Weather, ...]:
    return generate_weather(REGIONS[0], START, DAYS, np.random.default_rng(1))


@pytest.mark.parametrize(("month", "celsius", "wet"), [(month, *values) for month, values in SEATTLE.items()])
def test_the_coast_is_like_seattle(coast: tuple[Weather, ...], month: int, celsius: float, wet: float) -> None:
    days = [day for number, day in enumerate(coast) if (START + timedelta(days=number)).month == month]
    assert np.mean([day.celsius for day in days]) == pytest.approx(celsius, abs=1.5)
    assert np.mean([day.condition in ("rain", "snow") for day in days]) == pytest.approx(wet, abs=0.15)


def test_wet_days_follow_wet_days(coast: tuple[Weather, ...]) -> None:
    wet = np.array([day.condition in ("rain", "snow") for day in coast])
    after_wet, after_dry = wet[1:][wet[:-1]].mean(), wet[1:][~wet[:-1]].mean()
    assert after_wet > after_dry + 0.3


def test_every_kind_of_weather_comes() -> None:
    days = [
        day for number, region in enumerate(REGIONS)
        for day in generate_weather(region, START, 730, np.random.default_rng(number))
    ]  # fmt: skip
    assert {day.band for day in days} == set(BANDS)
    assert {day.condition for day in days} == set(CONDITIONS)
    assert all(day.celsius < 1.0 for day in days if day.condition == "snow")


def test_the_table_has_the_days(coast: tuple[Weather, ...]) -> None:
    table = WeatherTable.of({"coast": coast[:30], "other": coast[30:60]})
    assert table.band.shape == table.condition.shape == (2, 30)
    assert [BANDS[index] for index in table.band[1]] == [day.band for day in coast[30:60]]
    assert [CONDITIONS[index] for index in table.condition[0]] == [day.condition for day in coast[:30]]


def test_words_of_other_tables() -> None:
    assert [like_condition(word) for word in ("sun", "fog", "drizzle", "snow")] == ["clear", "cloudy", "rain", "snow"]
    with pytest.raises(ValueError, match="'hail'"):
        like_condition("hail")


def test_assumed_effects_speak_only_of_what_there_is() -> None:
    for table in (ASSUMED_BAND_EFFECTS, ASSUMED_CONDITION_EFFECTS, ASSUMED_SEASON_EFFECTS):
        for effects in table.values():
            assert effects.keys() <= set(CATEGORIES)
    assert set(ASSUMED_BAND_EFFECTS) == set(BANDS)
    assert set(ASSUMED_CONDITION_EFFECTS) == set(CONDITIONS)
