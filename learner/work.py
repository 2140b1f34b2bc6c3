"""Jobs from PostgreSQL, housekeeping by the clock, and challengers in the shadow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from sqlalchemy.exc import SQLAlchemyError

from adapters.catalogue import LoopStore
from adapters.installation import Installation
from adapters.jobs import Job, JobStore
from adapters.operations import OperationStore
from adapters.retention import drop_days_before
from adapters.snapshots import SnapshotStore
from learner.challengers import ChallengerFollower
from learner.evaluate import evaluate
from learner.optimise import auto_optimise
from learner.precompute import precompute, precompute_cells, precompute_similarity, precompute_thresholds

log = logging.getLogger(__name__)
HEARTBEAT_KEY = "heartbeat:work"
HOUSEKEEPING_SECONDS = 600.0
LOOK_EVERY_SECONDS = 0.5
FOLLOW_EVERY_SECONDS = 1.0
# A page of the log ends sooner.
JOIN_SECONDS = 10.0
KEEP_JOBS = timedelta(days=7)
KEEP_OPERATIONS = timedelta(days=90)


def prune_snapshots(installation: Installation, job: Job) -> dict[str, int]:
    """Job ``prune_snapshots``: forget snapshots that nobody needs."""
    store = SnapshotStore(installation.engine, installation.client)
    return {"deleted": store.prune(datetime.now(UTC))}


def drop_old_log(installation: Installation, job: Job) -> dict[str, int]:
    """Job ``retention``: drop whole days of the log that are older than every loop wants to keep."""
    loops = LoopStore(installation.engine, installation.client).all()
    days = max((config.retention_days for config in loops), default=0)
    if not days or any(config.clock == "simulated" for config in loops):
        # A simulated day says nothing of the log's age.
        return {"dropped": 0}
    limit = datetime.now(UTC) - timedelta(days=days)
    return {"dropped": drop_days_before(installation.engine, limit)}


# What may be asked for is in adapters.jobs, where the decision service sees it; a test holds both equal.
KINDS: Mapping[str, Callable[[Installation, Job], Mapping[str, Any]]] = {
    "auto_optimise": auto_optimise,
    "evaluate": evaluate,
    "precompute": precompute,
    "precompute_cells": precompute_cells,
    "precompute_similarity": precompute_similarity,
    "precompute_thresholds": precompute_thresholds,
    "prune_snapshots": prune_snapshots,
    "retention": drop_old_log,
}
HOUSEKEEPING = ("prune_snapshots", "retention", "precompute", "auto_optimise")


def follow_forever(installation: Installation, stop: threading.Event) -> None:
    """Let challengers follow their loops' logs."""
    follower = ChallengerFollower(installation)
    while not stop.is_set():
        try:
            if not follower.look():
                stop.wait(FOLLOW_EVERY_SECONDS)
        except Exception:
            # Whatever it is, what was stored is whole, and everything else goes on.
            log.exception("challengers are not followed for now; trying again")
            follower.close()
            stop.wait(1.0)
    follower.close()


def work_forever(installation: Installation, stop: threading.Event) -> None:
    """Take jobs one by one, enqueue the housekeeping when it is due, and follow challengers beside that."""
    follower = threading.Thread(target=follow_forever, args=(installation, stop), name="challengers", daemon=True)
    follower.start()
    _work_on_jobs(installation, stop)
    follower.join(JOIN_SECONDS)


def _work_on_jobs(installation: Installation, stop: threading.Event) -> None:
    store = JobStore(installation.engine)
    next_housekeeping = time.monotonic()
    while not stop.is_set():
        try:
            installation.client.set(HEARTBEAT_KEY, "1", ex=10)
            if time.monotonic() >= next_housekeeping:
                next_housekeeping += HOUSEKEEPING_SECONDS
                now = datetime.now(UTC)
                store.forget(now - KEEP_JOBS)
                OperationStore(installation.engine).forget(now - KEEP_OPERATIONS)
                for kind in HOUSEKEEPING:
                    store.add_unless_waiting(kind, {}, now)
            if not run_one(installation, store):
                stop.wait(LOOK_EVERY_SECONDS)
        except (SQLAlchemyError, redis.RedisError, OSError):
            log.exception("a store is away; trying again")
            stop.wait(1.0)


def run_one(installation: Installation, store: JobStore) -> bool:
    """Run the oldest waiting job; False when there is none. A job that raises is kept with its error."""
    with store.claim(datetime.now(UTC)) as job:
        if job is None:
            return False
        work = KINDS.get(job.kind)
        if work is None:
            store.fail(job, f"unknown kind of job {job.kind!r}", datetime.now(UTC))
            return True
        try:
            result = work(installation, job)
        except Exception as error:
            log.exception("job failed", extra={"job_id": job.job_id, "kind": job.kind})
            store.fail(job, repr(error), datetime.now(UTC))
        else:
            store.finish(job, result, datetime.now(UTC))
    return True
