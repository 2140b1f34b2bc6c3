"""The audit log is read newest first, by subject and action, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from adapters.audit_log import AuditLog
from adapters.catalogue import audit
from adapters.installation import Installation

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.fixture
def subject(installation: Installation) -> str:
    """What five rows are about, numbered as they were written; their clocks go backwards."""
    name = f"loop-{uuid4().hex}"
    with installation.engine.begin() as connection:
        for number in range(5):
            action = "loop.killed" if number % 2 else "loop.revived"
            audit(connection, NOW - timedelta(hours=number), "somebody", action, name, {"number": number})
            audit(connection, NOW, "else", action, f"{name}-other", {})
    return name


def test_the_newest_row_is_the_last_that_was_written(installation: Installation, subject: str) -> None:
    found = AuditLog(installation.engine).entries(100, subject=subject)
    assert [one.detail["number"] for one in found] == [4, 3, 2, 1, 0]
    last = found[0]
    assert (last.at, last.actor, last.action, last.subject) == (
        NOW - timedelta(hours=4), "somebody", "loop.revived", subject,
    )  # fmt: skip


def test_filters_are_exact_and_both_hold(installation: Installation, subject: str) -> None:
    log = AuditLog(installation.engine)
    assert [one.detail["number"] for one in log.entries(100, subject=subject, action="loop.killed")] == [3, 1]
    for nobody in ("", "%", subject[:-1], subject.upper()):
        assert log.entries(100, subject=nobody) == []
    assert log.entries(100, subject=subject, action="loop") == []
    newest = log.entries(100, action="loop.killed")
    assert {one.action for one in newest} == {"loop.killed"}
    assert {subject, f"{subject}-other"} <= {one.subject for one in newest}


def test_pages_follow_each_other_without_gap_and_end(installation: Installation, subject: str) -> None:
    log = AuditLog(installation.engine)
    pages, before = [], None
    while page := log.entries(2, subject=subject, before=before):
        pages.append([one.detail["number"] for one in page])
        before = page[-1].audit_id
    assert pages == [[4, 3], [2, 1], [0]]
    newest = log.entries(1)[0].audit_id
    assert log.entries(1, before=newest + 1)[0].audit_id == newest, "also before a row that is not there"
