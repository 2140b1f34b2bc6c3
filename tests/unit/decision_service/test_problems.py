"""What callers and the log are told about errors: the field that is meant, in plain words, and tracebacks of faults."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
import redis
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import Request

from contextual_bandit.loops import Guardrail
from decision_service.access import Access
from decision_service.app import ROUTERS
from decision_service.bodies import loop_of
from decision_service.loop_schemas import LoopIn
from decision_service.personalizer import KEY_HEADERS
from decision_service.personalizer_errors import personalizer_error
from decision_service.problems import Problem, answer, problem_of
from decision_service.schemas import RewardIn

REQUEST = {"type": "http", "method": "POST", "path": "/v1/reward", "query_string": b"", "headers": []}
HERE = {**REQUEST, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080)}


def refused(body: dict[str, Any]) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        RewardIn.model_validate(body)
    return caught.value


def test_messages_are_those_of_the_check_alone() -> None:
    error = refused({"decision_id": "d", "value": 1.0, "occurred_at": 5})
    found = problem_of(RequestValidationError(error.errors()))
    assert [one.message for one in found.errors] == [
        "a moment must be text with an offset, such as 2026-03-02T09:30:00Z"
    ]
    assert found.detail == "occurred_at: a moment must be text with an offset, such as 2026-03-02T09:30:00Z, got 5"
    told = personalizer_error(error, "BadRequest")
    assert told.message.startswith("occurred_at: a moment must be")


def test_a_body_that_is_no_json_has_no_field() -> None:
    entry = {"type": "json_invalid", "loc": ("body", 6), "msg": "JSON decode error", "input": {},
             "ctx": {"error": "Expecting value"}}  # fmt: skip
    found = problem_of(RequestValidationError([entry]))
    (error,) = found.errors
    assert (error.field, error.value) == ("body", None)
    assert found.detail.startswith("body: is not valid JSON: Expecting value (char 6)")


def test_no_router_hides_routes_in_another() -> None:
    """The application reads the bodies of the routes that it is given strictly; it sees none of included routers."""
    assert all(hasattr(route, "path") for router in ROUTERS for route in router.routes)


@pytest.mark.parametrize(
    ("error", "level", "traced"),
    [
        (Problem(503, "No learner", "no learner takes it"), logging.WARNING, False),
        (redis.ConnectionError("gone"), logging.ERROR, True),
        (Problem(400, "Bad request", "no"), None, False),
    ],
)
def test_only_what_nobody_foresaw_is_traced(
    error: Exception, level: int | None, traced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    response = asyncio.run(answer(Request(REQUEST), error))
    assert [(one.levelno, bool(one.exc_info)) for one in caplog.records] == ([] if level is None else [(level, traced)])
    assert (response.headers.get("Retry-After") == "1") == (response.status_code == 503)
    assert json.loads(bytes(response.body))["status"] == response.status_code


def test_who_sends_no_key_is_told_where_it_goes() -> None:
    access = Access("secret")
    with pytest.raises(Problem, match="X-Api-Key") as native:
        access.actor(Request(HERE), "page")
    assert "Ocp-Apim" not in native.value.detail
    with pytest.raises(Problem, match="Ocp-Apim-Subscription-Key"):
        access.actor(Request(HERE), "page", KEY_HEADERS)


def loop_in(metric: str, **reward: Any) -> LoopIn:
    guardrails = [{"metric": "reward", "low": 0.0}, {"metric": metric, "low": 0.0}]
    return LoopIn.model_validate({"guardrails": guardrails, "reward": reward})


@pytest.mark.parametrize("metric", ["fallback_rate", "outcome:click", "outcome:value"])
def test_guardrails_that_can_be_broken(metric: str) -> None:
    assert loop_of("homepage", loop_in(metric)).guardrails[1] == Guardrail(metric, low=0.0)


def test_a_guardrail_on_outcomes_that_cannot_be() -> None:
    with pytest.raises(Problem, match="there are no outcomes of kind 'clik'; the loop knows: click, ") as caught:
        loop_of("homepage", loop_in("outcome:clik"))
    (error,) = caught.value.errors
    assert (caught.value.status, error.field, error.value) == (400, "guardrails.1.metric", "outcome:clik")
    with pytest.raises(Problem, match="the loop knows: sale, value"):
        loop_of("homepage", loop_in("outcome:click", kinds={"sale": 1}))
