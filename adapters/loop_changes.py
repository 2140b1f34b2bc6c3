"""Changes of a loop, told to its learner: the change is stored, then a control event enters the loop's stream.

The service and the job of automatic optimisation change loops in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from sqlalchemy import Engine, delete

from adapters.catalogue import LoopStore
from adapters.operations import OperationStore
from adapters.streams import StreamReader, loop_stream
from adapters.tables import apprentice_counts
from contextual_bandit import events
from contextual_bandit.loops import LoopConfig

# A control event carries no moment of its own, so that it moves no simulated clock.
CONTROL_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Changed:
    """The settings as they are stored now, and the operation that replays the log for them, if they need one."""

    config: LoopConfig
    operation_id: str | None


def change_loop(
    engine: Engine, client: redis.Redis, current: LoopConfig | None, wanted: LoopConfig, actor: str, now: datetime
) -> Changed:
    """Store a loop's settings, and have its log replayed when what its model learns has changed.

    Args:
        engine: where settings are.
        client: where streams are.
        current: what is stored, also of a deleted loop; None for a new one.
        wanted: what shall be; its version is given here.
        actor: who asks.
        now: the time of it.
    """
    operation_id = None
    if current is not None and current.lesson != wanted.lesson:
        # Before the settings: a crash in between must not lose it. It begins with the version that comes next.
        detail = {"arguments": wanted.arguments, "rewards": current.reward != wanted.reward}
        operations = OperationStore(engine)
        operation_id = operations.add(
            wanted.loop, "replay", actor, now, version=current.version + 1, detail=detail
        )  # fmt: skip
    if wanted.learning_mode == "apprentice" and (current is None or current.learning_mode != "apprentice"):
        with engine.begin() as connection:
            connection.execute(delete(apprentice_counts).where(apprentice_counts.c.loop == wanted.loop))
    is_of_challengers = current is None or current.challengers != wanted.challengers
    stored = LoopStore(engine, client).put(wanted, actor, now, keep_challengers=not is_of_challengers)
    tell_learner(client, stored.loop, "loop_changed", actor, {"version": stored.version})
    return Changed(stored, operation_id)


def tell_learner(client: redis.Redis, loop: str, action: str, actor: str, more: Mapping[str, Any]) -> None:
    """Append a control event to a loop's stream."""
    payload = {"action": action, "actor": actor, **more}
    StreamReader(client).append(loop_stream(loop), events.encode(events.CONTROL, CONTROL_TIME, payload))
