"""Whole days of the log dropped by their partitions."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine, func, select, text

from adapters.tables import open_decisions

_PARTITIONS = """
SELECT child.relname FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
WHERE parent.relname IN ('decisions', 'interactions')
"""


def drop_days_before(engine: Engine, limit: datetime) -> int:
    """Drop the partitions of days that ended before ``limit`` and hold no open decision; returns how many."""
    with engine.begin() as connection:
        oldest_open = connection.execute(select(func.min(open_decisions.c.decided_at))).scalar_one()
        first_kept = f"{min(limit, oldest_open or limit).astimezone(UTC):%Y%m%d}"
        names = connection.execute(text(_PARTITIONS)).scalars().all()
        gone = [name for name in names if name.rpartition("_")[2] < first_kept]
        for name in gone:
            connection.execute(text(f'DROP TABLE "{name}"'))
    return len(gone)
