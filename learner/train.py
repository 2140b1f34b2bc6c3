"""The loop's model: learns committed interactions, checkpoints, publishes, and can prove what it did (step Learn)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from adapters.snapshots import SnapshotStore, snapshot_id
from contextual_bandit.slots import lessons
from contextual_bandit.types import LearningSetting, LoggedInteraction, PolicySnapshot
from contextual_bandit.vowpal import VowpalPolicy, policy_id


class Trainer:
    """The one writer's model. ``trained_through`` is the sequence of the last interaction it has seen.

    ``began_through`` and ``began_at`` (stream time, when known) say where its generation began.
    """

    def __init__(self, loop: str, generation: int, policy: VowpalPolicy, newest: PolicySnapshot) -> None:
        self.loop = loop
        self.generation = generation
        self.trained_through = newest.trained_through
        self.published_through = newest.trained_through
        self.published_at = newest.stream_time
        self.began_through = newest.trained_through
        self.began_at = newest.stream_time
        self._policy = policy
        self._saved = newest

    @property
    def setting(self) -> LearningSetting:
        """The learning setting that this generation trains."""
        return self._policy.setting

    @property
    def saved_through(self) -> int:
        """Up to where a restart needs no relearning."""
        return self._saved.trained_through

    def learn(self, interaction: LoggedInteraction) -> None:
        """Take the next interaction, slot by slot; only what is meant for learning reaches the model."""
        learn(self._policy, interaction)
        self.trained_through = interaction.sequence

    def snapshot(self, stream_time: datetime | None) -> PolicySnapshot:
        """The model as it is now."""
        return make_snapshot(
            self.loop, self.generation, self.trained_through, stream_time, self._saved.snapshot_id, self._policy
        )

    def save(self, store: SnapshotStore, stream_time: datetime | None, now: datetime, *, publish: bool) -> None:
        """Store the model as a checkpoint or as the policy to serve."""
        snapshot = self.snapshot(stream_time)
        store.add(snapshot, publish=publish, now=now)
        self._saved = snapshot
        if publish:
            self.published_through = self.trained_through
            self.published_at = stream_time

    def close(self) -> None:
        """Free the workspace."""
        self._policy.close()


def learn(policy: VowpalPolicy, interaction: LoggedInteraction) -> None:
    """Teach a policy an interaction, slot by slot or as a slate; only what is meant for learning reaches it."""
    if policy.slates is not None:
        policy.learn([interaction])
        return
    setting = policy.setting
    policy.learn(lessons(interaction, setting.reward_low, setting.reward_high))


def open_trainer(store: SnapshotStore, loop: str, generation: int, setting: LearningSetting, now: datetime) -> Trainer:
    """Go on from the generation's newest snapshot, which is recorded as a reload, or start it untrained."""
    newest = store.newest(loop, generation=generation)
    if newest is None:
        policy = VowpalPolicy(setting)
        newest = make_snapshot(loop, generation, 0, None, None, policy)
        policy.close()
        store.add(newest, publish=True, now=now)
    # Every generation goes on from its base's bytes, so that a replay has one place to start from.
    policy = VowpalPolicy(newest.setting, newest.model)
    store.mark_reload(newest.snapshot_id)
    published = store.newest(loop, published=True, generation=generation) or newest
    trainer = Trainer(loop, generation, policy, newest)
    trainer.published_through, trainer.published_at = published.trained_through, published.stream_time
    base = store.base(loop, generation)
    trainer.began_through, trainer.began_at = base.trained_through, base.stream_time
    if base.stream_time is None and newest.trained_through > base.trained_through:
        # The first generation begins before there is a stream time; its next snapshot is the nearest to that.
        trainer.began_at = store.base(loop, generation, at_least=base.trained_through + 1).stream_time
    return trainer


def open_generation(
    store: SnapshotStore,
    parent: PolicySnapshot,
    setting: LearningSetting,
    history: Iterable[LoggedInteraction],
    now: datetime,
) -> Trainer:
    """Begin the next generation: a setting trained on ``history`` becomes its base.

    Args:
        store: where the snapshots are.
        parent: the model so far; what it has seen, the base counts as seen, also where history leaves it out.
        setting: what the generation is trained by.
        history: learnable interactions by rising sequence, up to the parent's last.
        now: when the base is stored.
    """
    policy = VowpalPolicy(setting)
    for interaction in history:
        learn(policy, interaction)
    model = policy.save()
    policy.close()
    return start_generation(store, parent, setting, model, now)


def start_generation(
    store: SnapshotStore, parent: PolicySnapshot, setting: LearningSetting, model: bytes, now: datetime
) -> Trainer:
    """Begin the next generation from given bytes, which are stored and published as they are."""
    generation = parent.generation + 1
    base = _snapshot(
        parent.loop, generation, parent.trained_through, parent.stream_time, parent.snapshot_id, setting, model
    )
    store.add(base, publish=True, now=now)
    return open_trainer(store, parent.loop, generation, setting, now)


def make_snapshot(
    loop: str, generation: int, through: int, stream_time: datetime | None, parent: str | None, policy: VowpalPolicy
) -> PolicySnapshot:
    """A policy's state as a snapshot."""
    return _snapshot(loop, generation, through, stream_time, parent, policy.setting, policy.save())


def _snapshot(
    loop: str, generation: int, through: int, stream_time: datetime | None, parent: str | None,
    setting: LearningSetting, model: bytes,
) -> PolicySnapshot:  # fmt: skip
    name = snapshot_id(loop, generation, through)
    return PolicySnapshot(
        name, loop, policy_id(setting.arguments), generation, through, stream_time, parent, setting.arguments,
        setting.reward_low, setting.reward_high, model, sha256(model).hexdigest(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verification:
    """A generation learned again: equal when the bytes have the same SHA-256."""

    snapshot_id: str
    interactions: int
    reloads: int
    expected: str
    found: str

    @property
    def equal(self) -> bool:
        """Whether the replay gave the serving snapshot to the byte."""
        return self.expected == self.found


class NothingToVerify(RuntimeError):
    """The loop has published no snapshot."""


def verify(
    store: SnapshotStore, loop: str, interactions: Iterable[LoggedInteraction], log_starts_at: int = 1
) -> Verification:
    """Learn the serving snapshot's generation again from its base, with the rewards as they were learned.

    Args:
        store: where the snapshots are.
        loop: the loop's name.
        interactions: its learnable interactions by rising sequence, from the start of the generation on.
        log_starts_at: the first sequence that retention has left; the replay begins at a snapshot behind it.

    Raises:
        NothingToVerify: the loop has published no snapshot.
    """
    serving = store.newest(loop, published=True)
    if serving is None:
        raise NothingToVerify(f"loop {loop!r} has no published snapshot")
    base = store.base(loop, serving.generation, at_least=log_starts_at - 1)
    points = [
        point for point in store.reload_points(loop, serving.generation)
        if base.trained_through < point < serving.trained_through
    ]  # fmt: skip
    if serving.snapshot_id == base.snapshot_id:
        # Nothing was learned; bytes that another program wrote would not be written again as they are.
        return Verification(serving.snapshot_id, 0, 0, serving.sha256, sha256(base.model).hexdigest())
    policy = VowpalPolicy(serving.setting, base.model)
    learned = reloads = 0
    for interaction in _within(interactions, base.trained_through, serving.trained_through):
        while reloads < len(points) and points[reloads] < interaction.sequence:
            policy = _reload(policy)
            reloads += 1
        learn(policy, interaction)
        learned += 1
    for _ in points[reloads:]:
        policy = _reload(policy)
    found = sha256(policy.save()).hexdigest()
    policy.close()
    return Verification(serving.snapshot_id, learned, len(points), serving.sha256, found)


def _within(interactions: Iterable[LoggedInteraction], after: int, through: int) -> Iterator[LoggedInteraction]:
    for interaction in interactions:
        if interaction.sequence > through:
            return
        if interaction.sequence > after:
            yield interaction


def _reload(policy: VowpalPolicy) -> VowpalPolicy:
    setting, model = policy.setting, policy.save()
    policy.close()
    return VowpalPolicy(setting, model)
