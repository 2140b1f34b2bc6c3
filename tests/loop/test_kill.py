"""The loop under `kill -9`: nothing acknowledged is lost, nothing is counted twice, the replay is byte-identical.

Two decision services and two learners run as processes of their own on one data folder. In the middle of the traffic
both learners (one after the other) and one decision service are killed. Only processes this test started are killed,
by their ids.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOOP = "killed"
DECISIONS = 3000
THREADS = 8
PACE_SECONDS = 0.055  # per thread and decision: 3,000 decisions in some 20 s
WAIT_SECONDS = 8.0
TAKEOVER_SECONDS = 10.0
CANDIDATES = [{"offer_id": name, "features": {"category": name}} for name in ("garden", "tools", "toys")]


@dataclass
class Process:
    """One process of the installation, with what it printed."""

    popen: subprocess.Popen[str]
    log: Path

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def took_over(self, writer: str) -> bool:
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and '"took over"' in line and json.loads(line).get("writer") == writer:
                return True
        return False


@dataclass
class Farm:
    """Starts processes on one data folder and ends those it started."""

    folder: Path
    started: list[Process] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OFFERLOOP_", "PROMETHEUS_"))}
        return {**kept, "OFFERLOOP_DATA_DIR": str(self.folder / "data")}

    def run(self, *words: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "offerloop", *words]
        return subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds, check=False
        )

    def start(self, *words: str) -> Process:
        log = self.folder / f"{len(self.started)}-{words[0]}.log"
        with log.open("w") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "offerloop", *words],
                env=self.environment,
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(Process(popen, log))
        return self.started[-1]

    def close(self) -> list[int]:
        """SIGTERM to all that live; their exit codes."""
        living = [process for process in self.started if process.popen.poll() is None]
        for process in living:
            process.popen.send_signal(signal.SIGTERM)
        codes = []
        for process in living:
            try:
                codes.append(process.popen.wait(30))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait(10)
                codes.append(-9)
        return codes


@contextmanager
def farm(folder: Path) -> Iterator[Farm]:
    started = Farm(folder)
    try:
        yield started
    finally:
        codes = started.close()
    assert set(codes) <= {0, -signal.SIGTERM}, codes
    until(lambda: not _left_over(started.folder), 15, lambda: f"the stores stop: {_left_over(started.folder)}")


def _left_over(folder: Path) -> list[str]:
    """Command lines that still name the folder (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def until(check: Callable[[], Any], seconds: float, what: Callable[[], str] | str) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := check()):
        if time.monotonic() > deadline:
            pytest.fail(f"within {seconds:g} s not so: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)
    return result


def alive(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def address_of(process: Process, seconds: float = 60.0) -> str:
    """The address a decision service printed."""

    def find() -> str | None:
        assert process.popen.poll() is None, process.log.read_text()[-2000:]
        found = [line.split()[1] for line in process.log.read_text().splitlines() if line.startswith("serving http")]
        return found[0] if found else None

    return until(find, seconds, lambda: process.log.read_text()[-2000:])


@dataclass
class Sent:
    """What the shop remembers of one decision."""

    decision_id: str
    answer: dict[str, Any]
    deferred: bool
    activated: bool = False
    reward: float | None = None
    in_time: bool = False


class Shop:
    """Sends the traffic from several threads; a broken connection is tried again on the other service."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self.sent: list[Sent] = []
        self.broken = 0
        self.refused: list[str] = []
        self.slowest = 0.0
        self._todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(DECISIONS):
            self._todo.put(number)

    def post(self, clients: list[httpx.Client], first: int, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The acknowledged answer, however many tries it takes."""
        deadline = time.monotonic() + 30
        turn = first
        while time.monotonic() < deadline:
            began = time.monotonic()
            try:
                answer = clients[turn % 2].post(path, json=body)
            except httpx.TransportError:
                self.broken += 1
            else:
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status_code in (200, 202):
                    return answer.json()
                self.refused.append(f"{path} {answer.status_code} {answer.text[:300]}")
                if answer.status_code < 500:
                    return None
            turn += 1
            time.sleep(0.02)
        self.refused.append(f"{path}: no answer in 30 s")
        return None

    def work(self, thread: int) -> None:
        with ExitStack() as stack:
            clients = [
                stack.enter_context(httpx.Client(base_url=address, timeout=10, trust_env=False))
                for address in self._addresses
            ]
            due = time.monotonic()
            while True:
                try:
                    number = self._todo.get_nowait()
                except queue.Empty:
                    return
                due = max(due + PACE_SECONDS, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))
                self._one(clients, number)

    def _one(self, clients: list[httpx.Client], number: int) -> None:
        dice = random.Random(number)
        decision_id = f"d{number:05d}"
        kind = dice.choice(["phone", "desk"])
        deferred = dice.random() < 0.2
        body = {
            "loop": LOOP,
            "decision_id": decision_id,
            "customer_id": f"c{dice.randrange(50)}",
            "context": {"device": {"kind": kind}},
            "candidates": CANDIDATES,
            "defer_activation": deferred,
        }
        began = time.monotonic()
        answer = self.post(clients, number, "/v1/rank", body)
        if answer is None:
            return
        if dice.random() < 0.05:  # the same call again, on the other service
            again = self.post(clients, number + 1, "/v1/rank", body)
            if again != answer:
                self.refused.append(f"repeat of {decision_id} differs: {again} {answer}")
        sent = Sent(decision_id, answer, deferred)
        if deferred and dice.random() < 0.5:
            for _ in range(dice.choice([1, 2])):
                done = self.post(clients, dice.randrange(2), "/v1/activate", {"loop": LOOP, "decision_id": decision_id})
                sent.activated = done is not None
        if dice.random() < 0.5:
            good = answer["offer_id"] == {"phone": "garden", "desk": "tools"}[kind]
            sent.reward = 1.0 if good else 0.25
            outcome = {"loop": LOOP, "decision_id": decision_id, "value": sent.reward, "outcome_id": f"o{number}"}
            for _ in range(dice.choice([1, 1, 2, 3])):
                self.post(clients, dice.randrange(2), "/v1/reward", outcome)
        sent.in_time = time.monotonic() - began < WAIT_SECONDS - 1
        self.sent.append(sent)


def settings() -> dict[str, Any]:
    return {
        "grace_seconds": 0.5,
        "export_frequency_seconds": 1.0,
        "reward": {"wait_seconds": WAIT_SECONDS, "default": 0.0, "aggregation": "sum", "high": 1.0},
    }


@pytest.mark.timeout(200)
def test_kill_9_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    with farm(tmp_path) as processes, ExitStack() as stack:
        migrated = processes.run("migrate")
        assert migrated.returncode == 0, migrated.stderr[-2000:]
        services = [processes.start("serve", "--port", "0", "--workers", "1") for _ in range(2)]
        addresses = [address_of(service) for service in services]
        learners = [processes.start("learn"), processes.start("learn")]
        admin = [
            stack.enter_context(httpx.Client(base_url=address, timeout=30, trust_env=False)) for address in addresses
        ]
        for client in admin:
            until(lambda client=client: alive(client, "/readyz"), 60, "readyz")  # type: ignore[misc]
        made = admin[0].put(f"/v1/loops/{LOOP}", json=settings())
        assert made.status_code == 200, made.text

        def status() -> dict[str, Any]:
            for client in admin:
                try:
                    return client.get(f"/v1/loops/{LOOP}").json()["status"]
                except httpx.TransportError:
                    continue
            return {}

        def kill_writer() -> tuple[Process, float]:
            """Kill the learner that holds the loop; how long the standby took to go on committing."""
            (holder,) = [learner for learner in learners if learner.took_over(LOOP)]
            standby = next(learner for learner in learners if learner is not holder)
            holder.kill()
            killed = time.monotonic()
            until(lambda: standby.took_over(LOOP), TAKEOVER_SECONDS, lambda: standby.log.read_text()[-3000:])
            before = status()["decisions"]
            until(lambda: status()["decisions"] > before, TAKEOVER_SECONDS, "the standby commits")
            learners.remove(holder)
            return holder, time.monotonic() - killed

        until(lambda: any(learner.took_over(LOOP) for learner in learners), 15, "a learner takes the new loop")
        shop = Shop(addresses)
        with ThreadPoolExecutor(THREADS) as pool:
            work = [pool.submit(shop.work, number) for number in range(THREADS)]
            until(lambda: len(shop.sent) > DECISIONS * 0.15, 60, "traffic flows")
            takeovers = [kill_writer()[1]]
            learners.append(processes.start("learn"))

            until(lambda: len(shop.sent) > DECISIONS * 0.4, 60, "traffic flows")
            services[0].kill()
            services[0] = processes.start("serve", "--port", addresses[0].rsplit(":", 1)[1], "--workers", "1")

            until(lambda: len(shop.sent) > DECISIONS * 0.65, 60, "traffic flows")
            takeovers.append(kill_writer()[1])
            learners.append(processes.start("learn"))
            for done in work:
                done.result(90)
        assert not shop.refused, shop.refused[:5]
        assert len(shop.sent) == DECISIONS
        assert max(takeovers) < TAKEOVER_SECONDS, takeovers
        assert shop.broken > 0  # the kill of the service was felt, so the retries were real
        until(lambda: alive(admin[0], "/readyz"), 30, "the killed service is back")

        until(lambda: status()["decisions"] == DECISIONS and status()["open"] == 0, 60, lambda: str(status()))
        end = status()
        active = [sent for sent in shop.sent if sent.activated or not sent.deferred]
        assert end["interactions"] == len(active), end
        assert (end["duplicated"], end["set_aside"]) == (0, 0), end
        assert end["snapshots"] >= 3, end
        _check_records(shop.sent, addresses)
        replayed = processes.run("replay", "--loop", LOOP, "--verify")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert _says_equal(replayed.stdout), replayed.stdout
        assert status()["interactions"] == len(active)


def _says_equal(text: str) -> bool:
    return "equal true" in " ".join(text.lower().replace('"', " ").replace(":", " ").replace("=", " ").split())


def _check_records(all_sent: list[Sent], addresses: list[str]) -> None:
    """Each acknowledged decision has its record, with the answer that was given and the reward that was sent."""

    def check(part: int) -> list[str]:
        wrong = []
        with httpx.Client(base_url=addresses[part % 2], timeout=30, trust_env=False) as client:
            for sent in all_sent[part::4]:
                answer = client.get(f"/v1/decisions/{sent.decision_id}", params={"loop": LOOP})
                if answer.status_code != 200:
                    wrong.append(f"{sent.decision_id}: {answer.status_code}")
                    continue
                record = answer.json()
                served = record["slots"][0]["served_probabilities"]
                ids = [offer["offer_id"] for offer in record["eligible"]]
                given = {ranked["offer_id"]: ranked["probability"] for ranked in sent.answer["ranking"]}
                active = sent.activated or not sent.deferred
                same = (
                    record["slots"][0]["offer_id"] == sent.answer["offer_id"]
                    and dict(zip(ids, served, strict=True)) == given
                    and record["snapshot_id"] == sent.answer["snapshot_id"]
                    and record["state"] == ("closed" if active else "inactive")
                )
                if sent.in_time and active:
                    same = same and record["reward"] == (sent.reward or 0.0)
                same = same and len(record["outcomes"]) == (sent.reward is not None)
                if not same:
                    wrong.append(f"{sent} {record['state']} {record['reward']} {record['outcomes']}")
        return wrong

    with ThreadPoolExecutor(4) as pool:
        wrong = [line for part in pool.map(check, range(4)) for line in part]
    assert not wrong, (len(wrong), wrong[:5])
    checked = sum(sent.in_time for sent in all_sent)
    assert checked > 0.9 * len(all_sent), checked
