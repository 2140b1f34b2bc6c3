"""The table of imported weather, the files it comes from, and the book that answers requests from all providers."""

from __future__ import annotations

import asyncio
import csv
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import ARRAY, DateTime, Engine, Float, Text, bindparam, text
from sqlalchemy.dialects.postgresql import insert

from adapters.catalogue import audit
from adapters.guarded import Breaker, Guarded, Remembered, Unavailable
from adapters.open_meteo import OpenMeteo
from adapters.tables import weather
from contextual_bandit.season import REGION_NAME, Region
from contextual_bandit.weather import (
    COLDEST_CELSIUS,
    CONDITIONS,
    HOTTEST_CELSIUS,
    HOUR_SECONDS,
    WETTEST_MM,
    Observation,
    condition_of_word,
)

Row: TypeAlias = tuple[datetime, Observation]
Place: TypeAlias = tuple[str, datetime]
Source: TypeAlias = Literal["table", "open_meteo", "missing"]

BATCH = 1000
# Days and hours begin on quarters of an hour in every time zone, so that one answer holds for a quarter.
QUARTER_SECONDS = 900
REMEMBERED_SECONDS = 60.0
RETRY_SECONDS = 5.0
MOST_REMEMBERED = 50_000

_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})")
_HOUR = re.compile(r"[01]?\d|2[0-3]")

_NEWEST = text(
    "SELECT wanted.region, wanted.moment, found.record"
    " FROM unnest(:regions, :moments) AS wanted(region, moment)"
    " CROSS JOIN LATERAL (SELECT record FROM weather"
    # No span is longer than a day on which the clocks go back.
    " WHERE weather.region = wanted.region AND at <= wanted.moment AND at > wanted.moment - interval '25 hours'"
    " AND at + (record->>'span_seconds')::float8 * interval '1 second' > wanted.moment"
    " ORDER BY at DESC LIMIT 1) AS found"
).bindparams(bindparam("regions", type_=ARRAY(Text)), bindparam("moments", type_=ARRAY(DateTime(timezone=True))))
_REPLACED = text(
    "DELETE FROM weather USING unnest(:moments, :spans) AS fresh(at, span)"
    " WHERE weather.region = :region AND weather.at <> fresh.at"
    " AND abs((record->>'span_seconds')::float8 - span) <= 7200"
    " AND weather.at BETWEEN fresh.at - span / 2 * interval '1 second' AND fresh.at + span / 2 * interval '1 second'"
).bindparams(bindparam("moments", type_=ARRAY(DateTime(timezone=True))), bindparam("spans", type_=ARRAY(Float)))


class WeatherTable:
    """Observations by region and the moment at which their span begins."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put_all(
        self, region: str, rows: Sequence[Row], actor: str, now: datetime, progress: Callable[[int], None] | None = None
    ) -> int:
        """Store observations of a region, all or none; tells ``progress`` how many are written.

        A row replaces the one of the same moment, and rows of about the same span that mostly overlap it: days that
        were imported by another time zone.
        """
        ordered = sorted(rows, key=lambda row: row[0])
        with self._engine.begin() as connection:
            for start in range(0, len(ordered), BATCH):
                batch = ordered[start : start + BATCH]
                spans = [observation.span_seconds for _, observation in batch]
                connection.execute(_REPLACED, {"region": region, "moments": [at for at, _ in batch], "spans": spans})
                values = [
                    {"region": region, "at": at, "record": _record(observation)} for at, observation in batch
                ]  # fmt: skip
                added = insert(weather).values(values)
                connection.execute(
                    added.on_conflict_do_update(
                        index_elements=["region", "at"], set_={"record": added.excluded.record}
                    )
                )  # fmt: skip
                if progress:
                    progress(start + len(batch))
            audit(connection, now, actor, "weather.import", region, {"rows": len(ordered)})
        return len(ordered)

    def read_many(self, wanted: Sequence[Place]) -> Mapping[Place, Observation]:
        """For each region and moment the newest observation whose span covers it, where there is one."""
        regions, moments = [region for region, _ in wanted], [moment for _, moment in wanted]
        with self._engine.connect() as connection:
            rows = connection.execute(_NEWEST, {"regions": regions, "moments": moments}).all()
        return {(row.region, row.moment.astimezone(UTC)): _observation(row.record) for row in rows}


class WeatherBook:
    """The weather of a region at a moment: from the table, else from Open-Meteo where it is configured.

    It never raises, and nobody waits longer than ``wait_seconds``: a source that is away counts as having nothing.
    """

    def __init__(
        self,
        read: Callable[[Place], Awaitable[Observation | None]],
        region_of: Callable[[str], Region | None],
        open_meteo: OpenMeteo | None = None,
        *,
        wait_seconds: float = 0.3,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``read`` asks the table for one region and moment (UTC); ``region_of`` knows the regions' coordinates."""
        self._table = Guarded[Place, Observation | None]("weather table", read, Breaker("weather table", clock=clock))
        self._region_of = region_of
        self._open_meteo = open_meteo
        self._wait_seconds = wait_seconds
        # By region and quarter of an hour since 1970.
        self._memory = Remembered[tuple[str, float], tuple[Observation | None, Source]](MOST_REMEMBERED, clock)

    async def at(self, region: str | None, moment: datetime) -> tuple[Observation | None, Source]:
        """The observation and the provider it came from; None and "missing" when no provider has one."""
        if region is None:
            return None, "missing"
        quarter = moment.timestamp() // QUARTER_SECONDS
        known = self._memory.get((region, quarter))
        if known:
            return known[0]
        if not REGION_NAME.fullmatch(region):
            return None, "missing"
        found, everyone_answered = await self._ask((region, datetime.fromtimestamp(quarter * QUARTER_SECONDS, UTC)))
        self._memory.put((region, quarter), found, REMEMBERED_SECONDS if everyone_answered else RETRY_SECONDS)
        return found

    async def close(self) -> None:
        """Stop what is still under way, and close the connections of Open-Meteo."""
        await self._table.close()
        if self._open_meteo is not None:
            await self._open_meteo.close()

    async def _ask(self, place: Place) -> tuple[tuple[Observation | None, Source], bool]:
        """What was found, and whether every provider that was asked did answer."""
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        everyone_answered = True
        try:
            observation = await self._table.get(place, deadline)
            if observation is not None:
                return (observation, "table"), True
        except Unavailable:
            everyone_answered = False
        region = self._region_of(place[0])
        if self._open_meteo is not None and region is not None:
            try:
                observation = await self._open_meteo.at(region, place[1], deadline)
                if observation is not None:
                    return (observation, "open_meteo"), everyone_answered
            except Unavailable:
                everyone_answered = False
        return (None, "missing"), everyone_answered


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong in one line of a file; ``value`` is what it says there."""

    line: int
    field: str
    why: str
    value: str | None = None

    def __str__(self) -> str:
        got = "" if self.value is None else f", got {self.value[:80]!r}"
        return f"line {self.line}: {self.field}: {self.why}{got}"


class BadRows(ValueError):
    """A file that cannot be imported, with an error for each thing that is wrong."""

    def __init__(self, errors: Sequence[RowError]) -> None:
        super().__init__("; ".join(map(str, errors[:5])))
        self.errors = tuple(errors)


def read_csv(path: Path, zone: tzinfo) -> list[Row]:
    """The observations of a CSV file, one per day or per hour of a region's local time.

    The header names the columns, in any order: ``date`` (2012-01-31 or 2012/01/31), ``precipitation`` (mm),
    ``temperature`` or both ``temp_max`` and ``temp_min`` (degrees Celsius), ``condition`` or ``weather`` (a word);
    with ``hour`` (0 to 23) the rows are hours, without it days. Other columns are left alone.

    Raises:
        BadRows: names every line and field that is wrong; nothing of the file should be used then.
        OSError: the file cannot be opened.
    """
    # Bytes that are no UTF-8 are kept as they are, and refused where they matter, with their line.
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, strict=True)
        errors: list[RowError] = []
        rows: dict[datetime, tuple[int, Observation]] = {}
        try:
            columns = [name.strip().lower() for name in next(reader, [])]
            _check_columns(columns)
            for cells in reader:
                if cells:
                    _add(rows, _Line(reader.line_num, columns, cells, errors), zone)
        except csv.Error as error:
            errors.append(RowError(reader.line_num, "row", f"is not CSV ({error})"))
    if not rows and not errors:
        errors.append(RowError(2, "row", "the file holds no rows"))
    if errors:
        raise BadRows(errors)
    return [(at, observation) for at, (_, observation) in rows.items()]


class _Line:
    """One line's cells by column; what is wrong with them is put to the file's errors."""

    def __init__(self, line: int, columns: Sequence[str], cells: Sequence[str], errors: list[RowError]) -> None:
        self.number = line
        self._errors = errors
        self._before = len(errors)
        self._cells = dict(zip(columns, [cell.strip() for cell in cells], strict=False))
        if len(cells) != len(columns):
            self.refuse("row", f"must have {len(columns)} cells", str(len(cells)))

    @property
    def is_good(self) -> bool:
        return len(self._errors) == self._before

    def has(self, name: str) -> bool:
        return name in self._cells

    def text(self, name: str) -> str:
        return self._cells.get(name, "")

    def refuse(self, field: str, why: str, value: str | None = None) -> None:
        self._errors.append(RowError(self.number, field, why, value))

    def number_in(self, field: str, low: float, high: float) -> float:
        try:
            value = float(self.text(field))
        except ValueError:
            value = float("nan")
        if not isfinite(value) or not low <= value <= high:
            self.refuse(field, f"must be a number from {low:g} to {high:g}", self.text(field))
        return value


def _check_columns(columns: Sequence[str]) -> None:
    errors = [
        RowError(1, name, "the column is there more than once")
        for name in sorted(set(columns)) if name and columns.count(name) > 1
    ]  # fmt: skip
    errors += [
        RowError(1, " or ".join(names), "the column is missing")
        for names in (("date",), ("precipitation",), ("condition", "weather")) if not set(names) & set(columns)
    ]  # fmt: skip
    if "temperature" not in columns and not {"temp_max", "temp_min"} <= set(columns):
        errors.append(RowError(1, "temperature", "the column is missing, and so are temp_max and temp_min"))
    if errors:
        raise BadRows(errors)


def _add(rows: dict[datetime, tuple[int, Observation]], line: _Line, zone: tzinfo) -> None:
    if not line.is_good:
        return
    starts = list(_starts(line, zone))
    temperature = _temperature(line)
    precipitation = line.number_in("precipitation", 0.0, WETTEST_MM)
    named = "condition" if line.has("condition") else "weather"
    condition = condition_of_word(line.text(named))
    if condition is None:
        line.refuse(named, f"must be one of {', '.join(CONDITIONS)}, or sun", line.text(named))
    if not line.is_good or condition is None:
        return
    for at, span_seconds in starts:
        if at not in rows:
            rows[at] = (line.number, Observation(temperature, precipitation, condition, span_seconds))
            return
    line.refuse("date", f"line {rows[starts[0][0]][0]} is for the same time", line.text("date"))


def _starts(line: _Line, zone: tzinfo) -> Iterator[tuple[datetime, float]]:
    """When the line's span may begin (UTC) and how long it is; an hour that the clocks repeat has two beginnings."""
    matched = _DATE.fullmatch(line.text("date"))
    try:
        day = date(*map(int, matched.groups())) if matched else date.min
    except ValueError:
        day = date.min
    if not 1970 <= day.year < 2200:
        line.refuse("date", "must be a day such as 2012-01-31", line.text("date"))
        return
    if not line.has("hour"):
        begins, ends = (
            datetime(at.year, at.month, at.day, tzinfo=zone).astimezone(UTC) for at in (day, day + timedelta(days=1))
        )
        yield begins, (ends - begins).total_seconds()
    elif _HOUR.fullmatch(line.text("hour")):
        for fold in (0, 1):
            at = datetime(day.year, day.month, day.day, int(line.text("hour")), tzinfo=zone, fold=fold)
            yield at.astimezone(UTC), HOUR_SECONDS
    else:
        line.refuse("hour", "must be an hour from 0 to 23", line.text("hour"))


def _temperature(line: _Line) -> float:
    if line.has("temperature"):
        return line.number_in("temperature", COLDEST_CELSIUS, HOTTEST_CELSIUS)
    highest = line.number_in("temp_max", COLDEST_CELSIUS, HOTTEST_CELSIUS)
    lowest = line.number_in("temp_min", COLDEST_CELSIUS, HOTTEST_CELSIUS)
    if highest < lowest:
        line.refuse("temp_max", f"must not be below temp_min {lowest:g}", line.text("temp_max"))
    # Rounded, so that no noise of the last digit puts a day into another band.
    return round((highest + lowest) / 2.0, 3)


def _record(observation: Observation) -> dict[str, Any]:
    return {
        "temperature": observation.temperature_c,
        "precipitation": observation.precipitation_mm,
        "condition": observation.condition,
        "span_seconds": observation.span_seconds,
    }


def _observation(record: Mapping[str, Any]) -> Observation:
    return Observation(
        record["temperature"], record["precipitation"], record["condition"], record["span_seconds"]
    )  # fmt: skip
