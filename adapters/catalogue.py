"""The offer catalogue and the loops' settings in PostgreSQL; each change raises a version that services watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import redis
from sqlalchemy import ARRAY, Connection, Engine, Text, any_, literal, select, text
from sqlalchemy.dialects.postgresql import insert

from adapters.records import loop_from, loop_record, offer_from, offer_record
from adapters.streams import VERSIONS_KEY
from adapters.tables import audit_log, loops, offer_versions, offers
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Offer


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of offers that were put: all as they are stored now, in their order, and how many of them changed."""

    stored: list[Offer]
    created: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class OfferVersion:
    """An offer as it was from ``created_at`` until its next version."""

    offer: Offer
    created_at: datetime


class OfferCatalogue:
    """Offers by id; a change makes a new version, and old versions stay readable."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def put(self, offer: Offer, actor: str, now: datetime) -> Offer:
        """Create or replace an offer; the stored one carries its version."""
        stored = self.put_all([offer], actor, now)
        return stored[0]

    def put_all(self, wanted: Sequence[Offer], actor: str, now: datetime) -> list[Offer]:
        """Create or replace offers of different ids, all or none; one that says nothing new keeps its version."""
        return self.change(wanted, actor, now).stored

    def change(self, wanted: Sequence[Offer], actor: str, now: datetime, *, dry_run: bool = False) -> Changes:
        """The same, with what became of them; a dry run only says what would."""
        with self._engine.begin() as connection:
            # One writer at a time, or two would give the same number to different versions. Readers do not wait.
            connection.execute(text("LOCK TABLE offers IN SHARE ROW EXCLUSIVE MODE"))
            current = self._current(connection, [offer.offer_id for offer in wanted])
            stored, fresh = [], []
            created = 0
            for offer in wanted:
                version, living = current.get(offer.offer_id, (0, None))
                if living is not None and _is_same(living, offer):
                    stored.append(living)
                    continue
                created += living is None
                fresh.append(replace(offer, version=version + 1))
                stored.append(fresh[-1])
            if fresh and not dry_run:
                self._write(connection, fresh, actor, now)
        if fresh and not dry_run:
            self._client.hincrby(VERSIONS_KEY, "catalogue", 1)
        return Changes(stored, created, len(fresh) - created, len(wanted) - len(fresh))

    def _current(self, connection: Connection, offer_ids: list[str]) -> dict[str, tuple[int, Offer | None]]:
        """The newest version of each offer that ever was, and the offer itself unless it is deleted."""
        query = select(offers).where(offers.c.offer_id == any_(literal(offer_ids, ARRAY(Text))))
        return {
            row.offer_id: (row.version, None if row.deleted else offer_from(row.offer_id, row.version, row.record))
            for row in connection.execute(query)
        }

    def _write(self, connection: Connection, fresh: Sequence[Offer], actor: str, now: datetime) -> None:
        keyed = [
            {"offer_id": offer.offer_id, "version": offer.version, "record": offer_record(offer)} for offer in fresh
        ]
        put = insert(offers)
        put = put.on_conflict_do_update(index_elements=["offer_id"], set_=dict(put.excluded))
        connection.execute(put, [{**row, "deleted": False, "updated_at": now} for row in keyed])
        connection.execute(insert(offer_versions), [{**row, "created_at": now} for row in keyed])
        audited = {"at": now, "actor": actor, "action": "offer.put"}
        connection.execute(
            insert(audit_log),
            [{**audited, "subject": row["offer_id"], "detail": {"version": row["version"]}} for row in keyed],
        )

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

    def versions(self, offer_id: str) -> list[OfferVersion]:
        """Every version of an offer, newest first, also of a deleted one; none when there never was one."""
        query = select(offer_versions).where(offer_versions.c.offer_id == offer_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(offer_versions.c.version.desc())).all()
        return [OfferVersion(offer_from(row.offer_id, row.version, row.record), row.created_at) for row in rows]

    def at_version(self, offer_id: str, version: int) -> OfferVersion | None:
        """An offer as it was, for a decision that names its version."""
        query = select(offer_versions).where(
            offer_versions.c.offer_id == offer_id, offer_versions.c.version == version
        )  # fmt: skip
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else OfferVersion(offer_from(offer_id, version, row.record), row.created_at)

    def version(self) -> int:
        """A number that rises with every change."""
        return int(self._client.hget(VERSIONS_KEY, "catalogue") or 0)


class LoopStore:
    """The loops' settings."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def put(
        self, config: LoopConfig, actor: str, now: datetime, *, keep_challengers: bool = False
    ) -> LoopConfig:  # fmt: skip
        """Create or replace a loop's settings; the stored ones carry their new version.

        With ``keep_challengers`` they stay as they are stored at that moment: a guardrail may just have stopped one.
        """
        with self._engine.begin() as connection:
            record = connection.execute(
                select(loops.c.config).where(loops.c.loop == config.loop).with_for_update()
            ).scalar_one_or_none()
            current = None if record is None else loop_from(record)
            if current is not None and keep_challengers:
                config = replace(config, challengers=current.challengers)
            stored = _put_loop(connection, replace(config, version=current.version + 1 if current else 1), actor, now)
        self._client.hincrby(VERSIONS_KEY, "loops", 1)
        return stored

    def edit(
        self, loop: str, change: Callable[[LoopConfig], LoopConfig], actor: str, now: datetime, action: str, detail: Any
    ) -> LoopConfig | None:
        """Change settings from what is stored at that moment, so that no other change meanwhile is undone.

        Args:
            loop: the loop's name.
            change: from the stored settings to the new ones; what it raises leaves everything as it was.
            actor: who asks.
            now: the time of it.
            action: what the audit log calls it, beside the settings as a whole.
            detail: what the audit log says of it, as JSON.

        Returns:
            The settings as they are stored now; None when there is no such loop.
        """
        with self._engine.begin() as connection:
            stored = edit_loop(connection, loop, change, actor, now)
            if stored is None:
                return None
            audit(connection, now, actor, action, loop, detail)
        self.announce()
        return stored

    def announce(self) -> None:
        """Tell the services that settings have changed."""
        self._client.hincrby(VERSIONS_KEY, "loops", 1)

    def ensure(self, config: LoopConfig, now: datetime) -> None:
        """Create a loop that does not exist yet; an existing one stays as it is."""
        with self._engine.begin() as connection:
            row = {"loop": config.loop, "config": loop_record(config), "version": 1, "updated_at": now}
            connection.execute(insert(loops).values(row).on_conflict_do_nothing(index_elements=["loop"]))
        self._client.hincrby(VERSIONS_KEY, "loops", 1)

    def delete(self, loop: str, actor: str, now: datetime) -> bool:
        """Take a loop out; its log stays, its challengers do not. False when there is none."""
        with self._engine.begin() as connection:
            query = select(loops.c.config).where(loops.c.loop == loop, ~loops.c.deleted).with_for_update()
            record = connection.execute(query).scalar_one_or_none()
            if record is not None:
                # Whoever creates the loop again has none of them decide.
                left = loop_record(replace(loop_from(record), challengers=()))
                gone = {"config": left, "deleted": True, "updated_at": now}
                connection.execute(loops.update().where(loops.c.loop == loop).values(gone))
                audit(connection, now, actor, "loop.delete", loop, {})
        if record is not None:
            self.announce()
        return record is not None

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


def edit_loop(
    connection: Connection, loop: str, change: Callable[[LoopConfig], LoopConfig], actor: str, now: datetime
) -> LoopConfig | None:
    """Change settings in somebody's transaction, who then announces it; None when there is no such loop."""
    query = select(loops.c.config).where(loops.c.loop == loop, ~loops.c.deleted).with_for_update()
    record = connection.execute(query).scalar_one_or_none()
    if record is None:
        return None
    current = loop_from(record)
    return _put_loop(connection, replace(change(current), version=current.version + 1), actor, now)


def _put_loop(connection: Connection, config: LoopConfig, actor: str, now: datetime) -> LoopConfig:
    """Store settings with the version that they carry; returns them as they are read back."""
    record = loop_record(config)
    row = {
        "loop": config.loop, "config": record, "version": config.version, "deleted": False, "updated_at": now,
    }  # fmt: skip
    connection.execute(insert(loops).values(row).on_conflict_do_update(index_elements=["loop"], set_=row))
    audit(connection, now, actor, "loop.put", config.loop, record)
    return loop_from(record)


def _is_same(stored: Offer, wanted: Offer) -> bool:
    """Whether an offer says nothing new. To Python True is 1.0, to a policy or a rule it is not."""
    if stored != replace(wanted, version=stored.version):
        return False
    rules = zip(stored.rules, wanted.rules, strict=True)
    return _is_same_json(stored.features, wanted.features) and all(
        _is_same_json(one.require, other.require) for one, other in rules
    )


def _is_same_json(one: object, other: object) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same_json(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same_json, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def audit(connection: Connection, now: datetime, actor: str, action: str, subject: str, detail: Any) -> None:
    """Write down who changed what, in the change's own transaction."""
    connection.execute(insert(audit_log).values(at=now, actor=actor, action=action, subject=subject, detail=detail))
