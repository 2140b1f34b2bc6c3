"""The loop's log as everyone reads it: interactions by sequence, one decision with its outcomes, counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Row, RowMapping, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from adapters.records import loop_from
from adapters.tables import (
    decision_keys,
    decisions,
    interactions,
    loops,
    open_decisions,
    outcomes,
    set_aside_events,
    stream_positions,
)
from contextual_bandit import events
from contextual_bandit.joined import ACTIVATION_KIND, Closed, Revision, StoredOutcome
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Decision, LoggedInteraction, Outcome

_WITH_RECORD = select(interactions, decisions.c.record, decisions.c.position).join(
    decisions,
    (decisions.c.loop == interactions.c.loop)
    & (decisions.c.decision_id == interactions.c.decision_id)
    & (decisions.c.decided_at == interactions.c.decided_at),
)


def read_interactions(
    engine: Engine,
    loop: str,
    *,
    after: int = 0,
    limit: int | None = None,
    learnable: bool = False,
    sound: bool = False,
    latest: bool = False,
    closed_from: datetime | None = None,
) -> Iterator[LoggedInteraction]:
    """Closed interactions by rising sequence, streamed; with ``learnable`` only what a policy may learn.

    With ``sound`` none that was set aside because a learner died of it.
    The first revision is given, what was learned, or with ``latest`` the newest one, which holds late outcomes too.
    With ``closed_from`` only those that closed then or later.
    """
    query = _WITH_RECORD.where(interactions.c.loop == loop, interactions.c.sequence > after).limit(limit)
    if latest:
        query = query.ext(distinct_on(interactions.c.sequence)).order_by(
            interactions.c.sequence, interactions.c.revision.desc()
        )
    else:
        query = query.where(interactions.c.revision == 0).order_by(interactions.c.sequence)
    if learnable:
        query = query.where(interactions.c.use == "learn")
    if learnable or sound:
        query = query.where(~interactions.c.set_aside)
    if closed_from is not None:
        query = query.where(interactions.c.closed_at >= closed_from)
    # Whoever reads no further leaves nothing open.
    with engine.connect() as connection, connection.execution_options(yield_per=1000).execute(query) as rows:
        for row in rows:
            decision = _decision(row)
            rewards = tuple(row.slot_rewards or ())
            yield LoggedInteraction(row.sequence, decision, row.reward, row.use, row.closed_at, row.revision, rewards)


def read_rebuilt(
    engine: Engine, loop: str, late: Sequence[str], closing: Sequence[str]
) -> tuple[list[StoredOutcome], dict[str, Revision]]:
    """What rewards are computed anew from.

    Args:
        engine: where the log is.
        loop: the loop's name.
        late: decisions that got an outcome after their window.
        closing: decisions that close now; only those with a late outcome in store are of interest.

    Returns:
        The stored outcomes of all these in the order received, and the newest revisions of those in ``late`` that are
        closed.
    """
    mine = outcomes.c.loop == loop
    with engine.connect() as connection:
        waiting = connection.execute(
            select(outcomes.c.decision_id)
            .where(mine, outcomes.c.decision_id == func.any(list(closing)), outcomes.c.state == "late")
            .distinct()
        ).scalars()
        decision_ids = sorted({*late, *waiting})
        if not decision_ids:
            return [], {}
        rows = connection.execute(
            select(outcomes).where(
                mine, outcomes.c.decision_id == func.any(decision_ids), outcomes.c.kind != ACTIVATION_KIND
            )
        ).mappings()
        stored = [StoredOutcome(outcome_from_row(row), row["position"], row["state"]) for row in rows]
        newest = connection.execute(
            _WITH_RECORD.where(interactions.c.loop == loop, interactions.c.decision_id == func.any(list(late)))
            .ext(distinct_on(interactions.c.decision_id))
            .order_by(interactions.c.decision_id, interactions.c.revision.desc())
        )
        found = {
            row.decision_id: Revision(
                Closed(
                    row.sequence, _decision(row), row.reward, row.decided_at, row.closed_at,
                    tuple(row.slot_rewards or ()),
                ),
                row.revision, None, row.set_aside,
            )
            for row in newest
        }  # fmt: skip
    return sorted(stored, key=lambda one: position_key(one.position)), found


def find_settings(engine: Engine, loop: str) -> LoopConfig | None:
    """A loop's settings, also those that a deleted one had: its log still stands."""
    with engine.connect() as connection:
        record = connection.execute(select(loops.c.config).where(loops.c.loop == loop)).scalar_one_or_none()
    return None if record is None else loop_from(record)


def first_sequence(engine: Engine, loop: str) -> int:
    """The oldest interaction that retention has left, 1 in an empty log."""
    query = select(func.min(interactions.c.sequence)).where(interactions.c.loop == loop)
    with engine.connect() as connection:
        return connection.execute(query).scalar_one() or 1


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A committed decision with what happened to it; ``slot_rewards`` as of interactions."""

    decision: Decision
    record: bytes
    state: str
    outcomes: tuple[tuple[Outcome, str], ...]
    reward: float | None
    closed_at: datetime | None
    slot_rewards: tuple[float, ...] = ()


def find_decision(engine: Engine, loop: str, decision_id: str) -> StoredDecision | None:
    """One decision with its outcomes and reward; ``state`` is open, closed or inactive."""
    with engine.connect() as connection:
        row = connection.execute(
            select(decisions).where(decisions.c.loop == loop, decisions.c.decision_id == decision_id)
        ).one_or_none()
        if row is None:
            return None
        found = connection.execute(
            select(outcomes).where(
                outcomes.c.loop == loop, outcomes.c.decision_id == decision_id, outcomes.c.kind != ACTIVATION_KIND
            )
        ).mappings()
        listed = sorted(found, key=lambda outcome: position_key(outcome["position"]))
        is_open = connection.execute(
            select(open_decisions.c.active).where(
                open_decisions.c.loop == loop, open_decisions.c.decision_id == decision_id
            )
        ).one_or_none()
        closed = connection.execute(
            select(interactions.c.reward, interactions.c.closed_at, interactions.c.slot_rewards)
            .where(interactions.c.loop == loop, interactions.c.decision_id == decision_id)
            .order_by(interactions.c.revision.desc())
            .limit(1)
        ).one_or_none()
    decision = _decision(row)
    state = "open" if is_open is not None else "closed" if closed is not None else "inactive"
    return StoredDecision(
        decision,
        row.record,
        state,
        tuple((outcome_from_row(outcome), outcome["state"]) for outcome in listed),
        None if closed is None else closed.reward,
        None if closed is None else closed.closed_at,
        () if closed is None else tuple(closed.slot_rewards or ()),
    )


def known_hashes(engine: Engine, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The request hashes under which (loop, decision id) pairs were committed, for those that were."""
    found: dict[tuple[str, str], str] = {}
    with engine.connect() as connection:
        for loop in {loop for loop, _ in keys}:
            decision_ids = [decision_id for of_loop, decision_id in keys if of_loop == loop]
            query = select(decision_keys.c.decision_id, decision_keys.c.request_hash).where(
                decision_keys.c.loop == loop, decision_keys.c.decision_id == func.any(decision_ids)
            )
            found |= {(loop, row.decision_id): row.request_hash for row in connection.execute(query)}
    return found


@dataclass(frozen=True, slots=True)
class LoopCounts:
    """How far a loop's log is: decisions ever committed, still open, interactions, stream time and position."""

    decisions: int
    open: int
    interactions: int
    duplicated: int
    set_aside: int
    stream_time: datetime | None
    position: str


def count_loop(engine: Engine, loop: str) -> LoopCounts:
    """Counts of a loop; ``duplicated`` is how many interactions share a decision (must be 0)."""
    with engine.connect() as connection:

        def count(table: Any, *where: Any) -> int:
            query = select(func.count()).select_from(table).where(table.c.loop == loop, *where)
            return int(connection.execute(query).scalar_one())

        first = interactions.c.revision == 0
        distinct = connection.execute(
            select(func.count(func.distinct(interactions.c.decision_id))).where(interactions.c.loop == loop, first)
        ).scalar_one()
        position = connection.execute(
            select(stream_positions).where(stream_positions.c.stream == f"loop:{loop}")
        ).one_or_none()
        aside = connection.execute(
            select(func.count()).select_from(set_aside_events).where(set_aside_events.c.stream == f"loop:{loop}")
        ).scalar_one()
        closed = count(interactions, first)
        return LoopCounts(
            decisions=count(decision_keys),
            open=count(open_decisions),
            interactions=closed,
            duplicated=closed - int(distinct),
            set_aside=int(aside),
            stream_time=position.stream_time if position else None,
            position=position.position if position else "0-0",
        )


def _decision(row: Row[Any]) -> Decision:
    return events.decision_from(events.decode(row.position, row.record).payload)


def position_key(position: str) -> tuple[int, int]:
    """A stream position as numbers, for ordering."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


def outcome_from_row(row: RowMapping) -> Outcome:
    """A stored outcome read back."""
    return Outcome(
        row["outcome_id"], row["decision_id"], row["kind"], row["value"],
        row["received_at"].astimezone(UTC), row["final"], row["slot"],
    )  # fmt: skip
