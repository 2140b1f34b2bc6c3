"""What the Personalizer API writes to the log: a fault with where it happened, a designed answer without."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from decision_service import personalizer
from decision_service.personalizer import Personalizer
from decision_service.problems import Problem


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("not for others")


async def ask() -> httpx.Response:
    transport = httpx.ASGITransport(Personalizer(nothing))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post("/personalizer/v1.0/rank", json={})


@pytest.mark.parametrize(
    ("error", "status", "logged", "traced"),
    [
        (Problem(503, "Not ready", "the policy is not loaded yet"), 503, True, False),
        (Problem(404, "Not found", "no such loop"), 404, False, False),
        (ZeroDivisionError("a fault"), 500, True, True),
    ],
)
def test_only_faults_are_logged_with_a_traceback(
    error: Exception, status: int, logged: bool, traced: bool, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(personalizer, "_check_path", fail)
    with caplog.at_level(logging.WARNING, "decision_service.personalizer"):
        answer = asyncio.run(ask())
    assert answer.status_code == status
    assert [bool(record.exc_info) for record in caplog.records] == ([traced] if logged else [])
