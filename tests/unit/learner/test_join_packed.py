"""Open decisions that are packed join as those that are ready do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from contextual_bandit import events
from contextual_bandit.joined import Batch, JoinState
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.types import Decision
from learner import join
from learner.join import Joiner

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LOOP = LoopConfig("homepage", clock="simulated", reward=RewardDefinition(wait_seconds=60.0, high=100.0))
COUNT = 12
Message = tuple[str, bytes]


@pytest.fixture
def opening(make_decision: Callable[..., Decision]) -> list[Message]:
    """Decisions a second apart."""
    return [
        (f"{number}-0", events.encode(events.DECISION, START + timedelta(seconds=number), payload))
        for number in range(1, COUNT + 1)
        for payload in (events.decision_payload(make_decision(f"d{number}")),)
    ]


def closing() -> list[Message]:
    """A click on every other decision, and what closes them all."""
    clicks = [
        (
            f"{100 + number}-0",
            events.encode(
                events.OUTCOME,
                START + timedelta(seconds=20),
                events.outcome_payload(f"o{number}", f"d{number}", "click", float(number), final=False),
            ),
        )
        for number in range(1, COUNT + 1, 2)
    ]
    return [*clicks, ("900-0", events.encode(events.TICK, START + timedelta(hours=1), {}))]


def run(joiner: Joiner, messages: list[Message]) -> Batch:
    return joiner.run(messages, frozenset(), frozenset())


def test_only_the_newest_are_ready_and_a_batch_is_never_packed_before_it_is_committed(
    opening: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "MOST_READY", 3)
    joiner = Joiner(LOOP, JoinState())
    batch = run(joiner, opening)
    assert not any(entry.is_packed for entry in batch.opened)
    run(joiner, [])
    found = [name for name, entry in joiner.state.open.items() if not entry.is_packed]
    assert found == [f"d{number}" for number in range(COUNT - 2, COUNT + 1)]


def test_what_was_packed_is_read_as_it_was(opening: list[Message], monkeypatch: pytest.MonkeyPatch) -> None:
    ready, packed = Joiner(LOOP, JoinState()), Joiner(LOOP, JoinState())
    run(ready, opening)
    run(packed, opening)
    monkeypatch.setattr(join, "MOST_READY", 0)
    run(packed, [])
    for name, entry in packed.state.open.items():
        assert entry.is_packed
        assert entry.record == ready.state.open[name].record
        assert entry.decision == ready.state.open[name].decision
        assert not entry.is_packed


def test_rewards_are_the_same_whether_decisions_were_packed_or_not(
    opening: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, packed = Joiner(LOOP, JoinState()), Joiner(LOOP, JoinState())
    run(ready, opening)
    expected = run(ready, closing())
    monkeypatch.setattr(join, "MOST_READY", 0)
    run(packed, opening)
    found = run(packed, closing())
    assert found.closed == expected.closed
    assert max(closed.reward for closed in found.closed) == COUNT - 1
    assert found.outcomes == expected.outcomes
    assert packed.state.open == {}


def test_one_that_an_outcome_needed_is_packed_again(opening: list[Message], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "MOST_READY", 0)
    joiner = Joiner(LOOP, JoinState())
    run(joiner, opening)
    payload = events.outcome_payload("o1", "d1", "click", 1.0, final=False, slot=0)
    batch = run(joiner, [("500-0", events.encode(events.OUTCOME, START + timedelta(seconds=20), payload))])
    assert [stored.state for stored in batch.outcomes] == ["joined"]
    assert not joiner.state.open["d1"].is_packed
    run(joiner, [])
    assert joiner.state.open["d1"].is_packed
