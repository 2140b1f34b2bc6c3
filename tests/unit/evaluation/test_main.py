"""The command: reads the loop it was asked for and writes what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from contextual_bandit.loops import BaselineSetting, LoopConfig
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
