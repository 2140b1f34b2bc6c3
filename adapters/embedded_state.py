"""What the members and the supervisor of a data folder share: its paths, its locks, its ports and passwords.

Liveness is never written down. It is a file lock, which the kernel drops when its holder dies, also by kill -9:

| file in `run/`       | held by                                  | means                                              |
| -------------------- | ---------------------------------------- | -------------------------------------------------- |
| `members.lock`       | every member, shared                     | somebody needs the stores                          |
| `start.lock`         | the member that is starting a supervisor | do not start another                               |
| `supervisor.lock`    | the supervisor                           | the stores are looked after                        |
| `ready.lock`         | the supervisor                           | both servers answer                                |
| `postgres.lock`, ... | that server and all of its children      | its data is in use, whoever started it             |
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

LOCK_POLL_SECONDS = 0.01
# Below the ephemeral range of Linux, macOS and IANA: while a server restarts, no outgoing connection can take its port.
LOWEST_PORT, HIGHEST_PORT = 15_000, 29_999


class EmbeddedStoreError(RuntimeError):
    """The embedded stores cannot run here; the message says what to change."""


class FileLock:
    """A lock file, opened by this process alone: neither its subprocesses nor its forks keep the lock alive.

    A lock belongs to the open file, which a plain fork would share; forks of a Python process therefore close it at
    once (see `_drop_in_fork`), and programs it starts never see it (O_CLOEXEC).
    """

    def __init__(self, path: Path) -> None:
        with _fork_guard:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _open_locks.add(self)

    def try_take(self, *, shared: bool = False) -> bool:
        """Take the lock if that is possible now."""
        try:
            fcntl.flock(self.fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take(self, timeout_seconds: float, *, shared: bool = False) -> bool:
        """Take the lock within the time; False when others kept it."""
        deadline = time.monotonic() + timeout_seconds
        while not self.try_take(shared=shared):
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOCK_POLL_SECONDS)
        return True

    def release(self) -> None:
        """Give the lock back and keep the file open."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give this process's hold on the lock back; harmless when repeated."""
        with _fork_guard:
            if self.fd >= 0:
                os.close(self.fd)
            self.fd = -1
            _open_locks.discard(self)


_fork_guard = threading.Lock()
_open_locks: set[FileLock] = set()


def _drop_in_fork() -> None:
    for lock in _open_locks:
        os.close(lock.fd)
        lock.fd = -1
    _open_locks.clear()
    _fork_guard.release()


os.register_at_fork(before=_fork_guard.acquire, after_in_parent=_fork_guard.release, after_in_child=_drop_in_fork)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock exclusively."""
    lock = FileLock(path)
    try:
        return not lock.try_take(shared=True)
    finally:
        lock.close()


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """The paths below one data folder."""

    root: Path

    @property
    def run(self) -> Path:
        """Locks, pid files and the state file; private."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log per process; private, because PostgreSQL logs failing statements with their values."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """Ports and passwords, readable by the owner alone."""
        return self.run / "state.json"

    def lock(self, name: str) -> Path:
        """The lock file of a role or server."""
        return self.run / f"{name}.lock"

    def pid(self, name: str) -> Path:
        """The file holding a process id, for people and for the supervisor that cleans up after another."""
        return self.run / f"{name}.pid"

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the folder.

        Raises:
            EmbeddedStoreError: Another user owns it, or it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for private in (self.run, self.logs):
                private.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedStoreError(f"cannot create the data folder {self.root}: {error}") from error
        owner = self.run.stat().st_uid
        if owner != os.geteuid():
            raise EmbeddedStoreError(
                f"the data folder {self.root} belongs to user id {owner}, this process runs as {os.geteuid()}: "
                "run as its owner, or set OFFERLOOP_DATA_DIR to another folder"
            )


@dataclass(slots=True)
class StoreState:
    """Ports on 127.0.0.1 and passwords: chosen once, kept as long as the data."""

    postgres_port: int
    postgres_password: str
    valkey_port: int
    valkey_password: str
    postgres_password_is_set: bool = False  # whether the data already knows the password

    @classmethod
    def new(cls) -> StoreState:
        """Free ports and random passwords."""
        return cls(free_port(), secrets.token_urlsafe(24), free_port(), secrets.token_urlsafe(24))

    @classmethod
    def load(cls, folder: StoreFolder) -> StoreState | None:
        """The state of the folder, None when it has none yet."""
        try:
            return cls(**json.loads(folder.state.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise EmbeddedStoreError(
                f"{folder.state} is damaged ({error}): delete it, new ports and passwords are then set"
            ) from error

    def save(self, folder: StoreFolder) -> None:
        """Replace the state file at once: a reader sees the old or the new one."""
        draft = folder.state.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder.state)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the servers do: closed connections do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A random port nobody listens on."""
    while not port_is_free(port := LOWEST_PORT + secrets.randbelow(HIGHEST_PORT - LOWEST_PORT + 1)):
        pass
    return port
