"""Weather of a simulated market: regions with a climate, generated day by day; real days can stand in for them.

The generator is **assumed**. The region ``coast`` was set beside the daily observations of Seattle, 2012 to 2015 (NOAA,
shipped by the package ``vega_datasets``): monthly means of 5.5 to 20.4 degrees Celsius, wet days (0.2 mm or more) 0.53
to 0.65 of all in winter and 0.09 to 0.18 in July and August, and a wet day after a wet one 0.67 of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import cos, pi

import numpy as np
from numpy.typing import NDArray

from contextual_bandit.types import Features
from contextual_bandit.weather import TEMPERATURE_BANDS

BANDS = tuple(name for _, name in TEMPERATURE_BANDS)
CONDITIONS = ("clear", "cloudy", "rain", "snow")
# What else a table of real weather may say, in the words of this market.
LIKE_CONDITIONS: Mapping[str, str] = {"sun": "clear", "fog": "cloudy", "drizzle": "rain", "thunder": "rain"}
WARMEST_DAY = 205
DAYS_A_YEAR = 365.25
# Of a temperature's distance from the usual one, what is left a day later; and how much wet days cling together.
TEMPERATURE_MEMORY = 0.7
WETNESS_MEMORY = 0.43
SNOW_BELOW_CELSIUS = 1.0
CLEAR_SHARE_OF_DRY_DAYS = 0.55


@dataclass(frozen=True, slots=True)
class Region:
    """A climate: degrees Celsius (mean, yearly swing, day-to-day spread), shares of wet days in winter and summer."""

    name: str
    mean_celsius: float
    swing_celsius: float
    spread_celsius: float
    wet_winter: float
    wet_summer: float


REGIONS = (
    Region("coast", 12.5, 7.4, 2.9, 0.64, 0.18),
    Region("north", 6.0, 11.5, 3.9, 0.40, 0.35),
    Region("inland", 13.0, 13.0, 3.9, 0.25, 0.30),
    Region("south", 19.0, 9.0, 3.5, 0.20, 0.10),
)


@dataclass(frozen=True, slots=True)
class Weather:
    """One day of one region: mean temperature in degrees Celsius and one of CONDITIONS."""

    celsius: float
    condition: str

    @property
    def band(self) -> str:
        """Temperature band: cold below 5 degrees Celsius, cool below 13, mild below 20, warm below 27, hot."""
        return next(name for limit, name in TEMPERATURE_BANDS if self.celsius < limit)

    @property
    def features(self) -> Features:
        """What a shop would send as context."""
        return {"band": self.band, "condition": self.condition}


@dataclass(frozen=True, slots=True)
class WeatherTable:
    """Weather by region and day as numbers: indices into BANDS and CONDITIONS, each of shape (regions, days)."""

    band: NDArray[np.int64]
    condition: NDArray[np.int64]

    @classmethod
    def of(cls, series: Mapping[str, Sequence[Weather]]) -> WeatherTable:
        """The table of each region's days, in the order of the mapping."""
        return cls(
            np.array([[BANDS.index(day.band) for day in days] for days in series.values()], dtype=np.int64),
            np.array([[CONDITIONS.index(day.condition) for day in days] for days in series.values()], dtype=np.int64),
        )


def generate_weather(
    region: Region, start: datetime, days: int, generator: np.random.Generator
) -> tuple[Weather, ...]:  # fmt: skip
    """Days of a region: a yearly cosine plus noise that fades from day to day; wet days follow wet days.

    Args:
        region: The climate.
        start: The first day.
        days: How many; more of them leave the first ones as they are.
        generator: Where chance comes from.
    """
    series: list[Weather] = []
    step = region.spread_celsius * (1.0 - TEMPERATURE_MEMORY**2) ** 0.5
    noise, wet = 0.0, False
    for day in range(days):
        warmth = _warmth(start + timedelta(days=day))
        noise = TEMPERATURE_MEMORY * noise + step * float(generator.standard_normal())
        celsius = round(region.mean_celsius + region.swing_celsius * warmth + noise, 1)
        usual = (region.wet_winter + region.wet_summer) / 2.0 - (region.wet_winter - region.wet_summer) / 2.0 * warmth
        wet = bool(generator.random() < usual + WETNESS_MEMORY * (float(wet) - usual))
        dry_condition = "clear" if generator.random() < CLEAR_SHARE_OF_DRY_DAYS else "cloudy"
        wet_condition = "snow" if celsius < SNOW_BELOW_CELSIUS else "rain"
        series.append(Weather(celsius, wet_condition if wet else dry_condition))
    return tuple(series)


def like_condition(word: str) -> str:
    """The market's word for the weather of a table.

    Raises:
        ValueError: names a word that is neither one of CONDITIONS nor like one.
    """
    found = LIKE_CONDITIONS.get(word, word)
    if found not in CONDITIONS:
        raise ValueError(f"unknown weather {word!r}; known: {', '.join((*CONDITIONS, *LIKE_CONDITIONS))}")
    return found


def _warmth(day: datetime) -> float:
    """How far into summer a day is, from -1 to 1 (northern)."""
    return cos(2.0 * pi * (day.timetuple().tm_yday - WARMEST_DAY) / DAYS_A_YEAR)
