"""The route of the audit log: who changed what, when and why."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from adapters.audit_log import AuditLog
from decision_service.access import Admin
from decision_service.api import PROBLEMS
from decision_service.shapes import Id
from decision_service.state import Service

LARGEST_ID = 2**63 - 1
router = APIRouter(responses=PROBLEMS)


class AuditEntryOut(BaseModel):
    """A row of the audit log."""

    audit_id: int = Field(description="Rows have ids in the order in which they were written.")
    at: datetime
    actor: str = Field(description="The name of an API key, or of the part of Offerloop that did it by itself.")
    action: str
    subject: str = Field(description="What was changed: a loop's name, the id of an offer, of a key, of a job.")
    detail: dict[str, Any] = Field(description="What else there is to tell, such as the reason.")


class AuditLogOut(BaseModel):
    """Rows of the audit log, the newest first."""

    entries: list[AuditEntryOut]
    before: int | None = Field(description="Ask with it for the rows that follow; null: there are none.")


@router.get("/v1/audit", tags=["audit"], summary="Who changed what, and why")
async def list_audit_entries(
    request: Request,
    caller: Admin,
    subject: Annotated[Id | None, Query(description="Only of this loop, offer, key ..., exactly.")] = None,
    action: Annotated[Id | None, Query(description="Only of this action, such as offer.killed, exactly.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="How many rows at most.")] = 100,
    before: Annotated[
        int | None, Query(ge=1, le=LARGEST_ID, description="Only rows written before the one of this audit_id.")
    ] = None,
) -> AuditLogOut:
    """The newest rows first. A loop and an offer of one name share their subject; the action tells them apart."""
    service: Service = request.app.state.service
    log = AuditLog(service.installation.engine)
    # One more than is asked for tells whether any follow.
    found = await asyncio.to_thread(log.entries, limit + 1, subject=subject, action=action, before=before)
    shown = found[:limit]
    return AuditLogOut(
        entries=[AuditEntryOut.model_validate(one, from_attributes=True) for one in shown],
        before=shown[-1].audit_id if len(found) > limit else None,
    )
