"""Operations on a loop's model and log: replayed, imported, reset, deleted; asked for by services, done by the learner.

An operation is stored before its control event is sent, so that a learner that was killed finds it again. Only the one
writer of a loop works on it; a service may take one back that no learner has begun.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from sqlalchemy import BigInteger, Connection, Engine, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from adapters.catalogue import audit
from adapters.tables import operations

OperationKind: TypeAlias = Literal["replay", "import", "reset", "delete_log", "promote"]
OperationState: TypeAlias = Literal["waiting", "running", "done", "failed", "superseded"]

OPEN = ("waiting", "running")
# An operation during which so many learners died is to blame itself.
MOST_ATTEMPTS = 3
# Whoever asked for a reset or an import has long been told that nothing came of it.
STALE = timedelta(seconds=60)
MOST_LISTED = 100
_table = operations
_LISTED = [column for column in _table.c if column.name != "model"]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it stands.

    Attributes:
        operation_id: made by the service.
        loop: whose model.
        kind: ``replay`` of the log under changed settings, ``import`` of a model, ``reset`` to an untrained one,
            ``delete_log``, or ``promote`` a challenger.
        state: ``superseded`` when a later change began before it was done.
        progress: in [0, 1].
        version: of the loop's settings that a replay is for.
        detail: what was asked, and when done ``generation``, ``trained_through`` and ``snapshot_id``.
        error: why it failed.
        attempts: how many learners began it.
        actor: who asked.
        created_at: when.
        updated_at: of the newest progress.
        ended_at: when it was done or failed.
    """

    operation_id: str
    loop: str
    kind: OperationKind
    state: OperationState
    progress: float
    version: int
    detail: Mapping[str, Any]
    error: str | None
    attempts: int
    actor: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in OPEN

    def is_stale(self, now: datetime) -> bool:
        """Whether nobody waits for it any more."""
        return self.kind != "replay" and now - self.created_at > STALE


class OperationStore:
    """Adds, takes and ends operations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self, loop: str, kind: OperationKind, actor: str, now: datetime, *, version: int = 0,
        detail: Mapping[str, Any] | None = None, model: bytes | None = None,
    ) -> str:  # fmt: skip
        """Store what is asked; returns the operation's id. ``model`` are the bytes to import."""
        operation_id = uuid.uuid4().hex
        with self._engine.begin() as connection:
            connection.execute(
                insert(_table).values(
                    operation_id=operation_id, loop=loop, kind=kind, state="waiting", progress=0.0, version=version,
                    detail=dict(detail or {}), model=model, error=None, attempts=0, actor=actor, created_at=now,
                    updated_at=now, ended_at=None,
                )
            )  # fmt: skip
            action = "log.delete" if kind == "delete_log" else f"model.{kind}"
            audit(connection, now, actor, action, loop, {"operation_id": operation_id})
        return operation_id

    def get(self, operation_id: str) -> Operation | None:
        """One operation."""
        with self._engine.connect() as connection:
            row = connection.execute(select(*_LISTED).where(_table.c.operation_id == operation_id)).one_or_none()
        return None if row is None else _operation(row)

    def model(self, operation_id: str) -> bytes:
        """The bytes that an operation imports.

        Raises:
            LookupError: it has none, or none any more.
        """
        with self._engine.connect() as connection:
            found = connection.execute(select(_table.c.model).where(_table.c.operation_id == operation_id)).scalar()
        if found is None:
            raise LookupError(f"operation {operation_id!r} holds no model")
        return bytes(found)

    def newest(self, loop: str, most: int = MOST_LISTED) -> list[Operation]:
        """A loop's operations, the newest first."""
        query = select(*_LISTED).where(_table.c.loop == loop)
        query = query.order_by(_table.c.created_at.desc(), _table.c.operation_id).limit(most)
        with self._engine.connect() as connection:
            return [_operation(row) for row in connection.execute(query)]

    def open(self, loop: str) -> list[Operation]:
        """What the loop's writer has still to do, in the order asked."""
        query = select(*_LISTED).where(_table.c.loop == loop, _table.c.state.in_(OPEN))
        with self._engine.connect() as connection:
            return [_operation(row) for row in connection.execute(query.order_by(_table.c.created_at))]

    def begin(self, operation: Operation, now: datetime) -> bool:
        """Take an operation on; False when it was taken back, is stale, or has killed too many learners."""
        error = None
        if operation.attempts >= MOST_ATTEMPTS:
            error = f"its learner died {MOST_ATTEMPTS} times"
        elif operation.is_stale(now):
            error = "no learner took it in time"
        with self._engine.begin() as connection:
            if error is not None:
                self._end(connection, operation.operation_id, "failed", now, error=error)
                return False
            taken = connection.execute(
                update(_table)
                .where(_table.c.operation_id == operation.operation_id, _table.c.state.in_(OPEN))
                .values(state="running", progress=0.0, attempts=_table.c.attempts + 1, updated_at=now)
            )
        return bool(taken.rowcount)

    def withdraw(self, operation_id: str, now: datetime) -> bool:
        """Take back what no learner has begun; False when one has."""
        with self._engine.begin() as connection:
            taken = connection.execute(
                update(_table)
                .where(_table.c.operation_id == operation_id, _table.c.state == "waiting")
                .values(state="failed", error="no learner took it in time", model=None, updated_at=now, ended_at=now)
            )
        return bool(taken.rowcount)

    def progress(self, operation_id: str, share: float, now: datetime) -> None:
        """Tell how much of it is done, in [0, 1]."""
        with self._engine.begin() as connection:
            connection.execute(
                update(_table)
                .where(_table.c.operation_id == operation_id)
                .values(progress=min(max(share, 0.0), 1.0), updated_at=now)
            )

    def finish(self, operation_id: str, result: Mapping[str, Any], now: datetime) -> None:
        """End an operation well; what came of it joins its detail, and bytes that it imported are forgotten."""
        with self._engine.begin() as connection:
            finish_operation(connection, operation_id, result, now)

    def fail(self, operation_id: str, error: str, now: datetime) -> None:
        """End an operation that cannot be done."""
        with self._engine.begin() as connection:
            self._end(connection, operation_id, "failed", now, error=error)

    def supersede(self, operation_id: str, now: datetime) -> None:
        """End an operation that a later change made pointless."""
        with self._engine.begin() as connection:
            self._end(connection, operation_id, "superseded", now)

    def reset_through(self, loop: str) -> int:
        """The last interaction before the newest reset: what lies before it is learned no more. 0 without one."""
        through = func.max(_table.c.detail["trained_through"].astext.cast(BigInteger))
        query = select(through).where(_table.c.loop == loop, _table.c.kind == "reset", _table.c.state == "done")
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def rewards_changed(self, loop: str) -> bool:
        """Whether the loop's reward definition ever changed, so that logged rewards are not those of today."""
        query = select(_table.c.operation_id).where(
            _table.c.loop == loop, _table.c.kind == "replay", _table.c.detail["rewards"].astext == "true"
        )
        with self._engine.connect() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def failed_version(self, loop: str) -> int:
        """The newest version of the settings whose replay failed for good; 0 without one."""
        query = select(func.max(_table.c.version)).where(
            _table.c.loop == loop, _table.c.kind == "replay", _table.c.state == "failed"
        )
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def forget(self, before: datetime) -> int:
        """Delete operations that ended before then; returns how many.

        What later generations ask for stays: the newest reset of a loop, the newest replay whose reward definition
        changed, and the newest that failed.
        """
        loop, kind, state = _table.c.loop, _table.c.kind, _table.c.state
        asked = (
            (kind == "reset") & (state == "done"),
            (kind == "replay") & (_table.c.detail["rewards"].astext == "true"),
            (kind == "replay") & (state == "failed"),
        )
        newest = [
            select(_table.c.operation_id).where(one).ext(distinct_on(loop)).order_by(loop, _table.c.created_at.desc())
            for one in asked
        ]  # fmt: skip
        old = delete(_table).where(_table.c.ended_at < before, *(_table.c.operation_id.not_in(one) for one in newest))
        with self._engine.begin() as connection:
            return int(connection.execute(old).rowcount)

    @staticmethod
    def _end(
        connection: Connection, operation_id: str, state: OperationState, now: datetime, *,
        result: Mapping[str, Any] | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        values: dict[str, Any] = {
            "state": state, "error": error, "model": None, "updated_at": now, "ended_at": now,
        }  # fmt: skip
        if result is not None:
            values |= {"progress": 1.0, "detail": _table.c.detail.op("||")(dict(result))}
        connection.execute(
            update(_table).where(_table.c.operation_id == operation_id, _table.c.state.in_(OPEN)).values(values)
        )


def finish_operation(connection: Connection, operation_id: str, result: Mapping[str, Any], now: datetime) -> None:
    """End an operation well, in somebody's transaction."""
    OperationStore._end(connection, operation_id, "done", now, result=result)


def open_replays(found: Sequence[Operation], version: int) -> list[Operation]:
    """Of open operations: the replays for settings up to a version."""
    return [one for one in found if one.kind == "replay" and one.version <= version]


def _operation(row: Row[Any]) -> Operation:
    return Operation(**{name: getattr(row, name) for name in Operation.__dataclass_fields__})
