"""The sides of the benchmark of off-policy evaluation compute the same; its figures are ratios of medians."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks import ope
from benchmarks.processes import CannotMeasure


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ope") / "rows.parquet"
    ope.write_rows(path, 20_000)
    return path


def test_ours_and_the_bare_pass_agree(rows: Path) -> None:
    ours, bare = ope.streamed(rows), ope.bare(rows)
    for key in ope.KEYS:
        assert ours[key].value == pytest.approx(bare[key].value, rel=1e-10)
        assert ours[key].standard_error == pytest.approx(bare[key].standard_error, rel=1e-10)
        half = 1.96 * bare[key].standard_error
        assert ours[key].low == pytest.approx(ours[key].value - half, abs=0.3 * half)
        assert ours[key].high == pytest.approx(ours[key].value + half, abs=0.3 * half)


def test_the_check_finds_a_side_that_computes_something_else(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(events: object) -> tuple[float, float]:
        weights = [(target / propensity, reward) for propensity, reward, target in ope.first_events(rows, ope.LOOPED)]
        total = math.fsum(weight * reward for weight, reward in weights)
        return total / len(weights), total / math.fsum(weight for weight, _ in weights)

    ope.check(rows, loop)
    with pytest.raises(CannotMeasure, match="vw-estimators gives"):
        ope.check(rows, lambda events: (0.0, 0.0))
    bare = ope.bare(rows)
    monkeypatch.setattr(ope, "bare", lambda path: {**bare, "dr": ope.Found(0.0, 1.0)})
    with pytest.raises(CannotMeasure, match="value of dr"):
        ope.check(rows, loop)


def test_figures_are_ratios_of_medians() -> None:
    times = {"ours": [1.0, 2.0, 9.0], "numpy": [1.0, 1.0, 7.0], "vw": [50.0, 60.0, 10.0]}
    found = ope.figures(times, 300.0)
    assert found["ope_vs_vw_estimators"] == 25.0
    assert found["ope_vs_numpy"] == 2.0
    assert found["ope_within_bars"]
    assert not ope.figures(times, 1024.0)["ope_within_bars"]
    assert not ope.figures({**times, "vw": [39.0] * 3}, 300.0)["ope_within_bars"]
    assert not ope.figures({**times, "numpy": [0.3] * 3}, 300.0)["ope_within_bars"]


def test_memory_is_measured_in_a_process_of_its_own(rows: Path) -> None:
    assert 20.0 < ope.peak_memory_mib(rows) < 1024.0
    with pytest.raises(CannotMeasure, match="absent"):
        ope.peak_memory_mib(rows.parent / "absent.parquet")
