"""Bulk writes by COPY on a SQLAlchemy connection's own transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import BigInteger, Boolean, Connection, DateTime, Float, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

# The driver's names of types, by those that tables are made of.
_NAMES = {Text: "text", DateTime: "timestamptz", Float: "float8", Boolean: "bool", Integer: "int4", BigInteger: "int8",
          LargeBinary: "bytea", JSONB: "jsonb"}  # fmt: skip


def copy_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Collection[Sequence[Any]]) -> None:
    """Append rows to a table; they commit with the connection's transaction.

    Rows go in PostgreSQL's binary format: a decision's record as it is, where text would need two characters per byte.

    Raises:
        sqlalchemy.exc.DBAPIError: the server went away or cannot go on, as for any other statement.
        psycopg.Error, TypeError: the rows are at fault.
    """
    if not rows:
        return
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    statement, types = _prepared(table, tuple(columns))
    try:
        with raw.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    except psycopg.OperationalError as error:
        if raw.closed:
            connection.invalidate(error)
        raise DBAPIError.instance(
            f"COPY {table.name}", None, error, psycopg.Error, connection_invalidated=raw.closed,
            dialect=connection.dialect,
        ) from error  # fmt: skip


@lru_cache(maxsize=128)
def _prepared(table: Table, columns: tuple[str, ...]) -> tuple[sql.Composed, list[str]]:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), names)
    return statement, [_type_name(table.c[name].type) for name in columns]


def _type_name(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, ARRAY):
        return f"{_type_name(kind.item_type)}[]"
    return _NAMES[type(kind)]
