"""The hot path of rank: plain calls are answered before the framework's layers, routing and checks of answers.

The route in ``api.py`` stays what documents the call and what answers everything out of the ordinary: other types of
content, bodies that are not valid, callers that are refused. Both decide and answer by the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.telemetry import ServiceMetrics
from decision_service import problems
from decision_service.answers import rank_answer
from decision_service.schemas import RankIn
from decision_service.state import Service

LARGEST_PLAIN_BODY = 256 * 1024
JSON = b"application/json"
PATHS = frozenset({"/v1/rank", "/rank"})
_validate = RankIn.__pydantic_validator__.validate_python


class RankRoute:
    """Answers plain rank calls; passes everything else on, as it came."""

    def __init__(
        self, app: ASGIApp, service: Callable[[], Service], metrics: ServiceMetrics, *, answers_origins: bool
    ) -> None:
        """``app`` takes what is passed on; with ``answers_origins`` also what browsers send for other sites."""
        self._app = app
        self._service = service
        self._metrics = metrics
        self._passed_on = b"origin" if answers_origins else b""

    def is_for(self, scope: Scope) -> bool:
        """Whether a request may be a plain rank call."""
        return (
            scope["type"] == "http"
            and scope["path"] in PATHS
            and scope["method"] == "POST"
            and not scope.get("root_path")
            and self._is_plain(scope["headers"])
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that ``is_for`` accepts, or pass it on."""
        started = time.perf_counter()
        received: list[Message] = []
        body = await _body(received, receive)
        service = self._service()
        asked = None if body is None else await _asked(service, Request(scope), body)
        if asked is None:
            # The framework finds the same fault, and says what it is.
            await self._app(scope, _again(received, receive), send)
            return
        status = 500
        try:
            decision = await service.ranker.rank(asked)
            answer = orjson.dumps(await rank_answer(service, asked, decision))
            status = 200
            await send({
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % len(answer)), (b"content-type", JSON)],
            })  # fmt: skip
            await send({"type": "http.response.body", "body": answer})
        except problems.HANDLED as error:
            response = await problems.answer(Request(scope), error)
            status = response.status_code
            await response(scope, receive, send)
        except Exception as error:
            if status != 200:
                await problems.response_of(problems.problem_of(error))(scope, receive, send)
            # As with the framework's errors, the server writes it to its log.
            raise
        finally:
            self._metrics.note_request(scope["path"], status, time.perf_counter() - started)

    def _is_plain(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether the content is said to be JSON, in so many words, and no browser asks who may read the answer."""
        said = False
        for name, value in headers:
            if name == b"content-type":
                if said or value != JSON:
                    return False
                said = True
            elif name == self._passed_on:
                return False
        return said


async def _body(received: list[Message], receive: Receive) -> bytes | None:
    """The whole body, unless it is large or the caller went away; every message is kept in ``received``."""
    size = 0
    while True:
        message = await receive()
        received.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or size > LARGEST_PLAIN_BODY:
            return None
        if not message.get("more_body"):
            break
    return received[0].get("body", b"") if len(received) == 1 else b"".join(one.get("body", b"") for one in received)


async def _asked(service: Service, request: Request, body: bytes) -> RankIn | None:
    """The request of a caller who may ask it; None when anything is wrong with either."""
    try:
        raw: Any = orjson.loads(body)
        await service.access.look_for(request)
        service.access.actor(request, "page")
        asked: RankIn = _validate(raw)
        if asked.explain:
            service.access.actor(request, "read")
    except (orjson.JSONDecodeError, problems.Problem, ValidationError):
        return None
    return asked


def _again(received: Sequence[Message], receive: Receive) -> Receive:
    """Gives out again what was received, and then what comes."""
    left = list(reversed(received))

    async def next_message() -> Message:
        return left.pop() if left else await receive()

    return next_message
