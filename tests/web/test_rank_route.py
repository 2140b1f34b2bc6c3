"""The hot path of rank answers as the framework's route does: with the same decisions, errors and metrics."""

from __future__ import annotations

import json
import uuid

import pytest

PLAIN = {"content-type": "application/json"}
# Said in more words than the hot path reads, so that the framework's route answers.
WORDY = {"content-type": "application/json; charset=utf-8"}
TWO = [{"offer_id": "left", "features": {"category": "a"}}, {"offer_id": "right", "features": {"category": "b"}}]


def post(api, headers, body, path="/v1/rank"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", ["/v1/rank", "/rank"])
def test_a_repeated_id_gets_one_decision_on_both_paths(api, path):
    body = {"candidates": TWO, "decision_id": str(uuid.uuid4()), "context": {"device": {"kind": "phone"}}}
    first = post(api, PLAIN, body, path)
    second = post(api, WORDY, body, path)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert first.headers["content-type"] == second.headers["content-type"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"context": {"x": NaN}}',
        b"\xff",
        {"colour": "red"},
        {"customer_id": 7},
        {"loop": "Never"},
        {"loop": "never-made"},
        {"candidates": []},
        {"candidates": ["nobody-made-this"]},
        {"candidates": [*TWO, TWO[0]]},
        {"candidates": TWO, "context": {"email": "a@example.org"}},
        {"candidates": TWO, "occurred_at": 5},
        {"candidates": TWO, "occurred_at": "2001-01-01T00:00:00Z"},
        {"candidates": TWO, "slots": 0},
    ],
)
def test_what_is_refused_is_refused_in_the_same_words(api, body):
    plain, wordy = post(api, PLAIN, body), post(api, WORDY, body)
    assert plain.status_code == wordy.status_code >= 400
    assert plain.headers["content-type"] == wordy.headers["content-type"] == "application/problem+json"
    assert plain.json() == wordy.json()


def test_other_types_of_content_are_refused(api):
    assert post(api, {"content-type": "text/plain"}, {"candidates": TWO}).status_code == 400


def test_a_body_in_pieces_is_read_whole(api):
    content = json.dumps({"candidates": TWO, "context": {"x": "y" * 1000}}).encode()
    pieces = (content[at : at + 100] for at in range(0, len(content), 100))
    assert api.post("/v1/rank", content=pieces, headers=PLAIN).status_code == 200


def test_large_bodies_go_the_long_way(api):
    padded = json.dumps({"candidates": TWO}).encode() + b" " * (300 * 1024)
    assert post(api, PLAIN, padded).status_code == 200
    assert post(api, PLAIN, b" " * (9 * 1024 * 1024)).status_code == 413


def test_other_methods_are_not_answered(api):
    assert api.get("/v1/rank").status_code == 405


def test_calls_are_counted_by_route(api):
    before = counted(api)
    post(api, PLAIN, {"candidates": TWO})
    post(api, PLAIN, {"loop": "never-made"})
    after = counted(api)
    assert after["200"] - before.get("200", 0.0) == 1.0
    assert after["404"] - before.get("404", 0.0) == 1.0


def counted(api):
    """Calls of /v1/rank by status, of this installation's one worker."""
    found = {}
    for line in api.get("/metrics").text.splitlines():
        if line.startswith('offerloop_requests_total{route="/v1/rank"'):
            found[line.partition('status="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
    return found


def test_callers_without_a_key_are_refused(guarded):
    with guarded.client() as client:
        for headers in (PLAIN, WORDY):
            assert post(client, headers, {"candidates": TWO}).status_code == 401
            assert post(client, {**headers, "x-api-key": "test-admin-key"}, {"candidates": TWO}).status_code == 200


def test_callers_from_elsewhere_are_refused_without_keys(api):
    for name, value in (("x-forwarded-for", "203.0.113.7"), ("host", "shop.example")):
        for headers in (PLAIN, WORDY):
            assert post(api, {**headers, name: value}, {"candidates": TWO}).status_code == 403
