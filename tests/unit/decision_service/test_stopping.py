"""A service that stops goes on without a part that does not."""

from __future__ import annotations

import asyncio
import logging

import pytest

from decision_service import state


def test_a_part_that_does_not_stop_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state, "STOP_SECONDS", 0.05)
    stopped = []

    async def at_once() -> None:
        stopped.append("quick")

    async def never() -> None:
        await asyncio.Event().wait()

    async def go() -> None:
        await state._stopped("stuck", never)
        await state._stopped("quick", at_once)

    with caplog.at_level(logging.ERROR):
        asyncio.run(asyncio.wait_for(go(), 10.0))
    assert stopped == ["quick"]
    assert [record.__dict__["part"] for record in caplog.records] == ["stuck"]
