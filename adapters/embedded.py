"""Gives a process the PostgreSQL and Valkey of a data folder, starting them when nobody runs them yet.

    with join(Path("var")) as membership:
        engine = create_engine(membership.urls.database_url)

The stores run as long as the folder has a member and stop about a second after the last one left, however it left:
membership is a file lock, which the kernel drops even at kill -9. It belongs to the process that called `join`; its
subprocesses and forks are not members (a worker that may outlive its parent joins by itself).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from adapters.embedded_state import EmbeddedStoreError, FileLock, StoreFolder, StoreState, is_held

__all__ = ["EmbeddedStoreError", "Membership", "StoreUrls", "join"]

WATCH_SECONDS = 0.25
POLL_SECONDS = 0.02
RESTART_TIMEOUT_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreUrls:
    """Where the stores answer; the same for all members, and after a crash of any part."""

    database_url: str
    redis_url: str


class Membership:
    """A process's hold on the stores of a folder; while it lasts, it also replaces a supervisor that was killed."""

    def __init__(self, folder: StoreFolder, lock: FileLock, urls: StoreUrls) -> None:
        self.urls = urls
        self._folder = folder
        self._lock = lock
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="embedded-stores", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Leave; the stores stop when nobody else is a member. Afterwards this process leaves the folder alone."""
        self._closed.set()
        if self._watcher is not threading.current_thread():
            self._watcher.join(RESTART_TIMEOUT_SECONDS)
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self) -> None:
        pause = WATCH_SECONDS
        while not self._closed.wait(pause):
            pause = WATCH_SECONDS
            try:
                if is_held(self._folder.lock("supervisor")):
                    continue
                logger.warning("the supervisor of %s is gone, starting another", self._folder.root)
                _ensure_running(self._folder, time.monotonic() + RESTART_TIMEOUT_SECONDS, self._closed)
            except (EmbeddedStoreError, OSError) as error:
                pause = LONGEST_PAUSE_SECONDS
                logger.error("cannot restart the stores of %s: %s", self._folder.root, error)


def join(data_dir: Path, *, timeout_seconds: float = 60.0) -> Membership:
    """Adopt the stores of data_dir, starting them when nobody runs them; they stop when the last member leaves.

    Raises:
        EmbeddedStoreError: They cannot run here, or did not answer in time.
    """
    deadline = time.monotonic() + timeout_seconds
    folder = StoreFolder(data_dir.resolve())
    folder.create()
    lock = FileLock(folder.lock("members"))
    try:
        # From here on a supervisor stays; one that is leaving keeps the lock until its servers have stopped.
        if not lock.take(timeout_seconds, shared=True):
            raise EmbeddedStoreError(f"the stores of {folder.root} are still stopping after {timeout_seconds:g} s")
        _ensure_running(folder, deadline)
        return Membership(folder, lock, _urls(folder))
    except BaseException:
        lock.close()
        raise


def _ensure_running(folder: StoreFolder, deadline: float, cancelled: threading.Event | None = None) -> None:
    """Return once both servers answer (starting a supervisor if there is none), or when nobody wants them any more."""
    start = FileLock(folder.lock("start"))
    try:
        while not is_held(folder.lock("ready")) and not (cancelled and cancelled.is_set()):
            if time.monotonic() >= deadline:
                raise EmbeddedStoreError(f"the stores of {folder.root} do not answer in time, see {folder.logs}")
            if not is_held(folder.lock("supervisor")) and start.try_take():
                if not is_held(folder.lock("supervisor")):
                    _start_supervisor(folder, deadline)
                start.release()
            else:
                time.sleep(POLL_SECONDS)
    finally:
        start.close()


def _start_supervisor(folder: StoreFolder, deadline: float) -> None:
    """Start the detached supervisor; it ends its output when the servers answer, or after saying why they do not."""
    package_root = str(Path(__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    try:
        launch = subprocess.run(
            [sys.executable, "-P", "-m", "adapters.embedded_supervisor", "--detach", str(folder.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",
            env={**os.environ, "PYTHONPATH": search_path},
            start_new_session=True,  # Ctrl-C in a terminal reaches the members, not the stores
            timeout=max(deadline - time.monotonic(), POLL_SECONDS),
        )
    except subprocess.TimeoutExpired:
        return  # the caller's deadline has passed too
    if launch.stdout.strip():
        raise EmbeddedStoreError(launch.stdout.strip())


def _urls(folder: StoreFolder) -> StoreUrls:
    state = StoreState.load(folder)
    if state is None:
        raise EmbeddedStoreError(f"{folder.state} was deleted while the stores run")
    return StoreUrls(
        database_url=f"postgresql+psycopg://offerloop:{state.postgres_password}"
        f"@127.0.0.1:{state.postgres_port}/offerloop",
        redis_url=f"redis://:{state.valkey_password}@127.0.0.1:{state.valkey_port}/0",
    )
