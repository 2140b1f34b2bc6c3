"""Whether a load test met its objective, from what Locust wrote at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANK = "rank"
# Timed from the moment when a call was due, and no call of its own.
FROM_DUE = "rank from due"
# Of the rate that was asked for: the first and last call of each user may fall outside.
LEAST_RATE_SHARE = 0.98


@dataclass(frozen=True, slots=True)
class Objective:
    """What must hold: no failure, the 99th percentile of rank (ms), and the rate (per second) where one was set."""

    p99_ms: float
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; ``faults`` are the parts of the objective that do not hold, in words."""

    requests: int
    failures: int
    ranks: int
    p50_ms: float
    p99_ms: float
    ranks_per_second: float
    faults: tuple[str, ...]

    @property
    def is_met(self) -> bool:
        """Whether all of the objective holds."""
        return not self.faults


class NothingAnswered(RuntimeError):
    """Locust wrote no statistics of rank."""


def judge(path: Path, objective: Objective) -> Verdict:
    """Read Locust's JSON file (its CSV files may miss the last second).

    At a constant rate it is ``rank from due`` that counts.

    Raises:
        NothingAnswered: there is no rank call in it, or no file.
    """
    if not path.exists():
        raise NothingAnswered(f"Locust wrote no {path}")
    kinds: dict[str, dict[str, Any]] = {kind["name"]: kind for kind in json.loads(path.read_text())}
    calls = [kind for name, kind in kinds.items() if name != FROM_DUE]
    requests = sum(kind["num_requests"] for kind in calls)
    failures = sum(kind["num_failures"] for kind in kinds.values())
    rank = kinds.get(RANK if objective.rate is None else FROM_DUE)
    if rank is None or not rank["num_requests"]:
        raise NothingAnswered("no rank call was answered")
    times = {float(time_ms): int(count) for time_ms, count in rank["response_times"].items()}
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    seconds = rank["last_request_timestamp"] - rank["start_time"]
    rate = rank["num_requests"] / seconds if seconds > 0.0 else 0.0
    faults = []
    if failures:
        faults.append(f"{failures} calls failed")
    if p99 > objective.p99_ms:
        faults.append(f"the 99th percentile of rank is {p99:g} ms, more than {objective.p99_ms:g} ms")
    if objective.rate is not None and rate < LEAST_RATE_SHARE * objective.rate:
        faults.append(f"{rate:.1f} rank calls per second, not {objective.rate:g}")
    return Verdict(requests, failures, rank["num_requests"], p50, p99, rate, tuple(faults))


def percentile(counts: Mapping[float, int], share: float) -> float:
    """The smallest value that at least this share of the counted values does not exceed.

    Raises:
        ValueError: nothing was counted.
    """
    wanted = share * sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted and seen:
            return value
    raise ValueError("no values were counted")
