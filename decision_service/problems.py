"""Every error as RFC 9457 problem JSON; the only place that decides an HTTP status."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import orjson
import redis
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from contextual_bandit.features import BadFeature
from contextual_bandit.policy import UnusableDistribution
from contextual_bandit.reward import RewardOutOfRange, UnknownOutcomeKind
from contextual_bandit.rules import BadRule
from contextual_bandit.schema import BadSchema
from contextual_bandit.vowpal import BadArguments, UnusableExample
from decision_service.field_errors import field_of, message_of, value_of

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class FieldErrorOut(BaseModel):
    """One field that was refused."""

    field: str = Field(examples=["context.age"])
    value: Any = Field(examples=["NaN"])
    message: str = Field(examples=["numbers must be finite"])


class ProblemOut(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Bad request"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["context.age: numbers must be finite, got nan"])
    errors: list[FieldErrorOut] = []


class Problem(Exception):
    """An error with its status; ``errors`` name fields and values."""

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[FieldErrorOut] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = list(errors)


# What is a problem of the caller's, or of a store; anything else is this service's own fault.
HANDLED = (
    Problem, RequestValidationError, HTTPException, BadFeature, UnusableExample, BadArguments, UnknownOutcomeKind,
    RewardOutOfRange, BadRule, BadSchema, UnusableDistribution, redis.RedisError, OperationalError,
)  # fmt: skip


def bad_field(field: str, value: Any, message: str) -> Problem:
    """A 400 about one field."""
    return Problem(
        400, "Bad request", f"{field}: {message}, got {_shown(value)!r}",
        [FieldErrorOut(field=field, value=_shown(value), message=message)],
    )  # fmt: skip


def not_found(kind: str, name: str) -> Problem:
    """A 404 that names what is missing."""
    return Problem(404, "Not found", f"unknown {kind} {name!r}")


def install(app: FastAPI) -> None:
    """Answer every exception of the application as a problem."""
    app.add_exception_handler(Exception, _unexpected)
    for kind in HANDLED:
        app.add_exception_handler(kind, answer)


def problem_of(error: Exception) -> Problem:
    """The problem that an error is for its caller."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            fields = [_field_error(entry) for entry in error.errors()]
            # A union says what is wrong with each of its branches.
            fields = list({(entry.field, entry.message): entry for entry in fields}.values())
            detail = "; ".join(f"{entry.field}: {entry.message}, got {entry.value!r}" for entry in fields[:5])
            return Problem(400, "Bad request", detail, fields)
        case BadFeature():
            return Problem(
                400, "Bad request", str(error),
                [FieldErrorOut(field=error.path, value=_shown(error.value), message=error.why)],
            )  # fmt: skip
        case BadArguments():
            return Problem(400, "Bad request", f"arguments: {error}", [_about("arguments", error)])
        case UnknownOutcomeKind():
            return Problem(400, "Bad request", str(error), [_about("kind", error)])
        case RewardOutOfRange():
            return bad_field("value", error.value, error.why)
        case UnusableExample():
            return Problem(400, "Bad request", str(error), [_about("context", error)])
        case BadRule() | BadSchema():
            return bad_field(error.path, error.value, error.why)
        case UnusableDistribution():
            return Problem(409, "Conflict", f"the loop's learning setting makes ranking impossible: {error}")
        case HTTPException():
            return Problem(error.status_code, _title(error.status_code), str(error.detail))
        case redis.RedisError() | OperationalError():
            return Problem(503, "Store unavailable", "a store is not reachable; nothing was accepted, try again")
    return Problem(500, "Internal error", "the service failed; the error is in its log")


async def answer(request: Request, error: Exception) -> Response:
    """The answer to an exception that is handled."""
    problem = problem_of(error)
    if problem.status >= 500 and isinstance(error, Problem):
        # Foreseen, such as a change while no learner runs: where it was raised says nothing.
        log.warning("request refused: %s", problem.detail, extra={"path": request.url.path})
    elif problem.status >= 500:
        log.error("request failed", exc_info=error, extra={"path": request.url.path})
    headers = dict(getattr(error, "headers", None) or {})
    if problem.status == 503:
        headers["Retry-After"] = "1"
    return response_of(problem, headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    return response_of(problem_of(error))


def response_of(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The HTTP answer to a problem."""
    body: dict[str, Any] = {
        "type": "about:blank", "title": problem.title, "status": problem.status, "detail": problem.detail,
    }  # fmt: skip
    if problem.errors:
        body["errors"] = [entry.model_dump() for entry in problem.errors]
    return Response(orjson.dumps(body, default=str), problem.status, headers, MEDIA_TYPE)


def _field_error(entry: Any) -> FieldErrorOut:
    return FieldErrorOut(field=field_of(entry) or "body", value=_shown(value_of(entry)), message=message_of(entry))


def _about(field: str, error: Exception) -> FieldErrorOut:
    return FieldErrorOut(field=field, value=None, message=str(error))


def _shown(value: Any) -> Any:
    """A value as it may be echoed: short, and JSON whatever it was."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 2**53 else repr(value)
    if isinstance(value, dict | list):
        return type(value).__name__
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 200 else text[:197] + "..."


def _title(status: int) -> str:
    return {400: "Bad request", 404: "Not found", 405: "Method not allowed", 413: "Too large"}.get(
        status, "Request failed"
    )
