"""Customers and their profiles: PostgreSQL holds them, the Redis side answers reads on the hot path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import orjson
import redis
from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from adapters.copying import copy_rows
from adapters.erasure import ERASURES_KEY, Erasure, ProfileErasures
from adapters.locks import WriterConnection
from adapters.records import customer_from, customer_json
from adapters.streams import ACTIVITY_STREAM, profile_key
from adapters.tables import activities, customers, profiles, set_aside_events, stream_positions
from adapters.units import seen_key
from contextual_bandit.profile import Activity, Population, Profile, decode_population, decode_profile
from contextual_bandit.types import CustomerRecord

# The empty id belongs to nobody (the API refuses it), so it can hold what is true of everybody.
POPULATION = ""
# Cached values are read again from PostgreSQL after a while, whatever became of their last change.
CACHE_SECONDS = 3600


class CustomerStore:
    """What a shop says of its customers: demographics and preferences."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def put(self, customer_id: str, record: CustomerRecord, now: datetime) -> None:
        """Create or replace a customer's record."""
        data = customer_json(record)
        row = {"customer_id": customer_id, "record": orjson.loads(data), "updated_at": now}
        with self._engine.begin() as connection:
            connection.execute(
                insert(customers).values(row).on_conflict_do_update(index_elements=["customer_id"], set_=row)
            )
            # While the row is locked, so that an erasure that waits for it deletes the key after this.
            self._client.set(customer_cache_key(customer_id), data, ex=CACHE_SECONDS)

    def get(self, customer_id: str) -> CustomerRecord | None:
        """A customer's record."""
        query = select(customers.c.record).where(customers.c.customer_id == customer_id)
        with self._engine.connect() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else customer_from(orjson.dumps(found))

    def read_through(self, customer_ids: Sequence[str], *, remember: bool) -> dict[str, tuple[bytes, bytes]]:
        """Profiles and records (JSON) from PostgreSQL for those whom the cache lacks; empty where there is none.

        With ``remember`` the cache keeps them, also what does not exist. Keys are set only where absent, so that a
        writer's newer value is never replaced, and not when anybody was erased while PostgreSQL was read.
        """
        wanted = list(customer_ids)
        with self._client.pipeline() as pipeline:
            remember = remember and _is_watched(pipeline)
            found = self._stored(wanted)
            if remember:
                pipeline.multi()
                for name, (state, record) in found.items():
                    pipeline.set(profile_key(name), state, nx=True, ex=CACHE_SECONDS)
                    pipeline.set(customer_cache_key(name), record, nx=True, ex=CACHE_SECONDS)
                with suppress(redis.RedisError):
                    pipeline.execute()
        return found

    def _stored(self, wanted: list[str]) -> dict[str, tuple[bytes, bytes]]:
        with self._engine.connect() as connection:
            known = select(profiles.c.customer_id, profiles.c.state).where(profiles.c.customer_id == func.any(wanted))
            states = {row.customer_id: row.state for row in connection.execute(known)}
            said = select(customers.c.customer_id, customers.c.record).where(
                customers.c.customer_id == func.any(wanted)
            )
            records = {row.customer_id: row.record for row in connection.execute(said)}
        return {name: (bytes(states.get(name, b"")), orjson.dumps(records.get(name, {}))) for name in wanted}

    def profile(self, customer_id: str) -> bytes | None:
        """A customer's stored profile."""
        query = select(profiles.c.state).where(profiles.c.customer_id == customer_id)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()


def _is_watched(pipeline: Any) -> bool:
    """Let the pipeline fail should anybody be erased before it runs; False when the server is away."""
    try:
        pipeline.watch(ERASURES_KEY)
    except redis.RedisError:
        return False
    return True


def customer_cache_key(customer_id: str) -> str:
    """The key under which a customer's record is cached."""
    return "record:" + customer_id


class ProfileLog:
    """What the one writer of profiles reads and commits; lock and commits share a connection."""

    def __init__(self, writers: WriterConnection, client: redis.Redis) -> None:
        """Take the writer lock.

        Raises:
            AnotherWriter: another process writes profiles.
        """
        self._client = client
        self._lease = writers.take(ACTIVITY_STREAM)

    @property
    def _connection(self) -> Connection:
        return self._lease.connection

    def close(self) -> None:
        """Give the lock back."""
        self._lease.release()

    @property
    def erasures(self) -> ProfileErasures:
        """Customers erased on the connection that commits."""
        return ProfileErasures(self._connection)

    def erase(self, erasure: Erasure, population: Population, now: datetime) -> None:
        """Delete a customer, and what the cache has; who read PostgreSQL before does not put it back."""
        state, customer_id = population.encode(), erasure.customer_id
        self.erasures.erase(erasure, (POPULATION, state), now)
        pipeline = self._client.pipeline()
        pipeline.incr(ERASURES_KEY)
        pipeline.delete(profile_key(customer_id), customer_cache_key(customer_id), seen_key(customer_id))
        pipeline.set(profile_key(POPULATION), state)
        pipeline.execute()

    def load(self) -> tuple[str, Population]:
        """The committed position, and the population."""
        with self._connection.begin():
            position = self._connection.execute(
                select(stream_positions.c.position).where(stream_positions.c.stream == ACTIVITY_STREAM)
            ).scalar_one_or_none()
            if position is None:
                row = {"stream": ACTIVITY_STREAM, "position": "0-0", "sequence": 0, "attempts": 0}
                self._connection.execute(insert(stream_positions).values(row))
            state = self._connection.execute(
                select(profiles.c.state).where(profiles.c.customer_id == POPULATION)
            ).scalar_one_or_none()
        return position or "0-0", decode_population(state) if state else Population()

    def known(self, activity_ids: Sequence[str]) -> frozenset[str]:
        """Which of these activities an earlier batch stored."""
        with self._connection.begin():
            found = self._connection.execute(
                select(activities.c.activity_id).where(activities.c.activity_id == func.any(list(activity_ids)))
            ).scalars()
            return frozenset(found)

    def profiles(self, customer_ids: Iterable[str]) -> dict[str, Profile]:
        """The profiles of these customers, as far as they exist."""
        query = select(profiles.c.customer_id, profiles.c.state).where(
            profiles.c.customer_id == func.any(list(customer_ids))
        )
        with self._connection.begin():
            return {row.customer_id: decode_profile(row.state) for row in self._connection.execute(query)}

    def commit(
        self,
        position: str,
        stored: Sequence[tuple[Activity, str]],
        changed: Mapping[str, Profile],
        population: Population,
        set_aside: Sequence[tuple[str, bytes, str]],
        now: datetime,
    ) -> None:
        """Store activities, profiles and the position in one transaction, then refresh the cache."""
        rows = {customer_id: profile.encode() for customer_id, profile in changed.items()}
        if rows:
            rows[POPULATION] = population.encode()
        connection = self._connection
        with connection.begin():
            copy_rows(
                connection,
                activities,
                (
                    "activity_id",
                    "customer_id",
                    "kind",
                    "category",
                    "offer_id",
                    "amount",
                    "order_id",
                    "occurred_at",
                    "position",
                ),
                [
                    (
                        a.activity_id,
                        a.customer_id,
                        a.kind,
                        a.category,
                        a.offer_id,
                        a.amount,
                        a.order_id,
                        a.occurred_at,
                        at,
                    )
                    for a, at in stored
                ],
            )
            connection.execute(text("CREATE TEMP TABLE IF NOT EXISTS fresh (LIKE profiles) ON COMMIT DELETE ROWS"))
            copy_rows(
                connection,
                profiles.to_metadata(type(profiles.metadata)(), name="fresh"),
                ("customer_id", "state", "position", "updated_at"),
                [(customer_id, state, position, now) for customer_id, state in rows.items()],
            )
            connection.execute(
                text(
                    "INSERT INTO profiles SELECT * FROM fresh ON CONFLICT (customer_id) DO UPDATE SET "
                    "state = excluded.state, position = excluded.position, updated_at = excluded.updated_at"
                )
            )
            copy_rows(
                connection,
                set_aside_events,
                ("stream", "position", "data", "error"),
                [(ACTIVITY_STREAM, at, data, error) for at, data, error in set_aside],
            )
            connection.execute(
                update(stream_positions).where(stream_positions.c.stream == ACTIVITY_STREAM).values(position=position)
            )
        self.refresh(rows)

    def refresh(self, states: Mapping[str, bytes]) -> None:
        """Put profiles into the cache; only the writer does, so that an older one never replaces a newer."""
        pipeline = self._client.pipeline(transaction=False)
        for customer_id, state in states.items():
            # Services do not read the population through, so it stays.
            pipeline.set(profile_key(customer_id), state, ex=CACHE_SECONDS if customer_id else None)
        pipeline.execute()

    def refresh_since(self, position: str) -> int:
        """Put every profile that changed after ``position`` into the cache (a crash may have come before that)."""
        query = select(profiles.c.customer_id, profiles.c.position)
        with self._connection.begin():
            late = [row.customer_id for row in self._connection.execute(query) if _after(row.position, position)]
        for start in range(0, len(late), 1000):
            query = select(profiles.c.customer_id, profiles.c.state).where(
                profiles.c.customer_id == func.any(late[start : start + 1000])
            )
            with self._connection.begin():
                self.refresh({row.customer_id: row.state for row in self._connection.execute(query)})
        return len(late)


def _after(position: str, other: str) -> bool:
    first, second = (tuple(map(int, value.split("-"))) for value in (position, other))
    return first > second
