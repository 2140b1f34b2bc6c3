"""The benchmarks' own client: what it counts, and that a stall is seen by all whom it held up."""

from __future__ import annotations

import shutil
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.native import CONNECTIONS, NativeClient
from benchmarks.processes import CannotMeasure

STALL_SECONDS = 0.5

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the client is compiled by a C compiler")


class Server(socketserver.ThreadingTCPServer):
    """Answers every request with one status; once, the ``stalled_at``-th and all that come meanwhile wait."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = "200 OK"
        self.bodies: list[bytes] = []
        self.stalled_at = -1
        self.gate = threading.Lock()

    def take(self, body: bytes) -> None:
        with self.gate:
            self.bodies.append(body)
            if len(self.bodies) == self.stalled_at:
                time.sleep(STALL_SECONDS)


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Server)
        while line := self.rfile.readline():
            length = 0
            while line.strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                line = self.rfile.readline()
            self.server.take(self.rfile.read(length))
            self.wfile.write(f"HTTP/1.1 {self.server.status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    path = tmp_path / "bodies.jsonl"
    path.write_text('{"number": 1}\n{"number": 2}\n')
    return path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> NativeClient:
    return NativeClient(tmp_path_factory.mktemp("native"))


def test_every_answer_is_counted_and_bodies_are_sent_in_turn(
    client: NativeClient, server: Server, bodies: Path
) -> None:
    run = client.run(server.server_address[1], bodies, 0.3)
    assert run.requests_per_second > 0
    assert {b'{"number": 1}', b'{"number": 2}'} == set(server.bodies)


def test_a_constant_rate_sends_what_is_due(client: NativeClient, server: Server, bodies: Path) -> None:
    client.run(server.server_address[1], bodies, 0.5, rate=200.0)
    assert len(server.bodies) == 100


def test_a_stall_is_seen_by_all_whom_it_held_up(client: NativeClient, server: Server, bodies: Path) -> None:
    server.stalled_at = 20
    run = client.run(server.server_address[1], bodies, 1.0, rate=100.0)
    # Half a second of a second's requests waited for half that time on average, whichever connection was free.
    assert len(server.bodies) == 100
    assert run.p99_ms > 0.8 * 1000 * STALL_SECONDS
    assert run.p50_ms < 1000 * STALL_SECONDS


def test_a_request_that_fails_ends_the_measurement(client: NativeClient, server: Server, bodies: Path) -> None:
    server.status = "500 Internal Server Error"
    with pytest.raises(CannotMeasure, match="failed"):
        client.run(server.server_address[1], bodies, 0.1)
