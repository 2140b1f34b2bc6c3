"""Routes of operations on a loop's model: what was asked, and how far it is."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from adapters.operations import OperationStore
from decision_service.access import Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.problems import not_found
from decision_service.shapes import LoopName
from decision_service.state import Service

router = APIRouter(responses=PROBLEMS)


class OperationOut(BaseModel):
    """An operation as it stands."""

    operation_id: str
    kind: Literal["replay", "import", "reset", "delete_log", "promote"] = Field(
        description="The log learned again under changed settings, a model imported, a model reset, the log deleted, "
        "a challenger promoted or the promotion rolled back."
    )
    state: Literal["waiting", "running", "done", "failed", "superseded"] = Field(
        description="superseded: a later change began before it was done."
    )
    progress: float = Field(ge=0, le=1, description="Share of the work that is done.")
    detail: dict[str, Any] = Field(description="What was asked; when done, the generation and its first snapshot.")
    error: str | None = Field(description="Why it failed.")
    attempts: int = Field(description="How often a learner began it; more than 1 when one died.")
    actor: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class OperationsOut(BaseModel):
    """Operations of a loop, the newest first."""

    operations: list[OperationOut]


@router.get("/v1/loops/{loop}/operations", tags=["loops"], summary="What is done to the model", responses=NOT_FOUND)
async def list_operations(loop: LoopName, request: Request, caller: Reader) -> OperationsOut:
    """The newest hundred of 90 days. While one runs, the model before it serves and learns."""
    service: Service = request.app.state.service
    if await asyncio.to_thread(service.sources.loops.get, loop) is None:
        raise not_found("loop", loop)
    found = await asyncio.to_thread(OperationStore(service.installation.engine).newest, loop)
    return OperationsOut(operations=[OperationOut.model_validate(one, from_attributes=True) for one in found])
