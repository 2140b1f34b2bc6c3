"""A customer erased through the streams: nothing anywhere names them, and models are as if they had never come."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.client import Pipeline
from sqlalchemy import event, func, select, text

from adapters.catalogue import OfferCatalogue, audit
from adapters.customers import POPULATION, CustomerStore, customer_cache_key
from adapters.erasure import ErasureRequests, LoopErasures, ProfileErasures
from adapters.installation import Installation
from adapters.interaction_log import count_loop, find_decision
from adapters.receipts import ERASED, Receipt, customer_mark
from adapters.streams import ACTIVITY_STREAM, StreamReader, decided_key, loop_stream, profile_key
from adapters.tables import audit_log, outcomes, unit_changes
from adapters.units import seen_key, units_key
from contextual_bandit import events
from contextual_bandit.limits import HOLDS_STOCK
from contextual_bandit.loops import RewardDefinition
from contextual_bandit.profile import Activity, Population, decode_population
from contextual_bandit.types import Action, CustomerRecord, Limits, Offer
from contextual_bandit.vowpal import VowpalPolicy
from learner.erase import ACTION
from learner.loop import LoopWriter, Stores
from learner.profiles import ProfileWriter
from learner.run import Runner

REWARD = RewardDefinition(wait_seconds=60.0)
OFFERS = [Action(name, {"category": name}) for name in ("left", "right")]
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
_numbers = itertools.count()


def flat(value: Any) -> list[bytes]:
    """Every name and value in an answer of Redis."""
    if isinstance(value, bytes):
        return [value]
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return [one for part in parts for one in flat(part)]


@dataclass
class Shop:
    """Loops and activity on one installation, with their writers."""

    installation: Installation
    stores: Stores
    make_loop: Callable[..., Any]
    make_decision: Callable[..., Any]
    loops: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.profiles = self.open_profiles()
        self.requests = ErasureRequests(self.installation.engine, self.installation.client)

    def open_profiles(self) -> ProfileWriter:
        return ProfileWriter(self.stores.writers, self.installation.client, self.stores.reader, self.stores.metrics)

    def loop(self, **settings: Any) -> Any:
        settings = {"reward": REWARD, "export_frequency_seconds": 1.0, **settings}
        self.loops.append(self.make_loop(**settings))
        return self.loops[-1]

    def decide(self, loop: Any, at: float, decision_id: str, customer: str, **keywords: Any) -> None:
        made = self.make_decision(decision_id, loop=loop.name, actions=OFFERS, served=(0.5, 0.5), **keywords)
        decision = replace(made, customer_id=customer)
        loop.send(at, events.DECISION, events.decision_payload(decision))
        self.installation.client.hset(decided_key(loop.name, decision_id), "position", "1-1")

    def visit(self, loop: Any, at: float, customer: str) -> None:
        """A decision and its outcome, which differ by the time."""
        decision_id, number = f"v{at:g}", int(at)
        self.decide(loop, at, decision_id, customer, chosen=number % 2, context={"D": {"n": float(number % 7)}})
        loop.outcome(at + 0.5, decision_id, float(number % 3 == 0), f"{loop.name}-{decision_id}-o")

    def act(self, customer: str, category: str = "garden", day: int = 0) -> None:
        at = START + timedelta(days=day)
        activity = Activity(f"act-{next(_numbers)}", customer, "purchase", at, category, None, 10.0)
        message = events.encode(events.ACTIVITY, at, {"activities": [events.activity_payload(activity)]})
        self.stores.reader.append(ACTIVITY_STREAM, message)

    def request(self, customer: str, *, loops: list[Any] | None = None) -> str:
        """What the route does."""
        names = [loop.name for loop in (self.loops if loops is None else loops)]
        receipt_id = self.requests.begin(customer, names, "tester", NOW)
        self.order(customer, receipt_id, names)
        return receipt_id

    def order(self, customer: str, receipt_id: str, names: list[str]) -> None:
        payload = {"action": ACTION, "customer_id": customer, "receipt_id": receipt_id, "actor": "tester"}
        message = events.encode(events.CONTROL, datetime(1970, 1, 1, tzinfo=UTC), payload)
        for stream in (*map(loop_stream, names), ACTIVITY_STREAM):
            self.stores.reader.append(stream, message)

    def run(self) -> None:
        """Apply everything that waits."""
        for loop in self.loops:
            if loop.waiting():
                loop.run()
        messages = self.stores.reader.read({ACTIVITY_STREAM: self.profiles.position}, 100_000, 1)
        if messages:
            self.profiles.handle(messages[ACTIVITY_STREAM])

    def receipt(self, receipt_id: str) -> Receipt:
        found = self.requests.receipts.find(receipt_id)
        assert found is not None
        return found

    def population(self) -> Population:
        state = CustomerStore(self.installation.engine, self.installation.client).profile(POPULATION)
        return decode_population(state) if state else Population()

    def places(self, name: str) -> list[str]:
        """Every row of every table, and every key and value of Redis, that has the name in it."""
        return sorted({*self._in_tables(name), *self._in_redis(name.encode())})

    def _in_tables(self, name: str) -> Iterator[str]:
        with self.installation.engine.connect() as connection:
            tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
            for table in tables.all():
                # A bytea column's text is its bytes in hexadecimal.
                found = text(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE :a OR t::text LIKE :b')
                like = {"a": f"%{name}%", "b": f"%{name.encode().hex()}%"}
                if connection.execute(found, like).scalar_one():
                    yield f"table {table}"

    def _in_redis(self, name: bytes) -> Iterator[str]:
        client: Any = self.installation.client
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            reads = {
                b"string": client.get, b"hash": client.hgetall, b"stream": client.xrange, b"set": client.smembers,
                b"list": lambda key: client.lrange(key, 0, -1), b"zset": lambda key: client.zrange(key, 0, -1),
            }  # fmt: skip
            if name in key or any(name in part for part in flat(reads[kind](key))):
                yield f"redis {key.decode()}"

    def model(self, loop: Any) -> bytes:
        """What serves."""
        snapshot = self.stores.snapshots.newest(loop.name, published=True)
        assert snapshot is not None
        return bytes(snapshot.model)


@pytest.fixture
def shop(
    installation: Installation, learner_stores: Stores, drive: Callable[..., Any], make_decision: Callable[..., Any]
) -> Iterator[Shop]:
    made = Shop(installation, learner_stores, drive, make_decision)
    made.run()
    yield made
    made.profiles.abandon()


@pytest.fixture
def who() -> str:
    """A customer whom no other test names."""
    return f"erased-{next(_numbers)}-é"


def fill(shop: Shop, loop: Any, who: str, *, without_them: bool = False) -> None:
    """Forty visits, every fifth of them by one customer."""
    for number in range(40):
        if number % 5:
            shop.visit(loop, float(number), f"other-{number % 3}")
        elif not without_them:
            shop.visit(loop, float(number), who)
    loop.tick(200.0).run()


def test_nothing_anywhere_names_them_and_others_stay(shop: Shop, installation: Installation, who: str) -> None:
    first, second, elsewhere = shop.loop(), shop.loop(), shop.loop()
    fill(shop, first, who)
    fill(shop, second, who)
    fill(shop, elsewhere, "somebody")
    customers = CustomerStore(installation.engine, installation.client)
    for name in (who, "other-1"):
        customers.put(name, CustomerRecord(demographics={"age_band": "35-44"}), NOW)
        shop.act(name)
        installation.client.hset(seen_key(name), "s:left", "1")
    with installation.engine.begin() as connection:
        audit(connection, NOW, "tester", "customer.delete", who, {})
    shop.run()
    customers.read_through([who], remember=True)
    # One decision is open, and one message of each kind of writer could not be applied.
    shop.decide(first, 210.0, "still-open", who)
    first.send(211.0, events.DECISION, {"customer_id": who, "garbage": True})
    shop.stores.reader.append(loop_stream(first.name), f'{{"half a message of "{who}"'.encode())
    shop.stores.reader.append(
        ACTIVITY_STREAM, events.encode(events.ACTIVITY, NOW, {"activities": [{"customer_id": who}]})
    )
    shop.run()
    assert len(shop.places(who)) > 10
    others = [one for one in first.log() if one.decision.customer_id != who]
    assert shop.requests.knows(who, [loop.name for loop in shop.loops])

    receipt_id = shop.request(who)
    assert not shop.receipt(receipt_id).is_done
    shop.run()

    assert shop.places(who) == []
    assert not shop.requests.knows(who, [loop.name for loop in shop.loops])
    assert first.log() == others
    assert len(elsewhere.log()) == 40
    assert customers.get("other-1") is not None
    assert installation.client.exists(seen_key("other-1"), profile_key("other-1")) == 2
    assert [installation.client.exists(decided_key(first.name, name)) for name in ("v0", "v1")] == [0, 1]
    counts = count_loop(installation.engine, first.name)
    assert (counts.decisions, counts.interactions, counts.open, counts.set_aside) == (32, 32, 0, 0)
    receipt = shop.receipt(receipt_id)
    assert receipt.is_done
    assert receipt.customer == customer_mark(who, receipt_id)
    assert receipt.parts[ACTIVITY_STREAM].rows == {
        "customers": 1, "profiles": 1, "activities": 1, "set_aside_events": 1, "audit_log": 1,
    }  # fmt: skip
    assert receipt.parts[f"loop:{first.name}"].rows == {
        "decisions": 9, "interactions": 8, "outcomes": 8, "open_decisions": 1, "decision_keys": 9, "set_aside_events": 2,
    }  # fmt: skip
    untouched = receipt.parts[f"loop:{elsewhere.name}"]
    assert (untouched.rows, untouched.generation, untouched.models) == ({}, None, 0)
    with installation.engine.connect() as connection:
        row = connection.execute(select(audit_log).where(audit_log.c.detail["receipt_id"].astext == receipt_id)).one()
    assert (row.action, row.subject, row.actor) == (ERASED, receipt.customer, "tester")


def test_the_model_is_as_if_they_had_never_come(shop: Shop, who: str) -> None:
    erased, twin = shop.loop(), shop.loop()
    fill(shop, erased, who)
    fill(shop, twin, who, without_them=True)
    assert shop.model(erased) != shop.model(twin)
    before = shop.stores.snapshots.newest(erased.name)
    assert before is not None
    assert erased.verified().equal
    receipt_id = shop.request(who)
    shop.run()
    serving = shop.stores.snapshots.newest(erased.name, published=True)
    assert serving is not None
    with closing(VowpalPolicy(erased.config.setting)) as anew:
        anew.learn(twin.log(learnable=True))
        assert shop.model(erased) == anew.save()
    part = shop.receipt(receipt_id).parts[f"loop:{erased.name}"]
    assert (part.generation, serving.generation) == (before.generation + 1,) * 2
    assert part.models > 0
    for generation in range(1, serving.generation):
        assert shop.stores.snapshots.newest(erased.name, generation=generation) is None
    # The replay holds, also after more was learned, with the gaps in the log and over a restart.
    assert erased.verified().equal
    for number in range(300, 310):
        shop.visit(erased, float(number), "other-1")
    erased.tick(400.0).run()
    erased.restart(killed=True)
    shop.visit(erased, 410.0, who)
    erased.tick(500.0).run()
    assert erased.verified().equal
    assert [one.sequence for one in erased.log()][-1] == 51
    assert find_decision(shop.installation.engine, erased.name, "v410") is not None


def test_the_first_of_the_log_may_go(shop: Shop, who: str) -> None:
    """The replay begins behind the first sequence that is left; whatever is left must have a base."""
    loop = shop.loop(export_frequency_seconds=1e6)
    shop.decide(loop, 0.0, "first", who, use="holdout")
    shop.visit(loop, 100.0, "other-1")
    loop.tick(300.0).run()
    shop.request(who)
    shop.run()
    assert [one.sequence for one in loop.log()] == [2]
    assert loop.verified().equal
    shop.request("other-1")
    shop.run()
    assert loop.log() == []
    assert loop.verified().equal


def test_order_on_the_stream_is_the_order_of_erasing(shop: Shop, who: str) -> None:
    """What was sent before goes, though it is in the same batch; what is sent after is a new appearance."""
    loop = shop.loop()
    shop.visit(loop, 1.0, who)
    shop.act(who, "garden")
    shop.request(who)
    shop.visit(loop, 2.0, who)
    shop.act(who, "tools")
    loop.tick(200.0)
    shop.run()
    assert [one.decision.decision_id for one in loop.log()] == ["v2"]
    profile = shop.profiles._ledger.profiles([who])[who]
    assert list(profile.categories) == ["tools"]


def test_a_doubled_event_changes_nothing_more(shop: Shop, who: str) -> None:
    loop = shop.loop()
    fill(shop, loop, who)
    shop.act(who)
    shop.act("other-1", "toys")
    receipt_id = shop.request(who)
    shop.run()
    receipt, model, population = shop.receipt(receipt_id), shop.model(loop), shop.population()
    snapshots = shop.stores.snapshots.count(loop.name)
    shop.order(who, receipt_id, [loop.name])
    shop.run()
    loop.restart()
    assert shop.receipt(receipt_id) == receipt
    assert shop.model(loop) == model
    assert shop.stores.snapshots.count(loop.name) == snapshots
    assert shop.population() == population
    assert shop.places(who) == []


class Killed(BaseException):
    """The process ended here."""


def dies(patched: pytest.MonkeyPatch, owner: Any, name: str, when: str, call: int = 0) -> None:
    """Let the process end before or after a method does its work for the first (0) or a later time."""
    real, calls = getattr(owner, name), itertools.count()

    def dying(*arguments: Any, **keywords: Any) -> Any:
        is_now = next(calls) == call
        if is_now and when == "before":
            raise Killed
        result = real(*arguments, **keywords)
        if is_now:
            raise Killed
        return result

    patched.setattr(owner, name, dying)


KILLED_AT = ("delete", "erase", "_take", "due", "begin", "trim_through", "finish")


@pytest.mark.parametrize("place", KILLED_AT)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_anywhere_the_next_writer_completes_it(
    shop: Shop, who: str, place: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, twin = shop.loop(), shop.loop()
    fill(shop, loop, who)
    fill(shop, twin, who, without_them=True)
    shop.decide(loop, 210.0, "still-open", who)
    shop.visit(loop, 211.0, "other-2")
    receipt_id = shop.request(who, loops=[loop])
    owner, name = {
        "delete": (StreamReader, "delete"), "erase": (LoopErasures, "erase"), "_take": (LoopWriter, "_take"),
        "due": (LoopErasures, "due"), "begin": (LoopWriter, "_begin_generation"),
        "trim_through": (StreamReader, "trim_through"), "finish": (LoopErasures, "finish"),
    }[place]  # fmt: skip
    # The run before the event is taken too.
    with monkeypatch.context() as patched, pytest.raises(Killed):
        dies(patched, owner, name, when, call=1 if place == "_take" else 0)
        loop.run()
    loop.restart(killed=True)
    shop.run()
    assert shop.places(who) == []
    receipt = shop.receipt(receipt_id)
    assert receipt.is_done
    part = receipt.parts[f"loop:{loop.name}"]
    assert part.rows is not None
    assert (part.rows["interactions"], part.rows["decisions"], part.rows["open_decisions"]) == (8, 9, 1)
    assert [one.decision.customer_id for one in loop.log()].count(who) == 0
    assert loop.verified().equal
    shop.visit(twin, 211.0, "other-2")
    for one in (loop, twin):
        one.tick(300.0).run()
    assert [one.reward for one in loop.log()] == [one.reward for one in twin.log()]
    assert loop.verified().equal


@pytest.mark.parametrize("place", ["erase", "execute", "_take", "trim_through", "finish"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_anywhere_the_next_writer_of_profiles_completes_it(
    shop: Shop, who: str, place: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.act(who)
    shop.run()
    CustomerStore(shop.installation.engine, shop.installation.client).read_through([who], remember=True)
    before = shop.population().customers
    receipt_id = shop.request(who, loops=[])
    owner: Any = {
        "erase": ProfileErasures, "execute": Pipeline, "_take": ProfileWriter, "trim_through": StreamReader,
        "finish": ProfileErasures,
    }[place]  # fmt: skip
    with monkeypatch.context() as patched, pytest.raises(Killed):
        dies(patched, owner, place, when)
        shop.run()
    shop.profiles.abandon()
    shop.profiles = shop.open_profiles()
    shop.run()
    assert shop.places(who) == []
    assert shop.receipt(receipt_id).parts[ACTIVITY_STREAM].rows == {"profiles": 1, "activities": 1}
    assert shop.receipt(receipt_id).is_done
    assert shop.population().customers == before - 1


def test_many_erasures_in_one_batch_train_once(shop: Shop, who: str) -> None:
    loop = shop.loop()
    fill(shop, loop, who)
    receipts = [shop.request(name) for name in (who, "other-0", "other-1")]
    shop.run()
    parts = [shop.receipt(receipt_id).parts[f"loop:{loop.name}"] for receipt_id in receipts]
    assert {part.generation for part in parts} == {2}
    assert {one.decision.customer_id for one in loop.log()} == {"other-2"}
    assert loop.verified().equal


def test_open_decisions_are_dropped_and_their_units_come_back(shop: Shop, installation: Installation, who: str) -> None:
    loop, client = shop.loop(), installation.client
    name = f"limited-{loop.name}"
    offer = Offer(name, "garden", limits=Limits(stock=10))
    version = OfferCatalogue(installation.engine, client).put(offer, "tester", NOW).version
    for decision_id, is_deferred in (("seen", False), ("deferred", True), ("bought", False)):
        made = shop.make_decision(decision_id, loop=loop.name, actions=[Action(name, {}, version=version)],
                                  served=(1.0,), deferred=is_deferred)  # fmt: skip
        decision = replace(made, customer_id=who, took_units=HOLDS_STOCK)
        loop.send(1.0, events.DECISION, events.decision_payload(decision))
    loop.outcome(2.0, "bought", 1.0, kind="purchase")
    loop.run()
    client.hset(units_key(name), "t:stock", 4)
    with installation.engine.begin() as connection:
        # One change could not be counted yet; it is, for nobody.
        row = {"loop": loop.name, "decision_id": "before", "change": "unredeemed", "offer_id": name,
               "version": version, "customer_id": who, "shown_at": NOW, "changed_at": NOW}  # fmt: skip
        connection.execute(unit_changes.insert().values(row))
    assert len(loop.writer._joiner.state.open) == 3
    receipt_id = shop.request(who)
    shop.run()
    assert loop.writer._joiner.state.open == {}
    assert client.hget(units_key(name), "t:stock") == b"1"
    assert shop.places(who) == []
    rows = shop.receipt(receipt_id).parts[f"loop:{loop.name}"].rows
    assert rows is not None
    assert (rows["open_decisions"], rows["unit_changes"]) == (3, 1)
    # An outcome that comes for a decision that nobody knows any more waits as any early one does.
    loop.outcome(5.0, "seen", 1.0, "late-one").tick(300.0).run()
    assert loop.log() == []
    with installation.engine.connect() as connection:
        states = connection.execute(select(outcomes.c.state).where(outcomes.c.loop == loop.name)).scalars().all()
        waiting = connection.execute(select(func.count()).select_from(unit_changes)).scalar_one()
    assert (states, waiting) == (["orphan"], 0)


def test_all_revisions_go_and_latest_rewards_are_what_is_trained_on(shop: Shop, who: str) -> None:
    loop = shop.loop(reward=replace(REWARD, late_outcomes="rebuild"))
    fill(shop, loop, who)
    loop.outcome(300.0, "v0", 1.0).outcome(300.0, "v1", 1.0).tick(301.0).run()
    assert {one.revision for one in loop.log(latest=True)} == {0, 1}
    receipt_id = shop.request(who)
    shop.run()
    rows = shop.receipt(receipt_id).parts[f"loop:{loop.name}"].rows
    assert rows is not None
    assert (rows["interactions"], rows["outcomes"]) == (9, 9)
    with closing(VowpalPolicy(loop.config.setting)) as anew:
        anew.learn(loop.log(latest=True, learnable=True))
        assert shop.model(loop) == anew.save()


def test_the_population_loses_what_they_brought(shop: Shop, who: str) -> None:
    shop.act("other-1", "toys", day=-20)
    shop.run()
    before = shop.population()
    for day in (0, -3, -400):
        shop.act(who, "garden", day)
        shop.act(who, f"only-{who}", day)
    shop.run()
    assert shop.population().customers == before.customers + 1
    shop.request(who, loops=[])
    shop.run()
    after = shop.population()
    assert (after.customers, after.buyers) == (before.customers, before.buyers)
    aged = 0.5 ** ((after.as_of_day - before.as_of_day) / 364.0)
    assert after.firsts == pytest.approx(before.firsts * aged, abs=1e-9)
    assert set(after.days) == set(before.days)
    for category, days in before.days.items():
        assert after.days[category] == pytest.approx(days * aged)
    assert shop.profiles._population == after


def test_who_read_before_does_not_fill_the_cache_after(shop: Shop, installation: Installation, who: str) -> None:
    """A service has read PostgreSQL when the customer is erased, and then remembers what it read."""
    customers = CustomerStore(installation.engine, installation.client)
    customers.put(who, CustomerRecord(age=38), NOW)
    shop.act(who)
    shop.run()
    installation.client.delete(profile_key(who), customer_cache_key(who))
    shop.request(who, loops=[])
    state = {"is_running": False}

    def erase_meanwhile(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM customers" in statement and not state["is_running"]:
            state["is_running"] = True
            thread = threading.Thread(target=shop.run)
            thread.start()
            thread.join()

    event.listen(installation.engine, "after_cursor_execute", erase_meanwhile)
    try:
        (found,) = customers.read_through([who], remember=True).values()
    finally:
        event.remove(installation.engine, "after_cursor_execute", erase_meanwhile)
    assert state["is_running"]
    assert b"38" in found[1]
    assert shop.places(who) == []
    customers.read_through([who], remember=True)
    assert installation.client.exists(profile_key(who), customer_cache_key(who)) == 2


def test_messages_on_their_way_are_known(shop: Shop, who: str) -> None:
    loop = shop.loop()
    assert not shop.requests.knows(who, [loop.name])
    shop.decide(loop, 1.0, "d1", who)
    assert shop.requests.knows(who, [loop.name])
    loop.run()
    assert shop.requests.knows(who, [])
    shop.request(who)
    shop.run()
    assert not shop.requests.knows(who, [loop.name])
    shop.act(who)
    assert shop.requests.knows(who, [loop.name])
    shop.run()
    shop.request(who)
    shop.run()
    assert not shop.requests.knows(who, [loop.name])
    shop.installation.client.hset(seen_key(who), "s:left", "1")
    assert shop.requests.knows(who, [loop.name])
    shop.installation.client.delete(seen_key(who))


def test_a_deleted_loop_is_written_once_more(shop: Shop, who: str) -> None:
    """A learner that comes later finds the loop gone and its log standing."""
    loop, stores = shop.loop(), shop.stores
    fill(shop, loop, who)
    stores.loops.delete(loop.name, "tester", NOW)
    loop.writer.close()
    assert loop.name in shop.requests.loops()
    shop.loops.remove(loop)
    assert stores.loops.get(loop.name) is None
    waiting = shop.requests.receipts.waiting_deleted_loops
    receipt_id = shop.request(who, loops=[loop])
    shop.run()
    assert waiting() == [loop.name]
    assert not shop.receipt(receipt_id).is_done
    stop = threading.Event()

    def versions() -> dict[str, int]:
        left = waiting()
        if not left:
            stop.set()
        return dict.fromkeys(left, 0)

    reader, client = stores.reader, shop.installation.client
    Runner(reader, client, lambda name: loop.open(), versions, stores.writers, 100, activity=False).run(stop)
    assert shop.receipt(receipt_id).is_done
    assert shop.places(who) == []
    shop.profiles = shop.open_profiles()
    loop.writer = loop.open()


def test_a_loop_that_never_had_anything_is_not_asked(shop: Shop) -> None:
    loop = shop.loop()
    with shop.installation.engine.begin() as connection:
        connection.execute(text("DELETE FROM stream_positions WHERE stream = :s"), {"s": f"loop:{loop.name}"})
    assert loop.name in shop.requests.loops()
    shop.stores.loops.delete(loop.name, "tester", NOW)
    assert loop.name not in shop.requests.loops()


def test_an_erasure_whose_receipt_is_lost_happens_anyway(shop: Shop, who: str) -> None:
    loop = shop.loop()
    fill(shop, loop, who)
    shop.order(who, "0" * 32, [loop.name])
    shop.run()
    assert shop.places(who) == []
    assert shop.receipt("0" * 32).is_done


def test_writers_know_each_other_s_parts_alone(shop: Shop, who: str) -> None:
    """Two writers complete one receipt, whoever comes last."""
    first, second = shop.loop(), shop.loop()
    receipt_id = shop.request(who)
    first.run()
    assert {writer: part.state for writer, part in shop.receipt(receipt_id).parts.items()} == {
        ACTIVITY_STREAM: "pending", f"loop:{first.name}": "done", f"loop:{second.name}": "pending",
    }  # fmt: skip
    shop.run()
    receipt = shop.receipt(receipt_id)
    assert receipt.is_done
    assert receipt.done_at == max(part.done_at for part in receipt.parts.values() if part.done_at)
    with shop.installation.engine.begin() as connection:
        count = select(func.count()).select_from(audit_log).where(audit_log.c.detail["receipt_id"].astext == receipt_id)
        assert connection.execute(count).scalar_one() == 1
