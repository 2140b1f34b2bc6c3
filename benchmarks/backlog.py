"""A backlog of a million decisions: how long a learner takes for it, and how much memory.

A million decisions of 20 offers are 5.6 GB on the stream, so that the shop writes them while the learner works: always
so many ahead of it that it never comes to the end before the last.
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from adapters.installation import Installation
from adapters.interaction_log import position_key
from adapters.streams import FIELD, applied_key, loop_stream
from benchmarks.process_use import processor_seconds, store_processes
from benchmarks.processes import CannotMeasure, environment_of, running
from contextual_bandit import events
from contextual_bandit.types import Decision

MILLION = 1_000_000
# Messages that wait for the learner at any time, 250 MB on the stream; and those that are written in one go.
AHEAD, AT_ONCE = 40_000, 1_000
DRAINED_WITHIN_SECONDS = 4 * 3600.0
SAID_EVERY_SECONDS = 30.0
# What takes its place in a message that is written again.
_ID = "decision-id-of-the-message"


@dataclass(frozen=True, slots=True)
class Shop:
    """Who writes the backlog.

    Attributes:
        loop: whose stream it is; its clock is simulated.
        apart: time between two decisions.
        rewarded_every: every which decision has an outcome.
        wait: time after the last decision that closes all.
    """

    loop: str
    apart: timedelta
    rewarded_every: int
    wait: timedelta


class Messages:
    """Decisions with ids and times of their own, made by cutting them into encoded ones."""

    def __init__(self, shop: Shop, known: Sequence[Decision], start: datetime) -> None:
        self._shop = shop
        self._start = start
        self._parts = [self._cut(decision) for decision in known]

    def _cut(self, decision: Decision) -> list[bytes]:
        fixed = replace(
            decision, loop=self._shop.loop, decision_id=_ID, decided_at=self._start, occurred_at=self._start
        )
        message = events.encode(events.DECISION, self._start, events.decision_payload(fixed))
        before, after = message.split(_ID.encode())
        return [*before.split(events.to_text(self._start).encode()), *after.split(events.to_text(self._start).encode())]

    def at(self, number: int) -> list[bytes]:
        """A decision by its number from 0, and its outcome where it has one."""
        now, decision_id = self._start + number * self._shop.apart, str(uuid.uuid4())
        time_text = events.to_text(now).encode()
        head, before_id, after_id, occurred, rest = self._parts[number % len(self._parts)]
        found = [
            b"".join((head, time_text, before_id, decision_id.encode(), after_id, time_text, occurred, time_text, rest))
        ]
        if number % self._shop.rewarded_every == 0:
            payload = events.outcome_payload(str(uuid.uuid4()), decision_id, "direct", 1.0, final=False)
            found.append(events.encode(events.OUTCOME, now, payload))
        return found


class Backlog:
    """Writes decisions ahead of the learner, and knows how many are behind it."""

    def __init__(self, installation: Installation, shop: Shop, messages: Messages, decisions: int) -> None:
        self._client = installation.client
        self._shop = shop
        self._stream = loop_stream(shop.loop)
        self._messages = messages
        self._decisions = decisions
        self._pieces: deque[tuple[tuple[int, int], int]] = deque()
        self.written = self.learned = 0

    @property
    def is_drained(self) -> bool:
        """Whether all of it was learned."""
        return self.learned >= self._decisions

    def write_ahead(self, end: bytes) -> bool:
        """Write a piece where too little waits; ``end`` closes the last. False when enough does."""
        if self.written - self.learned >= AHEAD or self.written >= self._decisions:
            return False
        pipeline = self._client.pipeline(transaction=False)
        reached = min(self.written + AT_ONCE, self._decisions)
        for number in range(self.written, reached):
            for message in self._messages.at(number):
                pipeline.xadd(self._stream, {FIELD: message})
        if reached == self._decisions:
            pipeline.xadd(self._stream, {FIELD: end})
        position = cast("bytes", pipeline.execute()[-1])
        self._pieces.append((position_key(position.decode()), reached))
        self.written = reached
        return True

    def look(self) -> None:
        """See how far the learner has come."""
        found = cast("bytes | None", self._client.get(applied_key(self._stream)))
        reached = position_key((found or b"0-0").decode())
        while self._pieces and self._pieces[0][0] <= reached:
            self.learned = self._pieces.popleft()[1]


def drain_million(
    installation: Installation,
    shop: Shop,
    known: Sequence[Decision],
    start: datetime,
    say: Callable[[str], None],
    decisions: int = MILLION,
) -> dict[str, Any]:
    """Time a learner from its start until it has joined, committed and learned all of a backlog.

    Args:
        installation: stores; no learner runs.
        shop: what the backlog is like.
        known: decisions that it is made of.
        start: when the first was made, in the loop's time.
        say: called with a line now and then.
        decisions: how many.

    Returns:
        Flat figures: seconds, decisions per second over all and over the last tenth, processor time per decision of the
        learner and of the stores' processes that served it, resident memory of the learner after a tenth and at most.

    Raises:
        CannotMeasure: it was not in time, or the learner ended.
    """
    backlog = Backlog(installation, shop, Messages(shop, known, start), decisions)
    end = events.encode(events.TICK, start + decisions * shop.apart + shop.wait, {})
    while backlog.write_ahead(end):
        pass
    loads, times, memory = [os.getloadavg()[0]], [(0.0, 0)], [0.0]
    stores_before = {pid: processor_seconds([pid]) for pid in store_processes(installation)}
    started = said = time.perf_counter()
    with running("offerloop", "learn", "--loop", shop.loop, environment=environment_of(installation)) as learner:
        while not backlog.is_drained:
            now = time.perf_counter() - started
            if now > DRAINED_WITHIN_SECONDS or learner.poll() is not None:
                raise CannotMeasure(f"{backlog.learned} of {decisions} decisions were learned in {now:.0f} s")
            backlog.look()
            if backlog.learned * 10 // decisions > times[-1][1] * 10 // decisions:
                times.append((now, backlog.learned))
                memory.append(_resident_mib(learner.pid, "VmRSS"))
                loads.append(os.getloadavg()[0])
            if time.perf_counter() - said > SAID_EVERY_SECONDS:
                said = time.perf_counter()
                say(f"{backlog.learned} of {decisions} learned after {now:.0f} s; load {os.getloadavg()[0]:.1f}")
            if not backlog.write_ahead(end):
                time.sleep(0.02)
        seconds = time.perf_counter() - started
        stores = store_processes(installation)
        used_by_stores = processor_seconds(stores) - sum(stores_before.get(pid, 0.0) for pid in stores)
        used_by_learner = processor_seconds([learner.pid])
        peak = _resident_mib(learner.pid, "VmHWM")
    before = times[-2] if len(times) > 2 else times[0]
    return {
        "learn_backlog_million_decisions": decisions,
        "learn_backlog_million_seconds": round(seconds, 1),
        "learn_backlog_million_per_second": round(decisions / seconds, 1),
        "learn_backlog_million_last_tenth_per_second": round((decisions - before[1]) / (seconds - before[0]), 1),
        "learn_backlog_million_learner_us": round(used_by_learner / decisions * 1e6, 1),
        "learn_backlog_million_stores_us": round(used_by_stores / decisions * 1e6, 1),
        "learn_backlog_million_rss_after_tenth_mib": memory[min(1, len(memory) - 1)],
        "learn_backlog_million_rss_peak_mib": peak,
        "learn_backlog_million_load_average": round(statistics.median(loads), 2),
    }


def _resident_mib(pid: int, name: str) -> float:
    """Resident memory of a process, now (``VmRSS``) or at most (``VmHWM``)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise CannotMeasure(f"process {pid}: {error}") from None
    return next(round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith(f"{name}:"))
