from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit import events
from contextual_bandit.limits import Draw, resolve
from contextual_bandit.profile import Activity
from contextual_bandit.types import Action, Context, Decision, Distribution, Outcome, Removed, SlotDecision

NOW = datetime(2026, 3, 2, 9, 30, 0, 123456, tzinfo=UTC)
# One stored message per type and version, byte for byte as it may lie in a stream: it must be read for ever.
STORED = {
    "spool": b'{"v":1,"type":"spool","time":"2026-03-02T09:30:00.123456Z","payload":{"spool_id":"s1","open":true},'
    b'"spooled_at":"2026-03-02T09:29:00.000000Z"}',
    "decision": b'{"v":1,"type":"decision","time":"2026-03-02T09:30:00.123456Z","payload":{"loop":"homepage",'
    b'"decision_id":"d1","decided_at":"2026-03-02T09:30:00.123456Z","occurred_at":"2026-03-02T09:29:00.000000Z",'
    b'"customer_id":"c1","context":{"H":{"segment":"new"},"device":{"age":2.5,"new":true}},'
    b'"actions":[["a",3,{"category":"garden"}],["b",0,{}]],"affinity_names":["r4"],"affinity":[[1.25],[0.5]],'
    b'"removed":[["x","expired"]],"slots":[{"chosen":1,"policy":[0.1,0.9],"served":[0.2,0.8],"propensity":0.8,'
    b'"draw":0.61}],"policy_id":"p","snapshot_id":"s","learning_mode":"online","use":"learn","deferred":false,'
    b'"request_hash":"h"}}',
    "rank_repeated": b'{"v":1,"type":"rank_repeated","time":"2026-03-02T09:30:00.123456Z","payload":{"decision_id":"d1"}}',
    "imported": b'{"v":1,"type":"imported","time":"2026-03-02T09:30:00.123456Z","payload":{"loop":"homepage",'
    b'"decision_id":"d2","decided_at":"2026-03-02T09:30:00.123456Z","occurred_at":"2019-03-02T09:29:00.000000Z",'
    b'"customer_id":null,"context":{"G":{"kind":"new"}},"actions":[["a",0,{}],["b",0,{}]],"affinity_names":[],'
    b'"affinity":[[],[]],"removed":[],"slots":[{"chosen":0,"policy":[0.9,0.1],"served":[0.9,0.1],"propensity":0.9,'
    b'"draw":null}],"policy_id":"imported","snapshot_id":"imported","learning_mode":"online","use":"learn",'
    b'"deferred":false,"request_hash":"","rewards":[1.0],"given":{"c":{"G":{"kind":"new"}}}}}',
    "outcome": b'{"v":1,"type":"outcome","time":"2026-03-02T09:30:00.123456Z","payload":{"outcome_id":"o1",'
    b'"decision_id":"d1","kind":"click","value":1.0,"final":true}}',
    "activation": b'{"v":1,"type":"activation","time":"2026-03-02T09:30:00.123456Z","payload":{"decision_id":"d1"}}',
    "tick": b'{"v":1,"type":"tick","time":"2026-03-02T09:30:00.123456Z","payload":{}}',
    "control": b'{"v":1,"type":"control","time":"2026-03-02T09:30:00.123456Z","payload":{"kind":"loop_changed"}}',
    "activity": b'{"v":1,"type":"activity","time":"2026-03-02T09:30:00.123456Z","payload":{"activities":['
    b'{"activity_id":"a1","customer_id":"c1","kind":"purchase","occurred_at":"2026-03-02T09:29:00.000000Z",'
    b'"category":"garden","offer_id":null,"amount":9.5}]}}',
}
DECISION = Decision(
    loop="homepage",
    decision_id="d1",
    decided_at=NOW,
    occurred_at=NOW.replace(minute=29, microsecond=0),
    customer_id="c1",
    context=Context({"H": {"segment": "new"}, "device": {"age": 2.5, "new": True}}),
    actions=(Action("a", {"category": "garden"}, {"r4": 1.25}, 3), Action("b", {}, {"r4": 0.5})),
    removed=(Removed("x", "expired"),),
    slots=(SlotDecision(1, Distribution((0.1, 0.9), (0.2, 0.8)), 0.8, 0.61),),
    policy_id="p",
    snapshot_id="s",
    learning_mode="online",
    use="learn",
    deferred=False,
    request_hash="h",
)


def test_there_is_a_stored_message_of_every_type() -> None:
    assert set(STORED) == events.TYPES


@pytest.mark.parametrize("name", STORED)
def test_stored_messages_are_read_and_written_alike(name: str) -> None:
    event = events.decode("1772443800123-0", STORED[name])
    assert (event.event_id, event.type, event.schema_version, event.time) == ("1772443800123-0", name, 1, NOW)
    assert events.encode(name, event.time, event.payload, spooled_at=event.spooled_at) == STORED[name]


def test_a_spooled_message_says_when_it_was_acknowledged() -> None:
    assert events.decode("1-0", STORED["tick"]).spooled_at is None
    assert events.decode("1-0", STORED["spool"]).spooled_at == NOW.replace(minute=29, microsecond=0)
    spooled = events.with_spooled_at(STORED["tick"], NOW)
    assert events.decode("1-0", spooled).spooled_at == NOW
    assert events.event_time(spooled) == NOW
    with pytest.raises(events.BadEvent):
        events.decode("1-0", changed(spooled_at="yesterday"))


def test_a_stored_decision_is_read() -> None:
    assert events.decision_from(events.decode("1-0", STORED["decision"]).payload) == DECISION
    # Fields that came later have their defaults; the rest is written as it stood.
    payload = events.decision_payload(DECISION)
    assert {name: payload.pop(name) for name in ("sources", "dropped", "took_units")} == {
        "sources": {}, "dropped": (), "took_units": 0,
    }  # fmt: skip
    assert events.encode("decision", NOW, payload) == STORED["decision"]


def test_a_limited_decision_is_drawn_when_it_is_read() -> None:
    fallback = Action("nothing", {"type": "none"})
    message = events.encode("decision", NOW, events.limited_payload(DECISION, fallback))
    drawn = events.with_draws(message, [Draw(((1, 1),), 0, 2)])
    decision = events.decision_from(events.decode("1-0", drawn).payload)
    assert decision == resolve(DECISION, Draw(((1, 1),), 0, 2), fallback)
    assert decision.slots[0].chosen == 0
    assert decision.slots[0].propensity == 1.0
    assert decision.took_units == 2
    empty = events.with_draws(message, [Draw(((0, 1), (1, 3)), -1)])
    assert events.decision_from(events.decode("1-0", empty).payload).chosen == fallback


def test_a_limited_decision_from_before_there_were_slots_is_read_as_it_was_written() -> None:
    """Its one draw stands alone, and probabilities were divided by their sum even when nothing was masked."""
    slot = DECISION.slots[0]
    assert slot.distribution is not None
    decision = replace(DECISION, slots=(replace(slot, distribution=replace(slot.distribution, served=(0.75, 0.5))),))
    fallback = Action("nothing", {"type": "none"})
    message = events.encode("decision", NOW, events.limited_payload(decision, fallback))
    old = message[:-2] + b',"limited":[[],0,1]}}'
    found = events.decision_from(events.decode("1-0", old).payload)
    assert found.slots[0].distribution is not None
    assert found.slots[0].distribution.served == (0.6, 0.4)
    assert (found.slots[0].propensity, found.took_units) == (0.6, 1)


def test_cost_and_promotion_of_an_action_come_back() -> None:
    actions = (Action("a", {"category": "x"}, {"r4": 1.0}, 3, cost=0.5, promoted=True), DECISION.actions[1])
    decision = replace(DECISION, actions=actions, sources={"W": "table"}, dropped=("device.x",))
    assert there_and_back(decision) == decision


def test_a_stored_outcome_is_read() -> None:
    payload = events.decode("1-0", STORED["outcome"]).payload
    assert events.outcome_from(payload, NOW) == Outcome("o1", "d1", "click", 1.0, NOW, final=True)
    assert events.outcome_payload("o1", "d1", "click", 1.0, True) == payload


def test_a_stored_activity_is_read() -> None:
    (raw,) = events.decode("1-0", STORED["activity"]).payload["activities"]
    activity = Activity("a1", "c1", "purchase", NOW.replace(minute=29, microsecond=0), "garden", None, 9.5)
    assert events.activity_from(raw) == activity
    assert events.activity_payload(activity) == raw | {"order_id": None}


def there_and_back(decision: Decision) -> Decision:
    return events.decision_from(
        events.decode("1-0", events.encode("decision", NOW, events.decision_payload(decision))).payload
    )


VALUES = st.text(max_size=6) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
FEATURES = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)
ACTIONS = st.builds(Action, st.text(max_size=6), FEATURES, FEATURES, st.integers(0, 9))


@given(st.lists(ACTIONS, min_size=1, max_size=4), st.dictionaries(st.text(max_size=3), FEATURES, max_size=3))
def test_a_decision_comes_back_equal(actions: list[Action], namespaces: dict[str, Any]) -> None:
    slot = replace(DECISION.slots[0], chosen=len(actions) - 1)
    decision = replace(DECISION, actions=tuple(actions), context=Context(namespaces), slots=(slot,))
    assert there_and_back(decision) == decision


def test_affinities_of_other_names_or_order_are_kept_apart() -> None:
    actions = (Action("a", {}, {"r4": 1.0, "r16": 2.0}), Action("b", {}, {"r16": 3.0, "r4": 4.0}), Action("c", {}))
    payload = events.decision_payload(replace(DECISION, actions=actions))
    assert payload["affinity_names"] is None
    back = there_and_back(replace(DECISION, actions=actions))
    # The order of features decides the order of sums, and so the last bits of a score.
    assert [list(action.affinity) for action in back.actions] == [["r4", "r16"], ["r16", "r4"], []]


def test_a_fallback_has_no_propensity() -> None:
    fallback = replace(DECISION, slots=(SlotDecision(0, None, None, None),), use="fallback", customer_id=None)
    assert there_and_back(fallback) == fallback


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(STORED["tick"]), **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff", b"null", b"[]", b'"tick"', b"7", b"{}",
        changed(type="dream"), changed(type=None), changed(v=2), changed(v=None),
        changed(time="yesterday"), changed(time=None), changed(time=7),
        changed(type=["tick"]), changed(type={}), changed(payload=None), changed(payload=[]), changed(payload="x"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_by_its_position(data: bytes) -> None:
    with pytest.raises(events.BadEvent, match="event 17-3"):
        events.decode("17-3", data)


@pytest.mark.parametrize("key", ["v", "type", "time", "payload"])
def test_every_field_of_the_envelope_is_needed(key: str) -> None:
    raw = json.loads(STORED["tick"])
    del raw[key]
    with pytest.raises(events.BadEvent):
        events.decode("1-0", json.dumps(raw).encode())


def test_times_are_written_in_utc_with_microseconds() -> None:
    assert (
        events.to_text(datetime(2026, 3, 2, 10, tzinfo=timezone(timedelta(hours=2)))) == "2026-03-02T08:00:00.000000Z"
    )


def test_a_time_without_offset_is_utc_and_another_offset_is_kept_as_a_moment() -> None:
    assert events.from_text("2026-03-02T09:30:00.123456") == NOW
    assert events.from_text("2026-03-02T11:30:00.123456+02:00") == NOW


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_come_back(time: datetime) -> None:
    assert events.from_text(events.to_text(time)) == time


def test_a_position_says_when_the_stream_took_the_message() -> None:
    assert events.position_time("1772443800123-5") == NOW.replace(microsecond=123000)
