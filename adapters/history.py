"""What a new generation learns from: the log's interactions, with rewards as the loop defines them now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

from sqlalchemy import Engine, func, select

from adapters.interaction_log import first_sequence, outcome_from_row, position_key, read_interactions
from adapters.tables import interactions, outcomes, stream_positions
from contextual_bandit.joined import ACTIVATION_KIND
from contextual_bandit.loops import RewardDefinition
from contextual_bandit.reward import rewards_of
from contextual_bandit.types import LoggedInteraction, Outcome

RESCORED_AT_ONCE = 1000


class LoopHistory:
    """A loop's log as its new generations read it."""

    def __init__(self, engine: Engine, loop: str) -> None:
        self._engine = engine
        self._loop = loop

    def first_sequence(self) -> int:
        """The oldest interaction that retention has left, 1 in an empty log."""
        return first_sequence(self._engine, self._loop)

    def page(
        self, after: int, limit: int, closed_from: datetime | None, definition: RewardDefinition | None
    ) -> list[LoggedInteraction]:
        """The next learnable interactions, as ``read_history`` gives them."""
        return list(
            read_history(
                self._engine, self._loop, after=after, limit=limit, closed_from=closed_from, definition=definition
            )
        )


def read_history(
    engine: Engine,
    loop: str,
    *,
    after: int = 0,
    limit: int | None = None,
    closed_from: datetime | None = None,
    definition: RewardDefinition | None = None,
    learnable: bool = True,
) -> Iterator[LoggedInteraction]:
    """Learnable interactions by rising sequence, the newest revision of each.

    Args:
        engine: where the log is.
        loop: the loop's name.
        after: only those behind this sequence.
        limit: at most so many.
        closed_from: only those that closed then or later.
        definition: makes rewards anew from the stored outcomes; without it they are as they were logged.
        learnable: False gives those of every use.
    """
    found = read_interactions(
        engine, loop, after=after, limit=limit, learnable=learnable, sound=True, latest=True, closed_from=closed_from
    )
    if definition is None:
        yield from found
        return
    while batch := list(islice(found, RESCORED_AT_ONCE)):
        yield from _rescored(engine, loop, definition, batch)


def _rescored(
    engine: Engine, loop: str, definition: RewardDefinition, batch: Sequence[LoggedInteraction]
) -> Iterator[LoggedInteraction]:
    """The batch with rewards by a definition; what an outcome was worth when it came stays."""
    states = ["joined", "late"] if definition.late_outcomes == "rebuild" else ["joined"]
    query = select(outcomes).where(
        outcomes.c.loop == loop,
        outcomes.c.decision_id == func.any([one.decision.decision_id for one in batch]),
        outcomes.c.state == func.any(states),
        outcomes.c.kind != ACTIVATION_KIND,
    )
    received: dict[str, list[Outcome]] = defaultdict(list)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    for row in sorted(rows, key=lambda row: position_key(row["position"])):
        received[row["decision_id"]].append(outcome_from_row(row))
    for one in batch:
        reward, by_slot = rewards_of(definition, received[one.decision.decision_id], one.decision)
        yield replace(one, reward=reward, slot_rewards=by_slot)


def outcome_sums(
    engine: Engine, loop: str, decision_ids: Sequence[str], kinds: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Summed values of outcomes of these kinds by decision and kind, whether or not they came within the wait."""
    if not decision_ids or not kinds:
        return {}
    query = select(outcomes.c.decision_id, outcomes.c.kind, func.sum(outcomes.c.value)).where(
        outcomes.c.loop == loop,
        outcomes.c.decision_id == func.any(list(decision_ids)),
        outcomes.c.kind == func.any(list(kinds)),
    )
    found: dict[str, dict[str, float]] = defaultdict(dict)
    with engine.connect() as connection:
        for decision_id, kind, total in connection.execute(query.group_by(outcomes.c.decision_id, outcomes.c.kind)):
            found[decision_id][kind] = float(total)
    return dict(found)


def sequence_before(engine: Engine, loop: str, closed_from: datetime) -> int:
    """The last interaction that closed before a time; 0 without one."""
    query = select(func.max(interactions.c.sequence)).where(
        interactions.c.loop == loop, interactions.c.closed_at < closed_from
    )
    with engine.connect() as connection:
        return int(connection.execute(query).scalar() or 0)


def stream_time(engine: Engine, loop: str) -> datetime | None:
    """How far the time of a loop's stream is; None before its first message."""
    query = select(stream_positions.c.stream_time).where(stream_positions.c.stream == f"loop:{loop}")
    with engine.connect() as connection:
        return connection.execute(query).scalar_one_or_none()
