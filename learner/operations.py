"""Operations on a loop's model: the log replayed under changed settings, a model imported, a model reset.

A replay is trained a few interactions at a time between two batches, so that joining goes on and the old model learns
and serves meanwhile. Once it has learned all that is committed it becomes the base of the next generation. A writer
that was killed begins its replay anew: nothing of it is stored before it is whole.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from adapters.catalogue import LoopStore
from adapters.history import LoopHistory
from adapters.operations import Operation, OperationStore
from adapters.snapshots import SnapshotStore
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import LearningSetting
from contextual_bandit.vowpal import VowpalPolicy
from learner.train import Trainer, learn, start_generation

log = logging.getLogger(__name__)
# Interactions that a replay learns between two batches: 0.1 to 0.5 s, by their size, for which other loops wait too.
REPLAY_STEP = 500


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


class Replay:
    """The next generation while it is being trained."""

    def __init__(
        self, operation: Operation, setting: LearningSetting, after: int, closed_from: datetime | None
    ) -> None:
        self.operation = operation
        self.setting = setting
        self.after = self.first = after
        self.closed_from = closed_from
        self.learned = 0
        self.policy = VowpalPolicy(setting)

    def share(self, through: int) -> float:
        """How much of the log up to an interaction it has been over, in [0, 1]."""
        return (self.after - self.first) / max(through - self.first, 1)


class ModelOperations:
    """What the writer of a loop does to its model beside learning."""

    def __init__(
        self, owner: ModelOwner, store: OperationStore, history: LoopHistory, snapshots: SnapshotStore, loops: LoopStore
    ) -> None:
        self._owner = owner
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
            if operation.kind != "replay":
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
        known = self._replay.setting if self._replay is not None else owner.trainer.setting
        if setting == known or self._store.failed_version(owner.config.loop) >= owner.config.version:
            return
        detail = {"arguments": setting.arguments, "rewards": False}
        self._store.add(
            owner.config.loop, "replay", "learner", _now(), version=owner.config.version, detail=detail
        )  # fmt: skip
        self.run()

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
        model = replay.policy.save()
        self._begin_generation(replay.setting, model, "replay")
        self.replaced()

    def replaced(self) -> None:
        """The model is one that was trained by the settings of now: a replay for them is done."""
        replay, self._replay = self._replay, None
        if replay is not None:
            replay.policy.close()
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
        after = max(self._history.first_sequence() - 1, self._store.reset_through(loop))
        if config.model_retrain_days == 0:
            # What closed at this very moment is no part of no days.
            after = self._owner.trainer.trained_through
        log.info("replay", extra={"loop": loop, "operation_id": operation.operation_id, "after": after})
        self._replay = Replay(operation, config.setting, after, self._closed_from())
        self.step()

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


def _now() -> datetime:
    return datetime.now(UTC)
