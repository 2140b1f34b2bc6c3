"""Errors of the Personalizer API in its own form, and the headers of all its answers."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from contextual_bandit.vowpal import BadArguments
from decision_service.configure import OperationFailed
from decision_service.field_errors import message_of
from decision_service.problems import HANDLED, problem_of

JSON = "application/json; charset=utf-8"
HEADERS = {"Cache-Control": "no-store, must-revalidate, no-cache", "Pragma": "no-cache", "Expires": "0"}
# What an error of the native functions is here, where its status says enough.
CODES = {
    401: "401", 403: "InvalidApiAccess", 404: "ResourceNotFound", 409: "ModelRankingError",
    413: "PayloadSizeExceeded", 503: "OperationNotAllowed",
}  # fmt: skip
FAILED = "InternalServerError"
# Where clients try again by themselves, they are told when.
RETRIED = frozenset({408, 429, 503})
RETRY_SECONDS = "1"


class PersonalizerError(Exception):
    """An error with its status and code; ``target`` names the element at fault."""

    def __init__(self, status: int, code: str, message: str, target: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.target = target


# What is answered in words of its own; anything else is a fault to be looked into.
DESIGNED = (*HANDLED, PersonalizerError, OperationFailed)


def invalid(code: str, message: str, target: str | None = None) -> PersonalizerError:
    """A 400 of this code."""
    return PersonalizerError(400, code, message, target)


def personalizer_error(error: Exception, code: str, failure: str = FAILED) -> PersonalizerError:
    """Any error of a route as the API tells it.

    Args:
        error: what was raised.
        code: of a request that the route does not accept.
        failure: of a route that fails by itself.
    """
    match error:
        case OperationFailed():
            return PersonalizerError(500, failure, error.detail)
        case PersonalizerError():
            return error
        case ValidationError():
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "body"
            return invalid(code, f"{place}: {message_of(first)}, got {_short(first.get('input'))}", place)
        case BadArguments():
            return invalid("InvalidPolicyConfiguration", str(error), "arguments")
    problem = problem_of(error)
    target = problem.errors[0].field if problem.errors else None
    if problem.status == 400:
        return invalid(code, problem.detail, target)
    if problem.status == 413:
        return invalid("PayloadSizeExceeded", problem.detail)
    return PersonalizerError(problem.status, CODES.get(problem.status, failure), problem.detail, target)


def error_response(error: PersonalizerError) -> Response:
    """The answer to an error."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.target:
        body["target"] = error.target
    headers = {**HEADERS, "x-ms-error-code": error.code}
    if error.status in RETRIED:
        headers["Retry-After"] = RETRY_SECONDS
    return Response(orjson.dumps({"error": body}, default=str), error.status, headers, JSON)


def json_response(body: Any, status: int = 200, **headers: str) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(body, default=str), status, {**HEADERS, **headers}, JSON)


def no_content(status: int = 204) -> Response:
    """An answer without a body."""
    return Response(None, status, HEADERS)


def _short(value: object) -> str:
    shown = type(value).__name__ if isinstance(value, dict | list) else repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
