"""Structured logs on standard error, and the counters of every process."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
from prometheus_client import Counter, Gauge, Histogram

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, and what ``extra`` brought."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def start_logging(level: str) -> None:
    """Send all logs of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


class ServiceMetrics:
    """Counters of the decision service; a process makes them once."""

    def __init__(self) -> None:
        self.requests = Counter("offerloop_requests", "HTTP requests", ["route", "status"])
        self.seconds = Histogram(
            "offerloop_request_seconds", "Time to answer", ["route"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )  # fmt: skip
        self.decisions = Counter("offerloop_decisions", "Decisions logged", ["loop", "use"])
        self.dropped = Counter(
            "offerloop_dropped_features", "Features that a loop's schema did not let in", ["loop"]
        )  # fmt: skip
        self.repeats = Counter("offerloop_repeated_ranks", "Rank calls answered from the log", ["loop"])
        self.outcomes = Counter("offerloop_outcomes", "Outcomes accepted", ["loop"])
        self.activities = Counter("offerloop_activities", "Activities accepted")
        self.swaps = Counter("offerloop_snapshot_swaps", "Snapshots swapped in", ["loop"])
        # Finding a counter by its labels costs more than counting.
        self._counter_of = cache(lambda route, status: self.requests.labels(route, str(status)))
        self._seconds_of = cache(self.seconds.labels)

    def note_request(self, route: str, status: int, seconds: float) -> None:
        """Count and time an answer."""
        self._counter_of(route, status).inc()
        self._seconds_of(route).observe(seconds)


class LearnerMetrics:
    """Counters of the learner; a process makes them once."""

    def __init__(self) -> None:
        self.messages = Counter("offerloop_stream_messages", "Stream messages applied", ["loop"])
        self.interactions = Counter("offerloop_interactions", "Interactions closed", ["loop"])
        self.repeated = Counter("offerloop_repeated_events", "Doubled events dropped", ["loop"])
        self.late = Counter("offerloop_late_outcomes", "Outcomes after their decision closed", ["loop"])
        self.set_aside = Counter("offerloop_set_aside_events", "Events that could not be applied", ["loop"])
        self.published = Counter("offerloop_snapshots_published", "Snapshots published", ["loop"])
        self.profiles = Counter("offerloop_profile_updates", "Profiles changed")
        self.open = Gauge(
            "offerloop_open_decisions", "Decisions whose window is open", ["loop"], multiprocess_mode="livesum"
        )
