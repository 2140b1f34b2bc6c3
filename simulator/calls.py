"""Many repeatable calls to a running service at once, as a shop's servers would make them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import httpx

ATTEMPTS = 6


class CallRefused(RuntimeError):
    """The service refused a call, or stayed away."""


class Caller:
    """At most ``in_flight`` calls at a time. Every call carries its own id, so one that failed is made again."""

    def __init__(self, client: httpx.AsyncClient, in_flight: int) -> None:
        self._client = client
        self._room = asyncio.Semaphore(in_flight)

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The parsed answer; a broken connection or a 503 is tried again.

        Raises:
            CallRefused: any other error status, or all tries failed.
        """
        return (await self.timed_call(method, path, body))[0]

    async def timed_call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[Any, float]:
        """The parsed answer and how many seconds the try that brought it took."""
        trouble = ""
        for attempt in range(ATTEMPTS):
            try:
                async with self._room:
                    started = time.perf_counter()
                    answer = await self._client.request(method, path, json=body)
                    seconds = time.perf_counter() - started
            except httpx.TransportError as error:
                trouble = repr(error)
            else:
                if answer.is_success:
                    return answer.json(), seconds
                trouble = f"{answer.status_code} {answer.text[:500]}"
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    break
            await asyncio.sleep(0.1 * 2**attempt)
        raise CallRefused(f"{method} {path}: {trouble}")

    @staticmethod
    async def together(calls: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        """The answers in order; the first error ends all."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(call) for call in calls]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]
