"""The official JavaScript clients, every operation of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def test_the_current_client(resource: Any, javascript: Callable[..., str]) -> None:
    done = json.loads(javascript("current.mjs", resource.endpoint, "any").splitlines()[-1])
    assert {"rank", "reward", "activate", "multislot rank", "model put", "apply", "log delete"} <= set(done)


def test_the_stable_client(service: Any, javascript: Callable[..., str]) -> None:
    # It drops the path when an endpoint has one of its own, so it knows the default loop alone.
    done = json.loads(javascript("stable.mjs", service.url, "any").splitlines()[-1])
    assert done == ["rank", "activate", "reward", "rank refused", "reward refused"]


def test_the_key_is_sent_where_the_service_looks_for_it(guarded: Any, javascript: Callable[..., str]) -> None:
    assert "rank" in javascript("stable.mjs", guarded.url, "test-admin-key")
