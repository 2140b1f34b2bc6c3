"""Routes of what decisions are made from: offers, customers, loops, keys."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, fields

from fastapi import APIRouter, Request, Response

from adapters.apprentice import find_counts
from adapters.interaction_log import count_loop
from contextual_bandit.eligibility import check_offer
from contextual_bandit.loops import DEFAULT_LOOP, FeatureSchema
from contextual_bandit.profile import decode_profile
from contextual_bandit.schema import check_schema
from contextual_bandit.types import CustomerRecord
from decision_service.access import Admin, Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.bodies import customer_of, loop_of, offer_of, schema_of
from decision_service.catalogue_schemas import (
    CustomerIn,
    CustomerOut,
    KeyIn,
    KeyOut,
    KeysOut,
    NewKeyOut,
    OfferIn,
    OfferOut,
    OffersOut,
)
from decision_service.configure import apply_loop
from decision_service.loop_schemas import ApprenticeOut, FeatureSchemaIn, FeatureSchemaOut, LoopIn, LoopOut, LoopsOut
from decision_service.problems import Problem, bad_field, not_found
from decision_service.records import customer_out, loop_out, offer_out, schema_out
from decision_service.serving import utc_now
from decision_service.shapes import Id, LoopName
from decision_service.state import Service

router = APIRouter(responses=PROBLEMS)


@router.get("/v1/offers", tags=["offers"], summary="List offers")
async def list_offers(request: Request, caller: Reader) -> OffersOut:
    """Every offer as it is now."""
    offers = await asyncio.to_thread(_service(request).sources.catalogue.all)
    return OffersOut(offers=[offer_out(offer) for offer in offers])


@router.put("/v1/offers/{offer_id}", tags=["offers"], summary="Create or replace an offer")
async def put_offer(offer_id: Id, body: OfferIn, request: Request, caller: Admin) -> OfferOut:
    """Each change makes a new version (saying the same again does not); decisions keep the one they saw."""
    service = _service(request)
    offer = offer_of(offer_id, body)
    check_offer(offer)
    stored = await asyncio.to_thread(service.sources.catalogue.put, offer, caller, utc_now())
    await service.serving.refresh()
    return offer_out(stored)


@router.get("/v1/offers/{offer_id}", tags=["offers"], summary="Read an offer", responses=NOT_FOUND)
async def get_offer(offer_id: Id, request: Request, caller: Reader) -> OfferOut:
    """One offer as it is now."""
    offer = await asyncio.to_thread(_service(request).sources.catalogue.get, offer_id)
    if offer is None:
        raise not_found("offer", offer_id)
    return offer_out(offer)


@router.delete(
    "/v1/offers/{offer_id}", status_code=204, tags=["offers"], summary="Delete an offer", responses=NOT_FOUND
)
async def delete_offer(offer_id: Id, request: Request, caller: Admin) -> Response:
    """No decision picks it again; logged ones keep it."""
    service = _service(request)
    if not await asyncio.to_thread(service.sources.catalogue.delete, offer_id, caller, utc_now()):
        raise not_found("offer", offer_id)
    await service.serving.refresh()
    return Response(status_code=204)


@router.put("/v1/customers/{customer_id}", tags=["customers"], summary="Create or replace a customer")
async def put_customer(customer_id: Id, body: CustomerIn, request: Request, caller: Admin) -> CustomerOut:
    """Demographics become features of the customer's decisions; the id never does."""
    service = _service(request)
    record = customer_of(body)
    await asyncio.to_thread(service.customers.put, customer_id, record, utc_now())
    return await _customer(service, customer_id)


@router.get("/v1/customers/{customer_id}", tags=["customers"], summary="Read a customer", responses=NOT_FOUND)
async def get_customer(customer_id: Id, request: Request, caller: Reader) -> CustomerOut:
    """What is stored, and what the activity adds up to."""
    return await _customer(_service(request), customer_id)


@router.get("/v1/loops", tags=["loops"], summary="List loops")
async def list_loops(request: Request, caller: Reader) -> LoopsOut:
    """Every loop's settings."""
    configs = await asyncio.to_thread(_service(request).sources.loops.all)
    return LoopsOut(loops=[loop_out(config, None, 0, None) for config in configs])


@router.put("/v1/loops/{loop}", tags=["loops"], summary="Create or replace a loop")
async def put_loop(loop: LoopName, body: LoopIn, request: Request, caller: Admin, response: Response) -> LoopOut:
    """A changed learning setting is trained on the log; the old model serves meanwhile. The rest holds at once.

    Answered when every live worker goes by the new settings. The header Offerloop-Workers-Behind tells how many did
    not within five seconds; without it all do.
    """
    wanted = loop_of(loop, body)
    # A loop's schema and its challengers have routes of their own.
    names = {field.name for field in fields(wanted)} - {"loop", "version", "schema", "challengers"}
    applied = await apply_loop(_service(request), loop, {name: getattr(wanted, name) for name in names}, caller)
    if applied.unacknowledged:
        response.headers["Offerloop-Workers-Behind"] = str(applied.unacknowledged)
    return loop_out(applied.config, None, 0, None)


@router.get("/v1/loops/{loop}", tags=["loops"], summary="Read a loop", responses=NOT_FOUND)
async def get_loop(loop: LoopName, request: Request, caller: Reader) -> LoopOut:
    """Its settings, and where it stands."""
    service = _service(request)
    config = await asyncio.to_thread(service.sources.loops.get, loop)
    if config is None:
        raise not_found("loop", loop)
    counts = await asyncio.to_thread(count_loop, service.installation.engine, loop)
    snapshots = await asyncio.to_thread(service.sources.snapshots.count, loop)
    policy = service.serving.policies.get(loop)
    found = loop_out(config, counts, snapshots, policy.snapshot_id if policy else None)
    matched = await asyncio.to_thread(find_counts, service.installation.engine, loop)
    if found.status is not None and matched is not None:
        rate = matched.total.imitated / matched.total.events
        found.status.apprentice = ApprenticeOut.model_validate({**asdict(matched), "match_rate": rate})
    return found


@router.put(
    "/v1/loops/{loop}/schema", tags=["loops"], summary="Say which features a loop's requests may send",
    responses=NOT_FOUND,
)  # fmt: skip
async def put_schema(loop: LoopName, body: FeatureSchemaIn, request: Request, caller: Admin) -> FeatureSchemaOut:
    """Unknown or ill-typed features are then refused by name, or dropped and counted."""
    schema = check_schema(schema_of(body))
    return await _set_schema(_service(request), loop, schema, caller)


@router.get("/v1/loops/{loop}/schema", tags=["loops"], summary="Read a loop's feature schema", responses=NOT_FOUND)
async def get_schema(loop: LoopName, request: Request, caller: Reader) -> FeatureSchemaOut:
    """Which features requests may send; 404 when the loop lets everything in."""
    config = await asyncio.to_thread(_service(request).sources.loops.get, loop)
    if config is None:
        raise not_found("loop", loop)
    if config.schema is None:
        raise not_found("schema of loop", loop)
    return schema_out(config)


@router.delete(
    "/v1/loops/{loop}/schema", status_code=204, tags=["loops"], summary="Let every feature in", responses=NOT_FOUND
)
async def delete_schema(loop: LoopName, request: Request, caller: Admin) -> Response:
    """The loop checks types no more."""
    await _set_schema(_service(request), loop, None, caller)
    return Response(status_code=204)


async def _set_schema(service: Service, loop: str, schema: FeatureSchema | None, caller: str) -> FeatureSchemaOut:
    if await asyncio.to_thread(service.sources.loops.get, loop) is None:
        raise not_found("loop", loop)
    applied = await apply_loop(service, loop, {"schema": schema}, caller)
    return schema_out(applied.config)


@router.delete("/v1/loops/{loop}", status_code=204, tags=["loops"], summary="Delete a loop", responses=NOT_FOUND)
async def delete_loop(loop: LoopName, request: Request, caller: Admin) -> Response:
    """It decides no more. Its log stays, and a loop of that name would go on from it."""
    if loop == DEFAULT_LOOP:
        raise Problem(409, "Conflict", f"the loop {DEFAULT_LOOP!r} cannot be deleted")
    service = _service(request)
    if not await asyncio.to_thread(service.sources.loops.delete, loop, caller, utc_now()):
        raise not_found("loop", loop)
    await service.serving.refresh()
    return Response(status_code=204)


@router.post("/v1/keys", status_code=201, tags=["keys"], summary="Create an API key")
async def create_key(body: KeyIn, request: Request, caller: Admin) -> NewKeyOut:
    """The secret is shown this once. From the first key on, calls without one are refused."""
    service = _service(request)
    if service.access.is_open and body.role != "admin":
        raise bad_field("role", body.role, "the first key must be an admin's, or nobody could make another")
    key, secret = await asyncio.to_thread(service.sources.keys.create, body.name, body.role, caller, utc_now())
    await service.serving.refresh()
    return NewKeyOut(key_id=key.key_id, name=key.name, role=key.role, created_at=key.created_at, secret=secret)


@router.get("/v1/keys", tags=["keys"], summary="List API keys")
async def list_keys(request: Request, caller: Admin) -> KeysOut:
    """Live keys, without their secrets."""
    keys = await asyncio.to_thread(_service(request).sources.keys.live)
    return KeysOut(
        keys=[KeyOut(key_id=k.key_id, name=k.name, role=k.role, created_at=k.created_at) for k, _ in keys]
    )  # fmt: skip


@router.delete("/v1/keys/{key_id}", status_code=204, tags=["keys"], summary="Revoke an API key", responses=NOT_FOUND)
async def revoke_key(key_id: Id, request: Request, caller: Admin) -> Response:
    """It works no more, within a second, in every process."""
    service = _service(request)
    if not await asyncio.to_thread(service.sources.keys.revoke, key_id, caller, utc_now()):
        raise not_found("key", key_id)
    await service.serving.refresh()
    return Response(status_code=204)


async def _customer(service: Service, customer_id: str) -> CustomerOut:
    record = await asyncio.to_thread(service.customers.get, customer_id)
    state = await asyncio.to_thread(service.customers.profile, customer_id)
    if record is None and state is None:
        raise not_found("customer", customer_id)
    profile = decode_profile(state) if state else None
    return customer_out(customer_id, record or CustomerRecord(), profile)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
