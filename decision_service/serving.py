"""What a service process holds in memory: loops, catalogue, keys and policies, swapped in as they change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import redis
import redis.asyncio
from sqlalchemy.exc import SQLAlchemyError

from adapters.catalogue import LoopStore, OfferCatalogue
from adapters.keys import KeyStore
from adapters.kill_switches import SWITCHES, Killed, KillSwitchStore, killed_by
from adapters.live_workers import LIVES_SECONDS, LiveWorker
from adapters.precomputed import PrecomputedStore, precomputed_key
from adapters.regions import RegionStore
from adapters.snapshots import SnapshotStore
from adapters.streams import VERSIONS_KEY
from adapters.table_marks import Marks, TableMarks
from adapters.telemetry import ServiceMetrics
from contextual_bandit.actions import offer_features
from contextual_bandit.decide import ServingPolicy, stand_in
from contextual_bandit.eligibility import NO_RULES, LoopRules, prepare_rules
from contextual_bandit.loops import LoopConfig
from contextual_bandit.season import Region
from contextual_bandit.types import Action, Context
from contextual_bandit.vowpal import VowpalPolicy, policy_id
from decision_service.access import Access
from decision_service.challengers import Challengers
from decision_service.held import PRECOMPUTED, Catalogue, Precomputed, make_catalogue, same_where_equal
from decision_service.problems import not_found
from decision_service.retired import Retired

log = logging.getLogger(__name__)
FULL_LOOK_EVERY = 40
# Well within the time after which a silent worker counts as dead.
TELL_EVERY_SECONDS = 1.0
# Who has not looked for so long may count as dead already.
ASLEEP_SECONDS = LIVES_SECONDS - TELL_EVERY_SECONDS
WAKE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the state comes from."""

    catalogue: OfferCatalogue
    loops: LoopStore
    keys: KeyStore
    snapshots: SnapshotStore
    regions: RegionStore
    precomputed: PrecomputedStore
    kill_switches: KillSwitchStore
    marks: TableMarks


class Serving:
    """The state that rank calls read; they never wait for it to change."""

    def __init__(
        self, sources: Sources, client: redis.asyncio.Redis, access: Access, metrics: ServiceMetrics,
        poll_seconds: float,
    ) -> None:  # fmt: skip
        self.catalogue = Catalogue()
        self.loops: Mapping[str, LoopConfig] = {}
        self.regions: Mapping[str, Region] = {}
        self.precomputed = Precomputed()
        self.killed = Killed()
        self._rules: Mapping[str, LoopRules] = {}
        self.policies: dict[str, ServingPolicy] = {}
        self.retired = Retired()
        self._challengers = Challengers(sources.snapshots, metrics, self._warm, self.retired)
        self._sources = sources
        self._client = client
        self._access = access
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._seen: dict[str, str] = {}
        self._marks = Marks({}, {})
        self._refreshing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._worker = LiveWorker(client)
        self._told_at = 0.0
        self._told: tuple[Mapping[str, tuple[int, str]], int] = ({}, 0)
        self._switches = -1
        self._throwing = asyncio.Lock()
        self._waking = asyncio.Lock()
        self.looked_at = time.monotonic()
        self._is_loaded = False

    async def start(self) -> None:
        """Load everything once, then follow changes."""
        await self.refresh(full=True)
        self._tasks = [
            asyncio.create_task(self._follow(), name="serving"),
            asyncio.create_task(self._follow_switches(), name="kill-switches"),
        ]

    async def stop(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        with suppress(redis.RedisError):
            await self._worker.leave()

    @property
    def was_asleep(self) -> bool:
        """Whether this process has not run for a while: others may wait for it no more, and have gone on."""
        return time.monotonic() - self.looked_at > ASLEEP_SECONDS and self._is_loaded

    async def wake(self) -> None:
        """Look before deciding, where ``was_asleep``; who comes meanwhile waits too."""
        async with self._waking:
            if self.was_asleep:
                # Stores that are away keep nobody waiting for long.
                with suppress(redis.RedisError, SQLAlchemyError, TimeoutError):
                    async with asyncio.timeout(WAKE_SECONDS):
                        await self.refresh()
                self.looked_at = time.monotonic()

    async def refresh(self, *, full: bool = False) -> None:
        """Load what has changed since the last look; a failed part is tried again at the next look.

        With ``full`` what stands in PostgreSQL is asked for too: a notice may have been lost between a commit and its
        announcement.
        """
        await self._refresh_switches(full=full)
        async with self._refreshing:
            if full:
                await self._look_for_changes()
            raw = cast("dict[bytes, bytes]", await self._client.hgetall(VERSIONS_KEY))
            versions = {name.decode(): value.decode() for name, value in raw.items()}
            if self._changed(versions, "loops"):
                loops = await asyncio.to_thread(self._sources.loops.all)
                self._rules = {config.loop: prepare_rules(config.rules) for config in loops if config.rules}
                self.loops = same_where_equal(self.loops, {config.loop: config for config in loops})
                for name in self.policies.keys() - self.loops.keys():
                    self.retired.add(self.policies.pop(name))
                self._seen["loops"] = versions.get("loops", "")
            if self._changed(versions, "catalogue"):
                offers = await asyncio.to_thread(self._sources.catalogue.all)
                version = int(versions.get("catalogue", "0"))
                self.catalogue = await asyncio.to_thread(make_catalogue, version, offers, self.catalogue)
                self._seen["catalogue"] = versions.get("catalogue", "")
            if self._changed(versions, "regions"):
                found = await asyncio.to_thread(self._sources.regions.all)
                self.regions = same_where_equal(self.regions, {region.region: region for region in found})
                self._seen["regions"] = versions.get("regions", "")
            if self._changed(versions, "keys"):
                keys = await asyncio.to_thread(self._sources.keys.live)
                self._access.keys = {mark: (key.name, key.role) for key, mark in keys}
                self._seen["keys"] = versions.get("keys", "")
            await self._refresh_precomputed(versions)
            for loop in self.loops:
                newest = self._marks.snapshots.get(loop) if full else versions.get(f"snapshot:{loop}")
                await self._swap(loop, newest)
            await self._challengers.refresh(self.loops.values(), versions, self._marks.snapshots if full else None)
            await self.retired.free()
            self._is_loaded = True
            await self._tell()

    async def _look_for_changes(self) -> None:
        """Have read again whatever was written since the last such look, told or not."""
        marks = await asyncio.to_thread(self._sources.marks.read)
        for name in marks.tables.keys() | self._marks.tables.keys():
            if marks.tables.get(name) != self._marks.tables.get(name):
                self._seen.pop(name, None)
        self._marks = marks

    async def _refresh_switches(self, *, full: bool = False) -> None:
        """Go by the kill switches as they are now; it waits for nothing that is loaded meanwhile, however large."""
        async with self._throwing:
            raw = await cast("Awaitable[bytes | None]", self._client.hget(VERSIONS_KEY, SWITCHES))
            version = int(raw or 0)
            if version == self._switches and not full:
                return
            self.killed = killed_by(await asyncio.to_thread(self._sources.kill_switches.on))
            self._switches = version
            if self._is_loaded:
                await self._tell()

    async def _tell(self) -> None:
        """Let those who wait for it know what this worker serves now."""
        served = {
            loop: (config.version, self.policies[loop].snapshot_id)
            for loop, config in self.loops.items() if loop in self.policies
        }  # fmt: skip
        told = (served, self._switches)
        now = time.monotonic()
        if told != self._told or now - self._told_at >= TELL_EVERY_SECONDS:
            await self._worker.tell(*told)
            self._told, self._told_at = told, now

    async def _refresh_precomputed(self, versions: Mapping[str, str]) -> None:
        """Take over what jobs computed since the last look."""
        for name in PRECOMPUTED:
            key = precomputed_key(name)
            if self._changed(versions, key):
                value = await asyncio.to_thread(self._sources.precomputed.get, name)
                try:
                    if value is not None:
                        self.precomputed = self.precomputed.with_value(name, value)
                except (ValueError, KeyError, TypeError):
                    log.exception("a precomputed value cannot be read", extra={"precomputed": name})
                self._seen[key] = versions.get(key, "")

    def regions_by_name(self, region: str) -> Region | None:
        """A region's record."""
        return self.regions.get(region)

    def policy_for(self, loop: LoopConfig, customer_id: str | None) -> ServingPolicy:
        """What decides for a customer now: the loop's own policy, a challenger, or while it is killed the baseline.

        Raises:
            Problem: 404, the loop was deleted since its settings were read.
        """
        if loop.loop in self.killed.loops:
            return stand_in(loop)
        own = self.policies.get(loop.loop)
        if own is None:
            raise not_found("loop", loop.loop)
        if loop.challengers:
            return self._challengers.deciding(loop, customer_id) or own
        return own

    def rules_of(self, loop: str) -> LoopRules:
        """A loop's own rules, ready to be asked."""
        return self._rules.get(loop, NO_RULES)

    def _changed(self, versions: Mapping[str, str], name: str) -> bool:
        return self._seen.get(name) != versions.get(name, "")

    async def _swap(self, loop: str, announced: str | None) -> None:
        """Load the announced snapshot beside the serving one, then replace it between two requests."""
        serving = self.policies.get(loop)
        if serving is not None and (announced is None or serving.snapshot_id == announced):
            return
        fresh = await asyncio.to_thread(self._load, loop)
        if serving is not None and serving.snapshot_id == fresh.snapshot_id:
            await asyncio.to_thread(cast("VowpalPolicy", fresh.policy).close)
            return
        self.policies[loop] = fresh
        self._metrics.swaps.labels(loop).inc()
        log.info("swapped in", extra={"loop": loop, "snapshot_id": fresh.snapshot_id})
        if serving is not None:
            self.retired.add(serving)

    def _load(self, loop: str) -> ServingPolicy:
        snapshot = self._sources.snapshots.newest(loop, published=True)
        if snapshot is None:
            # The learner has not begun: untrained, exactly as its first snapshot will be.
            config = self.loops[loop]
            policy = VowpalPolicy(config.setting)
            return ServingPolicy(policy, policy_id(config.arguments), f"{loop}-g1-0")
        policy = VowpalPolicy(snapshot.setting, snapshot.model)
        self._warm(policy)
        return ServingPolicy(policy, snapshot.policy_id, snapshot.snapshot_id)

    def _warm(self, policy: VowpalPolicy) -> None:
        """Parse the catalogue's active offers before the first request needs them."""
        active = [offer for offer in self.catalogue.offers.values() if offer.status == "active"]
        if active:
            policy.distribution(
                Context({}), [Action(offer.offer_id, offer_features(offer), {}, offer.version) for offer in active]
            )

    async def _follow(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(self._poll_seconds)
            looks += 1
            try:
                await self.refresh(full=looks % FULL_LOOK_EVERY == 0)
            except Exception:
                log.exception("cannot refresh; serving goes on with what is loaded")

    async def _follow_switches(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            began = time.monotonic()
            try:
                await self._refresh_switches()
                self.looked_at = began
            except Exception:
                log.exception("cannot look for kill switches; those that are known hold")
                # Calls need not find out anew.
                self.looked_at = time.monotonic()


def utc_now() -> datetime:
    """The service's clock."""
    return datetime.now(UTC)
