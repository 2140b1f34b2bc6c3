"""The whole rank call beside an empty endpoint: throughput, throughput while the learner runs, p99, and two workers.

The service has private stores of its own, 40 catalogue offers of which 20 are active and carry ten rules each, a
trained policy, and customers with history, demographics and a region with weather. Service and empty endpoint take
turns with the same native client and the same bodies, so that a change of the machine's speed reaches both.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.installation import Installation
from benchmarks import market
from benchmarks.native import CONNECTIONS, NativeClient, Throughput, with_wrk
from benchmarks.processes import free_port, learning, migrate, running, serving, wait_ready

LEAST_PAIRS = 5
WARM_UP_SECONDS = 1.0
# Of the service's own largest throughput: the rate at which latencies are compared.
P99_LOAD = 0.6
LEAST_RATIO = 0.5
MOST_P99_RATIO = 3.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of both sides, measured one right after the other."""

    service: float
    empty: float

    @property
    def ratio(self) -> float:
        """The service's over the empty endpoint's."""
        return self.service / self.empty


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share."""

    client: NativeClient
    throughput: Throughput
    bodies: Path
    pairs: int
    seconds: float
    say: Callable[[str], None]

    def throughputs(self, name: str, service: int, empty: int) -> list[Pair]:
        """Requests per second of two ports in turn."""
        for port in (service, empty):
            self.throughput(port, self.bodies, WARM_UP_SECONDS)
        return [
            self._pair(name, number, lambda port: self.throughput(port, self.bodies, self.seconds), service, empty)
            for number in range(self.pairs)
        ]

    def latencies(self, service: int, empty: int, rate: float, *, warm: bool) -> list[Pair]:
        """Milliseconds that one of a hundred requests exceeds, at the same constant rate, in turn.

        While the other has its turn the service is not asked, and what it kept of customers grows too old. Where it is
        ``warm``, each was asked at the same rate right before.
        """

        def p99_ms(port: int) -> float:
            if warm:
                self.client.run(port, self.bodies, WARM_UP_SECONDS, rate)
            return self.client.run(port, self.bodies, self.seconds, rate).p99_ms

        name = f"p99 at {rate:.0f} per second{', warm' if warm else ''}"
        return [self._pair(name, number, p99_ms, service, empty) for number in range(self.pairs)]

    def _pair(self, name: str, number: int, one: Callable[[int], float], service: int, empty: int) -> Pair:
        pair = Pair(one(service), one(empty))
        load = os.getloadavg()[0]
        self.say(f"{name}, {number + 1}: {pair.service:.1f} / {pair.empty:.1f} = {pair.ratio:.3f}; load {load:.1f}")
        return pair


def measure(installation: Installation, pairs: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """All figures of rank.

    Args:
        installation: stores and a data folder of the benchmark's own.
        pairs: how many A B pairs per figure; at least 5.
        seconds: length of each of their runs.
        say: called with one line per step.

    Returns:
        Flat figures; those called ratio are medians of the paired ratios, the others medians. ``load_average`` is of
        the last minute, before and after.

    Raises:
        CannotMeasure: a process did not come up, or a request failed.
    """
    folder = installation.settings.data_dir
    bodies = folder / "bodies.jsonl"
    bodies.write_text("".join(json.dumps(body) + "\n" for body in market.rank_bodies()))
    client = NativeClient(folder)
    has_wrk = shutil.which("wrk") is not None
    throughput = with_wrk if has_wrk else client.throughput
    bench = Bench(client, throughput, bodies, max(pairs, LEAST_PAIRS), seconds, say)
    before = os.getloadavg()[0]
    migrate(installation)
    figures = _one_worker(installation, bench) | _two_workers(installation, bench)
    one, two = figures["rank_workers_1"], figures["rank_workers_2"]
    return figures | {
        "rank_workers_gain": round(two / one, 4),
        "rank_within_bars": figures["rank_throughput_ratio"] >= LEAST_RATIO
        and figures["rank_p99_ratio"] <= MOST_P99_RATIO,
        "rank_pairs": bench.pairs,
        "rank_seconds_per_run": seconds,
        "rank_client": "wrk" if has_wrk else "benchmarks/client.c",
        "rank_connections": CONNECTIONS,
        "rank_load_average": [round(before, 2), round(os.getloadavg()[0], 2)],
    }


def _one_worker(installation: Installation, bench: Bench) -> dict[str, Any]:
    with ExitStack() as stack:
        service, empty = free_port(), free_port()
        stack.enter_context(serving(installation, service))
        with learning(installation):
            market.prepare(installation, service)
        stack.enter_context(running("benchmarks.empty_endpoint", "--port", str(empty)))
        wait_ready(empty)
        bench.say("service and empty endpoint are up")
        alone = bench.throughputs("requests per second", service, empty)
        largest = statistics.median(pair.service for pair in alone)
        delays = bench.latencies(service, empty, P99_LOAD * largest, warm=False)
        warm = bench.latencies(service, empty, P99_LOAD * largest, warm=True)
        with learning(installation):
            busy = bench.throughputs("requests per second, learner running", service, empty)
    return {
        **_ratio("rank_throughput_ratio", alone),
        **_ratio("rank_throughput_ratio_learner_running", busy),
        **_ratio("rank_p99_ratio", delays),
        **_ratio("rank_p99_ratio_warm", warm),
        "rank_workers_1": round(largest, 1),
        "empty_workers_1": round(statistics.median(pair.empty for pair in alone), 1),
        "rank_p99_ms": round(statistics.median(pair.service for pair in delays), 3),
        "empty_p99_ms": round(statistics.median(pair.empty for pair in delays), 3),
        "rank_p99_ms_warm": round(statistics.median(pair.service for pair in warm), 3),
        "rank_p99_rate": round(P99_LOAD * largest, 1),
    }


def _two_workers(installation: Installation, bench: Bench) -> dict[str, Any]:
    with ExitStack() as stack:
        service, empty = free_port(), free_port()
        stack.enter_context(serving(installation, service, workers=2))
        stack.enter_context(running("benchmarks.empty_endpoint", "--port", str(empty), "--workers", "2"))
        wait_ready(empty)
        found = bench.throughputs("requests per second, two workers", service, empty)
    return {
        **_ratio("rank_throughput_ratio_workers_2", found),
        "rank_workers_2": round(statistics.median(pair.service for pair in found), 1),
        "empty_workers_2": round(statistics.median(pair.empty for pair in found), 1),
    }


def _ratio(name: str, pairs: list[Pair]) -> dict[str, float]:
    ratios = [pair.ratio for pair in pairs]
    return {
        name: round(statistics.median(ratios), 4),
        f"{name}_min": round(min(ratios), 4),
        f"{name}_max": round(max(ratios), 4),
    }
