"""Single reads that come at the same time, asked of the store in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Together(Generic[Key, Value]):
    """Collects keys while a read is under way and reads them all next; the read runs in a thread.

    An error of a read is raised to each of its callers.
    """

    def __init__(self, read_many: Callable[[Sequence[Key]], Mapping[Key, Value]]) -> None:
        """``read_many`` gives the values of the keys that exist."""
        self._read_many = read_many
        self._waiting: dict[Key, asyncio.Future[Value | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value | None:
        """The value of a key, or None."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._read(), name="together")
        # One caller that gives up must not cancel the read of the others.
        return await asyncio.shield(future)

    async def _read(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                try:
                    found = await asyncio.to_thread(self._read_many, list(batch))
                except Exception as error:
                    for future in batch.values():
                        future.set_exception(error)
                        # Retrieved here too: its callers may all have gone.
                        future.exception()
                else:
                    for key, future in batch.items():
                        future.set_result(found.get(key))
        finally:
            self._task = None
