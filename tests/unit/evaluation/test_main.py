"""The command: reads the loop it was asked for and writes what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from contextual_bandit.loops import BaselineSetting, Holdout, LoopConfig
from contextual_bandit.types import LoggedInteraction
from evaluation import __main__ as command
from evaluation import run

SyntheticLog = Callable[..., list[LoggedInteraction]]


class _Engine:
    def dispose(self) -> None:
        pass


def test_command(
    synthetic_log: SyntheticLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = synthetic_log(800, (0.2, 0.5), (0.7, 0.3))
    asked: list[str] = []

    def read(engine: object, loop: str, *, latest: bool, closed_from: datetime | None) -> Iterator[LoggedInteraction]:
        assert latest, "late outcomes count in an evaluation"
        asked.append(loop)
        return iter(log)

    def settings(engine: object, loop: str) -> LoopConfig:
        return LoopConfig(loop, baseline=BaselineSetting(priority=("b1",)))

    monkeypatch.setattr(command, "existing_database", lambda settings, given: nullcontext(given))
    monkeypatch.setattr(command, "make_engine", lambda url: _Engine())
    monkeypatch.setattr(run, "read_interactions", read)
    monkeypatch.setattr(run, "find_settings", settings)
    arguments = ["--loop", "homepage", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "one.json")]
    assert command.main([*arguments, "--database-url", "postgresql://nowhere"]) == 0
    assert asked == ["homepage"]
    found = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert found["n"] == 800
    policies = found["policies"]
    assert policies["baseline"]["estimates"] == policies["offer:b1"]["estimates"] != policies["first"]["estimates"]
    assert "served policy" in capsys.readouterr().out
    log.clear()
    assert command.main([*arguments, "--database-url", "postgresql://nowhere"]) == 1


def test_a_loop_with_a_holdout_has_both_answers(
    synthetic_log: SyntheticLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = synthetic_log(4000, (0.2, 0.5), (0.4, 0.6), seed=1)
    held_out = synthetic_log(2000, (0.2, 0.5), (1.0, 0.0), seed=2, use="holdout")
    log = []
    for number, (one, name) in enumerate([*((each, "s") for each in served), *((each, "h") for each in held_out)]):
        customer, decision_id = f"{name}{number % (800 if name == 's' else 400)}", f"{name}-{number}"
        log.append(replace(one, decision=replace(one.decision, customer_id=customer, decision_id=decision_id)))
    loop = LoopConfig("homepage", holdout=Holdout(1 / 3), baseline=BaselineSetting(priority=("a0",)))
    monkeypatch.setattr(command, "existing_database", lambda settings, given: nullcontext(given))
    monkeypatch.setattr(command, "make_engine", lambda url: _Engine())
    monkeypatch.setattr(run, "read_interactions", lambda *_, **__: iter(log))
    monkeypatch.setattr(run, "find_settings", lambda *_: loop)
    out = tmp_path / "one.json"
    words = ["--loop", "homepage", "--database-url", "postgresql://nowhere", "--policy", "uniform", "--json", str(out)]
    assert command.main([*words, "--features"]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["n"] == 4000
    assert found["holdout"]["agreement"] == "agree"
    assert found["holdout"]["held_out"] == 2000
    assert found["features"]["decisions"] == 4000
    # Of the closing times only those before the end are read.
    end = log[1000].closed_at.isoformat()
    assert command.main([*words, "--to", end]) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["n"] == 1000
