"""Sessions: for a while a customer is shown the same decision again, so that nothing is drawn or logged twice.

A session is one decision. Drawing again with the same number would not do: what is known of a customer changes between
two calls, and with it the distribution, so that the second probability would depend on the first draw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import redis.asyncio
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.interaction_log import find_decision
from adapters.sessions import Session, SessionMark, Sessions, session_mark
from adapters.stream_writer import StreamWriter
from contextual_bandit import events
from contextual_bandit.baseline import BASELINE
from contextual_bandit.decide import Choice, ServingPolicy
from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import SlotAsked
from contextual_bandit.types import Decision


@dataclass(frozen=True, slots=True)
class SessionDecision(Decision):
    """A session's decision that is answered again; ``position`` is where it stands in the stream, if that is known."""

    position: str = ""


def session_decision(decision: Decision, position: str) -> SessionDecision:
    """A decision as it is answered again."""
    return SessionDecision(**{field.name: getattr(decision, field.name) for field in fields(Decision)},
                           position=position)  # fmt: skip


class StickySessions:
    """The sessions of the customers of loops with ``sticky_seconds``."""

    def __init__(self, client: redis.asyncio.Redis, writer: StreamWriter, engine: Engine, ttl_seconds: int) -> None:
        self._sessions = Sessions(client)
        self._writer = writer
        self._engine = engine
        self._ttl_seconds = ttl_seconds

    async def find(self, loop: LoopConfig, customer_id: str, at: datetime) -> tuple[SessionDecision | None, str | None]:
        """The decision of a customer's session at a moment, and what marks the session.

        No decision when there is none that holds, or nobody can say; no mark (None) when nobody can say.
        """
        session: Session | None = None
        mark: str | None = None
        if not self._writer.is_away:
            with self._writer.noting_absence():
                session = await self._sessions.find(loop.loop, customer_id)
                mark = session.value if session else ""
        if session is None or not _holds(loop, _milliseconds(at) - session.at_ms):
            return None, mark
        decision = await self._decision(loop.loop, session)
        if decision is None or (decision.decision_id, decision.customer_id) != (session.decision_id, customer_id):
            return None, mark
        return session_decision(decision, session.position), mark

    def mark(self, loop: LoopConfig | None, decision: Decision, before: str | None) -> SessionMark | None:
        """What is written with a decision that begins a session, in place of ``before``; None of one that does not."""
        if loop is None or not loop.sticky_seconds:
            return None
        if decision.customer_id is None or decision.use == "fallback":
            return None
        is_simulated = loop.clock == "simulated"
        at = decision.occurred_at if is_simulated else decision.decided_at
        # Nobody knows how fast simulated time goes.
        keep_ms = self._ttl_seconds * 1000 if is_simulated else max(int(loop.sticky_seconds * 1000), 1)
        return session_mark(loop.loop, decision.customer_id, decision.decision_id, _milliseconds(at), keep_ms, before)

    async def _decision(self, loop: str, session: Session) -> Decision | None:
        if session.message:
            return events.decision_from(events.decode(session.position, session.message).payload)
        try:
            stored = await asyncio.to_thread(find_decision, self._engine, loop, session.decision_id)
        except SQLAlchemyError:
            return None
        return stored.decision if stored else None


def _holds(loop: LoopConfig, age_ms: int) -> bool:
    """Whether a session still goes on. On a wall clock one of a moment later is that of a call which was faster."""
    return age_ms < loop.sticky_seconds * 1000 and (age_ms >= 0 or loop.clock == "wall")


def goes_on(
    decision: Decision, loop: LoopConfig, serving: ServingPolicy, choice: Choice, slots: Sequence[SlotAsked] | None,
    *, deferred: bool,
) -> bool:  # fmt: skip
    """Whether a session's decision still answers what is asked now.

    Args:
        decision: the session's.
        loop: the loop's settings of now.
        serving: what would decide now.
        choice: what it would decide among.
        slots: what is asked of each slot; None when no slots are asked for.
        deferred: whether the decision would count only once it is activated.
    """
    is_like = decision.use != "fallback" and decision.learning_mode == loop.learning_mode
    if not is_like or decision.deferred != deferred or (decision.policy_id == BASELINE) != serving.stands_in:
        return False
    if _slots_of(decision) != (None if slots is None else tuple(slots)):
        return False
    # An offer that is no longer eligible, also one that was killed, ends the session.
    shown = {decision.shown(index).offer_id for index in range(len(decision.slots))}
    return shown <= {choice.fallback.offer_id, *(action.offer_id for action in choice.actions)}


def _slots_of(decision: Decision) -> tuple[SlotAsked, ...] | None:
    if not decision.has_slots:
        return None
    return tuple(SlotAsked(slot.slot_id, slot.features, slot.baseline, slot.exclude) for slot in decision.slots)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
