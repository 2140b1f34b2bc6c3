"""Off-policy evaluation of ten million rows of Parquet: how fast, beside which yardsticks, and in how much memory.

Ours reads the file as any log, checks every row, and gives IPS, SNIPS and DR with standard errors and intervals of
1,000 bootstrap replicates. The yardsticks, in turn with it in the same run:

- ``vw-estimators``, its loop over single events: IPS, SNIPS and the one interval that it offers for any reward
  (Cressie-Read; it has neither DR nor a bootstrap). It gets a part of the rows, as all of them would take minutes.
- a bare numpy pass: the same columns read whole, the three estimates with standard errors, no checks, no bootstrap.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from adapters.installation import Installation
from benchmarks.processes import CannotMeasure
from evaluation.arrow import pa, pq
from evaluation.bootstrap import PoissonBootstrap, estimator_interval
from evaluation.estimators import ESTIMATORS, columns_of
from evaluation.logs import open_log
from evaluation.ratio_sums import RatioSums
from evaluation.terms import Terms

ROWS = 10_000_000
ROW_GROUP = 1_000_000
SCHEMA = pa.schema([
    ("event_id", pa.string()),
    ("ts", pa.timestamp("us", "UTC")),
    ("propensity", pa.float64()),
    ("reward", pa.float64()),
    ("target_prob", pa.float64()),
    ("q_chosen", pa.float64()),
    ("q_target", pa.float64()),
])  # fmt: skip
KEYS = ("ips", "snips", "dr")
REPLICATES = 1000
# How many events the loop over single events gets.
LOOPED = 500_000
LEAST_FASTER = 20.0
MOST_SLOWER = 5.0
MOST_MEMORY_MIB = 1024.0
LEAST_REPETITIONS = 5
STARTED_AT_US = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """An estimate: value, standard error, and the ends of its interval (nan where there is none)."""

    value: float
    standard_error: float
    low: float = math.nan
    high: float = math.nan


Results: TypeAlias = dict[str, Found]


def measure(installation: Installation, repetitions: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Median time of each side, in turn, and the peak memory of ours in a process of its own.

    Args:
        installation: its data folder takes the file; its stores are not used.
        repetitions: how often each side is timed; at least 5.
        seconds: not used; each side takes as long as it takes.
        say: called with one line per step.

    Returns:
        Flat figures. ``ope_vs_vw_estimators``: how many times faster ours is per event. ``ope_vs_numpy``: how many
        times slower ours is. ``ope_peak_memory_mib``. ``ope_within_bars``: at least 20, at most 5, below 1,024.

    Raises:
        CannotMeasure: vw-estimators is not there, or the sides disagree.
    """
    loop = vw_loop()
    path = installation.settings.data_dir / "ope.parquet"
    write_rows(path, ROWS)
    say(f"wrote {ROWS:,} rows of Parquet, {path.stat().st_size / 2**20:.0f} MiB")
    memory = peak_memory_mib(path)
    say(f"ours takes {memory:.0f} MiB at most, in a process of its own")
    check(path, loop)
    times: dict[str, list[float]] = {"ours": [], "numpy": [], "vw": []}
    for number in range(max(repetitions, LEAST_REPETITIONS)):
        times["ours"].append(timed(lambda: streamed(path)) / ROWS)
        times["numpy"].append(timed(lambda: bare(path)) / ROWS)
        times["vw"].append(timed(lambda: loop(first_events(path, LOOPED))) / LOOPED)
        last = ", ".join(f"{side} {1e6 * one[-1]:.3f}" for side, one in times.items())
        say(f"repetition {number + 1}: microseconds per event: {last}; load {os.getloadavg()[0]:.1f}")
    return figures(times, memory)


def figures(times: dict[str, list[float]], memory: float) -> dict[str, Any]:
    """Ratios of medians, from seconds per event by side and MiB."""
    medians = {side: statistics.median(one) for side, one in times.items()}
    faster, slower = medians["vw"] / medians["ours"], medians["ours"] / medians["numpy"]
    return {
        "ope_vs_vw_estimators": round(faster, 2),
        "ope_vs_numpy": round(slower, 3),
        "ope_peak_memory_mib": round(memory, 1),
        "ope_within_bars": faster >= LEAST_FASTER and slower <= MOST_SLOWER and memory < MOST_MEMORY_MIB,
        "ope_seconds": round(medians["ours"] * ROWS, 3),
        "ope_numpy_seconds": round(medians["numpy"] * ROWS, 3),
        "ope_vw_estimators_us_per_event": round(1e6 * medians["vw"], 3),
        "ope_vw_estimators_events": LOOPED,
        "ope_rows": ROWS,
        "ope_replicates": REPLICATES,
        "ope_repetitions": len(times["ours"]),
    }


def timed(run: Callable[[], object]) -> float:
    """Seconds by the clock."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def write_rows(path: Path, rows: int, seed: int = 1) -> None:
    """Write a log of so many rows that keeps what estimators need: weights up to 20, rewards of 0 and 1."""
    generator = np.random.default_rng(seed)
    with pq.ParquetWriter(path, SCHEMA, use_dictionary=["reward"]) as writer:
        for start in range(0, rows, ROW_GROUP):
            n = min(ROW_GROUP, rows - start)
            propensity, q = 0.05 + 0.95 * generator.random(n), 0.1 * generator.random(n)
            columns = [
                pa.array(np.char.mod("%016x", generator.integers(0, 2**62, n))),
                pa.array(STARTED_AT_US + 1000 * np.arange(start, start + n), pa.timestamp("us", "UTC")),
                propensity,
                (generator.random(n) < q).astype(np.float64),
                # Of mean weight 1: as likely as it was logged, give or take.
                np.minimum(1.0, 2.0 * propensity * generator.random(n)),
                q,
                0.1 * generator.random(n),
            ]
            writer.write_table(pa.table(columns, schema=SCHEMA))


def streamed(path: Path) -> Results:
    """Ours: any log in one pass and bounded memory."""
    columns = columns_of(KEYS)
    sums, bootstrap = RatioSums.empty(columns), PoissonBootstrap.empty(len(columns.names))
    for chunk in open_log(path).chunks():
        numbers = chunk.columns
        terms = Terms.of(
            chunk.reward,
            chunk.propensity,
            numbers["target_prob"][chunk.chosen],
            numbers["q_chosen"],
            numbers["q_target"],
            chunk.hashes,
        )
        table = columns.table(terms)
        sums += RatioSums.of(columns, table)
        bootstrap += PoissonBootstrap.of(chunk.hashes, *table)
    drawn = bootstrap.replicates(REPLICATES)
    found = {}
    for key in KEYS:
        estimator = ESTIMATORS[key]
        point = estimator(sums).point
        interval = estimator_interval(columns, drawn, estimator.ratios)
        found[key] = Found(point.value, point.standard_error, *interval)
    return found


def bare(path: Path) -> Results:
    """The yardstick of the fast: what anybody writes with numpy, all rows in memory."""
    table = pq.read_table(path, columns=SCHEMA.names)
    propensity, reward, target, q_chosen, q_target = (table[name].to_numpy() for name in SCHEMA.names[2:])
    weight = target / propensity
    weighted = weight * reward
    value = weighted.sum() / weight.sum()
    robust = q_target + weight * (reward - q_chosen)
    return {
        "ips": Found(float(weighted.mean()), _error(weighted)),
        "snips": Found(float(value), _error(weight * (reward - value)) / float(weight.mean())),
        "dr": Found(float(robust.mean()), _error(robust)),
    }


def _error(terms: Any) -> float:
    return float(terms.std(ddof=1)) / math.sqrt(len(terms))


Event: TypeAlias = tuple[float, float, float]


def first_events(path: Path, most: int) -> list[Event]:
    """Propensity, reward and target probability of the first events, as Python numbers."""
    batch = next(pq.ParquetFile(path).iter_batches(most, columns=["propensity", "reward", "target_prob"]))
    return list(zip(*(batch[name].to_pylist() for name in ("propensity", "reward", "target_prob")), strict=True))


def vw_loop() -> Callable[[Sequence[Event]], tuple[float, float]]:
    """The yardstick of the slow: vw-estimators, event by event; gives its IPS and SNIPS.

    Raises:
        CannotMeasure: it is not installed.
    """
    try:
        ips = importlib.import_module("estimators.bandits.ips")
        snips = importlib.import_module("estimators.bandits.snips")
        cressieread = importlib.import_module("estimators.bandits.cressieread")
    except ImportError:
        raise CannotMeasure("vw-estimators is not installed: it is in the extra offerloop[bench]") from None

    def run(events: Sequence[Event]) -> tuple[float, float]:
        plain, normalised, interval = ips.Estimator(), snips.Estimator(), cressieread.Interval()
        for propensity, reward, target in events:
            plain.add_example(propensity, reward, target)
            normalised.add_example(propensity, reward, target)
            interval.add_example(propensity, reward, target)
        interval.get(0.05)
        return float(plain.get()), float(normalised.get())

    return run


def check(path: Path, loop: Callable[[Sequence[Event]], tuple[float, float]]) -> None:
    """That all sides compute the same.

    Raises:
        CannotMeasure: they do not.
    """
    ours, theirs = streamed(path), bare(path)
    for key in KEYS:
        for what in ("value", "standard_error"):
            one, other = getattr(ours[key], what), getattr(theirs[key], what)
            if not math.isclose(one, other, rel_tol=1e-9):
                raise CannotMeasure(f"{what} of {key} is {one} by ours and {other} by numpy")
        if not ours[key].low < ours[key].value < ours[key].high:
            raise CannotMeasure(f"the interval of {key} does not hold its value: {ours[key]}")
    events = first_events(path, LOOPED)
    columns = np.array(events)
    weight = columns[:, 2] / columns[:, 0]
    expected = (float((weight * columns[:, 1]).mean()), float((weight * columns[:, 1]).sum() / weight.sum()))
    if not np.allclose(loop(events), expected, rtol=1e-9):
        raise CannotMeasure(f"vw-estimators gives {loop(events)}, not {expected}")


def peak_memory_mib(path: Path) -> float:
    """The peak resident memory of ours over a file, in a process that does nothing else.

    Raises:
        CannotMeasure: the process failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ope", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CannotMeasure(f"the process that measures memory failed: {done.stderr[-500:]}")
    return float(json.loads(done.stdout)["peak_memory_mib"])


def own_peak_mib() -> float:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says may be the peak of the process that started this one: it outlives exec.
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM:"))
        return float(line.split()[1]) / 1024.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024.0


if __name__ == "__main__":
    streamed(Path(sys.argv[1]))
    print(json.dumps({"peak_memory_mib": own_peak_mib()}))
