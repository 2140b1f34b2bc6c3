"""What a service holds: kill switches while something large is loaded, and policies until nobody uses them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from adapters.kill_switches import Killed, KillSwitch
from adapters.table_marks import Marks
from contextual_bandit.decide import ServingPolicy
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Action, Context, PolicySnapshot
from contextual_bandit.vowpal import VowpalPolicy
from decision_service.access import Access
from decision_service.problems import Problem
from decision_service.retired import Retired
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
    """Sources of which the catalogue can be slow, and loops, snapshots and kill switches change."""

    def __init__(self) -> None:
        self.loops: list[LoopConfig] = []
        self.snapshot: PolicySnapshot | None = None
        self.may_load = threading.Event()
        self.may_load.set()
        self.on: list[KillSwitch] = []
        self.marks = Marks({}, {})

    def sources(self) -> Sources:
        def offers() -> list[Any]:
            self.may_load.wait(30.0)
            return []

        empty = SimpleNamespace(all=list, live=list, get=lambda _: None)
        loops = SimpleNamespace(all=lambda: list(self.loops))
        snapshots = SimpleNamespace(newest=lambda *_, **__: self.snapshot)
        switches = SimpleNamespace(on=lambda: list(self.on))
        marks = SimpleNamespace(read=lambda: self.marks)
        found = (SimpleNamespace(all=offers), loops, empty, snapshots, empty, empty, switches, marks)
        return Sources(*cast("tuple[Any, Any, Any, Any, Any, Any, Any, Any]", found))


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


def test_what_was_written_and_never_told_is_found_by_a_full_look_which_reads_nothing_else_again() -> None:
    async def go() -> None:
        versions, stores = Versions(), Stores()
        read: list[str] = []
        sources = stores.sources()
        told = SimpleNamespace(all=lambda: read.append("loops") or list(stores.loops))
        swaps = SimpleNamespace(swaps=SimpleNamespace(labels=lambda *_: SimpleNamespace(inc=lambda: None)))
        sources = replace(sources, loops=cast("Any", told))
        serving = Serving(sources, cast("Any", versions), Access(None), cast("Any", swaps), 10.0)
        stores.marks = Marks({"loops": "0:0", "catalogue": "0:0"}, {})
        await serving.start()
        await serving.refresh(full=True)
        assert read == ["loops"], "nothing was written since"
        stores.loops = [LoopConfig("homepage")]
        await serving.refresh()
        assert not serving.loops
        stores.marks = Marks({"loops": "1:734", "catalogue": "0:0"}, {})
        await serving.refresh(full=True)
        assert list(serving.loops) == ["homepage"]
        assert read == ["loops", "loops"]
        await serving.stop()

    asyncio.run(go())


def test_who_was_asleep_looks_before_it_decides_and_waits_for_nobody_who_is_away() -> None:
    async def go() -> None:
        versions, stores = Versions(), Stores()
        serving = Serving(stores.sources(), cast("Any", versions), Access(None), cast("Any", None), 10.0)
        await serving.start()
        assert not serving.was_asleep
        # What was told while this process stood still.
        stores.on = [SWITCH]
        versions.found[b"kill_switches"] = b"1"
        serving.looked_at -= 60.0
        assert serving.was_asleep
        await asyncio.gather(serving.wake(), serving.wake())
        assert serving.killed.loops == {"homepage"}
        assert not serving.was_asleep

        async def away(key: str, field: str) -> bytes | None:
            raise RedisConnectionError("away")

        versions.hget = away  # type: ignore[method-assign]
        serving.looked_at -= 60.0
        await serving.wake()
        assert not serving.was_asleep, "calls need not find out anew"
        assert serving.killed.loops == {"homepage"}
        await serving.stop()

    asyncio.run(go())


ACTIONS = [Action("a", {}), Action("b", {})]


def is_usable(serving: ServingPolicy) -> bool:
    """Whether a call that has it can still draw from it."""
    try:
        return len(serving.policy.distribution(Context({}), ACTIONS)) == len(ACTIONS)
    except (AttributeError, RuntimeError):
        return False


def test_a_policy_stays_usable_for_a_while_after_it_was_let_go() -> None:
    async def go() -> None:
        retired = Retired(keep_seconds=0.1)
        let_go = ServingPolicy(VowpalPolicy(LoopConfig("homepage").setting), "p", "s")
        retired.add(let_go)
        await retired.free()
        assert is_usable(let_go)
        await asyncio.sleep(0.11)
        await retired.free()
        assert not is_usable(let_go)

    asyncio.run(go())


def test_what_is_swapped_out_or_of_a_deleted_loop_is_let_go_and_still_usable_by_calls_under_way() -> None:
    async def go() -> None:
        versions, stores = Versions(), Stores()
        stores.loops = [LoopConfig("homepage"), LoopConfig("cart")]
        swaps = SimpleNamespace(swaps=SimpleNamespace(labels=lambda *_: SimpleNamespace(inc=lambda: None)))
        serving = Serving(stores.sources(), cast("Any", versions), Access(None), cast("Any", swaps), 10.0)
        serving.retired = Retired(keep_seconds=0.1)
        await serving.refresh()
        homepage, cart = stores.loops
        first, other = serving.policy_for(homepage, None), serving.policy_for(cart, None)
        stores.loops = [homepage]
        stores.snapshot = PolicySnapshot(
            "homepage-g1-9", "homepage", first.policy_id, 1, 9, NOW, None, homepage.arguments, 0.0, 1.0,
            cast("VowpalPolicy", first.policy).save(), "",
        )  # fmt: skip
        versions.found |= {b"loops": b"1", b"snapshot:homepage": b"homepage-g1-9"}
        await serving.refresh()
        second = serving.policy_for(homepage, None)
        assert second.snapshot_id == "homepage-g1-9"
        assert is_usable(first), "a call that began with it may draw again"
        assert is_usable(other)
        with pytest.raises(Problem, match="cart"):
            serving.policy_for(cart, None)
        await asyncio.sleep(0.11)
        await serving.refresh()
        assert not is_usable(first)
        assert not is_usable(other)
        assert is_usable(second)

    asyncio.run(go())
