from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit import events
from contextual_bandit.joined import Batch, Closed, JoinState
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.types import Clock, Decision
from learner import join
from learner.join import Joiner

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
WINDOW, GRACE = 10.0, 2.0
LOOP = LoopConfig(
    "homepage", reward=RewardDefinition(wait_seconds=WINDOW, aggregation="sum", high=100.0), grace_seconds=GRACE
)
MakeDecision = Callable[..., Decision]


@dataclass
class Stream:
    """Messages at seconds after the start, as a loop's stream would hold them: with a tick at least every second."""

    make_decision: MakeDecision
    clock: Clock = "wall"
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    taken: int = 0
    last: float | None = None

    def take(self) -> list[tuple[str, bytes]]:
        """What came since this was asked last."""
        taken, self.taken = self.taken, len(self.messages)
        return self.messages[taken:]

    def add(
        self, at: float, event_type: str, payload: Any, *, spooled_at: float | None = None, silence: bool = False
    ) -> Stream:
        if self.clock == "wall":
            while not silence and self.last is not None and self.last + 1.0 < at:
                self.add(self.last + 1.0, events.TICK, {})
            self.last = at
        # A simulated clock reads what the message says; a wall clock only the position.
        said, taken = (at, len(self.messages)) if self.clock == "simulated" else (9e6, at)
        position = f"{int((START.timestamp() + taken) * 1000)}-{len(self.messages)}"
        spooled = None if spooled_at is None else START + timedelta(seconds=spooled_at)
        data = events.encode(event_type, START + timedelta(seconds=said), payload, spooled_at=spooled)
        self.messages.append((position, data))
        return self

    def decision(
        self, at: float, decision_id: str = "d1", *, spooled_at: float | None = None, **keywords: Any
    ) -> Stream:
        payload = events.decision_payload(self.make_decision(decision_id, **keywords))
        return self.add(at, events.DECISION, payload, spooled_at=spooled_at)

    def outcome(
        self,
        at: float,
        outcome_id: str = "o1",
        decision_id: str = "d1",
        value: float = 1.0,
        *,
        final: bool = False,
        spooled_at: float | None = None,
    ) -> Stream:
        payload = events.outcome_payload(outcome_id, decision_id, "click", value, final)
        return self.add(at, events.OUTCOME, payload, spooled_at=spooled_at)

    def activation(self, at: float, decision_id: str = "d1") -> Stream:
        return self.add(at, events.ACTIVATION, {"decision_id": decision_id})

    def tick(self, at: float, *, silence: bool = False) -> Stream:
        return self.add(at, events.TICK, {}, silence=silence)


@dataclass
class Writer:
    """A joiner with the memory that PostgreSQL would have; each batch may begin from what was committed."""

    config: LoopConfig = LOOP
    state: JoinState = field(default_factory=JoinState)
    decided: set[str] = field(default_factory=set)
    stored: dict[str, str] = field(default_factory=dict)
    closed: list[Closed] = field(default_factory=list)
    inactive: list[str] = field(default_factory=list)
    late: int = 0
    repeated: int = 0

    def __post_init__(self) -> None:
        self.joiner = Joiner(self.config, self.state)

    def restart(self) -> None:
        self.joiner = Joiner(self.config, self.state)

    def run(self, messages: Iterable[tuple[str, bytes]]) -> Batch:
        batch = self.joiner.run(messages, frozenset(self.decided), frozenset(self.stored))
        self.decided |= {entry.decision.decision_id for entry in batch.opened}
        self.stored |= {stored.outcome.outcome_id: stored.state for stored in batch.outcomes}
        self.stored |= dict.fromkeys(batch.adopted, "joined")
        self.closed += batch.closed
        self.inactive += batch.inactive
        self.late += batch.late
        self.repeated += batch.repeated
        return batch

    @property
    def rewards(self) -> dict[str, float]:
        found = {closed.decision.decision_id: closed.reward for closed in self.closed}
        assert len(found) == len(self.closed), "a decision gave two interactions"
        return found


@pytest.fixture
def stream(make_decision: MakeDecision) -> Stream:
    return Stream(make_decision)


def seconds(time: datetime | None) -> float:
    assert time is not None
    return (time - START).total_seconds()


# Closing


def test_a_decision_closes_when_window_and_grace_have_passed(stream: Stream) -> None:
    writer = Writer()
    writer.run(stream.decision(0.0).tick(WINDOW + GRACE).take())
    assert writer.closed == []
    assert set(writer.state.open) == {"d1"}
    batch = writer.run(stream.tick(WINDOW + GRACE + 0.001).take())
    (closed,) = batch.closed
    assert (closed.sequence, closed.decision.decision_id, closed.reward) == (1, "d1", 0.0)
    assert (seconds(closed.opened_at), seconds(closed.closed_at)) == (0.0, WINDOW)
    assert writer.state.open == {}
    assert (batch.sequence, writer.state.sequence) == (1, 1)


def test_nothing_closes_without_messages(stream: Stream) -> None:
    writer = Writer()
    batch = writer.run([])
    assert (batch.position, batch.stream_time, batch.sequence) == ("0-0", None, 0)
    writer.run(stream.decision(0.0).take())
    batch = writer.run([])
    assert batch.closed == []
    assert (batch.position, seconds(batch.stream_time)) == (stream.messages[-1][0], 0.0)


def test_hits_and_misses_close_after_the_same_delay(stream: Stream) -> None:
    stream.decision(0.0, "hit").decision(0.0, "miss").outcome(1.0, "o1", "hit").tick(WINDOW + GRACE + 0.1)
    writer = Writer()
    writer.run(stream.take())
    assert writer.rewards == {"hit": 1.0, "miss": 0.0}
    assert {closed.closed_at for closed in writer.closed} == {START + timedelta(seconds=WINDOW)}


def test_decisions_close_in_the_order_of_their_windows(stream: Stream) -> None:
    names = ["z", "m", "a", "q"]
    for number, name in enumerate(names):
        stream.decision(number * 0.5, name)
    writer = Writer()
    writer.run(stream.tick(60.0).take())
    assert [closed.decision.decision_id for closed in writer.closed] == names
    assert [closed.sequence for closed in writer.closed] == [1, 2, 3, 4]


def test_the_record_stays_as_it_stood_on_the_stream(stream: Stream) -> None:
    batch = Writer().run(stream.decision(0.0).take())
    assert batch.opened[0].record == stream.messages[0][1]
    assert batch.opened[0].position == stream.messages[0][0]


def test_the_use_of_a_decision_is_kept(stream: Stream) -> None:
    writer = Writer()
    writer.run(stream.decision(0.0, use="holdout").outcome(1.0).tick(60.0).take())
    assert writer.closed[0].decision.use == "holdout"


def test_a_changed_window_holds_for_new_decisions(stream: Stream) -> None:
    writer = Writer()
    writer.run(stream.decision(0.0, "old").take())
    writer.joiner.config = replace(LOOP, reward=replace(LOOP.reward, wait_seconds=3.0))
    writer.run(stream.decision(1.0, "new").tick(7.0).take())
    assert list(writer.rewards) == ["new"]
    writer.run(stream.tick(12.5).take())
    assert list(writer.rewards) == ["new", "old"]


# Outcomes


@pytest.mark.parametrize(
    ("at", "reward", "state"), [(0.0, 1.0, "joined"), (WINDOW, 1.0, "joined"), (WINDOW + 0.001, 0.0, "late")]
)
def test_an_outcome_counts_within_the_window(stream: Stream, at: float, reward: float, state: str) -> None:
    writer = Writer()
    batch = writer.run(stream.decision(0.0).outcome(at).take())
    assert [stored.state for stored in batch.outcomes] == [state]
    assert batch.late == (state == "late")
    writer.run(stream.tick(60.0).take())
    assert writer.rewards == {"d1": reward}


def test_a_late_outcome_is_kept_and_counted_also_after_closing(stream: Stream) -> None:
    writer = Writer()
    writer.run(stream.decision(0.0).tick(60.0).take())
    batch = writer.run(stream.outcome(61.0).take())
    assert [stored.state for stored in batch.outcomes] == ["late"]
    assert batch.late == 1
    assert writer.state.orphans == {}
    assert writer.rewards == {"d1": 0.0}


def test_outcomes_are_told_apart_by_id_only(stream: Stream) -> None:
    stream.decision(0.0).outcome(1.0, "o1", value=2.0).outcome(2.0, "o2", value=3.0).tick(60.0)
    writer = Writer()
    writer.run(stream.take())
    assert writer.rewards == {"d1": 5.0}


def test_a_repeated_outcome_changes_nothing(stream: Stream) -> None:
    stream.decision(0.0).outcome(1.0, "o1", value=2.0).outcome(1.0, "o1", value=9.0)
    writer = Writer()
    batch = writer.run(stream.take())
    assert (batch.repeated, len(batch.outcomes)) == (1, 1)
    batch = writer.run(stream.outcome(2.0, "o1", value=9.0).take())
    assert (batch.repeated, batch.outcomes) == (1, [])
    writer.run(stream.tick(60.0).take())
    assert writer.rewards == {"d1": 2.0}


def test_a_repeated_decision_changes_nothing(stream: Stream) -> None:
    stream.decision(0.0, request_hash="one").decision(1.0, request_hash="two")
    writer = Writer()
    batch = writer.run(stream.take())
    assert (batch.repeated, len(batch.opened)) == (1, 1)
    batch = writer.run(stream.decision(2.0, request_hash="three").tick(60.0).take())
    assert (batch.repeated, batch.opened) == (1, [])
    batch = writer.run(stream.decision(61.0).tick(120.0).take())
    assert batch.repeated == 1
    assert [closed.decision.request_hash for closed in writer.closed] == ["one"]


def test_an_outcome_before_its_decision_waits_for_it(stream: Stream) -> None:
    writer = Writer()
    batch = writer.run(stream.outcome(0.0, "o1", value=4.0).take())
    assert [stored.state for stored in batch.outcomes] == ["orphan"]
    assert set(writer.state.orphans) == {"d1"}
    batch = writer.run(stream.decision(1.0).take())
    assert batch.adopted == ["o1"]
    assert writer.state.orphans == {}
    writer.run(stream.tick(60.0).take())
    assert writer.rewards == {"d1": 4.0}
    assert writer.stored == {"o1": "joined"}


def test_orphans_that_nobody_adopts_do_not_grow_for_ever(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "MOST_ORPHANS", 2)
    for number in range(3):
        stream.outcome(float(number), f"o{number}", f"d{number}")
    writer = Writer()
    batch = writer.run(stream.take())
    assert [stored.state for stored in batch.outcomes] == ["orphan"] * 3
    assert set(writer.state.orphans) == {"d1", "d2"}


# Deferred decisions


def test_a_deferred_decision_that_is_never_activated_gives_no_interaction(stream: Stream) -> None:
    writer = Writer()
    writer.run(stream.decision(0.0, deferred=True).outcome(1.0).tick(60.0).take())
    assert writer.closed == []
    assert writer.inactive == ["d1"]
    assert writer.state.sequence == 0
    assert writer.state.open == {}


def test_an_activated_decision_counts_as_any_other(stream: Stream) -> None:
    writer = Writer()
    batch = writer.run(stream.decision(0.0, deferred=True).outcome(1.0).activation(2.0).activation(3.0).take())
    assert batch.activated == ["d1"]
    writer.run(stream.tick(60.0).take())
    assert writer.rewards == {"d1": 1.0}
    assert writer.inactive == []


@pytest.mark.parametrize(("at", "activated"), [(WINDOW, ["d1"]), (WINDOW + 0.001, [])])
def test_an_activation_counts_within_the_window(stream: Stream, at: float, activated: list[str]) -> None:
    assert Writer().run(stream.decision(0.0, deferred=True).activation(at).take()).activated == activated


def test_an_activation_of_nothing_and_of_the_active_is_nothing(stream: Stream) -> None:
    batch = Writer().run(stream.activation(0.0, "unheard of").decision(1.0).activation(2.0).take())
    assert (batch.activated, batch.set_aside) == ([], [])


# Final outcomes


FINAL = replace(LOOP, close_on_final=True)


def test_a_final_outcome_closes_at_once_where_the_loop_says_so(stream: Stream) -> None:
    stream.decision(0.0).outcome(1.0, "o1", value=2.0).outcome(2.0, "o2", value=3.0, final=True).outcome(3.0, "o3")
    writer = Writer(FINAL)
    batch = writer.run(stream.take())
    assert writer.rewards == {"d1": 5.0}
    assert seconds(batch.closed[0].closed_at) == 2.0
    assert writer.stored["o3"] == "late"
    writer.run(stream.tick(60.0).take())
    assert len(writer.closed) == 1


def test_a_final_outcome_is_an_ordinary_one_elsewhere(stream: Stream) -> None:
    writer = Writer()
    writer.run(stream.decision(0.0).outcome(1.0, final=True).outcome(2.0, "o2").take())
    assert writer.closed == []
    writer.run(stream.tick(60.0).take())
    assert writer.rewards == {"d1": 2.0}


def test_a_final_orphan_closes_its_decision_when_that_comes(stream: Stream) -> None:
    writer = Writer(FINAL)
    writer.run(stream.outcome(0.0, final=True).decision(1.0).take())
    assert writer.rewards == {"d1": 1.0}


def test_a_final_outcome_does_not_close_what_is_not_active(stream: Stream) -> None:
    writer = Writer(FINAL)
    writer.run(stream.decision(0.0, deferred=True).outcome(1.0, final=True).take())
    assert set(writer.state.open) == {"d1"}
    writer.run(stream.activation(2.0).tick(60.0).take())
    assert writer.rewards == {"d1": 1.0}


def test_an_id_can_be_used_again_by_nobody_after_a_final_close(stream: Stream) -> None:
    writer = Writer(FINAL)
    writer.run(stream.decision(0.0).outcome(1.0, final=True).decision(2.0).tick(60.0).take())
    assert len(writer.closed) == 1
    assert writer.repeated == 1


# Time


def test_a_wall_clock_reads_positions_only(stream: Stream) -> None:
    assert seconds(Writer().run(stream.tick(5.0).take()).stream_time) == 5.0


def test_a_simulated_clock_reads_what_messages_say(make_decision: MakeDecision) -> None:
    config = replace(LOOP, clock="simulated")
    stream = Stream(make_decision, "simulated").decision(0.0).outcome(1.0).tick(WINDOW + GRACE + 0.1)
    writer = Writer(config)
    batch = writer.run(stream.take())
    assert seconds(batch.stream_time) == WINDOW + GRACE + 0.1
    assert writer.rewards == {"d1": 1.0}


def test_stream_time_never_goes_back(make_decision: MakeDecision) -> None:
    stream = Stream(make_decision, "simulated").tick(5.0).tick(1.0)
    assert seconds(Writer(replace(LOOP, clock="simulated")).run(stream.take()).stream_time) == 5.0


# Spools


def test_an_announced_spool_holds_the_closing_until_it_is_drained(stream: Stream) -> None:
    stream.decision(0.0).add(1.0, events.SPOOL, {"spool_id": "s1", "open": True}).tick(60.0)
    writer = Writer()
    batch = writer.run(stream.take())
    assert writer.closed == []
    assert {name: seconds(at) for name, at in batch.spools.items()} == {"s1": 1.0}
    stream.outcome(61.0, spooled_at=5.0).add(62.0, events.SPOOL, {"spool_id": "s1", "open": False}).tick(80.0)
    batch = writer.run(stream.take())
    assert batch.spools == {}
    assert writer.rewards == {"d1": 1.0}


def test_the_oldest_of_several_spools_holds(stream: Stream) -> None:
    for number in (1, 2):
        stream.add(float(number), events.SPOOL, {"spool_id": f"s{number}", "open": True})
    stream.decision(3.0).add(4.0, events.SPOOL, {"spool_id": "s1", "open": False}).tick(60.0)
    writer = Writer()
    writer.run(stream.take())
    assert writer.closed == []
    writer.run(stream.add(61.0, events.SPOOL, {"spool_id": "s2", "open": False}).tick(80.0).take())
    assert writer.rewards == {"d1": 0.0}


def test_closing_an_unknown_spool_is_nothing(stream: Stream) -> None:
    batch = Writer().run(stream.add(0.0, events.SPOOL, {"spool_id": "s9", "open": False}).take())
    assert (batch.spools, batch.set_aside) == ({}, [])


def test_after_a_silence_services_have_a_moment_to_announce_their_spools(stream: Stream) -> None:
    stream.decision(0.0).tick(1.0).tick(60.0, silence=True)
    writer = Writer()
    writer.run(stream.take())
    assert writer.closed == [], "closed although the stream was away during the window"
    writer.run(stream.add(60.5, events.SPOOL, {"spool_id": "s1", "open": True}, spooled_at=2.0).take())
    writer.run(stream.outcome(61.0, spooled_at=4.0).tick(80.0).take())
    assert writer.closed == []
    writer.run(stream.add(81.0, events.SPOOL, {"spool_id": "s1", "open": False}).tick(82.0).tick(83.0).take())
    assert writer.rewards == {"d1": 1.0}


def test_that_moment_survives_a_restart(stream: Stream) -> None:
    writer = Writer()
    writer.run(stream.decision(0.0).tick(1.0).tick(60.0, silence=True).take())
    writer.restart()
    writer.run(stream.tick(60.2).take())
    assert writer.closed == [], (
        "the learner was killed just after an outage, and closed before the spools were announced"
    )


# What cannot be applied


@pytest.mark.parametrize(
    ("event_type", "payload"),
    [
        (events.DECISION, {}),
        (events.DECISION, {"decision_id": "d1"}),
        (events.OUTCOME, {"outcome_id": "o1"}),
        (events.OUTCOME, {"outcome_id": ["o1"], "decision_id": "d1", "kind": "click", "value": 1.0, "final": False}),
        (events.OUTCOME, {"outcome_id": "o1", "decision_id": {}, "kind": "click", "value": 1.0, "final": False}),
        (events.ACTIVATION, {}),
        (events.ACTIVATION, {"decision_id": []}),
        (events.SPOOL, {"open": True}),
        (events.OUTCOME, {"outcome_id": "o1", "decision_id": "d1", "kind": "click", "value": None, "final": False}),
        (events.OUTCOME, {"outcome_id": "o1", "decision_id": "d1", "kind": "click", "value": "1", "final": False}),
        (events.OUTCOME, {"outcome_id": "o1", "decision_id": "d1", "kind": "click", "value": [1], "final": False}),
        (events.ACTIVATION, []),
        (events.OUTCOME, None),
    ],
)
def test_what_cannot_be_applied_is_set_aside_and_the_rest_goes_on(
    stream: Stream, event_type: str, payload: Any
) -> None:
    broken = stream.decision(0.0).add(1.0, event_type, payload).messages[-1]
    stream.outcome(2.0, "o2").tick(60.0)
    writer = Writer()
    batch = writer.run(stream.take())
    assert [(position, data) for position, data, _ in batch.set_aside] == [broken]
    assert batch.set_aside[0][2]
    assert writer.rewards == {"d1": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"slots": []},
        {"actions": []},
        {"slots": [{"chosen": 7, "served": None, "policy": None, "propensity": None, "draw": None}]},
    ],
)
def test_a_decision_without_a_chosen_action_is_set_aside(
    stream: Stream, make_decision: MakeDecision, change: dict[str, Any]
) -> None:
    payload = events.decision_payload(make_decision("broken")) | change
    if not payload["actions"]:
        payload["affinity"] = []
    stream.add(0.0, events.DECISION, payload).decision(1.0).tick(60.0)
    writer = Writer()
    batch = writer.run(stream.take())
    assert [position for position, _, _ in batch.set_aside] == [stream.messages[0][0]]
    assert list(writer.rewards) == ["d1"]


def test_bytes_that_are_no_event_are_set_aside(stream: Stream) -> None:
    batch = Writer().run([("1772443800000-0", b"\xff{"), *stream.tick(1.0).take()])
    assert batch.set_aside[0][:2] == ("1772443800000-0", b"\xff{")
    assert batch.position == stream.messages[-1][0]


def test_control_events_are_handed_on(stream: Stream) -> None:
    batch = Writer().run(stream.add(0.0, events.CONTROL, {"kind": "loop_changed"}).take())
    assert [event.payload for event in batch.controls] == [{"kind": "loop_changed"}]


# However the messages are cut into batches


def split(messages: Sequence[tuple[str, bytes]], cuts: Iterable[int]) -> list[Sequence[tuple[str, bytes]]]:
    edges = sorted({min(cut, len(messages)) for cut in cuts} | {0, len(messages)})
    return [messages[low:high] for low, high in pairwise(edges)]


NAMES = st.sampled_from(["d1", "d2", "d3", "d4"])
STEPS = st.one_of(
    st.tuples(st.just("decision"), NAMES, st.booleans()),
    st.tuples(
        st.just("outcome"),
        NAMES,
        st.sampled_from(["o1", "o2", "o3", "o4", "o5", "o6"]),
        st.integers(0, 3),
        st.booleans(),
    ),
    st.tuples(st.just("activation"), NAMES),
    st.tuples(st.just("tick")),
)


def drawn_stream(make_decision: MakeDecision, steps: list[tuple[float, tuple[Any, ...]]], clock: Clock) -> Stream:
    """Gaps between messages for a wall clock; for a simulated one, how far each lags behind an even pace."""
    stream, now = Stream(make_decision, clock), 0.0
    for amount, step in steps:
        now += amount if clock == "wall" else 0.9
        at = now if clock == "wall" else now - amount
        match step:
            case ("decision", name, deferred):
                stream.decision(at, name, deferred=deferred)
            case ("outcome", name, outcome_id, value, final):
                stream.outcome(at, outcome_id, name, float(value), final=final)
            case ("activation", name):
                stream.activation(at, name)
            case _:
                stream.tick(at)
    for later in range(1, 30):
        stream.tick(now + later)
    return stream


def applied(config: LoopConfig, batches: Iterable[Sequence[tuple[str, bytes]]], *, restarts: bool) -> Writer:
    writer = Writer(config)
    for messages in batches:
        writer.run(messages)
        if restarts:
            writer.restart()
    return writer


@pytest.mark.parametrize("clock", ["wall", "simulated"])
@pytest.mark.parametrize("close_on_final", [False, True])
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.0]), STEPS), max_size=40),
    st.lists(st.integers(0, 70), max_size=20),
    st.booleans(),
)
def test_however_messages_are_cut_the_interactions_are_the_same(
    make_decision: MakeDecision, clock: Clock, close_on_final: bool,
    steps: list[tuple[float, tuple[Any, ...]]], cuts: list[int], restarts: bool,
) -> None:  # fmt: skip
    config = replace(LOOP, clock=clock, close_on_final=close_on_final)
    messages = drawn_stream(make_decision, steps, clock).messages
    whole = applied(config, [messages], restarts=False)
    parts = applied(config, split(messages, cuts), restarts=restarts)
    single = applied(config, [[message] for message in messages], restarts=restarts)
    for other in (parts, single):
        assert other.rewards == whole.rewards
        assert sorted(other.inactive) == sorted(whole.inactive)
        assert other.stored == whole.stored
        assert (other.late, other.repeated) == (whole.late, whole.repeated)
        assert [closed.sequence for closed in other.closed] == list(range(1, len(other.closed) + 1))
        assert (other.state.position, other.state.stream_time) == (whole.state.position, whole.state.stream_time)
        assert other.state.open == {}
        if not close_on_final and clock == "wall":
            assert list(other.rewards) == list(whole.rewards)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.0]), STEPS), max_size=40))
def test_every_activated_decision_gives_exactly_one_interaction(
    make_decision: MakeDecision, steps: list[tuple[float, tuple[Any, ...]]]
) -> None:
    stream = drawn_stream(make_decision, steps, "wall")
    writer = applied(LOOP, [stream.messages], restarts=False)
    assert set(writer.rewards) | set(writer.inactive) == writer.decided
    assert not set(writer.rewards) & set(writer.inactive)
    assert sum(writer.rewards.values()) <= math.fsum(step[3] for _, step in steps if step[0] == "outcome")
