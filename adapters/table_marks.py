"""What stands in PostgreSQL, in a few numbers: whether anything was changed is asked without reading it all again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, text

from adapters.precomputed import precomputed_key
from adapters.snapshots import policy_key

# A row's xmin is the transaction that wrote it: every change makes the sum larger, and a deletion changes the count.
_MARKS = text("""
    SELECT 'loops' AS name, '' AS part, count(*) AS rows, coalesce(sum(xmin::text::bigint), 0) AS written FROM loops
    UNION ALL SELECT 'catalogue', '', count(*), coalesce(sum(xmin::text::bigint), 0) FROM offers
    UNION ALL SELECT 'regions', '', count(*), coalesce(sum(xmin::text::bigint), 0) FROM regions
    UNION ALL SELECT 'keys', '', count(*), coalesce(sum(xmin::text::bigint), 0) FROM api_keys
    UNION ALL SELECT 'precomputed', name, 1, xmin::text::bigint FROM precomputed
""")
_NEWEST = text("""
    SELECT policies.loop, policies.challenger, newest.snapshot_id
    FROM (
        SELECT loop, '' AS challenger FROM loops WHERE NOT deleted UNION ALL SELECT loop, name FROM challengers
    ) AS policies,
    LATERAL (
        SELECT snapshot_id FROM policy_snapshots AS one
        WHERE one.loop = policies.loop AND one.challenger = policies.challenger AND one.published_at IS NOT NULL
        ORDER BY one.generation DESC, one.trained_through DESC LIMIT 1
    ) AS newest
""")


@dataclass(frozen=True, slots=True)
class Marks:
    """Where PostgreSQL stands, under the names by which services are told of changes.

    ``tables`` has a mark that differs once anything in a table does; ``snapshots`` the newest published snapshot of
    each policy, by its key.
    """

    tables: Mapping[str, str]
    snapshots: Mapping[str, str]


class TableMarks:
    """Asks PostgreSQL where it stands."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self) -> Marks:
        """All marks; what is changed while they are read shows at the next look."""
        with self._engine.connect() as connection:
            tables = {
                precomputed_key(row.part) if row.name == "precomputed" else row.name: f"{row.rows}:{row.written}"
                for row in connection.execute(_MARKS)
            }
            newest = connection.execute(_NEWEST)
            snapshots = {policy_key(row.loop, row.challenger): row.snapshot_id for row in newest}
        return Marks(tables, snapshots)
