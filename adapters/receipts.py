"""Receipts of erasures: one row of the audit log each, in which every writer notes what it erased.

The row never holds the customer's id, but BLAKE2b of it keyed with the receipt's id. Whoever has both can check what
was erased for whom; whoever has the receipt alone can only try ids, so that short ones can be guessed: it is proof,
not anonymity.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Engine, Row, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.interaction_log import position_key
from adapters.tables import audit_log, loops
from contextual_bandit.events import from_text, to_text

# The audit log's actions: of a receipt that waits for writers, and of one that is complete.
PENDING = "customer.erase"
ERASED = "customer.erased"

# "rows": nothing of the customer is left in the tables, but in the model and the stream there may be.
PartState: TypeAlias = Literal["pending", "rows", "done"]


@dataclass(frozen=True, slots=True)
class Part:
    """One writer's share of a receipt: rows by table, and what became of the model.

    ``generation`` began without the customer, and ``models`` snapshots of earlier ones were deleted; None and 0 where
    the customer was in no interaction, so that no model had learned from them.
    """

    state: PartState = "pending"
    rows: Mapping[str, int] | None = None
    generation: int | None = None
    models: int = 0
    done_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure did so far; ``parts`` are by writer: ``events:activity`` and ``loop:NAME``."""

    receipt_id: str
    customer: str
    actor: str
    requested_at: datetime
    done_at: datetime | None
    parts: Mapping[str, Part]

    @property
    def is_done(self) -> bool:
        """Whether every writer has erased."""
        return self.done_at is not None


@dataclass(frozen=True, slots=True)
class Due:
    """Receipts of which a writer has erased the rows, and whether a model had learned from them."""

    receipt_ids: tuple[str, ...]
    is_learned: bool


class Receipts:
    """The service's side: receipts are begun here, and read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, customer_id: str, writers: Sequence[str], actor: str, now: datetime) -> str:
        """A new receipt that waits for these writers; returns its id."""
        receipt_id = uuid.uuid4().hex
        detail = {"receipt_id": receipt_id, "parts": {writer: {"state": "pending"} for writer in writers}}
        with self._engine.begin() as connection:
            _insert(connection, customer_mark(customer_id, receipt_id), detail, actor, now)
        return receipt_id

    def find(self, receipt_id: str) -> Receipt | None:
        """A receipt as it stands."""
        with self._engine.connect() as connection:
            row = connection.execute(_of(receipt_id)).one_or_none()
        return None if row is None else _receipt(row)

    def waiting_deleted_loops(self) -> list[str]:
        """Deleted loops whose logs hold somebody who is to be erased: somebody must write them once more."""
        deleted = select(loops.c.loop).where(loops.c.deleted)
        with self._engine.connect() as connection:
            names = set(connection.execute(deleted).scalars())
            if not names:
                return []
            waiting = connection.execute(select(audit_log.c.detail["parts"]).where(audit_log.c.action == PENDING))
            parts = [writer for row in waiting.scalars() for writer, part in row.items() if part["state"] != "done"]
        return sorted(names & {writer.removeprefix("loop:") for writer in parts if writer.startswith("loop:")})


def customer_mark(customer_id: str, receipt_id: str) -> str:
    """What stands for a customer in the audit log: BLAKE2b (256 bits) of the id, keyed with the receipt's."""
    digest = blake2b(customer_id.encode(), key=receipt_id.encode()[:64], digest_size=32)
    return "blake2b:" + digest.hexdigest()


def note_rows(
    connection: Connection, writer: str, receipt_id: str, mark: str, actor: str, position: str,
    rows: Mapping[str, int], now: datetime,
) -> None:  # fmt: skip
    """Note what a writer erased, in the transaction that erases; a writer that comes again changes nothing.

    Args:
        connection: the writer's.
        writer: its name in the receipt.
        receipt_id: the receipt; one that is not known is begun, since the erasure happens anyway.
        mark: what stands for the customer.
        actor: who asked for it.
        position: of the control event; the part is complete once that is committed.
        rows: how many rows were erased, by table.
        now: the time of it.
    """
    part = {"state": "rows", "position": position, "rows": {name: count for name, count in rows.items() if count}}
    found = connection.execute(_of(receipt_id).with_for_update()).one_or_none()
    if found is None:
        _insert(connection, mark, {"receipt_id": receipt_id, "parts": {writer: part}}, actor, now)
    elif found.detail["parts"].get(writer, {"state": "pending"})["state"] == "pending":
        # A receipt that was begun by another writer may have seemed complete.
        _write(connection, found, writer, part, PENDING)


def due(connection: Connection, writer: str, position: str) -> Due:
    """What a writer has still to finish: its rows are gone, and the control event is committed."""
    found = []
    for row in connection.execute(select(audit_log).where(audit_log.c.action == PENDING)):
        part = row.detail["parts"].get(writer, {})
        if part.get("state") == "rows" and position_key(part["position"]) <= position_key(position):
            found.append((row.detail["receipt_id"], part["rows"].get("interactions", 0) > 0))
    return Due(tuple(name for name, _ in found), any(is_learned for _, is_learned in found))


def finish(
    connection: Connection, writer: str, receipt_ids: Sequence[str], generation: int | None, models: int, now: datetime
) -> None:
    """Complete a writer's part of receipts; the last writer's completes the receipt."""
    for receipt_id in sorted(receipt_ids):
        row = connection.execute(_of(receipt_id).with_for_update()).one()
        part = {**row.detail["parts"][writer], "state": "done", "done_at": to_text(now)}
        if part["rows"].get("interactions", 0) > 0:
            part |= {"generation": generation, "models": models}
        others = [one for name, one in row.detail["parts"].items() if name != writer]
        is_last = all(one["state"] == "done" for one in others)
        _write(connection, row, writer, part, ERASED if is_last else PENDING)


def _of(receipt_id: str) -> Any:
    return select(audit_log).where(
        audit_log.c.action.in_([PENDING, ERASED]), audit_log.c.detail["receipt_id"].astext == receipt_id
    )


def _insert(connection: Connection, mark: str, detail: Mapping[str, Any], actor: str, now: datetime) -> None:
    row = {"at": now, "actor": actor, "action": PENDING, "subject": mark, "detail": dict(detail)}
    connection.execute(insert(audit_log).values(row))


def _write(connection: Connection, row: Row[Any], writer: str, part: Mapping[str, Any], action: str) -> None:
    detail = {**row.detail, "parts": {**row.detail["parts"], writer: dict(part)}}
    statement = update(audit_log).where(audit_log.c.audit_id == row.audit_id)
    connection.execute(statement.values(action=action, detail=detail))


def _receipt(row: Row[Any]) -> Receipt:
    parts = {writer: _part(part) for writer, part in sorted(row.detail["parts"].items())}
    times = [part.done_at for part in parts.values() if part.done_at is not None]
    done_at = max(times) if row.action == ERASED else None
    return Receipt(row.detail["receipt_id"], row.subject, row.actor, row.at, done_at, parts)


def _part(raw: Mapping[str, Any]) -> Part:
    return Part(
        raw["state"], raw.get("rows"), raw.get("generation"), raw.get("models", 0), _time(raw.get("done_at"))
    )  # fmt: skip


def _time(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)
