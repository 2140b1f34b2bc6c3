"""Routes of erasure: a customer is erased from every store and from the models, and a receipt stays."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request

from adapters.erasure import ErasureRequests
from adapters.loop_changes import CONTROL_TIME
from adapters.receipts import Part, Receipt
from adapters.streams import ACTIVITY_STREAM, loop_stream
from contextual_bandit import events
from decision_service.access import Admin
from decision_service.api import NOT_FOUND, PROBLEMS, WAIT_SECONDS, Wait
from decision_service.privacy_schemas import ErasedLoopOut, ErasedOut, ErasedPartsOut, ErasureOut
from decision_service.problems import not_found
from decision_service.serving import utc_now
from decision_service.shapes import Id
from decision_service.state import Service

LOOK_SECONDS = 0.1
router = APIRouter(responses=PROBLEMS)


@router.delete(
    "/v1/customers/{customer_id}", status_code=202, tags=["customers"], summary="Erase a customer", responses=NOT_FOUND
)
async def erase_customer(customer_id: Id, request: Request, caller: Admin, wait: Wait = None) -> ErasureOut:
    """Record, profile, activities, decisions and what models learned from them go, in every loop.

    Whatever was logged before is erased; what comes later, also from a service's disk after an outage, counts as a
    new appearance. Without a running learner the erasure waits for one. A loop whose model has learned from the
    customer trains a new one on what is left, and the old one decides meanwhile.
    """
    service: Service = request.app.state.service
    requests = ErasureRequests(service.installation.engine, service.installation.client)
    loops = await asyncio.to_thread(requests.loops)
    if not await asyncio.to_thread(requests.knows, customer_id, loops):
        raise not_found("customer", customer_id)
    receipt_id = await asyncio.to_thread(requests.begin, customer_id, loops, caller, utc_now())
    payload = {"action": "erase_customer", "customer_id": customer_id, "receipt_id": receipt_id, "actor": caller}
    message = events.encode(events.CONTROL, CONTROL_TIME, payload)
    await asyncio.gather(*(service.writer.append(loop_stream(loop), message) for loop in loops))
    # Last, so that every decision whose shows were counted for the customer lies before it in its loop's stream.
    await service.writer.append(ACTIVITY_STREAM, message)
    if wait == "applied":
        await _wait_until_done(service, requests, receipt_id)
    return await _receipt(requests, receipt_id)


@router.get("/v1/erasures/{receipt_id}", tags=["customers"], summary="Read an erasure's receipt", responses=NOT_FOUND)
async def get_erasure(receipt_id: Id, request: Request, caller: Admin) -> ErasureOut:
    """How far it came, and what was erased. The receipt stays in the audit log."""
    service: Service = request.app.state.service
    return await _receipt(ErasureRequests(service.installation.engine, service.installation.client), receipt_id)


async def _wait_until_done(service: Service, requests: ErasureRequests, receipt_id: str) -> None:
    """Wait until every writer has erased, as long as callers may wait; then serve the new models here too."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        receipt = await asyncio.to_thread(requests.receipts.find, receipt_id)
        if receipt is not None and receipt.is_done:
            await service.serving.refresh()
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _receipt(requests: ErasureRequests, receipt_id: str) -> ErasureOut:
    receipt = await asyncio.to_thread(requests.receipts.find, receipt_id)
    if receipt is None:
        raise not_found("erasure", receipt_id)
    return erasure_out(receipt)


def erasure_out(receipt: Receipt) -> ErasureOut:
    """A receipt as the API shows it."""
    loops = {writer.removeprefix("loop:"): part for writer, part in receipt.parts.items() if writer.startswith("loop:")}
    return ErasureOut(
        receipt_id=receipt.receipt_id,
        state="done" if receipt.is_done else "pending",
        customer=receipt.customer,
        actor=receipt.actor,
        requested_at=receipt.requested_at,
        done_at=receipt.done_at,
        erased=ErasedPartsOut(
            customer=ErasedOut(**_part(receipt.parts.get(ACTIVITY_STREAM, Part()))),
            loops={
                loop: ErasedLoopOut(**_part(part), generation=part.generation, models=part.models)
                for loop, part in loops.items()
            },
        ),
    )


def _part(part: Part) -> dict[str, Any]:
    state = "done" if part.state == "done" else "pending"
    return {"state": state, "rows": dict(part.rows or {}), "done_at": part.done_at}
