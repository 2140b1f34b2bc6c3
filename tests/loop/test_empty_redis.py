"""Redis is emptied under a running service: decisions go on, with what PostgreSQL holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from adapters.installation import open_installation
from adapters.running import running_installation
from adapters.settings import Settings

CUSTOMER = "c-empty"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, redis.Redis]]:
    folder: Path = tmp_path_factory.mktemp("empty") / "var"
    with running_installation(folder) as address:
        settings = Settings(data_dir=folder, database_url=None, redis_url=None, admin_key=None)
        with open_installation(settings) as opened:
            yield address, opened.client


def until(check: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_an_emptied_redis_costs_no_history_no_cell_and_no_cap(running: tuple[str, redis.Redis]) -> None:
    address, store = running
    with httpx.Client(base_url=address, timeout=60.0) as api:

        def call(method: str, path: str, body: Any = None) -> Any:
            answer = api.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

        def rank(name: str, customer: str = CUSTOMER) -> tuple[Any, Any]:
            body = {"decision_id": name, "customer_id": customer, "candidates": ["capped", "free"]}
            answer = call("POST", "/v1/rank", body)
            return answer, call("GET", f"/v1/decisions/{name}")

        limits = {"caps": [{"name": "two", "scope": "total", "shows": 2}]}
        call("PUT", "/v1/offers/capped", {"category": "garden", "limits": limits, "priority": 1})
        call("PUT", "/v1/offers/free", {"category": "tea"})
        settings = {"priority_tiers": True, "grace_seconds": 0.1, "reward": {"wait_seconds": 0.5}}
        call("PUT", "/v1/loops/default", settings)
        call("PUT", f"/v1/customers/{CUSTOMER}", {"demographics": {"age_band": "35-44"}})
        purchases = [
            {
                "customer_id": CUSTOMER,
                "kind": "purchase",
                "category": "garden",
                "amount": 20,
                "activity_id": f"p{number}",
            }
            for number in range(3)
        ]
        assert call("POST", "/v1/activity?wait=applied", {"activities": purchases})["applied"]
        assert call("POST", "/v1/jobs?wait=done", {"kind": "precompute"})["state"] == "done"
        first, before = rank("before-1")
        assert first["offer_id"] == "capped"
        assert rank("before-2")[0]["offer_id"] == "capped"
        assert rank("before-3")[0]["offer_id"] == "free"
        # Committed, not only on the stream: what an emptied store has not kept.
        until(lambda: call("GET", "/v1/loops/default")["status"]["interactions"] == 3)
        store.flushall()
        third, after = rank("after-1")
        assert third["offer_id"] == "free", "the cap was forgotten"
        assert [entry["reason"] for entry in after["removed"]] == ["cap_exhausted"]
        assert after["context"]["D"] == before["context"]["D"] == {"age_band": "35-44"}
        assert after["context"]["H"] == before["context"]["H"]
        affinities = {entry["offer_id"]: entry["affinity"] for entry in before["eligible"]}
        assert {entry["offer_id"]: entry["affinity"] for entry in after["eligible"]} == affinities
        assert affinities["capped"]["r4"] > affinities["free"]["r4"]
        call("POST", "/v1/reward", {"decision_id": "after-1", "kind": "click"})
        until(lambda: call("GET", "/v1/decisions/after-1")["state"] == "closed")
        assert call("GET", "/v1/decisions/after-1")["reward"] == 1.0
