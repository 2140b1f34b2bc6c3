"""Reads the audit log: who changed what, when and why. Rows are written where the changes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from adapters.tables import audit_log


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row of the audit log.

    Attributes:
        audit_id: rows have ids in the order in which they were written.
        at: when, by the clock of who wrote it.
        actor: who: the name of an API key, or of the part of Offerloop that did it by itself.
        action: what was done, such as ``offer.killed``.
        subject: to what: a loop's name, the id of an offer, of a key, of a job.
        detail: what else there is to tell, such as the reason.
    """

    audit_id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


class AuditLog:
    """The audit log, to read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def entries(
        self, limit: int, *, subject: str | None = None, action: str | None = None, before: int | None = None
    ) -> list[AuditEntry]:
        """The last rows that were written, the newest first.

        Args:
            limit: how many at most, 1 or more.
            subject: only of this subject, exactly.
            action: only of this action, exactly.
            before: only rows written before the one of this ``audit_id``; it need not be there.
        """
        query = select(audit_log).order_by(audit_log.c.audit_id.desc()).limit(limit)
        if subject is not None:
            query = query.where(audit_log.c.subject == subject)
        if action is not None:
            query = query.where(audit_log.c.action == action)
        if before is not None:
            query = query.where(audit_log.c.audit_id < before)
        with self._engine.connect() as connection:
            return [AuditEntry(**row._mapping) for row in connection.execute(query)]
