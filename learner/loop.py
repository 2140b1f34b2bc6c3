"""One loop's writer: read, join, commit, learn, checkpoint, publish; kill it anywhere and nothing is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import redis
from sqlalchemy import Engine

from adapters.catalogue import LoopStore
from adapters.history import LoopHistory, read_history
from adapters.interaction_log import read_interactions, read_rebuilt
from adapters.locks import WriterConnection
from adapters.loop_log import LoopLog
from adapters.operations import OperationStore
from adapters.promotions import PromotionStore
from adapters.snapshots import SnapshotStore
from adapters.streams import StreamReader, loop_stream
from adapters.telemetry import LearnerMetrics
from adapters.unit_counts import apply_changes
from contextual_bandit import events
from contextual_bandit.joined import Batch
from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import use_of
from contextual_bandit.stored_decisions import ReadMessage, read_message
from contextual_bandit.types import LoggedInteraction
from learner.erase import erase_from_loop, erase_log, finish_loop, split_at_erasures
from learner.join import Joiner, early_activation, revisions
from learner.operations import ModelOperations, split_at_controls
from learner.promotion import Promoter
from learner.train import Trainer, open_generation, open_trainer

log = logging.getLogger(__name__)
TRIM_EVERY_SECONDS = 5.0
TICK_SECONDS = 1.0
SUSPECT_TRIES = 2
# A model is trained anew when its loop's look-back window has moved by this share of itself.
RENEWED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Stores:
    """What a learner process works with."""

    engine: Engine
    client: redis.Redis
    writers: WriterConnection
    reader: StreamReader
    snapshots: SnapshotStore
    loops: LoopStore
    metrics: LearnerMetrics


class LoopWriter:
    """Owns a loop's lock, join and model. Learning follows the commit, so a restart finds what to learn in the log."""

    def __init__(self, stores: Stores, config: LoopConfig, checkpoint_seconds: float) -> None:
        """Take the loop over from wherever its last writer left it.

        Raises:
            AnotherWriter: another process writes this loop.
        """
        self.config = config
        self.stream = loop_stream(config.loop)
        self._stores = stores
        self._checkpoint_seconds = checkpoint_seconds
        self._ledger = LoopLog(stores.writers, config.loop)
        self._operations = ModelOperations(
            self, OperationStore(stores.engine), LoopHistory(stores.engine, config.loop), stores.snapshots,
            stores.loops, Promoter(PromotionStore(stores.engine, stores.client)),
        )  # fmt: skip
        try:
            state, attempts = self._ledger.load()
            self._joiner = Joiner(config, state)
            newest = stores.snapshots.newest(config.loop)
            generation = newest.generation if newest else 1
            setting = newest.setting if newest else config.setting
            self._trainer = open_trainer(stores.snapshots, config.loop, generation, setting, _now())
            self._catch_up(attempts)
            self._bring_units()
            self._operations.run()
            self._operations.follow_setting()
            finish_loop(stores.reader, self._ledger, self.position, self._unlearn)
        except BaseException:
            self._operations.close()
            self._ledger.close()
            raise
        self._checkpointed = self._trimmed = self._ticked = time.monotonic()

    @property
    def position(self) -> str:
        """The last message that was committed."""
        return self._joiner.state.position

    @property
    def trainer(self) -> Trainer:
        """The model that serves and learns."""
        return self._trainer

    @property
    def stream_time(self) -> datetime | None:
        """How far the stream's time is."""
        return self._joiner.state.stream_time

    def adopt(self, trainer: Trainer) -> None:
        """Save the model so far, and go on with another generation."""
        self._checkpoint()
        before, self._trainer = self._trainer, trainer
        before.close()

    def take_settings(self, config: LoopConfig) -> None:
        """Go on with other settings of the loop."""
        self.config = self._joiner.config = config

    def forget_log(self) -> Mapping[str, int]:
        """Delete all that was joined so far, open decisions too; returns the number of rows by table."""
        # What the model has learned must not depend on rows that are gone.
        self._checkpoint()
        rows = erase_log(self._stores.reader, self._ledger, self._joiner)
        self._bring_units()
        return rows

    @staticmethod
    def read(messages: Sequence[tuple[str, bytes]]) -> dict[str, ReadMessage]:
        """Messages by position; those that cannot be read are set aside when they are joined."""
        read: dict[str, ReadMessage] = {}
        for position, data in messages:
            with suppress(events.BadEvent):
                read[position] = read_message(position, data)
        return read

    def handle(self, messages: Sequence[tuple[str, bytes]], read: Mapping[str, ReadMessage] | None = None) -> None:
        """Join, commit and learn messages; on any error the writer must be discarded.

        ``read`` has those that were read already, by position.
        """
        has_erased = False
        for erasure, run in split_at_erasures(messages):
            if erasure is not None:
                has_erased = True
                erase_from_loop(self._stores.reader, self._ledger, self._joiner, erasure)
            for deletion, part in split_at_controls(run):
                if deletion is not None:
                    self._operations.delete_log(deletion)
                self._take(part, read)
        if has_erased:
            self._bring_units()
            finish_loop(self._stores.reader, self._ledger, self.position, self._unlearn)

    def _take(self, messages: Sequence[tuple[str, bytes]], read: Mapping[str, ReadMessage] | None) -> None:
        read = read or self.read(messages)
        known = self._ledger.known(*_ids(read[position] for position, _ in messages if position in read))
        batch = self._joiner.run(messages, *known, read)
        self._rebuild(batch)
        self._ledger.commit(batch, self._trainer.generation)
        if batch.unit_changes:
            self._bring_units()
        self._learn(batch)
        self._count(batch, len(messages))
        if batch.controls:
            self._reload_config()
        self._operations.step()
        self._renew_if_due()
        self._publish_if_due()
        self._stores.reader.mark_applied(self.stream, batch.position)

    def skip(self, message: tuple[str, bytes], error: str) -> None:
        """Set aside a message that can be applied but not committed, and go on behind it."""
        position, data = message
        state = self._joiner.state
        state.position = position
        batch = Batch(position, state.stream_time, state.sequence, spools=dict(state.spools), held=state.held)
        batch.set_aside.append((position, data, error))
        self._ledger.commit(batch, self._trainer.generation)
        self._count(batch, 1)

    def follow(self, version: int) -> None:
        """Take the loop's settings over when they have a newer version."""
        if version > self.config.version:
            self._reload_config()

    def idle(self) -> None:
        """What is due by the clock: a tick while something waits for time to pass, checkpoints, trimming."""
        self._operations.step()
        now = time.monotonic()
        waiting = self._joiner.state.open or self._trainer.trained_through > self._trainer.published_through
        if waiting and self.config.clock == "wall" and now - self._ticked >= TICK_SECONDS:
            self._ticked = now
            self._stores.reader.append(self.stream, events.encode(events.TICK, _now(), {}))
        if now - self._checkpointed >= self._checkpoint_seconds:
            self._checkpointed = now
            self._checkpoint()
        if now - self._trimmed >= TRIM_EVERY_SECONDS:
            self._trimmed = now
            self._stores.reader.trim(self.stream, self.position)

    def close(self) -> None:
        """Checkpoint and give the loop to the next writer."""
        try:
            self._checkpoint()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go without saving; everything committed is in the log."""
        self._operations.close()
        self._trainer.close()
        self._ledger.close()

    def _rebuild(self, batch: Batch) -> None:
        """Let late outcomes count, where the loop wants them to: further revisions, committed with the batch."""
        late = [one.outcome.decision_id for one in batch.outcomes if one.state == "late"]
        closing = [closed.decision.decision_id for closed in batch.closed]
        if self.config.reward.late_outcomes == "rebuild" and (late or closing):
            stored, newest = read_rebuilt(self._stores.engine, self.config.loop, late, closing)
            batch.revised = revisions(self.config.reward, batch, stored, newest)

    def _bring_units(self) -> None:
        """Bring what closed decisions changed to where units are counted; start mends what a crash kept from it."""
        while apply_changes(self._stores.engine, self._stores.client, self.config.loop):
            pass

    def _learn(self, batch: Batch) -> None:
        for closed in batch.closed:
            decision = closed.decision
            self._trainer.learn(
                LoggedInteraction(
                    closed.sequence, decision, closed.reward, use_of(decision), closed.closed_at,
                    slot_rewards=closed.slot_rewards,
                )
            )  # fmt: skip

    def _catch_up(self, attempts: int) -> None:
        """Learn what was committed after the last checkpoint.

        After a try that did not end, each interaction is marked before it is learned, so that one which kills the
        process is known by the next try and set aside.
        """
        pending = read_interactions(
            self._stores.engine, self.config.loop, after=self._trainer.trained_through, learnable=True
        )
        self._ledger.set_attempts(attempts + 1)
        suspect, tries = self._ledger.suspect()
        for interaction in pending:
            if attempts >= 1:
                again = tries if suspect == interaction.sequence else 0
                if again >= SUSPECT_TRIES:
                    log.error("interaction set aside", extra={"sequence": suspect, "loop": self.config.loop})
                    self._ledger.set_aside(interaction.sequence)
                    continue
                self._ledger.set_suspect(interaction.sequence, again + 1)
            self._trainer.learn(interaction)
        self._trainer.trained_through = self._joiner.state.sequence
        if attempts:
            self._ledger.set_suspect(None, 0)
        self._checkpoint()

    def _checkpoint(self) -> None:
        if self._trainer.trained_through > self._trainer.saved_through:
            self._trainer.save(self._stores.snapshots, self._joiner.state.stream_time, _now(), publish=False)
        self._ledger.set_attempts(0)

    def _publish_if_due(self) -> None:
        trainer, now = self._trainer, self._joiner.state.stream_time
        if trainer.trained_through == trainer.published_through or now is None:
            return
        since = trainer.published_at
        if since is None or (now - since).total_seconds() >= self.config.export_frequency_seconds:
            trainer.save(self._stores.snapshots, now, _now(), publish=True)
            self._ledger.set_attempts(0)
            self._checkpointed = time.monotonic()
            self._stores.metrics.published.labels(self.config.loop).inc()

    def _reload_config(self) -> None:
        config = self._stores.loops.get(self.config.loop)
        if config is not None:
            self.take_settings(config)
            self._operations.run()
            self._operations.follow_setting()

    def _renew_if_due(self) -> None:
        """A generation is renewed when its look-back window has moved on, so that it forgets what fell out of it.

        Stream time alone says when, and each interaction is learned again some five times at most.
        """
        days, now, trainer = self.config.lookback_days, self._joiner.state.stream_time, self._trainer
        if trainer.began_at is None:
            trainer.began_at = now
        if days is None or now is None or trainer.began_at is None:
            return
        due = max(days * 86400 * RENEWED_SHARE, self.config.export_frequency_seconds)
        if trainer.trained_through > trainer.began_through and (now - trainer.began_at).total_seconds() >= due:
            self._begin_generation("look-back")

    def _unlearn(self) -> int:
        """Begin a generation that never learned from those who were erased; returns its number."""
        self._begin_generation("erasure")
        return self._trainer.generation

    def _begin_generation(self, reason: str) -> None:
        """Train on the log so far, as far as the loop looks back; the old model serves meanwhile."""
        log.info("new generation", extra={"loop": self.config.loop, "reason": reason})
        loop, now, operations = self.config.loop, self.stream_time, OperationStore(self._stores.engine)
        closed_from = None
        if self.config.lookback_days is not None and now is not None:
            closed_from = now - timedelta(days=self.config.lookback_days)
        history = read_history(
            self._stores.engine, loop, after=operations.reset_through(loop), closed_from=closed_from,
            definition=self.config.reward if operations.rewards_changed(loop) else None,
        )  # fmt: skip
        parent = self._trainer.snapshot(now)
        self.adopt(open_generation(self._stores.snapshots, parent, self.config.setting, history, _now()))
        # A replay for a setting that has changed just now is this one.
        self._operations.replaced()

    def _count(self, batch: Batch, messages: int) -> None:
        metrics, loop = self._stores.metrics, self.config.loop
        metrics.messages.labels(loop).inc(messages)
        metrics.interactions.labels(loop).inc(len(batch.closed))
        metrics.repeated.labels(loop).inc(batch.repeated)
        metrics.late.labels(loop).inc(batch.late)
        metrics.set_aside.labels(loop).inc(len(batch.set_aside))
        metrics.open.labels(loop).set(len(self._joiner.state.open))


def _ids(read: Iterable[ReadMessage]) -> tuple[list[str], list[str]]:
    """The ids of decisions and outcomes in messages."""
    decision_ids: list[str] = []
    outcome_ids: list[str] = []
    for one in read:
        event, payload = one.event, one.event.payload
        if isinstance(payload.get("decision_id"), str):
            decision_ids.append(payload["decision_id"])
            if event.type == events.ACTIVATION:
                outcome_ids.append(early_activation(payload["decision_id"], event.time).outcome_id)
        if isinstance(payload.get("outcome_id"), str):
            outcome_ids.append(payload["outcome_id"])
    return decision_ids, outcome_ids


def _now() -> datetime:
    return datetime.now(UTC)
