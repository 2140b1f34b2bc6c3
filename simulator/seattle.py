"""Real days of weather for a simulated market: Seattle, 2012 to 2015 (NOAA, shipped by the package vega_datasets)."""

from __future__ import annotations

import csv
import importlib
from datetime import date, datetime, timedelta
from pathlib import Path

from simulator.climate import Weather, like_condition

REGION = "coast"
FIRST_YEAR, LAST_YEAR = 2012, 2015
# Millimetres a day from which a day counts as wet, whatever its word says; in this table drizzle may be dry.
WET_MM = 0.2


def seattle_days(start: datetime, days: int) -> tuple[Weather, ...]:
    """The weather of days like those from ``start`` on: same day of the year, years of the table in turn.

    Raises:
        ModuleNotFoundError: the extra ``demo`` is not installed.
    """
    source = Path(str(importlib.import_module("vega_datasets").__file__)).parent / "_data" / "seattle-weather.csv"
    with source.open(newline="") as file:
        known = {row["date"].replace("/", "-")[:10]: _weather(row) for row in csv.DictReader(file)}
    return tuple(known[_like(start.date() + timedelta(days=day)).isoformat()] for day in range(days))


def _like(day: date) -> date:
    """The day of the table that stands for a day; 29 February is the 28th in years that have none."""
    year = FIRST_YEAR + (day.year - FIRST_YEAR) % (LAST_YEAR - FIRST_YEAR + 1)
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 2, 28)


def _weather(row: dict[str, str]) -> Weather:
    celsius = (float(row["temp_max"]) + float(row["temp_min"])) / 2.0
    condition = like_condition(row["weather"])
    if float(row["precipitation"]) >= WET_MM and condition in ("clear", "cloudy"):
        condition = "snow" if celsius < 1.0 else "rain"
    return Weather(round(celsius, 1), condition)
