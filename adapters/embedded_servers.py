"""Defines the two servers of a data folder: how each is prepared, started, found ready and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from adapters.embedded_programs import Account, Programs
from adapters.embedded_state import EmbeddedStoreError, StoreFolder, StoreState, free_port, port_is_free

ROLE = DATABASE = "offerloop"

StopStep = tuple[signal.Signals, float]
"""A signal and the seconds the server has to leave before the next one is sent."""


class Server(Protocol):
    """What the supervisor needs to know of a server."""

    name: str
    stop_steps: tuple[StopStep, ...]

    def prepare(self) -> None:
        """Make its data folder and configuration; called before each first start, harmless when repeated."""

    def move_port_if_taken(self) -> None:
        """Choose another port when a stranger listens on the stored one."""

    def command(self) -> list[str | Path]:
        """The command line; it names `data`, which tells this server from any other process."""

    def answers(self, pid: int) -> bool:
        """Whether the server started as process `pid` takes commands."""

    @property
    def data(self) -> Path:
        """Its data folder."""


class Postgres:
    """A private PostgreSQL: loopback only, passwords by SCRAM, every commit on disk before it is acknowledged."""

    name = "postgres"
    # SIGINT: fast shutdown; SIGQUIT: leave now and recover from the write-ahead log at the next start.
    stop_steps: tuple[StopStep, ...] = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def __init__(self, folder: StoreFolder, state: StoreState, programs: Programs, account: Account) -> None:
        self.folder, self.state, self.programs, self.account = folder, state, programs, account
        self.data = folder.root / f"pg{programs.postgres_major}"

    def prepare(self) -> None:
        """Make the database, or give existing data the password of a new state file."""
        if not self.data.exists():
            self._create()
        else:
            self.account.own(self.data)
            if not self.state.postgres_password_is_set:
                self._forget_dead_postmaster()
                self._set_password(self.data)
        self.state.postgres_password_is_set = True
        self.state.save(self.folder)

    def _create(self) -> None:
        """Run initdb in a draft folder, which gets the final name only when it is complete."""
        prefix = f"{self.data.name}.draft-"
        for leftover in self.folder.root.glob(prefix + "*"):
            shutil.rmtree(leftover, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder.root))
        self.account.own(draft)
        locale = ["--no-locale"]
        if self.programs.postgres_major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = ["--encoding=UTF8", *locale, "--data-checksums", "--auth=reject", "--no-instructions"]
        self._run([self.programs.initdb, "-D", draft, "-U", ROLE, *options])
        (draft / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        self._single_user(draft, f"CREATE DATABASE {DATABASE}")
        self._set_password(draft)
        draft.rename(self.data)
        parent = os.open(self.folder.root, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)

    def _set_password(self, data: Path) -> None:
        self._single_user(data, f"ALTER ROLE {ROLE} PASSWORD '{self.state.postgres_password}'")

    def _single_user(self, data: Path, statement: str) -> None:
        options = ["-c", "password_encryption=scram-sha-256", "template1"]
        self._run([self.programs.postgres, "--single", "-D", data, *options], statement + "\n")

    def _run(self, command: list[str | Path], stdin: str = "") -> None:
        process = self.account.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        output = process.communicate(stdin.encode())[0].decode(errors="replace")
        if process.returncode or "ERROR:" in output or "FATAL:" in output:
            raise EmbeddedStoreError(f"{command[0]} failed with exit code {process.returncode}:\n{output.strip()}")

    def move_port_if_taken(self) -> None:
        """Choose another port when a stranger listens on the stored one."""
        if not port_is_free(self.state.postgres_port):
            self.state.postgres_port = free_port()
            self.state.save(self.folder)

    def command(self) -> list[str | Path]:
        """The command line, which carries the whole configuration."""
        self._forget_dead_postmaster()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.state.postgres_port,
            "unix_socket_directories": "",  # a socket path is limited to 107 bytes, a data folder is not
            "max_connections": 100,
            "shared_buffers": "128MB",
            "fsync": "on",
            "synchronous_commit": "on",
            "wal_compression": "on",
            "max_wal_size": "1GB",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_destination": "stderr",
            "logging_collector": "off",
            "log_checkpoints": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self.programs.postgres, "-D", self.data, *options]

    def _forget_dead_postmaster(self) -> None:
        """Remove a leftover postmaster.pid whose number another program has since got (usual in containers)."""
        recorded = self._postmaster_lines()
        if recorded and str(self.data) not in command_line(int(recorded[0])):
            (self.data / "postmaster.pid").unlink()

    def _postmaster_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def answers(self, pid: int) -> bool:
        """Read what pg_ctl reads: the state in line 8 of postmaster.pid."""
        lines = self._postmaster_lines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


class Valkey:
    """A private Valkey (or Redis): loopback only, with a password, every write on disk before it is acknowledged."""

    name = "valkey"
    stop_steps: tuple[StopStep, ...] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    def __init__(self, folder: StoreFolder, state: StoreState, programs: Programs, account: Account) -> None:
        self.folder, self.state, self.programs, self.account = folder, state, programs, account
        self.data = folder.root / "valkey"
        self.configuration = self.data / "valkey.conf"

    def prepare(self) -> None:
        """Make the data folder."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.account.own(self.data)

    def move_port_if_taken(self) -> None:
        """Choose another port when a stranger listens on the stored one."""
        if not port_is_free(self.state.valkey_port):
            self.state.valkey_port = free_port()
            self.state.save(self.folder)

    def command(self) -> list[str | Path]:
        """The command line; the configuration file keeps the password out of it."""
        settings = {
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "port": str(self.state.valkey_port),
            "requirepass": self.state.valkey_password,
            "dir": _quoted(self.data),
            "appendonly": "yes",
            "appendfsync": "always",
            # Its log is made anew each time it has doubled; from 64 MB on, that would be every few seconds under load.
            "auto-aof-rewrite-min-size": "512mb",
            "aof-load-truncated": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "set-proc-title": "no",  # keeps the command line that names the data folder
        }
        self.configuration.unlink(missing_ok=True)
        with os.fdopen(os.open(self.configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
            if self.account.uid is not None and self.account.gid is not None:
                os.fchown(file.fileno(), self.account.uid, self.account.gid)
        return [self.programs.valkey, self.configuration]

    def answers(self, pid: int) -> bool:
        """Whether the server takes the password and a PING; while it loads its file it refuses the PING."""
        try:
            with socket.create_connection(("127.0.0.1", self.state.valkey_port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self.state.valkey_password}\r\nPING\r\nQUIT\r\n".encode())
                reply = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False
        return reply.startswith(b"+OK\r\n+PONG\r\n")


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def command_line(pid: int) -> str:
    """The command line of a living process, empty when there is none."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout
