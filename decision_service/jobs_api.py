"""Routes of jobs: long tasks that ``offerloop work`` runs, never a request."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from adapters.jobs import KINDS, JobStatus, JobStore
from decision_service.access import Admin, Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.problems import bad_field, not_found
from decision_service.serving import utc_now
from decision_service.shapes import Id, In
from decision_service.state import Service

WAIT_SECONDS = 30.0
LOOK_EVERY_SECONDS = 0.1
ENDED = frozenset({"done", "failed"})
router = APIRouter(responses=PROBLEMS)


class JobIn(In):
    """A job to run."""

    kind: Id = Field(examples=["precompute"], description=f"One of {', '.join(KINDS)}.")


class JobOut(BaseModel):
    """A job as it stands."""

    job_id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed"]
    progress: float = Field(ge=0, le=1, description="Share of the work that is done.")
    result: dict[str, Any] | None = Field(description="What it did, when done.")
    error: str | None = Field(description="Why it failed.")
    attempts: int = Field(description="How often a worker began it; more than 1 when one died.")
    created_at: datetime
    updated_at: datetime


class JobsOut(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobOut]


@router.post("/v1/jobs", status_code=202, tags=["jobs"], summary="Ask for a job")
async def add_job(
    body: JobIn,
    request: Request,
    caller: Admin,
    wait: Annotated[
        Literal["done"] | None, Query(description="Answer when the job has ended, or after 30 seconds.")
    ] = None,
) -> JobOut:
    """It waits for a worker. Housekeeping asks for some kinds by itself every ten minutes."""
    if body.kind not in KINDS:
        raise bad_field("kind", body.kind, f"must be one of {', '.join(KINDS)}")
    store = _store(request)
    job_id = await asyncio.to_thread(store.add, body.kind, {}, utc_now(), caller)
    job = await _found(store, job_id)
    deadline = time.monotonic() + WAIT_SECONDS
    while wait == "done" and job.state not in ENDED and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        job = await _found(store, job_id)
    return _shown(job)


@router.get("/v1/jobs", tags=["jobs"], summary="List jobs")
async def list_jobs(request: Request, caller: Reader) -> JobsOut:
    """The newest hundred. Ended ones are forgotten after a week."""
    return JobsOut(jobs=[_shown(job) for job in await asyncio.to_thread(_store(request).newest)])


@router.get("/v1/jobs/{job_id}", tags=["jobs"], summary="Read a job", responses=NOT_FOUND)
async def get_job(job_id: Id, request: Request, caller: Reader) -> JobOut:
    """How far it is, and what came of it."""
    return _shown(await _found(_store(request), job_id))


async def _found(store: JobStore, job_id: str) -> JobStatus:
    job = await asyncio.to_thread(store.get, job_id)
    if job is None:
        raise not_found("job", job_id)
    return job


def _shown(job: JobStatus) -> JobOut:
    return JobOut.model_validate(job, from_attributes=True)


def _store(request: Request) -> JobStore:
    service: Service = request.app.state.service
    return JobStore(service.installation.engine)
