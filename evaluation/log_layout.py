"""Which fields a log file has, and so what can be read from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from evaluation.chunks import LogSource
from evaluation.row_faults import LogUnusable

# Numbers of each action, and numbers of each decision in logs that keep only what estimators need.
PER_ACTION = ("target_probs", "q_hat")
PER_DECISION = ("target_prob", "q_chosen", "q_target")
PROBABILITIES = frozenset({"target_probs", "target_prob"})
# The one pair of a decision whose log does not say what else was eligible.
ONLY_CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class LogLayout:
    """What a file's rows hold.

    Attributes:
        event_id: whether rows are named; else their number names them.
        ts: whether rows have a time.
        context: whether they have one.
        actions: whether the eligible actions are told; else any list of numbers says how many there are.
        propensity: whether it was logged.
        probs: whether the whole served distribution was, which holds the propensity too.
        columns: further numbers to carry, each a list with one entry per action, or one number if ``flat``.
        flat: rows tell of the chosen action alone, so that a decision has one pair.
    """

    event_id: bool
    ts: bool
    context: bool
    actions: bool
    propensity: bool
    probs: bool
    columns: tuple[str, ...]
    flat: bool

    @classmethod
    def of(cls, path: Path, names: Collection[str], lists: Collection[str], wanted: Sequence[str]) -> Self:
        """Find out from the names of a file's fields.

        Args:
            path: the file, for errors.
            names: all its fields.
            lists: those that hold lists.
            wanted: further columns that must be there.

        Raises:
            LogUnusable: a required or wanted field is not there, or the propensities cannot even be estimated.
        """
        flat = "actions" not in names and not any(name in lists for name in (*PER_ACTION, "probs", *wanted))
        for name in ("reward",) if flat else ("reward", "chosen"):
            if name not in names:
                raise LogUnusable(path, f"no field {name!r}; it has {_listed(names)}")
        if flat and "propensity" not in names:
            raise LogUnusable(path, f"neither 'propensity' nor 'actions' to estimate it by; it has {_listed(names)}")
        for name in wanted:
            if name not in names:
                raise LogUnusable(path, f"no column {name!r}; it has {_listed(names)}")
            if not flat and name not in lists:
                raise LogUnusable(path, f"column {name!r} holds no list with one number per action")
        standard = PER_DECISION if flat else PER_ACTION
        columns = tuple(dict.fromkeys((*(name for name in standard if name in names), *wanted)))
        return cls(
            event_id="event_id" in names,
            ts="ts" in names,
            context="context" in names,
            actions="actions" in names,
            propensity="propensity" in names,
            probs="probs" in names and not flat,
            columns=columns,
            flat=flat,
        )

    @property
    def estimated(self) -> bool:
        """Whether propensities must be estimated."""
        return not self.propensity and not self.probs

    def notes(self) -> list[str]:
        """What a reader of the report should know."""
        found = []
        if not self.event_id:
            found.append("the log has no event_id; rows are named by their number")
        if not self.ts:
            found.append("the log has no ts: its order is the file's, and 1970-01-01 stands for every time")
        if self.flat:
            found.append("the log tells of the chosen actions alone, so support by offer cannot be checked")
        return found


class FileLog(LogSource, Protocol):
    """A log in a file, whose fields are known before it is read."""

    @property
    def layout(self) -> LogLayout:
        """Which fields its rows have."""


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:20]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "") if shown else "no fields"
