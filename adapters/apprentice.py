"""How well an apprentice matches the baseline that is served: counted with each commit of the loop's writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.postgresql import insert

from adapters.tables import apprentice_counts
from contextual_bandit.events import from_text, to_text
from contextual_bandit.joined import Closed
from contextual_bandit.slots import is_match


@dataclass(frozen=True, slots=True)
class Matches:
    """Events of an apprentice: closed decisions, or each slot of them.

    Attributes:
        events: how many.
        imitated: of these, where the model's own choice was what the baseline showed.
        reward_sum: what the baseline earned on all.
        imitated_reward_sum: what it earned where the model chose the same: what the model would have earned at least
            there. Over ``reward_sum`` this is the share of the baseline's rewards that the model reaches.
    """

    events: int = 0
    imitated: int = 0
    reward_sum: float = 0.0
    imitated_reward_sum: float = 0.0

    def plus(self, other: Matches) -> Matches:
        """Both together."""
        return Matches(
            self.events + other.events, self.imitated + other.imitated, self.reward_sum + other.reward_sum,
            self.imitated_reward_sum + other.imitated_reward_sum,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApprenticeCounts:
    """What was counted since the loop became an apprentice; ``started_at`` and ``last_at`` are stream time."""

    total: Matches
    last_batch: Matches
    started_at: datetime
    last_at: datetime


def matches_of(closed: Sequence[Closed]) -> Matches:
    """What closed decisions count for; those without an apprentice's choice, and slots with a fallback, for nothing."""
    found = Matches()
    for one in closed:
        decision = one.decision
        if decision.use != "baseline" or not decision.own:
            continue
        for index, reward in enumerate(one.slot_rewards or (one.reward,)):
            if decision.slots[index].fallback is not None:
                continue
            matched = is_match(decision, index)
            found = found.plus(Matches(1, int(matched), reward, reward if matched else 0.0))
    return found


def count_matches(connection: Connection, loop: str, closed: Sequence[Closed]) -> None:
    """Add a batch to a loop's counts, in the transaction that commits it."""
    batch = matches_of(closed)
    if not batch.events:
        return
    seen = [one for one in closed if one.decision.own]
    started_at, last_at = min(one.opened_at for one in seen), max(one.closed_at for one in seen)
    query = select(apprentice_counts.c.counts).where(apprentice_counts.c.loop == loop)
    stored = connection.execute(query).scalar_one_or_none()
    counts = ApprenticeCounts(batch, batch, started_at, last_at)
    if stored is not None:
        before = _counts(stored)
        counts = replace(counts, total=before.total.plus(batch), started_at=before.started_at)
    row = {"loop": loop, "counts": _record(counts), "updated_at": last_at}
    connection.execute(
        insert(apprentice_counts).values(row).on_conflict_do_update(index_elements=["loop"], set_=row)
    )  # fmt: skip


def find_counts(engine: Engine, loop: str) -> ApprenticeCounts | None:
    """A loop's counts; None when it was no apprentice, or nothing closed yet."""
    query = select(apprentice_counts.c.counts).where(apprentice_counts.c.loop == loop)
    with engine.connect() as connection:
        stored = connection.execute(query).scalar_one_or_none()
    return None if stored is None else _counts(stored)


def _record(counts: ApprenticeCounts) -> dict[str, Any]:
    return {
        "total": asdict(counts.total), "last_batch": asdict(counts.last_batch),
        "started_at": to_text(counts.started_at), "last_at": to_text(counts.last_at),
    }  # fmt: skip


def _counts(stored: dict[str, Any]) -> ApprenticeCounts:
    return ApprenticeCounts(
        Matches(**stored["total"]), Matches(**stored["last_batch"]), from_text(stored["started_at"]),
        from_text(stored["last_at"]),
    )  # fmt: skip
