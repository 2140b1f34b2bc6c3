"""Decisions joined with their outcomes by stream time: a pure state machine (step Join)."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from contextual_bandit import events
from contextual_bandit.joined import (
    ACTIVATION_KIND,
    MOST_ORPHANS,
    REDEEMING,
    Batch,
    Change,
    Closed,
    JoinState,
    Open,
    Revision,
    StoredOutcome,
    UnitChange,
)
from contextual_bandit.limits import HOLDS_STOCK
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.reward import DIRECT, rewards_of
from contextual_bandit.slots import slot_view, slot_views
from contextual_bandit.stored_decisions import ReadMessage, read_decision, read_message
from contextual_bandit.types import Decision, Event, Outcome

OUTAGE_SECONDS = 3.0
# Open decisions that are kept ready to use, the newest; at some 40 kB each. Others are packed.
MOST_READY = 4000


def early_activation(decision_id: str, time: datetime) -> Outcome:
    """An activation that waits for its decision; no client's id can hold the control character in this one's."""
    return Outcome(f"\x01activation:{decision_id}", decision_id, ACTIVATION_KIND, 0.0, time)


def imported_outcome(decision_id: str, slot: int | None, reward: float, time: datetime) -> Outcome:
    """The reward of an imported decision as the ledger has it; no client's id can hold the control character."""
    place = "" if slot is None else f":{slot}"
    return Outcome(f"\x01imported:{decision_id}{place}", decision_id, DIRECT, reward, time, True, slot)


class Joiner:
    """Applies events in stream order. Time is what the stream says; no clock is read.

    A decision closes when stream time has passed its window and the loop's grace, hits and misses alike, and no
    announced spool holds older messages.
    """

    def __init__(self, config: LoopConfig, state: JoinState) -> None:
        self.config = config
        self.state = state
        self._due = [(entry.closes_at, entry.position, key) for key, entry in state.open.items()]
        heapq.heapify(self._due)
        self._ready = deque(key for key, entry in state.open.items() if not entry.is_packed)

    def run(
        self,
        messages: Iterable[tuple[str, bytes]],
        known_decisions: frozenset[str],
        known_outcomes: frozenset[str],
        read: Mapping[str, ReadMessage] | None = None,
    ) -> Batch:
        """Apply messages and close what is due; an event that cannot be applied is set aside.

        Args:
            messages: (position, bytes) in stream order.
            known_decisions: ids among those in the messages that were decided in an earlier batch.
            known_outcomes: outcome ids that were stored in an earlier batch.
            read: by position, those of the messages that were read already.
        """
        state, read = self.state, read or {}
        self._pack_older()
        batch = Batch(state.position, state.stream_time, state.sequence)
        decided = set(known_decisions)
        stored = set(known_outcomes)
        for position, data in messages:
            state.position = position
            try:
                self._apply(read.get(position) or read_message(position, data), data, batch, decided, stored)
            except (events.BadEvent, KeyError, TypeError, ValueError) as error:
                batch.set_aside.append((position, data, repr(error)))
        self._close_due(batch)
        batch.position, batch.stream_time, batch.sequence = state.position, state.stream_time, state.sequence
        batch.spools, batch.held = dict(state.spools), state.held
        return batch

    def _pack_older(self) -> None:
        """Pack all but the newest: their batches are committed, and nobody asks for them until an outcome comes."""
        while len(self._ready) > MOST_READY:
            entry = self.state.open.get(self._ready.popleft())
            if entry is not None:
                entry.pack()

    def _time(self, event: Event) -> datetime:
        if self.config.clock == "simulated":
            return event.time
        return event.spooled_at or events.position_time(event.event_id)

    def _apply(self, read: ReadMessage, data: bytes, batch: Batch, decided: set[str], stored: set[str]) -> None:
        event = read.event
        time = self._time(event)
        self._note_outage(time)
        if event.type == events.DECISION:
            self._open(read, data, time, batch, decided)
        elif event.type == events.IMPORTED:
            self._import(event, data, time, batch, decided)
        elif event.type == events.OUTCOME:
            self._outcome(event, time, batch, decided, stored)
        elif event.type == events.ACTIVATION:
            self._activate(event, time, batch, decided, stored)
        elif event.type == events.SPOOL:
            if event.payload["open"]:
                self.state.spools[event.payload["spool_id"]] = time
            else:
                self.state.spools.pop(event.payload["spool_id"], None)
        elif event.type == events.CONTROL:
            batch.controls.append(event)
            if self.config.clock == "simulated":
                # It has no moment of its own, and must not be taken for the first.
                return
        if self.state.stream_time is None or time > self.state.stream_time:
            self.state.stream_time = time

    def _note_outage(self, time: datetime) -> None:
        """Hold closing for a moment after a gap in wall time.

        While a decision is open a tick comes every second, so a longer silence means that the stream was away; services
        then have a moment to announce what they kept on disk.
        """
        before = self.state.stream_time
        if self.config.clock == "simulated" or before is None or not self.state.open:
            return
        if (time - before).total_seconds() > OUTAGE_SECONDS:
            self.state.held = (before, time + timedelta(seconds=OUTAGE_SECONDS))

    def _open(self, read: ReadMessage, data: bytes, time: datetime, batch: Batch, decided: set[str]) -> None:
        event, decision = read.event, read.decision or read_decision(read.event, data)
        decision_id = decision.decision_id
        if decision_id in decided:
            batch.repeated += 1
            return
        decided.add(decision_id)
        closes_at = time + timedelta(seconds=self.config.reward.wait_seconds)
        entry = Open(decision, data, not decision.deferred, time, closes_at, event.event_id)
        # What names a slot that there is not stays an orphan.
        early = [one for one in self.state.orphans.pop(decision_id, []) if decision.slot_index(one.slot) is not None]
        entry.active |= any(outcome.kind == ACTIVATION_KIND for outcome in early)
        entry.outcomes.extend(outcome for outcome in early if outcome.kind != ACTIVATION_KIND)
        batch.adopted.extend(outcome.outcome_id for outcome in early)
        self._note_redeemed(entry, early, batch)
        self.state.open[decision_id] = entry
        self._ready.append(decision_id)
        batch.opened.append(entry)
        heapq.heappush(self._due, (closes_at, event.event_id, decision_id))
        if self.config.close_on_final and entry.active and any(outcome.final for outcome in early):
            self._close(entry, time, batch)

    def _import(self, event: Event, data: bytes, time: datetime, batch: Batch, decided: set[str]) -> None:
        """Another service closed this decision: it is an interaction at once, with the reward that it had there."""
        decision = events.decision_from(event.payload)
        decision_id, rewards = decision.decision_id, events.imported_rewards(event.payload, decision)
        if decision_id in decided:
            batch.repeated += 1
            return
        decided.add(decision_id)
        batch.opened.append(Open(decision, data, True, time, time, event.event_id))
        for index, reward in enumerate(rewards):
            outcome = imported_outcome(decision_id, index if decision.has_slots else None, reward, time)
            batch.outcomes.append(StoredOutcome(outcome, event.event_id, "joined"))
        self.state.sequence += 1
        by_slot = rewards if decision.has_slots else ()
        batch.closed.append(Closed(self.state.sequence, decision, sum(rewards), time, time, by_slot))

    def _activate(self, event: Event, time: datetime, batch: Batch, decided: set[str], stored: set[str]) -> None:
        decision_id = event.payload["decision_id"]
        entry = self.state.open.get(decision_id)
        if entry is not None:
            if not entry.active and time <= entry.closes_at:
                entry.active = True
                batch.activated.append(decision_id)
        elif decision_id not in decided:
            # It overtook its decision, and waits for it as an outcome would.
            early = early_activation(decision_id, time)
            if early.outcome_id not in stored:
                stored.add(early.outcome_id)
                self._keep_orphan(early, event.event_id, batch)

    def _keep_orphan(self, outcome: Outcome, position: str, batch: Batch) -> None:
        self.state.orphans.setdefault(outcome.decision_id, []).append(outcome)
        batch.outcomes.append(StoredOutcome(outcome, position, "orphan"))
        if len(self.state.orphans) > MOST_ORPHANS:
            # The oldest stays in PostgreSQL; a decision that it overtook by so much will not find it.
            self.state.orphans.pop(next(iter(self.state.orphans)))

    def _outcome(self, event: Event, time: datetime, batch: Batch, decided: set[str], stored: set[str]) -> None:
        outcome = events.outcome_from(event.payload, time)
        if outcome.outcome_id in stored:
            batch.repeated += 1
            return
        stored.add(outcome.outcome_id)
        entry = self.state.open.get(outcome.decision_id)
        if entry is not None and entry.is_packed:
            # What follows may read it.
            self._ready.append(outcome.decision_id)
        if entry is not None and outcome.slot is not None and entry.decision.slot_index(outcome.slot) is None:
            batch.outcomes.append(StoredOutcome(outcome, event.event_id, "unknown_slot"))
        elif entry is not None and time <= entry.closes_at:
            entry.outcomes.append(outcome)
            batch.outcomes.append(StoredOutcome(outcome, event.event_id, "joined"))
            self._note_redeemed(entry, [outcome], batch)
            if outcome.final and self.config.close_on_final and entry.active:
                self._close(entry, time, batch)
        elif entry is not None or outcome.decision_id in decided:
            batch.late += 1
            batch.outcomes.append(StoredOutcome(outcome, event.event_id, "late"))
        else:
            self._keep_orphan(outcome, event.event_id, batch)

    def _note_redeemed(self, entry: Open, outcomes: Sequence[Outcome], batch: Batch) -> None:
        """Tell who counts units what was redeemed: by slot, the newest of the outcomes that say so."""
        newest = {entry.decision.slot_index(one.slot): one for one in outcomes if one.kind in REDEEMING}
        for index, outcome in newest.items():
            if index is not None:
                self._note_units(slot_view(entry.decision, index), "redeemed", outcome.received_at, batch)

    def _note_units(self, view: Decision, change: Change, time: datetime, batch: Batch) -> None:
        """Tell those who count units what became of a show that was counted."""
        if view.took_units:
            shown_at = view.occurred_at if self.config.clock == "simulated" else view.decided_at
            batch.unit_changes.append(UnitChange(view, change, shown_at, time))

    def drop(self, decision_ids: Iterable[str]) -> list[UnitChange]:
        """Forget decisions and what waits for them; returns what becomes of the units that open ones held."""
        state = self.state
        batch = Batch(state.position, state.stream_time, state.sequence)
        for decision_id in decision_ids:
            state.orphans.pop(decision_id, None)
            entry = state.open.pop(decision_id, None)
            if entry is not None:
                self._note_return(entry, state.stream_time or entry.opened_at, batch)
        return batch.unit_changes

    def _note_return(self, entry: Open, time: datetime, batch: Batch) -> None:
        redeemed = {entry.decision.slot_index(one.slot) for one in entry.outcomes if one.kind in REDEEMING}
        for index, view in enumerate(slot_views(entry.decision)):
            if not entry.active:
                self._note_units(view, "inactive", time, batch)
            elif view.took_units == HOLDS_STOCK and index not in redeemed:
                self._note_units(view, "unredeemed", time, batch)

    def _close_due(self, batch: Batch) -> None:
        if self.state.stream_time is None:
            return
        reached = self.state.stream_time
        if self.state.held is not None:
            if reached < self.state.held[1]:
                reached = self.state.held[0]
            else:
                self.state.held = None
        limit = min([reached, *self.state.spools.values()]) - timedelta(seconds=self.config.grace_seconds)
        while self._due and self._due[0][0] < limit:
            closes_at, position, decision_id = heapq.heappop(self._due)
            entry = self.state.open.get(decision_id)
            if entry is not None and entry.position == position:
                self._close(entry, closes_at, batch)

    def _close(self, entry: Open, time: datetime, batch: Batch) -> None:
        decision_id = entry.decision.decision_id
        del self.state.open[decision_id]
        self._note_return(entry, time, batch)
        if not entry.active:
            batch.inactive.append(decision_id)
            return
        self.state.sequence += 1
        reward, by_slot = rewards_of(self.config.reward, entry.outcomes, entry.decision)
        batch.closed.append(Closed(self.state.sequence, entry.decision, reward, entry.opened_at, time, by_slot))


def revisions(
    definition: RewardDefinition, batch: Batch, stored: Iterable[StoredOutcome], newest: Mapping[str, Revision]
) -> list[Revision]:
    """What late outcomes make of closed decisions: one further revision each, from all outcomes in the order received.

    Args:
        definition: how outcomes become a reward now.
        batch: what a run of messages changed.
        stored: outcomes of earlier batches in the order received, of all decisions below that have a late one.
        newest: by decision, the newest revision of those that closed in earlier batches and got a late outcome in this.
    """
    latest = {**newest, **{c.decision.decision_id: Revision(c, 0, None, False) for c in batch.closed}}
    received: dict[str, list[StoredOutcome]] = defaultdict(list)
    for one in (*stored, *batch.outcomes):
        if one.outcome.kind != ACTIVATION_KIND:
            received[one.outcome.decision_id].append(one)
    adopted = set(batch.adopted)
    found = []
    for decision_id, revision in latest.items():
        outcomes = received[decision_id]
        if any(one.state == "late" for one in outcomes):
            counted = [one.outcome for one in outcomes if one.state != "orphan" or one.outcome.outcome_id in adopted]
            reward, by_slot = rewards_of(definition, counted, revision.closed.decision)
            closed = replace(revision.closed, reward=reward, slot_rewards=by_slot)
            found.append(Revision(closed, revision.number + 1, revision.closed, revision.set_aside))
    return found
