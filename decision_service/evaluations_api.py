"""Routes of off-policy evaluations: asked for, worked on by a job, read as JSON or as a page."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from adapters.evaluations import EvaluationExists, EvaluationStore, StoredEvaluation
from adapters.snapshots import SnapshotStore
from decision_service.access import Admin, Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.evaluation_schemas import EvaluationIn, EvaluationOut, EvaluationsOut
from decision_service.problems import Problem, ProblemOut, bad_field, not_found
from decision_service.serving import utc_now
from decision_service.shapes import Id, LoopName
from decision_service.state import Service
from evaluation.policy_names import PolicySources, UnknownPolicy, parse
from evaluation.request import ASKED, EvaluationRequest
from evaluation.slices import Slices

WAIT_SECONDS = 30.0
LOOK_EVERY_SECONDS = 0.1
ENDED = frozenset({"done", "failed"})
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemOut, "description": "There is an evaluation of that id."},
}
router = APIRouter(responses=PROBLEMS)


@router.post(
    "/v1/evaluations", status_code=202, tags=["evaluations"], summary="Evaluate policies on a loop's log",
    responses=CONFLICT | NOT_FOUND,
)  # fmt: skip
async def add_evaluation(
    body: EvaluationIn,
    request: Request,
    caller: Admin,
    wait: Annotated[Literal["done"] | None, Query(description="Answer when it has ended, or after 30 seconds.")] = None,
) -> EvaluationOut:
    """What other policies would have earned, by the log of the one that served. A worker makes the report."""
    service: Service = request.app.state.service
    loop = service.serving.loops.get(body.loop)
    if loop is None:
        raise not_found("loop", body.loop)
    if body.closed_from and body.closed_to and body.closed_from >= body.closed_to:
        raise bad_field("closed_to", body.closed_to.isoformat(), "must be after closed_from")
    sources = PolicySources(loop, SnapshotStore(service.installation.engine, service.installation.client).get)
    try:
        Slices(tuple(body.slices))
    except ValueError as error:
        raise bad_field("slices", ", ".join(body.slices), str(error)) from None
    for place, word in enumerate(body.policies):
        await _check(f"policies.{place}", word, sources)
    await _check("against", body.against, sources)
    asked = EvaluationRequest(
        loop=body.loop,
        closed_from=body.closed_from,
        closed_to=body.closed_to,
        policies=tuple(body.policies),
        reward_model=body.reward_model,
        choices=replace(
            ASKED,
            against=body.against,
            level=body.level,
            fixed_offers=body.fixed_offers,
            slices=tuple(body.slices),
        ),
    )
    store = _store(request)
    try:
        evaluation_id = await asyncio.to_thread(
            store.add, body.loop, body.name or "", asked.to_json(), utc_now(), caller, body.evaluation_id
        )
    except EvaluationExists as error:
        raise Problem(409, "Conflict", str(error)) from None
    found = await _found(store, evaluation_id)
    deadline = time.monotonic() + WAIT_SECONDS
    while wait == "done" and found.state not in ENDED and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        found = await _found(store, evaluation_id)
    return _shown(found)


@router.get("/v1/evaluations", tags=["evaluations"], summary="List evaluations")
async def list_evaluations(
    request: Request, caller: Reader, loop: Annotated[LoopName | None, Query(description="Only of this loop.")] = None
) -> EvaluationsOut:
    """The newest hundred, without their results."""
    newest = await asyncio.to_thread(_store(request).newest, loop)
    return EvaluationsOut(evaluations=[_shown(one) for one in newest])


@router.get("/v1/evaluations/{evaluation_id}", tags=["evaluations"], summary="Read an evaluation", responses=NOT_FOUND)
async def get_evaluation(evaluation_id: Id, request: Request, caller: Reader) -> EvaluationOut:
    """How far it is, and the report as JSON when done."""
    return _shown(await _found(_store(request), evaluation_id))


@router.get(
    "/v1/evaluations/{evaluation_id}/report", tags=["evaluations"], summary="The report as a page",
    response_class=Response, responses=NOT_FOUND | {200: {"content": {"text/html": {}}, "description": "The page."}},
)  # fmt: skip
async def get_report(evaluation_id: Id, request: Request, caller: Reader) -> HTMLResponse:
    """One page that opens without a network. 404 before the evaluation is done."""
    store = _store(request)
    page = await asyncio.to_thread(store.page, evaluation_id)
    if page is None:
        raise not_found("report of evaluation", evaluation_id)
    # The page is plain: it runs nothing and asks for nothing.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


@router.delete(
    "/v1/evaluations/{evaluation_id}", status_code=204, tags=["evaluations"], summary="Forget an evaluation",
    responses=NOT_FOUND,
)  # fmt: skip
async def delete_evaluation(evaluation_id: Id, request: Request, caller: Admin) -> Response:
    """Its report goes too; one that is being worked on is worked on for nothing."""
    if not await asyncio.to_thread(_store(request).delete, evaluation_id, utc_now(), caller):
        raise not_found("evaluation", evaluation_id)
    return Response(status_code=204)


async def _check(field: str, word: str, sources: PolicySources) -> None:
    """Refuse a word that names no policy of the log.

    Raises:
        Problem: 422 that names the field.
    """
    if word.startswith(("python:", "column:")):
        # A service imports no code because a request says so, and a loop's log has no columns.
        raise bad_field(field, word, "is for the command 'offerloop evaluate' alone")
    try:
        target = await asyncio.to_thread(parse, word, sources)
    except UnknownPolicy as error:
        raise bad_field(field, word, str(error)) from None
    close = getattr(target, "close", None)
    if close is not None:
        close()


async def _found(store: EvaluationStore, evaluation_id: str) -> StoredEvaluation:
    found = await asyncio.to_thread(store.get, evaluation_id)
    if found is None:
        raise not_found("evaluation", evaluation_id)
    return found


def _shown(found: StoredEvaluation) -> EvaluationOut:
    return EvaluationOut.model_validate(found, from_attributes=True)


def _store(request: Request) -> EvaluationStore:
    service: Service = request.app.state.service
    return EvaluationStore(service.installation.engine)
