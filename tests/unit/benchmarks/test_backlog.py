"""The messages of a long backlog are those that a service would have written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from benchmarks.backlog import Messages, Shop
from contextual_bandit import events
from contextual_bandit.types import Decision

START = datetime(2026, 1, 5, tzinfo=UTC)


def test_each_is_one_of_the_known_decisions_with_an_id_and_a_time_of_its_own(
    make_decision: Callable[..., Decision],
) -> None:
    known = [make_decision("a"), make_decision("b", served=(0.5, 0.25, 0.25), chosen=2)]
    messages = Messages(Shop("backlog", timedelta(seconds=0.1), 3, timedelta(seconds=60)), known, START)
    made = [messages.at(number) for number in range(7)]
    decisions = []
    for number, (message, *_) in enumerate(made):
        event = events.decode("1-0", message)
        now = START + number * timedelta(seconds=0.1)
        decision = events.decision_from(event.payload)
        assert event.time == now
        expected = replace(known[number % 2], loop="backlog", decided_at=now, occurred_at=now)
        assert replace(decision, decision_id=expected.decision_id) == expected
        decisions.append(decision)
    assert len({decision.decision_id for decision in decisions}) == 7
    assert [len(found) for found in made] == [2, 1, 1, 2, 1, 1, 2]
    outcome = events.outcome_from(events.decode("1-1", made[3][1]).payload, START)
    assert (outcome.decision_id, outcome.value) == (decisions[3].decision_id, 1.0)
