"""Long tasks in PostgreSQL: each is claimed by one worker, and freed when that worker dies."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.tables import jobs


@dataclass(frozen=True, slots=True)
class Job:
    """A task with its arguments."""

    job_id: str
    kind: str
    arguments: Mapping[str, Any]


class JobStore:
    """Adds, claims and ends jobs. The claim is a row lock (SKIP LOCKED), so that no job waits for a dead worker."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, kind: str, arguments: Mapping[str, Any], now: datetime) -> str:
        """Add a job; returns its id."""
        job_id = str(uuid.uuid4())
        with self._engine.begin() as connection:
            connection.execute(
                insert(jobs).values(
                    job_id=job_id, kind=kind, arguments=dict(arguments), state="waiting", progress=0.0, result=None,
                    error=None, attempts=0, created_at=now, updated_at=now,
                )
            )  # fmt: skip
        return job_id

    def add_unless_waiting(self, kind: str, arguments: Mapping[str, Any], now: datetime) -> None:
        """Add a job unless one of its kind waits already."""
        with self._engine.connect() as connection:
            waiting = connection.execute(
                select(jobs.c.job_id).where(jobs.c.kind == kind, jobs.c.state == "waiting").limit(1)
            ).one_or_none()
        if waiting is None:
            self.add(kind, arguments, now)

    @contextmanager
    def claim(self, now: datetime) -> Iterator[Job | None]:
        """The oldest waiting job, locked for as long as the block runs; None when there is none."""
        with self._engine.begin() as connection:
            row = connection.execute(
                select(jobs.c.job_id, jobs.c.kind, jobs.c.arguments)
                .where(jobs.c.state == "waiting")
                .order_by(jobs.c.created_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).one_or_none()
            if row is None:
                yield None
                return
            self._held = connection
            yield Job(row.job_id, row.kind, row.arguments)

    def finish(self, job: Job, result: Mapping[str, Any], now: datetime) -> None:
        """End a claimed job with its result."""
        self._end(job, now, state="done", progress=1.0, result=dict(result))

    def fail(self, job: Job, error: str, now: datetime) -> None:
        """End a claimed job with its error."""
        self._end(job, now, state="failed", error=error)

    def _end(self, job: Job, now: datetime, **values: Any) -> None:
        self._held.execute(
            update(jobs)
            .where(jobs.c.job_id == job.job_id)
            .values(updated_at=now, attempts=jobs.c.attempts + 1, **values)
        )
