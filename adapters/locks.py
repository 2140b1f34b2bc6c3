"""The right to write: advisory locks held on the very connection that commits."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, cast

import psycopg
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError


class AnotherWriter(RuntimeError):
    """Another process holds the writer lock."""


class LockLost(RuntimeError):
    """The connection that held the lock is gone, and the lock with it."""


class WriterConnection:
    """One connection for all that a single-threaded process writes, so that a thousand loops need no thousand."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def take(self, name: str) -> Lease:
        """Take a lock.

        Raises:
            AnotherWriter: someone else holds it.
        """
        if self._connection is None or self._connection.closed or self._connection.invalidated:
            self.close()
            self._connection = self._engine.connect()
        connection = self._connection
        taken = connection.execute(select(func.pg_try_advisory_lock(lock_number(name)))).scalar_one()
        connection.commit()
        if not taken:
            raise AnotherWriter(f"another process writes {name}")
        return Lease(connection, name)

    def close(self) -> None:
        """Close the connection; every lock on it is free."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


class Lease:
    """A held lock. ``connection`` refuses to be used once the lock is lost: it would reconnect without it."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._backend = _backend(connection)

    @property
    def connection(self) -> Connection:
        """The connection that holds the lock.

        Raises:
            LockLost: it broke.
        """
        if self._connection.closed or self._connection.invalidated or _backend(self._connection) != self._backend:
            raise LockLost(f"the connection that wrote {self._name} broke")
        return self._connection

    def release(self) -> None:
        """Give the lock to the next writer; a broken connection has given it already."""
        try:
            connection = self.connection
            if connection.in_transaction():
                connection.rollback()
            connection.execute(select(func.pg_advisory_unlock(lock_number(self._name))))
            connection.commit()
        except (LockLost, SQLAlchemyError):
            self._connection.invalidate()


def lock_number(name: str) -> int:
    """The advisory lock of a name: a signed 64-bit number."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _backend(connection: Connection) -> int:
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    return raw.info.backend_pid
