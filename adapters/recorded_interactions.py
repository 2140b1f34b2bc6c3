"""Interactions together with what their records hold besides: the features that another service gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import distinct_on

from adapters.tables import decisions, interactions
from contextual_bandit import events
from contextual_bandit.types import LoggedInteraction


@dataclass(frozen=True, slots=True)
class RecordedInteraction:
    """An interaction; ``given`` are an imported one's features under the names that they had where it came from."""

    interaction: LoggedInteraction
    given: dict[str, Any] | None


def read_recorded(engine: Engine, loop: str) -> Iterator[RecordedInteraction]:
    """All interactions of a loop by rising sequence, streamed, with their newest rewards; without those set aside."""
    query = (
        select(interactions, decisions.c.record, decisions.c.position)
        .join(
            decisions,
            (decisions.c.loop == interactions.c.loop)
            & (decisions.c.decision_id == interactions.c.decision_id)
            & (decisions.c.decided_at == interactions.c.decided_at),
        )
        .where(interactions.c.loop == loop, ~interactions.c.set_aside)
        .ext(distinct_on(interactions.c.sequence))
        .order_by(interactions.c.sequence, interactions.c.revision.desc())
    )
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=1000).execute(query):
            payload = events.decode(row.position, row.record).payload
            interaction = LoggedInteraction(
                row.sequence, events.decision_from(payload), row.reward, row.use, row.closed_at, row.revision,
                tuple(row.slot_rewards or ()),
            )  # fmt: skip
            yield RecordedInteraction(interaction, payload.get("given"))
