"""The weather of a place and time as features: temperature band, condition, precipitation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contextual_bandit.types import Features

DAY_SECONDS = 86400.0
HOUR_SECONDS = 3600.0
# What no place on earth exceeds (degrees Celsius; millimetres a day): beyond it a value is an error.
COLDEST_CELSIUS = -95.0
HOTTEST_CELSIUS = 65.0
WETTEST_MM = 2000.0

# Each band ends below its limit: degrees Celsius, and millimetres a day.
TEMPERATURE_BANDS = ((5.0, "cold"), (13.0, "cool"), (20.0, "mild"), (27.0, "warm"), (float("inf"), "hot"))
PRECIPITATION_BANDS = ((0.2, "none"), (10.0, "light"), (float("inf"), "heavy"))
CONDITIONS = ("clear", "cloudy", "fog", "drizzle", "rain", "snow", "thunder")

# WMO weather interpretation codes, as Open-Meteo documents them for ``weather_code``.
_WMO_CONDITIONS: Mapping[int, str] = {
    0: "clear", 1: "clear", 2: "cloudy", 3: "cloudy", 45: "fog", 48: "fog",
    51: "drizzle", 53: "drizzle", 55: "drizzle", 56: "drizzle", 57: "drizzle",
    61: "rain", 63: "rain", 65: "rain", 66: "rain", 67: "rain", 80: "rain", 81: "rain", 82: "rain",
    71: "snow", 73: "snow", 75: "snow", 77: "snow", 85: "snow", 86: "snow",
    95: "thunder", 96: "thunder", 99: "thunder",
}  # fmt: skip
_WORDS: Mapping[str, str] = {name: name for name in CONDITIONS} | {
    "sun": "clear", "sunny": "clear", "clouds": "cloudy", "overcast": "cloudy", "thunderstorm": "thunder",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Observation:
    """The weather of one span of time, usually a day or an hour.

    ``temperature_c`` is the mean in degrees Celsius, ``precipitation_mm`` the millimetres that fell in the span (rain,
    or snow as water), ``condition`` one of CONDITIONS.
    """

    temperature_c: float
    precipitation_mm: float
    condition: str
    span_seconds: float = DAY_SECONDS


def weather_features(observation: Observation) -> Features:
    """Features of the namespace W.

    ``band``: cold below 5 degrees Celsius, cool below 13, mild below 20, warm below 27, hot. ``precipitation``, scaled
    to a day: none below 0.2 mm, light below 10 mm, heavy. Without an observation the whole namespace is absent.
    """
    per_day = observation.precipitation_mm * DAY_SECONDS / observation.span_seconds
    return {
        "band": _band(observation.temperature_c, TEMPERATURE_BANDS),
        "condition": observation.condition,
        "precipitation": _band(per_day, PRECIPITATION_BANDS),
    }


def condition_of_code(code: int) -> str | None:
    """The condition of a WMO weather code; None for a code that is not one."""
    return _WMO_CONDITIONS.get(code)


def condition_of_word(word: str) -> str | None:
    """The condition that a word of a weather file names, in any case; None for other words."""
    return _WORDS.get(word.strip().lower())


def _band(value: float, bands: tuple[tuple[float, str], ...]) -> str:
    return next(name for limit, name in bands if value < limit)
