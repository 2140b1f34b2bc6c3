"""The embedded stores survive what can happen to them: leaving members, kill -9 of every part, two starts at once.

Kills go to single process ids, read from the pid files of the test's own data folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from adapters.embedded import EmbeddedStoreError, StoreUrls, join
from adapters.embedded_state import StoreFolder, StoreState, is_held

PATIENCE_SECONDS = 15.0
REPOSITORY = Path(__file__).resolve().parents[2]

MEMBER = """
import os, subprocess, sys, time
from pathlib import Path
from adapters.embedded import join
membership = join(Path(sys.argv[1]))
if sys.argv[2] == "subprocess":
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(["sleep", "60"], stdin=quiet, stdout=quiet, close_fds=False).pid
elif sys.argv[2] == "fork":
    child = os.fork()
    if not child:
        os.close(0), os.close(1)
        time.sleep(60)
        os._exit(0)
else:
    child = 0
print(membership.urls.database_url, membership.urls.redis_url, child, flush=True)
sys.stdin.read()
"""


class MemberProcess:
    """Another process that joins the folder and stays until it is told to leave or killed."""

    def __init__(self, data_dir: Path, child: str = "none") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(data_dir), child],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def joined(self) -> tuple[StoreUrls, int]:
        """Its URLs and the process id of its child, once it is a member."""
        assert self.process.stdout
        database_url, redis_url, child = self.process.stdout.readline().split()
        return StoreUrls(database_url, redis_url), int(child)

    def leave(self) -> None:
        self.process.communicate(timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def cleaned_up(root: Path) -> Iterator[Path]:
    """A data folder whose processes are gone afterwards, also when the test failed."""
    yield root
    folder = StoreFolder(root)
    if not folder.run.exists():
        return
    if is_held(folder.lock("supervisor")) and folder.pid("supervisor").exists():
        os.kill(process_id(root, "supervisor"), signal.SIGTERM)  # spares the linger; tests of leaving do not end here
    names = ("supervisor", "postgres", "valkey")
    if not eventually(lambda: not any(is_held(folder.lock(name)) for name in names), seconds=4.0):
        for name in names:
            if is_held(folder.lock(name)) and folder.pid(name).exists():
                os.kill(process_id(root, name), signal.SIGKILL)
        pytest.fail("the stores outlived the test")


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    with cleaned_up(tmp_path / "var with space") as root:
        yield root


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, StoreUrls]]:
    """Stores for the tests that only look."""
    with cleaned_up(tmp_path_factory.mktemp("running") / "var") as root, join(root) as membership:
        yield root, membership.urls


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def process_id(data_dir: Path, name: str) -> int:
    return int(StoreFolder(data_dir).pid(name).read_text())


def process_ids(data_dir: Path) -> list[int]:
    return [process_id(data_dir, name) for name in ("supervisor", "postgres", "valkey")]


def lives(pid: int) -> bool:
    """Whether the process runs; one that ended and waits for its parent does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def stop_now(data_dir: Path) -> None:
    """Stop stores that have no member, without waiting for their supervisor to notice."""
    pids = process_ids(data_dir)
    os.kill(pids[0], signal.SIGTERM)
    assert eventually(lambda: not any(map(lives, pids)))


def sql(urls: StoreUrls, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(urls.database_url.replace("+psycopg", ""), autocommit=True, connect_timeout=2) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def stream(urls: StoreUrls) -> redis.Redis:
    return redis.Redis.from_url(urls.redis_url, socket_timeout=2)


def answer(urls: StoreUrls) -> bool:
    try:
        return sql(urls, "SELECT 1") == [(1,)] and bool(stream(urls).ping())
    except (psycopg.OperationalError, redis.exceptions.RedisError):
        return False


def write(urls: StoreUrls) -> None:
    sql(urls, "CREATE TABLE kept AS SELECT 42 AS value")
    stream(urls).xadd("events", {"value": 42})


def is_kept(urls: StoreUrls) -> bool:
    return sql(urls, "SELECT value FROM kept") == [(42,)] and stream(urls).xlen("events") == 1


def test_both_stores_work_with_the_settings_that_keep_promises(running: tuple[Path, StoreUrls]) -> None:
    _, urls = running
    write(urls)
    assert is_kept(urls)
    settings = ("fsync", "synchronous_commit", "listen_addresses", "unix_socket_directories", "server_encoding")
    assert [sql(urls, f"SHOW {name}")[0][0] for name in settings] == ["on", "on", "127.0.0.1", "", "UTF8"]
    assert sql(urls, "SELECT left(rolpassword, 13) FROM pg_authid WHERE rolname = 'offerloop'") == [("SCRAM-SHA-256",)]
    for name, value in {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}.items():
        assert stream(urls).config_get(name) == {name: value}


def test_both_stores_refuse_who_has_no_password(running: tuple[Path, StoreUrls]) -> None:
    root, urls = running
    state = StoreState.load(StoreFolder(root))
    assert state
    wrong = StoreUrls(
        urls.database_url.replace(state.postgres_password, "wrong"),
        urls.redis_url.replace(f":{state.valkey_password}@", ""),
    )
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        sql(wrong, "SELECT 1")
    with pytest.raises(redis.exceptions.AuthenticationError):
        stream(wrong).ping()


def test_secrets_are_private(running: tuple[Path, StoreUrls]) -> None:
    root, urls = running
    folder = StoreFolder(root)
    assert folder.state.stat().st_mode & 0o777 == 0o600
    assert (root / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    assert folder.run.stat().st_mode & 0o777 == 0o700
    passwords = [url.split("@")[0].rpartition(":")[2] for url in (urls.database_url, urls.redis_url)]
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in process_ids(root)]
    assert not [password for password in passwords for command in commands if password in command]


def test_servers_and_supervisor_stand_outside_the_session_of_the_terminal(running: tuple[Path, StoreUrls]) -> None:
    assert os.getsid(0) not in {os.getsid(pid) for pid in process_ids(running[0])}


def test_data_and_urls_survive_a_stop(data_dir: Path) -> None:
    with join(data_dir) as first:
        write(first.urls)
        pids = process_ids(data_dir)
    assert eventually(lambda: not any(map(lives, pids)))
    first.close()  # closing twice is harmless
    with join(data_dir) as second:
        assert second.urls == first.urls
        assert is_kept(second.urls)


def test_a_second_process_adopts_and_the_last_to_leave_stops_both(data_dir: Path) -> None:
    first = MemberProcess(data_dir)
    urls, _ = first.joined()
    pids = process_ids(data_dir)
    with join(data_dir) as second:
        assert second.urls == urls
        first.leave()
        time.sleep(2.0)  # longer than the supervisor lingers
        assert process_ids(data_dir) == pids
        assert answer(urls)
    assert eventually(lambda: not any(map(lives, pids)))
    assert not answer(urls)


def test_members_that_follow_each_other_share_one_start(data_dir: Path) -> None:
    with join(data_dir):
        pids = process_ids(data_dir)
    time.sleep(0.4)
    with join(data_dir) as second:
        assert process_ids(data_dir) == pids
        assert answer(second.urls)


def test_joining_while_the_stores_stop_starts_them_again(data_dir: Path) -> None:
    with join(data_dir) as first:
        write(first.urls)
        supervisor = process_id(data_dir, "supervisor")
    assert eventually(lambda: not StoreFolder(data_dir).pid("valkey").exists())  # the first to be stopped
    with join(data_dir) as second:
        assert process_id(data_dir, "supervisor") != supervisor
        assert is_kept(second.urls)


def test_who_left_does_not_look_after_the_stores_any_more(data_dir: Path) -> None:
    def watching() -> int:
        return sum(thread.name == "embedded-stores" for thread in threading.enumerate())

    before = watching()
    membership = join(data_dir)
    assert watching() == before + 1
    membership.close()
    assert watching() == before


def test_joins_at_once_start_one_set(data_dir: Path) -> None:
    members = [MemberProcess(data_dir) for _ in range(3)]
    urls = [member.joined()[0] for member in members]
    assert urls[0] == urls[1] == urls[2]
    assert answer(urls[0])
    log = StoreFolder(data_dir).log("supervisor").read_text()
    assert (log.count("postgres answers"), log.count("valkey answers")) == (1, 1)
    for member in members:
        member.leave()


def test_killed_postgres_comes_back_with_its_data(data_dir: Path) -> None:
    with join(data_dir) as membership:
        write(membership.urls)
        killed = process_id(data_dir, "postgres")
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: process_id(data_dir, "postgres") != killed and answer(membership.urls), seconds=5.0)
        assert is_kept(membership.urls)


def test_killed_valkey_keeps_every_acknowledged_event(data_dir: Path) -> None:
    acknowledged: list[bytes] = []
    enough = threading.Event()

    def append_events(urls: StoreUrls) -> None:
        while not enough.is_set():
            try:
                acknowledged.append(stream(urls).xadd("events", {"number": len(acknowledged)}))  # type: ignore[arg-type]
            except redis.exceptions.RedisError:
                time.sleep(0.02)

    with join(data_dir) as membership:
        writer = threading.Thread(target=append_events, args=[membership.urls])
        writer.start()
        try:
            assert eventually(lambda: len(acknowledged) > 100)
            killed, before = process_id(data_dir, "valkey"), len(acknowledged)
            os.kill(killed, signal.SIGKILL)
            assert eventually(lambda: len(acknowledged) > before + 100, seconds=5.0)
        finally:
            enough.set()
            writer.join()
        assert process_id(data_dir, "valkey") != killed
        stored = {event_id for event_id, _ in stream(membership.urls).xrange("events") or []}
        assert stored.issuperset(acknowledged)


def test_killed_supervisor_is_replaced_with_the_same_urls(data_dir: Path) -> None:
    with join(data_dir) as membership:
        write(membership.urls)
        pids = process_ids(data_dir)
        os.kill(pids[0], signal.SIGKILL)
        assert eventually(lambda: not any(map(lives, pids)))
        assert eventually(lambda: answer(membership.urls), seconds=5.0)
        assert not set(pids) & set(process_ids(data_dir))
        assert is_kept(membership.urls)
        with join(data_dir) as another:
            assert another.urls == membership.urls


def test_no_second_server_opens_the_data_while_an_orphan_lives(data_dir: Path) -> None:
    """Two Valkeys on one append-only file would destroy it; a stopped process does not follow its death signal."""
    with join(data_dir) as membership:
        write(membership.urls)
        supervisor, _, orphan = process_ids(data_dir)
        os.kill(orphan, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        assert eventually(lambda: process_id(data_dir, "valkey") != orphan)
        assert not lives(orphan)
        assert eventually(lambda: answer(membership.urls), seconds=5.0)
        assert is_kept(membership.urls)


def test_terminated_supervisor_stops_both_and_is_replaced_for_its_members(data_dir: Path) -> None:
    with join(data_dir) as membership:
        write(membership.urls)
        pids = process_ids(data_dir)
        os.kill(pids[0], signal.SIGTERM)
        assert eventually(lambda: not any(map(lives, pids)))
        assert eventually(lambda: answer(membership.urls), seconds=5.0)
        assert is_kept(membership.urls)
        assert "stopped with code 0" in StoreFolder(data_dir).log("supervisor").read_text()


@pytest.mark.parametrize("child", ["none", "subprocess", "fork"])
def test_a_killed_member_leaves_no_servers_behind(data_dir: Path, child: str) -> None:
    member = MemberProcess(data_dir, child)
    _, child_pid = member.joined()
    pids = process_ids(data_dir)
    try:
        member.kill()
        assert eventually(lambda: not any(map(lives, pids)), seconds=5.0)
    finally:
        if child_pid:
            assert lives(child_pid)
            os.kill(child_pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start stops what a killed supervisor left")
def test_servers_die_with_the_last_member_and_the_supervisor_killed_together(data_dir: Path) -> None:
    member = MemberProcess(data_dir)
    member.joined()
    pids = process_ids(data_dir)
    member.kill()
    os.kill(pids[0], signal.SIGKILL)
    assert eventually(lambda: not any(map(lives, pids)), seconds=5.0)


def test_a_port_taken_by_a_stranger_is_given_up(data_dir: Path) -> None:
    with join(data_dir) as first:
        write(first.urls)
    stop_now(data_dir)
    state = StoreState.load(StoreFolder(data_dir))
    assert state
    with socket.create_server(("127.0.0.1", state.postgres_port)), join(data_dir) as second:
        assert second.urls.database_url != first.urls.database_url
        assert second.urls.redis_url == first.urls.redis_url
        assert is_kept(second.urls)


def test_lost_state_gets_new_passwords_and_keeps_the_data(data_dir: Path) -> None:
    with join(data_dir) as first:
        write(first.urls)
    stop_now(data_dir)
    shutil.rmtree(StoreFolder(data_dir).run)
    with join(data_dir) as second:
        assert second.urls != first.urls
        assert is_kept(second.urls)


def test_a_reused_process_id_does_not_block_the_start(data_dir: Path) -> None:
    """In a container the id in a leftover postmaster.pid soon belongs to another program."""
    with join(data_dir) as first:
        write(first.urls)
    stop_now(data_dir)
    (next(data_dir.glob("pg*")) / "postmaster.pid").write_text(
        f"{os.getpid()}\n{data_dir}\n0\n5432\n\n127.0.0.1\n\nready\n"
    )
    with join(data_dir) as second:
        assert is_kept(second.urls)


def test_data_of_another_major_version_is_refused_with_a_way_out(data_dir: Path) -> None:
    (data_dir / "pg13").mkdir(parents=True)
    with pytest.raises(EmbeddedStoreError, match=r"needs PostgreSQL 13, found only \d+ in .*OFFERLOOP_DATABASE_URL"):
        join(data_dir)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedStoreError, match="cannot create the data folder"):
        join(tmp_path / "file" / "var")


@pytest.fixture
def no_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root changes the user")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.usefixtures("no_namespaces")
def test_root_without_namespaces_runs_the_servers_as_nobody() -> None:
    open_folder = Path(tempfile.mkdtemp(prefix="offerloop-test-"))
    open_folder.chmod(0o755)
    try:
        with cleaned_up(open_folder / "var") as root, join(root) as membership:
            write(membership.urls)
            supervisor, *servers = process_ids(root)
            owners = {Path(f"/proc/{pid}").stat().st_uid for pid in servers}
            assert 0 not in owners
            os.kill(supervisor, signal.SIGKILL)
            assert eventually(lambda: not any(map(lives, servers)))
            assert eventually(lambda: answer(membership.urls), seconds=5.0)
            assert is_kept(membership.urls)
    finally:
        shutil.rmtree(open_folder)


@pytest.mark.usefixtures("no_namespaces")
def test_root_without_namespaces_in_a_private_folder_is_told_what_to_do(data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o700)
    with pytest.raises(EmbeddedStoreError, match="Set OFFERLOOP_DATA_DIR"):
        join(data_dir)
