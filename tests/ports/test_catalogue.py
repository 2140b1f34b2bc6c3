"""Offers and the settings of loops on the real stores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import delete, select

from adapters.catalogue import Changes, LoopStore, OfferCatalogue
from adapters.installation import Installation
from adapters.streams import VERSIONS_KEY
from adapters.tables import audit_log, loops, offer_versions, offers
from contextual_bandit.loops import DEFAULT_LOOP, Challenger, LoopConfig, OutcomeKind, RewardDefinition
from contextual_bandit.types import Cap, Limits, Offer, Rule

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
OFFER = Offer(
    "spring-10", "garden", "paused", NOW - timedelta(days=1), NOW + timedelta(days=1, microseconds=5),
    {"discount": 0.1, "kind": "Wasserkocher für alle", "new": True},
)  # fmt: skip
FULL = replace(
    OFFER, offer_id="full", type="percentage", discount=0.1, price=24.9, margin=-0.35, cost=0.02, code="SPRING|10",
    creative={"title": "Frühling", "empty": ""}, channels=("web", "app"), regions=("US-WA",), priority=-3,
    tags=("promoted",), minimum_age=18,
    rules=(Rule("rain", {"all": [{"fact": "weather.rain", "is": True}, {"fact": "x.y", "at_least": 1e20}]}),),
    limits=Limits(5000, 1e9, (Cap("three", "customer", 3, 604800.0), Cap("all", "total", 9)), 14.0, ("a",), ("b",), 7.0),
)  # fmt: skip
CONFIG = LoopConfig(
    "homepage", "--cb_explore_adf --epsilon 0.2", 0.05,
    RewardDefinition(-1.0, 5.0, 0.5, 60.0, "median", {"click": OutcomeKind(0.25), "refund": OutcomeKind(-1.0, "revenue", True)}),
    1.5, 7.0, "apprentice", "simulated", True, "Europe/Berlin", 7,
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean(installation: Installation) -> Iterator[None]:
    yield
    with installation.engine.begin() as connection:
        for table in (offers, offer_versions, audit_log):
            connection.execute(delete(table))
        connection.execute(delete(loops).where(loops.c.loop != DEFAULT_LOOP))


@pytest.fixture
def catalogue(installation: Installation) -> OfferCatalogue:
    found = OfferCatalogue(installation.engine, installation.client)
    # Other files' tests may have left some.
    for offer in found.all():
        found.delete(offer.offer_id, "ann", NOW)
    return found


@pytest.fixture
def unique_loop() -> str:
    return f"loop-{uuid4().hex[:12]}"


@pytest.fixture
def store(installation: Installation) -> LoopStore:
    return LoopStore(installation.engine, installation.client)


def audited(installation: Installation) -> list[tuple[Any, ...]]:
    columns = (audit_log.c.at, audit_log.c.actor, audit_log.c.action, audit_log.c.subject)
    with installation.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(audit_log.c.audit_id))]


# Offers


def test_an_offer_comes_back_equal(catalogue: OfferCatalogue) -> None:
    assert catalogue.put(OFFER, "ann", NOW) == OFFER
    assert catalogue.get("spring-10") == OFFER
    plain = Offer("plain", "toys")
    catalogue.put(plain, "ann", NOW)
    assert catalogue.get("plain") == plain


def test_an_offer_with_every_field_comes_back_equal(catalogue: OfferCatalogue) -> None:
    assert catalogue.put(FULL, "ann", NOW) == FULL
    assert catalogue.get("full") == FULL
    assert [found.offer for found in catalogue.versions("full")] == [FULL]


def test_each_change_makes_a_version_and_old_ones_stay(catalogue: OfferCatalogue, installation: Installation) -> None:
    catalogue.put(OFFER, "ann", NOW)
    changed = catalogue.put(replace(OFFER, category="toys", version=99), "ann", NOW)
    assert changed.version == 2
    assert catalogue.get("spring-10") == changed
    with installation.engine.connect() as connection:
        rows = connection.execute(select(offer_versions).order_by(offer_versions.c.version)).all()
    assert [(row.version, row.record["category"]) for row in rows] == [(1, "garden"), (2, "toys")]


def test_offers_are_listed_by_id(catalogue: OfferCatalogue) -> None:
    assert catalogue.all() == []
    stored = catalogue.put_all([Offer("b", "x"), Offer("a", "x"), Offer("c", "x")], "ann", NOW)
    assert [offer.offer_id for offer in stored] == ["b", "a", "c"]
    assert [offer.offer_id for offer in catalogue.all()] == ["a", "b", "c"]


def test_all_offers_are_put_or_none(catalogue: OfferCatalogue) -> None:
    before = catalogue.version()
    with pytest.raises(Exception, match=r"NUL|0x00|u0000"):
        catalogue.put_all([Offer("good", "x"), Offer("bad", "x", features={"name": "\x00"})], "ann", NOW)
    assert catalogue.all() == []
    assert catalogue.version() == before


def counts(changes: Changes) -> tuple[int, int, int]:
    return changes.created, changes.updated, changes.unchanged


def test_what_says_nothing_new_makes_no_version(catalogue: OfferCatalogue, installation: Installation) -> None:
    first = [FULL, OFFER, Offer("a", "x")]
    assert counts(catalogue.change(first, "ann", NOW)) == (3, 0, 0)
    before, written = catalogue.version(), audited(installation)
    again = catalogue.change(list(reversed(first)), "bob", LATER)
    assert counts(again) == (0, 0, 3)
    assert again.stored == list(reversed(first))
    assert (catalogue.version(), audited(installation)) == (before, written)
    mixed = catalogue.change([OFFER, replace(FULL, priority=1), Offer("new", "x")], "bob", LATER)
    assert counts(mixed) == (1, 1, 1)
    assert [(offer.offer_id, offer.version) for offer in mixed.stored] == [("spring-10", 1), ("full", 2), ("new", 1)]
    assert catalogue.all() == sorted([Offer("a", "x"), *mixed.stored], key=lambda offer: offer.offer_id)
    assert catalogue.version() == before + 1
    assert audited(installation)[len(written) :] == [
        (LATER, "bob", "offer.put", "full"), (LATER, "bob", "offer.put", "new"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        replace(FULL, features={**FULL.features, "new": 1.0}),
        replace(FULL, rules=(Rule("rain", {"all": [{"fact": "weather.rain", "is": 1}, *FULL.rules[0].require["all"][1:]]}),)),
        replace(FULL, channels=("app", "web")),
        replace(FULL, limits=replace(FULL.limits, stock=None)),
        replace(FULL, code=None),
    ],
    ids=["a feature true to 1", "a rule true to 1", "order of channels", "no more stock", "no more code"],
)  # fmt: skip
def test_small_changes_make_a_version(catalogue: OfferCatalogue, changed: Offer) -> None:
    catalogue.put(FULL, "ann", NOW)
    assert catalogue.put(changed, "ann", NOW).version == 2
    assert catalogue.get("full") == replace(changed, version=2)


def test_the_same_moment_in_another_zone_is_no_change(catalogue: OfferCatalogue) -> None:
    catalogue.put(OFFER, "ann", NOW)
    assert OFFER.valid_from is not None
    elsewhere = OFFER.valid_from.astimezone(timezone(timedelta(hours=2)))
    assert counts(catalogue.change([replace(OFFER, valid_from=elsewhere)], "ann", NOW)) == (0, 0, 1)


def test_a_dry_run_says_what_would_be_and_writes_nothing(catalogue: OfferCatalogue, installation: Installation) -> None:
    catalogue.put_all([OFFER, FULL], "ann", NOW)
    before, written = catalogue.version(), audited(installation)
    wanted = [OFFER, replace(FULL, price=1.0), Offer("new", "x")]
    assert counts(catalogue.change(wanted, "bob", LATER, dry_run=True)) == (1, 1, 1)
    assert catalogue.get("full") == FULL
    assert catalogue.get("new") is None
    assert catalogue.versions("new") == []
    assert (catalogue.version(), audited(installation)) == (before, written)


def test_every_version_can_be_read_as_it_was(catalogue: OfferCatalogue) -> None:
    catalogue.put(FULL, "ann", NOW)
    cheaper = catalogue.put(replace(FULL, price=19.9), "ann", LATER)
    catalogue.delete("full", "ann", LATER)
    assert [(found.offer, found.created_at) for found in catalogue.versions("full")] == [(cheaper, LATER), (FULL, NOW)]
    first = catalogue.at_version("full", 1)
    assert first is not None
    assert (first.offer, first.created_at) == (FULL, NOW)
    assert catalogue.at_version("full", 3) is None
    assert catalogue.at_version("never", 1) is None
    assert catalogue.versions("never") == []


def test_writers_at_the_same_time_give_every_version_once(catalogue: OfferCatalogue) -> None:
    names = [f"offer-{number}" for number in range(20)]

    def write(writer: int) -> None:
        for turn in range(5):
            catalogue.put_all([Offer(name, f"{writer}-{turn}") for name in names[:: 1 if writer % 2 else -1]], "w", NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for name in names:
        found = catalogue.versions(name)
        assert [version.offer.version for version in found] == list(range(20, 0, -1))
        assert len({version.offer.category for version in found}) == 20


def test_ten_thousand_offers_are_put_together(catalogue: OfferCatalogue) -> None:
    many = [replace(FULL, offer_id=f"many-{number:05}") for number in range(10_000)]
    started = time.monotonic()
    assert counts(catalogue.change(many, "ann", NOW)) == (10_000, 0, 0)
    assert counts(catalogue.change([*many[:-1], replace(many[-1], price=1.0)], "ann", NOW)) == (0, 1, 9_999)
    # A few seconds; the bound is for busy machines.
    assert time.monotonic() - started < 60
    assert len(catalogue.all()) == 10_000
    assert catalogue.all()[-1] == replace(many[-1], price=1.0, version=2)


def test_a_deleted_offer_is_gone_and_may_come_back(catalogue: OfferCatalogue) -> None:
    catalogue.put(OFFER, "ann", NOW)
    assert catalogue.delete("spring-10", "ann", NOW)
    assert catalogue.get("spring-10") is None
    assert catalogue.all() == []
    assert not catalogue.delete("spring-10", "ann", NOW)
    assert not catalogue.delete("never", "ann", NOW)
    # Decisions name offers by version, so a number is never used twice.
    assert counts(catalogue.change([OFFER], "ann", NOW)) == (1, 0, 0)
    assert catalogue.get("spring-10") == replace(OFFER, version=2)


def test_every_change_raises_the_version_that_services_watch(catalogue: OfferCatalogue) -> None:
    seen = [catalogue.version()]
    catalogue.put(OFFER, "ann", NOW)
    seen.append(catalogue.version())
    catalogue.put_all([OFFER, Offer("a", "x")], "ann", NOW)
    seen.append(catalogue.version())
    catalogue.delete("a", "ann", NOW)
    seen.append(catalogue.version())
    catalogue.delete("a", "ann", NOW)
    assert seen == list(range(seen[0], seen[0] + 4))
    assert catalogue.version() == seen[-1]


def test_who_changed_what_is_written_down(
    catalogue: OfferCatalogue, store: LoopStore, installation: Installation
) -> None:
    catalogue.put(OFFER, "ann", NOW)
    catalogue.delete("spring-10", "bob", NOW)
    catalogue.delete("spring-10", "bob", NOW)
    store.put(CONFIG, "cid", NOW)
    store.delete("homepage", "dan", NOW)
    assert audited(installation) == [
        (NOW, "ann", "offer.put", "spring-10"),
        (NOW, "bob", "offer.delete", "spring-10"),
        (NOW, "cid", "loop.put", "homepage"),
        (NOW, "dan", "loop.delete", "homepage"),
    ]


# Loops


def test_the_default_loop_is_there(store: LoopStore) -> None:
    assert store.get(DEFAULT_LOOP) == LoopConfig(DEFAULT_LOOP)
    assert [config.loop for config in store.all()] == [DEFAULT_LOOP]


def test_a_loops_settings_come_back_equal(store: LoopStore) -> None:
    assert store.put(CONFIG, "ann", NOW) == CONFIG
    assert store.get("homepage") == CONFIG


def test_each_change_of_a_loop_makes_a_version(store: LoopStore) -> None:
    store.put(CONFIG, "ann", NOW)
    assert store.put(replace(CONFIG, grace_seconds=3.0), "ann", NOW).version == 2
    found = store.get("homepage")
    assert found is not None
    assert (found.grace_seconds, found.version) == (3.0, 2)


def test_ensuring_a_loop_leaves_an_existing_one_alone(store: LoopStore) -> None:
    store.put(CONFIG, "ann", NOW)
    store.ensure(LoopConfig("homepage"), NOW)
    store.ensure(LoopConfig("checkout"), NOW)
    assert store.get("homepage") == CONFIG
    assert store.get("checkout") == LoopConfig("checkout")
    assert [config.loop for config in store.all()] == ["checkout", DEFAULT_LOOP, "homepage"]


def test_a_loop_can_be_taken_out(store: LoopStore) -> None:
    store.put(CONFIG, "ann", NOW)
    assert store.delete("homepage", "ann", NOW)
    assert store.get("homepage") is None
    assert not store.delete("homepage", "ann", NOW)


def test_every_change_of_a_loop_raises_the_version_that_services_watch(
    store: LoopStore, installation: Installation
) -> None:
    def version() -> int:
        return int(installation.client.hget(VERSIONS_KEY, "loops") or 0)  # type: ignore[arg-type]

    before = version()
    store.put(CONFIG, "ann", NOW)
    store.delete("homepage", "ann", NOW)
    assert version() == before + 2


def test_settings_are_edited_from_what_is_stored_and_none_is_lost(store: LoopStore, unique_loop: str) -> None:
    store.put(LoopConfig(unique_loop), "tester", NOW)

    def add(number: int) -> None:
        challenger = Challenger(f"p{number}", "--cb_explore_adf")
        found = store.edit(
            unique_loop, lambda config: replace(config, challengers=(*config.challengers, challenger)), "tester", NOW,
            "challenger.put", {"name": challenger.name},
        )  # fmt: skip
        assert found is not None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    stored = store.get(unique_loop)
    assert stored is not None
    assert {one.name for one in stored.challengers} == {f"p{number}" for number in range(8)}
    assert stored.version == 9
    assert store.edit(f"no-{unique_loop}", lambda config: config, "tester", NOW, "challenger.put", {}) is None


def test_an_edit_that_is_refused_changes_nothing_and_is_not_noted(
    store: LoopStore, unique_loop: str, installation: Installation
) -> None:
    before = store.put(LoopConfig(unique_loop), "tester", NOW)

    def refuse(config: LoopConfig) -> LoopConfig:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.edit(unique_loop, refuse, "tester", NOW, "challenger.put", {})
    assert store.get(unique_loop) == before
    query = select(audit_log.c.action).where(audit_log.c.subject == unique_loop)
    with installation.engine.connect() as connection:
        assert list(connection.execute(query).scalars()) == ["loop.put"]


def test_new_settings_may_keep_the_challengers_that_are_stored_by_then(store: LoopStore, unique_loop: str) -> None:
    stopped = Challenger("bold", "--cb_explore_adf", 0.0)
    store.put(LoopConfig(unique_loop, challengers=(stopped,)), "guardrail", NOW)
    old = LoopConfig(unique_loop, exploration_floor=0.5, challengers=(replace(stopped, share=0.2),))
    kept = store.put(old, "tester", NOW, keep_challengers=True)
    assert (kept.challengers, kept.exploration_floor) == ((stopped,), 0.5)
    assert store.put(old, "tester", NOW).challengers == old.challengers


def test_a_deleted_loop_that_is_created_again_has_no_challengers(store: LoopStore, unique_loop: str) -> None:
    challenged = LoopConfig(unique_loop, challengers=(Challenger("bold", "--cb_explore_adf", 0.25),))
    store.put(challenged, "tester", NOW)
    assert store.delete(unique_loop, "tester", NOW)
    left = store.get(unique_loop, deleted=True)
    assert left is not None
    assert left.challengers == ()
    assert not store.delete(unique_loop, "tester", NOW)
    again = store.put(LoopConfig(unique_loop), "tester", NOW, keep_challengers=True)
    assert (again.challengers, again.version) == ((), 2)
