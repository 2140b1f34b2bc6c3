"""A loop's log deleted in stream order by its real writer: what was logged before is gone, settings and model stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from adapters.interaction_log import count_loop, find_decision
from adapters.loop_changes import change_loop, tell_learner
from adapters.operations import Operation, OperationKind, OperationStore
from adapters.streams import decided_key
from adapters.tables import operations, outcomes
from contextual_bandit.loops import RewardDefinition
from contextual_bandit.types import Action

SETTING = "--cb_explore_adf --epsilon 0.1 -l 0.01 --power_t 0"
OTHER = SETTING.replace("0.1", "0.2")
OFFERS = [Action(name, {"category": name}) for name in ("left", "right")]
WAIT = 60.0


@pytest.fixture
def loop(drive: Callable[..., Any]) -> Any:
    """A loop with twenty closed decisions, one that is open, and an outcome without its decision."""
    driven = drive(arguments=SETTING, reward=RewardDefinition(wait_seconds=WAIT), export_frequency_seconds=1.0)
    play(driven, 0.0)
    driven.decide(2000.0, "open", actions=OFFERS).outcome(2000.0, "overtaken", 1.0).run()
    return driven


def play(loop: Any, start: float, count: int = 20) -> None:
    for number in range(count):
        at, name = start + number * 10.0, f"d{start:g}-{number}"
        loop.decide(at, name, actions=OFFERS, chosen=number % 2).outcome(at + 1.0, name, float(number % 2))
    loop.tick(start + count * 10.0 + WAIT + 1.0).run()


def ask(loop: Any) -> str:
    """The deletion, as a service asks for it; its control event waits on the stream."""
    operation_id = OperationStore(loop.stores.engine).add(loop.name, "delete_log", "test", datetime.now(UTC))
    tell_learner(loop.stores.client, loop.name, "delete_log", "test", {"operation_id": operation_id})
    return operation_id


def operation(loop: Any, operation_id: str | None) -> Operation:
    found = OperationStore(loop.stores.engine).get(operation_id or "")
    assert found is not None
    return found


def published(loop: Any) -> Any:
    return loop.stores.snapshots.newest(loop.name, published=True)


def test_what_was_logged_before_it_is_gone_and_what_comes_after_it_stays(loop: Any) -> None:
    before = published(loop)
    keys = [decided_key(loop.name, name) for name in ("open", "d0-0")]
    loop.stores.client.mset(dict.fromkeys(keys, b"x"))
    # One batch: a decision on either side of the event.
    loop.decide(2001.0, "just before", actions=OFFERS)
    operation_id = ask(loop)
    loop.decide(2002.0, "just after", actions=OFFERS).outcome(2003.0, "open", 1.0).run()
    counts = count_loop(loop.stores.engine, loop.name)
    assert (counts.decisions, counts.open, counts.interactions) == (1, 1, 0)
    assert find_decision(loop.stores.engine, loop.name, "just after") is not None
    assert loop.stores.client.exists(*keys) == 0
    loop.tick(2002.0 + WAIT + 1.0).run()
    assert loop.rewards() == {"just after": 0.0}
    done = operation(loop, operation_id)
    assert (done.state, done.detail["rows"]["interactions"], done.detail["rows"]["open_decisions"]) == ("done", 20, 2)
    base = loop.stores.snapshots.base(loop.name, 2)
    assert (base.generation, base.trained_through, base.model) == (2, 20, before.model)
    with loop.stores.engine.connect() as connection:
        kept = connection.execute(select(func.count()).where(outcomes.c.loop == loop.name)).scalar_one()
    # The reward of a deleted event came after it, and waits for a decision that there is not.
    assert kept == 1
    assert loop.verified().equal


def test_a_replay_learns_only_what_is_left(loop: Any) -> None:
    ask(loop)
    loop.run()
    play(loop, 3000.0, 6)
    changed = change_loop(
        loop.stores.engine, loop.stores.client, loop.config, replace(loop.config, arguments=OTHER), "test",
        datetime.now(UTC),
    )  # fmt: skip
    loop.run()
    assert operation(loop, changed.operation_id).detail["learned"] == 6
    assert loop.verified().equal


def test_a_replay_that_runs_begins_anew(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.operations.REPLAY_STEP", 5)
    changed = change_loop(
        loop.stores.engine, loop.stores.client, loop.config, replace(loop.config, arguments=OTHER), "test",
        datetime.now(UTC),
    )  # fmt: skip
    loop.run()
    assert operation(loop, changed.operation_id).state == "running"
    ask(loop)
    loop.run()
    done = operation(loop, changed.operation_id)
    assert (done.state, done.detail["learned"]) == ("done", 0)
    assert published(loop).arguments == OTHER


def test_a_writer_that_was_killed_deletes_it_when_it_meets_the_event_again(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation_id = ask(loop)
    with monkeypatch.context() as patched:
        patched.setattr("learner.operations.start_generation", _fail)
        with pytest.raises(RuntimeError):
            loop.run()
    # Its rows are gone, its event is not committed: the next writer begins the generation.
    loop.restart(killed=True)
    assert operation(loop, operation_id).state == "running"
    loop.run()
    assert (operation(loop, operation_id).state, operation(loop, operation_id).attempts) == ("done", 2)
    assert published(loop).generation == 2
    loop.restart(killed=True)
    assert published(loop).generation == 2


def _fail(*_: Any) -> None:
    raise RuntimeError("the process was killed")


def test_what_was_taken_back_or_is_stale_deletes_nothing(loop: Any) -> None:
    store = OperationStore(loop.stores.engine)
    withdrawn, stale = ask(loop), ask(loop)
    assert store.withdraw(withdrawn, datetime.now(UTC))
    with loop.stores.engine.begin() as connection:
        earlier = datetime.now(UTC) - timedelta(minutes=5)
        mine = operations.c.operation_id == stale
        connection.execute(update(operations).where(mine).values(created_at=earlier))
    loop.run()
    assert (operation(loop, withdrawn).state, operation(loop, stale).state) == ("failed", "failed")
    assert len(loop.log()) == 20
    # Its event was lost with the stream: nobody waits for it, and the next look ends it.
    lost = store.add(loop.name, "delete_log", "test", datetime.now(UTC) - timedelta(minutes=5))
    loop.restart()
    assert operation(loop, lost).state == "failed"
    assert published(loop).generation == 1


def test_ended_operations_are_forgotten_but_for_what_generations_ask_for(loop: Any) -> None:
    store, now = OperationStore(loop.stores.engine), datetime.now(UTC)
    ended = {}
    asked: tuple[tuple[str, OperationKind, dict[str, Any]], ...] = (
        ("old reset", "reset", {"trained_through": 3}), ("reset", "reset", {"trained_through": 5}),
        ("rewards", "replay", {"rewards": True}), ("plain", "replay", {"rewards": False}),
        ("deletion", "delete_log", {}),
    )  # fmt: skip
    for name, kind, detail in asked:
        ended[name] = store.add(loop.name, kind, "test", datetime.now(UTC), detail=detail)
        store.finish(ended[name], {}, now)
    failed = store.add(loop.name, "replay", "test", now, version=7)
    store.fail(failed, "it cannot be learned", now)
    waiting = store.add(loop.name, "replay", "test", now)
    store.forget(now)
    assert {*ended.values(), failed} <= {one.operation_id for one in store.newest(loop.name)}
    store.forget(now + timedelta(seconds=1))
    left = {one.operation_id for one in store.newest(loop.name)}
    assert left == {ended["reset"], ended["rewards"], failed, waiting}
    assert (store.reset_through(loop.name), store.rewards_changed(loop.name)) == (5, True)
    assert store.failed_version(loop.name) == 7
