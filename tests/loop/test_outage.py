"""The stream freezes under traffic: answers go on, nothing acknowledged is lost, nothing closes too early."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from adapters.running import running_installation

LOOP = "outage"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    folder = tmp_path_factory.mktemp("outage")
    with running_installation(folder) as address, httpx.Client(base_url=address, timeout=30.0) as client:
        for offer_id in ("a", "b"):
            client.put(f"/v1/offers/{offer_id}", json={"category": "x"}).raise_for_status()
        settings = {"reward": {"wait_seconds": 6.0}, "grace_seconds": 0.5, "export_frequency_seconds": 1.0}
        client.put(f"/v1/loops/{LOOP}", json=settings).raise_for_status()
        yield client, folder


def rank(client: httpx.Client, decision_id: str) -> dict[str, object]:
    response = client.post("/v1/rank", json={"loop": LOOP, "decision_id": decision_id})
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def reward(client: httpx.Client, decision_id: str) -> str:
    body = {"loop": LOOP, "decision_id": decision_id, "value": 1, "outcome_id": f"{decision_id}-o"}
    response = client.post("/v1/reward", json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["position"])


def test_answers_go_on_while_the_stream_is_frozen(shop: tuple[httpx.Client, Path]) -> None:
    client, folder = shop
    rank(client, "before")
    valkey = int((folder / "run" / "valkey.pid").read_text())
    os.kill(valkey, signal.SIGSTOP)
    try:
        first = rank(client, "during-0")
        started = time.monotonic()
        for number in range(1, 20):
            rank(client, f"during-{number}")
        # A request may have to find out again that nobody answers, but not every one of them.
        assert time.monotonic() - started < 15.0
        assert rank(client, "during-0") == first
        other = {"loop": LOOP, "decision_id": "during-0", "customer_id": "someone else"}
        assert client.post("/v1/rank", json=other).status_code == 409
        assert reward(client, "before") == "spooled"
        assert reward(client, "during-3") == "spooled"
        assert list((folder / "spool").glob("*.jsonl"))
        # Longer than the reward window of the decision made before.
        time.sleep(max(0.0, 8.0 - (time.monotonic() - started)))
    finally:
        os.kill(valkey, signal.SIGCONT)
    deadline = time.monotonic() + 40.0
    while (status := client.get(f"/v1/loops/{LOOP}").json()["status"])["interactions"] < 21:
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    assert status["open"] == status["duplicated"] == status["set_aside"] == 0
    assert status["decisions"] == 21
    for decision_id, expected in (("before", 1.0), ("during-3", 1.0), ("during-4", 0.0)):
        record = client.get(f"/v1/decisions/{decision_id}", params={"loop": LOOP}).json()
        assert record["reward"] == expected, record
    assert rank(client, "during-0") == first
    assert not list((folder / "spool").glob("*.jsonl"))
