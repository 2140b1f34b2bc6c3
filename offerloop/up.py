"""``offerloop up``: the whole installation as child processes, started in order, restarted when one dies."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx
import redis

from adapters.installation import Installation, open_installation
from adapters.parent import told_to_children
from adapters.settings import Settings, load_settings

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.2
CALM_SECONDS = 30.0
HEARTBEATS = ("heartbeat:learn", "heartbeat:work")


class NotReady(RuntimeError):
    """A process did not come up in time."""


@dataclass(slots=True)
class Child:
    """One process that is kept running."""

    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class Family:
    """The children of one installation."""

    environment: dict[str, str]
    children: list[Child] = field(default_factory=list)

    def add(self, name: str, *arguments: str) -> None:
        """Start a child."""
        child = Child(name, list(arguments))
        self.children.append(child)
        self._start(child)

    def look(self) -> None:
        """Start again what has died; one that keeps dying is given ever longer pauses, 5 s at most."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.not_before:
                    self._start(child)
            elif child.process.poll() is not None:
                child.deaths = child.deaths + 1 if now - child.started < CALM_SECONDS else 1
                child.not_before = now + min(0.1 * 2 ** min(child.deaths, 6), 5.0)
                print(f"{child.name} ended with {child.process.returncode}; starting it again", file=sys.stderr)
                child.process = None

    def stop(self) -> bool:
        """Stop in order of starting, each one before the next; True when none had to be killed."""
        clean = True
        for child in self.children:
            if child.process is None:
                continue
            child.process.send_signal(signal.SIGTERM)
            try:
                child.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                clean = False
                child.process.kill()
                child.process.wait()
        return clean

    def _start(self, child: Child) -> None:
        # A session of its own: Ctrl-C reaches this process alone, which then stops its children in order.
        child.process = subprocess.Popen(
            [sys.executable, "-m", "offerloop", *child.arguments], env=self.environment, start_new_session=True
        )
        child.started = time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything until SIGTERM or Ctrl-C."""
    settings = load_settings()
    parser = argparse.ArgumentParser(prog="offerloop up", description=__doc__)
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port, help="0 = any free one")
    parser.add_argument("--workers", type=int, default=settings.workers)
    chosen = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        installation = stack.enter_context(open_installation(settings))
        metrics = tempfile.mkdtemp(prefix="offerloop-metrics-")
        stack.callback(shutil.rmtree, metrics, ignore_errors=True)
        family = Family(_environment(installation, metrics))
        # A heartbeat of an earlier run must not pass for one of this run.
        installation.client.delete(*HEARTBEATS)
        subprocess.run([sys.executable, "-m", "offerloop", "migrate"], env=family.environment, check=True)
        port = chosen.port or free_port(chosen.host)
        host = "127.0.0.1" if chosen.host in ("0.0.0.0", "::") else chosen.host  # noqa: S104
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        clean = False
        try:
            family.add("serve", "serve", "--host", chosen.host, "--port", str(port), "--workers", str(chosen.workers))
            family.add("learn", "learn")
            family.add("work", "work")
            _wait_ready(address, installation, family, stop)
            print(f"ready {address}", flush=True)
            while not stop.wait(LOOK_SECONDS):
                family.look()
            clean = True
        except NotReady as error:
            print(f"not ready: {error}", file=sys.stderr)
        finally:
            # Whatever happened here, nobody is left behind.
            clean = family.stop() and clean
        return 0 if clean else 1


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _environment(installation: Installation, metrics: str) -> dict[str, str]:
    settings: Settings = installation.settings
    return os.environ | {
        "OFFERLOOP_DATABASE_URL": installation.database_url,
        "OFFERLOOP_REDIS_URL": installation.redis_url,
        "OFFERLOOP_DATA_DIR": str(settings.data_dir.absolute()),
        "PROMETHEUS_MULTIPROC_DIR": metrics,
        **told_to_children(),
    }


def _wait_ready(address: str, installation: Installation, family: Family, stop: threading.Event) -> None:
    deadline = time.monotonic() + READY_SECONDS
    missing = "the decision service"
    while time.monotonic() < deadline and not stop.is_set():
        family.look()
        try:
            answers = httpx.get(f"{address}/readyz", timeout=2.0).status_code == httpx.codes.OK
            beats = [bool(installation.client.exists(key)) for key in HEARTBEATS]
        except (httpx.HTTPError, redis.RedisError):
            answers, beats = False, []
        if answers and all(beats):
            return
        missing = "the decision service" if not answers else "the learner or the job worker"
        time.sleep(0.05)
    if not stop.is_set():
        raise NotReady(f"{missing} did not answer within {READY_SECONDS:g} s")
