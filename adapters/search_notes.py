"""When loops were last searched for better settings, and what came of it: rows of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, func, select

from adapters.catalogue import audit
from adapters.tables import audit_log

APPLIED = "auto_optimisation.applied"
RETAINED = "auto_optimisation.retained"
ACTOR = "auto-optimisation"


def last_search(engine: Engine, loop: str) -> datetime | None:
    """When a loop was last searched for better settings."""
    query = select(func.max(audit_log.c.at)).where(
        audit_log.c.subject == loop, audit_log.c.action.in_([APPLIED, RETAINED])
    )
    with engine.connect() as connection:
        return connection.execute(query).scalar_one_or_none()


def note_search(engine: Engine, loop: str, *, applied: bool, detail: Mapping[str, Any], now: datetime) -> None:
    """Write down what a search came to."""
    with engine.begin() as connection:
        audit(connection, now, ACTOR, APPLIED if applied else RETAINED, loop, dict(detail))
