"""Weather from a server of the Open-Meteo forecast API (https://open-meteo.com/en/docs), by the hour."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, TypeAlias

import httpx

from adapters.guarded import LONGEST_SECONDS, Breaker, Guarded, Remembered
from contextual_bandit.season import Region
from contextual_bandit.weather import (
    COLDEST_CELSIUS,
    HOTTEST_CELSIUS,
    HOUR_SECONDS,
    WETTEST_MM,
    Observation,
    condition_of_code,
)

log = logging.getLogger(__name__)

# The documented reach: 92 days back, and 16 days ahead of which today is the first.
PAST_DAYS = 92
AHEAD_DAYS = 15
REMEMBERED_SECONDS = 3600.0
MOST_REMEMBERED = 20_000
UNITS = {"temperature_2m": "°C", "precipitation": "mm"}

_Key: TypeAlias = tuple[float, float, datetime]


class NotAsDocumented(ValueError):
    """An answer that is not of the documented form."""


class OpenMeteo:
    """Hourly observations and forecasts by a region's coordinates; each hour is asked for once an hour."""

    def __init__(self, url: str, *, api_key: str | None = None, clock: Callable[[], float] = time.time) -> None:
        """``url`` is the server's address without a path; ``api_key`` goes with it for paying customers."""
        self._address = url.rstrip("/") + "/v1/forecast"
        self._api_key = api_key
        self._clock = clock
        self._client = httpx.AsyncClient(timeout=LONGEST_SECONDS)
        self._memory = Remembered[_Key, Observation | None](MOST_REMEMBERED, clock)
        self._guarded = Guarded[_Key, Observation | None]("open_meteo", self._fetch, Breaker("open_meteo", clock=clock))

    async def at(self, region: Region, moment: datetime, deadline: float) -> Observation | None:
        """The weather of the hour around a moment; None where there is none to be had.

        Args:
            region: None is had for a region without coordinates.
            moment: None is had beyond what the server knows, 92 days back or 16 days ahead.
            deadline: When to stop waiting, by the clock of the event loop.

        Raises:
            Unavailable: the server gave no answer, or is not asked because it lately gave none.
        """
        hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        days_ahead = (hour.date() - datetime.fromtimestamp(self._clock(), UTC).date()).days
        if region.latitude is None or region.longitude is None or not -PAST_DAYS <= days_ahead <= AHEAD_DAYS:
            return None
        key = (region.latitude, region.longitude, hour)
        known = self._memory.get(key)
        return known[0] if known else await self._guarded.get(key, deadline)

    async def close(self) -> None:
        """Stop asking and close the connections."""
        await self._guarded.close()
        await self._client.aclose()

    async def _fetch(self, key: _Key) -> Observation | None:
        latitude, longitude, hour = key
        parameters: dict[str, str | float] = {
            "latitude": latitude,
            "longitude": longitude,
            "hourly": "temperature_2m,precipitation,weather_code",
            "timezone": "UTC",
            "start_hour": _text(hour),
            "end_hour": _text(_next(hour)),
        }
        if self._api_key:
            parameters["apikey"] = self._api_key
        answer = await self._client.get(self._address, params=parameters)
        observation = None
        if (reason := _refusal(answer)) is not None:
            log.warning("refused", extra={"source": "open_meteo", "reason": reason})
        else:
            observation = observation_from(_payload(answer), hour)
        self._memory.put(key, observation, REMEMBERED_SECONDS)
        return observation


def observation_from(payload: Any, hour: datetime) -> Observation | None:
    """The observation of an hour (UTC) in an answer; None when the server does not know it.

    The precipitation is that of the hour itself: the server gives, for each time, the sum of the hour before.

    Raises:
        NotAsDocumented: names what is wrong with the answer.
    """
    if not isinstance(payload, dict) or not isinstance(payload.get("hourly"), dict):
        raise NotAsDocumented("no object hourly in the answer")
    if payload.get("utc_offset_seconds", 0) != 0:
        raise NotAsDocumented(f"times are not UTC: utc_offset_seconds is {payload['utc_offset_seconds']!r}")
    units = payload.get("hourly_units", {})
    for name, unit in UNITS.items():
        if not isinstance(units, dict) or units.get(name, unit) != unit:
            raise NotAsDocumented(f"hourly_units.{name} must be {unit!r}, got {units!r}")
    hourly = payload["hourly"]
    temperature = _value(hourly, "temperature_2m", hour, COLDEST_CELSIUS, HOTTEST_CELSIUS)
    precipitation = _value(hourly, "precipitation", _next(hour), 0.0, WETTEST_MM)
    code = _value(hourly, "weather_code", hour, 0.0, 99.0)
    condition = None if code is None else condition_of_code(int(code))
    if temperature is None or precipitation is None or condition is None:
        return None
    return Observation(temperature, precipitation, condition, HOUR_SECONDS)


def _value(hourly: dict[str, Any], name: str, hour: datetime, low: float, high: float) -> float | None:
    times, values = hourly.get("time"), hourly.get(name)
    if not isinstance(times, list) or not isinstance(values, list) or len(times) != len(values):
        raise NotAsDocumented(f"hourly.{name} must be an array as long as hourly.time")
    value = values[times.index(_text(hour))] if _text(hour) in times else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not low <= value <= high:
        raise NotAsDocumented(f"hourly.{name} must be a number from {low:g} to {high:g}, got {value!r}")
    return float(value)


def _refusal(answer: httpx.Response) -> str | None:
    """Why the server will not answer this question, which is no sign of an outage; None when it did not say so."""
    if answer.status_code not in (httpx.codes.OK, httpx.codes.BAD_REQUEST):
        return None
    try:
        payload = answer.json()
    except ValueError:
        return None
    return str(payload.get("reason"))[:500] if isinstance(payload, dict) and payload.get("error") is True else None


def _payload(answer: httpx.Response) -> Any:
    if answer.status_code != httpx.codes.OK:
        raise NotAsDocumented(f"HTTP status {answer.status_code}")
    try:
        return answer.json()
    except ValueError as error:
        raise NotAsDocumented(f"the answer is not JSON: {error}") from None


def _next(hour: datetime) -> datetime:
    return hour + timedelta(hours=1)


def _text(hour: datetime) -> str:
    return hour.strftime("%Y-%m-%dT%H:%M")
