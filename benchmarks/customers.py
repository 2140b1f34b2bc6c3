"""Customers in bulk: copies of the market's, with their records, history and profiles."""

from __future__ import annotations

from adapters.customers import CACHE_SECONDS, customer_cache_key
from adapters.installation import Installation
from adapters.streams import profile_key
from benchmarks import market

AT_A_TIME = 1000
COPY = (
    """
    INSERT INTO customers (customer_id, record, updated_at)
    SELECT 'many-' || k, c.record, c.updated_at
    FROM generate_series(CAST(%(first)s AS bigint), CAST(%(last)s AS bigint)) AS k
    JOIN customers c ON c.customer_id = 'bench-' || mod(k, %(templates)s)
    """,
    """
    INSERT INTO profiles (customer_id, state, position, updated_at)
    SELECT 'many-' || k, p.state, p.position, p.updated_at
    FROM generate_series(CAST(%(first)s AS bigint), CAST(%(last)s AS bigint)) AS k
    JOIN profiles p ON p.customer_id = 'bench-' || mod(k, %(templates)s)
    """,
)
STORED_STATES = "SELECT customer_id, state FROM profiles WHERE starts_with(customer_id, 'bench-')"
STORED_RECORDS = "SELECT customer_id, record::text AS record FROM customers WHERE starts_with(customer_id, 'bench-')"


def customer_id(number: int) -> str:
    """The id of one of them, counted from 0."""
    return f"many-{number}"


def fill(installation: Installation, first: int, count: int) -> None:
    """Write customers ``first`` up to ``count`` to PostgreSQL; the market must have been prepared."""
    values = {"first": first, "last": count - 1, "templates": market.CUSTOMERS}
    with installation.engine.begin() as connection:
        for statement in COPY:
            connection.exec_driver_sql(statement, values)
    with installation.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE customers, profiles")


def remember(installation: Installation, first: int, count: int) -> None:
    """Put the same customers where services look first, as if each had been asked for within the hour."""
    states, records = _templates(installation)
    for start in range(first, count, AT_A_TIME):
        pipeline = installation.client.pipeline(transaction=False)
        for number in range(start, min(start + AT_A_TIME, count)):
            name, template = customer_id(number), f"bench-{number % market.CUSTOMERS}"
            pipeline.set(profile_key(name), states[template], ex=CACHE_SECONDS)
            pipeline.set(customer_cache_key(name), records[template], ex=CACHE_SECONDS)
        pipeline.execute()


def forget(installation: Installation, numbers: list[int]) -> None:
    """Take customers out of there, so that PostgreSQL is asked for them."""
    for start in range(0, len(numbers), AT_A_TIME):
        names = [customer_id(number) for number in numbers[start : start + AT_A_TIME]]
        installation.client.delete(*map(profile_key, names), *map(customer_cache_key, names))


def stored(installation: Installation) -> list[tuple[bytes, bytes]]:
    """Profiles and records of the market's customers, as the stores have them."""
    states, records = _templates(installation)
    return [(states[name], records[name]) for name in states if name in records]


def _templates(installation: Installation) -> tuple[dict[str, bytes], dict[str, bytes]]:
    with installation.engine.connect() as connection:
        states = connection.exec_driver_sql(STORED_STATES)
        records = connection.exec_driver_sql(STORED_RECORDS)
        return {row.customer_id: bytes(row.state) for row in states}, {
            row.customer_id: row.record.encode() for row in records
        }
