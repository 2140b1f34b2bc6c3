"""Whole days of the log dropped by their partitions."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine, text

_PARTITIONS = """
SELECT child.relname FROM pg_inherits
JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
WHERE parent.relname IN ('decisions', 'interactions')
"""


def drop_days_before(engine: Engine, limit: datetime) -> int:
    """Drop the partitions of days that ended before ``limit``; returns how many."""
    first_kept = f"{limit.astimezone(UTC):%Y%m%d}"
    with engine.begin() as connection:
        names = connection.execute(text(_PARTITIONS)).scalars().all()
        gone = [name for name in names if name.rpartition("_")[2] < first_kept]
        for name in gone:
            connection.execute(text(f'DROP TABLE "{name}"'))
    return len(gone)
