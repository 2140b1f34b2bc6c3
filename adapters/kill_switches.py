"""Kill switches of loops and offers: thrown at once, with a reason, and undone by nothing but themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

import redis
from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from adapters.catalogue import audit
from adapters.streams import VERSIONS_KEY
from adapters.tables import kill_switches

Scope: TypeAlias = Literal["loop", "offer"]
# The field of the versions that services watch.
SWITCHES = "kill_switches"
_table = kill_switches


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """A kill switch as it was last thrown.

    Attributes:
        scope: what it is of.
        name: the loop's, or the offer's id.
        is_on: a loop serves the campaign manager's baseline alone; an offer is shown by no loop.
        reason: why.
        actor: who threw it.
        changed_at: when.
    """

    scope: Scope
    name: str
    is_on: bool
    reason: str
    actor: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Killed:
    """The names of all loops and offers whose kill switches are on."""

    loops: frozenset[str] = frozenset()
    offers: frozenset[str] = frozenset()


class KillSwitchStore:
    """The switches, in a table of their own: records of loops and offers come and go without touching them."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def throw(self, switch: KillSwitch) -> int:
        """Store a switch and note it in the audit log; returns the version of all switches that has it in it."""
        row = {name: getattr(switch, name) for name in KillSwitch.__dataclass_fields__}
        action = f"{switch.scope}.{'killed' if switch.is_on else 'revived'}"
        with self._engine.begin() as connection:
            put = insert(_table).values(row)
            connection.execute(put.on_conflict_do_update(index_elements=["scope", "name"], set_=row))
            audit(connection, switch.changed_at, switch.actor, action, switch.name, {"reason": switch.reason})
        return int(self._client.hincrby(VERSIONS_KEY, SWITCHES, 1))

    def get(self, scope: Scope, name: str) -> KillSwitch | None:
        """A switch as it was last thrown; None when it never was."""
        query = select(_table).where(_table.c.scope == scope, _table.c.name == name)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else KillSwitch(**row._mapping)

    def on(self) -> list[KillSwitch]:
        """All that are on, the newest first."""
        query = select(_table).where(_table.c.is_on).order_by(_table.c.changed_at.desc(), _table.c.scope, _table.c.name)
        with self._engine.connect() as connection:
            return [KillSwitch(**row._mapping) for row in connection.execute(query)]


def killed_by(switches: Iterable[KillSwitch]) -> Killed:
    """What switches that are on take out."""
    names: dict[Scope, set[str]] = {"loop": set(), "offer": set()}
    for switch in switches:
        names[switch.scope].add(switch.name)
    return Killed(frozenset(names["loop"]), frozenset(names["offer"]))
