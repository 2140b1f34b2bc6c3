"""Times and durations of the Personalizer API: ISO 8601, as clients send them and as they are answered."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# What an evaluation's content says of its span while there is none.
NO_TIME = "0001-01-01T00:00:00"


def parse_duration(text: object) -> timedelta:
    """A duration of weeks, days, hours, minutes and seconds.

    Raises:
        ValueError: the text is no such duration, or one too long for a calendar.

    >>> parse_duration("P1DT2H").total_seconds()
    93600.0
    """
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    parts = {name: float(value) for name, value in found.groupdict().items() if value} if found else {}
    if not parts:
        raise ValueError(f"no ISO 8601 duration such as PT10M: {text!r}")
    try:
        return timedelta(**parts)
    except OverflowError:
        raise ValueError(f"too long a duration: {text!r}") from None


def format_duration(duration: timedelta) -> str:
    """A duration as it is answered.

    >>> format_duration(timedelta(minutes=90)), format_duration(timedelta(days=28))
    ('PT1H30M', 'P28D')
    """
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{duration.microseconds:06d}".rstrip("0") if duration.microseconds else ""
    shown_seconds = f"{seconds}{fraction}S" if seconds or fraction else ""
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "") + shown_seconds
    days = f"{duration.days}D" if duration.days else ""
    return f"P{days}{'T' + clock if clock else ''}" if days or clock else "PT0S"


def parse_time(text: object) -> datetime:
    """A time; a plain date is its midnight, and a time without an offset is UTC.

    Raises:
        ValueError: the text is no such time.

    >>> parse_time("2022-09-20").isoformat()
    '2022-09-20T00:00:00+00:00'
    """
    if not isinstance(text, str) or not _DATE.match(text):
        raise ValueError(f"no ISO 8601 time such as 2022-09-20T00:00:00Z: {text!r}")
    # The plus of an offset is a blank where a query was not escaped.
    time = datetime.fromisoformat(re.sub(r" (?=\d{2}:?\d{2}$)", "+", text.strip()))
    try:
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError:
        return time.replace(tzinfo=UTC)


def format_time(time: datetime) -> str:
    """A time as it is answered: UTC, with fractions of a second where it has them."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
