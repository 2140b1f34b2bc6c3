"""Decisions that another service closed, in the join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contextual_bandit import events
from contextual_bandit.joined import JoinState
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Decision
from learner.join import Joiner

LONG_AGO = datetime(2021, 2, 4, tzinfo=UTC)
# Positions are milliseconds since 1970: the wall clock of the stream.
MARCH = 1_772_443_800_000


def message(decision: Decision, rewards: Any = (0.5,), at: datetime = LONG_AGO) -> bytes:
    return events.encode(events.IMPORTED, at, events.imported_payload(decision, rewards, {}))


def test_it_closes_at_once_and_old_times_move_no_clock(make_decision: Callable[..., Decision]) -> None:
    joiner = Joiner(LoopConfig("homepage"), JoinState())
    waiting = events.encode(events.DECISION, LONG_AGO, events.decision_payload(make_decision("open")))
    imported = make_decision("old", decided_at=LONG_AGO)
    batch = joiner.run([(f"{MARCH}-0", waiting), (f"{MARCH}-1", message(imported))], frozenset(), frozenset())
    (closed,) = batch.closed
    assert (closed.decision, closed.reward, closed.sequence) == (imported, 0.5, 1)
    assert closed.opened_at == closed.closed_at == batch.stream_time == events.position_time(f"{MARCH}-0")
    assert [entry.decision.decision_id for entry in batch.opened] == ["open", "old"]
    assert list(joiner.state.open) == ["open"]
    assert [(one.outcome.decision_id, one.outcome.value, one.state) for one in batch.outcomes] == [
        ("old", 0.5, "joined")
    ]


def test_it_is_there_once(make_decision: Callable[..., Decision]) -> None:
    joiner = Joiner(LoopConfig("homepage"), JoinState())
    one = message(make_decision("old"))
    batch = joiner.run([("1-0", one), ("2-0", one)], frozenset(), frozenset())
    assert (len(batch.closed), batch.repeated) == (1, 1)
    batch = joiner.run([("3-0", one)], frozenset({"old"}), frozenset())
    assert (batch.closed, batch.opened, batch.outcomes, batch.repeated) == ([], [], [], 1)


@pytest.mark.parametrize("rewards", [[], [1.0, 2.0], ["1"], [True, False], None, 1.0])
def test_rewards_that_are_not_one_for_each_slot_are_set_aside(
    make_decision: Callable[..., Decision], rewards: Any
) -> None:
    joiner = Joiner(LoopConfig("homepage"), JoinState())
    payload = {**events.imported_payload(make_decision("old"), (0.5,), {}), "rewards": rewards}
    batch = joiner.run([("1-0", events.encode(events.IMPORTED, LONG_AGO, payload))], frozenset(), frozenset())
    assert (batch.closed, batch.opened, len(batch.set_aside)) == ([], [], 1)
    assert "has the rewards" in batch.set_aside[0][2]


def test_slots_have_a_reward_each(make_decision: Callable[..., Decision]) -> None:
    joiner = Joiner(LoopConfig("homepage"), JoinState())
    plain = make_decision("old")
    slots = tuple(
        replace(plain.slots[0], slot_id=name, index=index, chosen=index) for index, name in enumerate(("a", "b"))
    )
    batch = joiner.run([("1-0", message(replace(plain, slots=slots), (0.25, 1.0)))], frozenset(), frozenset())
    (closed,) = batch.closed
    assert (closed.reward, closed.slot_rewards) == (1.25, (0.25, 1.0))
    assert [(one.outcome.slot, one.outcome.value) for one in batch.outcomes] == [(0, 0.25), (1, 1.0)]
    assert len({one.outcome.outcome_id for one in batch.outcomes}) == 2
