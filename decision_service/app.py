"""The application: settings, lifespan, routes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, cast

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.collector import spare_what_stays
from adapters.settings import Settings, load_settings
from adapters.telemetry import ServiceMetrics, start_logging
from decision_service import (
    api,
    audit_api,
    catalogue_api,
    evaluations_api,
    health,
    import_api,
    jobs_api,
    model_api,
    operations_api,
    policies_api,
    privacy_api,
    problems,
    regions_api,
)  # fmt: skip
from decision_service.examples import EXAMPLES
from decision_service.personalizer import Personalizer
from decision_service.rank_route import RankRoute
from decision_service.state import Service, open_service

LARGEST_BODY = 8 * 1024 * 1024

# Routes are tried in this order: those with a fixed last part come before those that take any. No router includes
# another: the bodies of its routes would not be read strictly.
ROUTERS = (
    api.router, import_api.router, model_api.router, operations_api.router, policies_api.router, catalogue_api.router,
    privacy_api.router, regions_api.router, jobs_api.router, evaluations_api.router, audit_api.router,
    health.router,
)  # fmt: skip


def create_app(settings: Settings | None = None) -> FastAPI:
    """The decision service; settings come from the environment unless given."""
    settings = settings or load_settings()
    start_logging(settings.log_level)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, _metrics()) as service:
            app.state.service = service
            spare_what_stays()
            yield

    app = Application(
        title="Offerloop", version="0.1.0", summary="Offer decisions with exact, logged probabilities.",
        lifespan=lifespan,
    )  # fmt: skip
    problems.install(app)
    for router in ROUTERS:
        for route in router.routes:
            _read_strictly(route)
        app.include_router(router)
    app.add_middleware(Personalizer)
    app.add_middleware(Closed)
    app.add_middleware(Measured)
    if settings.cors_origins is not None:
        # Outermost: a browser asks without a key whether it may call, and must be able to read refusals too.
        app.add_middleware(
            CORSMiddleware, allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
            allow_methods=["POST"], allow_headers=["Authorization", "Content-Type", "X-Api-Key", "Idempotency-Key"],
            expose_headers=["Retry-After"],
        )  # fmt: skip
    app.answer_rank(settings.cors_origins is not None)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class Application(FastAPI):
    """The framework's application, with plain rank calls answered in front of all its layers."""

    _rank: RankRoute | None = None

    def answer_rank(self, answers_origins: bool) -> None:
        """Answer plain rank calls; with ``answers_origins`` the framework's layers decide which browsers may call."""
        self._rank = RankRoute(
            super().__call__, lambda: cast("Service", self.state.service), _metrics(), answers_origins=answers_origins
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._rank is not None and self._rank.is_for(scope):
            # Who refuses a call asks the application for its parts.
            scope["app"] = self
            await self._rank(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


@cache
def _metrics() -> ServiceMetrics:
    return ServiceMetrics()


class StrictRequest(Request):
    """Reads JSON as the standard has it (no NaN, no half characters) and no body beyond the limit."""

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            HTTPException: 413 when it is larger than the limit.
        """
        if not hasattr(self, "_body"):
            chunks: list[bytes] = []
            size = 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > LARGEST_BODY:
                    raise HTTPException(413, f"the body is larger than {LARGEST_BODY} bytes")
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        """The parsed body.

        Raises:
            HTTPException: 400 when it is not JSON, with the place.
        """
        try:
            return orjson.loads(await self.body())
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, f"the body is not valid JSON: {error}") from None


def _read_strictly(route: Any) -> None:
    """Give a route StrictRequest, whatever built its handler."""
    if not isinstance(route, APIRoute):
        return
    handler: Callable[[Request], Coroutine[Any, Any, Response]] = route.get_route_handler()

    async def strict(request: Request) -> Response:
        return await handler(StrictRequest(request.scope, request.receive))

    route.get_route_handler = lambda: strict  # type: ignore[method-assign]


class Closed:
    """With no key configured, nobody but this machine gets any page (only /healthz tells that the process lives)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] != "/healthz":
            request = Request(scope)
            try:
                request.app.state.service.access.check_place(request)
            except problems.Problem as error:
                await problems.response_of(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Measured:
    """Counts and times requests by route template."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note how it ended."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            metrics = _metrics()
            route = getattr(scope.get("route"), "path", "unknown")
            metrics.note_request(route, status, time.perf_counter() - started)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; what the framework would answer with 422 is a 400 problem here."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                answers = operation["responses"]
                schema = answers.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
                if schema.get("$ref", "").endswith("HTTPValidationError"):
                    del answers["422"]
                for status, answer in answers.items():
                    if status >= "400" and "application/json" in answer.get("content", {}):
                        answer["content"] = {problems.MEDIA_TYPE: answer["content"]["application/json"]}
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for name, example in EXAMPLES.items():
            if name in schemas:
                schemas[name]["examples"] = [example]
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
            "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        }
        # The empty choice stands for callers on this machine while no key is configured.
        document["security"] = [{"bearer": []}, {"header": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema
