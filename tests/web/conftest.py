"""A real installation (`offerloop up`) for the tests that talk HTTP, and the few words they share."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

READY_SECONDS = 90.0
STOP_SECONDS = 40.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Installation:
    """A running `offerloop up` and its data folder."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]
    environment: dict[str, str] = field(repr=False)

    @contextmanager
    def client(self, key: str | None = None, **headers: str) -> Iterator[httpx.Client]:
        sent = {**({"Authorization": f"Bearer {key}"} if key else {}), **headers}
        with httpx.Client(base_url=self.url, headers=sent, timeout=60.0, trust_env=False) as client:
            yield client

    def command(self, *words: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """One `offerloop` command in this installation's environment."""
        return subprocess.run(
            [sys.executable, "-m", "offerloop", *words],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def _first_ready_line(process: subprocess.Popen[str], errors: Path) -> str:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            line = lines.get(timeout=max(deadline - time.monotonic(), 0.01))
        except queue.Empty:
            pytest.fail(f"no ready line within {READY_SECONDS:g} s: {errors.read_text()[-2000:]}")
        if not line:
            pytest.fail(f"ended before it was ready: {errors.read_text()[-2000:]}")
        if line.startswith("ready "):
            return line.split()[1]


@contextmanager
def running(data_dir: Path, *arguments: str, **settings: str) -> Iterator[Installation]:
    """`offerloop up --port 0` on a data folder; stopped by SIGTERM, which must end with exit code 0."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OFFERLOOP_", "PROMETHEUS_"))}
    environment = {**kept, "OFFERLOOP_DATA_DIR": str(data_dir), **settings}
    data_dir.mkdir(parents=True, exist_ok=True)
    errors = data_dir.with_name(data_dir.name + ".stderr")
    with (
        errors.open("w") as error_file,
        subprocess.Popen(
            [sys.executable, "-m", "offerloop", "up", "--port", "0", *arguments],
            env=environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=error_file,
            text=True,
        ) as process,
    ):
        try:
            yield Installation(_first_ready_line(process, errors), data_dir, process, environment)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                pytest.fail(f"SIGTERM did not end it within {STOP_SECONDS:g} s: {errors.read_text()[-2000:]}")
    assert code == 0, errors.read_text()[-2000:]


@pytest.fixture(scope="session")
def up() -> Callable[..., AbstractContextManager[Installation]]:
    """Start an installation of one's own."""
    return running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The installation most tests share: no keys, one worker."""
    with running(tmp_path_factory.mktemp("web") / "data") as started:
        yield started


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with an admin key and two workers."""
    data_dir = tmp_path_factory.mktemp("guarded") / "data"
    with running(data_dir, "--workers", "2", OFFERLOOP_ADMIN_KEY="test-admin-key") as started:
        yield started


@pytest.fixture(scope="session")
def api(service: Installation) -> Iterator[httpx.Client]:
    """A client of the shared installation."""
    with service.client() as client:
        yield client


_numbers = itertools.count()


@dataclass
class Loop:
    """One loop of the test's own, on the shared installation, with the calls tests make of it."""

    name: str
    api: httpx.Client

    def rank(self, expect: int = 200, **body: Any) -> dict[str, Any]:
        body.setdefault("candidates", [{"offer_id": "left"}, {"offer_id": "right"}])
        answer = self.api.post("/v1/rank", json={"loop": self.name, **body})
        assert answer.status_code == expect, answer.text
        return answer.json()

    def reward(self, decision_id: str, expect: int = 202, **body: Any) -> dict[str, Any]:
        headers = body.pop("headers", {})
        answer = self.api.post(
            "/v1/reward", json={"loop": self.name, "decision_id": decision_id, **body}, headers=headers
        )
        assert answer.status_code == expect, answer.text
        return answer.json()

    def activate(self, decision_id: str, expect: int = 202, **body: Any) -> None:
        answer = self.api.post("/v1/activate", json={"loop": self.name, "decision_id": decision_id, **body})
        assert answer.status_code == expect, answer.text

    def tick(self, at: str) -> None:
        answer = self.api.post(f"/v1/loops/{self.name}/ticks", params={"wait": "applied"}, json={"occurred_at": at})
        assert answer.status_code == 202, answer.text
        assert answer.json()["applied"] is True, answer.text

    def status(self) -> dict[str, Any]:
        answer = self.api.get(f"/v1/loops/{self.name}")
        assert answer.status_code == 200, answer.text
        return answer.json()["status"]

    def record(self, decision_id: str, expect: int = 200) -> dict[str, Any]:
        answer = self.api.get(f"/v1/decisions/{decision_id}", params={"loop": self.name})
        assert answer.status_code == expect, answer.text
        return answer.json()


@pytest.fixture(scope="session")
def lasting_loop(api: httpx.Client) -> Callable[..., Loop]:
    """A new loop with these settings; `simulated=True` is short for a driven clock that closes on `final`."""

    def make(simulated: bool = False, **settings: Any) -> Loop:
        if simulated:
            settings = {"clock": "simulated", "close_on_final": True, **settings}
        name = f"t{next(_numbers)}-{os.getpid()}"
        answer = api.put(f"/v1/loops/{name}", json=settings)
        assert answer.status_code == 200, answer.text
        return Loop(name, api)

    return make


@pytest.fixture
def make_loop(lasting_loop: Callable[..., Loop], api: httpx.Client) -> Iterator[Callable[..., Loop]]:
    """The same, for loops that are deleted when the test is over."""
    made: list[Loop] = []

    def make(simulated: bool = False, **settings: Any) -> Loop:
        made.append(lasting_loop(simulated, **settings))
        return made[-1]

    yield make
    for loop in made:
        assert api.delete(f"/v1/loops/{loop.name}").status_code == 204


@pytest.fixture(scope="session")
def unique() -> Callable[[str], str]:
    """An id no other test uses."""
    return lambda prefix: f"{prefix}-{next(_numbers)}-{os.getpid()}"


@pytest.fixture(scope="session")
def at() -> Callable[..., str]:
    """Simulated time: so many seconds (hours=, days=) after Monday 6 January 2020, 12:00 UTC."""

    def moment(seconds: float = 0, **more: float) -> str:
        return (datetime(2020, 1, 6, 12, tzinfo=UTC) + timedelta(seconds=seconds, **more)).isoformat()

    return moment


@pytest.fixture(scope="session")
def wall() -> Callable[..., str]:
    """The wall clock, shifted."""
    return lambda **shift: (datetime.now(UTC) + timedelta(**shift)).isoformat()


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Poll until the check holds (or returns something true); fail after a deadline."""

    def wait(check: Callable[[], Any], seconds: float = 15.0, what: str = "condition") -> Any:
        deadline = time.monotonic() + seconds
        while not (result := check()):
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not hold within {seconds:g} s")
            time.sleep(0.05)
        return result

    return wait


@pytest.fixture(scope="session")
def problem() -> Callable[[httpx.Response, int], dict[str, Any]]:
    """Check that an answer is RFC 9457 problem JSON of this status, and return it."""

    def check(answer: httpx.Response, status: int) -> dict[str, Any]:
        assert answer.status_code == status, f"{answer.status_code}: {answer.text[:500]}"
        assert answer.headers["content-type"].startswith("application/problem+json"), answer.headers
        body = answer.json()
        assert body["status"] == status
        assert body["title"]
        assert body["detail"]
        return body

    return check
