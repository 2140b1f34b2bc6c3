"""A challenger takes its loop's own policy's place: all that changes with it, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import redis
from sqlalchemy import Connection, Engine

from adapters.catalogue import LoopStore, audit, edit_loop
from adapters.challengers import (
    CHAMPION,
    PREVIOUS,
    ChallengerRow,
    ChallengerStore,
    begin_challenger,
    remove_challenger,
)
from adapters.operations import OperationStore, finish_operation
from adapters.snapshots import SnapshotStore, add_snapshot
from contextual_bandit.loops import Challenger, LoopConfig
from contextual_bandit.types import PolicySnapshot

PROMOTED = "promoted"
ROLLED_BACK = "rolled_back"


class LoopGone(LookupError):
    """The loop was deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is stored when a challenger is promoted.

    Attributes:
        operation_id: that asked for it.
        name: of the challenger.
        actor: who asked.
        action: ``PROMOTED``, or ``ROLLED_BACK``.
        base: the loop's next generation, which the challenger's model begins.
        former: the loop's own policy up to now as the challenger ``PREVIOUS``: as it is followed from here on.
        former_snapshot: and as it can be served.
        result: what the operation tells.
        detail: what the audit log tells: the reason and the numbers.
    """

    operation_id: str
    name: str
    actor: str
    action: str
    base: PolicySnapshot
    former: ChallengerRow
    former_snapshot: PolicySnapshot
    result: Mapping[str, Any]
    detail: Mapping[str, Any]


class PromotionStore:
    """Where promotions are stored, with what is known of challengers and operations."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self.challengers = ChallengerStore(engine)
        self.operations = OperationStore(engine)
        self._engine = engine
        self._client = client

    def put(self, promotion: Promotion, now: datetime) -> LoopConfig:
        """Store a promotion and tell the services; returns the loop's settings as they are now.

        A promoted policy is watched from its first decision on where the loop has guardrails, one that was brought back
        is not: it would go to and fro.

        Raises:
            LoopGone: there is no such loop any more; nothing has changed.
            adapters.challengers.Overtaken: the previous policy was changed by somebody else; nothing has changed.
        """
        with self._engine.begin() as connection:
            stored = _put(connection, promotion, now)
        snapshots = SnapshotStore(self._engine, self._client)
        LoopStore(self._engine, self._client).announce()
        snapshots.announce(promotion.base)
        snapshots.announce(promotion.former_snapshot)
        return stored


def _put(connection: Connection, promotion: Promotion, now: datetime) -> LoopConfig:
    base, loop = promotion.base, promotion.base.loop
    stored = edit_loop(connection, loop, lambda config: promoted(config, promotion), promotion.actor, now)
    if stored is None:
        raise LoopGone(f"loop {loop!r} is gone")
    add_snapshot(connection, base, publish=True, now=now)
    remove_challenger(connection, loop, promotion.name, now)
    remove_challenger(connection, loop, CHAMPION, now)
    begin_challenger(connection, loop, promotion.former, now)
    add_snapshot(connection, promotion.former_snapshot, publish=True, now=now)
    if stored.guardrails and promotion.action == PROMOTED:
        watch: dict[str, Any] = {"watch": None, "served": 0, "guardrails": []}
        row = ChallengerRow(CHAMPION, base.generation, base.trained_through, 0, watch, None)
        begin_challenger(connection, loop, row, now)
    finish_operation(connection, promotion.operation_id, promotion.result, now)
    audit(connection, now, promotion.actor, promotion.action, loop, dict(promotion.detail))
    return stored


def promoted(config: LoopConfig, promotion: Promotion) -> LoopConfig:
    """The settings with the challenger's arguments, and with the former policy as the challenger ``PREVIOUS``."""
    others = tuple(one for one in config.challengers if one.name not in (promotion.name, PREVIOUS))
    former = Challenger(PREVIOUS, promotion.former_snapshot.arguments)
    return replace(config, arguments=promotion.base.arguments, challengers=(*others, former))
