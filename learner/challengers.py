"""Challengers follow their loop's log in the shadow: evaluated, taught, stored, published, and held to guardrails.

Each page of the log is evaluated and learned, then the model, its sums and the position are stored in one transaction,
with a snapshot when one is due: killed anywhere, the next follower takes the page again from where the last one stood.
Another process that changes a challenger (an erasure, a promotion) changes its generation or position, so that a
follower that is behind stores nothing and begins with what is there.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256

from adapters.catalogue import LoopStore
from adapters.challengers import (
    CHAMPION,
    MOST_ATTEMPTS,
    ChallengerRow,
    ChallengerStore,
    Overtaken,
)
from adapters.installation import Installation
from adapters.locks import AnotherWriter, Lease, WriterConnection
from adapters.operations import OperationStore
from adapters.snapshots import SnapshotStore, snapshot_id
from contextual_bandit.loops import Challenger, LoopConfig
from contextual_bandit.types import LearningSetting, LoggedInteraction, PolicySnapshot
from contextual_bandit.vowpal import policy_id
from learner.followed_log import FollowedLog
from learner.guardrails import ChampionWatcher, broken, stop_canary
from learner.shadow import Author, Outcomes, ShadowPolicy, lesson_mark, split_served, stored_row

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Followed:
    """A challenger that is followed: as it is stored, and as it is in memory."""

    row: ChallengerRow
    challenger: Challenger
    mark: str
    shadow: ShadowPolicy
    published_through: int
    stream_time: datetime | None = None
    published_time: datetime | None = None
    published_clock: float = 0.0
    is_attempted: bool = False


class LoopChallengers:
    """The challengers of one loop; at most one process has it."""

    def __init__(self, installation: Installation, loop: str, lease: Lease) -> None:
        self._installation = installation
        self._loop = loop
        self._lease = lease
        self._engine = installation.engine
        self._store = ChallengerStore(installation.engine)
        self._snapshots = SnapshotStore(installation.engine, installation.client)
        self._operations = OperationStore(installation.engine)
        self._loops = LoopStore(installation.engine, installation.client)
        self._log = FollowedLog(installation, loop)
        self._champion = ChampionWatcher(installation, loop, self._log)
        self._followed: dict[str, _Followed] = {}
        # By name, the marks of those that are followed no more, and of those that cannot even be opened.
        self._given_up: dict[str, str] = {}
        self._unusable: dict[str, str] = {}

    def look(self) -> bool:
        """Take one page for each challenger; True when there is more to take at once.

        Raises:
            adapters.locks.LockLost: another process may have the loop now.
        """
        _ = self._lease.connection
        # In this order: a promotion stores what is previous before the settings name it, and is done after that.
        positions = self._store.positions(self._loop)
        is_promoting = any(one.kind == "promote" for one in self._operations.open(self._loop))
        config = self._loops.get(self._loop)
        if config is None:
            config = LoopConfig(self._loop)
        if not is_promoting:
            for name in positions.keys() - {CHAMPION, *(one.name for one in config.challengers)}:
                self._drop(name)
                self._store.remove(self._loop, name, _now())
        self._reconcile(config, positions)
        more = self._take_pages(config)
        if CHAMPION in positions:
            more |= self._champion.look(config, is_promoting=is_promoting)
        for followed in list(self._followed.values()):
            try:
                self._guard(config, followed)
            except Overtaken:
                self._drop(followed.row.name)
        return more

    def close(self) -> None:
        """Free the models, and give the loop to another process."""
        for name in list(self._followed):
            self._drop(name)
        self._lease.release()

    def _drop(self, name: str) -> None:
        followed = self._followed.pop(name, None)
        if followed is not None:
            followed.shadow.close()

    def _reconcile(self, config: LoopConfig, positions: dict[str, tuple[int, int]]) -> None:
        """Follow what the settings name, each from where it is stored."""
        reset_through = self._log.reset_through()
        wanted = {one.name: one for one in config.challengers}
        for name in self._followed.keys() - wanted.keys():
            self._drop(name)
        for name, challenger in wanted.items():
            mark = lesson_mark(config, challenger.arguments, reset_through)
            followed = self._followed.get(name)
            if followed is not None and followed.mark == mark:
                if positions.get(name) == (followed.row.generation, followed.row.trained_through):
                    if challenger.share > 0.0 and followed.challenger.share == 0.0:
                        followed.shadow.served.watch_anew()
                    followed.challenger = challenger
                    continue
            elif (self._given_up.get(name) == mark and name in positions) or self._unusable.get(name) == mark:
                continue
            self._drop(name)
            try:
                self._open(config, challenger, mark)
            except Overtaken:
                log.info("a challenger was changed meanwhile", extra={"loop": self._loop, "challenger": name})
            except (ValueError, RuntimeError):
                log.exception("a challenger cannot be used", extra={"loop": self._loop, "challenger": name})
                self._unusable[name] = mark

    def _open(self, config: LoopConfig, challenger: Challenger, mark: str) -> None:
        setting = LearningSetting(challenger.arguments, config.reward.low, config.reward.high)
        row = self._store.row(self._loop, challenger.name)
        if row is None or not row.state or row.state["mark"] != mark:
            row = self._begin(config, challenger, setting, mark)
        if row.attempts >= MOST_ATTEMPTS:
            self._give_up(row, challenger, mark, f"its follower died {MOST_ATTEMPTS} times")
            return
        if row.state["shown"].get("error"):
            self._given_up[challenger.name] = mark
            return
        self._given_up.pop(challenger.name, None)
        shadow = ShadowPolicy.resume(setting, row.model, row.state["sums"])
        if challenger.share > 0.0 and row.state["share"] == 0.0:
            shadow.served.watch_anew()
        published = self._snapshots.newest(self._loop, published=True, challenger=challenger.name)
        through, at = int(row.state["began"]), None
        if published is not None and published.generation == row.generation:
            through, at = published.trained_through, published.stream_time
            # Whoever stored it may have died before it told of it.
            self._snapshots.announce(published)
        self._followed[challenger.name] = _Followed(row, challenger, mark, shadow, through, at, at)

    def _begin(
        self, config: LoopConfig, challenger: Challenger, setting: LearningSetting, mark: str
    ) -> ChallengerRow:  # fmt: skip
        """A generation that knows nothing, before the first interaction that may be learned."""
        after = self._log.begins_after(config)
        generation = self._store.next_generation(self._loop, challenger.name)
        shadow = ShadowPolicy.begin(setting)
        at = ChallengerRow(challenger.name, generation, after, 0, {}, None)
        row = stored_row(challenger, at, shadow, mark, after)
        shadow.close()
        self._store.begin(self._loop, row, _now())
        log.info("challenger begins", extra={"loop": self._loop, "challenger": challenger.name, "after": after})
        return row

    def _give_up(self, row: ChallengerRow, challenger: Challenger, mark: str, error: str) -> None:
        """Follow a challenger no more, and say why; a change of what it learns lets it begin anew."""
        log.error("challenger given up", extra={"loop": self._loop, "challenger": row.name, "error": error})
        told = dict(row.state["shown"]) | {"error": error}
        stopped = replace(row, attempts=0, state=dict(row.state) | {"shown": told})
        self._store.commit(self._loop, row, stopped, _now())
        self._given_up[challenger.name] = mark

    def _take_pages(self, config: LoopConfig) -> bool:
        """One page from each position where a challenger stands; True when one was full."""
        places: defaultdict[int, list[_Followed]] = defaultdict(list)
        for followed in self._followed.values():
            places[followed.row.trained_through].append(followed)
        more = False
        for after, group in sorted(places.items()):
            page = self._log.page(config, after)
            outcomes = self._log.outcomes(config, page)
            more |= self._log.is_full(page)
            for followed in group:
                try:
                    self._take(config, followed, page, outcomes)
                except Overtaken:
                    log.info("a challenger was changed meanwhile", extra={"loop": self._loop})
                    self._drop(followed.row.name)
        return more

    def _take(
        self, config: LoopConfig, followed: _Followed, page: Sequence[LoggedInteraction], outcomes: Outcomes
    ) -> None:  # fmt: skip
        """Evaluate and learn a page, and store it; publish when that is due."""
        row, shadow, challenger = followed.row, followed.shadow, followed.challenger
        if page:
            if not followed.is_attempted:
                self._store.attempt(self._loop, row)
                followed.is_attempted = True
            try:
                shadow.take(config, page)
            except (ValueError, RuntimeError) as error:
                self._give_up(row, challenger, followed.mark, repr(error))
                self._drop(challenger.name)
                return
            own = Author.challenger(self._loop, challenger.name, challenger.arguments)
            begun = shadow.served.own.n > 0
            mine, others = split_served(page, own, Author.champion(self._loop), outcomes, begun=begun)
            shadow.served.add(config.guardrails, mine, others)
            followed.stream_time = page[-1].closed_at
        through = page[-1].sequence if page else row.trained_through
        is_due = not self._log.is_full(page) and self._is_due(config, followed, through)
        if not page and not is_due:
            return
        self._commit(config, followed, through, publish=is_due)

    def _commit(self, config: LoopConfig, followed: _Followed, through: int, *, publish: bool) -> None:
        row, shadow, challenger = followed.row, followed.shadow, followed.challenger
        at = replace(row, trained_through=through)
        after = stored_row(challenger, at, shadow, followed.mark, int(row.state["began"]), config.guardrails)
        snapshot = self._snapshot(followed, after) if publish else None
        self._store.commit(self._loop, row, after, _now(), snapshot)
        followed.row = after
        if snapshot is not None:
            self._snapshots.announce(snapshot)
            followed.published_through = through
            followed.published_time, followed.published_clock = followed.stream_time, time.monotonic()

    def _is_due(self, config: LoopConfig, followed: _Followed, through: int) -> bool:
        if through <= followed.published_through:
            return False
        since, now = followed.published_time, followed.stream_time
        if since is None or now is None:
            return True
        # By the clock too: no interaction may come for long, and a simulated stream may stand still.
        waited = max((now - since).total_seconds(), time.monotonic() - followed.published_clock)
        return waited >= config.export_frequency_seconds

    def _snapshot(self, followed: _Followed, row: ChallengerRow) -> PolicySnapshot:
        setting, model = followed.shadow.setting, row.model or b""
        return PolicySnapshot(
            snapshot_id(self._loop, row.generation, row.trained_through, row.name), self._loop,
            policy_id(setting.arguments), row.generation, row.trained_through, followed.stream_time, None,
            setting.arguments, setting.reward_low, setting.reward_high, model, sha256(model).hexdigest(), row.name,
        )  # fmt: skip

    def _guard(self, config: LoopConfig, followed: _Followed) -> None:
        """Let a canary decide for nobody more when it is shown to break a bound."""
        found = broken(followed.shadow.served.watch.readings(config.guardrails))
        if followed.challenger.share == 0.0 or found is None:
            return
        stop_canary(self._installation, self._loop, followed.challenger, found)
        followed.challenger = replace(followed.challenger, share=0.0)
        self._commit(config, followed, followed.row.trained_through, publish=False)


class ChallengerFollower:
    """Follows the challengers of all loops that no other process follows."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._locks = WriterConnection(installation.engine)
        self._loops = LoopStore(installation.engine, installation.client)
        self._store = ChallengerStore(installation.engine)
        self._held: dict[str, LoopChallengers] = {}

    def look(self) -> bool:
        """Take one page for each challenger of each loop; True when there is more to take at once.

        Raises:
            Exception: what went wrong in a loop, after all loops were looked at; the follower is to be closed then.
        """
        wanted = {config.loop for config in self._loops.all() if config.challengers} | self._store.loops()
        for loop in self._held.keys() - wanted:
            self._held.pop(loop).close()
        more, failed = False, None
        for loop in sorted(wanted):
            try:
                more |= self._look_at(loop)
            except Exception as error:
                # One loop's trouble is not the others'.
                failed = error
        if failed is not None:
            raise failed
        return more

    def _look_at(self, loop: str) -> bool:
        if loop not in self._held:
            try:
                lease = self._locks.take(f"challengers:{loop}")
            except AnotherWriter:
                return False
            self._held[loop] = LoopChallengers(self._installation, loop, lease)
        return self._held[loop].look()

    def close(self) -> None:
        """Give all loops to other processes; what was not stored is forgotten."""
        for held in self._held.values():
            held.close()
        self._held.clear()
        self._locks.close()


def _now() -> datetime:
    return datetime.now(UTC)
