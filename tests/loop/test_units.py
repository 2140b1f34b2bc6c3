"""Units that come back when decisions close, once each, and counts that are made anew from the log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.catalogue import OfferCatalogue
from adapters.copying import copy_rows
from adapters.installation import Installation
from adapters.tables import unit_changes
from adapters.unit_counts import apply_changes, rebuild_counts
from adapters.units import EPOCH_KEY, seen_key, units_key
from contextual_bandit import events
from contextual_bandit.joined import JoinState
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.types import Action, Cap, Decision, Limits, Offer
from learner.join import Joiner

_numbers = itertools.count()
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LIMITS = Limits(
    stock=5, budget=10.0, cooldown_days=3.0,
    caps=(Cap("all", "total", 9), Cap("hourly", "total", 4, 3600.0), Cap("each", "customer", 3),
          Cap("daily", "customer", 2, 86400.0)),
)  # fmt: skip


@pytest.fixture
def offer(installation: Installation) -> Offer:
    catalogue = OfferCatalogue(installation.engine, installation.client)
    return catalogue.put(Offer(f"units-{next(_numbers)}", "garden", cost=0.5, limits=LIMITS), "test", START)


def counted(installation: Installation, offer: Offer, customer: str) -> tuple[dict[str, str], dict[str, str]]:
    found = []
    for key in (units_key(offer.offer_id), seen_key(customer)):
        stored = installation.client.hgetall(key)
        found.append({name.decode(): value.decode() for name, value in stored.items()})  # type: ignore[union-attr]
    return found[0], found[1]


def shown(installation: Installation, offer: Offer, customer: str, at: datetime, times: int) -> None:
    """What the script leaves after so many shows at one moment."""
    ms, name = int(at.timestamp() * 1000), offer.offer_id
    step = 3600_000 / 24
    installation.client.hset(
        units_key(name),
        mapping={
            "t:stock": str(times), "t:budget": str(times * 500_000), "t:cap:all": str(times),
            "w:hourly": f"{int(ms // step)}:{times}",
        },
    )  # fmt: skip
    installation.client.hset(
        seen_key(customer), mapping={f"l:{name}:each": str(times), f"c:{name}:daily": f"{ms}:{times}"}
    )


def change(installation: Installation, loop: str, offer: Offer, customer: str, what: str, at: datetime) -> None:
    with installation.engine.begin() as connection:
        copy_rows(
            connection,
            unit_changes,
            ("loop", "decision_id", "change", "offer_id", "version", "customer_id", "shown_at", "changed_at"),
            [(loop, "d", what, offer.offer_id, offer.version, customer, at, at + timedelta(hours=1))],
        )


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    number = next(_numbers)
    yield f"units-loop-{number}", f"units-customer-{number}"


def test_an_unseen_show_gives_everything_back(installation: Installation, offer: Offer, names: tuple[str, str]) -> None:
    loop, customer = names
    shown(installation, offer, customer, START, 2)
    change(installation, loop, offer, customer, "inactive", START)
    assert apply_changes(installation.engine, installation.client, loop) == 1
    units, seen = counted(installation, offer, customer)
    assert units["t:stock"] == "1"
    assert units["t:budget"] == "500000"
    assert units["t:cap:all"] == "1"
    assert units["w:hourly"].endswith(":1")
    assert seen[f"l:{offer.offer_id}:each"] == "1"
    assert seen[f"c:{offer.offer_id}:daily"].endswith(":1")
    assert apply_changes(installation.engine, installation.client, loop) == 0


def test_an_unredeemed_show_gives_its_stock_back_and_nothing_else(
    installation: Installation, offer: Offer, names: tuple[str, str]
) -> None:
    loop, customer = names
    shown(installation, offer, customer, START, 2)
    change(installation, loop, offer, customer, "unredeemed", START)
    apply_changes(installation.engine, installation.client, loop)
    units, seen = counted(installation, offer, customer)
    assert units["t:stock"] == "1"
    assert units["t:cap:all"] == "2"
    assert seen[f"l:{offer.offer_id}:each"] == "2"


def test_a_redemption_begins_the_cooldown(installation: Installation, offer: Offer, names: tuple[str, str]) -> None:
    loop, customer = names
    change(installation, loop, offer, customer, "redeemed", START)
    apply_changes(installation.engine, installation.client, loop)
    _, seen = counted(installation, offer, customer)
    assert seen[f"r:{offer.offer_id}"] == str(int((START + timedelta(hours=1)).timestamp() * 1000))


def test_a_change_that_is_sent_again_counts_once(
    installation: Installation, offer: Offer, names: tuple[str, str]
) -> None:
    """A crash between the store's answer and the commit sends the same rows again."""
    loop, customer = names
    shown(installation, offer, customer, START, 3)
    change(installation, loop, offer, customer, "unredeemed", START)
    change(installation, loop, offer, customer, "unredeemed", START)

    class Crash(Exception):
        pass

    with pytest.raises(Crash), installation.engine.connect() as connection:
        # As apply_changes does it, but for the commit.
        original = installation.engine.begin

        class Broken:
            def __enter__(self) -> object:
                return connection

            def __exit__(self, *error: object) -> None:
                connection.rollback()
                raise Crash

        installation.engine.begin = Broken  # type: ignore[assignment,method-assign]
        try:
            apply_changes(installation.engine, installation.client, loop)
        finally:
            installation.engine.begin = original  # type: ignore[method-assign]
    assert counted(installation, offer, customer)[0]["t:stock"] == "1"
    assert apply_changes(installation.engine, installation.client, loop) == 2
    assert counted(installation, offer, customer)[0]["t:stock"] == "1"


@pytest.mark.parametrize(
    ("deferred", "kinds", "expected"),
    [
        (True, [], ["inactive"]),
        (False, [], ["unredeemed"]),
        (False, ["click"], ["unredeemed"]),
        (False, ["redemption"], ["redeemed"]),
        (False, ["click", "purchase"], ["redeemed"]),
    ],
)
def test_the_join_says_what_became_of_a_show(
    make_decision: Callable[..., Decision], deferred: bool, kinds: list[str], expected: list[str]
) -> None:
    config = LoopConfig("units", reward=RewardDefinition(wait_seconds=60.0), clock="simulated", grace_seconds=0.0)
    joiner = Joiner(config, JoinState())
    decision = replace(make_decision("d1", deferred=deferred), took_units=2)
    messages = [("1-0", events.encode("decision", START, events.decision_payload(decision)))]
    for number, kind in enumerate(kinds):
        payload = events.outcome_payload(f"o{number}", "d1", kind, 1.0, False)
        messages.append((f"2-{number}", events.encode("outcome", START + timedelta(seconds=5 + number), payload)))
    messages.append(("3-0", events.encode("tick", START + timedelta(seconds=90), {})))
    batch = joiner.run(messages, frozenset(), frozenset())
    assert [change.change for change in batch.unit_changes] == expected
    assert {change.shown_at for change in batch.unit_changes} == {decision.occurred_at}


def test_uncounted_shows_change_nothing(make_decision: Callable[..., Decision]) -> None:
    config = LoopConfig("units", reward=RewardDefinition(wait_seconds=60.0), clock="simulated", grace_seconds=0.0)
    messages = [
        ("1-0", events.encode("decision", START, events.decision_payload(make_decision("d1", deferred=True)))),
        ("3-0", events.encode("tick", START + timedelta(seconds=90), {})),
    ]
    assert Joiner(config, JoinState()).run(messages, frozenset(), frozenset()).unit_changes == []


def test_lost_counts_are_made_anew_from_the_log(
    installation: Installation, offer: Offer, drive: Callable[..., Any], make_decision: Callable[..., Decision]
) -> None:
    """Four shows: redeemed, closed without redemption, deferred and never seen, and one that is still open."""
    loop = drive(reward=RewardDefinition(wait_seconds=60.0))
    action = Action(offer.offer_id, {"category": "garden"}, version=offer.version)
    customer = f"{loop.name}-customer"

    def show(at: float, name: str, *, deferred: bool = False) -> None:
        made = make_decision(name, loop=loop.name, actions=[action], served=(1.0,), deferred=deferred)
        moment = loop_start + timedelta(seconds=at)
        made = replace(made, customer_id=customer, occurred_at=moment, decided_at=moment, took_units=2)
        loop.send(at, events.DECISION, events.decision_payload(made))

    loop_start = START
    show(0, "redeemed")
    show(1, "unredeemed")
    show(2, "unseen", deferred=True)
    loop.outcome(3, "redeemed", 1.0, kind="redemption")
    show(100, "open")
    loop.run()
    installation.client.delete(EPOCH_KEY, units_key(offer.offer_id), seen_key(customer))
    rebuild_counts(installation.engine, installation.client)
    assert installation.client.exists(EPOCH_KEY)
    units, seen = counted(installation, offer, customer)
    assert units["t:stock"] == "2", "one redeemed, one open"
    assert units["t:cap:all"] == "3"
    assert units["t:budget"] == str(3 * 500_000)
    assert sum(int(entry.partition(":")[2]) for entry in units["w:hourly"].split()) == 3
    assert seen[f"l:{offer.offer_id}:each"] == "3"
    assert sum(int(entry.partition(":")[2]) for entry in seen[f"c:{offer.offer_id}:daily"].split()) == 3
    assert seen[f"r:{offer.offer_id}"] == str(int((START + timedelta(seconds=3)).timestamp() * 1000))
    before = units, seen
    # What was counted is not brought again.
    apply_changes(installation.engine, installation.client, loop.name)
    rebuild_counts(installation.engine, installation.client)
    assert counted(installation, offer, customer) == before
