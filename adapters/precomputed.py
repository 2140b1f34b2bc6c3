"""Values that jobs compute ahead of decisions, and the reads they are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, TypeAlias, cast

import orjson
import redis
from sqlalchemy import ColumnElement, Engine, Select, func, select
from sqlalchemy.dialects.postgresql import insert

from adapters.customers import POPULATION
from adapters.records import customer_from
from adapters.streams import VERSIONS_KEY
from adapters.tables import activities, customers, precomputed, profiles
from contextual_bandit.profile import Profile, decode_profile
from contextual_bandit.types import CustomerRecord

Item: TypeAlias = Literal["category", "offer_id"]
BATCH = 1000
# A share of customers or baskets is drawn by so many hexadecimal digits of their hash.
HASH_DIGITS = 6


class PrecomputedStore:
    """Named values as bytes: PostgreSQL holds them, Redis answers, services keep them in memory."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def put(self, name: str, value: bytes, now: datetime) -> None:
        """Replace a value, and raise the version that services watch."""
        row = {"name": name, "value": value, "updated_at": now}
        with self._engine.begin() as connection:
            connection.execute(insert(precomputed).values(row).on_conflict_do_update(index_elements=["name"], set_=row))
        self._client.set(precomputed_key(name), value)
        self._client.hincrby(VERSIONS_KEY, precomputed_key(name), 1)

    def get(self, name: str) -> bytes | None:
        """A value; from PostgreSQL when Redis is empty or away, and then Redis gets it back."""
        with suppress(redis.RedisError):
            cached = cast("bytes | None", self._client.get(precomputed_key(name)))
            if cached is not None:
                return cached
        query = select(precomputed.c.value).where(precomputed.c.name == name)
        with self._engine.connect() as connection:
            stored = connection.execute(query).scalar_one_or_none()
        if stored is not None:
            with suppress(redis.RedisError):
                # Only where absent, so that a job's newer value is never replaced.
                self._client.set(precomputed_key(name), stored, nx=True)
        return stored

    def version(self, name: str) -> int:
        """A number that rises with every change."""
        return int(cast("bytes | None", self._client.hget(VERSIONS_KEY, precomputed_key(name))) or 0)


def precomputed_key(name: str) -> str:
    """The key of a precomputed value, and the field of its version."""
    return "precomputed:" + name


class Behaviour:
    """What all customers did, read in batches: memory is that of one batch, whatever their number."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest(self) -> datetime | None:
        """The time of the newest activity."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.max(activities.c.occurred_at))).scalar_one_or_none()

    def count(self) -> int:
        """How many customers have a profile."""
        query = select(func.count()).select_from(profiles).where(profiles.c.customer_id != POPULATION)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def customers(self, share: float = 1.0) -> Iterator[tuple[Profile, CustomerRecord]]:
        """Customers with a profile, by id, with what the shop says of them.

        Each batch is a read of its own: a transaction over the whole pass would keep PostgreSQL from tidying up.

        Args:
            share: share of the customers to read, in (0, 1]; the same ones each time.
        """
        after = POPULATION
        query = (
            select(profiles.c.customer_id, profiles.c.state, customers.c.record)
            .outerjoin(customers, customers.c.customer_id == profiles.c.customer_id)
            .where(*_drawn(profiles.c.customer_id, share))
            .order_by(profiles.c.customer_id)
            .limit(BATCH)
        )
        while True:
            with self._engine.connect() as connection:
                rows = connection.execute(query.where(profiles.c.customer_id > after)).all()
            for row in rows:
                record = customer_from(orjson.dumps(row.record)) if row.record else CustomerRecord()
                yield decode_profile(row.state), record
            if len(rows) < BATCH:
                return
            after = rows[-1].customer_id

    def items(self, item: Item, since: datetime, until: datetime, least: int, most: int) -> dict[str, int]:
        """The items with at least ``least`` purchases, and how many; the ``most`` frequent ones."""
        column = activities.c[item]
        purchases = func.count()
        query = (
            select(column, purchases)
            .where(*_purchases(item, since, until))
            .group_by(column)
            .having(purchases >= least)
            .order_by(purchases.desc(), column)
            .limit(most)
        )
        with self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def baskets(self, item: Item, since: datetime, until: datetime, share: float) -> Iterator[tuple[int, str]]:
        """Purchased items with the number of their basket (0, 1, ...), each once, basket by basket.

        A basket is a customer's order, or what the customer bought on one UTC day where no order is named.

        Args:
            item: what stands in the baskets.
            since: purchases after this moment,
            until: up to and including this one.
            share: share of the baskets to read, in (0, 1]; the same ones each time.
        """
        number, before = -1, None
        with self._engine.connect() as connection:
            rows = connection.execution_options(yield_per=10 * BATCH).execute(_baskets(item, since, until, share))
            for customer_id, basket, found in rows:
                if (customer_id, basket) != before:
                    number, before = number + 1, (customer_id, basket)
                yield number, found


def _baskets(item: Item, since: datetime, until: datetime, share: float) -> Select[Any]:
    day = func.to_char(func.timezone("UTC", activities.c.occurred_at), '"d"YYYY-MM-DD')
    basket = func.coalesce("o" + activities.c.order_id, day)
    customer, found = activities.c.customer_id, activities.c[item]
    return (
        select(customer, basket, found)
        .where(*_purchases(item, since, until), *_drawn(func.concat(customer, " ", basket), share))
        .group_by(customer, basket, found)
        .order_by(customer, basket, found)
    )


def _purchases(item: Item, since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    at = activities.c.occurred_at
    return activities.c.kind == "purchase", activities.c[item].is_not(None), at > since, at <= until


def _drawn(name: ColumnElement[Any], share: float) -> list[ColumnElement[bool]]:
    """Whether a row is in the share, by the hash of its name; no condition for all of them."""
    if share >= 1.0:
        return []
    limit = f"{int(share * 16**HASH_DIGITS):0{HASH_DIGITS}x}"
    return [func.substr(func.md5(name), 1, HASH_DIGITS).collate("C") < limit]
