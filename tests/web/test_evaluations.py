"""/v1/evaluations: other policies on a loop's log, asked for, waited for, read as JSON and as a page."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest


@pytest.fixture(scope="module")
def loop(api, until):
    """A loop with 300 closed decisions of two offers, one of which is clicked half the time, the other never."""
    name = f"judged-{uuid4().hex[:8]}"
    settings = {"reward": {"wait_seconds": 1.0}, "grace_seconds": 0.1, "exploration_floor": 0.5}
    assert api.put(f"/v1/loops/{name}", json=settings).status_code == 200
    for number in range(300):
        body = {
            "loop": name, "decision_id": f"{name}-{number}",
            "context": {"device": {"kind": "phone" if number % 3 else "desktop"}},
            "candidates": [{"offer_id": "good"}, {"offer_id": "bad"}],
        }  # fmt: skip
        shown = api.post("/v1/rank", json=body).json()["offer_id"]
        if shown == "good" and number % 2:
            api.post("/v1/reward", json={"loop": name, "decision_id": f"{name}-{number}", "kind": "click"})
    until(lambda: api.get(f"/v1/loops/{name}").json()["status"]["interactions"] == 300, 60, "all decisions closed")
    return name


def test_an_evaluation_is_asked_for_and_waited_for(api, loop):
    asked = {"loop": loop, "name": "Try", "policies": ["offer:good", "offer:bad", "vw"], "slices": ["offer"]}
    answer = api.post("/v1/evaluations", params={"wait": "done"}, json=asked)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert (found["state"], found["progress"], found["error"], found["name"]) == ("done", 1.0, None, "Try")
    result = found["result"]
    assert (result["n"], result["verdict"], result["headline"]) == (300, "better", "offer:good")
    assert result["verdict_in_words"].startswith("Policy offer:good is better than the served policy: +0.")
    assert result["policies"]["offer:bad"]["verdict"] == "worse"
    assert set(result["policies"]) == {"logged", "offer:good", "offer:bad", "vw"}
    assert api.get(f"/v1/evaluations/{found['evaluation_id']}").json() == found
    listed = api.get("/v1/evaluations", params={"loop": loop}).json()["evaluations"]
    assert {**found, "result": None} in listed
    page = api.get(f"/v1/evaluations/{found['evaluation_id']}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert result["verdict_in_words"] in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_standard_policies_are_evaluated_when_none_are_named(api, loop):
    found = api.post("/v1/evaluations", params={"wait": "done"}, json={"loop": loop, "fixed_offers": 1}).json()
    names = {"logged", "uniform", "first", "baseline"}
    assert names < set(found["result"]["policies"])
    assert len(set(found["result"]["policies"]) - names) == 1


def test_an_id_is_given_once_and_forgotten_when_deleted(api, loop, problem):
    evaluation_id = f"mine-{uuid4().hex}"
    asked = {"loop": loop, "evaluation_id": evaluation_id, "policies": ["uniform"]}
    assert api.post("/v1/evaluations", json=asked).json()["evaluation_id"] == evaluation_id
    assert evaluation_id in json.dumps(problem(api.post("/v1/evaluations", json=asked), 409))
    assert api.delete(f"/v1/evaluations/{evaluation_id}").status_code == 204
    problem(api.get(f"/v1/evaluations/{evaluation_id}"), 404)
    problem(api.get(f"/v1/evaluations/{evaluation_id}/report"), 404)
    assert api.post("/v1/evaluations", params={"wait": "done"}, json=asked).json()["state"] == "done"


def test_only_decisions_of_the_time_are_read(api, loop):
    asked = {"loop": loop, "policies": ["uniform"], "closed_to": "2020-01-01T00:00:00Z"}
    answer = api.post("/v1/evaluations", params={"wait": "done"}, json=asked)
    assert answer.status_code == 202, answer.text
    result = answer.json()["result"]
    assert (result["n"], result["verdict"]) == (0, "refused")


def test_code_and_columns_are_not_for_the_api(api, loop, problem):
    for word in ("python:os:getcwd", "column:target_probs"):
        refused = problem(api.post("/v1/evaluations", json={"loop": loop, "policies": ["uniform", word]}), 400)
        assert "policies.1" in json.dumps(refused)
        assert word in json.dumps(refused)


def test_only_an_admin_may_ask_and_readers_may_read(guarded, problem):
    with guarded.client("test-admin-key") as admin:
        made = {role: admin.post("/v1/keys", json={"name": role, "role": role}).json() for role in ("read", "write")}
        try:
            with guarded.client(made["read"]["secret"]) as reader:
                assert reader.get("/v1/evaluations").status_code == 200
            with guarded.client(made["write"]["secret"]) as writer:
                problem(writer.post("/v1/evaluations", json={"loop": "default"}), 403)
        finally:
            for key in made.values():
                admin.delete(f"/v1/keys/{key['key_id']}")
