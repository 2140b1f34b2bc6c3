"""Pools of connections to PostgreSQL."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine, inspect

from adapters.tables import loops


def make_engine(url: str) -> Engine:
    """A connection pool for sync SQL; a plain ``postgresql://`` address gets the psycopg 3 driver.

    Connections are checked before use, so that a restarted server costs no request.
    """
    return create_engine(_with_driver(url), pool_pre_ping=True, pool_size=5, max_overflow=10)


def make_reader(url: str) -> Engine:
    """A pool for single reads on the hot path: one round trip each, no transaction around it.

    Connections are not checked before use; after a restart of the server the first read of each fails and
    the pool is made anew.
    """
    return create_engine(_with_driver(url), isolation_level="AUTOCOMMIT", pool_size=8, pool_reset_on_return=None)


def is_migrated(engine: Engine) -> bool:
    """Whether the database has this product's tables, of whatever revision."""
    return inspect(engine).has_table(loops.name)


def _with_driver(url: str) -> str:
    if url.startswith(("postgres://", "postgresql://")):
        return "postgresql+psycopg://" + url.partition("://")[2]
    return url
