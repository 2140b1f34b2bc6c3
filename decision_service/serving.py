"""What a service process holds in memory: loops, catalogue, keys and policies, swapped in as they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import redis
import redis.asyncio

from adapters.catalogue import LoopStore, OfferCatalogue
from adapters.keys import KeyStore
from adapters.snapshots import SnapshotStore
from adapters.streams import VERSIONS_KEY
from adapters.telemetry import ServiceMetrics
from contextual_bandit.decide import ServingPolicy
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Action, Context, Features, Offer
from contextual_bandit.vowpal import VowpalPolicy, policy_id
from decision_service.access import Access

log = logging.getLogger(__name__)
FULL_LOOK_EVERY = 40


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All offers at one version, by id, and each one's features as the policy sees them."""

    version: int
    offers: Mapping[str, Offer]
    features: Mapping[str, Features]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the state comes from."""

    catalogue: OfferCatalogue
    loops: LoopStore
    keys: KeyStore
    snapshots: SnapshotStore


class Serving:
    """The state that rank calls read; they never wait for it to change."""

    def __init__(
        self, sources: Sources, client: redis.asyncio.Redis, access: Access, metrics: ServiceMetrics,
        poll_seconds: float,
    ) -> None:  # fmt: skip
        self.catalogue = Catalogue(-1, {}, {})
        self.loops: Mapping[str, LoopConfig] = {}
        self.policies: dict[str, ServingPolicy] = {}
        self._sources = sources
        self._client = client
        self._access = access
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._seen: dict[str, str] = {}
        self._refreshing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load everything once, then follow changes."""
        await self.refresh()
        self._task = asyncio.create_task(self._follow(), name="serving")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self, *, full: bool = False) -> None:
        """Load what has changed since the last look; a failed part is tried again at the next look.

        With ``full`` everything is read again: a notice may have been lost between a commit and its announcement.
        """
        async with self._refreshing:
            if full:
                self._seen.clear()
            raw = cast("dict[bytes, bytes]", await self._client.hgetall(VERSIONS_KEY))
            versions = {name.decode(): value.decode() for name, value in raw.items()}
            if self._changed(versions, "loops"):
                loops = await asyncio.to_thread(self._sources.loops.all)
                self.loops = {config.loop: config for config in loops}
                self._seen["loops"] = versions.get("loops", "")
            if self._changed(versions, "catalogue"):
                offers = await asyncio.to_thread(self._sources.catalogue.all)
                self.catalogue = Catalogue(
                    int(versions.get("catalogue", "0")),
                    {offer.offer_id: offer for offer in offers},
                    {offer.offer_id: features_of(offer) for offer in offers},
                )
                self._seen["catalogue"] = versions.get("catalogue", "")
            if self._changed(versions, "keys"):
                keys = await asyncio.to_thread(self._sources.keys.live)
                self._access.keys = {mark: (key.name, key.role) for key, mark in keys}
                self._seen["keys"] = versions.get("keys", "")
            for loop in self.loops:
                announced = versions.get(f"snapshot:{loop}")
                if full:
                    announced = await asyncio.to_thread(self._sources.snapshots.newest_published_id, loop)
                await self._swap(loop, announced)

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
            await asyncio.to_thread(cast("VowpalPolicy", serving.policy).close)

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
                Context({}), [Action(offer.offer_id, features_of(offer), {}, offer.version) for offer in active]
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


def features_of(offer: Offer) -> Features:
    """A catalogue offer's features as the policy sees them."""
    return {"category": offer.category, **offer.features}


def utc_now() -> datetime:
    """The service's clock."""
    return datetime.now(UTC)
