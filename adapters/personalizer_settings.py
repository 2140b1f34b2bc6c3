"""What users of the Personalizer API set that no loop has a place for, one document for each loop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from adapters.tables import decisions, interactions, open_decisions, outcomes, personalizer_settings


@dataclass(frozen=True, slots=True)
class PersonalizerSettings:
    """One loop's.

    Attributes:
        policy_name: as it was sent.
        policy_arguments: as they were sent; None while nobody sent any.
        served_arguments: the loop's learning setting that they stand for. When the loop has another one, it was
            changed elsewhere, and counts.
        is_multi_slot: whether the arguments ask for several slots.
        log_retention_days: as it was sent; -1 keeps for ever. None while nobody sent any.
        is_explained: whether rank calls answer with what spoke for the best action.
        edited_at: when training settings were changed last.
        log_mirror_enabled: kept without effect.
        log_mirror_sas_uri: kept without effect.
        logs_deleted_at: events that were decided before are deleted.
        apprentice_since: when the apprentice mode was first on.
    """

    policy_name: str = "offerloop"
    policy_arguments: str | None = None
    served_arguments: str | None = None
    is_multi_slot: bool = False
    log_retention_days: int | None = None
    is_explained: bool = False
    edited_at: datetime | None = None
    log_mirror_enabled: bool | None = None
    log_mirror_sas_uri: str | None = None
    logs_deleted_at: datetime | None = None
    apprentice_since: datetime | None = None


_SETTINGS: TypeAdapter[PersonalizerSettings] = TypeAdapter(PersonalizerSettings)


class PersonalizerStore:
    """Reads and writes the documents, and the log as far as this API deletes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, loop: str) -> PersonalizerSettings | None:
        """A loop's document; None when the API was never called for it."""
        query = select(personalizer_settings.c.settings).where(personalizer_settings.c.loop == loop)
        with self._engine.connect() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else _SETTINGS.validate_python(found)

    def put(self, loop: str, settings: PersonalizerSettings, now: datetime) -> None:
        """Store a loop's document."""
        row = {"loop": loop, "settings": _SETTINGS.dump_python(settings, mode="json"), "updated_at": now}
        put = insert(personalizer_settings).values(row)
        with self._engine.begin() as connection:
            connection.execute(put.on_conflict_do_update(index_elements=["loop"], set_=row))

    def log_span(self, loop: str, after: datetime | None) -> tuple[datetime, datetime] | None:
        """When the first and the last logged event were decided; None when there is none."""
        query = select(func.min(decisions.c.decided_at), func.max(decisions.c.decided_at)).where(
            decisions.c.loop == loop
        )
        if after is not None:
            query = query.where(decisions.c.decided_at > after)
        with self._engine.connect() as connection:
            first, last = connection.execute(query).one()
        return None if first is None else (first, last)

    def delete_closed(self, loop: str, until: datetime) -> int:
        """Delete the events that were decided until then and are closed; returns how many."""
        is_open = (
            select(open_decisions.c.decision_id)
            .where(open_decisions.c.loop == loop, open_decisions.c.decision_id == decisions.c.decision_id)
            .exists()
        )
        gone = delete(decisions).where(decisions.c.loop == loop, decisions.c.decided_at <= until, ~is_open)
        with self._engine.begin() as connection:
            names = connection.execute(gone.returning(decisions.c.decision_id)).scalars().all()
            for table in (interactions, outcomes):
                connection.execute(
                    delete(table).where(table.c.loop == loop, table.c.decision_id == func.any(list(names)))
                )
        return len(names)
