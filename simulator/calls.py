"""Many repeatable calls to a running service at once, as a shop's servers would make them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

import httpx

ATTEMPTS = 6


class CallRefused(RuntimeError):
    """The service refused a call, or stayed away."""


class Caller:
    """At most ``in_flight`` calls at a time, each on a connection of its own; use it as a context manager.

    Every call carries its own id, so one that failed is made again. A client per connection, because the pool of one
    client looks at all its connections for every call.
    """

    def __init__(self, address: str, in_flight: int, headers: Mapping[str, str] | None = None) -> None:
        self._address = address
        self._headers = headers
        self._in_flight = in_flight
        self._free: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the clients; their connections come with the first calls."""
        context = httpx.create_ssl_context()
        for _ in range(self._in_flight):
            client = httpx.AsyncClient(base_url=self._address, headers=self._headers, timeout=60.0, verify=context)
            self._free.put_nowait(await self._stack.enter_async_context(client))
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close them."""
        await self._stack.aclose()

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
                client = await self._free.get()
                try:
                    started = time.perf_counter()
                    answer = await client.request(method, path, json=body)
                    seconds = time.perf_counter() - started
                finally:
                    self._free.put_nowait(client)
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
