"""The simulated market as a user runs it, small, on an installation that it starts and stops itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = ("--customers", "30", "--days", "2", "--rate", "120", "--seed", "3", "--no-ablation")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulate")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OFFERLOOP_")}
    ended = subprocess.run(
        [sys.executable, "-m", "offerloop", "simulate", *ARGUMENTS, "--out", str(folder)],
        env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def found(out: Path) -> dict[str, Any]:
    return json.loads((out / "simulate.json").read_text())


def test_every_decision_that_was_seen_is_one_interaction(found: dict[str, Any]) -> None:
    (loop,) = found["loops"]
    assert loop["decisions"] > 100
    assert loop["interactions"] == loop["seen"] > 50
    assert (loop["lost"], loop["open"], loop["duplicated"]) == (0, 0, 0)
    assert found["sent"]["never_seen"] > 0
    assert found["sent"]["repeated_ranks"] > 0


def test_nothing_is_worth_more_than_the_optimum_and_regret_is_what_is_missing(found: dict[str, Any]) -> None:
    values = {name: one["all"] for name, one in found["value"].items()}
    best = values.pop("optimal")
    assert set(values) == {"served", "campaign_manager", "best_fixed_offer", "uniform"}
    assert all(0.0 <= value < best for value in values.values())
    assert found["regret_per_decision"] == pytest.approx(best - values["served"], abs=1e-4)


def test_charts_are_written_and_the_assumed_is_named(out: Path, found: dict[str, Any]) -> None:
    assert (out / "simulate.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "simulate.html").read_text()
    assert "weather effects" in found["assumed"]
    assert "assumed" in page
