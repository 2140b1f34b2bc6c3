"""Kill switches are kept apart from what they are of, and say in the audit log who threw them and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import select

from adapters.catalogue import OfferCatalogue
from adapters.installation import Installation
from adapters.kill_switches import Killed, KillSwitch, KillSwitchStore, killed_by
from adapters.streams import VERSIONS_KEY
from adapters.tables import audit_log
from contextual_bandit.types import Offer

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def test_a_switch_is_thrown_told_and_noted(installation: Installation) -> None:
    store, name = KillSwitchStore(installation.engine, installation.client), f"offer-{uuid4().hex}"
    assert store.get("offer", name) is None
    on = KillSwitch("offer", name, True, "the code does not work", "somebody", NOW)
    version = store.throw(on)
    assert installation.client.hget(VERSIONS_KEY, "kill_switches") == str(version).encode()
    assert (store.get("offer", name), store.get("loop", name)) == (on, None)
    assert name in killed_by(store.on()).offers
    offers = OfferCatalogue(installation.engine, installation.client)
    offers.put(Offer(name, "garden"), "somebody", NOW)
    offers.delete(name, "somebody", NOW)
    assert store.get("offer", name) == on, "whatever becomes of the offer"
    off = replace(on, is_on=False, reason="mended", actor="else")
    assert store.throw(off) == version + 1
    assert store.get("offer", name) == off
    assert name not in killed_by(store.on()).offers
    with installation.engine.connect() as connection:
        noted = select(audit_log.c.action, audit_log.c.actor, audit_log.c.detail).where(
            audit_log.c.subject == name, audit_log.c.action.in_(("offer.killed", "offer.revived"))
        )
        assert [tuple(row) for row in connection.execute(noted.order_by(audit_log.c.audit_id))] == [
            ("offer.killed", "somebody", {"reason": "the code does not work"}),
            ("offer.revived", "else", {"reason": "mended"}),
        ]


def test_loops_and_offers_are_told_apart() -> None:
    found = killed_by([KillSwitch("loop", "a", True, "r", "x", NOW), KillSwitch("offer", "b", True, "r", "x", NOW)])
    assert found == Killed(frozenset({"a"}), frozenset({"b"}))
