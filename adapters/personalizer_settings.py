"""What users of the Personalizer API set that no loop has a place for, one document for each loop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from adapters.tables import decisions, personalizer_settings

EVALUATION_PREFIX, FEATURES_PREFIX = "personalizer", "personalizer-features"
_EPSILON = re.compile(r"(--epsilon[ =]+)(\S+)")


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
    apprentice_since: datetime | None = None


_SETTINGS: TypeAdapter[PersonalizerSettings] = TypeAdapter(PersonalizerSettings)


class PersonalizerStore:
    """Reads and writes the documents, and reads what this API tells of the log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, loop: str) -> PersonalizerSettings | None:
        """A loop's document; None when the API was never called for it.

        Raises:
            RuntimeError: what is stored is no such document.
        """
        query = select(personalizer_settings.c.settings).where(personalizer_settings.c.loop == loop)
        with self._engine.connect() as connection:
            found = connection.execute(query).scalar_one_or_none()
        try:
            return None if found is None else _SETTINGS.validate_python(found)
        except ValidationError as error:
            # Not the caller's fault, as other validation errors are.
            raise RuntimeError(f"the stored Personalizer settings of loop {loop!r}: {error}") from None

    def put(self, loop: str, settings: PersonalizerSettings, now: datetime) -> None:
        """Store a loop's document."""
        row = {"loop": loop, "settings": _SETTINGS.dump_python(settings, mode="json"), "updated_at": now}
        put = insert(personalizer_settings).values(row)
        with self._engine.begin() as connection:
            connection.execute(put.on_conflict_do_update(index_elements=["loop"], set_=row))

    def count_events(self, loop: str, start: datetime, end: datetime, most: int) -> int:
        """How many events were decided from ``start`` to ``end``; counting ends at ``most``."""
        decided_at = decisions.c.decided_at
        found = select(decided_at).where(decisions.c.loop == loop, decided_at >= start, decided_at <= end).limit(most)
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(found.subquery())).scalar_one())

    def log_span(self, loop: str) -> tuple[datetime, datetime] | None:
        """When the first and the last logged event were decided; None when there is none."""
        query = select(func.min(decisions.c.decided_at), func.max(decisions.c.decided_at)).where(
            decisions.c.loop == loop
        )
        with self._engine.connect() as connection:
            first, last = connection.execute(query).one()
        return None if first is None else (first, last)


def evaluation_key(loop: str, name: str, prefix: str = EVALUATION_PREFIX) -> str:
    """What an evaluation of this API is called among all of the installation."""
    return f"{prefix}:{loop}:{name}"


def with_epsilon(arguments: str, epsilon: float) -> str:
    """Arguments whose exploration is this; they are left as they are where it is so already.

    >>> with_epsilon("--cb_explore_adf --epsilon 0.20 -q ::", 0.2)
    '--cb_explore_adf --epsilon 0.20 -q ::'
    >>> with_epsilon("--cb_explore_adf -q ::", 0.5)
    '--cb_explore_adf -q :: --epsilon 0.5'
    """
    found = _EPSILON.search(arguments)
    if found is None:
        return f"{arguments} --epsilon {epsilon:g}"
    if float(found.group(2)) == epsilon:
        return arguments
    return _EPSILON.sub(lambda match: f"{match.group(1)}{epsilon!r}", arguments)
