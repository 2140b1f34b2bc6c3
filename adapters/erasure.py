"""Erasing a customer: every place that holds something of one, and how each of the two kinds of writer empties it.

**What an erasure must reach.** Whoever adds a place that holds anything of a customer adds it here, in the text and in
the code:

- PostgreSQL, by the writer of activity: ``customers``, ``profiles`` (and out of the population's sums), ``activities``,
  ``set_aside_events`` that name the customer, subjects in the ``audit_log``.
- PostgreSQL, by the writer of each loop: ``decisions``, ``interactions`` in all revisions, ``outcomes``,
  ``open_decisions``, ``decision_keys``, ``set_aside_events`` that name the customer or one of these decisions;
  ``unit_changes`` only lose both names, so that units come back all the same.
- Redis: ``profile:``, ``record:``, ``seen:`` and ``session:`` of the customer, ``decided:`` of the decisions and of ids
  that stand for them, and every stream up to the erasure.
- Models: a generation trained on what is left; the snapshots of all earlier ones are deleted, and every challenger
  begins anew (``challengers``).
- Memory of the services: profiles for a second at most, the old model until the new one is swapped in (a second too).
- ``performance`` and ``precomputed`` stay: sums over many, in which nobody stands.
- There is no lake yet. Whoever builds it deletes the customer's interactions there too, in ``LoopErasures.erase``'s
  step (files are named by position range, so they can be written anew), and adds its count to the receipt.

What it does not reach: a message that waits in a service's spool arrives afterwards and counts as a new appearance, as
does whatever a shop sends later; days of the log that retention dropped are gone, but what a model learned from them is
known to nobody; PostgreSQL's dead rows and both stores' logs on disk until they are tidied up; backups; decision and
outcome ids in which a shop chose to write a customer's id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import redis
from sqlalchemy import Connection, Engine, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters import receipts
from adapters.challengers import restart_challengers
from adapters.copying import copy_rows
from adapters.receipts import Due, Receipts
from adapters.streams import ACTIVITY_STREAM, FIELD, applied_key, loop_stream
from adapters.tables import (
    activities,
    audit_log,
    customers,
    decision_keys,
    decisions,
    interactions,
    loops,
    open_decisions,
    outcomes,
    policy_snapshots,
    profiles,
    set_aside_events,
    stream_positions,
    unit_changes,
)
from adapters.units import seen_key
from contextual_bandit.joined import UnitChange

# Raised by each erasure: who read PostgreSQL before one must not fill a cache after it.
ERASURES_KEY = "erasures"
SCANNED = 1000
MOST_SCANNED = 20_000
IDS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Erasure:
    """The wish to erase a customer, as a control event on a stream says it."""

    customer_id: str
    receipt_id: str
    actor: str
    position: str


class ErasureRequests:
    """The service's side: who is known, and what every writer must be told."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client
        self.receipts = Receipts(engine)

    def loops(self) -> list[str]:
        """Loops that may hold somebody: all that are, and deleted ones whose logs stand."""
        stands = exists().where(stream_positions.c.stream == "loop:" + loops.c.loop)
        query = select(loops.c.loop).where(or_(~loops.c.deleted, stands)).order_by(loops.c.loop)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def knows(self, customer_id: str, of_loops: Sequence[str]) -> bool:
        """Whether anything is known of a customer, in the tables or on its way to them."""
        try:
            # First: what a writer commits meanwhile is found in the tables then.
            if self._client.exists(seen_key(customer_id)) or any(
                self._is_on_its_way(customer_id, stream) for stream in (ACTIVITY_STREAM, *map(loop_stream, of_loops))
            ):
                return True
        except redis.RedisError:
            # Nobody can say; an erasure of nothing does no harm.
            return True
        tables = (customers, profiles, activities, decisions, unit_changes)
        with self._engine.connect() as connection:
            return any(
                connection.execute(select(exists().where(table.c.customer_id == customer_id))).scalar_one()
                for table in tables
            )

    def begin(self, customer_id: str, of_loops: Sequence[str], actor: str, now: datetime) -> str:
        """A receipt that waits for the writers of activity and of these loops."""
        return self.receipts.begin(customer_id, [ACTIVITY_STREAM, *map(_writer, of_loops)], actor, now)

    def _is_on_its_way(self, customer_id: str, stream: str) -> bool:
        """Whether messages that no writer has committed name a customer; so many that nobody can look do too."""
        applied = self._client.get(applied_key(stream))
        after = applied.decode() if isinstance(applied, bytes) else "0-0"
        for _ in range(MOST_SCANNED // SCANNED):
            entries: Any = self._client.xrange(stream, min="(" + after, count=SCANNED)
            if not entries:
                return False
            if any(mentions(fields[FIELD], frozenset({customer_id})) for _, fields in entries):
                return True
            after = entries[-1][0].decode()
        return True


class LoopErasures:
    """What a loop's one writer erases, on the connection that commits."""

    def __init__(self, connection: Connection, loop: str) -> None:
        self._connection = connection
        self._loop = loop

    def decisions_of(self, customer_id: str) -> list[str]:
        """The ids of a customer's decisions that the log holds."""
        query = select(decisions.c.decision_id).where(
            decisions.c.loop == self._loop, decisions.c.customer_id == customer_id
        )
        with self._connection.begin():
            return list(self._connection.execute(query).scalars())

    def erase(
        self, erasure: Erasure, decision_ids: Sequence[str], changes: Iterable[UnitChange], now: datetime
    ) -> None:
        """Delete a customer's rows and note them in the receipt, in one transaction.

        Args:
            erasure: who, and by which control event.
            decision_ids: their decisions.
            changes: what becomes of the units that their open decisions held.
            now: the time of it.
        """
        connection, loop, these = self._connection, self._loop, list(decision_ids)
        with connection.begin():
            rows = {
                table.name: _count(
                    connection, delete(table).where(table.c.loop == loop, table.c.decision_id == func.any(these))
                )
                for table in (interactions, outcomes, open_decisions, decision_keys, decisions)
            }
            named = (unit_changes.c.customer_id == erasure.customer_id) | (
                unit_changes.c.decision_id == func.any(these)
            )
            nameless = update(unit_changes).where(unit_changes.c.loop == loop, named)
            rows["unit_changes"] = _count(connection, nameless.values(customer_id=None, decision_id=""))
            _add_nameless(connection, loop, changes)
            names = frozenset({erasure.customer_id, *these})
            rows["set_aside_events"] = _forget_set_aside(connection, _writer(loop), names)
            _note(connection, _writer(loop), erasure, rows, now)

    def decision_ids(self) -> Iterator[list[str]]:
        """The ids of all decisions of the loop, some thousands at a time."""
        query = select(decision_keys.c.decision_id).where(decision_keys.c.loop == self._loop)
        query = query.order_by(decision_keys.c.decision_id).limit(IDS_AT_ONCE)
        found = [""]
        while found:
            with self._connection.begin():
                after = decision_keys.c.decision_id > found[-1]
                found = list(self._connection.execute(query.where(after)).scalars())
            yield found

    def erase_log(self, changes: Iterable[UnitChange]) -> dict[str, int]:
        """Delete the loop's whole log in one transaction; returns the number of rows by table.

        Args:
            changes: what becomes of the units that open decisions held. What closed ones changed stays to be counted.
        """
        connection, loop = self._connection, self._loop
        with connection.begin():
            rows = {
                table.name: _count(connection, delete(table).where(table.c.loop == loop))
                for table in (interactions, outcomes, open_decisions, decision_keys, decisions)
            }
            aside = delete(set_aside_events).where(set_aside_events.c.stream == _writer(loop))
            rows["set_aside_events"] = _count(connection, aside)
            _add_nameless(connection, loop, changes)
        return rows

    def due(self, position: str) -> Due:
        """Erasures whose rows are gone and whose control events are committed."""
        with self._connection.begin():
            return receipts.due(self._connection, _writer(self._loop), position)

    def finish(self, done: Due, generation: int | None, now: datetime) -> None:
        """Delete the models before ``generation`` (None: there is no new one) and complete the receipts."""
        connection, models = self._connection, 0
        with connection.begin():
            if generation is not None:
                # The numbers of challengers' generations are their own: all that they have is older.
                older = (policy_snapshots.c.generation < generation) | (policy_snapshots.c.challenger != "")
                mine = policy_snapshots.c.loop == self._loop
                models = _count(connection, delete(policy_snapshots).where(mine, older))
                restart_challengers(connection, self._loop, now)
            receipts.finish(connection, _writer(self._loop), done.receipt_ids, generation, models, now)


class ProfileErasures:
    """What the one writer of activity erases, on the connection that commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def erase(self, erasure: Erasure, population: tuple[str, bytes], now: datetime) -> None:
        """Delete a customer's rows, store the population without them, and note it in the receipt, in one transaction.

        Args:
            erasure: who, and by which control event.
            population: its row's name, and its new state.
            now: the time of it.
        """
        connection, customer_id = self._connection, erasure.customer_id
        with connection.begin():
            rows = {
                table.name: _count(connection, delete(table).where(table.c.customer_id == customer_id))
                for table in (customers, profiles, activities)
            }
            if rows["profiles"]:
                name, state = population
                row = {"customer_id": name, "state": state, "position": erasure.position, "updated_at": now}
                connection.execute(
                    insert(profiles).values(row).on_conflict_do_update(index_elements=["customer_id"], set_=row)
                )
            rows["set_aside_events"] = _forget_set_aside(connection, ACTIVITY_STREAM, frozenset({customer_id}))
            # Earlier rows of the log name the customer as their subject.
            subject = (audit_log.c.subject == customer_id) & audit_log.c.action.startswith("customer.")
            mark = receipts.customer_mark(customer_id, erasure.receipt_id)
            rows["audit_log"] = _count(connection, update(audit_log).where(subject).values(subject=mark))
            _note(connection, ACTIVITY_STREAM, erasure, rows, now)

    def due(self, position: str) -> Due:
        """Erasures whose rows are gone and whose control events are committed."""
        with self._connection.begin():
            return receipts.due(self._connection, ACTIVITY_STREAM, position)

    def finish(self, done: Due, now: datetime) -> None:
        """Complete the receipts."""
        with self._connection.begin():
            receipts.finish(self._connection, ACTIVITY_STREAM, done.receipt_ids, None, 0, now)


def mentions(data: bytes, names: frozenset[str]) -> bool:
    """Whether a message has one of these names as a value; in one that is no JSON, as a word of its text."""
    try:
        return any(text in names for text in _texts(orjson.loads(data)))
    except orjson.JSONDecodeError:
        text = data.decode("utf-8", "replace")
        return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names)


def _texts(value: Any) -> Iterator[str]:
    """Every name and text in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one


def _writer(loop: str) -> str:
    """A loop's writer in a receipt, in ``stream_positions`` and in ``set_aside_events``."""
    return f"loop:{loop}"


def _add_nameless(connection: Connection, loop: str, changes: Iterable[UnitChange]) -> None:
    """What becomes of units, without the names of whom they were held for."""
    copy_rows(
        connection,
        unit_changes,
        ("loop", "decision_id", "change", "offer_id", "version", "shown_at", "changed_at"),
        [
            (loop, "", change.change, offer.offer_id, offer.version, change.shown_at, change.changed_at)
            for change in changes for offer in (change.decision.chosen,)
        ],
    )  # fmt: skip


def _forget_set_aside(connection: Connection, stream: str, names: frozenset[str]) -> int:
    mine = set_aside_events.c.stream == stream
    rows = connection.execute(select(set_aside_events.c.position, set_aside_events.c.data).where(mine))
    gone = [row.position for row in rows if mentions(row.data, names)]
    return _count(connection, delete(set_aside_events).where(mine, set_aside_events.c.position == func.any(gone)))


def _note(connection: Connection, writer: str, erasure: Erasure, rows: dict[str, int], now: datetime) -> None:
    mark = receipts.customer_mark(erasure.customer_id, erasure.receipt_id)
    receipts.note_rows(
        connection, writer, erasure.receipt_id, mark, erasure.actor, erasure.position, rows, now
    )  # fmt: skip


def _count(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).rowcount)
