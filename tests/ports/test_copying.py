"""Rows of every type that tables have arrive as they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import OperationalError

from adapters.copying import copy_rows
from adapters.installation import Installation
from adapters.tables import interactions, metadata, outcomes, set_aside_events, stream_positions

NOW = datetime(2031, 3, 2, 9, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture
def connection(installation: Installation) -> Iterator[Connection]:
    """Nothing that is written stays."""
    with installation.engine.connect() as found:
        yield found
        found.rollback()


def test_each_type_comes_back(connection: Connection) -> None:
    connection.execute(
        text(
            "CREATE TABLE interactions_copying PARTITION OF interactions FOR VALUES FROM ('2031-01-01') TO ('2032-01-01')"
        )
    )
    rows: list[tuple[Any, ...]] = [
        (
            "copying",
            2**40,
            0,
            "d1",
            NOW,
            NOW.astimezone(timezone(timedelta(hours=2))),
            0.1,
            "learn",
            3,
            True,
            [0.5, 1.0],
        ),
        ("copying", 2, 1, "né\t\\N\n", NOW, NOW, 1, "learn", 3, False, None),
    ]
    names = [column.name for column in interactions.c]
    copy_rows(connection, interactions, names, rows)
    query = select(interactions).where(interactions.c.loop == "copying").order_by(interactions.c.sequence.desc())
    assert [tuple(row) for row in connection.execute(query)] == rows

    copy_rows(connection, set_aside_events, ("stream", "position", "data", "error"), [("c", "1-0", b"\x00\xff\\", "")])
    query = select(set_aside_events.c.data).where(set_aside_events.c.stream == "c")
    assert connection.execute(query).scalar_one() == b"\x00\xff\\"

    row = ("copying", "o1", "d1", "click", 1.5, True, NOW, "1-0", "joined")
    names = ["loop", "outcome_id", "decision_id", "kind", "value", "final", "received_at", "position", "state", "slot"]
    copy_rows(connection, outcomes, names, [(*row, Jsonb({"a": [1, "x"]})), (row[0], "o2", *row[2:], None)])
    found = connection.execute(
        select(outcomes.c.slot).where(outcomes.c.loop == "copying").order_by(outcomes.c.outcome_id)
    )
    assert found.scalars().all() == [{"a": [1, "x"]}, None]


def test_every_column_of_every_table_can_be_written(connection: Connection) -> None:
    for table in metadata.tables.values():
        copy_rows(connection, table, [column.name for column in table.c], [])
        with pytest.raises(psycopg.IntegrityError), connection.begin_nested():
            copy_rows(connection, table, [column.name for column in table.c], [[None] * len(table.c)])


def test_no_rows_write_nothing(connection: Connection) -> None:
    copy_rows(connection, stream_positions, ("stream",), [])
    assert connection.execute(select(stream_positions).where(stream_positions.c.stream == "")).all() == []


def test_what_the_database_refuses_is_an_error_of_the_data(connection: Connection) -> None:
    """A text with a zero byte blames the message, not the store."""
    with pytest.raises(psycopg.DataError, match="0x00"):
        copy_rows(connection, set_aside_events, ("stream", "position", "data", "error"), [("c", "a\x00", b"", "")])


def test_a_lost_connection_is_the_stores_fault_and_a_bad_row_is_not(installation: Installation) -> None:
    columns = [column.name for column in set_aside_events.c]
    with installation.engine.connect() as found, pytest.raises(OperationalError) as caught:
        ended = found.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with installation.engine.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": ended})
        copy_rows(found, set_aside_events, columns, [("c", "1-0", b"", "")])
    assert caught.value.connection_invalidated
    with installation.engine.connect() as found, pytest.raises(TypeError):
        copy_rows(found, set_aside_events, columns, [("c", 7.5, b"", "")])
