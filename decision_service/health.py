"""Routes for operators: alive, ready, metrics."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from contextual_bandit.loops import DEFAULT_LOOP
from decision_service.access import Reader
from decision_service.problems import Problem, ProblemOut
from decision_service.state import Service

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Alive")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", summary="Ready", responses={503: {"model": ProblemOut, "description": "Not ready."}})
async def readyz(request: Request) -> dict[str, str]:
    """Both stores answer and the default loop has a policy."""
    service: Service = request.app.state.service
    try:
        async with asyncio.timeout(2.0):
            await service.client.ping()
            await asyncio.to_thread(service.installation.ping)
    except Exception as error:
        raise Problem(503, "Not ready", f"a store does not answer: {type(error).__name__}") from error
    if DEFAULT_LOOP not in service.serving.policies:
        raise Problem(503, "Not ready", f"loop {DEFAULT_LOOP!r} has no policy yet")
    return {"status": "ready"}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request, caller: Reader) -> Response:
    """Counters of all workers together (and of the learner, when one command started both)."""
    return Response(await asyncio.to_thread(_exposition), media_type=CONTENT_TYPE_LATEST)


def _exposition() -> bytes:
    registry: Any = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
