"""Regions, the table of weather and its files, the book, and the command, on the real stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, func, select

import offerloop.weather
from adapters.guarded import Unavailable
from adapters.installation import Installation
from adapters.open_meteo import OpenMeteo
from adapters.regions import RegionStore
from adapters.streams import VERSIONS_KEY
from adapters.tables import audit_log, regions, weather
from adapters.weather import BadRows, Place, WeatherBook, WeatherTable, read_csv
from contextual_bandit.season import Region
from contextual_bandit.weather import DAY_SECONDS, HOUR_SECONDS, Observation

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DAY = datetime(2026, 3, 2, tzinfo=UTC)
PACIFIC = ZoneInfo("America/Los_Angeles")
SEATTLE = Region("seattle", "America/Los_Angeles", "US", "WA", 47.6, -122.3)
RAIN = Observation(8.9, 10.9, "rain")
SUN = Observation(20.0, 0.0, "clear")
# The columns and the first days of a published file.
DAYS = """date,precipitation,temp_max,temp_min,wind,weather
2012/01/01,0.0,12.8,5.0,4.7,drizzle
2012/01/02,10.9,10.6,2.8,4.5,rain
2012/01/03,0.8,11.7,7.2,2.3,rain
2012/01/14,4.1,4.4,0.6,5.3,snow
2012/01/19,15.2,-1.1,-2.8,1.6,sun
2012/01/20,13.5,7.2,-1.1,2.3,fog
"""


@pytest.fixture(autouse=True)
def clean(installation: Installation) -> Iterator[None]:
    yield
    with installation.engine.begin() as connection:
        for table in (regions, weather, audit_log):
            connection.execute(delete(table))


@pytest.fixture
def store(installation: Installation) -> RegionStore:
    return RegionStore(installation.engine, installation.client)


@pytest.fixture
def table(installation: Installation) -> WeatherTable:
    return WeatherTable(installation.engine)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "weather.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def count(installation: Installation) -> int:
    with installation.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(weather)).scalar_one()


def audited(installation: Installation) -> list[tuple[Any, ...]]:
    columns = (audit_log.c.actor, audit_log.c.action, audit_log.c.subject)
    with installation.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(audit_log.c.audit_id))]


# Regions


def test_regions_come_back_equal_and_by_name(store: RegionStore) -> None:
    plain = Region("anywhere", "UTC")
    assert store.put(SEATTLE, "ann", NOW) == SEATTLE
    store.put(plain, "ann", NOW)
    assert store.get("seattle") == SEATTLE
    assert store.get("anywhere") == plain
    assert store.all() == [plain, SEATTLE]
    moved = replace(SEATTLE, latitude=-1.5, southern=False)
    store.put(moved, "ann", NOW)
    assert store.get("seattle") == moved


def test_a_deleted_region_is_gone(store: RegionStore) -> None:
    store.put(SEATTLE, "ann", NOW)
    assert store.delete("seattle", "bob", NOW)
    assert store.get("seattle") is None
    assert store.all() == []
    assert not store.delete("seattle", "bob", NOW)


def test_every_change_of_a_region_is_watched_and_written_down(store: RegionStore, installation: Installation) -> None:
    def version() -> int:
        return int(installation.client.hget(VERSIONS_KEY, "regions") or 0)  # type: ignore[arg-type]

    before = version()
    store.put(SEATTLE, "ann", NOW)
    store.delete("seattle", "bob", NOW)
    store.delete("seattle", "bob", NOW)
    assert version() == before + 2
    assert audited(installation) == [("ann", "region.put", "seattle"), ("bob", "region.delete", "seattle")]


# Files


def test_a_file_of_days_is_read_in_local_time(file) -> None:
    rows = dict(read_csv(file(DAYS), PACIFIC))
    assert len(rows) == 6
    assert rows[datetime(2012, 1, 2, 8, tzinfo=UTC)] == Observation(pytest.approx(6.7), 10.9, "rain", DAY_SECONDS)
    assert [observation.condition for observation in rows.values()] == [
        "drizzle", "rain", "rain", "snow", "clear", "fog",
    ]  # fmt: skip


def test_a_day_on_which_the_clocks_change_is_shorter_or_longer(file) -> None:
    header = "condition,temperature,precipitation,date\n"
    days = "".join(f"cloudy,10,0,{day}\n" for day in ("2026-03-07", "2026-03-08", "2026-11-01"))
    rows = read_csv(file(header + days), PACIFIC)
    assert [observation.span_seconds / 3600 for _, observation in rows] == [24, 23, 25]


def test_a_file_of_hours_is_read(file) -> None:
    rows = read_csv(
        file("date,hour,precipitation,temperature,condition\n2026-03-02,0,0,4,fog\n2026-3-2,13,0.5,9,Rain\n"), PACIFIC
    )
    assert rows == [
        (datetime(2026, 3, 2, 8, tzinfo=UTC), Observation(4.0, 0.0, "fog", HOUR_SECONDS)),
        (datetime(2026, 3, 2, 21, tzinfo=UTC), Observation(9.0, 0.5, "rain", HOUR_SECONDS)),
    ]


def test_an_hour_that_the_clocks_repeat_may_stand_there_twice(file) -> None:
    line = "2026-11-01,1,0,4,fog\n"
    header = "date,hour,precipitation,temperature,condition\n"
    rows = read_csv(file(header + 2 * line), PACIFIC)
    assert [at.hour for at, _ in rows] == [8, 9]
    with pytest.raises(BadRows, match="line 4: date: line 2 is for the same time"):
        read_csv(file(header + 3 * line), PACIFIC)


def test_a_byte_order_mark_empty_lines_and_odd_wind_do_not_matter(file) -> None:
    text = DAYS.replace("4.7", "b\xf6ig").replace("\n", "\r\n") + "\r\n\r\n"
    assert len(read_csv(file(b"\xef\xbb\xbf" + text.encode("latin-1")), PACIFIC)) == 6


HEADER = "date,precipitation,temp_max,temp_min,wind,weather\n"
GOOD = "2012/01/01,0.0,12.8,5.0,4.7,drizzle\n"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (HEADER + GOOD + "2012/02/30,0,1,0,1,rain\n", ["line 3: date"]),
        (HEADER + GOOD + "tomorrow,0,1,0,1,rain\n", ["line 3: date: must be a day such as 2012-01-31, got 'tomorrow'"]),
        (HEADER + "0001-01-01,0,1,0,1,rain\n", ["line 2: date"]),
        (HEADER + "2012-01-02,-1,1,0,1,rain\n", ["line 2: precipitation: must be a number from 0 to 2000, got '-1'"]),
        (HEADER + "2012-01-02,,1,0,1,rain\n", ["line 2: precipitation"]),
        (HEADER + "2012-01-02,nan,1,0,1,rain\n", ["line 2: precipitation"]),
        (HEADER + "2012-01-02,0,inf,0,1,rain\n", ["line 2: temp_max"]),
        (HEADER + "2012-01-02,0,warm,-300,1,rain\n", ["line 2: temp_max", "line 2: temp_min"]),
        (HEADER + "2012-01-02,0,1,2,1,rain\n", ["line 2: temp_max: must not be below temp_min 2, got '1'"]),
        (HEADER + "2012-01-02,0,1,0,1,frogs\n", ["line 2: weather: must be one of clear, cloudy"]),
        (HEADER + "2012-01-02,0,1,0,1,r\xe4in\n".encode("latin-1").decode("utf-8", "surrogateescape"),
         ["line 2: weather"]),
        (HEADER + GOOD + GOOD, ["line 3: date: line 2 is for the same time"]),
        (HEADER + "2012-01-02,0,1,0,1\n" + GOOD + "2012-01-03,0,1,0,1,rain,more\n",
         ["line 2: row: must have 6 cells, got '5'", "line 4: row: must have 6 cells, got '7'"]),
        (HEADER + '"2012-01-02"x,0,1,0,1,rain\n', ["line 2: row: is not CSV"]),
        (HEADER, ["line 2: row: the file holds no rows"]),
        ("", ["line 1: date: the column is missing", "line 1: precipitation", "line 1: condition or weather",
              "line 1: temperature: the column is missing, and so are temp_max and temp_min"]),
        ("date,precipitation,temp_max,weather\n", ["line 1: temperature"]),
        ("date,date,precipitation,temperature,weather\n", ["line 1: date: the column is there more than once"]),
        ("date,hour,precipitation,temperature,weather\n2012-01-02,24,0,1,rain\n", ["line 2: hour"]),
        ("date,hour,precipitation,temperature,weather\n2012-01-02,-1,0,1,rain\n", ["line 2: hour"]),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_by_line_and_field(file, text: str, errors: list[str]) -> None:
    with pytest.raises(BadRows) as refused:
        read_csv(file(text.encode("utf-8", "surrogateescape")), PACIFIC)
    found = [str(error) for error in refused.value.errors]
    assert len(found) == len(errors), found
    assert all(shown.startswith(wanted) for shown, wanted in zip(found, errors, strict=True)), found


# The table


def newest(table: WeatherTable, region: str, *moments: datetime) -> list[Observation | None]:
    found = table.read_many([(region, moment) for moment in moments])
    return [found.get((region, moment)) for moment in moments]


def test_an_observation_covers_its_span_and_no_more(table: WeatherTable) -> None:
    table.put_all("seattle", [(DAY, RAIN), (DAY + timedelta(days=1), SUN)], "ann", NOW)
    moments = [DAY - timedelta(seconds=1), DAY, DAY + timedelta(hours=23, minutes=59), DAY + timedelta(days=1)]
    assert newest(table, "seattle", *moments, DAY + timedelta(days=2)) == [None, RAIN, RAIN, SUN, None]
    assert newest(table, "berlin", DAY) == [None]
    assert table.read_many([]) == {}


def test_an_hour_is_newer_than_its_day(table: WeatherTable) -> None:
    hour = Observation(12.0, 0.0, "clear", HOUR_SECONDS)
    table.put_all("seattle", [(DAY, RAIN)], "ann", NOW)
    table.put_all("seattle", [(DAY + timedelta(hours=9), hour)], "ann", NOW)
    moments = [DAY + timedelta(hours=hours) for hours in (8, 9, 9.75, 10)]
    assert newest(table, "seattle", *moments) == [RAIN, hour, hour, RAIN]


def test_a_day_of_25_hours_is_covered_to_its_end(table: WeatherTable, file) -> None:
    day = "date,precipitation,temperature,weather\n2026-11-01,0,1,rain\n"
    table.put_all("seattle", read_csv(file(day), PACIFIC), "ann", NOW)
    last, next_day = (datetime(2026, 11, 2, hour, tzinfo=PACIFIC).astimezone(UTC) for hour in (0, 1))
    assert newest(table, "seattle", last - timedelta(minutes=15))[0] is not None
    assert newest(table, "seattle", last, next_day) == [None, None]


def test_importing_again_changes_nothing(table: WeatherTable, file, installation: Installation) -> None:
    rows = read_csv(file(DAYS), PACIFIC)
    told: list[int] = []
    assert table.put_all("seattle", rows, "ann", NOW, told.append) == 6
    assert table.put_all("seattle", rows, "ann", NOW) == 6
    assert (count(installation), told) == (6, [6])
    table.put_all("berlin", rows, "ann", NOW)
    assert count(installation) == 12
    changed = [(at, replace(observation, condition="fog")) for at, observation in rows]
    table.put_all("seattle", changed, "ann", NOW)
    assert newest(table, "seattle", rows[1][0]) == [changed[1][1]]
    assert newest(table, "berlin", rows[1][0]) == [rows[1][1]]
    assert audited(installation)[0] == ("ann", "weather.import", "seattle")


def test_days_imported_by_another_zone_are_replaced(table: WeatherTable, file, installation: Installation) -> None:
    path = file(DAYS)
    table.put_all("seattle", read_csv(path, ZoneInfo("UTC")), "ann", NOW)
    table.put_all("seattle", read_csv(path, PACIFIC), "ann", NOW)
    assert count(installation) == 6
    assert newest(table, "seattle", datetime(2012, 1, 2, 7, tzinfo=UTC))[0] == read_csv(path, PACIFIC)[0][1]


def test_rows_are_stored_all_or_none(table: WeatherTable, installation: Installation) -> None:
    rows = [(DAY + timedelta(days=day), SUN) for day in range(1500)]
    rows[1200] = (rows[1200][0], replace(SUN, condition="\x00"))
    with pytest.raises(Exception, match=r"NUL|0x00|u0000"):
        table.put_all("seattle", rows, "ann", NOW)
    assert count(installation) == 0
    assert audited(installation) == []


# The book


class Clock:
    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


class Provider:
    """Stands for the table or for Open-Meteo: has some observations, or fails, or is slow."""

    def __init__(self, *found: Observation | None, slow_seconds: float = 0.0) -> None:
        self.found = found
        self.error: Exception | None = None
        self.slow_seconds = slow_seconds
        self.asked: list[Any] = []

    async def read(self, place: Place) -> Observation | None:
        self.asked.append(place)
        await asyncio.sleep(self.slow_seconds)
        if self.error:
            raise self.error
        return self.found[min(len(self.asked), len(self.found)) - 1]


class FakeMeteo(OpenMeteo):
    """Open-Meteo without a server; its own tests have one."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    async def at(self, region: Region, moment: datetime, deadline: float) -> Observation | None:
        return await self.provider.read((region.region, moment))

    async def close(self) -> None:
        self.provider.asked.append("closed")


def ask(questions: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(questions())  # type: ignore[arg-type]


def region_of(name: str) -> Region | None:
    return SEATTLE if name == "seattle" else None


@pytest.mark.parametrize("region", [None, "", "x" * 65, "a b", "\x00", "../etc"])
def test_no_region_is_missing_and_asks_nobody(region: str | None) -> None:
    provider = Provider(RAIN)

    async def questions() -> None:
        assert await WeatherBook(provider.read, region_of).at(region, NOW) == (None, "missing")

    ask(questions)
    assert provider.asked == []


def test_the_table_goes_first_then_open_meteo_then_nothing() -> None:
    async def questions() -> None:
        meteo = Provider(SUN)
        assert await WeatherBook(Provider(RAIN).read, region_of, FakeMeteo(meteo)).at("seattle", NOW) == (RAIN, "table")
        assert meteo.asked == []
        book = WeatherBook(Provider(None).read, region_of, FakeMeteo(meteo))
        assert await book.at("seattle", NOW) == (SUN, "open_meteo")
        assert await book.at("unknown", NOW) == (None, "missing")
        assert len(meteo.asked) == 1
        assert await WeatherBook(Provider(None).read, region_of).at("seattle", NOW) == (None, "missing")

    ask(questions)


def test_answers_are_remembered_for_a_minute_also_that_there_is_none() -> None:
    clock, provider = Clock(), Provider(None, RAIN)

    async def questions() -> None:
        book = WeatherBook(provider.read, region_of, clock=clock)
        for minute in range(15):
            assert await book.at("seattle", DAY + timedelta(minutes=minute)) == (None, "missing")
        assert provider.asked == [("seattle", DAY)]
        clock.now += 60
        assert await book.at("seattle", DAY) == (RAIN, "table")
        assert await book.at("seattle", DAY + timedelta(minutes=15)) == (RAIN, "table")
        assert len(provider.asked) == 3

    ask(questions)


def test_an_outage_of_the_table_is_missing_and_stops_being_asked() -> None:
    clock, provider, meteo = Clock(), Provider(RAIN), Provider(SUN)
    provider.error = OSError("no server")

    async def questions() -> None:
        book = WeatherBook(provider.read, region_of, FakeMeteo(meteo), clock=clock)
        assert await book.at("seattle", NOW) == (SUN, "open_meteo")
        for number in range(10):
            assert await book.at(f"r{number}", NOW) == (None, "missing")
        assert len(provider.asked) == 3
        provider.error = None
        assert await book.at("seattle", NOW) == (SUN, "open_meteo")
        clock.now += 30
        assert await book.at("seattle", NOW) == (RAIN, "table")
        assert await book.at("r1", NOW) == (RAIN, "table")

    ask(questions)


def test_an_outage_of_open_meteo_is_missing_and_tried_again_soon() -> None:
    clock, meteo = Clock(), Provider(SUN)
    meteo.error = Unavailable("away")

    async def questions() -> None:
        book = WeatherBook(Provider(None).read, region_of, FakeMeteo(meteo), clock=clock)
        assert await book.at("seattle", NOW) == (None, "missing")
        meteo.error = None
        assert await book.at("seattle", NOW) == (None, "missing")
        clock.now += 5
        assert await book.at("seattle", NOW) == (SUN, "open_meteo")

    ask(questions)


def test_nobody_waits_longer_than_allowed_and_later_callers_not_at_all() -> None:
    provider, meteo = Provider(RAIN, slow_seconds=30.0), Provider(SUN)

    async def questions() -> None:
        book = WeatherBook(provider.read, region_of, FakeMeteo(meteo), wait_seconds=0.1)
        started = time.perf_counter()
        assert await asyncio.gather(*[book.at("seattle", NOW) for _ in range(20)]) == [(SUN, "open_meteo")] * 20
        assert 0.05 < time.perf_counter() - started < 1.0
        started = time.perf_counter()
        for number in range(20):
            assert await book.at(f"r{number}", NOW) == (None, "missing")
        assert time.perf_counter() - started < 0.5
        await book.close()

    ask(questions)
    assert len(provider.asked) == 1
    assert meteo.asked[-1] == "closed"


def test_the_book_reads_the_real_table(table: WeatherTable) -> None:
    table.put_all("seattle", [(DAY, RAIN)], "ann", NOW)

    async def read(place: Place) -> Observation | None:
        return (await asyncio.to_thread(table.read_many, [place])).get(place)

    async def questions() -> None:
        book = WeatherBook(read, region_of, wait_seconds=10.0)
        assert await book.at("seattle", NOW.astimezone(PACIFIC)) == (RAIN, "table")
        assert await book.at("seattle", NOW + timedelta(days=1)) == (None, "missing")

    ask(questions)


# The command


@pytest.fixture
def command(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("OFFERLOOP_DATABASE_URL", installation.database_url)
    monkeypatch.setenv("OFFERLOOP_REDIS_URL", installation.redis_url)
    return lambda *words: offerloop.weather.main(["import", *map(str, words)])


def test_the_command_imports_by_the_regions_zone(command, file, store, table, installation, capsys) -> None:
    store.put(SEATTLE, "ann", NOW)
    assert command(file(DAYS), "--region", "seattle") == 0
    shown = capsys.readouterr()
    assert shown.out == "6 rows imported for region 'seattle'\n"
    assert shown.err.strip() == ""
    assert newest(table, "seattle", datetime(2012, 1, 2, 7, 59, tzinfo=UTC))[0].condition == "drizzle"
    assert command(file(DAYS), "--region", "seattle") == 0
    assert count(installation) == 6


def test_the_command_takes_an_unknown_region_as_utc_and_says_so(command, file, table, capsys) -> None:
    assert command(file(DAYS), "--region", "elsewhere") == 0
    assert "'elsewhere' has no record" in capsys.readouterr().err
    assert newest(table, "elsewhere", datetime(2012, 1, 2, 0, tzinfo=UTC))[0].condition == "rain"
    assert command(file(DAYS), "--region", "other", "--time-zone", "Asia/Tokyo") == 0
    assert "no record" not in capsys.readouterr().err
    assert newest(table, "other", datetime(2012, 1, 1, 15, tzinfo=UTC))[0].condition == "rain"


def test_the_command_refuses_bad_rows_by_line_and_stores_nothing(command, file, installation, capsys) -> None:
    bad = "".join(f"2012-02-{day:02d},0,x,0,1,rain\n" for day in range(1, 30))
    assert command(file(DAYS + bad), "--region", "seattle") == 2
    shown = capsys.readouterr().err
    assert "weather.csv: line 8: temp_max: must be a number from -95 to 65, got 'x'" in shown
    assert "and 9 more" in shown
    assert "nothing was imported" in shown
    assert count(installation) == 0


def test_the_command_refuses_what_it_cannot_open(command, tmp_path, installation, capsys) -> None:
    assert command(tmp_path / "absent.csv", "--region", "seattle") == 2
    assert "absent.csv: No such file" in capsys.readouterr().err
    assert command(tmp_path, "--region", "seattle") == 2
    assert count(installation) == 0


@pytest.mark.parametrize("words", [["--region", "a b"], [], ["--region", "a", "--time-zone", "Mars/Olympus"]])
def test_the_command_refuses_bad_arguments(command, file, words, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        command(file(DAYS), *words)
    assert ended.value.code == 2
    assert "usage: offerloop weather" in capsys.readouterr().err
