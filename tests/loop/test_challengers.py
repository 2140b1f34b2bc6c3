"""Challengers follow a loop's log, are judged, promoted, rolled back, and stopped by guardrails; also when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from adapters.challengers import ChallengerState, ChallengerStore
from adapters.installation import Installation
from adapters.loop_changes import tell_learner
from adapters.operations import Operation, OperationStore
from adapters.receipts import Receipts
from adapters.snapshots import policy_key
from adapters.streams import VERSIONS_KEY
from adapters.tables import audit_log
from contextual_bandit import events
from contextual_bandit.loops import Challenger, Guardrail, LoopConfig, RewardDefinition
from contextual_bandit.types import Action, Context, LearningSetting
from contextual_bandit.vowpal import VowpalPolicy, policy_id
from evaluation.interactions import Interactions
from evaluation.learned_targets import ProgressiveTarget
from learner.challengers import ChallengerFollower
from learner.erase import ACTION
from learner.shadow import ShadowPolicy
from learner.train import learn

REPOSITORY = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
OFFERS = [Action(name, {"category": name}) for name in ("left", "right")]
PLAIN = "--cb_explore_adf --epsilon 0.1 --cb_type mtr"
CROSSED = f"{PLAIN} -q DO"
RANDOM = "--cb_explore_adf --epsilon 1.0 --cb_type mtr"
SECOND = Context({"D": {"segment": "s1"}})
HIT, MISS = 0.7, 0.2
Drive = Callable[..., Any]


@pytest.fixture
def make(drive: Drive) -> Drive:
    def make(**settings: Any) -> Any:
        plain = {"arguments": PLAIN, "reward": RewardDefinition(wait_seconds=1.0), "export_frequency_seconds": 1e6}
        return drive(**{**plain, **settings})

    return make


@pytest.fixture
def follower(installation: Installation) -> Iterator[ChallengerFollower]:
    with closing(ChallengerFollower(installation)) as opened:
        yield opened


def play(
    loop: Any, count: int, *, start: int = 0, seed: int = 7, share: float = 0.0, canary: float = MISS,
    customers: int = 1,
) -> None:  # fmt: skip
    """Decisions of two segments that like an offer each; the log shows a segment its own in three of four.

    A ``share`` of them is the challenger's named "bold", for which every reward has the probability ``canary``.
    """
    random = Random(seed)
    for number in range(start, start + count):
        segment = random.randrange(2)
        served = (0.75, 0.25) if segment == 0 else (0.25, 0.75)
        chosen = segment if random.random() < 0.75 else 1 - segment
        decision = loop.make_decision(
            f"d{number}", loop=loop.name, actions=OFFERS, served=served, chosen=chosen,
            context={"D": {"segment": f"s{segment}"}}, decided_at=NOW + timedelta(seconds=number),
        )  # fmt: skip
        decision = replace(decision, customer_id=f"customer-{number % customers}")
        worth = HIT if segment == chosen else MISS
        if random.random() < share:
            decision = replace(decision, policy_id=policy_id(RANDOM), snapshot_id=f"{loop.name}@bold-g1-7")
            worth = canary
        else:
            decision = replace(decision, snapshot_id=f"{loop.name}-g{loop.writer.trainer.generation}-3")
        loop.send(float(number), events.DECISION, events.decision_payload(decision))
        if random.random() < worth:
            loop.outcome(number + 0.5, f"d{number}", 1.0)
    loop.tick(start + count + 2.0).run()


def follow(follower: ChallengerFollower) -> None:
    while follower.look():
        pass


def standing(loop: Any) -> dict[str, ChallengerState]:
    return {one.name: one for one in ChallengerStore(loop.stores.engine).all(loop.name)}


def promote(loop: Any, name: str, action: str = "promoted", reason: str = "it is better") -> Operation:
    store = OperationStore(loop.stores.engine)
    detail = {"name": name, "action": action, "reason": reason}
    operation_id = store.add(loop.name, "promote", "somebody", datetime.now(UTC), detail=detail)
    tell_learner(loop.stores.client, loop.name, "promote_model", "somebody", {"operation_id": operation_id})
    loop.run()
    found = store.get(operation_id)
    assert found is not None
    return found


def audited(loop: Any, action: str) -> list[tuple[str, dict[str, Any]]]:
    query = select(audit_log.c.actor, audit_log.c.detail).where(
        audit_log.c.subject == loop.name, audit_log.c.action == action
    )
    with loop.stores.engine.connect() as connection:
        return [(row.actor, row.detail) for row in connection.execute(query.order_by(audit_log.c.audit_id))]


def true_value(loop: Any, arguments: str) -> float:
    """What a challenger is worth on this log: its probabilities as it learned, times the offers' true rewards."""
    with closing(ProgressiveTarget(LearningSetting(arguments), loop.config)) as target:
        total = n = 0.0
        for chunk in Interactions(loop.log()).chunks():
            segments = np.array([int(one.context.namespaces["D"]["segment"] == "s1") for one in chunk.decisions])
            is_own = np.arange(len(chunk.row)) - chunk.first[chunk.row] == segments[chunk.row]
            total += float(target(chunk) @ np.where(is_own, HIT, MISS))
            n += chunk.n
    return total / n


def shares_of(model: bytes, arguments: str) -> tuple[float, ...]:
    with closing(VowpalPolicy(arguments, model)) as policy:
        return policy.distribution(SECOND, OFFERS)


def shares_learned(loop: Any, arguments: str) -> tuple[float, ...]:
    """By a policy that has learned the whole log in one go."""
    with closing(VowpalPolicy(arguments)) as policy:
        for one in loop.log(learnable=True):
            learn(policy, one)
        return policy.distribution(SECOND, OFFERS)


def test_the_better_and_the_worse_are_told_apart_and_their_intervals_hold_the_truth(
    make: Drive, follower: ChallengerFollower
) -> None:
    loop = make(challengers=(Challenger("bold", RANDOM), Challenger("crossed", CROSSED)))
    play(loop, 1000)
    follow(follower)
    found = standing(loop)
    assert list(found) == ["bold", "crossed"]
    for name, arguments in (("bold", RANDOM), ("crossed", CROSSED)):
        state = found[name]
        assert (state.n, state.trained_through, state.generation, state.served) == (1000, 1000, 1, 0)
        truth = true_value(loop, arguments)
        assert state.low is not None
        assert state.high is not None
        assert state.low < truth < state.high
        assert state.champion_value == pytest.approx(sum(loop.rewards().values()) / 1000)
    assert found["bold"].verdict == "worse"
    assert found["crossed"].verdict == "better"
    newest = loop.stores.snapshots.newest(loop.name, published=True, challenger="crossed")
    assert (newest.snapshot_id, newest.trained_through) == (f"{loop.name}@crossed-g1-1000", 1000)
    assert loop.stores.client.hget(VERSIONS_KEY, f"snapshot:{policy_key(loop.name, 'crossed')}").decode() == (
        newest.snapshot_id
    )
    # It is no snapshot of the loop's own policy.
    assert loop.stores.snapshots.newest(loop.name, published=True).challenger == ""
    assert loop.stores.snapshots.get(newest.snapshot_id) == newest


def test_another_learning_setting_begins_anew_and_one_that_is_gone_is_forgotten(
    make: Drive, follower: ChallengerFollower
) -> None:
    loop = make(challengers=(Challenger("bold", RANDOM), Challenger("crossed", CROSSED)))
    play(loop, 60)
    follow(follower)
    loop.change(challengers=(Challenger("bold", PLAIN),))
    follow(follower)
    state = standing(loop)
    assert list(state) == ["bold"]
    assert (state["bold"].generation, state["bold"].n, state["bold"].arguments) == (2, 60, PLAIN)
    loop.change(challengers=(Challenger("bold", PLAIN), Challenger("crossed", CROSSED)))
    follow(follower)
    assert standing(loop)["crossed"].generation == 2
    loop.change(reward=replace(loop.config.reward, high=2.0))
    follow(follower)
    assert {name: one.generation for name, one in standing(loop).items()} == {"bold": 3, "crossed": 3}


def test_one_that_cannot_learn_is_given_up_and_the_others_go_on(
    make: Drive, follower: ChallengerFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make(challengers=(Challenger("bold", RANDOM), Challenger("crossed", CROSSED)))
    play(loop, 30)
    original = ShadowPolicy.take

    def failing(shadow: Any, config: LoopConfig, page: Any) -> None:
        if shadow.setting.arguments == RANDOM:
            raise ValueError("what it was given")
        original(shadow, config, page)

    monkeypatch.setattr(ShadowPolicy, "take", failing)
    follow(follower)
    found = standing(loop)
    assert (found["bold"].error, found["bold"].n) == ("ValueError('what it was given')", 0)
    assert (found["crossed"].error, found["crossed"].n) == (None, 30)
    monkeypatch.undo()
    follow(follower)
    assert standing(loop)["bold"].n == 0
    assert promote(loop, "bold").state == "failed"
    loop.change(challengers=(Challenger("bold", f"{RANDOM} -q DO"),))
    follow(follower)
    assert (standing(loop)["bold"].error, standing(loop)["bold"].n) == (None, 30)


def test_one_that_kills_its_follower_again_and_again_is_given_up(make: Drive, follower: ChallengerFollower) -> None:
    loop = make(challengers=(Challenger("bold", RANDOM), Challenger("crossed", CROSSED)))
    follow(follower)
    follower.close()
    store = ChallengerStore(loop.stores.engine)
    for _ in range(3):
        store.attempt(loop.name, store.row(loop.name, "bold"))  # type: ignore[arg-type]
    play(loop, 30)
    follow(follower)
    found = standing(loop)
    assert (found["bold"].error, found["bold"].n, found["crossed"].n) == ("its follower died 3 times", 0, 30)


FOLLOW = """
import threading
import learner.followed_log, learner.work
from adapters.installation import open_installation
from adapters.settings import load_settings
learner.followed_log.PAGE = 20
with open_installation(load_settings()) as installation:
    learner.work.follow_forever(installation, threading.Event())
"""


def test_killed_between_two_pages_it_is_as_if_nobody_had_been_killed(
    make: Drive, follower: ChallengerFollower, installation: Installation
) -> None:
    loop = make(challengers=(Challenger("crossed", CROSSED),))
    play(loop, 300)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OFFERLOOP_")}
    environment = {**kept, "OFFERLOOP_DATA_DIR": str(installation.settings.data_dir)}
    process = subprocess.Popen([sys.executable, "-c", FOLLOW], env=environment, cwd=REPOSITORY)
    try:
        deadline = time.monotonic() + 60.0
        store = ChallengerStore(installation.engine)
        while store.positions(loop.name).get("crossed", (0, 0))[1] < 100:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert 0 < standing(loop)["crossed"].n < 300
    deadline = time.monotonic() + 10.0
    while standing(loop)["crossed"].n < 300:
        # PostgreSQL frees the lock once it has seen the connection end.
        assert time.monotonic() < deadline
        follow(follower)
    loop.change(challengers=(Challenger("crossed", CROSSED), Challenger("twin", CROSSED)))
    follow(follower)
    killed, twin = (standing(loop)[name] for name in ("crossed", "twin"))
    for name in ("n", "served", "verdict", "trained_through"):
        assert getattr(killed, name) == getattr(twin, name)
    for name in ("value", "low", "high", "gain", "gain_low", "gain_high", "effective_sample_size"):
        assert getattr(killed, name) == pytest.approx(getattr(twin, name), rel=1e-9), name
    rows = {row.name: row for row in store.rows(loop.name)}
    assert shares_of(rows["crossed"].model or b"", CROSSED) == shares_of(rows["twin"].model or b"", CROSSED)


def test_promoted_it_serves_with_all_that_it_learned_and_rolled_back_the_former_one_does(
    make: Drive, follower: ChallengerFollower
) -> None:
    loop = make(challengers=(Challenger("crossed", CROSSED),), export_frequency_seconds=1.0)
    play(loop, 300)
    follow(follower)
    play(loop, 40, start=300, seed=8)
    before = loop.stores.snapshots.newest(loop.name, published=True)
    operation = promote(loop, "crossed")
    assert (operation.state, operation.error) == ("done", None)
    base = loop.stores.snapshots.newest(loop.name, published=True)
    assert (base.generation, base.trained_through, base.arguments) == (2, 340, CROSSED)
    assert operation.detail["snapshot_id"] == base.snapshot_id
    assert shares_of(base.model, CROSSED) == shares_learned(loop, CROSSED)
    config = loop.stores.loops.get(loop.name)
    assert (config.arguments, config.challengers) == (CROSSED, (Challenger("previous", PLAIN),))
    assert loop.stores.snapshots.newest(loop.name, published=True, challenger="previous").model == before.model
    ((actor, detail),) = audited(loop, "promoted")
    assert (actor, detail["reason"], detail["name"], detail["n"]) == ("somebody", "it is better", "crossed", 300)
    loop.config = config
    loop.restart(killed=True)
    play(loop, 30, start=400, seed=9)
    follow(follower)
    assert standing(loop)["previous"].trained_through == 370
    assert loop.verified().equal
    assert promote(loop, "previous", "rolled_back", "it was not").state == "done"
    restored = loop.stores.snapshots.newest(loop.name, published=True)
    assert (restored.generation, restored.arguments, restored.trained_through) == (3, PLAIN, 370)
    assert shares_of(restored.model, PLAIN) == shares_learned(loop, PLAIN)
    assert loop.stores.loops.get(loop.name).challengers == (Challenger("previous", CROSSED),)
    assert [detail["reason"] for _, detail in audited(loop, "rolled_back")] == ["it was not"]


def test_what_cannot_be_promoted_is_refused_and_nothing_changes(make: Drive, follower: ChallengerFollower) -> None:
    loop = make(challengers=(Challenger("crossed", CROSSED),))
    play(loop, 30)
    early, nobody = promote(loop, "crossed"), promote(loop, "nobody")
    assert "has not learned from the log yet" in (early.error or "")
    assert "has no challenger 'nobody'" in (nobody.error or "")
    follow(follower)
    assert loop.stores.snapshots.newest(loop.name, published=True).generation == 1
    assert loop.stores.loops.get(loop.name).arguments == PLAIN


@pytest.mark.parametrize("at", ["learner.promotion.PromotionStore.put", "learner.operations.open_trainer"])
def test_a_learner_that_dies_while_it_promotes_does_it_once(
    make: Drive, follower: ChallengerFollower, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    loop = make(challengers=(Challenger("crossed", CROSSED),))
    play(loop, 60)
    follow(follower)
    with monkeypatch.context() as patched:
        patched.setattr(at, _die)
        with pytest.raises(MemoryError):
            promote(loop, "crossed")
    loop.config = loop.stores.loops.get(loop.name)
    loop.restart(killed=True)
    loop.config = loop.stores.loops.get(loop.name)
    (operation,) = OperationStore(loop.stores.engine).newest(loop.name)
    assert operation.state == "done"
    assert loop.config.challengers == (Challenger("previous", PLAIN),)
    assert loop.stores.snapshots.newest(loop.name, published=True).generation == 2
    assert len(audited(loop, "promoted")) == 1


def _die(*_: Any, **__: Any) -> None:
    raise MemoryError


def test_a_canary_that_breaks_a_bound_is_stopped_and_the_audit_log_says_why(
    make: Drive, follower: ChallengerFollower
) -> None:
    bound = Guardrail("reward", low=-0.05, relative=True, least_decisions=100)
    loop = make(challengers=(Challenger("bold", RANDOM, share=0.5),), guardrails=(bound,))
    play(loop, 500, share=0.5, canary=0.1)
    follow(follower)
    config = loop.stores.loops.get(loop.name)
    assert config.challengers == (Challenger("bold", RANDOM, share=0.0),)
    ((actor, detail),) = audited(loop, "canary_stopped")
    assert (actor, detail["policy"], detail["share"]) == ("guardrail", "bold", 0.5)
    assert "reward beside the champion" in detail["reason"]
    assert "below -0.05" in detail["reason"]
    assert detail["high"] < -0.05
    state = standing(loop)["bold"]
    assert (state.guardrails[0].state, state.guardrails[0].bound) == ("violated", -0.05)
    assert state.served + state.served_champion in (498, 499, 500)
    assert state.served_value == pytest.approx(0.1, abs=0.05)
    # Whoever lets it decide again begins to watch it anew.
    loop.config = config
    loop.change(challengers=(Challenger("bold", RANDOM, share=0.2),))
    follow(follower)
    assert loop.stores.loops.get(loop.name).challengers[0].share == 0.2


def test_a_canary_that_keeps_its_bounds_goes_on(make: Drive, follower: ChallengerFollower) -> None:
    bounds = (Guardrail("reward", low=0.3), Guardrail("fallback_rate", high=0.1), Guardrail("outcome:refund", low=-1.0))
    loop = make(challengers=(Challenger("bold", RANDOM, share=0.5),), guardrails=bounds)
    play(loop, 420, share=0.5, canary=0.6)
    follow(follower)
    assert loop.stores.loops.get(loop.name).challengers[0].share == 0.5
    assert {one.state for one in standing(loop)["bold"].guardrails} <= {"within", "open"}


def test_a_promotion_that_breaks_a_bound_is_rolled_back_by_itself(make: Drive, follower: ChallengerFollower) -> None:
    bound = Guardrail("reward", low=0.8, least_decisions=100)
    loop = make(challengers=(Challenger("crossed", CROSSED),), guardrails=(bound,))
    play(loop, 60)
    follow(follower)
    assert promote(loop, "crossed").state == "done"
    loop.config = loop.stores.loops.get(loop.name)
    play(loop, 300, start=100, seed=8)
    follow(follower)
    watch = ChallengerStore(loop.stores.engine).watch(loop.name)
    assert watch is not None
    assert (watch.generation, watch.served) == (2, 300)
    follow(follower)
    loop.run()
    assert loop.stores.loops.get(loop.name).arguments == PLAIN
    ((actor, detail),) = audited(loop, "rolled_back")
    assert actor == "guardrail"
    assert "reward is 0." in detail["reason"]
    assert ChallengerStore(loop.stores.engine).watch(loop.name) is None


def test_a_promotion_that_keeps_its_bounds_is_watched_for_so_long_and_no_longer(
    make: Drive, follower: ChallengerFollower
) -> None:
    bound = Guardrail("reward", low=0.1, least_decisions=10)
    loop = make(challengers=(Challenger("crossed", CROSSED),), guardrails=(bound,))
    play(loop, 30)
    follow(follower)
    promote(loop, "crossed")
    loop.config = loop.stores.loops.get(loop.name)
    store = ChallengerStore(loop.stores.engine)
    for start, is_watched in ((100, True), (200, False)):
        play(loop, 60, start=start)
        follow(follower)
        assert (store.watch(loop.name) is not None) is is_watched
    assert loop.stores.loops.get(loop.name).arguments == CROSSED


def test_erased_customers_are_in_no_challenger_and_in_none_of_its_snapshots(
    make: Drive, follower: ChallengerFollower
) -> None:
    loop = make(challengers=(Challenger("crossed", CROSSED),))
    play(loop, 60, customers=2)
    follow(follower)
    receipts = Receipts(loop.stores.engine)
    receipt_id = receipts.begin("customer-1", [f"loop:{loop.name}"], "somebody", NOW)
    payload = {"action": ACTION, "customer_id": "customer-1", "receipt_id": receipt_id, "actor": "somebody"}
    loop.send(100.0, events.CONTROL, payload).run()
    assert loop.stores.snapshots.newest(loop.name, challenger="crossed") is None
    assert standing(loop) == {}
    follow(follower)
    state = standing(loop)["crossed"]
    assert (state.generation, state.n) == (3, 30)
    newest = loop.stores.snapshots.newest(loop.name, published=True, challenger="crossed")
    assert newest.generation == 3
    assert shares_of(newest.model, CROSSED) == shares_learned(loop, CROSSED)
