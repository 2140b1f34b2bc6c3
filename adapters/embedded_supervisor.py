"""Keeps the PostgreSQL and the Valkey of one data folder alive while the folder has members, as a process of its own.

Run as `python -m adapters.embedded_supervisor DATA_DIR`. `join` starts it with `--detach`: it then leaves its parent,
prints what went wrong and ends, or closes its output when both servers answer.
"""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from adapters.embedded_programs import Account, choose_account, find_programs
from adapters.embedded_servers import Postgres, Server, Valkey, command_line
from adapters.embedded_state import EmbeddedStoreError, FileLock, StoreFolder, StoreState

LINGER_SECONDS = 1.0  # so that processes started one by one do not stop and start the servers in between
TICK_SECONDS = 0.1
STARTING_TICK_SECONDS = 0.01
STEADY_SECONDS = 10.0  # a server that ran this long has recovered: its failures are forgotten
LONGEST_PAUSE_SECONDS = 10.0
FIRST_START_ATTEMPTS = 3
ORPHAN_GRACE_SECONDS = 1.0  # orphans of a killed supervisor get their death signal from the kernel, on Linux
LARGEST_LOG_BYTES = 10_000_000

logger = logging.getLogger("adapters.embedded_supervisor")


class SupervisedServer:
    """One server process: started, watched and started again."""

    def __init__(self, server: Server, folder: StoreFolder, account: Account) -> None:
        self.server, self.folder, self.account = server, folder, account
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self._was_ready = False
        self._failures = 0
        self._started_at = 0.0
        self._next_start_at = 0.0
        self._blocked_since: float | None = None
        self._orphan_signals = [step for step, _ in server.stop_steps]
        self._log_offset = 0

    def tick(self) -> None:
        """Look at the process and do what is due."""
        if self.process is None:
            if time.monotonic() >= self._next_start_at:
                self._start()
        elif self.process.poll() is not None:
            self._note_exit(self.process.returncode)
        elif not self.ready and self.server.answers(self.process.pid):
            self.ready = self._was_ready = True
            logger.info("%s answers, pid %d", self.server.name, self.process.pid)

    def _start(self) -> None:
        # The server and its children inherit the open lock file, so its data cannot get a second server before the last
        # of them has gone, whoever started them and whatever killed their parent.
        lock = FileLock(self.folder.lock(self.server.name))
        try:
            if not lock.try_take():
                self._press_orphans()
                return
            self._blocked_since = None
            inherited = os.dup(lock.fd)  # locks themselves are closed in forks
        finally:
            lock.close()
        try:
            if not self._was_ready:
                self.server.prepare()
                self.server.move_port_if_taken()
            command = self.server.command()
            with self._open_log().open("ab") as log:
                self._log_offset = log.tell()
                self.process = self.account.start(
                    command, stdout=log, keep_fds=[inherited], death_signal=self.server.stop_steps[0][0]
                )
        finally:
            os.close(inherited)
        self._started_at = time.monotonic()
        self.folder.pid(self.server.name).write_text(f"{self.process.pid}\n")

    def _open_log(self) -> Path:
        log = self.folder.log(self.server.name)
        if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return log

    def _note_exit(self, code: int) -> None:
        self.process, self.ready = None, False
        now = time.monotonic()
        self._failures = 1 if now - self._started_at > STEADY_SECONDS else self._failures + 1
        tail = self._log_tail()
        logger.warning("%s ended with code %d: %s", self.server.name, code, tail)
        if not self._was_ready and self._failures >= FIRST_START_ATTEMPTS:
            raise EmbeddedStoreError(f"{self.server.name} does not start (code {code}), its log ends with:\n{tail}")
        if self._failures > 1:
            self._next_start_at = now + min(0.25 * 2**self._failures, LONGEST_PAUSE_SECONDS)

    def _log_tail(self) -> str:
        with self.folder.log(self.server.name).open("rb") as log:
            log.seek(self._log_offset)
            return "\n".join(log.read()[-4000:].decode(errors="replace").splitlines()[-12:])

    def _press_orphans(self) -> None:
        """Stop the server that a killed supervisor left, with one stronger signal after each time of grace."""
        now = time.monotonic()
        if self._blocked_since is None:
            self._blocked_since = now
        if now - self._blocked_since < ORPHAN_GRACE_SECONDS:
            return
        self._blocked_since = now
        try:
            pid = int(self.folder.pid(self.server.name).read_text())
        except (FileNotFoundError, ValueError):
            return
        if self._orphan_signals and str(self.server.data) in command_line(pid):
            logger.warning("%s of an earlier supervisor still runs as pid %d", self.server.name, pid)
            os.kill(pid, self._orphan_signals.pop(0))

    def stop(self) -> None:
        """Stop the server in good order, with force only when it does not follow."""
        process, self.process, self.ready = self.process, None, False
        if process is None:
            return
        for step, seconds in self.server.stop_steps:
            process.send_signal(step)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                logger.warning("%s ignores %s", self.server.name, step.name)
            else:
                break
        self.folder.pid(self.server.name).unlink(missing_ok=True)
        logger.info("%s stopped with code %s", self.server.name, process.returncode)


class Supervisor:
    """The loop that holds both servers and leaves with the last member."""

    def __init__(self, folder: StoreFolder, *, detached: bool) -> None:
        self.folder, self.detached = folder, detached
        self.stopping = False
        self._members = FileLock(folder.lock("members"))
        self._ready = FileLock(folder.lock("ready"))
        self._published = False
        self._deserted_since: float | None = None

    def run(self) -> None:
        """Serve until the last member has left or a signal came.

        Raises:
            EmbeddedStoreError: The servers cannot be started here.
        """
        servers = self._servers()
        try:
            while not self.stopping and not self._is_deserted():
                for server in servers:
                    server.tick()
                self._publish(all(server.ready for server in servers))
                time.sleep(TICK_SECONDS if self._published else STARTING_TICK_SECONDS)
        finally:
            self._publish(False)
            for server in reversed(servers):
                server.stop()

    def _servers(self) -> list[SupervisedServer]:
        root = self.folder.root
        account, programs = choose_account(root, find_programs(root))
        state = StoreState.load(self.folder) or StoreState.new()
        definitions: list[Server] = [kind(self.folder, state, programs, account) for kind in (Postgres, Valkey)]
        return [SupervisedServer(definition, self.folder, account) for definition in definitions]

    def stop_soon(self) -> None:
        """Leave at the next tick; called by signal handlers."""
        self.stopping = True

    def _is_deserted(self) -> bool:
        """Whether nobody has been a member for the linger time; if so nobody can become one until this process ends."""
        if not self._members.try_take():
            self._deserted_since = None
            return False
        now = time.monotonic()
        if self._deserted_since is None:
            self._deserted_since = now
        if now - self._deserted_since >= LINGER_SECONDS:
            logger.info("the last member left")
            return True
        self._members.release()
        return False

    def _publish(self, ready: bool) -> None:
        """Let members in while both servers answer."""
        if ready == self._published:
            return
        if not ready:
            self._ready.release()
        elif not self._ready.try_take():  # a member is looking at this moment
            return
        elif self.detached:
            self.detached = False
            silence = os.open(os.devnull, os.O_RDWR)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
        self._published = ready


def supervise(root: Path, *, detach: bool) -> int:
    """Look after a data folder until its last member left; returns the exit code of the process."""
    if detach and os.fork():
        os._exit(0)  # the parent of the servers is now nobody's child, and no member has to reap it
    folder = StoreFolder(root.resolve())
    try:
        folder.create()
        supervisor = Supervisor(folder, detached=detach)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop_soon())
        handler = logging.handlers.RotatingFileHandler(folder.log("supervisor"), maxBytes=1_000_000, backupCount=1)
        logging.basicConfig(
            level=logging.INFO, handlers=[handler], format="%(asctime)s %(process)d %(levelname)s %(message)s"
        )
        role = FileLock(folder.lock("supervisor"))
        if not role.take(1.0):  # longer than any member looks at it
            logger.info("another supervisor has the folder")
            return 0
        folder.pid("supervisor").write_text(f"{os.getpid()}\n")
        supervisor.run()
        folder.pid("supervisor").unlink(missing_ok=True)
    except EmbeddedStoreError as error:
        logger.error("%s", error)
        print(error, flush=True)
        return 1
    except Exception:
        logger.exception("the supervisor failed")
        raise
    return 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m adapters.embedded_supervisor", description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--detach", action="store_true", help="leave the parent; close the output once ready")
    arguments = parser.parse_args()
    sys.exit(supervise(arguments.data_dir, detach=arguments.detach))


if __name__ == "__main__":
    main()
