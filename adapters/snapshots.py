"""Policy snapshots: checkpointed, published and read back; a notice on the Redis side tells services (step Deploy)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import redis
from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.streams import VERSIONS_KEY
from adapters.tables import policy_snapshots
from contextual_bandit.types import PolicySnapshot

_table = policy_snapshots


def snapshot_id(loop: str, generation: int, trained_through: int, challenger: str = "") -> str:
    """A snapshot's name: loop, generation and the last interaction it learned from.

    >>> snapshot_id("homepage", 2, 4711), snapshot_id("homepage", 2, 4711, "bold")
    ('homepage-g2-4711', 'homepage@bold-g2-4711')
    """
    return f"{policy_key(loop, challenger)}-g{generation}-{trained_through}"


def policy_key(loop: str, challenger: str = "") -> str:
    """One of a loop's policies, as snapshots' names begin and as services are told of them.

    No loop's name holds the sign.
    """
    return f"{loop}@{challenger}" if challenger else loop


def snapshot_generation(snapshot_id: str) -> int:
    """The generation of a snapshot by its name; 0 where there is none.

    >>> snapshot_generation("my-g3-loop-g12-4711"), snapshot_generation("")
    (12, 0)
    """
    generation = snapshot_id.rpartition("-g")[2].partition("-")[0]
    return int(generation) if generation.isdigit() else 0


class SnapshotStore:
    """Snapshots in PostgreSQL; ``published`` ones may serve, the others are the learner's checkpoints."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def add(self, snapshot: PolicySnapshot, *, publish: bool, now: datetime) -> None:
        """Store a snapshot and, once it is committed, tell the services. Adding one twice changes nothing.

        Raises:
            ValueError: another snapshot of that name holds other bytes.
        """
        with self._engine.begin() as connection:
            add_snapshot(connection, snapshot, publish=publish, now=now)
        if publish:
            self.announce(snapshot)

    def announce(self, snapshot: PolicySnapshot) -> None:
        """Tell the services of a published snapshot."""
        key = policy_key(snapshot.loop, snapshot.challenger)
        self._client.hset(VERSIONS_KEY, f"snapshot:{key}", snapshot.snapshot_id)

    def get(self, snapshot_id: str) -> PolicySnapshot | None:
        """One snapshot by name."""
        return find_snapshot(self._engine, snapshot_id)

    def newest(
        self, loop: str, *, published: bool = False, generation: int | None = None, challenger: str = ""
    ) -> PolicySnapshot | None:
        """The snapshot trained furthest in the newest (or the given) generation of the loop's own or another policy."""
        query = select(_table).where(*_of(loop, challenger))
        if published:
            query = query.where(_table.c.published_at.is_not(None))
        if generation is not None:
            query = query.where(_table.c.generation == generation)
        query = query.order_by(_table.c.generation.desc(), _table.c.trained_through.desc()).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _snapshot(row)

    def model_times(self, loop: str) -> tuple[datetime, datetime] | None:
        """When the loop's model began (its generation's base), and when it was last published; None without one."""
        snapshot = self.newest(loop, published=True)
        if snapshot is None:
            return None
        mine = (*_of(loop), _table.c.generation == snapshot.generation)
        query = select(func.min(_table.c.created_at), func.max(_table.c.published_at)).where(*mine)
        with self._engine.connect() as connection:
            created_at, published_at = connection.execute(query).one()
        return created_at, published_at

    def newest_published_id(self, loop: str, challenger: str = "") -> str | None:
        """The name of the snapshot that services should serve of a policy."""
        query = (
            select(_table.c.snapshot_id)
            .where(*_of(loop, challenger), _table.c.published_at.is_not(None))
            .order_by(_table.c.generation.desc(), _table.c.trained_through.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def base(self, loop: str, generation: int, *, at_least: int = 0) -> PolicySnapshot:
        """Where a generation started, or the first snapshot of it that was trained so far.

        Raises:
            sqlalchemy.exc.NoResultFound: there is none.
        """
        query = (
            select(_table)
            .where(*_of(loop), _table.c.generation == generation, _table.c.trained_through >= at_least)
            .order_by(_table.c.trained_through)
            .limit(1)
        )
        with self._engine.connect() as connection:
            return _snapshot(connection.execute(query).one())

    def mark_reload(self, snapshot_id: str) -> None:
        """Record that a learner went on from these bytes: a replay must reload at the same place."""
        with self._engine.begin() as connection:
            connection.execute(
                update(_table).where(_table.c.snapshot_id == snapshot_id).values(reloads=_table.c.reloads + 1)
            )

    def reload_points(self, loop: str, generation: int) -> list[int]:
        """Where learners went on from saved bytes, as trained-through sequences."""
        query = (
            select(_table.c.trained_through)
            .where(*_of(loop), _table.c.generation == generation, _table.c.reloads > 0)
            .order_by(_table.c.trained_through)
        )
        with self._engine.connect() as connection:
            return [int(sequence) for sequence in connection.execute(query).scalars()]

    def count(self, loop: str) -> int:
        """How many snapshots of a loop's own policy were published."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(_table.c.snapshot_id).where(*_of(loop), _table.c.published_at.is_not(None))
            )
            return len(rows.all())

    def prune(self, now: datetime) -> int:
        """Forget what nobody needs: old checkpoints, and snapshots published over 48 hours ago but each day's last.

        Bases, reload points and the newest of each policy stay; of challengers, which nobody replays, no bases.
        """
        keep_from = now - timedelta(hours=48)
        columns = (
            _table.c.snapshot_id, _table.c.loop, _table.c.challenger, _table.c.generation, _table.c.trained_through,
            _table.c.reloads, _table.c.created_at, _table.c.published_at,
        )  # fmt: skip
        with self._engine.begin() as connection:
            rows = connection.execute(
                select(*columns).order_by(
                    _table.c.loop, _table.c.challenger, _table.c.generation.desc(), _table.c.trained_through.desc()
                )
            ).all()
            gone = _prunable(rows, keep_from)
            connection.execute(delete(_table).where(_table.c.snapshot_id.in_(gone)))
        return len(gone)


def add_snapshot(connection: Connection, snapshot: PolicySnapshot, *, publish: bool, now: datetime) -> None:
    """Store a snapshot in somebody's transaction, who then tells the services of a published one.

    Raises:
        ValueError: another snapshot of that name holds other bytes.
    """
    if sha256(snapshot.model).hexdigest() != snapshot.sha256:
        raise ValueError(f"snapshot {snapshot.snapshot_id!r}: the bytes do not match their SHA-256")
    row = {name: getattr(snapshot, name) for name in PolicySnapshot.__dataclass_fields__}
    row |= {"reloads": 0, "created_at": now, "published_at": now if publish else None}
    connection.execute(insert(_table).values(row).on_conflict_do_nothing(index_elements=["snapshot_id"]))
    mine = _table.c.snapshot_id == snapshot.snapshot_id
    if connection.execute(select(_table.c.sha256).where(mine)).scalar_one() != snapshot.sha256:
        raise ValueError(f"snapshot {snapshot.snapshot_id!r} exists with other bytes")
    if publish:
        connection.execute(update(_table).where(mine, _table.c.published_at.is_(None)).values(published_at=now))


def find_snapshot(engine: Engine, snapshot_id: str) -> PolicySnapshot | None:
    """One snapshot by name."""
    with engine.connect() as connection:
        row = connection.execute(select(_table).where(_table.c.snapshot_id == snapshot_id)).one_or_none()
    return None if row is None else _snapshot(row)


def _of(loop: str, challenger: str = "") -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _table.c.loop == loop, _table.c.challenger == challenger


def _prunable(rows: Sequence[Any], keep_from: datetime) -> list[str]:
    """Names to forget; rows come by policy and generation, each generation's newest first and its base last."""
    gone: list[str] = []
    seen: set[tuple[Any, ...]] = set()
    for index, row in enumerate(rows):
        after = rows[index + 1] if index + 1 < len(rows) else None
        policy = (row.loop, row.challenger)
        is_last = after is None or (after.loop, after.challenger, after.generation) != (*policy, row.generation)
        is_base = is_last and not row.challenger
        if row.published_at is None:
            mark: tuple[Any, ...] = (*policy, row.generation)
            kept = mark not in seen
            seen.add(mark)
        else:
            mark = (*policy, row.published_at.astimezone(UTC).date())
            kept = row.published_at >= keep_from or mark not in seen or policy not in seen
            seen |= {mark, policy, (*policy, row.generation)}
        if not kept and not is_base and not row.reloads:
            gone.append(row.snapshot_id)
    return gone


def _snapshot(row: Row[Any]) -> PolicySnapshot:
    return PolicySnapshot(**{name: getattr(row, name) for name in PolicySnapshot.__dataclass_fields__})
