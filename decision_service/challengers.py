"""Challengers that decide for a share of the customers, held in memory beside the loops' own policies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from adapters.snapshots import SnapshotStore, policy_key
from adapters.telemetry import ServiceMetrics
from contextual_bandit.canary import canary_of
from contextual_bandit.decide import ServingPolicy
from contextual_bandit.holdout import in_holdout
from contextual_bandit.loops import Challenger, LoopConfig
from contextual_bandit.vowpal import VowpalPolicy
from decision_service.retired import Retired

log = logging.getLogger(__name__)


class Challengers:
    """Policies of challengers with a share, by loop and name; one without a published model is not here yet."""

    def __init__(
        self, snapshots: SnapshotStore, metrics: ServiceMetrics, warm: Callable[[VowpalPolicy], None],
        retired: Retired,
    ) -> None:  # fmt: skip
        self._snapshots = snapshots
        self._metrics = metrics
        self._warm = warm
        self._retired = retired
        self._policies: dict[tuple[str, str], ServingPolicy] = {}
        # By policy: the announced snapshot and the arguments that were looked at last.
        self._looked: dict[tuple[str, str], tuple[str | None, str]] = {}

    def deciding(self, loop: LoopConfig, customer_id: str | None) -> ServingPolicy | None:
        """The challenger's policy that decides for a customer; None where the loop's own does.

        The held out are nobody's, and so are all customers of a loop whose policy does not decide.
        """
        name = canary_of(loop.loop, customer_id, loop.challengers)
        if name is None or loop.learning_mode != "online" or in_holdout(loop.loop, customer_id, loop.holdout):
            return None
        return self._policies.get((loop.loop, name))

    async def refresh(
        self, loops: Iterable[LoopConfig], versions: Mapping[str, str], newest: Mapping[str, str] | None = None
    ) -> None:
        """Load what was announced of challengers that have a share, and let go of the others.

        ``newest`` are snapshots by policy, where PostgreSQL was asked for them.
        """
        wanted = {(config.loop, one.name): one for config in loops for one in config.challengers if one.share > 0}
        for key in [key for key in self._looked if key not in wanted]:
            self._looked.pop(key)
            self._put(key, None)
        for key, challenger in wanted.items():
            name = policy_key(*key)
            announced = versions.get(f"snapshot:{name}") if newest is None else newest.get(name)
            look = (announced, challenger.arguments)
            if self._looked.get(key) != look:
                await self._load(key, challenger)
                self._looked[key] = look

    async def _load(self, key: tuple[str, str], challenger: Challenger) -> None:
        loop, name = key
        snapshot = await asyncio.to_thread(lambda: self._snapshots.newest(loop, published=True, challenger=name))
        if snapshot is None or snapshot.arguments != challenger.arguments:
            # Not trained yet, or not under the arguments of now: the loop's own policy decides meanwhile.
            self._put(key, None)
            return
        serving = self._policies.get(key)
        if serving is not None and serving.snapshot_id == snapshot.snapshot_id:
            return
        try:
            policy = await asyncio.to_thread(VowpalPolicy, snapshot.setting, snapshot.model)
            await asyncio.to_thread(self._warm, policy)
        except (RuntimeError, ValueError):
            # Nobody else waits for a challenger: not the loops' own policies, nor kill switches.
            log.exception("a challenger cannot be loaded", extra={"loop": loop, "challenger": name})
            self._put(key, None)
            return
        self._put(key, ServingPolicy(policy, snapshot.policy_id, snapshot.snapshot_id))

    def _put(self, key: tuple[str, str], fresh: ServingPolicy | None) -> None:
        """Swap a policy between two requests, and let the one before it go."""
        before = self._policies.pop(key, None)
        if fresh is not None:
            self._policies[key] = fresh
            self._metrics.swaps.labels(policy_key(*key)).inc()
            log.info("swapped in", extra={"loop": key[0], "challenger": key[1], "snapshot_id": fresh.snapshot_id})
        if before is not None:
            self._retired.add(before)
