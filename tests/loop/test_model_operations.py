"""A loop's model replayed, imported and reset by its real writer, also when that is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.loop_changes import change_loop, tell_learner
from adapters.operations import Operation, OperationStore
from contextual_bandit.loops import RewardDefinition
from contextual_bandit.slots import lessons
from contextual_bandit.types import Action, LearningSetting, LoggedInteraction, PolicySnapshot
from contextual_bandit.vowpal import VowpalPolicy

DAY = 86400.0
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
OFFERS = [Action(name, {"category": name}) for name in ("left", "right")]
REWARD = RewardDefinition(wait_seconds=60.0)
SLOW = "--cb_explore_adf --epsilon 0.1 -l 0.01 --power_t 0"
OTHER = SLOW.replace("0.1", "0.2")
Drive = Callable[..., Any]


@pytest.fixture
def make(drive: Drive) -> Drive:
    def make(**settings: Any) -> Any:
        return drive(**{"arguments": SLOW, "reward": REWARD, "export_frequency_seconds": 1.0, **settings})

    return make


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay learns ten interactions at a time."""
    monkeypatch.setattr("learner.operations.REPLAY_STEP", 10)


def play(loop: Any, day: float, best: str, count: int = 60) -> None:
    for number in range(count):
        at, chosen = day * DAY + number * 60.0, number % 2
        decision_id = f"d{day}-{number}"
        loop.decide(at, decision_id, actions=OFFERS, served=(0.5, 0.5), chosen=chosen)
        loop.outcome(at + 1.0, decision_id, float(OFFERS[chosen].offer_id == best))
    loop.tick(day * DAY + count * 60.0 + 61.0).run()


def change(loop: Any, **settings: Any) -> str | None:
    """New settings, as a service gives them; the control event waits on the stream."""
    stores = loop.stores
    wanted = replace(loop.config, **settings)
    changed = change_loop(stores.engine, stores.client, loop.config, wanted, "test", datetime.now(UTC))
    loop.config = changed.config
    return changed.operation_id


def ask(loop: Any, kind: Any, **more: Any) -> str:
    store = OperationStore(loop.stores.engine)
    operation_id = store.add(loop.name, kind, "test", datetime.now(UTC), **more)
    tell_learner(loop.stores.client, loop.name, f"{kind}_model", "test", {"operation_id": operation_id})
    return operation_id


def operation(loop: Any, operation_id: str | None) -> Operation:
    assert operation_id is not None
    found = OperationStore(loop.stores.engine).get(operation_id)
    assert found is not None
    return found


def published(loop: Any) -> PolicySnapshot:
    found: PolicySnapshot | None = loop.stores.snapshots.newest(loop.name, published=True)
    assert found is not None
    return found


def trained(arguments: str, log: Iterable[LoggedInteraction], low: float = 0.0, high: float = 1.0) -> bytes:
    with closing(VowpalPolicy(LearningSetting(arguments, low, high))) as policy:
        for one in log:
            policy.learn(lessons(one))
        return policy.save()


@pytest.mark.usefixtures("small_steps")
def test_the_old_model_learns_and_serves_while_the_log_is_replayed(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left")
    operation_id = change(loop, arguments=OTHER)
    assert operation(loop, operation_id).state == "waiting"
    loop.run()
    running = operation(loop, operation_id)
    assert (running.state, running.detail["arguments"]) == ("running", OTHER)
    assert 0.0 < running.progress < 1.0
    play(loop, 1, "left", 10)
    assert published(loop).generation == 1
    assert published(loop).trained_through == 70
    while operation(loop, operation_id).state == "running":
        loop.writer.idle()
    base = published(loop)
    assert (base.generation, base.trained_through, base.arguments) == (2, 70, OTHER)
    assert base.model == trained(OTHER, loop.log(learnable=True))
    done = operation(loop, operation_id)
    assert (done.state, done.progress) == ("done", 1.0)
    assert (done.detail["snapshot_id"], done.detail["learned"]) == (base.snapshot_id, 70)
    play(loop, 2, "right", 10)
    loop.restart(killed=True)
    play(loop, 3, "right", 10)
    assert loop.verified().equal


@pytest.mark.usefixtures("small_steps")
def test_a_writer_killed_during_a_replay_begins_it_anew(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left")
    operation_id = change(loop, arguments=OTHER)
    loop.run()
    loop.restart(killed=True)
    assert (operation(loop, operation_id).state, operation(loop, operation_id).attempts) == ("running", 2)
    while operation(loop, operation_id).state == "running":
        loop.writer.idle()
    assert published(loop).model == trained(OTHER, loop.log(learnable=True))
    assert loop.verified().equal


@pytest.mark.usefixtures("small_steps")
def test_a_later_change_ends_a_replay(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left")
    first = change(loop, arguments=OTHER)
    loop.run()
    second = change(loop, arguments=SLOW.replace("0.1", "0.3"))
    loop.run()
    while operation(loop, second).state != "done":
        loop.writer.idle()
    assert operation(loop, first).state == "superseded"
    assert published(loop).setting == loop.config.setting
    assert published(loop).generation == 2


@pytest.mark.usefixtures("small_steps")
def test_a_replay_that_fails_again_and_again_is_given_up_and_the_old_model_stays(
    make: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make()
    play(loop, 0, "left")
    operation_id = change(loop, arguments=OTHER)
    with monkeypatch.context() as patched:
        patched.setattr("learner.operations.learn", _fail)
        with pytest.raises(RuntimeError):
            loop.run()
        for _ in range(2):
            loop.writer.abandon()
            with pytest.raises(RuntimeError):
                loop.open()
        loop.writer = loop.open()
    assert operation(loop, operation_id).state == "failed"
    play(loop, 1, "left", 10)
    assert (published(loop).generation, published(loop).arguments) == (1, SLOW)
    assert loop.verified().equal


def _fail(*_: Any) -> None:
    raise RuntimeError("the setting cannot learn this")


def test_a_reset_model_is_untrained_and_never_learns_what_was_before(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left")
    operation_id = ask(loop, "reset")
    loop.run()
    base = published(loop)
    assert (base.generation, base.trained_through) == (2, 60)
    assert base.model == trained(SLOW, [])
    assert operation(loop, operation_id).detail["snapshot_id"] == base.snapshot_id
    play(loop, 1, "right", 10)
    change(loop, arguments=OTHER)
    loop.run()
    assert published(loop).model == trained(OTHER, loop.log(learnable=True, after=60))
    assert loop.verified().equal


def test_an_imported_model_serves_to_the_byte_and_learns_on(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left")
    given = trained(OTHER, loop.log(learnable=True))
    play(loop, 1, "right", 10)
    operation_id = ask(loop, "import", detail={"arguments": OTHER}, model=given)
    loop.run()
    base = published(loop)
    assert (base.generation, base.trained_through, base.arguments, base.model) == (2, 70, OTHER, given)
    assert loop.stores.loops.get(loop.name).arguments == OTHER
    assert operation(loop, operation_id).state == "done"
    with pytest.raises(LookupError):
        OperationStore(loop.stores.engine).model(operation_id)
    loop.config = loop.stores.loops.get(loop.name)
    loop.restart(killed=True)
    play(loop, 2, "right", 10)
    assert published(loop).generation == 2
    assert loop.verified().equal


def test_a_model_that_cannot_be_used_is_refused_and_the_old_one_stays(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left")
    before = published(loop)
    operation_id = ask(loop, "import", detail={"arguments": OTHER}, model=b"no model")
    loop.run()
    assert operation(loop, operation_id).state == "failed"
    assert published(loop) == before
    assert loop.stores.loops.get(loop.name).arguments == SLOW


def test_what_was_taken_back_or_has_waited_too_long_changes_nothing(make: Drive) -> None:
    loop, store = make(), OperationStore
    play(loop, 0, "left")
    withdrawn = ask(loop, "reset")
    assert store(loop.stores.engine).withdraw(withdrawn, datetime.now(UTC))
    stale = store(loop.stores.engine).add(loop.name, "reset", "test", datetime.now(UTC) - timedelta(minutes=5))
    loop.run()
    loop.restart()
    assert (operation(loop, withdrawn).state, operation(loop, stale).state) == ("failed", "failed")
    assert published(loop).generation == 1


@pytest.mark.parametrize("at_start", [False, True])
def test_an_operation_whose_event_was_committed_but_not_done_is_done_after_a_restart(
    make: Drive, at_start: bool
) -> None:
    loop = make()
    play(loop, 0, "left")
    if at_start:
        operation_id = OperationStore(loop.stores.engine).add(loop.name, "reset", "test", datetime.now(UTC))
    else:
        operation_id = ask(loop, "reset")
    loop.restart(killed=True)
    assert operation(loop, operation_id).state == "done"
    loop.run()
    assert published(loop).generation == 2


def test_a_changed_reward_definition_is_learned_from_the_logged_outcomes(make: Drive) -> None:
    loop = make()
    for number in range(40):
        at, chosen = number * 60.0, number % 2
        loop.decide(at, f"d{number}", actions=OFFERS, served=(0.5, 0.5), chosen=chosen)
        for value in (0.1, 0.9) if chosen else ():
            loop.outcome(at + 1.0, f"d{number}", value)
    loop.tick(40 * 60.0 + 61.0).run()
    assert set(loop.rewards().values()) == {0.0, 0.1}
    definition = replace(REWARD, aggregation="sum", default=0.5)
    operation_id = change(loop, reward=definition)
    loop.run()
    assert operation(loop, operation_id).detail["rewards"] is True
    learned = [replace(one, reward=1.0 if one.decision.slots[0].chosen else 0.5) for one in loop.log(learnable=True)]
    assert published(loop).model == trained(SLOW, learned)
    assert loop.verified().equal


def test_a_changed_wait_or_floor_needs_no_replay(make: Drive) -> None:
    loop = make()
    play(loop, 0, "left", 10)
    longer = replace(REWARD, wait_seconds=120.0)
    assert change(loop, reward=longer, exploration_floor=0.5, learning_mode="logging_only") is None
    loop.run()
    assert published(loop).generation == 1
    loop.decide(DAY, "waits", actions=OFFERS).tick(DAY + 119.0).run()
    assert "waits" not in loop.rewards()
    loop.tick(DAY + 121.0).run()
    assert "waits" in loop.rewards()


def test_changed_settings_hold_for_what_comes_behind_them_in_the_same_batch(make: Drive) -> None:
    loop = make()
    loop.decide(0.0, "before", actions=OFFERS)
    change(loop, reward=replace(REWARD, wait_seconds=5.0))
    loop.decide(0.0, "behind", actions=OFFERS).run()
    loop.tick(6.0).run()
    assert set(loop.rewards()) == {"behind"}
    loop.tick(61.0).run()
    assert set(loop.rewards()) == {"behind", "before"}


def test_only_so_many_days_are_replayed(make: Drive) -> None:
    loop = make(model_retrain_days=2.0)
    play(loop, 0, "left", 40)
    play(loop, 5, "right", 40)
    change(loop, arguments=OTHER)
    loop.run()
    assert published(loop).model == trained(OTHER, loop.log(learnable=True, after=40))
    change(loop, close_on_final=True)
    loop.decide(6 * DAY, "closes now", actions=OFFERS).run()
    loop.outcome(6 * DAY + 1.0, "closes now", 1.0, final=True)
    change(loop, arguments=SLOW, model_retrain_days=0.0)
    loop.run()
    assert len(loop.log()) == 81
    assert published(loop).model == trained(SLOW, [])


@pytest.mark.usefixtures("small_steps")
def test_a_generation_that_begins_meanwhile_is_trained_by_the_new_settings_and_ends_the_replay(make: Drive) -> None:
    loop = make(lookback_days=4.0)
    play(loop, 0, "left")
    operation_id = change(loop, arguments=OTHER)
    loop.run()
    assert operation(loop, operation_id).state == "running"
    play(loop, 2, "left", 4)
    assert operation(loop, operation_id).state == "done"
    assert (published(loop).arguments, published(loop).generation) == (OTHER, 2)
    loop.writer.idle()
    assert published(loop).generation == 2
    assert loop.verified().equal
