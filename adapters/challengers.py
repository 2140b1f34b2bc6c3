"""Challengers as they stand: how far each has followed its loop's log, what it has learned, and what it is worth.

One process follows a loop's challengers. Each of its commits names the generation and the position that it goes on
from, so that one who was overtaken (customers were erased, a challenger was promoted) stores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.snapshots import add_snapshot
from adapters.tables import challengers, policy_snapshots
from contextual_bandit.types import PolicySnapshot

# Rows of this name are watches over a loop's own policy after it was promoted: no challenger may have it.
CHAMPION = "champion"
# Where the policy goes that a promotion replaced.
PREVIOUS = "previous"
# A challenger on which so many followers died is to blame itself.
MOST_ATTEMPTS = 3
PolicyVerdict: TypeAlias = Literal["better", "worse", "not_shown", "refused"]
GuardrailStatus: TypeAlias = Literal["waiting", "within", "open", "violated"]
_table = challengers


@dataclass(frozen=True, slots=True)
class GuardrailState:
    """One guardrail of one policy.

    Attributes:
        metric: as the loop's settings name it.
        relative: whether the numbers are differences to the champion's decisions of the same time.
        n: own decisions so far.
        value: the metric's mean; None before the first decision.
        low: of the interval, which holds at every look.
        high: of it.
        bound: the bound that is violated.
        state: ``waiting`` for its least decisions, ``within`` the bounds, ``open`` where the interval holds a bound,
            or ``violated``.
    """

    metric: str
    relative: bool
    n: int
    value: float | None
    low: float | None
    high: float | None
    bound: float | None
    state: GuardrailStatus


@dataclass(frozen=True, slots=True)
class ChallengerState:
    """What is known of a challenger. Numbers are None before the first decision that tells them.

    Attributes:
        name: of the challenger.
        arguments: what it learns by.
        generation: counts how often it began anew.
        trained_through: sequence of the last interaction that it has learned from.
        updated_at: when this was written.
        n: decisions that it was evaluated on, each before it learned from it.
        value: progressive off-policy value, mean reward per decision (of several slots: per slot).
        low: of its interval, which holds at every look.
        high: of it.
        champion_value: mean reward of the same decisions as they were served, with interval.
        gain: paired difference of the two, with interval.
        effective_sample_size: equally weighted decisions that would tell as much.
        served: decisions that it served itself, as a canary.
        served_value: their mean reward, with interval.
        served_champion: the champion's decisions of the same time.
        served_champion_value: their mean reward, with interval.
        guardrails: of those decisions.
        verdict: of the gain (``evaluation.gates``).
        reasons: why so.
        error: why it is followed no more, if so.
    """

    name: str
    arguments: str
    generation: int
    trained_through: int
    updated_at: datetime
    n: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    champion_value: float | None = None
    champion_low: float | None = None
    champion_high: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    effective_sample_size: float = 0.0
    served: int = 0
    served_value: float | None = None
    served_low: float | None = None
    served_high: float | None = None
    served_champion: int = 0
    served_champion_value: float | None = None
    served_champion_low: float | None = None
    served_champion_high: float | None = None
    guardrails: tuple[GuardrailState, ...] = ()
    verdict: PolicyVerdict = "refused"
    reasons: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ChampionWatch:
    """The loop's own policy since it was promoted: ``generation`` began then, ``served`` decisions were its own."""

    generation: int
    served: int
    guardrails: tuple[GuardrailState, ...]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ChallengerRow:
    """A challenger as its follower stores it.

    Attributes:
        name: of the challenger, or ``CHAMPION``.
        generation: of the challenger; of a watch the loop's own.
        trained_through: sequence of the last interaction that was taken.
        attempts: how many followers began on what comes next and stored nothing.
        state: ``mark`` of what it learns, ``sums``, and ``shown``: a ``ChallengerState``. Empty: it must begin anew.
        model: what it has learned.
    """

    name: str
    generation: int
    trained_through: int
    attempts: int
    state: Mapping[str, Any]
    model: bytes | None


class Overtaken(RuntimeError):
    """Somebody else changed a challenger meanwhile; what was not stored is to be forgotten."""


_STATE: TypeAdapter[ChallengerState] = TypeAdapter(ChallengerState)
_GUARDRAILS: TypeAdapter[tuple[GuardrailState, ...]] = TypeAdapter(tuple[GuardrailState, ...])


def shown_record(state: ChallengerState) -> dict[str, Any]:
    """A challenger's state as JSON."""
    record: dict[str, Any] = _STATE.dump_python(state, mode="json")
    return record


def guardrails_record(states: tuple[GuardrailState, ...]) -> list[dict[str, Any]]:
    """States of guardrails as JSON."""
    record: list[dict[str, Any]] = _GUARDRAILS.dump_python(states, mode="json")
    return record


class ChallengerStore:
    """The challengers of loops, in PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self, loop: str) -> list[ChallengerState]:
        """Every challenger of a loop that has begun, by name."""
        return [_STATE.validate_python(row.state["shown"]) for row in self.rows(loop) if "shown" in row.state]

    def watch(self, loop: str) -> ChampionWatch | None:
        """How a promoted champion does; None when none is watched."""
        query = select(_table).where(_table.c.loop == loop, _table.c.name == CHAMPION)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or not row.state:
            return None
        found = _GUARDRAILS.validate_python(row.state.get("guardrails", []))
        return ChampionWatch(row.generation, int(row.state.get("served", 0)), found, row.updated_at)

    def rows(self, loop: str) -> list[ChallengerRow]:
        """All of a loop, by name; those that must begin anew too."""
        query = select(_table).where(_table.c.loop == loop).order_by(_table.c.name)
        with self._engine.connect() as connection:
            return [_row(row) for row in connection.execute(query)]

    def row(self, loop: str, name: str) -> ChallengerRow | None:
        """One of them; None when it never was."""
        query = select(_table).where(_table.c.loop == loop, _table.c.name == name)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _row(row)

    def positions(self, loop: str) -> dict[str, tuple[int, int]]:
        """Generation and position of each that has begun, by name; without what is large."""
        query = select(_table.c.name, _table.c.generation, _table.c.trained_through)
        with self._engine.connect() as connection:
            rows = connection.execute(query.where(_table.c.loop == loop, _table.c.state != {}))
            return {row.name: (row.generation, row.trained_through) for row in rows}

    def loops(self) -> set[str]:
        """Loops of which a challenger has begun."""
        with self._engine.connect() as connection:
            return set(connection.execute(select(_table.c.loop).where(_table.c.state != {}).distinct()).scalars())

    def next_generation(self, loop: str, name: str) -> int:
        """A number that no snapshot of the challenger has, whoever had its name before."""
        of_row = select(func.max(_table.c.generation)).where(_table.c.loop == loop, _table.c.name == name)
        of_snapshots = select(func.max(policy_snapshots.c.generation)).where(
            policy_snapshots.c.loop == loop, policy_snapshots.c.challenger == name
        )
        with self._engine.connect() as connection:
            found = [connection.execute(query).scalar() or 0 for query in (of_row, of_snapshots)]
        return max(found) + 1

    def begin(self, loop: str, row: ChallengerRow, now: datetime, snapshot: PolicySnapshot | None = None) -> None:
        """Store a generation that begins, with a snapshot to serve if there is one already.

        Raises:
            Overtaken: a later one has begun.
        """
        with self._engine.begin() as connection:
            begin_challenger(connection, loop, row, now)
            if snapshot is not None:
                add_snapshot(connection, snapshot, publish=True, now=now)

    def commit(
        self, loop: str, before: ChallengerRow, after: ChallengerRow, now: datetime,
        snapshot: PolicySnapshot | None = None,
    ) -> None:  # fmt: skip
        """Store how far a challenger is, and in the same transaction a snapshot to serve.

        Raises:
            Overtaken: the challenger is not where ``before`` says.
        """
        values = {
            "trained_through": after.trained_through, "attempts": after.attempts, "state": dict(after.state),
            "model": after.model, "updated_at": now,
        }  # fmt: skip
        with self._engine.begin() as connection:
            stored = connection.execute(update(_table).where(*_at(loop, before)).values(values)).rowcount
            if not stored:
                raise Overtaken(f"challenger {before.name!r} of loop {loop!r} was changed by somebody else")
            if snapshot is not None:
                add_snapshot(connection, snapshot, publish=True, now=now)

    def attempt(self, loop: str, row: ChallengerRow) -> None:
        """Write down that somebody begins on what comes next; the commit takes it back.

        Raises:
            Overtaken: the challenger is not where ``row`` says.
        """
        with self._engine.begin() as connection:
            begun = update(_table).where(*_at(loop, row)).values(attempts=_table.c.attempts + 1)
            if not connection.execute(begun).rowcount:
                raise Overtaken(f"challenger {row.name!r} of loop {loop!r} was changed by somebody else")

    def remove(self, loop: str, name: str, now: datetime) -> None:
        """Forget what a challenger learned; only its number stays, so that none of its names is given twice."""
        with self._engine.begin() as connection:
            remove_challenger(connection, loop, name, now)


def begin_challenger(connection: Connection, loop: str, row: ChallengerRow, now: datetime) -> None:
    """Store a generation that begins, in somebody's transaction.

    Raises:
        Overtaken: a later one has begun.
    """
    values = {
        "loop": loop, "name": row.name, "generation": row.generation, "trained_through": row.trained_through,
        "attempts": 0, "state": dict(row.state), "model": row.model, "updated_at": now,
    }  # fmt: skip
    put = insert(_table).values(values)
    put = put.on_conflict_do_update(
        index_elements=["loop", "name"], set_=values, where=_table.c.generation < row.generation
    )
    if connection.execute(put.returning(_table.c.generation)).first() is None:
        raise Overtaken(f"challenger {row.name!r} of loop {loop!r} began anew meanwhile")


def remove_challenger(connection: Connection, loop: str, name: str, now: datetime) -> None:
    """Forget what a challenger learned, in somebody's transaction; its number stays."""
    gone: dict[str, Any] = {"state": {}, "model": None, "attempts": 0, "trained_through": 0, "updated_at": now}
    connection.execute(update(_table).where(_table.c.loop == loop, _table.c.name == name).values(gone))


def restart_challengers(connection: Connection, loop: str, now: datetime) -> None:
    """Let every challenger of a loop begin anew: what they learned from is gone from the log.

    The generation rises at once, so that a follower that has read the log before stores nothing.
    """
    anew = {
        "generation": _table.c.generation + 1, "trained_through": 0, "attempts": 0, "state": {}, "model": None,
        "updated_at": now,
    }  # fmt: skip
    connection.execute(update(_table).where(_table.c.loop == loop, _table.c.name != CHAMPION).values(anew))


def _at(loop: str, row: ChallengerRow) -> tuple[Any, ...]:
    return (
        _table.c.loop == loop, _table.c.name == row.name, _table.c.generation == row.generation,
        _table.c.trained_through == row.trained_through, _table.c.state != {},
    )  # fmt: skip


def _row(row: Row[Any]) -> ChallengerRow:
    return ChallengerRow(**{name: getattr(row, name) for name in ChallengerRow.__dataclass_fields__})
