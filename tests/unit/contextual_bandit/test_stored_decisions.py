"""Decisions of which only what is needed is made: equal to the whole, refused where the whole would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from contextual_bandit import events
from contextual_bandit.stored_decisions import Deferred, read_decision, read_message
from contextual_bandit.types import Action, Decision, Removed

MakeDecision = Callable[..., Decision]
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def plain(make_decision: MakeDecision, *affinities: dict[str, float]) -> Decision:
    rows = affinities or ({"r4": 1.25}, {"r4": 0.5}, {"r4": 0.0})
    actions = [Action(f"o{index}", {"category": "garden"}, row, index) for index, row in enumerate(rows)]
    made = make_decision("d1", actions=actions, chosen=1, served=(1 / len(rows),) * len(rows))
    return replace(made, removed=(Removed("x", "expired"), Removed("y", "channel")))


def message_of(decision: Decision, **changed: Any) -> bytes:
    return events.encode(events.DECISION, NOW, {**events.decision_payload(decision), **changed})


@pytest.mark.parametrize("affinities", [(), ({"r4": 1.0}, {"r16": 2.0})])
def test_it_equals_the_whole(make_decision: MakeDecision, affinities: tuple[dict[str, float], ...]) -> None:
    decision = plain(make_decision, *affinities)
    message = message_of(decision)
    found = read_decision(events.decode("1-0", message), message)
    assert found == decision
    assert decision == found
    assert tuple(found.actions) == decision.actions
    assert list(found.removed) == list(decision.removed)
    assert found.actions[-1] == decision.actions[-1]
    assert found.actions[:1] == decision.actions[:1]
    assert events.decision_payload(found) == events.decision_payload(decision)


def test_what_was_chosen_is_known_without_reading_again(
    make_decision: MakeDecision, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = plain(make_decision)
    message = message_of(decision)
    found = read_decision(events.decode("1-0", message), message)
    with monkeypatch.context() as patched:
        patched.setattr("contextual_bandit.events.decode", lambda *_: pytest.fail("it was read again"))
        assert found.chosen == decision.chosen
        assert (len(found.actions), len(found.removed)) == (3, 2)
    assert found.actions[0] == decision.actions[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"actions": [["o0", 1, {}]]},
        {"actions": [["o0"], ["o1", 1, {}], ["o2", 1, {}]]},
        {"actions": [["o0", 1, {}, 0.0, False, "more"], ["o1", 1, {}], ["o2", 1, {}]]},
        {"affinity": [[1.0], [1.0], []]},
        {"affinity": [[1.0], [1.0]]},
        {"removed": [["x"]]},
        {"removed": None},
        {"slots": []},
        {"slots": [{"chosen": 3, "policy": None, "served": None, "propensity": None, "draw": None}]},
        {"slots": [{"chosen": -1, "policy": None, "served": None, "propensity": None, "draw": None}]},
        {"decided_at": "yesterday"},
    ],
)
def test_what_is_no_decision_is_refused_at_once(make_decision: MakeDecision, changed: dict[str, Any]) -> None:
    message = message_of(plain(make_decision), **changed)
    with pytest.raises((events.BadEvent, KeyError, TypeError, ValueError)):
        read_decision(events.decode("1-0", message), message)
    read = read_message("1-0", message)
    assert read.decision is None
    assert read.event.payload["loop"] == "homepage"


def test_a_message_is_read_once(make_decision: MakeDecision) -> None:
    decision = plain(make_decision)
    message = message_of(decision)
    read = read_message("7-1", message)
    assert read.decision == decision
    assert (read.event.event_id, read.event.type, read.event.payload) == ("7-1", "decision", {"decision_id": "d1"})
    tick = read_message("7-2", events.encode(events.TICK, NOW, {}))
    assert (tick.event.type, tick.decision) == ("tick", None)
    with pytest.raises(events.BadEvent):
        read_message("7-3", orjson.dumps({"v": 1, "type": "nonsense"}))


def test_sequences_compare_and_show_as_tuples() -> None:
    message = events.encode(events.TICK, NOW, {"words": ["a", "b"]})
    one: Deferred[str] = Deferred(message, lambda payload: tuple(payload["words"]), 2, {0: "a"})
    other: Deferred[str] = Deferred(message, lambda payload: tuple(payload["words"]), 2)
    assert one == other == ("a", "b")
    assert one != ("a",)
    assert one != ["a", "b"]
    assert (hash(one), repr(one)) == (hash(("a", "b")), repr(("a", "b")))
    assert [*one] == ["a", "b"]
