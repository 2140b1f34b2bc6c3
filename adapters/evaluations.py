"""Evaluations of a loop's log: what was asked, the job that works on it, and the report that came of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import Engine, Row, Select, delete, func, insert, select, update

from adapters.catalogue import audit
from adapters.tables import evaluations, jobs

EVALUATE = "evaluate"
MOST_LISTED = 100

State: TypeAlias = Literal["waiting", "running", "done", "failed"]


class EvaluationExists(ValueError):
    """There is an evaluation of that id."""


@dataclass(frozen=True, slots=True)
class StoredEvaluation:
    """An evaluation as it stands.

    Attributes:
        evaluation_id: given by the caller, or made.
        loop: whose log is read.
        name: for people.
        request: what was asked.
        state: the job's: waiting, running, done or failed.
        progress: in [0, 1].
        result: the report as JSON, when done.
        error: why it failed.
        created_at: when it was asked for.
        ended_at: when it was done.
    """

    evaluation_id: str
    loop: str
    name: str
    request: Mapping[str, Any]
    state: State
    progress: float
    result: Mapping[str, Any] | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None


class EvaluationStore:
    """Adds, reads and ends evaluations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self, loop: str, name: str, request: Mapping[str, Any], now: datetime, actor: str, evaluation_id: str | None
    ) -> str:
        """Store what is asked together with its job; returns the id.

        Raises:
            EvaluationExists: names the id.
        """
        evaluation_id, job_id = evaluation_id or str(uuid.uuid4()), str(uuid.uuid4())
        known = select(evaluations.c.evaluation_id).where(evaluations.c.evaluation_id == evaluation_id)
        with self._engine.begin() as connection:
            if connection.execute(known).one_or_none() is not None:
                raise EvaluationExists(f"there is an evaluation {evaluation_id!r} already")
            connection.execute(
                insert(jobs).values(
                    job_id=job_id, kind=EVALUATE, arguments={"evaluation_id": evaluation_id}, state="waiting",
                    progress=0.0, result=None, error=None, attempts=0, created_at=now, updated_at=now,
                )
            )  # fmt: skip
            connection.execute(
                insert(evaluations).values(
                    evaluation_id=evaluation_id, loop=loop, name=name, request=dict(request), job_id=job_id,
                    created_at=now,
                )
            )  # fmt: skip
            audit(connection, now, actor, "evaluation.add", evaluation_id, {"loop": loop})
        return evaluation_id

    def get(self, evaluation_id: str) -> StoredEvaluation | None:
        """One evaluation with its result."""
        query = _with_job(result=True).where(evaluations.c.evaluation_id == evaluation_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _stored(row)

    def newest(self, loop: str | None = None, most: int = MOST_LISTED) -> Sequence[StoredEvaluation]:
        """Evaluations without their results, the newest first."""
        query = _with_job(result=False).order_by(evaluations.c.created_at.desc(), evaluations.c.evaluation_id)
        if loop is not None:
            query = query.where(evaluations.c.loop == loop)
        with self._engine.connect() as connection:
            return [_stored(row) for row in connection.execute(query.limit(most))]

    def unfinished(self, loop: str) -> int:
        """How many of a loop's evaluations wait or run."""
        query = select(func.count()).select_from(evaluations.join(jobs, jobs.c.job_id == evaluations.c.job_id))
        query = query.where(evaluations.c.loop == loop, jobs.c.state.in_(["waiting", "running"]))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def page(self, evaluation_id: str) -> str | None:
        """The report as a page; None before it is done."""
        query = select(evaluations.c.page).where(evaluations.c.evaluation_id == evaluation_id)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def finish(self, evaluation_id: str, result: Mapping[str, Any], page: str, now: datetime) -> None:
        """Store the report; one that was deleted meanwhile stays deleted."""
        with self._engine.begin() as connection:
            connection.execute(
                update(evaluations)
                .where(evaluations.c.evaluation_id == evaluation_id)
                .values(result=dict(result), page=page, ended_at=now)
            )

    def delete(self, evaluation_id: str, now: datetime, actor: str) -> bool:
        """Forget an evaluation; False when there is none. A job that works on it ends for nothing."""
        with self._engine.begin() as connection:
            gone = connection.execute(delete(evaluations).where(evaluations.c.evaluation_id == evaluation_id))
            if gone.rowcount:
                audit(connection, now, actor, "evaluation.delete", evaluation_id, {})
        return bool(gone.rowcount)


def _with_job(*, result: bool) -> Select[Any]:
    columns = [column for column in evaluations.c if column.name not in {"page", *(() if result else ("result",))}]
    return select(*columns, jobs.c.state, jobs.c.progress, jobs.c.error).outerjoin(
        jobs, jobs.c.job_id == evaluations.c.job_id
    )


def _stored(row: Row[Any]) -> StoredEvaluation:
    found = row._mapping
    # Ended jobs are forgotten after a while.
    state: State = "done" if found["ended_at"] is not None else found["state"] or "failed"
    return StoredEvaluation(
        evaluation_id=found["evaluation_id"],
        loop=found["loop"],
        name=found["name"],
        request=found["request"],
        state=state,
        progress=1.0 if state == "done" else found["progress"] or 0.0,
        result=found.get("result"),
        error=found["error"] if state == "failed" else None,
        created_at=found["created_at"],
        ended_at=found["ended_at"],
    )
