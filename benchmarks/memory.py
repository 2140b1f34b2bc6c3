"""What is held in memory: per open decision, per cached profile, per worker, and whether it stays as it is.

The soak asks a service with a learner beside it, a different customer each time out of many, with rewards and activity
in between. After each part both come to rest and their own memory is noted; a line through that says what a decision
leaves behind. What fills bounded caches is left out: the line begins behind the warm-up.
"""

from __future__ import annotations

import gc
import json
import os
import re
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from adapters.installation import Installation
from adapters.interaction_log import position_key
from adapters.records import customer_from
from adapters.streams import applied_key, loop_stream
from benchmarks import customers, market
from benchmarks.fits import Line, line_through
from benchmarks.learn import prepare
from benchmarks.native import NativeClient
from benchmarks.open_decisions import OpenDecisions
from benchmarks.process_use import MemoryUse, memory_of
from benchmarks.processes import CannotMeasure, environment_of, free_port, running, wait_ready
from contextual_bandit import events
from contextual_bandit.joined import Open
from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.profile import decode_profile
from contextual_bandit.types import Decision
from contextual_bandit.vowpal import VowpalPolicy

DECISIONS = 200_000
# Of the soak: more than a worker's caches hold, and enough for its allocator to have seen everything.
WARM_UP = 60_000
PARTS = 20
CUSTOMERS = 50_000
# Profiles are read in so many steps of so many.
PROFILES, PROFILE_STEPS = 4_000, 5
POLICIES = 10
OPEN_SIZES = (5_000, 20_000, 40_000)
TRACED = 1_000
PART_SECONDS = 5.0
REST_SECONDS = 600.0
SAMPLED_REWARDS = 50
# Of a call of the soak: what a decision leaves behind hangs little on how many it has, how many fit into an hour does.
OFFERS = 5
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of both processes at rest, after so many decisions in all."""

    decisions: float
    service: MemoryUse
    learner: MemoryUse


def measure(
    installation: Installation,
    repetitions: int,
    seconds: float,
    say: Callable[[str], None],
    *,
    decisions: int = DECISIONS,
) -> dict[str, Any]:
    """All figures of memory.

    Args:
        installation: stores and a data folder of the benchmark's own.
        repetitions: not used; the line goes through ``PARTS`` samples or more.
        seconds: not used.
        say: called with one line per step.
        decisions: how many the soak makes, behind a warm-up of 60,000.

    Returns:
        Flat figures. Bytes per open decision are the slope of a learner's resident memory over how many it reads back,
        ``_traced`` what Python counts of one, packed and ready to use. Bytes per cached profile are the slope of a
        process's own memory over profiles that it reads. MiB per worker are after the warm-up. ``_soak_slope_`` are
        bytes per decision, each with its standard error.

    Raises:
        CannotMeasure: a process did not come up, failed or did not come to rest.
    """
    if decisions < PARTS:
        raise CannotMeasure(f"a soak of {decisions} decisions is too short: {PARTS} at least")
    known = prepare(installation)
    figures = policy_figures() | profile_figures(customers.stored(installation))
    say(f"a cached profile takes {figures['memory_bytes_per_cached_profile']:.0f} bytes")
    figures |= open_decision_figures(installation, known, say)
    bodies = installation.settings.data_dir / "bodies.jsonl"
    customers.fill(installation, 0, CUSTOMERS)
    bodies.write_text("".join(json.dumps(one) + "\n" for one in rank_bodies()))
    with ExitStack() as stack:
        soak = Soak(installation, bodies, stack)
        figures |= worker_figures(soak, say)
        figures |= soak_figures(soak.samples(decisions, say))
    return figures | {"memory_soak_decisions": decisions, "memory_load_average": round(os.getloadavg()[0], 2)}


def open_decision_figures(
    installation: Installation, known: Sequence[Decision], say: Callable[[str], None]
) -> dict[str, Any]:
    """Bytes per open decision, of the learner's process and as Python counts them."""
    filled = OpenDecisions(installation, known[-1])
    found = []
    for size in OPEN_SIZES:
        filled.fill(size)
        found.append(filled.memory().resident)
        say(f"{size:,} open decisions: the learner holds {found[-1] / MIB:.0f} MiB")
    filled.remove()
    line = line_through([float(size) for size in OPEN_SIZES], [float(one) for one in found])
    return {
        "memory_bytes_per_open_decision": round(line.slope, 1),
        "memory_bytes_per_open_decision_traced": round(traced_open(known, packed=True), 1),
        "memory_bytes_per_ready_decision_traced": round(traced_open(known, packed=False), 1),
    }


def traced_open(known: Sequence[Decision], *, packed: bool) -> float:
    """Bytes of an open decision as Python counts them."""
    messages = [events.encode(events.DECISION, one.occurred_at, events.decision_payload(one)) for one in known[:TRACED]]

    def opened() -> list[Open]:
        kept = []
        for number, message in enumerate(messages):
            # As they come: bytes of their own, and what was read from them.
            record = bytes(bytearray(message))
            event = events.decode(f"{number}-0", record)
            entry = Open(events.decision_from(event.payload), record, True, event.time, event.time, event.event_id)
            if packed:
                entry.pack()
            kept.append(entry)
        return kept

    return traced_bytes(opened)


def traced_bytes(make: Callable[[], list[Any]]) -> float:
    """Bytes of one of the things that are made, as Python counts them."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = make()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()


def rank_bodies() -> list[dict[str, Any]]:
    """One request per customer, in an order without meaning, over a few offers that are not always the same."""
    (body, *_) = market.rank_bodies()
    return [
        {
            **body,
            "customer_id": customers.customer_id(number * 7919 % CUSTOMERS),
            "candidates": [f"bench-{(number + place) % market.ACTIVE}" for place in range(OFFERS)],
        }
        for number in range(CUSTOMERS)
    ]


def policy_figures() -> dict[str, Any]:
    """MiB of one loop's policy with the product's learning setting; a worker and a learner hold one for each loop."""
    kept: list[VowpalPolicy] = []
    found = []
    try:
        for _ in range(POLICIES + 1):
            kept.append(VowpalPolicy(DEFAULT_ARGUMENTS))
            found.append(float(memory_of(os.getpid()).own))
    finally:
        for policy in kept:
            policy.close()
    line = line_through([float(number) for number in range(len(found))], found)
    return {"memory_mib_per_policy": round(line.slope / MIB, 2)}


class Soak:
    """A service with one worker and a learner, under load in parts."""

    def __init__(self, installation: Installation, bodies: Path, stack: ExitStack) -> None:
        """Start both; ``stack`` stops them."""
        self._installation = installation
        self._bodies = bodies
        self._folder = installation.settings.data_dir
        self._client = NativeClient(self._folder)
        self._port = free_port()
        words = ("serve", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1")
        environment = environment_of(installation)
        self._service = stack.enter_context(running("offerloop", *words, environment=environment)).pid
        self._learner = stack.enter_context(running("offerloop", "learn", environment=environment)).pid
        self._http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60.0))
        wait_ready(self._port)

    def decided(self) -> float:
        """Decisions that this worker has made."""
        found = re.findall(r"^offerloop_decisions_total\{.*\} (\S+)$", self._http.get("/metrics").text, re.MULTILINE)
        return sum(map(float, found))

    def run(self, seconds: float) -> None:
        """Load for some seconds with rewards and activity, and then wait for rest."""
        self._client.run(self._port, self._bodies, seconds)
        self.reward_some()
        self.rest()

    def reward_some(self) -> None:
        """What follows decisions: rewards of some, and activity of their customers."""
        requests = [json.loads(line) for line in self._bodies.read_bytes().splitlines()[:SAMPLED_REWARDS]]
        answer = self._http.post("/v1/rank/batch", json={"requests": requests}).raise_for_status().json()
        for decision in answer["decisions"]:
            self._http.post(
                "/v1/reward", json={"decision_id": decision["decision_id"], "value": 1.0}
            ).raise_for_status()
        seen = [{"customer_id": one["customer_id"], "kind": "view", "category": "soup"} for one in requests]
        self._http.post("/v1/activity", json={"activities": seen}).raise_for_status()

    def rest(self) -> None:
        """Wait until the learner has taken everything and nothing is open.

        Raises:
            CannotMeasure: it has not in time.
        """
        client, stream = self._installation.client, loop_stream("default")
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline:
            newest = cast("list[tuple[bytes, Any]]", client.xrevrange(stream, count=1))
            reached = cast("bytes | None", client.get(applied_key(stream)))
            taken = not newest or (
                reached is not None and position_key(reached.decode()) >= position_key(newest[0][0].decode())
            )
            if taken and not self._http.get("/v1/loops/default").raise_for_status().json()["status"]["open"]:
                return
            time.sleep(0.1)
        raise CannotMeasure(f"the learner did not come to rest within {REST_SECONDS:g} s")

    def sample(self) -> Sample:
        """What both hold now."""
        return Sample(self.decided(), memory_of(self._service), memory_of(self._learner))

    def warm_up(self) -> None:
        """Fill what is bounded."""
        while self.decided() < WARM_UP:
            self.run(PART_SECONDS)

    def samples(self, decisions: int, say: Callable[[str], None]) -> list[Sample]:
        """At rest after each part of so many decisions, the first before them."""
        found = [self.sample()]
        began = found[0].decisions
        while found[-1].decisions - began < decisions:
            due = began + decisions * len(found) / PARTS
            while self.decided() < due:
                self.run(PART_SECONDS)
            found.append(self.sample())
            last = found[-1]
            say(
                f"{last.decisions - began:,.0f} decisions: service {last.service.own / MIB:.1f} MiB, learner "
                f"{last.learner.own / MIB:.1f} MiB; load {os.getloadavg()[0]:.1f}"
            )
        return found


def profile_figures(stored: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Bytes of a profile with its record, read as a service reads them: as Python counts them, and of this process.

    Args:
        stored: profiles and records of customers; they are read again and again, each time anew.
    """

    def read(count: int) -> list[Any]:
        pairs = (stored[number % len(stored)] for number in range(count))
        return [(f"customer-{number}", decode_profile(state), customer_from(record)) for number, (state, record)
                in enumerate(pairs)]  # fmt: skip

    kept, counts, found = [], [], []
    for number in range(PROFILE_STEPS + 1):
        counts.append(float(number * PROFILES))
        found.append(float(memory_of(os.getpid()).own))
        kept.append(read(PROFILES))
    line = line_through(counts[1:], found[1:])
    del kept
    return {
        "memory_bytes_per_cached_profile": round(line.slope, 1),
        "memory_bytes_per_cached_profile_error": round(line.standard_error, 1),
        "memory_bytes_per_cached_profile_traced": round(traced_bytes(lambda: read(TRACED)), 1),
    }


def worker_figures(soak: Soak, say: Callable[[str], None]) -> dict[str, Any]:
    """The processes once they are warm."""
    soak.warm_up()
    warm = soak.sample()
    say(f"after the warm-up: service {warm.service.pss / MIB:.0f} MiB, learner {warm.learner.pss / MIB:.0f} MiB")
    return {
        "memory_worker_mib": round(warm.service.pss / MIB, 1),
        "memory_worker_own_mib": round(warm.service.own / MIB, 1),
        "memory_learner_mib": round(warm.learner.pss / MIB, 1),
    }


def soak_figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """The lines through what both held."""
    counts = [sample.decisions for sample in samples]
    service = line_through(counts, [float(sample.service.own) for sample in samples])
    learner = line_through(counts, [float(sample.learner.own) for sample in samples])
    last = samples[-1]
    return {
        **_slope("memory_soak_slope_bytes_per_decision", service),
        **_slope("memory_soak_learner_slope_bytes_per_decision", learner),
        "memory_soak_samples": len(samples),
        "memory_soak_worker_mib_first_last": [_mib(samples[0].service), _mib(last.service)],
        "memory_soak_learner_mib_first_last": [_mib(samples[0].learner), _mib(last.learner)],
    }


def _slope(name: str, line: Line) -> dict[str, float]:
    return {name: round(line.slope, 3), f"{name}_error": round(line.standard_error, 3)}


def _mib(use: MemoryUse) -> float:
    return round(use.own / MIB, 1)
