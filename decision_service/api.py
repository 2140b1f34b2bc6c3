"""Routes of the loop: rank, reward, activate, activity, and the record of a decision."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, cast

import orjson
from fastapi import APIRouter, Header, Query, Request, Response

from adapters.interaction_log import StoredDecision, find_decision, position_key
from adapters.sessions import FIRST
from adapters.spool import SPOOLED
from adapters.streams import ACTIVITY_STREAM, applied_key, decided_key, loop_stream
from contextual_bandit import events
from contextual_bandit.loops import DEFAULT_LOOP, LoopConfig
from contextual_bandit.profile import Activity
from contextual_bandit.reward import DIRECT, RewardOutOfRange, UnusableAmount, outcome_value
from contextual_bandit.types import Decision
from decision_service.access import Page, Reader, Writer
from decision_service.answers import rank_answer
from decision_service.checks import check_batch_ids, check_time
from decision_service.problems import ProblemOut, bad_field, not_found
from decision_service.records import decision_out
from decision_service.schemas import (
    AcceptedOut,
    ActivateIn,
    ActivityBatchIn,
    ActivityIn,
    ActivityOut,
    DecisionOut,
    RankBatchIn,
    RankBatchOut,
    RankIn,
    RankOut,
    RewardIn,
    RewardOut,
    TickIn,
    TickOut,
    WhyOut,
)
from decision_service.serving import utc_now
from decision_service.shapes import Id, LoopName
from decision_service.state import Service

WAIT_SECONDS = 30.0
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": ProblemOut, "description": "Bad request; nothing was accepted."},
    401: {"model": ProblemOut, "description": "An API key is needed."},
    403: {"model": ProblemOut, "description": "The key's role does not suffice."},
    503: {"model": ProblemOut, "description": "A store is away; nothing was accepted."},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ProblemOut, "description": "Unknown name."}}
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "model": ProblemOut,
        "description": "The decision_id was used for another request, or the learning setting gives no ranking.",
    },
}
router = APIRouter(responses=PROBLEMS)
Wait = Annotated[Literal["applied"] | None, Query(description="Answer once it has been applied (30 s at most).")]


@router.post(
    "/v1/rank", response_model=RankOut, tags=["loop"], summary="Choose an offer", responses=NOT_FOUND | CONFLICT
)
@router.post("/rank", response_model=RankOut, tags=["loop"], summary="Choose an offer", responses=NOT_FOUND | CONFLICT)
async def rank(body: RankIn, request: Request, caller: Page) -> Response:
    """Choose one eligible offer by the loop's policy; the decision is durable before the answer."""
    # Most calls are answered by rank_route.py, in the same way.
    service = _service(request)
    _check_explained(request, [body])
    decision = await service.ranker.rank(body)
    return Response(orjson.dumps(await rank_answer(service, body, decision)), media_type="application/json")


@router.post(
    "/v1/rank/batch", response_model=RankBatchOut, tags=["loop"], summary="Choose for up to 100 requests",
    responses=NOT_FOUND | CONFLICT,
)  # fmt: skip
async def rank_batch(body: RankBatchIn, request: Request, caller: Page) -> Response:
    """All requests are checked and decided before any is logged; one that is refused refuses the batch."""
    ranker = _service(request).ranker
    _check_explained(request, body.requests)
    prepared = []
    for index, entry in enumerate(body.requests):
        prepared.append(await ranker.prepare(entry, f"requests.{index}."))
        # Other requests get their turn between two of a batch.
        await asyncio.sleep(0)
    check_batch_ids(body.requests)
    decisions = await asyncio.gather(*(ranker.log(decision) for decision in prepared))
    service = _service(request)
    answers = [await rank_answer(service, *pair) for pair in zip(body.requests, decisions, strict=True)]
    return Response(orjson.dumps({"decisions": answers}), media_type="application/json")


@router.post(
    "/v1/reward",
    response_model=RewardOut,
    status_code=202,
    tags=["loop"],
    summary="Report an outcome",
    responses=NOT_FOUND,
)
@router.post(
    "/reward",
    response_model=RewardOut,
    status_code=202,
    tags=["loop"],
    summary="Report an outcome",
    responses=NOT_FOUND,
)
async def reward(
    body: RewardIn, request: Request, caller: Page, idempotency_key: Annotated[Id | None, Header()] = None
) -> Response:
    """Accept an outcome of a decision, known or not yet; doubled outcome ids count once."""
    service = _service(request)
    loop = await service.ranker.loop(body.loop)
    occurred_at = check_time(loop, body.occurred_at, utc_now(), "occurred_at")
    try:
        value = outcome_value(loop.reward, body.value, body.kind, body.amount)
    except RewardOutOfRange as error:
        if body.kind is None:
            raise
        field, sent = ("kind", body.kind) if body.amount is None else ("amount", body.amount)
        raise bad_field(field, sent, f"is worth {error.value:g} here, and {error.why}") from None
    except UnusableAmount as error:
        raise bad_field("amount", error.amount, error.why) from None
    outcome_id = body.outcome_id or idempotency_key or str(uuid.uuid4())
    about = await service.ranker.logged.first_of(loop, body.decision_id)
    payload = events.outcome_payload(outcome_id, about, body.kind or DIRECT, value, body.final, body.slot)
    message = events.encode(events.OUTCOME, occurred_at, payload)
    position = await service.writer.append(loop_stream(loop.loop), message)
    service.metrics.outcomes.labels(loop.loop).inc()
    return Response(orjson.dumps({"position": position, "outcome_id": outcome_id}), 202, media_type="application/json")


@router.post(
    "/v1/activate",
    response_model=AcceptedOut,
    status_code=202,
    tags=["loop"],
    summary="Activate a deferred decision",
    responses=NOT_FOUND,
)
async def activate(body: ActivateIn, request: Request, caller: Page) -> Response:
    """The customer saw the offer: learn from this decision. Idempotent; unknown ids are accepted."""
    service = _service(request)
    loop = await service.ranker.loop(body.loop)
    occurred_at = check_time(loop, body.occurred_at, utc_now(), "occurred_at")
    about = await service.ranker.logged.first_of(loop, body.decision_id)
    message = events.encode(events.ACTIVATION, occurred_at, {"decision_id": about})
    position = await service.writer.append(loop_stream(loop.loop), message)
    return Response(orjson.dumps({"position": position}), 202, media_type="application/json")


@router.post(
    "/v1/activity", response_model=ActivityOut, status_code=202, tags=["loop"], summary="Report what customers did"
)
async def activity(body: ActivityBatchIn, request: Request, caller: Page, wait: Wait = None) -> Response:
    """Views, clicks, cart adds and purchases; they become history and affinity."""
    service = _service(request)
    now = utc_now()
    payloads = []
    for index, entry in enumerate(body.activities):
        payloads.append(events.activity_payload(_activity(service, entry, index, now)))
    message = events.encode(events.ACTIVITY, now, {"activities": payloads})
    position = await service.writer.append(ACTIVITY_STREAM, message)
    service.metrics.activities.inc(len(payloads))
    applied = wait == "applied" and await _applied(service, ACTIVITY_STREAM, position)
    answer = {"position": position, "accepted": len(payloads), "applied": applied}
    return Response(orjson.dumps(answer), 202, media_type="application/json")


@router.post(
    "/v1/loops/{loop}/ticks",
    response_model=TickOut,
    status_code=202,
    tags=["loop"],
    summary="Advance a simulated clock",
    responses=NOT_FOUND,
)
async def tick(loop: LoopName, body: TickIn, request: Request, caller: Writer, wait: Wait = None) -> Response:
    """Only loops with a simulated clock take their time from callers."""
    service = _service(request)
    config: LoopConfig = await service.ranker.loop(loop)
    if config.clock != "simulated":
        raise bad_field("loop", loop, "has a wall clock and takes no ticks")
    stream = loop_stream(loop)
    position = await service.writer.append(stream, events.encode(events.TICK, body.occurred_at, {}))
    applied = wait == "applied" and await _applied(service, stream, position)
    if applied:
        await service.serving.refresh()
    return Response(orjson.dumps({"position": position, "applied": applied}), 202, media_type="application/json")


@router.get(
    "/v1/decisions/{decision_id:path}/why", tags=["loop"], summary="Why a decision fell as it did", responses=NOT_FOUND
)
async def why(decision_id: Id, request: Request, caller: Reader, loop: LoopName = DEFAULT_LOOP) -> WhyOut:
    """Every offer: removed, and by which rule, or its probability with what spoke for it."""
    service = _service(request)
    decision, _ = await _find(service, loop, decision_id)
    return WhyOut.model_validate(await service.explainer.explain(decision, service.serving.loops.get(loop)))


@router.get("/v1/decisions/{decision_id:path}", tags=["loop"], summary="The record of a decision", responses=NOT_FOUND)
async def decision(decision_id: Id, request: Request, caller: Reader, loop: LoopName = DEFAULT_LOOP) -> DecisionOut:
    """What was eligible, what was removed and why, the distributions, the draw, the outcomes and the reward."""
    return decision_out(*await _find(_service(request), loop, decision_id))


async def _find(service: Service, loop: str, decision_id: str) -> tuple[Decision, StoredDecision | None]:
    """A decision as it is logged, and what is stored of it once it is joined."""
    stored = await asyncio.to_thread(find_decision, service.installation.engine, loop, decision_id)
    if stored is not None:
        return stored.decision, stored
    found = await service.client.hmget(decided_key(loop, decision_id), ["position", FIRST])
    position, first = cast("list[bytes | None]", found)
    if first is not None:
        # A caller's own id for a session's decision.
        return await _find(service, loop, first.decode())
    logged = None
    if position is not None:
        logged = await service.ranker.logged.at(loop, decision_id, position.decode())
    if logged is None:
        raise not_found("decision", decision_id)
    return logged, None


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _activity(service: Service, entry: ActivityIn, index: int, now: Any) -> Activity:
    category = entry.category
    if category is None and entry.offer_id is not None:
        offer = service.serving.catalogue.offers.get(entry.offer_id)
        category = offer.category if offer else None
    occurred_at = entry.occurred_at or now
    if occurred_at > now + timedelta(minutes=5):
        raise bad_field(f"activities.{index}.occurred_at", occurred_at.isoformat(), "lies in the future")
    return Activity(
        entry.activity_id or str(uuid.uuid4()), entry.customer_id, entry.kind, occurred_at, category,
        entry.offer_id, entry.amount, entry.order_id,
    )  # fmt: skip


def _check_explained(request: Request, bodies: Sequence[RankIn]) -> None:
    """Reasons tell what is known of a customer, so they need a role that may read.

    Raises:
        Problem: 403.
    """
    if any(body.explain for body in bodies):
        _service(request).access.actor(request, "read")


async def _applied(service: Service, stream: str, position: str) -> bool:
    """Whether the stream's consumer passed a position within the time that callers may wait."""
    if position == SPOOLED:
        return False
    deadline = time.monotonic() + WAIT_SECONDS
    wanted = position_key(position)
    pause = 0.005
    while time.monotonic() < deadline:
        reached = await service.client.get(applied_key(stream))
        if isinstance(reached, bytes) and position_key(reached.decode()) >= wanted:
            return True
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return False
