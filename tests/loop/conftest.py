"""A loop's real writer on real stores, driven message by message in the test's own process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, select

from adapters.catalogue import LoopStore
from adapters.installation import Installation
from adapters.interaction_log import first_sequence, read_interactions
from adapters.locks import WriterConnection
from adapters.snapshots import SnapshotStore
from adapters.streams import StreamReader, loop_stream
from adapters.tables import performance
from adapters.telemetry import LearnerMetrics
from contextual_bandit import events
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Action, Context, Decision, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy
from learner.loop import LoopWriter, Stores
from learner.train import Verification, verify

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_numbers = itertools.count()


@dataclass
class Driven:
    """One loop with a simulated clock; ``at`` is seconds after its start."""

    config: LoopConfig
    stores: Stores
    make_decision: Callable[..., Decision]
    writer: LoopWriter = field(init=False)

    def __post_init__(self) -> None:
        self.writer = self.open()

    @property
    def name(self) -> str:
        return self.config.loop

    def open(self) -> LoopWriter:
        return LoopWriter(self.stores, self.config, checkpoint_seconds=1e9)

    def restart(self, *, killed: bool = False) -> None:
        """Another writer goes on; the one before saved, or was killed."""
        if killed:
            self.writer.abandon()
        else:
            self.writer.close()
        self.writer = self.open()

    def change(self, **settings: Any) -> None:
        """New settings, which the writer follows."""
        self.config = self.stores.loops.put(replace(self.config, **settings), "test", START)
        self.writer.follow(self.config.version)

    def decide(self, at: float, decision_id: str, **keywords: Any) -> Driven:
        decision = self.make_decision(decision_id, loop=self.name, **keywords)
        return self.send(at, events.DECISION, events.decision_payload(decision))

    def outcome(
        self, at: float, decision_id: str, value: float, outcome_id: str | None = None, *,
        kind: str = "value", final: bool = False,
    ) -> Driven:  # fmt: skip
        name = outcome_id or f"o{next(_numbers)}"
        return self.send(at, events.OUTCOME, events.outcome_payload(name, decision_id, kind, value, final))

    def tick(self, at: float) -> Driven:
        return self.send(at, events.TICK, {})

    def send(self, at: float, event_type: str, payload: Any) -> Driven:
        message = events.encode(event_type, START + timedelta(seconds=at), payload)
        self.stores.reader.append(loop_stream(self.name), message)
        return self

    def waiting(self) -> list[tuple[str, bytes]]:
        """Messages that are on the stream and not committed."""
        stream = loop_stream(self.name)
        return self.stores.reader.read({stream: self.writer.position}, 100_000, 1).get(stream, [])

    def run(self) -> Driven:
        """Apply what waits, as one batch."""
        self.writer.handle(self.waiting())
        return self

    def log(self, **how: Any) -> list[LoggedInteraction]:
        return list(read_interactions(self.stores.engine, self.name, **how))

    def rewards(self, **how: Any) -> dict[str, float]:
        return {one.decision.decision_id: one.reward for one in self.log(**how)}

    def performance(self) -> tuple[int, float]:
        """Interactions and sum of rewards over all windows."""
        query = select(func.sum(performance.c.interactions), func.sum(performance.c.reward_sum))
        with self.stores.engine.connect() as connection:
            row = connection.execute(query.where(performance.c.loop == self.name)).one()
        return int(row[0]), float(row[1])

    def shares(self, actions: Sequence[Action]) -> tuple[float, ...]:
        """What the published policy gives each action."""
        snapshot = self.stores.snapshots.newest(self.name, published=True)
        assert snapshot is not None
        with closing(VowpalPolicy(snapshot.setting, snapshot.model)) as policy:
            return policy.distribution(Context({}), actions)

    def verified(self) -> Verification:
        log = read_interactions(self.stores.engine, self.name, learnable=True)
        return verify(self.stores.snapshots, self.name, log, first_sequence(self.stores.engine, self.name))


@pytest.fixture(scope="session")
def learner_stores(installation: Installation) -> Iterator[Stores]:
    """What a learner works with."""
    known = set(REGISTRY._collector_to_names)
    engine, client = installation.engine, installation.client
    writers = WriterConnection(engine)
    yield Stores(
        engine,
        client,
        writers,
        StreamReader(client),
        SnapshotStore(engine, client),
        LoopStore(engine, client),
        LearnerMetrics(),
    )
    writers.close()
    for collector in set(REGISTRY._collector_to_names) - known:
        REGISTRY.unregister(collector)


@pytest.fixture
def drive(learner_stores: Stores, make_decision: Callable[..., Decision]) -> Iterator[Callable[..., Driven]]:
    """Make a loop with these settings and its writer; both are gone when the test is over."""
    made: list[Driven] = []

    def make(**settings: Any) -> Driven:
        config = LoopConfig(f"driven-{next(_numbers)}", clock="simulated", **{"grace_seconds": 0.0, **settings})
        stored = learner_stores.loops.put(config, "test", START)
        made.append(Driven(stored, learner_stores, make_decision))
        return made[-1]

    yield make
    for driven in made:
        driven.writer.abandon()
        driven.stores.reader.trim(loop_stream(driven.name), "9999999999999-0")
        driven.stores.loops.delete(driven.name, "test", START)
