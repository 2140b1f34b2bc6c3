"""Long tasks in PostgreSQL: each is run by one worker, and freed when that worker dies."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.catalogue import audit
from adapters.locks import lock_number
from adapters.tables import jobs

# What may be asked for; learner.work has what each does.
KINDS = (
    "precompute", "precompute_cells", "precompute_similarity", "precompute_thresholds", "prune_snapshots", "retention",
)  # fmt: skip
# What is asked for by routes of its own with arguments, or by the clock alone.
OWN_ROUTES = ("auto_optimise", "evaluate")
# A job whose worker died so often is to blame itself.
MOST_ATTEMPTS = 3
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Job:
    """A task with its arguments."""

    job_id: str
    kind: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as it stands: ``state`` is waiting, running, done or failed; ``progress`` a share in [0, 1]."""

    job_id: str
    kind: str
    arguments: Mapping[str, Any]
    state: str
    progress: float
    result: Mapping[str, Any] | None
    error: str | None
    attempts: int
    created_at: datetime
    updated_at: datetime


class JobStore:
    """Adds, claims and ends jobs.

    A claim is an advisory lock on a connection of its own, which PostgreSQL gives back when the worker dies; the row
    itself is not locked, so that progress can be written and read while the job runs, and no transaction stays open.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, kind: str, arguments: Mapping[str, Any], now: datetime, actor: str | None = None) -> str:
        """Add a job; returns its id. With an actor, the audit log tells who asked for it."""
        job_id = str(uuid.uuid4())
        with self._engine.begin() as connection:
            connection.execute(
                insert(jobs).values(
                    job_id=job_id, kind=kind, arguments=dict(arguments), state="waiting", progress=0.0, result=None,
                    error=None, attempts=0, created_at=now, updated_at=now,
                )
            )  # fmt: skip
            if actor is not None:
                audit(connection, now, actor, "job.add", job_id, {"kind": kind})
        return job_id

    def add_unless_waiting(self, kind: str, arguments: Mapping[str, Any], now: datetime) -> None:
        """Add a job unless one of its kind waits already."""
        with self._engine.connect() as connection:
            waiting = connection.execute(
                select(jobs.c.job_id).where(jobs.c.kind == kind, jobs.c.state == "waiting").limit(1)
            ).one_or_none()
        if waiting is None:
            self.add(kind, arguments, now)

    def get(self, job_id: str) -> JobStatus | None:
        """One job as it stands."""
        with self._engine.connect() as connection:
            row = connection.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
        return None if row is None else _status(row)

    def newest(self, most: int = MOST_LISTED) -> list[JobStatus]:
        """The jobs that were added last, the newest first."""
        query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.job_id).limit(most)
        with self._engine.connect() as connection:
            return [_status(row) for row in connection.execute(query)]

    @contextmanager
    def claim(self, now: datetime) -> Iterator[Job | None]:
        """The oldest job that nobody runs, for as long as the block; None when there is none.

        A job whose worker died is taken again, and fails for good after MOST_ATTEMPTS.
        """
        with self._engine.connect() as connection:
            job = self._take(connection, now)
            if job is None:
                yield None
                return
            self._held = connection
            try:
                yield job
            finally:
                # Closing it gives the lock back whatever state the connection is in.
                connection.invalidate()

    def _take(self, connection: Connection, now: datetime) -> Job | None:
        open_jobs = (
            select(jobs.c.job_id).where(jobs.c.state.in_(("waiting", "running"))).order_by(jobs.c.created_at).limit(100)
        )
        candidates = connection.execute(open_jobs).scalars().all()
        for job_id in candidates:
            lock = lock_number("job:" + job_id)
            if not connection.execute(select(func.pg_try_advisory_lock(lock))).scalar_one():
                continue
            # Another worker may have ended it since it was listed.
            row = connection.execute(
                update(jobs)
                .where(jobs.c.job_id == job_id, jobs.c.state.in_(("waiting", "running")))
                .values(state="running", progress=0.0, attempts=jobs.c.attempts + 1, updated_at=now)
                .returning(jobs.c.kind, jobs.c.arguments, jobs.c.attempts)
            ).one_or_none()
            if row is not None and row.attempts <= MOST_ATTEMPTS:
                connection.commit()
                return Job(job_id, row.kind, row.arguments)
            if row is not None:
                error = f"its worker died {MOST_ATTEMPTS} times"
                connection.execute(
                    update(jobs).where(jobs.c.job_id == job_id)
                    .values(state="failed", error=error, attempts=MOST_ATTEMPTS)
                )  # fmt: skip
            connection.execute(select(func.pg_advisory_unlock(lock)))
            connection.commit()
        connection.commit()
        return None

    def progress(self, job: Job, share: float, now: datetime) -> None:
        """Tell how much of a claimed job is done, in [0, 1]."""
        with self._engine.begin() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.job_id == job.job_id, jobs.c.state == "running")
                .values(progress=min(max(share, 0.0), 1.0), updated_at=now)
            )

    def finish(self, job: Job, result: Mapping[str, Any], now: datetime) -> None:
        """End a claimed job with its result."""
        self._end(job, now, state="done", progress=1.0, result=dict(result))

    def fail(self, job: Job, error: str, now: datetime) -> None:
        """End a claimed job with its error."""
        self._end(job, now, state="failed", error=error)

    def forget(self, before: datetime) -> int:
        """Delete jobs that ended before a moment; returns how many."""
        ended = jobs.c.state.in_(("done", "failed")) & (jobs.c.updated_at < before)
        with self._engine.begin() as connection:
            return connection.execute(delete(jobs).where(ended)).rowcount

    def _end(self, job: Job, now: datetime, **values: Any) -> None:
        # On the connection with the lock: a worker that lost it must not end a job that another has taken.
        self._held.execute(
            update(jobs).where(jobs.c.job_id == job.job_id, jobs.c.state == "running").values(updated_at=now, **values)
        )
        self._held.commit()


def _status(row: Row[Any]) -> JobStatus:
    return JobStatus(
        row.job_id, row.kind, row.arguments, row.state, row.progress, row.result, row.error, row.attempts,
        row.created_at, row.updated_at,
    )  # fmt: skip
