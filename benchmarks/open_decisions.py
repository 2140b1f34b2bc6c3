"""A loop with any number of open decisions, as a learner finds it, and what one more decision costs it then.

Decisions are written to PostgreSQL in bulk, as the learner itself would have left them: a start reads them back. What
is sent afterwards opens one decision a step of stream time and closes the oldest, so that as many stay open.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

from adapters.catalogue import LoopStore
from adapters.installation import Installation
from adapters.interaction_log import position_key
from adapters.streams import FIELD, applied_key, loop_stream
from benchmarks.process_use import MemoryUse, memory_of, processor_seconds, store_processes
from benchmarks.processes import CannotMeasure, environment_of, running
from contextual_bandit import events
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.types import Decision, Distribution

LOOP = "open"
APART = timedelta(seconds=0.01)
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
PIPELINE = 500
WITHIN_SECONDS = 1200.0
PLACE = "the-id-of-this-decision"
# What the learner writes of a decision that it opens, for many at once. Ids look like those of the service.
FILL = (
    """
    CREATE TEMP TABLE made ON COMMIT DROP AS
    SELECT k, md5('open' || k)::uuid::text AS id
    FROM generate_series(CAST(%(first)s AS bigint), CAST(%(last)s AS bigint)) AS k
    """,
    """
    INSERT INTO decision_keys (loop, decision_id, request_hash, decided_at)
    SELECT %(loop)s, id, %(hash)s, %(at)s FROM made
    """,
    """
    INSERT INTO decisions
        (loop, decision_id, decided_at, customer_id, offer_id, propensity, policy_id, snapshot_id, use, position,
        record)
    SELECT %(loop)s, id, %(at)s, %(customer_id)s, %(offer_id)s, %(propensity)s, %(policy_id)s, %(snapshot_id)s, 'learn',
        '1-' || k, convert_to(replace(%(record)s, %(place)s, id), 'UTF8')
    FROM made
    """,
    """
    INSERT INTO open_decisions (loop, decision_id, active, decided_at, closes_at, position)
    SELECT %(loop)s, id, true, %(at)s,
        CAST(%(closes_from)s AS timestamptz) + (k - %(first)s) * CAST(%(apart)s AS interval), '1-' || k
    FROM made
    """,
)


def with_offers(decision: Decision, offers: int) -> Decision:
    """A decision among its first few offers alone, the first of them chosen."""
    slot = decision.slots[0]
    even = (1.0 / offers,) * offers
    return replace(
        decision,
        actions=decision.actions[:offers],
        removed=(),
        slots=(replace(slot, chosen=0, distribution=Distribution(even, even), propensity=even[0]),),
    )


class OpenDecisions:
    """The loop, and how far it is filled. No learner may run but those of ``learner``."""

    def __init__(self, installation: Installation, decision: Decision) -> None:
        """Make the loop, whose decisions are all like the given one."""
        self._installation = installation
        self._decision = replace(decision, loop=LOOP, took_units=0, customer_id="bench-open")
        self._now = START
        self._closes_next = START
        self._made = 0
        self.open = 0
        self._wait(1.0)
        with self.learner():
            # The first decision makes the day's tables; the tick closes it.
            self.send(1)
            self._now += timedelta(seconds=10.0)
            self._send([events.encode(events.TICK, self._now, {})])
        self._closes_next = self._now

    def fill(self, count: int) -> None:
        """Open decisions until so many are; to be called while no learner runs."""
        new, decision = count - self.open, self._decision
        at = self._now
        record = events.encode(events.DECISION, at, events.decision_payload(replace(decision, decision_id=PLACE)))
        values = {
            "first": self._made + 1, "last": self._made + new, "loop": LOOP, "hash": decision.request_hash, "at": at,
            "customer_id": decision.customer_id, "offer_id": decision.chosen.offer_id, "place": PLACE,
            "propensity": decision.slots[0].propensity, "policy_id": decision.policy_id, "apart": APART,
            "snapshot_id": decision.snapshot_id, "closes_from": self._closes_next, "record": record.decode(),
        }  # fmt: skip
        with self._installation.engine.begin() as connection:
            for statement in FILL:
                connection.exec_driver_sql(statement, values)
        with self._installation.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE decision_keys, decisions, open_decisions")
        self._made += new
        self.open = count
        self._closes_next += new * APART
        # What is sent from now on closes behind what is open.
        self._wait((self._closes_next - self._now).total_seconds())

    @contextmanager
    def learner(self) -> Iterator[int]:
        """A learner that has taken the loop over; gives its process id."""
        installation = self._installation
        installation.client.delete(applied_key(loop_stream(LOOP)))
        with running("offerloop", "learn", environment=environment_of(installation)) as process:
            # A tick is committed when what is open has been read back.
            self._send([events.encode(events.TICK, self._now, {})])
            yield process.pid

    def send(self, count: int) -> None:
        """Decide so often, a step of stream time apart, and wait until the learner has committed and learned it all."""
        messages = []
        for _ in range(count):
            self._now += APART
            decision = replace(
                self._decision, decision_id=str(uuid.uuid4()), decided_at=self._now, occurred_at=self._now
            )
            messages.append(events.encode(events.DECISION, self._now, events.decision_payload(decision)))
        self._send(messages)
        self._closes_next += count * APART

    def cost(self, pid: int, count: int) -> dict[str, float]:
        """Processor microseconds per decision while a learner takes so many: its own, and those of its stores."""
        stores = store_processes(self._installation)
        before = processor_seconds([pid]), processor_seconds(stores)
        self.send(count)
        after = processor_seconds([pid]), processor_seconds(stores)
        return {
            "learner": 1e6 * (after[0] - before[0]) / count,
            "stores": 1e6 * (after[1] - before[1]) / count,
        }

    def memory(self) -> MemoryUse:
        """What a learner holds when it has read back what is open."""
        with self.learner() as pid:
            return memory_of(pid)

    def remove(self) -> None:
        """Take the loop out, so that no learner keeps it."""
        LoopStore(self._installation.engine, self._installation.client).delete(LOOP, "benchmarks", datetime.now(UTC))

    def _wait(self, seconds: float) -> None:
        loops = LoopStore(self._installation.engine, self._installation.client)
        config = LoopConfig(
            LOOP, clock="simulated", reward=RewardDefinition(wait_seconds=seconds), grace_seconds=0.0,
            export_frequency_seconds=86400.0,
        )  # fmt: skip
        loops.put(config, "benchmarks", datetime.now(UTC))

    def _send(self, messages: list[bytes]) -> None:
        client, stream = self._installation.client, loop_stream(LOOP)
        position = b""
        for first in range(0, len(messages), PIPELINE):
            pipeline = client.pipeline(transaction=False)
            for message in messages[first : first + PIPELINE]:
                pipeline.xadd(stream, {FIELD: message})
            position = pipeline.execute()[-1]
        deadline, wanted = time.monotonic() + WITHIN_SECONDS, position_key(position.decode())
        while time.monotonic() < deadline:
            reached = cast("bytes | None", client.get(applied_key(stream)))
            if reached and position_key(reached.decode()) >= wanted:
                return
            time.sleep(0.01)
        raise CannotMeasure(f"the learner did not take {len(messages)} messages within {WITHIN_SECONDS:g} s")
