"""What operators and client authors rely on: health, metrics, OpenAPI, and problem JSON everywhere."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

RANK = {"candidates": [{"offer_id": "a"}, {"offer_id": "b"}]}


def total(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    result = 0.0
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)(?: \d+)?", line)
        if match and match[1] == name and all(f'{key}="{value}"' in (match[2] or "") for key, value in labels.items()):
            result += float(match[3])
    return result


def test_health_and_readiness(api):
    assert api.get("/healthz").status_code == 200
    assert api.get("/readyz").status_code == 200


def test_metrics_of_two_workers_add_up(guarded):
    with guarded.client("test-admin-key") as admin:
        loop = {"clock": "simulated"}
        assert admin.put("/v1/loops/counted", json=loop).status_code == 200

        def rank(number: int) -> int:
            # A connection each, so that both workers are used.
            with guarded.client("test-admin-key") as client:
                body = {**RANK, "loop": "counted", "decision_id": f"d{number}", "occurred_at": "2020-01-06T12:00:00Z"}
                return client.post("/v1/rank", json=body).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(rank, range(100))) == {200}
        for _ in range(5):
            with guarded.client("test-admin-key") as client:
                text = client.get("/metrics").text
            assert total(text, "offerloop_decisions_total", loop="counted") == 100
            assert total(text, "offerloop_repeated_ranks_total", loop="counted") == 0
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(rank, range(40))) == {200}
        text = admin.get("/metrics").text
        assert total(text, "offerloop_decisions_total", loop="counted") == 100
        assert total(text, "offerloop_repeated_ranks_total", loop="counted") == 40
        assert total(text, "offerloop_requests_total", route="/v1/rank", status="200") >= 140


def test_looking_at_a_record_is_no_repeated_rank(make_loop):
    loop = make_loop()
    decision_id = loop.rank()["decision_id"]
    loop.record(decision_id)
    loop.record(decision_id)
    assert total(loop.api.get("/metrics").text, "offerloop_repeated_ranks_total", loop=loop.name) == 0


def test_metrics_are_prometheus_text(api):
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(("text/plain", "application/openmetrics-text"))
    for line in answer.text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"\w+(\{.*\})? \S+( \d+)?", line), line


@pytest.fixture(scope="module")
def document(api):
    answer = api.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_openapi_names_every_route(document):
    wanted = {
        "/v1/rank": {"post"}, "/v1/rank/batch": {"post"}, "/v1/reward": {"post"}, "/v1/activate": {"post"}, "/v1/activity": {"post"},
        "/v1/decisions/{decision_id}": {"get"}, "/v1/offers": {"get"}, "/v1/offers/{offer_id}": {"get", "put", "delete"},
        "/v1/customers/{customer_id}": {"get", "put", "delete"}, "/v1/loops": {"get"}, "/v1/loops/{loop}": {"get", "put", "delete"},
        "/rank": {"post"}, "/reward": {"post"}, "/healthz": {"get"}, "/readyz": {"get"}, "/metrics": {"get"},
    }  # fmt: skip
    for path, methods in wanted.items():
        assert methods <= set(document["paths"].get(path, {})), path


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path not in ("/healthz", "/readyz", "/metrics"):
                yield f"{method} {path}", operation


def test_every_operation_declares_its_problems(document):
    for name, operation in operations(document):
        assert operation.get("summary"), name
        for code in ("400", "401", "403"):
            assert "application/problem+json" in operation["responses"][code]["content"], (name, code)
        assert (
            "422" not in operation["responses"]
            or "application/problem+json" in operation["responses"]["422"]["content"]
        ), name


def test_bodies_and_answers_have_examples(document):
    schemas = document["components"]["schemas"]

    def exemplified(node, depth=0) -> bool:
        if depth > 6:
            return False
        if isinstance(node, dict):
            if "$ref" in node:
                return exemplified(schemas[node["$ref"].rsplit("/", 1)[1]], depth + 1)
            return any(key in node for key in ("example", "examples")) or any(
                exemplified(value, depth) for value in node.values()
            )
        return isinstance(node, list) and any(exemplified(value, depth) for value in node)

    for name, operation in operations(document):
        if "requestBody" in operation and "loops/{loop}/ticks" not in name:
            assert exemplified(operation["requestBody"]), name
    for path in ("/v1/rank", "/v1/reward"):
        assert exemplified(document["paths"][path]["post"]["responses"]), path


def test_openapi_knows_the_keys(document):
    assert document["components"].get("securitySchemes"), "API keys are part of a complete document"


def test_unknown_routes_and_methods_are_problems(api, problem):
    problem(api.get("/v2/rank"), 404)
    wrong = api.get("/v1/rank")
    problem(wrong, 405)
    assert "POST" in wrong.headers.get("allow", "")
    problem(api.patch("/v1/offers/x", json={}), 405)


def test_large_bodies_are_413(api, problem):
    filler = "x" * (8 * 1024 * 1024)
    problem(
        api.post(
            "/v1/rank",
            content=json.dumps({**RANK, "context": {"a": {"b": filler}}}),
            headers={"content-type": "application/json"},
        ),
        413,
    )

    def chunks():
        yield b'{"context": {"a": {"b": "'
        for _ in range(9):
            yield b"x" * (1024 * 1024)
        yield b'"}}}'

    problem(api.post("/v1/rank", content=chunks(), headers={"content-type": "application/json"}), 413)
    assert api.post("/v1/rank", json=RANK).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"<x/>", "text/xml"),
    ],
)
def test_unreadable_bodies_are_problems(api, problem, content, kind):
    answer = api.post("/v1/rank", content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 415)
    problem(answer, answer.status_code)


def test_refusals_name_field_and_value(api, problem):
    refused = problem(api.post("/v1/rank", json={**RANK, "decision_id": "x" * 300}), 400)
    assert "decision_id" in refused["detail"]
    refused = problem(api.put("/v1/loops/x", json={"exploration_floor": 7.5}), 400)
    assert "exploration_floor" in refused["detail"]
    assert "7.5" in refused["detail"]


def test_refusals_repeat_no_more_than_a_glimpse(api, problem):
    """A refused megabyte is not sent back."""
    answer = api.post("/v1/rank", json={**RANK, "decision_id": "y" * 1_000_000})
    problem(answer, 400)
    assert len(answer.content) < 20_000


def test_replay_of_an_unknown_loop_fails_cleanly(service):
    done = service.command("replay", "--loop", "no-such-loop", "--verify")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "no-such-loop" in done.stderr + done.stdout
