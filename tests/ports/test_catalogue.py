"""Offers and the settings of loops on the real stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select

from adapters.catalogue import LoopStore, OfferCatalogue
from adapters.installation import Installation
from adapters.streams import VERSIONS_KEY
from adapters.tables import audit_log, loops, offer_versions, offers
from contextual_bandit.loops import DEFAULT_LOOP, LoopConfig, RewardDefinition
from contextual_bandit.types import Offer

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
OFFER = Offer(
    "spring-10", "garden", "paused", NOW - timedelta(days=1), NOW + timedelta(days=1, microseconds=5),
    {"discount": 0.1, "kind": "Wasserkocher für alle", "new": True},
)  # fmt: skip
CONFIG = LoopConfig(
    "homepage", "--cb_explore_adf --epsilon 0.2", 0.05,
    RewardDefinition(-1.0, 5.0, 0.5, 60.0, "median", {"click": 0.25, "refund": -1.0}),
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
    return OfferCatalogue(installation.engine, installation.client)


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


def test_a_deleted_offer_is_gone_and_may_come_back(catalogue: OfferCatalogue) -> None:
    catalogue.put(OFFER, "ann", NOW)
    assert catalogue.delete("spring-10", "ann", NOW)
    assert catalogue.get("spring-10") is None
    assert catalogue.all() == []
    assert not catalogue.delete("spring-10", "ann", NOW)
    assert not catalogue.delete("never", "ann", NOW)
    # Decisions name offers by version, so a number is never used twice.
    assert catalogue.put(OFFER, "ann", NOW).version == 2


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
