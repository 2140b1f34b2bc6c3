"""What the join changes: open and closed decisions, stored outcomes, and a batch that commits as one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from contextual_bandit import events
from contextual_bandit.types import Decision, Event, Outcome

# The kind under which an activation waits for a decision that it overtook; no client can send it.
ACTIVATION_KIND = "\x01activation"
# How many outcomes may wait for their decisions in memory.
MOST_ORPHANS = 100_000
# Outcomes of these kinds say that the customer took the offer up.
REDEEMING = frozenset({"redemption", "purchase"})
# zlib's fastest level: the slowest makes records of 20 offers smaller by a tenth.
_FAST = 1


Change: TypeAlias = Literal["inactive", "unredeemed", "redeemed"]


@dataclass(slots=True)
class Open:
    """A decision whose reward window has not ended; ``record`` is its payload as it stood on the stream.

    A million may be open at a time, so that what nobody asks for now can be packed: a decision of 20 offers takes some
    40 kB ready to use, and 2 kB packed. It is read again when it is asked for.
    """

    _decision: Decision | None
    _record: bytes
    active: bool
    opened_at: datetime
    closes_at: datetime
    position: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def is_packed(self) -> bool:
        """Whether asking for the decision means reading it."""
        return self._decision is None

    @property
    def decision(self) -> Decision:
        """The decision; from now on it is ready."""
        if self._decision is None:
            self._record = self.record
            self._decision = events.decision_from(events.decode(self.position, self._record).payload)
        return self._decision

    @property
    def record(self) -> bytes:
        """The payload as it stood on the stream."""
        return zlib.decompress(self._record) if self._decision is None else self._record

    def pack(self) -> None:
        """Keep no more than is needed to read the decision again."""
        if self._decision is not None:
            self._record, self._decision = compressed(self._record), None


def compressed(record: bytes) -> bytes:
    """A record as a packed decision has it."""
    return zlib.compress(record, _FAST)


@dataclass(frozen=True, slots=True)
class Closed:
    """A decision with its final reward, in the order in which decisions closed; ``slot_rewards`` as of interactions."""

    sequence: int
    decision: Decision
    reward: float
    opened_at: datetime
    closed_at: datetime
    slot_rewards: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """A closed decision with its reward as of this revision; ``before`` is the one before.

    Revision 0 is what was learned. ``set_aside``: the interaction kills the learner, whatever its reward.
    """

    closed: Closed
    number: int
    before: Closed | None
    set_aside: bool


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """An outcome with what became of it.

    ``joined``, ``late``, ``orphan`` (no such decision so far), or ``unknown_slot`` (the decision has no such slot).
    """

    outcome: Outcome
    position: str
    state: str


@dataclass(frozen=True, slots=True)
class UnitChange:
    """What became of a show that was counted: ``inactive`` (nobody saw it), ``unredeemed``, or ``redeemed``.

    ``decision`` has one slot, or is the view of the one that showed it (``contextual_bandit.slots``). ``shown_at`` is
    the moment under which it was counted, ``changed_at`` stream time.
    """

    decision: Decision
    change: Change
    shown_at: datetime
    changed_at: datetime


@dataclass(slots=True)
class Batch:
    """All that a run of messages changed; committed in one transaction."""

    position: str
    stream_time: datetime | None
    sequence: int
    opened: list[Open] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    revised: list[Revision] = field(default_factory=list)
    inactive: list[str] = field(default_factory=list)
    activated: list[str] = field(default_factory=list)
    outcomes: list[StoredOutcome] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    set_aside: list[tuple[str, bytes, str]] = field(default_factory=list)
    spools: dict[str, datetime] = field(default_factory=dict)
    held: tuple[datetime, datetime] | None = None
    controls: list[Event] = field(default_factory=list)
    unit_changes: list[UnitChange] = field(default_factory=list)
    repeated: int = 0
    late: int = 0


@dataclass(slots=True)
class JoinState:
    """Where a loop's join stands: what PostgreSQL holds, read back at start.

    ``spools`` are the announced ones with the time of their oldest message; ``held`` is (closing stands at, until).
    """

    position: str = "0-0"
    stream_time: datetime | None = None
    sequence: int = 0
    open: dict[str, Open] = field(default_factory=dict)
    orphans: dict[str, list[Outcome]] = field(default_factory=dict)
    spools: dict[str, datetime] = field(default_factory=dict)
    held: tuple[datetime, datetime] | None = None
