"""Rank throughput: the whole call against an empty endpoint, alternating, with one client; the figure is a ratio.

The service has one worker, private stores of its own, 40 catalogue offers of which 20 are active, a trained policy,
and customers with history. The learner runs while this is prepared and is stopped while it is measured.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from adapters.installation import Installation

OFFERS = 40
ACTIVE = 20
CUSTOMERS = 200
CATEGORIES = ("soup", "ice_cream", "rainwear", "garden", "coffee", "pet_food", "toys", "books")
TRAINING_DECISIONS = 1000
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
CONNECTIONS = 32


class CannotMeasure(RuntimeError):
    """A process did not come up, or answered wrongly."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Requests per second of both sides, measured one right after the other."""

    service: float
    empty: float

    @property
    def ratio(self) -> float:
        """The service's share of the empty endpoint's throughput."""
        return self.service / self.empty


def measure(installation: Installation, pairs: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Throughput of both sides in turn.

    Args:
        installation: Stores and a data folder of the benchmark's own.
        pairs: How many A B pairs.
        seconds: Length of each of their runs.
        say: Called with one line per step.

    Returns:
        Flat figures; requests per second are medians, ``rank_throughput_ratio`` the median of the paired ratios.

    Raises:
        CannotMeasure: a process did not come up, or a request failed.
    """
    drive = with_wrk if shutil.which("wrk") else with_own_client
    folder = installation.settings.data_dir
    with ExitStack() as stack:
        service, empty = free_port(), free_port()
        stack.enter_context(running_service(installation, service))
        stack.enter_context(running("benchmarks.empty_endpoint", "--port", str(empty)))
        wait_ready(service)
        wait_ready(empty)
        say("service and empty endpoint are up")
        bodies = folder / "bodies.jsonl"
        bodies.write_text("".join(json.dumps(body) + "\n" for body in rank_bodies()))
        for port in (service, empty):
            drive(port, bodies, 1.0)
        measured = []
        for number in range(pairs):
            pair = Pair(drive(service, bodies, seconds), drive(empty, bodies, seconds))
            measured.append(pair)
            say(f"pair {number + 1} of {pairs}: {pair.service:.0f} / {pair.empty:.0f} per second = {pair.ratio:.3f}")
    ratios = [pair.ratio for pair in measured]
    return {
        "rank_throughput_ratio": round(statistics.median(ratios), 4),
        "rank_throughput_ratio_min": round(min(ratios), 4),
        "rank_throughput_ratio_max": round(max(ratios), 4),
        "rank_requests_per_second": round(statistics.median(pair.service for pair in measured), 1),
        "empty_requests_per_second": round(statistics.median(pair.empty for pair in measured), 1),
        "rank_pairs": pairs,
        "rank_seconds_per_run": seconds,
        "rank_client": "wrk" if drive is with_wrk else "benchmarks.client",
        "rank_connections": CONNECTIONS,
    }


def rank_bodies() -> list[dict[str, Any]]:
    """One request per known customer, over the whole catalogue; equal in every run."""
    draw = random.Random(1)
    return [
        {
            "customer_id": f"bench-{number}",
            "context": {
                "device": {"kind": draw.choice(("phone", "desktop"))},
                "weather": {"band": draw.choice(("cold", "mild", "hot")), "condition": draw.choice(("clear", "rain"))},
            },
        }
        for number in range(CUSTOMERS)
    ]


@contextmanager
def running_service(installation: Installation, port: int) -> Iterator[None]:
    """The decision service, alone, after a learner has trained its policy and applied the customers' history."""
    environment = {
        "OFFERLOOP_DATABASE_URL": installation.database_url,
        "OFFERLOOP_REDIS_URL": installation.redis_url,
        "OFFERLOOP_DATA_DIR": str(installation.settings.data_dir),
        "OFFERLOOP_LOG_LEVEL": "WARNING",
    }
    with running("offerloop", "migrate", environment=environment) as migration:
        if migration.wait(READY_SECONDS):
            raise CannotMeasure("the migrations failed")
    place = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    with running("offerloop", "serve", *place, environment=environment):
        wait_ready(port)
        with running("offerloop", "learn", environment=environment):
            prepare(port)
        yield


def prepare(port: int) -> None:
    """Catalogue, customers, history, and decisions with rewards that the learner turns into a published policy."""
    draw = random.Random(2)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:

        def call(method: str, path: str, body: Mapping[str, Any]) -> Any:
            return client.request(method, path, json=body).raise_for_status().json()

        call("PUT", "/v1/loops/default", {"reward": {"wait_seconds": 2.0}, "export_frequency_seconds": 1.0})
        for number in range(OFFERS):
            features = {"discount": 0.05 * (number % 6), "price_band": ("low", "middle", "high")[number % 3]}
            status = "active" if number < ACTIVE else "paused"
            body = {"category": CATEGORIES[number % len(CATEGORIES)], "status": status, "features": features}
            call("PUT", f"/v1/offers/bench-{number}", body)
        activities = []
        for number in range(CUSTOMERS):
            demographics = {"age_band": ("18-34", "35-54", "55+")[number % 3], "household_size": number % 5 + 1}
            call("PUT", f"/v1/customers/bench-{number}", {"demographics": demographics})
            for kind in ("view", "view", "click", "cart_add", "purchase", "purchase"):
                activities.append(
                    {"customer_id": f"bench-{number}", "kind": kind, "category": draw.choice(CATEGORIES), "amount": 5.0}
                )
        if not call("POST", "/v1/activity?wait=applied", {"activities": activities})["applied"]:
            raise CannotMeasure("the learner has not applied the customers' history")
        bodies = rank_bodies()
        for start in range(0, TRAINING_DECISIONS, 100):
            batch = [bodies[number % len(bodies)] for number in range(start, start + 100)]
            for decision in call("POST", "/v1/rank/batch", {"requests": batch})["decisions"]:
                if draw.random() < 0.1:
                    call("POST", "/v1/reward", {"decision_id": decision["decision_id"], "value": 1.0})
        deadline = time.monotonic() + READY_SECONDS
        while client.get("/v1/loops/default").raise_for_status().json()["status"]["open"]:
            if time.monotonic() > deadline:
                raise CannotMeasure("the training decisions did not close")
            time.sleep(0.2)
        answer = call("POST", "/v1/rank", bodies[0])
        if len(answer["ranking"]) != ACTIVE or answer["snapshot_id"].endswith("-0"):
            raise CannotMeasure(f"{len(answer['ranking'])} offers ranked by {answer['snapshot_id']}")


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


def with_own_client(port: int, bodies: Path, seconds: float) -> float:
    """Requests per second by benchmarks/client.py in its own process."""
    command = [
        sys.executable, "-m", "benchmarks.client", "--port", str(port), "--bodies", str(bodies),
        "--seconds", str(seconds), "--connections", str(CONNECTIONS),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + 60.0)
    if done.returncode:
        raise CannotMeasure(f"the client ended with {done.returncode}: {done.stderr}")
    figures = json.loads(done.stdout)
    if figures["failed"]:
        raise CannotMeasure(f"{figures['failed']} of {figures['requests']} requests to port {port} failed")
    return float(figures["requests_per_second"])


def with_wrk(port: int, bodies: Path, seconds: float) -> float:
    """Requests per second by wrk, one thread."""
    script = bodies.with_suffix(".lua")
    texts = ",\n".join(f"[==[{line}]==]" for line in bodies.read_text().splitlines())
    script.write_text(
        f"local bodies = {{\n{texts}\n}}\nlocal at = 0\n"
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        "request = function()\n  at = at % #bodies + 1\n  return wrk.format(nil, nil, nil, bodies[at])\nend\n"
    )
    command = [
        "wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{max(round(seconds), 1)}s",
        "--script", str(script), f"http://127.0.0.1:{port}/v1/rank",
    ]  # fmt: skip
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60.0).stdout
    found = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise CannotMeasure(f"wrk says: {output}")
    return float(found.group(1))


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
