"""What a call can fail with; each error carries the fields of the service's problem JSON (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from offerloop_client.wire import FieldErrorOut

REPEATED = frozenset({429, 502, 503, 504})


class OfferloopError(Exception):
    """A call failed.

    Attributes:
        status: HTTP status; None when no answer came.
        title: the kind of problem, in a few words.
        detail: what is wrong, with the value.
        problem_type: the problem's type, a URI.
        errors: the fields that were refused.
        attempts: how often the call was tried.
        retry_after_seconds: how long the service asks to wait.
    """

    def __init__(
        self, title: str, detail: str, *, status: int | None = None, problem_type: str = "about:blank",
        errors: tuple[FieldErrorOut, ...] = (), retry_after_seconds: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.title = title
        self.detail = detail
        self.status = status
        self.problem_type = problem_type
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        self.attempts = 1

    def __str__(self) -> str:
        place = "no answer" if self.status is None else str(self.status)
        return f"{self.title} ({place}, attempt {self.attempts}): {self.detail}"

    @property
    def is_worth_another_attempt(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return False


class Refused(OfferloopError):
    """The service understood the call and refused it (4xx)."""


class BadRequest(Refused):
    """400: the body or a parameter is wrong; ``errors`` name the fields."""


class Unauthorized(Refused):
    """401: no API key, or an unknown one."""


class Forbidden(Refused):
    """403: the key's role does not suffice."""


class NotFound(Refused):
    """404: unknown decision, offer, customer or loop."""


class Conflict(Refused):
    """409: the decision_id was used for another request."""


class ServiceAway(OfferloopError):
    """No answer, or none that helps: connection, timeout, 429, 5xx, or something that is not the service."""

    @property
    def is_worth_another_attempt(self) -> bool:
        """Connection errors, timeouts and 429, 502, 503, 504; other answers would come again."""
        return self.status is None or self.status in REPEATED


REFUSALS: Mapping[int, type[Refused]] = {
    400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict,
}  # fmt: skip


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> OfferloopError:
    """The error that an answer other than 2xx stands for."""
    kind: type[OfferloopError] = ServiceAway
    if 400 <= status < 500 and status != 429:
        kind = REFUSALS.get(status, Refused)
    problem = _problem(content)
    return kind(
        str(problem.get("title", "Unexpected answer")),
        str(problem.get("detail") or content[:200].decode("utf-8", "replace") or "the answer is empty"),
        status=status,
        problem_type=str(problem.get("type", "about:blank")),
        errors=tuple(entry for entry in problem.get("errors", ()) if isinstance(entry, dict)),  # type: ignore[misc]
        retry_after_seconds=seconds_of(headers.get("retry-after"), datetime.now(UTC)),
    )


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """A Retry-After header, seconds or a date, as seconds from now; None when it says nothing that can be read."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max((moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds(), 0.0)


def _problem(content: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
