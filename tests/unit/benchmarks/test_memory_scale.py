"""Lines through made-up points, and the figures that memory and scale make of samples."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import memory, scale, scale_charts
from benchmarks.fits import exponent, line_through
from benchmarks.open_decisions import with_offers
from benchmarks.process_use import MemoryUse, Pace, memory_of, processor_seconds
from benchmarks.processes import CannotMeasure
from contextual_bandit.profile import Profile
from contextual_bandit.types import Action, Decision

MIB = 2**20
NAN = pytest.approx(math.nan, nan_ok=True)


def test_a_line_has_the_slope_and_error_of_least_squares() -> None:
    line = line_through([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0])
    assert (line.slope, line.intercept, line.standard_error) == (2.0, 1.0, 0.0)
    # Residuals -1, 2, -1 over a spread of 2: the error is sqrt(6 / 1 / 2).
    line = line_through([0.0, 1.0, 2.0], [0.0, 3.0, 0.0])
    assert line.slope == pytest.approx(0.0, abs=1e-12)
    assert line.standard_error == pytest.approx(math.sqrt(3.0))


def test_a_line_through_two_points_has_no_error() -> None:
    line = line_through([1.0, 2.0], [5.0, 4.0])
    assert line.slope == -1.0
    assert math.isnan(line.standard_error)


def test_a_line_needs_two_places_and_a_finding_for_each() -> None:
    with pytest.raises(ValueError, match="two different places"):
        line_through([3.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="2 places and 1 findings"):
        line_through([1.0, 2.0], [1.0])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_the_power(power: float) -> None:
    sizes = [10.0, 100.0, 1000.0]
    fit = exponent(sizes, [7.0 * size**power for size in sizes])
    assert fit.slope == pytest.approx(power, abs=1e-12)
    assert math.exp(fit.intercept) == pytest.approx(7.0)


def test_what_is_fixed_in_a_cost_makes_its_exponent_smaller() -> None:
    sizes = [10.0, 100.0, 1000.0]
    assert 0.0 < exponent(sizes, [500.0 + size for size in sizes]).slope < 0.5


def test_sizes_and_costs_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match=r"got 0\.0"):
        exponent([1.0, 10.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="got nan"):
        exponent([1.0, 10.0], [1.0, math.nan])


def sample(decisions: float, service: float, learner: float) -> memory.Sample:
    """Memory in bytes of their own."""
    return memory.Sample(decisions, MemoryUse(0, 0, int(service)), MemoryUse(0, 0, int(learner)))


def test_the_soak_finds_what_a_decision_leaves_behind() -> None:
    noise = (0, 4000, -4000, 0)
    samples = [
        sample(1000.0 * number, 100 * MIB + 3000.0 * number + noise[number % 4], 50 * MIB) for number in range(20)
    ]
    found = memory.soak_figures(samples)
    slope, error = (found[f"memory_soak_slope_bytes_per_decision{end}"] for end in ("", "_error"))
    assert abs(slope - 3.0) < 3.0 * error
    assert 0.0 < error < 0.5
    assert found["memory_soak_learner_slope_bytes_per_decision"] == 0.0
    assert found["memory_soak_learner_slope_bytes_per_decision_error"] == 0.0
    assert found["memory_soak_samples"] == 20
    assert found["memory_soak_learner_mib_first_last"] == [50.0, 50.0]


def test_a_soak_that_is_too_short_is_refused() -> None:
    with pytest.raises(CannotMeasure, match="a soak of 3 decisions"):
        memory.measure(None, 5, 3.0, print, decisions=3)  # type: ignore[arg-type]


def test_a_packed_decision_is_smaller_than_one_that_is_ready(make_decision: Callable[..., Decision]) -> None:
    actions = tuple(Action(f"offer-{n}", {"category": "toys", "price": n / 7}, {"r4": n / 3}, 1) for n in range(20))
    known = [with_offers(make_decision(f"d{number}", actions=actions), 20) for number in range(200)]
    assert 0.0 < 4.0 * memory.traced_open(known, packed=True) < memory.traced_open(known, packed=False)


def test_memory_that_python_traces_is_counted_for_each_thing() -> None:
    found = memory.traced_bytes(lambda: [bytearray(10_000) for _ in range(100)])
    assert 10_000 < found < 11_000


def in_a_process_of_its_own(expression: str) -> dict[str, float]:
    """What was freed before is used again, and would not be counted."""
    program = f"import json; from benchmarks import memory; print(json.dumps({expression}))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(ended.stdout)


def test_a_profile_takes_what_it_takes_however_it_is_counted() -> None:
    stored = [(Profile().encode(), b'{"demographics": {"likes": "garden"}}')]
    found = in_a_process_of_its_own(f"memory.profile_figures({stored!r})")
    traced = found["memory_bytes_per_cached_profile_traced"]
    assert 300.0 < traced < 5000.0
    assert 0.3 * traced < found["memory_bytes_per_cached_profile"] < 3.0 * traced


def test_a_policy_takes_some_megabytes() -> None:
    assert 1.0 < in_a_process_of_its_own("memory.policy_figures()")["memory_mib_per_policy"] < 50.0


def test_figures_of_a_curve_have_its_exponents_and_points() -> None:
    curve = scale.Curve((10, 100), {"learner": (50.0, 500.0), "stores": (20.0, 20.0)}, (1.0, 1.234))
    assert curve.figures("open_decisions") == {
        "scale_open_decisions_sizes": [10, 100],
        "scale_open_decisions_slowness": [1.0, 1.23],
        "scale_exponent_open_decisions": 1.0,
        "scale_exponent_open_decisions_error": NAN,
        "scale_open_decisions_learner_us": [50.0, 500.0],
        "scale_exponent_open_decisions_stores": 0.0,
        "scale_exponent_open_decisions_stores_error": NAN,
        "scale_open_decisions_stores_us": [20.0, 20.0],
    }


def test_costs_are_at_the_first_pace_of_the_machine() -> None:
    class Slower(Pace):
        """Takes turns: as at first, and twice as slow."""

        def __init__(self) -> None:
            self.at = iter((1.0, 1.0, 2.0, 2.0, 1.0, 3.0))

        def slowness(self) -> float:
            return next(self.at)

    runs = scale.Runs(Slower())
    for cost in (100.0, 200.0, 220.0):
        runs.add(10, partial(dict, plain=cost))
    curve = runs.curve()
    assert curve.sizes == (10,)
    assert curve.costs == {"plain": (100.0,)}
    assert curve.slowness == (2.0,)
    assert "plain 100 us; slowness 2.00" in runs.told(10)


def test_the_pace_of_a_machine_is_about_what_it_was() -> None:
    assert 0.2 < Pace().slowness() < 5.0


def test_the_figures_of_scale_are_flat_and_have_charts_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = (100.0, 110.0, 120.0)
    for name, lines in (("offers", ("plain", "large")), ("customers", ("first", "again")), ("open", ("learner",))):
        curve = scale.Curve((10, 100, 1000), dict.fromkeys(lines, costs), (1.0,) * 3)
        monkeypatch.setattr(scale, f"{name}_curve", lambda *given, found=curve: found)
    for name in ("prepare", "Worker", "OpenDecisions", "with_offers"):
        monkeypatch.setattr(scale, name, lambda *given: [None])
    saved: list[Path] = []
    monkeypatch.setattr(scale_charts, "save", lambda name, sizes, found, path: saved.append(path))
    installation = SimpleNamespace(settings=SimpleNamespace(data_dir=tmp_path / "installation"))
    found = scale.measure(installation, 1, 3.0, print)  # type: ignore[arg-type]
    assert saved == [tmp_path / f"scale_{name}.png" for name in ("offers", "customers", "open_decisions")]
    for name in ("offers", "customers", "open_decisions"):
        assert found[f"scale_exponent_{name}"] == pytest.approx(0.0396, abs=1e-3)
    assert found["scale_within_bars"]
    assert found["scale_repetitions"] == 3
    assert found["scale_offers_us_fixed"] == pytest.approx(104.0, abs=5.0)


def test_what_one_more_costs_is_told_from_what_is_fixed() -> None:
    curve = scale.Curve((10, 100, 1000), {"plain": (520.0, 700.0, 2500.0)}, (1.0,) * 3)
    assert curve.per_thing("offers") == {"scale_offers_us_each": 2.0, "scale_offers_us_fixed": 500.0}


@pytest.mark.parametrize(
    ("name", "lines"),
    [("offers", ("plain", "large")), ("customers", ("first", "again", "stores_first", "stores_again")),
     ("open_decisions", ("learner", "stores"))],
)  # fmt: skip
def test_every_curve_has_a_chart(name: str, lines: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    scale_charts.save(name, (10, 100, 1000), dict.fromkeys(lines, (5.0, 6.0, 40.0)), path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_use_of_a_process_is_read_from_the_kernel() -> None:
    use = memory_of(os.getpid())
    assert 10 * MIB < use.own <= use.pss <= use.resident
    before = processor_seconds([os.getpid()])
    while processor_seconds([os.getpid()]) == before:
        sum(range(10_000))
    with pytest.raises(CannotMeasure, match="process 0"):
        processor_seconds([0])
