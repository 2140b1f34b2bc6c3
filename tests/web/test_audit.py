"""The audit log over HTTP: admins find who changed what and why, page by page."""

from __future__ import annotations

import pytest


def entries(api, **asked):
    answer = api.get("/v1/audit", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_reason_of_a_kill_switch_is_found(api, make_loop, unique):
    loop, reason = make_loop().name, unique("the site is down")
    path = f"/v1/loops/{loop}/kill-switch"
    thrown = api.put(path, json={"on": True, "reason": reason}).json()
    assert api.put(path, json={"on": False, "reason": "mended"}).status_code == 200
    found = entries(api, subject=loop)
    assert found["before"] is None
    assert [(one["action"], one["subject"]) for one in found["entries"]] == [
        (action, loop) for action in ("loop.revived", "loop.killed", "loop.put")
    ]
    noted = entries(api, subject=loop, action="loop.killed")["entries"]
    assert [(one["actor"], one["at"], one["detail"]) for one in noted] == [
        (thrown["actor"], thrown["changed_at"], {"reason": reason})
    ]
    assert entries(api, subject=loop, action="offer.killed") == {"entries": [], "before": None}


def test_pages_end(api, unique):
    offer = unique("offer")
    for priority in range(4):
        body = {"category": "garden", "priority": priority}
        assert api.put(f"/v1/offers/{offer}", json=body).status_code == 200
    pages, before = [], {}
    while before is not None:
        page = entries(api, subject=offer, limit=2, **before)
        pages.append([one["detail"]["version"] for one in page["entries"]])
        before = page["before"] and {"before": page["before"]}
    assert pages == [[4, 3], [2, 1]], "a full last page says that it is the last"


def test_a_hundred_rows_unless_more_are_asked_for(api, unique):
    offers = [{"offer_id": unique("offer"), "category": "garden"} for _ in range(101)]
    assert api.post("/v1/offers/import", json={"offers": offers}).status_code == 200
    newest = entries(api)
    assert len(newest["entries"]) == 100
    ids = [one["audit_id"] for one in newest["entries"]]
    assert ids == sorted(ids, reverse=True)
    assert newest["before"] == ids[-1]
    assert len(entries(api, limit=101)["entries"]) == 101


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("limit", value) for value in ("0", "-1", "501", "ten", "1.5", "", "null")),
        *(("before", value) for value in ("0", "-1", str(2**63), "newest", "2026-03-02T09:30:00Z", "")),
        *((field, value) for field in ("subject", "action") for value in ("", "a\0b", "tab\t", "x" * 257)),
    ],
)
def test_bad_questions(api, problem, field, value):
    refused = problem(api.get("/v1/audit", params={field: value}), 400)
    assert [(error["field"], error["value"]) for error in refused["errors"]] == [
        (field, value if len(value) <= 200 else value[:197] + "...")
    ]


@pytest.mark.parametrize("role", ["page", "read", "write"])
def test_only_admins_read_it(guarded, until, problem, role):
    with guarded.client("test-admin-key") as admin:
        key = admin.post("/v1/keys", json={"name": f"a {role}", "role": role}).json()
        noted = entries(admin, subject=key["key_id"])["entries"]
    assert [(one["actor"], one["action"], one["detail"]["role"]) for one in noted] == [("admin", "key.create", role)]
    with guarded.client(key["secret"]) as caller:
        # Until the worker has heard of the key it is not known.
        until(lambda: caller.get("/v1/audit").status_code != 401, 3, "the new key is known")
        refused = problem(caller.get("/v1/audit"), 403)
    assert "admin" in refused["detail"]
    with guarded.client() as nobody:
        problem(nobody.get("/v1/audit"), 401)
