"""The offer catalogue and the loops' settings in PostgreSQL; each change raises a version that services watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import redis
from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.postgresql import insert

from adapters.streams import VERSIONS_KEY
from adapters.tables import audit_log, loops, offer_versions, offers
from contextual_bandit.events import from_text, to_text
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.types import Offer


class OfferCatalogue:
    """Offers by id; a change makes a new version, and old versions stay readable."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def put(self, offer: Offer, actor: str, now: datetime) -> Offer:
        """Create or replace an offer; the stored one carries its new version."""
        stored = self.put_all([offer], actor, now)
        return stored[0]

    def put_all(self, changed: Sequence[Offer], actor: str, now: datetime) -> list[Offer]:
        """Create or replace offers, all or none."""
        with self._engine.begin() as connection:
            stored = [self._put(connection, offer, actor, now) for offer in changed]
        self._client.hincrby(VERSIONS_KEY, "catalogue", 1)
        return stored

    def _put(self, connection: Connection, offer: Offer, actor: str, now: datetime) -> Offer:
        current = connection.execute(
            select(offers.c.version).where(offers.c.offer_id == offer.offer_id).with_for_update()
        ).scalar_one_or_none()
        version = (current or 0) + 1
        record = _offer_record(offer)
        row = {"offer_id": offer.offer_id, "version": version, "deleted": False, "record": record, "updated_at": now}
        connection.execute(insert(offers).values(row).on_conflict_do_update(index_elements=["offer_id"], set_=row))
        connection.execute(
            insert(offer_versions).values(
                offer_id=offer.offer_id, version=version, record=record, created_at=now
            )
        )  # fmt: skip
        audit(connection, now, actor, "offer.put", offer.offer_id, {"version": version})
        return offer_from(offer.offer_id, version, record)

    def delete(self, offer_id: str, actor: str, now: datetime) -> bool:
        """Take an offer out; its versions stay for the decisions that name them."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                offers.update().where(offers.c.offer_id == offer_id, ~offers.c.deleted)
                .values(deleted=True, updated_at=now)
            ).rowcount  # fmt: skip
            if changed:
                audit(connection, now, actor, "offer.delete", offer_id, {})
        if changed:
            self._client.hincrby(VERSIONS_KEY, "catalogue", 1)
        return bool(changed)

    def get(self, offer_id: str) -> Offer | None:
        """One offer as it is now."""
        query = select(offers).where(offers.c.offer_id == offer_id, ~offers.c.deleted)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else offer_from(row.offer_id, row.version, row.record)

    def all(self) -> list[Offer]:
        """Every offer as it is now, by id."""
        query = select(offers).where(~offers.c.deleted).order_by(offers.c.offer_id)
        with self._engine.connect() as connection:
            return [offer_from(row.offer_id, row.version, row.record) for row in connection.execute(query)]

    def version(self) -> int:
        """A number that rises with every change."""
        return int(self._client.hget(VERSIONS_KEY, "catalogue") or 0)


class LoopStore:
    """The loops' settings."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def put(self, config: LoopConfig, actor: str, now: datetime) -> LoopConfig:
        """Create or replace a loop's settings; the stored ones carry their new version."""
        with self._engine.begin() as connection:
            current = connection.execute(
                select(loops.c.version).where(loops.c.loop == config.loop).with_for_update()
            ).scalar_one_or_none()
            version = (current or 0) + 1
            record = asdict(config) | {"version": version}
            row = {
                "loop": config.loop, "config": record, "version": version, "deleted": False, "updated_at": now,
            }  # fmt: skip
            connection.execute(insert(loops).values(row).on_conflict_do_update(index_elements=["loop"], set_=row))
            audit(connection, now, actor, "loop.put", config.loop, record)
        self._client.hincrby(VERSIONS_KEY, "loops", 1)
        return loop_from(record)

    def ensure(self, config: LoopConfig, now: datetime) -> None:
        """Create a loop that does not exist yet; an existing one stays as it is."""
        with self._engine.begin() as connection:
            row = {"loop": config.loop, "config": asdict(config), "version": 1, "updated_at": now}
            connection.execute(insert(loops).values(row).on_conflict_do_nothing(index_elements=["loop"]))
        self._client.hincrby(VERSIONS_KEY, "loops", 1)

    def delete(self, loop: str, actor: str, now: datetime) -> bool:
        """Take a loop out; its log stays. False when there is none."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                loops.update().where(loops.c.loop == loop, ~loops.c.deleted).values(deleted=True, updated_at=now)
            ).rowcount
            if changed:
                audit(connection, now, actor, "loop.delete", loop, {})
        self._client.hincrby(VERSIONS_KEY, "loops", 1)
        return bool(changed)

    def get(self, loop: str, *, deleted: bool = False) -> LoopConfig | None:
        """One loop's settings; with ``deleted`` also those that a deleted loop had, whose log still stands."""
        query = select(loops.c.config).where(loops.c.loop == loop)
        if not deleted:
            query = query.where(~loops.c.deleted)
        with self._engine.connect() as connection:
            record = connection.execute(query).scalar_one_or_none()
        return None if record is None else loop_from(record)

    def all(self) -> list[LoopConfig]:
        """Every loop's settings, by name."""
        with self._engine.connect() as connection:
            records = (
                connection.execute(select(loops.c.config).where(~loops.c.deleted).order_by(loops.c.loop))
                .scalars()
                .all()
            )
        return [loop_from(record) for record in records]


def audit(connection: Connection, now: datetime, actor: str, action: str, subject: str, detail: Any) -> None:
    """Write down who changed what, in the change's own transaction."""
    connection.execute(insert(audit_log).values(at=now, actor=actor, action=action, subject=subject, detail=detail))


def offer_from(offer_id: str, version: int, record: Mapping[str, Any]) -> Offer:
    """A stored offer read back."""
    return Offer(
        offer_id=offer_id,
        category=record["category"],
        status=record["status"],
        valid_from=from_text(record["valid_from"]) if record["valid_from"] else None,
        valid_to=from_text(record["valid_to"]) if record["valid_to"] else None,
        features=record["features"],
        version=version,
    )


def loop_from(record: Mapping[str, Any]) -> LoopConfig:
    """Stored settings read back."""
    return LoopConfig(**{**record, "reward": RewardDefinition(**record["reward"])})


def _offer_record(offer: Offer) -> dict[str, Any]:
    return {
        "category": offer.category,
        "status": offer.status,
        "valid_from": to_text(offer.valid_from) if offer.valid_from else None,
        "valid_to": to_text(offer.valid_to) if offer.valid_to else None,
        "features": dict(offer.features),
    }
