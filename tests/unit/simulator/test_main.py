"""Tests of the command ``offerloop simulate``: what it takes, what it makes of it, and what it writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from simulator import __main__ as command
from simulator import play_charts
from simulator.calls import CallRefused
from simulator.play import Contender, Market, Served
from simulator.scores import NothingServed, Series
from simulator.seattle import seattle_days
from simulator.world import START, make_world


def _served(number: int, chosen: int, *, is_bot: bool = False) -> Served:
    at = START + timedelta(hours=number)
    manager = np.array([1.0, 0.0])
    return Served(at, is_bot, True, chosen, np.array([0.1, 0.3]), manager, 1.0)


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--customers", "0"], "got 0"), (["--days", "-1"], "got -1"), (["--seed", "-3"], "got -3"),
     (["--reward", "fame"], "fame"), (["--shift-day", "-2"], "got -2"), (["--turn-days", "nan"], "got nan"),
     (["--start", "yesterday"], "yesterday")],
)  # fmt: skip
def test_unusable_arguments_are_named(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_a_market_must_lie_in_the_past(capsys: pytest.CaptureFixture[str]) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    assert command.main(["--start", tomorrow, "--days", "2"]) == 2
    assert "must lie in the past" in capsys.readouterr().err


def test_a_service_that_is_away_is_said_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def refuse(*_: object) -> None:
        raise CallRefused("GET /v1/loops: nobody is there")

    monkeypatch.setattr(command, "_play", refuse)
    words = ["--url", "http://nowhere.invalid", "--customers", "5", "--days", "2", "--out", str(tmp_path / "out")]
    assert command.main(words) == 1
    assert "nobody is there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_is_written_down(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class NeverCalled:
        def __init__(self, world: object, contenders: list[Contender]) -> None:
            self.contenders = contenders
            self.sent = Market(None, world, days=1, visits_per_day=1.0).sent  # type: ignore[arg-type]

    async def play(world: object, *_: object) -> tuple[NeverCalled, list[dict[str, int]]]:
        rows = {number: _served(number, number % 2) for number in range(40)}
        status = {"interactions": 40, "open": 0, "duplicated": 0, "snapshots": 3}
        return NeverCalled(world, [Contender("one", served=rows)]), [status]

    monkeypatch.setattr(command, "_play", play)
    words = ["--url", "http://nowhere.invalid", "--customers", "5", "--days", "2", "--out", str(tmp_path)]
    assert command.main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "simulate.json").read_text())
    assert printed["loops"][0]["lost"] == 0
    assert "weather effects" in printed["assumed"]
    assert printed["value"]["served"]["all"] == pytest.approx(0.2)
    assert printed["value"]["campaign_manager"]["all"] == pytest.approx(0.1)


def test_bots_are_left_out_of_scores() -> None:
    world = make_world(1, 5, 2)
    rows = {0: _served(0, 0, is_bot=True), 1: _served(1, 1), 2: _served(2, 0)}
    series = command.score(world, [Contender("one", served=rows)])
    assert series.served.tolist() == [0.3, 0.1]
    with pytest.raises(NothingServed):
        command.score(world, [Contender("one", served={0: rows[0]})])


@pytest.mark.parametrize("trouble", ["lost", "open"])
def test_a_run_that_lost_something_is_not_sound(trouble: str) -> None:
    loop = {"lost": 0, "open": 0}
    assert command.is_sound({"loops": [loop]})
    assert not command.is_sound({"loops": [loop, {**loop, trouble: 1}]})


def test_real_days_of_seattle_follow_the_calendar() -> None:
    pytest.importorskip("vega_datasets")
    days = seattle_days(datetime(2024, 2, 27, tzinfo=UTC), 400)
    assert len(days) == 400
    july = [day.celsius for day in days[125:156]]
    january = [day.celsius for day in days[309:340]]
    assert np.mean(july) > np.mean(january) + 10.0
    assert {day.condition for day in days} <= {"clear", "cloudy", "rain", "snow"}
    # 28 February stands for 29 February in years without one; 2012, which 2024 is like, has it.
    assert days[2] != days[1]


def test_charts_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    generator = np.random.default_rng(1)
    lines = generator.random((6, 300))
    at = tuple(START + timedelta(hours=number) for number in range(300))
    series = Series(at, np.arange(300) / 24.0, *lines[:5], 0, lines[5])  # type: ignore[arg-type]
    png, html = play_charts.save(series, tmp_path, unit="true click probability", shift_day=5.0, start=START)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    text = html.read_text()
    assert 'src="http' not in text
    for words in ("assumed, not measured", "weather effects", "campaign manager", "without weather and season"):
        assert words in text
