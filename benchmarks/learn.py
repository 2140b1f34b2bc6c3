"""Learning beside Vowpal Wabbit's own pass over the same events, and how soon a backlog is drained.

A stopped learner finds a backlog in the stream: decisions of 20 offers, one in ten with an outcome. It is started and
timed until all of it is joined, committed to PostgreSQL and learned. The yardstick reads the same decisions with their
rewards as a dsjson file, in turn with it in the same run; what starting it takes is measured on an empty file and taken
off, as the learner too is timed from its first finished batch on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx

from adapters.installation import Installation
from adapters.interaction_log import position_key, read_interactions
from adapters.streams import FIELD, applied_key, loop_stream
from benchmarks import market
from benchmarks.backlog import Shop, drain_million
from benchmarks.processes import CannotMeasure, free_port, learning, migrate, serving
from contextual_bandit import events
from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.types import Decision, LoggedInteraction
from contextual_bandit.vowpal import action_numbers, context_numbers

LOOP = "backlog"
DECISIONS = 40_000
REWARDED_EVERY = 10
# Of simulated time, between two decisions; their windows close while later ones open, as in any long backlog.
APART = timedelta(seconds=0.1)
WAIT_SECONDS = 60.0
LEAST_REPETITIONS = 5
GOAL, FLOOR = 0.35, 0.25
DRAINED_WITHIN_SECONDS = 600.0
PIPELINE = 500


@dataclass(frozen=True, slots=True)
class Drained:
    """One backlog: decisions per second after the first batch, and seconds from starting the learner to the end."""

    per_second: float
    seconds: float


def measure(
    installation: Installation, repetitions: int, seconds: float, say: Callable[[str], None], *, million: bool = False
) -> dict[str, Any]:
    """Decisions per second of both, in turn.

    Args:
        installation: stores and a data folder of the benchmark's own.
        repetitions: how often each side is timed; at least 5.
        seconds: not used; each side takes as long as its events take.
        say: called with one line per step.
        million: whether a learner also drains a million decisions, which takes many minutes.

    Returns:
        Flat figures, medians. ``learn_ratio`` is ours over Vowpal Wabbit's, of pairs measured one after the other;
        ``learn_backlog_seconds`` is what draining ``learn_backlog_decisions`` takes, starting the process included.
        ``learn_backlog_million_*`` as of ``drain_million``.

    Raises:
        CannotMeasure: a process did not come up, or the backlog was not drained in time.
    """
    repetitions = max(repetitions, LEAST_REPETITIONS)
    known = prepare(installation)
    start = datetime(2026, 1, 5, tzinfo=UTC)
    drained: list[Drained] = []
    native: list[float] = []
    path = installation.settings.data_dir / "events.dsjson"
    empty = installation.settings.data_dir / "empty.dsjson"
    empty.touch()
    for number in range(repetitions):
        positions = fill(installation, known, start + number * (DECISIONS * APART + timedelta(hours=1)))
        drained.append(drain(installation, positions))
        if not path.exists():
            write_lines(installation, path)
        native.append(DECISIONS / max(native_seconds(path) - native_seconds(empty), 1e-9))
        one = drained[-1]
        say(
            f"repetition {number + 1}: {one.per_second:.0f} decisions per second, natively {native[-1]:.0f}, ratio "
            f"{one.per_second / native[-1]:.3f}; backlog drained in {one.seconds:.1f} s; load {os.getloadavg()[0]:.1f}"
        )
    ratios = [ours.per_second / theirs for ours, theirs in zip(drained, native, strict=True)]
    ratio = statistics.median(ratios)
    more: dict[str, Any] = {}
    if million:
        shop = Shop(LOOP, APART, REWARDED_EVERY, timedelta(seconds=WAIT_SECONDS + 60.0))
        more = drain_million(installation, shop, known, start + timedelta(days=30), say)
    return {
        "learn_ratio": round(ratio, 4),
        "learn_ratio_min": round(min(ratios), 4),
        "learn_ratio_max": round(max(ratios), 4),
        "learn_within_floor": ratio >= FLOOR,
        "learn_within_goal": ratio >= GOAL,
        "learn_decisions_per_second": round(statistics.median(one.per_second for one in drained), 1),
        "learn_native_decisions_per_second": round(statistics.median(native), 1),
        "learn_backlog_decisions": DECISIONS,
        "learn_backlog_seconds": round(statistics.median(one.seconds for one in drained), 2),
        "learn_repetitions": repetitions,
        "learn_load_average": round(os.getloadavg()[0], 2),
        **more,
    }


def prepare(installation: Installation) -> list[Decision]:
    """Decisions as the service makes them, and a loop of their own with a clock that the backlog brings along."""
    migrate(installation)
    port = free_port()
    with serving(installation, port), learning(installation):
        market.prepare(installation, port)
        body = {
            "clock": "simulated",
            "reward": {"wait_seconds": WAIT_SECONDS},
            "export_frequency_seconds": 3600.0,
        }
        httpx.put(f"http://127.0.0.1:{port}/v1/loops/{LOOP}", json=body, timeout=60.0).raise_for_status()
    return [interaction.decision for interaction in read_interactions(installation.engine, "default")]


def fill(installation: Installation, known: Sequence[Decision], start: datetime) -> list[bytes]:
    """Put a backlog into the stream; returns the position of each decision, and of what closes the last one."""
    messages: list[tuple[bool, bytes]] = []
    now = start
    for number in range(DECISIONS):
        now += APART
        decision_id = str(uuid.uuid4())
        decision = replace(
            known[number % len(known)], loop=LOOP, decision_id=decision_id, decided_at=now, occurred_at=now
        )
        messages.append((True, events.encode(events.DECISION, now, events.decision_payload(decision))))
        if number % REWARDED_EVERY == 0:
            payload = events.outcome_payload(str(uuid.uuid4()), decision_id, "direct", 1.0, final=False)
            messages.append((False, events.encode(events.OUTCOME, now, payload)))
    messages.append((True, events.encode(events.TICK, now + timedelta(seconds=WAIT_SECONDS + 60.0), {})))
    positions: list[bytes] = []
    for first in range(0, len(messages), PIPELINE):
        pipeline = installation.client.pipeline(transaction=False)
        for _, message in messages[first : first + PIPELINE]:
            pipeline.xadd(loop_stream(LOOP), {FIELD: message})
        positions += pipeline.execute()
    return [position for (counts, _), position in zip(messages, positions, strict=True) if counts]


def drain(installation: Installation, positions: Sequence[bytes]) -> Drained:
    """Start a learner and time it until the last position is behind it.

    Raises:
        CannotMeasure: it was not in time.
    """
    keys = [position_key(position.decode()) for position in positions]
    started = time.perf_counter()
    first: tuple[float, int] | None = None
    with learning(installation):
        while time.perf_counter() - started < DRAINED_WITHIN_SECONDS:
            found = cast("bytes | None", installation.client.get(applied_key(loop_stream(LOOP))))
            now, reached = time.perf_counter(), position_key((found or b"0-0").decode())
            done = sum(key <= reached for key in keys) if first is None else 0
            if first is None and done:
                first = now, done
            if first is not None and reached >= keys[-1]:
                if first[1] >= len(keys):
                    raise CannotMeasure("the backlog was drained in one batch")
                return Drained((len(keys) - first[1]) / (now - first[0]), now - started)
            time.sleep(0.005)
    raise CannotMeasure(f"{len(positions)} decisions were not learned within {DRAINED_WITHIN_SECONDS:g} s")


def write_lines(installation: Installation, path: Path) -> None:
    """The learned decisions with their rewards, as Vowpal Wabbit reads them."""
    with path.open("w") as out:
        for interaction in read_interactions(installation.engine, LOOP, learnable=True, limit=DECISIONS):
            out.write(json.dumps(line_of(interaction)) + "\n")


def line_of(interaction: LoggedInteraction) -> dict[str, Any]:
    """One decision; Vowpal Wabbit learns nothing, silently, when the label stands behind the features."""
    decision = interaction.decision
    slot = decision.slots[0]
    served = slot.distribution.served if slot.distribution else ()
    return {
        "_label_cost": -interaction.reward,
        "_label_probability": slot.propensity,
        "_label_Action": slot.chosen + 1,
        "_labelIndex": slot.chosen,
        "a": [index + 1 for index in range(len(served))],
        "c": {**context_numbers(decision.context), "_multi": [action_numbers(action) for action in decision.actions]},
        "p": list(served),
    }


def native_seconds(path: Path) -> float:
    """One pass of Vowpal Wabbit itself over a file, by its command line, starting it included.

    Raises:
        CannotMeasure: it failed.
    """
    words = [sys.executable, "-m", "vowpalwabbit", *DEFAULT_ARGUMENTS.split(), "--quiet", "--dsjson", "-d", str(path)]
    started = time.perf_counter()
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(f"vw ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - started
