"""The Open-Meteo client, against a local server that answers in the documented form."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.guarded import Unavailable
from adapters.open_meteo import REMEMBERED_SECONDS, NotAsDocumented, OpenMeteo, observation_from
from contextual_bandit.season import Region
from contextual_bandit.weather import HOUR_SECONDS, Observation

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HOUR = datetime(2026, 3, 2, 9, tzinfo=UTC)
SEATTLE = Region("seattle", "America/Los_Angeles", "US", "WA", 47.6, -122.3)
BERLIN = Region("berlin", "Europe/Berlin", "DE", "BE", 52.52, 13.41)
RAIN = Observation(8.5, 1.5, "rain", HOUR_SECONDS)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def documented(query: dict[str, str]) -> dict[str, Any]:
    """The answer to a question as the documentation has it; the first hour is 8.5 degrees, the next one wet."""
    start, end = (datetime.fromisoformat(query[name]) for name in ("start_hour", "end_hour"))
    times = [start + timedelta(hours=ahead) for ahead in range(int((end - start) / timedelta(hours=1)) + 1)]
    return {
        "latitude": 47.595562, "longitude": -122.32443, "generationtime_ms": 0.05, "utc_offset_seconds": 0,
        "timezone": "GMT", "timezone_abbreviation": "GMT", "elevation": 59.0,
        "hourly_units": {"time": "iso8601", "temperature_2m": "°C", "precipitation": "mm", "weather_code": "wmo code"},
        "hourly": {
            "time": [time.strftime("%Y-%m-%dT%H:%M") for time in times],
            "temperature_2m": [8.5, 9.0][: len(times)],
            "precipitation": [0.0, 1.5][: len(times)],
            "weather_code": [61, 3][: len(times)],
        },
    }  # fmt: skip


@dataclass
class Server:
    """What the server was asked, and how it is to answer."""

    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: int = 200
    body: Callable[[dict[str, str]], Any] = documented
    delay_seconds: float = 0.0


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            state.asked.append(query)
            state.paths.append(parts.path)
            time.sleep(state.delay_seconds)
            body = state.body(query)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            with suppress(ConnectionError):
                self.send_response(state.status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Ask = Callable[..., Awaitable[Observation | None]]


@pytest.fixture
def talk(server: Server, clock: Clock) -> Callable[[Callable[[Ask], Awaitable[None]]], None]:
    """Run questions against one client; ``ask(region, moment, wait_seconds)``."""

    def run(questions: Callable[[Ask], Awaitable[None]], **settings: Any) -> None:
        async def all_of_them() -> None:
            client = OpenMeteo(server.url + "/", clock=clock, **settings)

            async def ask(
                region: Region = SEATTLE, moment: datetime = NOW, wait_seconds: float = 5.0
            ) -> Observation | None:
                return await client.at(region, moment, asyncio.get_running_loop().time() + wait_seconds)

            try:
                await questions(ask)
            finally:
                await client.close()

        asyncio.run(all_of_them())

    return run


def test_it_asks_in_the_documented_form(talk, server) -> None:
    async def questions(ask: Ask) -> None:
        assert await ask() == RAIN

    talk(questions)
    assert server.paths == ["/v1/forecast"]
    assert server.asked == [
        {
            "latitude": "47.6", "longitude": "-122.3", "hourly": "temperature_2m,precipitation,weather_code",
            "timezone": "UTC", "start_hour": "2026-03-02T09:00", "end_hour": "2026-03-02T10:00",
        }
    ]  # fmt: skip


def test_a_key_goes_with_the_question(talk, server) -> None:
    async def questions(ask: Ask) -> None:
        assert await ask() == RAIN

    talk(questions, api_key="paid")
    assert server.asked[0]["apikey"] == "paid"


def test_each_hour_of_a_region_is_asked_for_once_an_hour(talk, server, clock) -> None:
    async def questions(ask: Ask) -> None:
        for minute in range(60):
            assert await ask(SEATTLE, HOUR + timedelta(minutes=minute)) == RAIN
        assert len(server.asked) == 1
        await ask(SEATTLE, HOUR + timedelta(hours=1))
        await ask(BERLIN, HOUR)
        assert len(server.asked) == 3
        clock.now += REMEMBERED_SECONDS - 1
        await ask()
        assert len(server.asked) == 3
        clock.now += 1
        await ask()
        assert len(server.asked) == 4

    talk(questions)


def test_questions_at_the_same_time_are_one(talk, server) -> None:
    server.delay_seconds = 0.1

    async def questions(ask: Ask) -> None:
        assert await asyncio.gather(*[ask() for _ in range(50)]) == [RAIN] * 50

    talk(questions)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "region", [Region("x", "UTC"), Region("x", "UTC", latitude=1.0), Region("x", "UTC", longitude=1.0)]
)
def test_a_region_without_coordinates_is_not_asked_for(talk, server, region) -> None:
    async def questions(ask: Ask) -> None:
        assert await ask(region) is None

    talk(questions)
    assert server.asked == []


@pytest.mark.parametrize(
    ("days", "asks"), [(-93, False), (-92, True), (-1, True), (0, True), (15, True), (16, False), (4000, False)]
)
def test_moments_beyond_its_reach_are_not_asked_for(talk, server, days, asks) -> None:
    async def questions(ask: Ask) -> None:
        assert await ask(SEATTLE, NOW + timedelta(days=days)) == (RAIN if asks else None)

    talk(questions)
    assert len(server.asked) == asks


@pytest.mark.parametrize("name", ["temperature_2m", "precipitation", "weather_code"])
def test_what_it_does_not_know_is_missing_and_no_failure(talk, server, name) -> None:
    def with_nulls(query: dict[str, str]) -> Any:
        answer = documented(query)
        answer["hourly"][name] = [None, None]
        return answer

    server.body = with_nulls

    async def questions(ask: Ask) -> None:
        for _ in range(5):
            assert await ask() is None
        server.body = documented
        assert await ask(BERLIN) == RAIN

    talk(questions)
    assert len(server.asked) == 2, "that there is nothing is remembered too"


def test_a_refusal_is_missing_and_no_failure(talk, server) -> None:
    server.status = 400
    server.body = lambda query: {
        "error": True, "reason": "Parameter 'start_hour' is out of allowed range from 2025-12-01 to 2026-03-18",
    }  # fmt: skip

    async def questions(ask: Ask) -> None:
        for hours in range(5):
            assert await ask(SEATTLE, NOW + timedelta(hours=hours)) is None
        assert await ask() is None
        assert len(server.asked) == 5
        server.status, server.body = 200, documented
        assert await ask(BERLIN) == RAIN

    talk(questions)


FAILURES: dict[str, tuple[int, Any]] = {
    "server error": (500, {"error": True, "reason": "x"}),
    "too many requests": (429, {"error": True, "reason": "Minutely API request limit exceeded"}),
    "bad gateway page": (502, b"<html>Bad Gateway</html>"),
    "redirect": (302, b""),
    "bad request without a reason": (400, b"no"),
    "garbage": (200, b"\x00\xff{not json"),
    "nothing": (200, b""),
    "a list": (200, []),
    "no hourly": (200, {"latitude": 1.0}),
    "hourly is no object": (200, {"hourly": [1, 2]}),
    "no arrays": (200, {"hourly": {"time": "2026-03-02T09:00"}}),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_three_failures_open_the_breaker(talk, server, clock, kind) -> None:
    server.status = FAILURES[kind][0]
    server.body = lambda query: FAILURES[kind][1]

    async def questions(ask: Ask) -> None:
        for hours in range(8):
            with pytest.raises(Unavailable):
                await ask(SEATTLE, NOW + timedelta(hours=hours))
        assert len(server.asked) == 3
        server.status, server.body = 200, documented
        clock.now += 29.9
        with pytest.raises(Unavailable):
            await ask()
        assert len(server.asked) == 3
        clock.now += 0.1
        assert await ask() == RAIN
        assert await ask(BERLIN) == RAIN
        assert len(server.asked) == 5

    talk(questions)


def test_half_open_one_tries_and_the_others_do_not(talk, server, clock) -> None:
    server.status = 500

    async def questions(ask: Ask) -> None:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await ask()
        for expected in (4, 5):
            clock.now += 30.0
            answers = await asyncio.gather(
                *[ask(SEATTLE, NOW + timedelta(hours=hours)) for hours in range(10)], return_exceptions=True
            )
            assert all(isinstance(answer, Unavailable) for answer in answers)
            assert len(server.asked) == expected

    talk(questions)


def test_failures_must_be_on_end_to_open_it(talk, server) -> None:
    async def questions(ask: Ask) -> None:
        for hours in range(9):
            server.status = 200 if hours % 3 == 2 else 500
            if server.status == 200:
                assert await ask(SEATTLE, NOW + timedelta(hours=hours)) == RAIN
            else:
                with pytest.raises(Unavailable):
                    await ask(SEATTLE, NOW + timedelta(hours=hours))

    talk(questions)
    assert len(server.asked) == 9


def test_nobody_waits_for_a_slow_answer_and_the_next_do_not_wait_at_all(talk, server) -> None:
    server.delay_seconds = 2.0

    async def questions(ask: Ask) -> None:
        waited = []
        for hours in range(10):
            started = time.perf_counter()
            with pytest.raises(Unavailable):
                await ask(SEATTLE, NOW + timedelta(hours=hours), wait_seconds=0.1)
            waited.append(time.perf_counter() - started)
        assert 0.05 < waited[0] < 1.0
        assert sum(waited[1:]) < 0.5
        assert len(server.asked) == 1

    talk(questions)


def test_a_late_answer_is_kept_and_closes_the_breaker(talk, server) -> None:
    server.delay_seconds = 0.3

    async def questions(ask: Ask) -> None:
        with pytest.raises(Unavailable):
            await ask(wait_seconds=0.05)
        await asyncio.sleep(0.6)
        server.delay_seconds = 0.0
        assert await ask(wait_seconds=0.2) == RAIN
        assert await ask(BERLIN) == RAIN

    talk(questions)
    assert len(server.asked) == 2


def test_a_server_that_is_not_there_is_unavailable(clock) -> None:
    async def ask() -> None:
        client = OpenMeteo("http://127.0.0.1:9", clock=clock)
        with pytest.raises(Unavailable):
            await client.at(SEATTLE, NOW, asyncio.get_running_loop().time() + 2.0)
        await client.close()

    asyncio.run(ask())


def test_a_caller_that_leaves_takes_nothing_from_the_others(talk, server) -> None:
    server.delay_seconds = 0.1

    async def questions(ask: Ask) -> None:
        impatient, patient = asyncio.create_task(ask()), asyncio.create_task(ask())
        await asyncio.sleep(0.02)
        impatient.cancel()
        assert await patient == RAIN

    talk(questions)
    assert len(server.asked) == 1


# The form of an answer


def answer(**hourly: Any) -> dict[str, Any]:
    payload = documented({"start_hour": "2026-03-02T09:00", "end_hour": "2026-03-02T10:00"})
    payload["hourly"] |= hourly
    return payload


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (answer(temperature_2m=[8.5]), "temperature_2m"),
        (answer(temperature_2m=["warm", "warm"]), "temperature_2m"),
        (answer(temperature_2m=[True, True]), "temperature_2m"),
        (answer(temperature_2m=[451, 451]), "temperature_2m"),
        (answer(precipitation=[0, -1]), "precipitation"),
        (answer(precipitation=[0, float("nan")]), "precipitation"),
        (answer(weather_code=[1000, 0]), "weather_code"),
        (answer(time=None), "temperature_2m"),
        (answer() | {"utc_offset_seconds": 3600}, "utc_offset_seconds"),
        (answer() | {"hourly_units": {"temperature_2m": "°F"}}, "temperature_2m"),
        (answer() | {"hourly_units": {"precipitation": "inch"}}, "precipitation"),
        (answer() | {"hourly_units": []}, "hourly_units"),
    ],
)
def test_what_is_not_as_documented_is_refused_by_name(changed: Any, named: str) -> None:
    with pytest.raises(NotAsDocumented, match=named):
        observation_from(changed, HOUR)


@pytest.mark.parametrize(
    "changed",
    [answer(time=["2026-03-02T08:00", "2026-03-02T09:00"]), answer(weather_code=[4, 4]), answer(time=["a", "b"])],
)
def test_an_hour_that_is_not_wholly_there_is_missing(changed: Any) -> None:
    assert observation_from(changed, HOUR) is None


def test_units_may_be_left_out() -> None:
    payload = answer()
    del payload["hourly_units"]
    assert observation_from(payload, HOUR) == RAIN
