"""Commands that read an installation say so when there is none, and make none."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation import __main__ as evaluation
from learner import __main__ as learner


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (learner.main, ["replay", "--loop", "default"]),
        (learner.main, ["export", "dsjson"]),
        (learner.main, ["import", "dsjson", "log.json", "--loop", "default"]),
        (evaluation.main, ["--json", "one.json"]),
        (evaluation.main, ["fairness", "--by", "age_band"]),
        (evaluation.main, ["search", "--out", "report"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_folder_without_an_installation(
    main: object, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OFFERLOOP_DATABASE_URL", "OFFERLOOP_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "var"
    monkeypatch.setenv("OFFERLOOP_DATA_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    assert callable(main)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"no installation under {folder}: run `offerloop migrate`" in said
    assert "OFFERLOOP_DATA_DIR" in said
    assert list(tmp_path.iterdir()) == []
