"""Customers, or a whole log, erased in stream order: what both kinds of writer do at the control event, and after it.

At the event a writer erases the rows in one transaction that also notes it in the receipt; only then it commits the
event's position. Killed in between it meets the event again and finds nothing more to erase. After the event the loop's
model is trained anew, streams are cut behind the committed position, and the receipt is completed: a writer that was
killed before that does it when it is taken again, once for all erasures that wait. So erasing many costs little more
than erasing one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from adapters.customers import ProfileLog
from adapters.erasure import Erasure
from adapters.loop_log import LoopLog
from adapters.sessions import forget_sessions
from adapters.streams import ACTIVITY_STREAM, StreamReader, decided_key, loop_stream
from adapters.units import seen_key
from contextual_bandit import events
from contextual_bandit.profile import POPULATION_HALF_LIFE_DAYS, Population, Profile
from learner.join import Joiner

ACTION = "erase_customer"
# What rounding leaves of a sum that only the erased customer was in.
NOTHING = 1e-9


def split_at_erasures(
    messages: Sequence[tuple[str, bytes]],
) -> Iterator[tuple[Erasure | None, Sequence[tuple[str, bytes]]]]:
    """Runs of messages that begin with an erasure, and that erasure; what comes before the first has none."""
    start, current = 0, None
    for index, message in enumerate(messages):
        erasure = erasure_of(message)
        if erasure is not None:
            if index > start:
                yield current, messages[start:index]
            start, current = index, erasure
    if start < len(messages):
        yield current, messages[start:]


def erasure_of(message: tuple[str, bytes]) -> Erasure | None:
    """The erasure that a message asks for, if it is a control event of that kind."""
    position, data = message
    if not events.may_be_control(data):
        return None
    try:
        event = events.decode(position, data)
    except events.BadEvent:
        return None
    payload = event.payload
    if event.type != events.CONTROL or payload.get("action") != ACTION:
        return None
    customer_id, receipt_id, actor = (payload.get(name) for name in ("customer_id", "receipt_id", "actor"))
    if not (isinstance(customer_id, str) and isinstance(receipt_id, str) and isinstance(actor, str)):
        return None
    return Erasure(customer_id, receipt_id, actor, position) if customer_id and receipt_id else None


def erase_from_loop(reader: StreamReader, ledger: LoopLog, joiner: Joiner, erasure: Erasure) -> None:
    """Erase a customer's rows from a loop, and what the join and Redis remember of their decisions."""
    rows = ledger.erasures
    decision_ids = rows.decisions_of(erasure.customer_id)
    # Before the rows: afterwards nobody would know the ids. Until then the log still answers repeats.
    forget_sessions(reader, ledger.loop, erasure.customer_id, decision_ids)
    reader.delete([decided_key(ledger.loop, decision_id) for decision_id in decision_ids])
    rows.erase(erasure, decision_ids, joiner.drop(decision_ids), datetime.now(UTC))
    # What these decisions' outcomes changed may have been counted after the writer of activity had deleted the key.
    reader.delete([seen_key(erasure.customer_id)])


def erase_log(reader: StreamReader, ledger: LoopLog, joiner: Joiner) -> dict[str, int]:
    """Erase all that a loop has logged, with what the join and Redis remember of it; the number of rows by table."""
    rows = ledger.erasures
    # Before the rows: afterwards nobody would know the ids. Until then the log still answers repeats.
    for decision_ids in rows.decision_ids():
        reader.delete([decided_key(ledger.loop, decision_id) for decision_id in decision_ids])
    return rows.erase_log(joiner.drop([*joiner.state.open, *joiner.state.orphans]))


def finish_loop(reader: StreamReader, ledger: LoopLog, position: str, begin_generation: Callable[[], int]) -> None:
    """Let the model forget whoever was erased up to a committed position, cut the stream, and complete receipts."""
    rows = ledger.erasures
    due = rows.due(position)
    generation = begin_generation() if due.is_learned else None
    # Also when nothing is due: an event that came twice names the customer too.
    reader.trim_through(loop_stream(ledger.loop), position)
    if due.receipt_ids:
        rows.finish(due, generation, datetime.now(UTC))


def erase_from_profiles(ledger: ProfileLog, erasure: Erasure, population: Population) -> Population:
    """Erase a customer's record, profile and activities; returns the population without them."""
    profile = ledger.profiles([erasure.customer_id]).get(erasure.customer_id)
    if profile is not None:
        population = without(population, profile)
    ledger.erase(erasure, population, datetime.now(UTC))
    return population


def finish_profiles(reader: StreamReader, ledger: ProfileLog, position: str) -> None:
    """Cut the activity stream behind a committed position, and complete receipts."""
    rows = ledger.erasures
    due = rows.due(position)
    reader.trim_through(ACTIVITY_STREAM, position)
    if due.receipt_ids:
        rows.finish(due, datetime.now(UTC))


def without(population: Population, profile: Profile) -> Population:
    """The population without one customer.

    Purchase days that a profile no longer knows (behind its horizon of 800 days) have decayed to less than a quarter
    and stay in the sums.
    """

    def weight(day: int) -> float:
        return float(0.5 ** ((population.as_of_day - day) / POPULATION_HALF_LIFE_DAYS))

    days = dict(population.days)
    for category, history in profile.categories.items():
        gone = sum(weight(history.last_day - age) for age in history.ages(history.last_day))
        if category in days:
            days[category] -= gone
            if days[category] <= NOTHING:
                del days[category]
    left = replace(population, customers=max(population.customers - 1, 0), days=days)
    if profile.first_purchase_day is not None:
        left.buyers = max(left.buyers - 1, 0)
        left.firsts = max(left.firsts - weight(profile.first_purchase_day), 0.0)
    return left
