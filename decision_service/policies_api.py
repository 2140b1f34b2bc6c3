"""Routes of a loop's policies, and of kill switches."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from adapters.kill_switches import KillSwitch, Scope
from adapters.operations import Operation
from contextual_bandit.loops import Challenger
from decision_service.access import Admin, Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.operations_api import OperationOut
from decision_service.policies import (
    Changed,
    Policies,
    delete_challenger,
    find_policies,
    find_switch,
    promote,
    put_challenger,
    roll_back,
    set_share,
    throw_switch,
)
from decision_service.policy_schemas import (
    ChallengerIn,
    ChallengerStateOut,
    ChampionOut,
    ChampionWatchOut,
    KillSwitchesOut,
    KillSwitchIn,
    KillSwitchOut,
    PoliciesOut,
    PolicyName,
    PolicyOut,
    ReasonIn,
    ShareIn,
)
from decision_service.problems import ProblemOut
from decision_service.shapes import Id, LoopName
from decision_service.state import Service

BEHIND = "Offerloop-Workers-Behind"
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemOut, "description": "It cannot be done; nothing has changed."},
}
RUNNING: dict[int | str, dict[str, Any]] = {
    202: {"model": OperationOut, "description": "The learner is still at it; the old policy serves."},
}
router = APIRouter(responses=PROBLEMS)


@router.get("/v1/loops/{loop}/policies", tags=["policies"], summary="What each policy is worth", responses=NOT_FOUND)
async def list_policies(loop: LoopName, request: Request, caller: Reader) -> PoliciesOut:
    """The champion (the loop's own policy) and its challengers, which learn from the same log."""
    return await _policies(_service(request), loop)


@router.put(
    "/v1/loops/{loop}/policies/{name}", tags=["policies"], summary="Add or change a challenger", responses=NOT_FOUND
)  # fmt: skip
async def put_policy(
    loop: LoopName, name: PolicyName, body: ChallengerIn, request: Request, caller: Admin, response: Response
) -> PoliciesOut:
    """It learns from the log so far and from all that comes; with other arguments it begins anew."""
    service = _service(request)
    wanted = Challenger(name, body.arguments, body.share)
    return await _changed(service, response, await put_challenger(service, loop, wanted, caller))


@router.delete(
    "/v1/loops/{loop}/policies/{name}", status_code=204, tags=["policies"], summary="Take a challenger out",
    responses=NOT_FOUND,
)  # fmt: skip
async def delete_policy(loop: LoopName, name: PolicyName, request: Request, caller: Admin) -> Response:
    """What it has learned is forgotten; the champion decides for its customers."""
    await delete_challenger(_service(request), loop, name, caller)
    return Response(status_code=204)


@router.put(
    "/v1/loops/{loop}/policies/{name}/share", tags=["policies"], summary="Let a challenger decide for some customers",
    responses=NOT_FOUND,
)  # fmt: skip
async def put_share(
    loop: LoopName, name: PolicyName, body: ShareIn, request: Request, caller: Admin, response: Response
) -> PoliciesOut:
    """Always the same customers; a share that grows keeps them. Answered when every live worker goes by it.

    The held out and callers without a customer id get the champion, and so does everybody while the challenger has no
    published model.
    """
    service = _service(request)
    changed = await set_share(service, loop, name, body.share, body.reason, caller)
    return await _changed(service, response, changed)


@router.post(
    "/v1/loops/{loop}/policies/{name}/promote", tags=["policies"], summary="Make a challenger the loop's own policy",
    responses=NOT_FOUND | CONFLICT | RUNNING,
)  # fmt: skip
async def promote_policy(
    loop: LoopName, name: PolicyName, body: ReasonIn, request: Request, caller: Admin, response: Response
) -> OperationOut:
    """Answered when every worker serves it; after 5 seconds with 202, and the old policy serves until it is done.

    The policy before becomes the challenger ``previous``. 503 when no learner takes it within 5 seconds.
    """
    return _operation(response, await promote(_service(request), loop, name, body.reason, caller))


@router.post(
    "/v1/loops/{loop}/policies/rollback", tags=["policies"], summary="Take the last promotion back",
    responses=NOT_FOUND | CONFLICT | RUNNING,
)  # fmt: skip
async def roll_back_policy(
    loop: LoopName, body: ReasonIn, request: Request, caller: Admin, response: Response
) -> OperationOut:
    """The challenger ``previous`` becomes the loop's own policy again; 409 when there is none."""
    return _operation(response, await roll_back(_service(request), loop, body.reason, caller))


@router.get("/v1/kill-switches", tags=["policies"], summary="Every kill switch that is on")
async def list_switches(request: Request, caller: Reader) -> KillSwitchesOut:
    """Of loops and of offers, the newest first."""
    found = await asyncio.to_thread(_service(request).sources.kill_switches.on)
    return KillSwitchesOut(kill_switches=[_switch_out(one.scope, one.name, one) for one in found])


@router.get("/v1/loops/{loop}/kill-switch", tags=["policies"], summary="Is a loop killed?", responses=NOT_FOUND)
async def get_loop_switch(loop: LoopName, request: Request, caller: Reader) -> KillSwitchOut:
    """Whether it is on, why, since when and by whom."""
    return _switch_out("loop", loop, await find_switch(_service(request), "loop", loop))


@router.put("/v1/loops/{loop}/kill-switch", tags=["policies"], summary="Kill a loop, or revive it", responses=NOT_FOUND)
async def put_loop_switch(
    loop: LoopName, body: KillSwitchIn, request: Request, caller: Admin, response: Response
) -> KillSwitchOut:
    """On: the campaign manager's baseline decides for everybody, and nothing of it is learned.

    Answered when every live worker goes by it. The header Offerloop-Workers-Behind tells how many did not within five
    seconds. Only this switch turns it off: new settings do not.
    """
    return await _throw(_service(request), response, "loop", loop, body, caller)


@router.get("/v1/offers/{offer_id}/kill-switch", tags=["policies"], summary="Is an offer killed?")
async def get_offer_switch(offer_id: Id, request: Request, caller: Reader) -> KillSwitchOut:
    """Whether it is on, why, since when and by whom."""
    return _switch_out("offer", offer_id, await find_switch(_service(request), "offer", offer_id))


@router.put("/v1/offers/{offer_id}/kill-switch", tags=["policies"], summary="Kill an offer, or revive it")
async def put_offer_switch(
    offer_id: Id, body: KillSwitchIn, request: Request, caller: Admin, response: Response
) -> KillSwitchOut:
    """On: no loop shows it, not even as its fallback, also when a request brings it; the reason is ``killed``.

    Answered as that of a loop. Imports and changes of the offer do not turn it off.
    """
    return await _throw(_service(request), response, "offer", offer_id, body, caller)


async def _throw(
    service: Service, response: Response, scope: Scope, name: str, body: KillSwitchIn, caller: str
) -> KillSwitchOut:
    switch, behind = await throw_switch(service, scope, name, body.on, body.reason, caller)
    if behind:
        response.headers[BEHIND] = str(behind)
    return _switch_out(scope, name, switch)


async def _changed(service: Service, response: Response, changed: Changed) -> PoliciesOut:
    if changed.unacknowledged:
        response.headers[BEHIND] = str(changed.unacknowledged)
    return await _policies(service, changed.config.loop)


async def _policies(service: Service, loop: str) -> PoliciesOut:
    found: Policies = await find_policies(service, loop)
    switch = await find_switch(service, "loop", loop)
    watch = ChampionWatchOut.model_validate(found.watch, from_attributes=True) if found.watch else None
    return PoliciesOut(
        loop=loop,
        version=found.config.version,
        is_killed=switch is not None and switch.is_on,
        champion=ChampionOut(
            arguments=found.config.arguments, policy_id=found.policy_id, snapshot_id=found.snapshot_id,
            share=found.share, watch=watch,
        ),
        challengers=[
            PolicyOut(
                name=one.challenger.name, arguments=one.challenger.arguments, share=one.challenger.share,
                snapshot_id=one.snapshot_id,
                state=ChallengerStateOut.model_validate(one.state, from_attributes=True) if one.state else None,
            )
            for one in found.challengers
        ],
    )  # fmt: skip


def _operation(response: Response, operation: Operation) -> OperationOut:
    if operation.is_open:
        response.status_code = 202
    return OperationOut.model_validate(operation, from_attributes=True)


def _switch_out(scope: Scope, name: str, switch: KillSwitch | None) -> KillSwitchOut:
    if switch is None:
        return KillSwitchOut(scope=scope, name=name, on=False, reason=None, actor=None, changed_at=None)
    return KillSwitchOut(
        scope=scope, name=name, on=switch.is_on, reason=switch.reason, actor=switch.actor,
        changed_at=switch.changed_at,
    )  # fmt: skip


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
