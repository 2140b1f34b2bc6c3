"""Operations on a loop's model: the log replayed under changed settings, a model imported or reset, the log deleted.

A replay is trained a few interactions at a time between two batches, so that joining goes on and the old model learns
and serves meanwhile. Once it has learned all that is committed it becomes the base of the next generation. A writer
that was killed begins its replay anew: nothing of it is stored before it is whole.

The log is deleted at its control event, so that all that entered the stream before it is gone and nothing behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from adapters.catalogue import LoopStore
from adapters.challengers import Overtaken
from adapters.history import LoopHistory
from adapters.operations import Operation, OperationStore
from adapters.promotions import LoopGone
from adapters.snapshots import SnapshotStore
from contextual_bandit import events
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import LearningSetting
from contextual_bandit.vowpal import VowpalPolicy
from learner.promotion import Candidate, CannotPromote, Promoter
from learner.train import Trainer, learn, open_trainer, start_generation

log = logging.getLogger(__name__)
# Interactions that a replay learns between two batches: 0.1 to 0.5 s, by their size, for which other loops wait too.
REPLAY_STEP = 500
# What the control event of a deleted log says; the service's ``configure`` writes it.
DELETE_LOG = "delete_log"


class ModelOwner(Protocol):
    """The one writer of a loop, as far as its model is concerned."""

    config: LoopConfig

    @property
    def trainer(self) -> Trainer:
        """The model that serves and learns."""

    @property
    def stream_time(self) -> datetime | None:
        """How far the stream's time is."""

    def adopt(self, trainer: Trainer) -> None:
        """Save the model so far, and go on with another generation."""

    def take_settings(self, config: LoopConfig) -> None:
        """Go on with other settings of the loop."""

    def forget_log(self) -> Mapping[str, int]:
        """Delete all that was joined so far, open decisions too; returns the number of rows by table."""


class Replay:
    """The next generation while it is being trained."""

    def __init__(
        self, operation: Operation, setting: LearningSetting, after: int, closed_from: datetime | None,
        candidate: Candidate | None = None,
    ) -> None:  # fmt: skip
        """Begin untrained, or with the model of a challenger that is to be promoted."""
        self.operation = operation
        self.candidate = candidate
        self.setting = setting
        self.after = self.first = after
        self.closed_from = closed_from
        self.learned = 0
        self.policy = VowpalPolicy(setting, candidate.row.model if candidate is not None else None)

    def share(self, through: int) -> float:
        """How much of the log up to an interaction it has been over, in [0, 1]."""
        return (self.after - self.first) / max(through - self.first, 1)


class ModelOperations:
    """What the writer of a loop does to its model beside learning."""

    def __init__(
        self, owner: ModelOwner, store: OperationStore, history: LoopHistory, snapshots: SnapshotStore,
        loops: LoopStore, promoter: Promoter,
    ) -> None:  # fmt: skip
        self._owner = owner
        self._promoter = promoter
        self._store = store
        self._history = history
        self._snapshots = snapshots
        self._loops = loops
        self._replay: Replay | None = None

    @property
    def is_replaying(self) -> bool:
        """Whether a generation is being trained."""
        return self._replay is not None

    def run(self) -> None:
        """Begin what was asked for; of several replays only the one for the newest settings."""
        loop, version = self._owner.config.loop, self._owner.config.version
        replay: Operation | None = None
        for operation in self._store.open(loop):
            if operation.kind == "delete_log":
                # Done at its control event, which may still be on its way.
                if operation.is_stale(_now()):
                    self._store.begin(operation, _now())
            elif operation.kind == "promote":
                if not self._is_running(operation):
                    self._supersede(replay)
                    replay = operation
            elif operation.kind != "replay":
                if self._store.begin(operation, _now()):
                    self._supersede(replay)
                    replay = None
                    self._replace(operation)
            elif operation.version <= version and not self._is_running(operation):
                self._supersede(replay)
                replay = operation
        if replay is not None:
            self._drop()
            if self._store.begin(replay, _now()):
                self._start(replay)

    def follow_setting(self) -> None:
        """Replay the log for a setting that nobody asked an operation for: the service died, or is an older one."""
        owner, setting = self._owner, self._owner.config.setting
        if self._replay is not None and self._replay.candidate is not None:
            # Settings follow a promotion once it is done.
            return
        known = self._replay.setting if self._replay is not None else owner.trainer.setting
        if setting == known or self._store.failed_version(owner.config.loop) >= owner.config.version:
            return
        detail = {"arguments": setting.arguments, "rewards": False}
        self._store.add(
            owner.config.loop, "replay", "learner", _now(), version=owner.config.version, detail=detail
        )  # fmt: skip
        self.run()

    def delete_log(self, operation_id: str) -> None:
        """Delete the log at its control event, and begin a generation: with the model as it is, which stays.

        A replay begins anew, on what is left. Whoever meets the event again finds the operation done, or nothing more
        to delete.
        """
        operation = self._store.get(operation_id)
        if operation is None or operation.loop != self._owner.config.loop or not self._store.begin(operation, _now()):
            return
        replay, self._replay = self._replay, None
        if replay is not None:
            replay.policy.close()
        rows = self._owner.forget_log()
        trainer = self._owner.trainer
        self._begin_generation(trainer.setting, trainer.snapshot(self._owner.stream_time).model, operation.kind)
        self._store.finish(operation_id, self._result() | {"rows": dict(rows)}, _now())
        if replay is not None:
            self._start(replay.operation)

    def step(self) -> None:
        """Let the replay learn on; once it has learned all that is committed, it serves."""
        replay, owner = self._replay, self._owner
        if replay is None:
            return
        loop = owner.config.loop
        definition = owner.config.reward if self._store.rewards_changed(loop) else None
        page = self._history.page(replay.after, REPLAY_STEP, replay.closed_from, definition)
        for interaction in page:
            learn(replay.policy, interaction)
            replay.after = interaction.sequence
        replay.learned += len(page)
        if len(page) == REPLAY_STEP:
            self._store.progress(replay.operation.operation_id, replay.share(owner.trainer.trained_through), _now())
            return
        if replay.candidate is not None:
            self._promote(replay, replay.candidate)
            return
        model = replay.policy.save()
        self._begin_generation(replay.setting, model, "replay")
        self.replaced()

    def replaced(self) -> None:
        """The model is one that was trained by the settings of now: a replay for them is done."""
        replay, self._replay = self._replay, None
        if replay is None:
            return
        replay.policy.close()
        if replay.candidate is not None:
            # It may have learned what is gone now.
            self._store.fail(replay.operation.operation_id, "the log was learned anew meanwhile; promote again", _now())
        else:
            self._store.finish(replay.operation.operation_id, self._result() | {"learned": replay.learned}, _now())

    def close(self) -> None:
        """Free the workspace."""
        if self._replay is not None:
            self._replay.policy.close()
            self._replay = None

    def _is_running(self, operation: Operation) -> bool:
        return self._replay is not None and self._replay.operation.operation_id == operation.operation_id

    def _supersede(self, operation: Operation | None) -> None:
        if operation is not None:
            self._store.supersede(operation.operation_id, _now())

    def _drop(self) -> None:
        if self._replay is not None:
            self._supersede(self._replay.operation)
            self.close()

    def _start(self, operation: Operation) -> None:
        config, loop = self._owner.config, self._owner.config.loop
        if operation.kind == "promote":
            self._start_promotion(operation)
            return
        after = max(self._history.first_sequence() - 1, self._store.reset_through(loop))
        if config.model_retrain_days == 0:
            # What closed at this very moment is no part of no days.
            after = self._owner.trainer.trained_through
        log.info("replay", extra={"loop": loop, "operation_id": operation.operation_id, "after": after})
        self._replay = Replay(operation, config.setting, after, self._closed_from())
        self.step()

    def _start_promotion(self, operation: Operation) -> None:
        """Let a challenger's model learn what its loop's own policy has learned since."""
        try:
            candidate = self._promoter.find(self._owner.config, operation)
            self._replay = Replay(operation, candidate.setting, candidate.row.trained_through, None, candidate)
        except (CannotPromote, RuntimeError) as error:
            self._store.fail(operation.operation_id, str(error), _now())
            return
        self.step()

    def _promote(self, replay: Replay, candidate: Candidate) -> None:
        """The challenger has learned all that is committed: it is the loop's own policy from here on."""
        owner, self._replay = self._owner, None
        parent = owner.trainer.snapshot(owner.stream_time)
        try:
            stored = self._promoter.store(
                owner.config, replay.operation, candidate, parent, replay.policy, replay.learned
            )  # fmt: skip
        except (LoopGone, Overtaken) as error:
            self._store.fail(replay.operation.operation_id, str(error), _now())
            return
        finally:
            replay.policy.close()
        log.info("new generation", extra={"loop": stored.loop, "reason": "promote"})
        owner.take_settings(stored)
        owner.adopt(open_trainer(self._snapshots, stored.loop, parent.generation + 1, replay.setting, _now()))

    def _closed_from(self) -> datetime | None:
        """What closed earlier is not replayed: the narrower of the loop's two windows."""
        config, now = self._owner.config, self._owner.stream_time
        windows = [days for days in (config.lookback_days, config.model_retrain_days) if days is not None]
        return now - timedelta(days=min(windows)) if windows and now is not None else None

    def _replace(self, operation: Operation) -> None:
        """Reset the model, or go on from imported bytes; the same bytes serve."""
        self._drop()
        setting = self._owner.config.setting
        try:
            if operation.kind == "import":
                asked = operation.detail
                setting = LearningSetting(asked["arguments"], setting.reward_low, setting.reward_high)
                model = self._store.model(operation.operation_id)
                VowpalPolicy(setting, model).close()
            else:
                policy = VowpalPolicy(setting)
                model = policy.save()
                policy.close()
        except (LookupError, KeyError, ValueError, RuntimeError) as error:
            log.exception("a model cannot be used", extra={"operation_id": operation.operation_id})
            self._store.fail(operation.operation_id, repr(error), _now())
            return
        config = self._owner.config
        if config.arguments != setting.arguments:
            # Before the model: a writer that is killed in between imports once more.
            stored = self._loops.put(replace(config, arguments=setting.arguments), operation.actor, _now())
            self._owner.take_settings(stored)
        self._begin_generation(setting, model, operation.kind)
        self._store.finish(operation.operation_id, self._result(), _now())

    def _begin_generation(self, setting: LearningSetting, model: bytes, reason: str) -> None:
        owner = self._owner
        log.info("new generation", extra={"loop": owner.config.loop, "reason": reason})
        parent = owner.trainer.snapshot(owner.stream_time)
        owner.adopt(start_generation(self._snapshots, parent, setting, model, _now()))

    def _result(self) -> dict[str, object]:
        trainer = self._owner.trainer
        base = self._snapshots.base(self._owner.config.loop, trainer.generation)
        return {
            "generation": trainer.generation, "trained_through": base.trained_through, "snapshot_id": base.snapshot_id,
        }  # fmt: skip


def split_at_controls(
    messages: Sequence[tuple[str, bytes]],
) -> Iterator[tuple[str | None, Sequence[tuple[str, bytes]]]]:
    """Runs of messages, in which each control event stands alone: what it changes holds for all behind it.

    The control event of a deleted log comes with the id of its operation.
    """
    start = 0
    for index, message in enumerate(messages):
        if events.may_be_control(message[1]):
            if index > start:
                yield None, messages[start:index]
            yield _deletion_of(message), messages[index : index + 1]
            start = index + 1
    if start < len(messages):
        yield None, messages[start:]


def _deletion_of(message: tuple[str, bytes]) -> str | None:
    position, data = message
    try:
        event = events.decode(position, data)
    except events.BadEvent:
        return None
    operation_id = event.payload.get("operation_id")
    is_asked = event.type == events.CONTROL and event.payload.get("action") == DELETE_LOG
    return operation_id if is_asked and isinstance(operation_id, str) else None


def _now() -> datetime:
    return datetime.now(UTC)
