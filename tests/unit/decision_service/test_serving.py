"""Kill switches are gone by while something large is loaded, and nothing lost keeps one from being seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from adapters.kill_switches import Killed, KillSwitch
from decision_service.access import Access
from decision_service.serving import Serving, Sources

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SWITCH = KillSwitch("loop", "homepage", True, "a test", "somebody", NOW)


class Versions:
    """What services watch in Redis, and nothing else of it."""

    def __init__(self) -> None:
        self.found: dict[bytes, bytes] = {}

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        return dict(self.found)

    async def hget(self, key: str, field: str) -> bytes | None:
        return self.found.get(field.encode())

    def pipeline(self, *, transaction: bool) -> Any:
        async def execute() -> None:
            return None

        return SimpleNamespace(
            sadd=lambda *_: None, set=lambda *_, **__: None, srem=lambda *_: None, delete=lambda *_: None,
            execute=execute,
        )  # fmt: skip


class Stores:
    """Sources of which the catalogue can be slow, and the kill switches change."""

    def __init__(self) -> None:
        self.may_load = threading.Event()
        self.may_load.set()
        self.on: list[KillSwitch] = []

    def sources(self) -> Sources:
        def offers() -> list[Any]:
            self.may_load.wait(30.0)
            return []

        empty = SimpleNamespace(all=list, live=list, get=lambda _: None)
        switches = SimpleNamespace(on=lambda: list(self.on))
        found = (SimpleNamespace(all=offers), empty, empty, empty, empty, empty, switches)
        return Sources(*cast("tuple[Any, Any, Any, Any, Any, Any, Any]", found))


async def holds(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_switch_is_seen_while_the_catalogue_is_loaded_and_when_its_notice_was_lost() -> None:
    async def go() -> None:
        versions, stores = Versions(), Stores()
        serving = Serving(stores.sources(), cast("Any", versions), Access(None), cast("Any", None), 0.01)
        await serving.start()
        assert serving.killed == Killed()
        stores.may_load.clear()
        versions.found[b"catalogue"] = b"1"
        await asyncio.sleep(0.05)
        stores.on = [SWITCH]
        versions.found[b"kill_switches"] = b"1"
        await holds(lambda: serving.killed.loops == {"homepage"})
        assert serving.catalogue.version == 0, "it is still loaded"
        stores.may_load.set()
        await holds(lambda: serving.catalogue.version == 1)
        stores.on = []
        await holds(lambda: not serving.killed.loops)
        await serving.stop()

    asyncio.run(go())
