"""The hash of a request is the same whichever way it is taken: stored ones must be found again."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson
import pytest

from decision_service.checks import hash_request
from decision_service.schemas import RankIn


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"loop": "shop", "customer_id": "c1", "channel": "web", "region": "US-WA", "defer_activation": True},
        {"context": {"b": 1, "a": {"x": 1.5, "n": None, "l": [1, 2.0, True]}, "ü": "ß"}, "candidates": ["o2", "o1"]},
        {"candidates": [{"offer_id": "o1", "features": {"b": 1, "a": 0.1}}, "o2"]},
        {"occurred_at": "2026-03-02T10:30:00+01:00"},
        {"slots": 3},
        {"slots": [{"id": "top", "features": {"size": "large"}}]},
    ],
)
def test_a_request_has_the_hash_of_its_whole_body(body: dict[str, Any]) -> None:
    request = RankIn.model_validate_json(orjson.dumps({**body, "decision_id": "d1", "explain": True}))
    left_out = {"decision_id", "explain"} | ({"slots"} if "slots" not in body else set())
    whole = orjson.dumps(request.model_dump(mode="json", exclude=left_out), option=orjson.OPT_SORT_KEYS)
    assert hash_request(request) == blake2b(whole, digest_size=16).hexdigest()
    assert hash_request(request, ["o9"]) != hash_request(request)
