"""The hot path of rank: plain calls are answered before the framework's routing, dependencies and checks of answers.

The route in ``api.py`` stays what documents the call and what answers everything out of the ordinary: other types of
content, bodies that are not valid, callers that are refused. Both decide and answer by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from decision_service import problems
from decision_service.answers import rank_answer
from decision_service.schemas import RankIn
from decision_service.state import Service

LARGEST_PLAIN_BODY = 256 * 1024
JSON = b"application/json"


class _Route(NamedTuple):
    """What the metrics know a call by."""

    path: str


ROUTES: Mapping[str, _Route] = {path: _Route(path) for path in ("/v1/rank", "/rank")}
_validate = RankIn.__pydantic_validator__.validate_python


class RankRoute:
    """Answers plain rank calls; passes everything else on, as it came."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        route = ROUTES.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST" or scope.get("root_path") or not _is_plain(scope):
            await self.app(scope, receive, send)
            return
        received: list[Message] = []
        body = await _body(received, receive)
        request = Request(scope, receive)
        service: Service = scope["app"].state.service
        asked = None if body is None else await _asked(service, request, body)
        if asked is None:
            # The framework finds the same fault, and says what it is.
            await self.app(scope, _again(received, receive), send)
            return
        scope["route"] = route
        try:
            decision = await service.ranker.rank(asked)
            answer = orjson.dumps(await rank_answer(service, asked, decision))
        except problems.HANDLED as error:
            await (await problems.answer(request, error))(scope, receive, send)
            return
        await send({
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(answer)), (b"content-type", JSON)],
        })  # fmt: skip
        await send({"type": "http.response.body", "body": answer})


def _is_plain(scope: Scope) -> bool:
    """Whether the content is said to be JSON, in so many words."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    return [value for name, value in headers if name == b"content-type"] == [JSON]


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
        service.access.actor(request, "write")
        asked: RankIn = _validate(raw)
    except (orjson.JSONDecodeError, problems.Problem, ValidationError):
        return None
    return asked


def _again(received: Sequence[Message], receive: Receive) -> Receive:
    """Gives out again what was received, and then what comes."""
    left = list(reversed(received))

    async def next_message() -> Message:
        return left.pop() if left else await receive()

    return next_message
