"""What is wrong with rows of a log file, counted by reason; and files that cannot be used at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from evaluation.chunks import LogNotes

MOST_EXAMPLES = 5
PROPENSITY_RANGE = "outside (0, 1]"
# By how much probabilities of a target may exceed 1: 32-bit floats add up no better.
TOLERANCE = 1e-6
# Served distributions are often written with few digits; they tell of support, the propensity alone of weights.
SERVED_TOLERANCE = 1e-3


class LogUnusable(ValueError):
    """A log file that cannot be evaluated; the message names the file and says why."""

    def __init__(self, path: Path, why: str) -> None:
        """Take the file and the reason."""
        super().__init__(f"log {path}: {why}")
        self.path = path
        self.why = why


class BadRow(ValueError):
    """A row that cannot be used: the field at fault, why, and the value that was found."""

    def __init__(self, field: str, why: str, value: object = None, *, impossible: bool = False) -> None:
        """Take them; ``impossible`` marks probabilities that no policy can have had."""
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why
        self.value = value
        self.impossible = impossible


class RowFaults:
    """Counts the rows of a file that cannot be used into its notes.

    ``place`` is what the file's rows are called: line or row, counted from 1.
    """

    def __init__(self, found: LogNotes, place: str) -> None:
        """Count into these notes."""
        self._found = found
        self._place = place
        self._examples: dict[str, list[str]] = {}

    def add(self, fault: BadRow, number: int) -> None:
        """Count one row."""
        self.add_many(fault, 1, number)

    def add_many(self, fault: BadRow, count: int, first: int) -> None:
        """Count rows with the same fault; ``first`` is the number of the first, whose value the fault holds."""
        reason = f"{fault.field}: {fault.why}"
        self._found.skipped[reason] += count
        if fault.impossible:
            self._found.inconsistent += count
        examples = self._examples.setdefault(reason, [])
        if len(examples) < MOST_EXAMPLES:
            value = "" if fault.value is None else f", got {short(fault.value)}"
            examples.append(f"{self._place} {first}{value}")

    def finish(self) -> None:
        """Write the examples into the notes."""
        for reason, examples in sorted(self._examples.items()):
            count = self._found.skipped[reason]
            self._found.notes.append(f"{count:,} not used, {reason} ({'; '.join(examples)})")


def short(value: object) -> str:
    """A value for a message."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def number_of(value: Any, field: str) -> float:
    """A finite number.

    Raises:
        BadRow: it is missing, no number, or not finite.
    """
    if value is None:
        raise BadRow(field, "missing")
    if isinstance(value, bool) and field == "reward":
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(field, "not a number", value)
    try:
        number = float(value)
    except OverflowError:
        raise BadRow(field, "not finite", value) from None
    if not math.isfinite(number):
        raise BadRow(field, "not finite", value)
    return number


def propensity_of(value: Any) -> float:
    """A probability in (0, 1].

    Raises:
        BadRow: it is no number, or impossible.
    """
    number = number_of(value, "propensity")
    if not 0.0 < number <= 1.0 + TOLERANCE:
        raise BadRow("propensity", PROPENSITY_RANGE, value, impossible=True)
    return min(number, 1.0)


def index_of(value: Any, actions: int) -> int:
    """The index of the chosen one of so many actions.

    Raises:
        BadRow: it is missing, no whole number, or no action has it.
    """
    if value is None:
        raise BadRow("chosen", "missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise BadRow("chosen", "not a whole number", value)
    if not 0 <= value < actions:
        raise BadRow("chosen", "not among the actions", value)
    return int(value)


def numbers_of(value: Any, field: str, actions: int) -> list[float]:
    """One finite number for each of so many actions.

    Raises:
        BadRow: it is missing, no list, of another length, or holds something else.
    """
    if value is None:
        raise BadRow(field, "missing")
    if not isinstance(value, list):
        raise BadRow(field, "not a list of numbers", value)
    if len(value) != actions:
        raise BadRow(field, "not one number per action", value)
    return [number_of(one, field) for one in value]


def check_probabilities(probabilities: list[float], field: str) -> None:
    """Refuse what is negative or sums to more than 1.

    Raises:
        BadRow: it is.
    """
    if min(probabilities, default=0.0) < 0.0:
        raise BadRow(field, "negative", min(probabilities))
    if sum(probabilities) > 1.0 + TOLERANCE:
        raise BadRow(field, "more than 1", sum(probabilities))


def check_served(served: list[float], chosen: int, propensity: float) -> None:
    """Refuse a whole logged distribution that does not sum to 1 or does not hold the propensity.

    Raises:
        BadRow: it does not.
    """
    if min(served) < 0.0 or abs(sum(served) - 1.0) > SERVED_TOLERANCE:
        raise BadRow("probs", "not a distribution", sum(served), impossible=True)
    if abs(served[chosen] - propensity) > SERVED_TOLERANCE * propensity + TOLERANCE:
        raise BadRow("propensity", "not that of probs", propensity, impossible=True)
