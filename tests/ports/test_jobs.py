"""Jobs on the real store: one worker each, seen while they run, taken again when their worker dies."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select

from adapters.installation import Installation
from adapters.jobs import MOST_ATTEMPTS, JobStatus, JobStore
from adapters.tables import audit_log, jobs

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clean(installation: Installation) -> Iterator[None]:
    with installation.engine.begin() as connection:
        connection.execute(delete(jobs))
    yield
    with installation.engine.begin() as connection:
        connection.execute(delete(jobs))
        connection.execute(delete(audit_log))


@pytest.fixture
def store(installation: Installation) -> JobStore:
    return JobStore(installation.engine)


def known(store: JobStore, job_id: str) -> JobStatus:
    found = store.get(job_id)
    assert found is not None
    return found


def test_a_job_is_seen_while_it_runs(store: JobStore, installation: Installation) -> None:
    job_id = store.add("retention", {"days": 3}, NOW)
    waiting = known(store, job_id)
    assert (waiting.kind, waiting.arguments, waiting.state, waiting.progress) == (
        "retention",
        {"days": 3},
        "waiting",
        0,
    )
    other = JobStore(installation.engine)
    with store.claim(NOW) as job:
        assert job is not None
        assert (job.job_id, job.kind, job.arguments) == (job_id, "retention", {"days": 3})
        assert known(other, job_id).state == "running"
        store.progress(job, 0.4, NOW + timedelta(seconds=1))
        assert known(other, job_id).progress == 0.4
        store.finish(job, {"dropped": 2}, NOW + timedelta(seconds=2))
    done = known(other, job_id)
    assert (done.state, done.progress, done.result, done.error, done.attempts) == ("done", 1.0, {"dropped": 2}, None, 1)
    assert done.updated_at == NOW + timedelta(seconds=2)
    with store.claim(NOW) as nothing:
        assert nothing is None


def test_progress_after_the_end_changes_nothing(store: JobStore) -> None:
    job_id = store.add("retention", {}, NOW)
    with store.claim(NOW) as job:
        assert job is not None
        store.fail(job, "no", NOW)
        store.progress(job, 0.7, NOW)
    assert (known(store, job_id).state, known(store, job_id).progress, known(store, job_id).error) == (
        "failed",
        0,
        "no",
    )


def test_two_workers_take_different_jobs_the_oldest_first(store: JobStore, installation: Installation) -> None:
    ids = [store.add("retention", {}, NOW + timedelta(seconds=number)) for number in range(2)]
    with store.claim(NOW) as first, JobStore(installation.engine).claim(NOW) as second:
        assert first is not None
        assert second is not None
        assert [first.job_id, second.job_id] == ids
        with JobStore(installation.engine).claim(NOW) as third:
            assert third is None


def test_a_job_that_was_left_is_taken_again_and_fails_in_the_end(store: JobStore) -> None:
    job_id = store.add("retention", {}, NOW)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        with store.claim(NOW) as job:
            assert job is not None
            assert known(store, job_id).attempts == attempt
    later = store.add("retention", {}, NOW + timedelta(seconds=1))
    with store.claim(NOW) as job:
        assert job is not None
        assert job.job_id == later
    assert known(store, job_id).state == "failed"
    assert "died 3 times" in (known(store, job_id).error or "")


KILLED = """
import sys, time
from datetime import UTC, datetime
from adapters.jobs import JobStore
from adapters.engines import make_engine
with JobStore(make_engine(sys.argv[1])).claim(datetime.now(UTC)) as job:
    print(job.job_id, flush=True)
    time.sleep(60)
"""


@pytest.mark.timeout(60)
def test_a_job_whose_worker_is_killed_is_taken_by_the_next(store: JobStore, installation: Installation) -> None:
    job_id = store.add("retention", {}, NOW)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, installation.database_url], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline().strip() == job_id
        with store.claim(NOW) as job:
            assert job is None
        worker.kill()
    deadline = time.monotonic() + 20
    taken = False
    while not taken and time.monotonic() < deadline:
        with store.claim(NOW) as job:
            if job is not None:
                taken = True
                store.finish(job, {}, NOW)
        time.sleep(0.05)
    assert (known(store, job_id).state, known(store, job_id).attempts) == ("done", 2)


def test_one_of_a_kind_waits(store: JobStore) -> None:
    for _ in range(3):
        store.add_unless_waiting("retention", {}, NOW)
    store.add_unless_waiting("precompute", {}, NOW)
    assert sorted(job.kind for job in store.newest()) == ["precompute", "retention"]


def test_jobs_are_listed_newest_first_and_forgotten_when_old(store: JobStore) -> None:
    ids = [store.add("retention", {}, NOW + timedelta(minutes=number)) for number in range(5)]
    assert [job.job_id for job in store.newest()] == ids[::-1]
    assert [job.job_id for job in store.newest(2)] == ids[:2:-1]
    with store.claim(NOW) as job:
        assert job is not None
        store.finish(job, {}, NOW)
    assert store.forget(NOW) == 0
    assert store.forget(NOW + timedelta(days=1)) == 1
    assert [job.job_id for job in store.newest()] == ids[:0:-1]
    assert store.get(ids[0]) is None


def test_who_asked_is_written_down(store: JobStore, installation: Installation) -> None:
    job_id = store.add("precompute", {}, NOW, "ann")
    store.add("precompute", {}, NOW)
    with installation.engine.connect() as connection:
        rows = connection.execute(select(audit_log)).all()
    assert [(row.actor, row.action, row.subject, row.detail) for row in rows] == [
        ("ann", "job.add", job_id, {"kind": "precompute"})
    ]
