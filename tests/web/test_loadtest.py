"""The load test as a user runs it, briefly, against an installation with keys and two workers."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PUT = {"category": "soup", "features": {"discount": 0.1}}
HEADERS = {"authorization": "Bearer test-admin-key"}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(guarded: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    out = tmp_path_factory.mktemp("loadtest")

    def load(*arguments: str, key: str = "test-admin-key") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "loadtest", "--url", guarded.url, "--users", "5", "--out", str(out)]
        return subprocess.run(
            [*command, *arguments], env=os.environ | {"LOADTEST_KEY": key}, capture_output=True, text=True, timeout=90
        )

    with guarded.client() as client:
        assert client.put("/v1/offers/load-only", json=PUT, headers=HEADERS).is_success
        yield load
        assert client.delete("/v1/offers/load-only", headers=HEADERS).is_success


def test_users_who_wait_meet_an_objective(run: Run, tmp_path: Path) -> None:
    ended = run("--seconds", "4", "--p99-ms", "60000", "--out", str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 failed" in ended.stdout
    assert b"locust" in (tmp_path / "loadtest.html").read_bytes().lower()
    assert (tmp_path / "loadtest_stats.csv").read_text().startswith("Type,Name,Request Count")
    assert ended.stdout.rstrip().endswith("passed")


def test_a_broken_objective_fails_at_a_constant_rate(run: Run) -> None:
    ended = run("--seconds", "3", "--rate", "30", "--p99-ms", "0.01")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "missed: the 99th percentile of rank is" in ended.stdout
    assert ended.stdout.rstrip().endswith("FAILED")


def test_refused_calls_fail(run: Run) -> None:
    ended = run("--seconds", "2", "--p99-ms", "60000", key="wrong")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "calls failed" in ended.stdout


@pytest.mark.parametrize(("arguments", "fault"), [(("--rate", "0"), "--rate"), (("--users", "0"), "--users")])
def test_bad_options_are_named(arguments: tuple[str, str], fault: str) -> None:
    command = [sys.executable, "-m", "loadtest", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert fault in ended.stderr
