"""What the one writer of a loop commits: a whole batch in one PostgreSQL transaction, under the loop's lock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from adapters.apprentice import count_matches
from adapters.copying import copy_rows
from adapters.erasure import LoopErasures
from adapters.interaction_log import outcome_from_row, position_key
from adapters.locks import WriterConnection
from adapters.tables import (
    decision_keys,
    decisions,
    interactions,
    open_decisions,
    outcomes,
    performance,
    set_aside_events,
    stream_positions,
    unit_changes,
)
from contextual_bandit import events
from contextual_bandit.history import SEGMENTS
from contextual_bandit.joined import (
    ACTIVATION_KIND,
    MOST_ORPHANS,
    Batch,
    Closed,
    JoinState,
    Open,
    Revision,
    UnitChange,
    compressed,
)
from contextual_bandit.slots import use_of
from contextual_bandit.types import Decision, Outcome

# Rows that are in memory at a time when open decisions are read back.
OPEN_AT_A_TIME = 1000


class LoopLog:
    """What the one writer of a loop reads at start and commits; lock and commits share a connection."""

    def __init__(self, writers: WriterConnection, loop: str) -> None:
        """Take the writer lock.

        Raises:
            AnotherWriter: another process writes this loop.
        """
        self.loop = loop
        self._stream = f"loop:{loop}"
        self._days: set[datetime] = set()
        self._lease = writers.take(self._stream)

    @property
    def _connection(self) -> Connection:
        return self._lease.connection

    @property
    def erasures(self) -> LoopErasures:
        """Customers erased on the connection that commits."""
        return LoopErasures(self._connection, self.loop)

    def close(self) -> None:
        """Give the lock back."""
        self._lease.release()

    def load(self) -> tuple[JoinState, int]:
        """The join's state, and how often learning since the last checkpoint was begun."""
        with self._connection.begin():
            row = self._connection.execute(
                select(stream_positions).where(stream_positions.c.stream == self._stream)
            ).one_or_none()
            if row is None:
                self._connection.execute(
                    insert(stream_positions).values(
                        stream=self._stream, position="0-0", stream_time=None, sequence=0, attempts=0
                    )
                )
                return JoinState(), 0
            spools = {name: events.from_text(at) for name, at in row.holds.get("spools", {}).items()}
            held = tuple(events.from_text(at) for at in row.holds.get("held") or ())
            state = JoinState(
                row.position, row.stream_time, row.sequence, self._open(), self._orphans(), spools,
                (held[0], held[1]) if held else None,
            )  # fmt: skip
            return state, row.attempts

    def _open(self) -> dict[str, Open]:
        waiting: dict[str, list[Outcome]] = defaultdict(list)
        joined = (
            select(outcomes)
            .join(
                open_decisions,
                (open_decisions.c.loop == outcomes.c.loop) & (open_decisions.c.decision_id == outcomes.c.decision_id),
            )
            .where(outcomes.c.loop == self.loop, outcomes.c.state == "joined", outcomes.c.kind != ACTIVATION_KIND)
        )
        rows = self._connection.execute(joined).mappings().all()
        for row in sorted(rows, key=lambda row: position_key(row["position"])):
            waiting[row["decision_id"]].append(outcome_from_row(row))
        query = (
            select(open_decisions, decisions.c.record)
            .join(
                decisions,
                (decisions.c.loop == open_decisions.c.loop)
                & (decisions.c.decision_id == open_decisions.c.decision_id)
                & (decisions.c.decided_at == open_decisions.c.decided_at),
            )
            .where(open_decisions.c.loop == self.loop)
        )
        found: dict[str, Open] = {}
        # A million may be open: rows come piece by piece, and nothing is read before somebody asks for it.
        for found_row in self._connection.execute(query.execution_options(yield_per=OPEN_AT_A_TIME)):
            found[found_row.decision_id] = Open(
                None,
                compressed(found_row.record),
                found_row.active,
                found_row.decided_at,
                found_row.closes_at,
                found_row.position,
                waiting.get(found_row.decision_id, []),
            )
        return found

    def _orphans(self) -> dict[str, list[Outcome]]:
        query = (
            select(outcomes)
            .where(outcomes.c.loop == self.loop, outcomes.c.state == "orphan")
            .order_by(outcomes.c.received_at.desc())
            .limit(MOST_ORPHANS)
        )
        found: dict[str, list[Outcome]] = defaultdict(list)
        rows = self._connection.execute(query).mappings().all()
        for row in sorted(rows, key=lambda row: position_key(row["position"])):
            found[row["decision_id"]].append(outcome_from_row(row))
        return dict(found)

    def known(self, decision_ids: Sequence[str], outcome_ids: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Which of these decisions and outcomes an earlier batch stored."""
        with self._connection.begin():
            decided = self._connection.execute(
                select(decision_keys.c.decision_id).where(
                    decision_keys.c.loop == self.loop, decision_keys.c.decision_id == func.any(list(decision_ids))
                )
            ).scalars()
            stored = self._connection.execute(
                select(outcomes.c.outcome_id).where(
                    outcomes.c.loop == self.loop, outcomes.c.outcome_id == func.any(list(outcome_ids))
                )
            ).scalars()
            return frozenset(decided), frozenset(stored)

    def commit(self, batch: Batch, generation: int) -> None:
        """Store everything that a batch changed, and the position behind it, in one transaction."""
        connection = self._connection
        with connection.begin():
            self._ensure_days(entry.opened_at for entry in batch.opened)
            self._write_opened(batch.opened)
            self._write_outcomes(batch)
            if batch.activated:
                connection.execute(self._these_open(update(open_decisions), batch.activated).values(active=True))
            gone = [closed.decision.decision_id for closed in batch.closed] + batch.inactive
            if gone:
                connection.execute(self._these_open(delete(open_decisions), gone))
            first = [Revision(closed, 0, None, False) for closed in batch.closed]
            self._write_interactions([*first, *batch.revised], generation)
            self._write_performance(batch)
            count_matches(connection, self.loop, batch.closed)
            self._write_unit_changes(batch.unit_changes)
            copy_rows(
                connection,
                set_aside_events,
                ("stream", "position", "data", "error"),
                [(self._stream, position, data, error) for position, data, error in batch.set_aside],
            )
            connection.execute(
                update(stream_positions)
                .where(stream_positions.c.stream == self._stream)
                .values(
                    position=batch.position,
                    stream_time=batch.stream_time,
                    sequence=batch.sequence,
                    holds=_holds(batch),
                )
            )

    def set_attempts(self, attempts: int) -> None:
        """Remember how often learning since the last checkpoint was begun."""
        with self._connection.begin():
            self._connection.execute(
                update(stream_positions).where(stream_positions.c.stream == self._stream).values(attempts=attempts)
            )

    def suspect(self) -> tuple[int | None, int]:
        """The interaction that was being learned when a try ended, and in how many tries it was the one."""
        query = select(stream_positions.c.suspect, stream_positions.c.suspect_tries)
        with self._connection.begin():
            row = self._connection.execute(query.where(stream_positions.c.stream == self._stream)).one()
        return row.suspect, row.suspect_tries

    def set_suspect(self, sequence: int | None, tries: int) -> None:
        """Mark the interaction that is learned next, so that it is known if it kills the process."""
        with self._connection.begin():
            self._connection.execute(
                update(stream_positions)
                .where(stream_positions.c.stream == self._stream)
                .values(suspect=sequence, suspect_tries=tries)
            )

    def set_aside(self, sequence: int) -> None:
        """Mark an interaction that kills the learner: kept in the log, never learned again."""
        with self._connection.begin():
            self._connection.execute(
                update(interactions)
                .where(interactions.c.loop == self.loop, interactions.c.sequence == sequence)
                .values(set_aside=True)
            )

    def _these_open(self, statement: Any, decision_ids: list[str]) -> Any:
        return statement.where(
            open_decisions.c.loop == self.loop, open_decisions.c.decision_id == func.any(decision_ids)
        )

    def _ensure_days(self, times: Iterable[datetime]) -> None:
        # Of thousands in a batch most are of a day that was seen.
        dates = {time.toordinal(): time for time in times}.values()
        for day in sorted({time.replace(hour=0, minute=0, second=0, microsecond=0) for time in dates} - self._days):
            for table in (decisions, interactions):
                self._connection.execute(
                    text(
                        f"CREATE TABLE IF NOT EXISTS {table.name}_{day:%Y%m%d} PARTITION OF {table.name} "
                        f"FOR VALUES FROM ('{day.isoformat()}') TO ('{(day + timedelta(days=1)).isoformat()}')"
                    )
                )
            self._days.add(day)

    def _write_opened(self, opened: Sequence[Open]) -> None:
        copy_rows(
            self._connection,
            decision_keys,
            ("loop", "decision_id", "request_hash", "decided_at"),
            [(self.loop, o.decision.decision_id, o.decision.request_hash, o.opened_at) for o in opened],
        )
        copy_rows(
            self._connection,
            decisions,
            ("loop", "decision_id", "decided_at", "customer_id", "offer_id", "propensity", "policy_id", "snapshot_id",
             "use", "position", "record", "shown"),
            [
                (self.loop, d.decision_id, o.opened_at, d.customer_id, d.chosen.offer_id, d.slots[0].propensity,
                 d.policy_id, d.snapshot_id, d.use, o.position, o.record, _shown(d))
                for o in opened for d in (o.decision,)
            ],
        )  # fmt: skip
        copy_rows(
            self._connection,
            open_decisions,
            ("loop", "decision_id", "active", "decided_at", "closes_at", "position"),
            [(self.loop, o.decision.decision_id, o.active, o.opened_at, o.closes_at, o.position)
             for o in opened],
        )  # fmt: skip

    def _write_outcomes(self, batch: Batch) -> None:
        if batch.adopted:
            self._connection.execute(
                update(outcomes)
                .where(outcomes.c.loop == self.loop, outcomes.c.outcome_id == func.any(batch.adopted))
                .values(state="joined")
            )
        adopted = set(batch.adopted)
        copy_rows(
            self._connection,
            outcomes,
            ("loop", "outcome_id", "decision_id", "kind", "value", "final", "received_at", "position", "state", "slot"),
            [
                (self.loop, o.outcome_id, o.decision_id, o.kind, o.value, o.final, o.received_at, stored.position,
                 "joined" if o.outcome_id in adopted else stored.state,
                 None if o.slot is None else Jsonb(o.slot))
                for stored in batch.outcomes for o in (stored.outcome,)
            ],
        )  # fmt: skip

    def _write_interactions(self, revisions: Sequence[Revision], generation: int) -> None:
        copy_rows(
            self._connection,
            interactions,
            ("loop", "sequence", "revision", "decision_id", "decided_at", "closed_at", "reward", "use", "generation",
             "set_aside", "slot_rewards"),
            [
                (self.loop, c.sequence, revision.number, c.decision.decision_id, c.opened_at, c.closed_at, c.reward,
                 use_of(c.decision), generation, revision.set_aside, list(c.slot_rewards) or None)
                for revision in revisions for c in (revision.closed,)
            ],
        )  # fmt: skip

    def _write_unit_changes(self, changes: Sequence[UnitChange]) -> None:
        copy_rows(
            self._connection,
            unit_changes,
            ("loop", "decision_id", "change", "offer_id", "version", "customer_id", "shown_at", "changed_at"),
            [
                (self.loop, d.decision_id, change.change, d.chosen.offer_id, d.chosen.version, d.customer_id,
                 change.shown_at, change.changed_at)
                for change in changes for d in (change.decision,)
            ],
        )  # fmt: skip

    def _write_performance(self, batch: Batch) -> None:
        sums: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0, 0, 0.0])
        for opened in batch.opened:
            for cell, _ in self._cells(opened.decision, opened.opened_at):
                sums[cell][0] += 1
        for closed in batch.closed:
            for cell, reward in self._cells(closed.decision, closed.opened_at, _by_slot(closed)):
                sums[cell][1] += 1
                sums[cell][2] += reward
        for revision in batch.revised:
            # An interaction counts once, and with its newest reward.
            after, before = _by_slot(revision.closed), _by_slot(revision.before) if revision.before else ()
            gained = [new - old for new, old in zip_longest(after, before, fillvalue=0.0)]
            for cell, more in self._cells(revision.closed.decision, revision.closed.opened_at, gained):
                sums[cell][2] += more
        if not sums:
            return
        statement = insert(performance)
        added = {
            name: performance.c[name] + statement.excluded[name] for name in ("decisions", "interactions", "reward_sum")
        }
        keys = ("loop", "minute_at", "policy_id", "offer_id", "segment")
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_=added),
            [
                dict(zip(keys, cell, strict=True)) | {"decisions": n, "interactions": m, "reward_sum": total}
                for cell, (n, m, total) in sorted(sums.items())
            ],
        )

    def _cells(
        self, decision: Decision, time: datetime, rewards: Sequence[float] = ()
    ) -> Iterator[tuple[tuple[Any, ...], float]]:
        """The cell of each slot, with its reward: every offer that was shown counts."""
        minute = time.replace(second=0, microsecond=0)
        # The sender may have named a segment of its own; aggregates keep to the known ones.
        sent = decision.context.namespaces.get("H", {}).get("segment")
        segment = sent if isinstance(sent, str) and sent in SEGMENTS else "other"
        for index in range(len(decision.slots)):
            cell = (self.loop, minute, decision.policy_id, decision.shown(index).offer_id, segment)
            yield cell, rewards[index] if rewards else 0.0


def _by_slot(closed: Closed) -> tuple[float, ...]:
    return closed.slot_rewards or (closed.reward,)


def _shown(decision: Decision) -> Jsonb | None:
    """What each slot shows, where slots were asked for: [slot id, offer id]."""
    if not decision.has_slots:
        return None
    return Jsonb([[slot.slot_id, decision.shown(index).offer_id] for index, slot in enumerate(decision.slots)])


def _holds(batch: Batch) -> dict[str, Any]:
    """What keeps decisions from closing, as JSON."""
    return {
        "spools": {name: events.to_text(at) for name, at in batch.spools.items()},
        "held": [events.to_text(at) for at in batch.held] if batch.held else None,
    }
