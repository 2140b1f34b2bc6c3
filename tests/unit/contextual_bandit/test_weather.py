"""Weather as features."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.weather import (
    CONDITIONS,
    DAY_SECONDS,
    HOUR_SECONDS,
    Observation,
    condition_of_code,
    condition_of_word,
    weather_features,
)
from simulator.world import ASSUMED_BAND_EFFECTS, ASSUMED_CONDITION_EFFECTS, Weather


def test_an_observation_becomes_three_features() -> None:
    assert weather_features(Observation(8.9, 10.9, "rain")) == {
        "band": "cool", "condition": "rain", "precipitation": "heavy",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("celsius", "band"),
    [(-40, "cold"), (4.99, "cold"), (5, "cool"), (12.99, "cool"), (13, "mild"), (19.99, "mild"), (20, "warm"),
     (26.99, "warm"), (27, "hot"), (50, "hot")],
)  # fmt: skip
def test_temperature_bands_begin_at_their_limits(celsius: float, band: str) -> None:
    assert weather_features(Observation(celsius, 0.0, "clear"))["band"] == band


@given(st.floats(-95, 65))
def test_the_simulated_market_has_the_same_bands(celsius: float) -> None:
    assert weather_features(Observation(celsius, 0.0, "clear"))["band"] == Weather(celsius, "clear").band


def test_the_simulated_market_has_only_our_words() -> None:
    assert set(ASSUMED_CONDITION_EFFECTS) <= set(CONDITIONS)
    assert set(ASSUMED_BAND_EFFECTS) == {
        weather_features(Observation(celsius, 0.0, "clear"))["band"] for celsius in (0.0, 10.0, 15.0, 25.0, 30.0)
    }


@pytest.mark.parametrize(
    ("millimetres", "span_seconds", "band"),
    [(0.0, DAY_SECONDS, "none"), (0.19, DAY_SECONDS, "none"), (0.2, DAY_SECONDS, "light"), (9.99, DAY_SECONDS, "light"),
     (10.0, DAY_SECONDS, "heavy"), (300.0, DAY_SECONDS, "heavy"),
     (0.0, HOUR_SECONDS, "none"), (0.1, HOUR_SECONDS, "light"), (0.41, HOUR_SECONDS, "light"),
     (0.42, HOUR_SECONDS, "heavy")],
)  # fmt: skip
def test_precipitation_is_scaled_to_a_day(millimetres: float, span_seconds: float, band: str) -> None:
    assert weather_features(Observation(10.0, millimetres, "rain", span_seconds))["precipitation"] == band


@pytest.mark.parametrize(
    ("condition", "codes"),
    [("clear", {0, 1}), ("cloudy", {2, 3}), ("fog", {45, 48}), ("drizzle", {51, 53, 55, 56, 57}),
     ("rain", {61, 63, 65, 66, 67, 80, 81, 82}), ("snow", {71, 73, 75, 77, 85, 86}), ("thunder", {95, 96, 99})],
)  # fmt: skip
def test_weather_codes_have_conditions(condition: str, codes: set[int]) -> None:
    assert {code for code in range(-1, 120) if condition_of_code(code) == condition} == codes


def test_every_condition_has_a_code() -> None:
    assert {condition_of_code(code) for code in range(100)} == {*CONDITIONS, None}


@pytest.mark.parametrize(
    ("word", "condition"),
    [("sun", "clear"), ("fog", "fog"), ("rain", "rain"), ("drizzle", "drizzle"), ("snow", "snow"), (" Rain ", "rain"),
     ("thunder", "thunder"), ("", None), ("hurricane", None)],
)  # fmt: skip
def test_words_of_files_have_conditions(word: str, condition: str | None) -> None:
    assert condition_of_word(word) == condition
