"""Where and when in the year a moment is: season, month, weekday, part of day, holidays, sales dates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays

from contextual_bandit.types import Features, FeatureValue

SEASONS = ("winter", "spring", "summer", "autumn")
DAY_PARTS = ("night", "morning", "afternoon", "evening")
REGION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
HOLIDAY_NEAR_DAYS = 7
# Valentine's Day, back to school, Singles' Day, Christmas; Black Friday and Cyber Monday are computed.
SALES_DATES = ("02-14", "08-25", "11-11", "12-25")
SALE_BANDS = ((0, "today"), (7, "week"), (14, "fortnight"), (30, "month"))

_COUNTRY = re.compile(r"[A-Z]{2}")
_SALES_DATE = re.compile(r"(\d{2})-(\d{2})")
_LEAP_YEAR = 2000


class BadSalesDate(ValueError):
    """Not a day of the year such as "11-27"."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place that customers and stores are in; its name is what decisions know of it.

    ``country`` (ISO 3166-1, two letters) and ``subdivision`` choose the holidays, ``time_zone`` is an IANA name.
    ``latitude`` and ``longitude`` (degrees) are the region's own, for weather providers; they never become features.
    ``southern`` says outright on which hemisphere it is.
    """

    region: str
    time_zone: str
    country: str | None = None
    subdivision: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    southern: bool | None = None

    @property
    def holiday_place(self) -> str | None:
        """Whose holidays it has: a country, or a country and a subdivision ("US-WA")."""
        return f"{self.country}-{self.subdivision}" if self.country and self.subdivision else self.country

    @property
    def has_southern_seasons(self) -> bool:
        """As ``southern`` says, else by the latitude; northern when neither is known."""
        return self.southern if self.southern is not None else self.latitude is not None and self.latitude < 0.0


def season_at(
    now: datetime, region: Region | None = None, time_zone: str = "UTC", sales_dates: tuple[str, ...] = ()
) -> Features:
    """Features of the namespace S for a moment, by the region's clock, calendar and hemisphere.

    Args:
        now: The moment, with a time zone.
        region: Where; without one there are no holidays, and the seasons are northern.
        time_zone: IANA name of the local time when no region is known.
        sales_dates: Days of the year ("11-27") that count as sales dates beside SALES_DATES.
    """
    local = now.astimezone(ZoneInfo(region.time_zone if region else time_zone))
    place = region.holiday_place if region else None
    southern = region is not None and region.has_southern_seasons
    return dict(_of_day_part(place, southern, local.date(), local.hour // 6, sales_dates))


@lru_cache(maxsize=4096)
def _of_day_part(
    place: str | None, southern: bool, day: date, part: int, sales_dates: tuple[str, ...]
) -> Features:  # fmt: skip
    return season_features(
        datetime(day.year, day.month, day.day, 6 * part),  # noqa: DTZ001 - local time, as the argument says
        southern=southern,
        holiday=holiday_on(place, day),
        holiday_near=next_holiday_within(place, day, HOLIDAY_NEAR_DAYS),
        days_to_sale=days_to_next_sale(day, sales_dates),
    )


def season_features(
    local: datetime,
    *,
    southern: bool = False,
    holiday: str | None = None,
    holiday_near: str | None = None,
    days_to_sale: int | None = None,
) -> Features:
    """Season, month, weekday and part of day of a local time; holidays and sale where they are given.

    ``sale`` is the distance to the next sales date: today, week (1 to 7 days), fortnight (to 14), month (to 30), far.
    """
    features: dict[str, FeatureValue] = {
        "season": SEASONS[(local.month % 12 // 3 + 2 * southern) % 4],
        "month": f"m{local.month}",
        "weekday": f"d{local.isoweekday()}",
        "day_part": DAY_PARTS[local.hour // 6],
    }
    if holiday is not None:
        features["holiday"] = holiday
    if holiday_near is not None:
        features["holiday_near"] = holiday_near
    if days_to_sale is not None:
        features["sale"] = next((name for most, name in SALE_BANDS if days_to_sale <= most), "far")
    return features


def holiday_on(place: str | None, day: date) -> str | None:
    """The public holiday of a day in a country or subdivision, in English where the calendar has it so.

    Days off that stand in for a holiday on a weekend are not holidays. An unknown place has none.
    """
    return _holidays(place, day.year).get(day) if place else None


def next_holiday_within(place: str | None, day: date, days: int) -> str | None:
    """The first public holiday after a day and at most so many days away."""
    later = (holiday_on(place, day + timedelta(days=ahead)) for ahead in range(1, days + 1))
    return next((name for name in later if name is not None), None)


def is_known_place(country: str, subdivision: str | None = None) -> bool:
    """Whether the holidays of a country (two letters), or of its subdivision, are known."""
    return _calendar(country, subdivision, None) is not None


def days_to_next_sale(day: date, sales_dates: tuple[str, ...] = ()) -> int:
    """Days from a day to the next sales date: SALES_DATES, Black Friday, Cyber Monday, and those given.

    Raises:
        BadSalesDate: one of those given is no day of the year.
    """
    days = _sales_days(day.year, sales_dates) + _sales_days(day.year + 1, sales_dates)
    return next((sale - day).days for sale in days if sale >= day)


def check_sales_date(text: str) -> str:
    """A day of the year as it must be written, "11-27".

    Raises:
        BadSalesDate: it is not one.
    """
    _sales_day(text, _LEAP_YEAR)
    return text


@lru_cache(maxsize=1024)
def _sales_days(year: int, sales_dates: tuple[str, ...]) -> tuple[date, ...]:
    first = date(year, 11, 1)
    # The day after the fourth Thursday (weekday 3) of November.
    black_friday = first + timedelta(days=(3 - first.weekday()) % 7 + 22)
    computed = (black_friday, black_friday + timedelta(days=3))
    return tuple(sorted({*computed, *[_sales_day(text, year) for text in SALES_DATES + sales_dates]}))


def _sales_day(text: str, year: int) -> date:
    matched = _SALES_DATE.fullmatch(text)
    try:
        month, day = map(int, matched.groups()) if matched else (0, 0)
        named = date(_LEAP_YEAR, month, day)
    except ValueError:
        raise BadSalesDate(f'a sales date must be a day of the year such as "11-27", got {text!r}') from None
    # 29 February falls on the 28th in other years.
    return named.replace(year=year) if (month, day) != (2, 29) else date(year, 3, 1) - timedelta(days=1)


@lru_cache(maxsize=2048)
def _holidays(place: str, year: int) -> dict[date, str]:
    country, _, subdivision = place.partition("-")
    found = _calendar(country, subdivision or None, year)
    if found is None:
        found = _calendar(country, None, year) or {}
    return found


def _calendar(country: str, subdivision: str | None, year: int | None) -> dict[date, str] | None:
    """A year's holidays; None for an unknown country or subdivision."""
    # The library looks names up among its own functions too, so that only codes may get there.
    if not _COUNTRY.fullmatch(country):
        return None
    try:
        # The language is named, because the library's default depends on the machine.
        return dict(
            holidays.country_holidays(country, subdiv=subdivision, years=year, observed=False, language="en_US").items()
        )
    except NotImplementedError:
        return None
