"""/v1/jobs: asking for long tasks, and how far they are."""

from __future__ import annotations

import json

import pytest


def test_a_job_is_asked_for_and_waited_for(api, until):
    answer = api.post("/v1/jobs", params={"wait": "done"}, json={"kind": "precompute"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["state"], job["progress"], job["error"], job["attempts"]) == (
        "precompute", "done", 1.0, None, 1,
    )  # fmt: skip
    assert "thresholds" in job["result"]
    assert api.get(f"/v1/jobs/{job['job_id']}").json() == job
    listed = api.get("/v1/jobs").json()["jobs"]
    assert job in listed
    assert [entry["created_at"] for entry in listed] == sorted((e["created_at"] for e in listed), reverse=True)


def test_without_waiting_it_is_answered_at_once_and_runs_all_the_same(api, until):
    answer = api.post("/v1/jobs", json={"kind": "precompute_cells"})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    until(lambda: api.get(f"/v1/jobs/{job_id}").json()["state"] == "done", 30, "the job ran")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"kind": "sneeze"}, "sneeze"),
        ({"kind": ""}, "kind"),
        ({"kind": 3}, "kind"),
        ({}, "kind"),
        ({"kind": "retention", "arguments": {}}, "arguments"),
    ],
)
def test_bad_jobs_are_refused_and_leave_no_trace(api, problem, body, named):
    kinds = {job["kind"] for job in api.get("/v1/jobs").json()["jobs"]}
    assert named in json.dumps(problem(api.post("/v1/jobs", json=body), 400))
    assert {job["kind"] for job in api.get("/v1/jobs").json()["jobs"]} <= kinds | {
        "precompute",
        "retention",
        "prune_snapshots",
        "auto_optimise",
    }


def test_bad_questions_are_refused(api, problem):
    problem(api.get("/v1/jobs/never-made"), 404)
    assert "wait" in json.dumps(problem(api.post("/v1/jobs", params={"wait": "long"}, json={"kind": "retention"}), 400))


def test_only_an_admin_may_ask(guarded, problem, until):
    with guarded.client("test-admin-key") as admin:
        made = {role: admin.post("/v1/keys", json={"name": role, "role": role}).json() for role in ("read", "write")}
        try:
            for role, key in made.items():
                with guarded.client(key["secret"]) as caller:
                    until(lambda caller=caller: caller.get("/v1/jobs").status_code == 200, 5, f"the {role} key works")
                    problem(caller.post("/v1/jobs", json={"kind": "precompute"}), 403)
            with guarded.client() as nobody:
                problem(nobody.get("/v1/jobs"), 401)
            assert admin.post("/v1/jobs", json={"kind": "precompute_thresholds"}).status_code == 202
        finally:
            for key in made.values():
                assert admin.delete(f"/v1/keys/{key['key_id']}").status_code == 204
