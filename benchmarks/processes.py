"""Processes that benchmarks start, and the addresses that they answer on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from adapters.installation import Installation

READY_SECONDS = 60.0
STOP_SECONDS = 30.0


class CannotMeasure(RuntimeError):
    """A process did not come up, or answered wrongly."""


def environment_of(installation: Installation) -> dict[str, str]:
    """What makes the product's own processes use an installation's stores."""
    return {
        "OFFERLOOP_DATABASE_URL": installation.database_url,
        "OFFERLOOP_REDIS_URL": installation.redis_url,
        "OFFERLOOP_DATA_DIR": str(installation.settings.data_dir),
        "OFFERLOOP_LOG_LEVEL": "WARNING",
    }


def migrate(installation: Installation) -> None:
    """Make the tables.

    Raises:
        CannotMeasure: they could not be made.
    """
    with running("offerloop", "migrate", environment=environment_of(installation)) as migration:
        if migration.wait(READY_SECONDS):
            raise CannotMeasure("the migrations failed")


@contextmanager
def serving(installation: Installation, port: int, workers: int = 1) -> Iterator[None]:
    """The decision service on a port."""
    place = ("--host", "127.0.0.1", "--port", str(port), "--workers", str(workers))
    with running("offerloop", "serve", *place, environment=environment_of(installation)):
        wait_ready(port)
        yield


@contextmanager
def learning(installation: Installation) -> Iterator[None]:
    """The learner beside whatever else runs."""
    with running("offerloop", "learn", environment=environment_of(installation)):
        yield


@contextmanager
def running(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process of ours, stopped by SIGTERM on leaving."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OFFERLOOP_")}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env=inherited | {**(environment or {})}, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()  # does nothing to one that has ended
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


def wait_ready(port: int) -> None:
    """Wait until an address answers.

    Raises:
        CannotMeasure: it does not within a minute.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2.0).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise CannotMeasure(f"port {port} did not answer within {READY_SECONDS:g} s")


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
