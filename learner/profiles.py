"""Activity into customer profiles: the writer of the activity stream."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import redis

from adapters.customers import ProfileLog
from adapters.locks import WriterConnection
from adapters.streams import ACTIVITY_STREAM, StreamReader
from adapters.telemetry import LearnerMetrics
from contextual_bandit import events
from contextual_bandit.profile import Activity, Profile
from contextual_bandit.stored_decisions import ReadMessage
from learner.erase import erase_from_profiles, finish_profiles, split_at_erasures

TRIM_EVERY_SECONDS = 5.0


class ProfileWriter:
    """Applies activities once each, in stream order, and keeps the cached profiles in step."""

    stream = ACTIVITY_STREAM

    def __init__(
        self, writers: WriterConnection, client: redis.Redis, reader: StreamReader, metrics: LearnerMetrics
    ) -> None:
        """Take the stream over.

        Raises:
            AnotherWriter: another process writes profiles.
        """
        self._reader = reader
        self._metrics = metrics
        self._ledger = ProfileLog(writers, client)
        self.position, self._population = self._ledger.load()
        self._ledger.refresh_since(reader.applied(self.stream))
        reader.mark_applied(self.stream, self.position)
        finish_profiles(reader, self._ledger, self.position)
        self._trimmed = time.monotonic()

    @staticmethod
    def read(messages: Sequence[tuple[str, bytes]]) -> dict[str, ReadMessage]:
        """Nothing: activities are read when they are applied."""
        del messages
        return {}

    def handle(self, messages: Sequence[tuple[str, bytes]], read: Mapping[str, ReadMessage] | None = None) -> None:
        """Apply and commit messages; on any error the writer must be discarded."""
        del read
        has_erased = False
        for erasure, run in split_at_erasures(messages):
            if erasure is not None:
                has_erased = True
                self._population = erase_from_profiles(self._ledger, erasure, self._population)
            self._take(run)
        if has_erased:
            finish_profiles(self._reader, self._ledger, self.position)

    def _take(self, messages: Sequence[tuple[str, bytes]]) -> None:
        activities, set_aside = read_activities(messages)
        known = set(self._ledger.known([activity.activity_id for activity, _ in activities]))
        fresh: list[tuple[Activity, str]] = []
        for activity, position in activities:
            if activity.activity_id not in known:
                known.add(activity.activity_id)
                fresh.append((activity, position))
        changed = self._ledger.profiles({activity.customer_id for activity, _ in fresh})
        for activity, _ in fresh:
            self._apply(activity, changed)
        position = messages[-1][0]
        self._ledger.commit(position, fresh, changed, self._population, set_aside, datetime.now(UTC))
        self.position = position
        self._metrics.profiles.inc(len(changed))
        self._reader.mark_applied(self.stream, position)

    def skip(self, message: tuple[str, bytes], error: str) -> None:
        """Set aside a message that can be applied but not committed, and go on behind it."""
        position, data = message
        self._ledger.commit(position, [], {}, self._population, [(position, data, error)], datetime.now(UTC))
        self.position = position

    def follow(self, version: int) -> None:
        """Activity has no settings."""

    def _apply(self, activity: Activity, profiles: dict[str, Profile]) -> None:
        profile = profiles.get(activity.customer_id)
        if profile is None:
            profile = profiles[activity.customer_id] = Profile()
            self._population.customers += 1
        first = profile.first_purchase_day
        for category, day in profile.apply(activity):
            self._population.add_day(category, day)
        self._population.move_first(first, profile.first_purchase_day)

    def idle(self) -> None:
        """Trim what is committed."""
        if time.monotonic() - self._trimmed >= TRIM_EVERY_SECONDS:
            self._trimmed = time.monotonic()
            self._reader.trim(self.stream, self.position)

    def close(self) -> None:
        """Give the stream to the next writer."""
        self._ledger.close()

    abandon = close


def read_activities(
    messages: Sequence[tuple[str, bytes]],
) -> tuple[list[tuple[Activity, str]], list[tuple[str, bytes, str]]]:
    """Activities with their positions, and the messages that are none with the error."""
    activities: list[tuple[Activity, str]] = []
    set_aside: list[tuple[str, bytes, str]] = []
    for position, data in messages:
        try:
            event = events.decode(position, data)
            if event.type == events.CONTROL:
                continue
            activities.extend((events.activity_from(raw), position) for raw in event.payload["activities"])
        except (events.BadEvent, KeyError, TypeError, ValueError) as error:
            set_aside.append((position, data, repr(error)))
    return activities, set_aside
