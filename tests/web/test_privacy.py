"""Erasing a customer over HTTP: the receipt, what it waits for, and who may ask."""

from __future__ import annotations

import hashlib
import json
import time

import httpx
import pytest


def erase(api: httpx.Client, customer: str, **parameters: str) -> dict[str, object]:
    answer = api.delete(f"/v1/customers/{customer}", params=parameters)
    assert answer.status_code == 202, answer.text
    return answer.json()


@pytest.fixture
def known(api, unique):
    """A customer with a record and an activity."""
    customer = unique("customer")
    assert api.put(f"/v1/customers/{customer}", json={"demographics": {"age_band": "35-44"}}).status_code == 200
    body = {"activities": [{"customer_id": customer, "kind": "purchase", "category": "garden", "amount": 5.0}]}
    assert api.post("/v1/activity", params={"wait": "applied"}, json=body).json()["applied"] is True
    return customer


def test_a_customer_is_erased_with_a_receipt(make_loop, api, at, problem, known):
    loop, other = make_loop(simulated=True), make_loop(simulated=True)
    kept = []
    for second in range(20):
        answer = loop.rank(customer_id=known if second % 4 == 0 else "stays", occurred_at=at(second))
        loop.reward(answer["decision_id"], value=second % 2, final=True, occurred_at=at(second))
        kept.append((answer["decision_id"], second % 4 != 0))
    loop.tick(at(30))
    other.tick(at(30))
    before = loop.status()
    assert loop.record(kept[0][0])["context"]["D"] == {"age_band": "35-44"}
    receipt = erase(api, known, wait="applied")
    assert receipt["state"] == "done"
    assert receipt["erased"]["customer"]["rows"] == {"customers": 1, "profiles": 1, "activities": 1}
    part = receipt["erased"]["loops"][loop.name]
    assert part["rows"] == {"decisions": 5, "interactions": 5, "outcomes": 5, "decision_keys": 5}
    assert (part["state"], part["generation"]) == ("done", 2)
    assert part["models"] >= 1
    untouched = receipt["erased"]["loops"][other.name]
    assert (untouched["state"], untouched["rows"], untouched["generation"]) == ("done", {}, None)
    # The receipt names nobody, but proves for whom it is to those who know.
    assert known not in json.dumps(receipt)
    key = receipt["receipt_id"].encode()
    assert receipt["customer"] == "blake2b:" + hashlib.blake2b(known.encode(), key=key, digest_size=32).hexdigest()
    assert receipt["requested_at"] <= part["done_at"] <= receipt["done_at"]
    assert api.get(f"/v1/erasures/{receipt['receipt_id']}").json() == receipt
    # Nobody is left whom a second call could erase.
    problem(api.get(f"/v1/customers/{known}"), 404)
    problem(api.delete(f"/v1/customers/{known}"), 404)
    for decision_id, stays in kept:
        loop.record(decision_id, 200 if stays else 404)
    after = loop.status()
    assert (after["decisions"], after["interactions"], after["duplicated"]) == (15, 15, 0)
    assert after["snapshot_id"].startswith(f"{loop.name}-g2-")
    assert before["snapshot_id"] != after["snapshot_id"]
    # Whoever comes back is new.
    again = loop.rank(customer_id=known, occurred_at=at(40))
    assert "D" not in loop.record(again["decision_id"])["context"]
    assert again["snapshot_id"] == after["snapshot_id"]
    assert erase(api, known, wait="applied")["erased"]["loops"][loop.name]["rows"]["decisions"] == 1


def test_replay_holds_after_an_erasure(make_loop, service, api, at, unique):
    loop, customer = make_loop(simulated=True, export_frequency_seconds=1), unique("customer")
    for second in range(30):
        answer = loop.rank(customer_id=customer if second % 3 else "stays", occurred_at=at(second))
        loop.reward(answer["decision_id"], value=second % 2, final=True, occurred_at=at(second))
    loop.tick(at(40))
    erase(api, customer, wait="applied")
    for second in range(50, 60):
        answer = loop.rank(customer_id="stays", occurred_at=at(second))
        loop.reward(answer["decision_id"], value=1, final=True, occurred_at=at(second))
    loop.tick(at(70))
    replayed = service.command("replay", "--loop", loop.name, "--verify")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "interactions  10" in replayed.stdout


def test_nobody_s_erasure_is_refused_and_leaves_no_receipt(api, unique, problem):
    stranger = unique("stranger")
    assert stranger in problem(api.delete(f"/v1/customers/{stranger}"), 404)["detail"]
    problem(api.delete(f"/v1/customers/{stranger}", params={"wait": "applied"}), 404)
    problem(api.get(f"/v1/erasures/{stranger}"), 404)


def test_what_was_just_accepted_is_known(make_loop, api, unique):
    """Neither the activity nor the decision has been committed, perhaps; both are erased."""
    customer, loop = unique("customer"), make_loop()
    decision_id = loop.rank(customer_id=customer)["decision_id"]
    receipt = erase(api, customer, wait="applied")
    assert receipt["erased"]["loops"][loop.name]["rows"] == {"decisions": 1, "open_decisions": 1, "decision_keys": 1}
    # Open decisions have taught nobody anything.
    assert receipt["erased"]["loops"][loop.name]["generation"] is None
    loop.record(decision_id, 404)
    body = {"activities": [{"customer_id": customer, "kind": "view"}]}
    assert api.post("/v1/activity", json=body).status_code == 202
    assert erase(api, customer, wait="applied")["erased"]["customer"]["rows"] == {"profiles": 1, "activities": 1}


def test_without_waiting_it_is_done_soon(api, known, until):
    receipt = erase(api, known)
    path = f"/v1/erasures/{receipt['receipt_id']}"
    until(lambda: api.get(path).json()["state"] == "done", what="the erasure is done")
    assert api.get(path).json()["erased"]["customer"]["rows"]["customers"] == 1


def test_deleted_loops_are_reached(lasting_loop, api, unique, at):
    loop, customer = lasting_loop(simulated=True), unique("customer")
    answer = loop.rank(customer_id=customer, occurred_at=at(0))
    loop.reward(answer["decision_id"], value=1, final=True, occurred_at=at(0))
    loop.tick(at(10))
    assert api.delete(f"/v1/loops/{loop.name}").status_code == 204
    receipt = erase(api, customer, wait="applied")
    assert receipt["state"] == "done"
    part = receipt["erased"]["loops"][loop.name]
    assert (part["rows"]["interactions"], part["generation"]) == (1, 2)


def test_without_a_learner_it_waits_for_one(up, tmp_path):
    """Nothing is erased at the door; the order stands on the streams until somebody can carry it out."""
    with up(tmp_path / "data") as started, started.client() as api:
        body = {"activities": [{"customer_id": "c-1", "kind": "view"}]}
        assert api.post("/v1/activity", params={"wait": "applied"}, json=body).json()["applied"]
        decision = api.post("/v1/rank", json={"customer_id": "c-1", "candidates": [{"offer_id": "a"}]}).json()
        receipt_id = erase(api, "c-1")["receipt_id"]
    with up(tmp_path / "data") as started, started.client() as api:
        deadline = time.monotonic() + 20
        while (receipt := api.get(f"/v1/erasures/{receipt_id}").json())["state"] != "done":
            assert time.monotonic() < deadline, receipt
            time.sleep(0.1)
        assert receipt["erased"]["loops"]["default"]["rows"]["decisions"] == 1
        assert api.get(f"/v1/decisions/{decision['decision_id']}").status_code == 404
        assert api.delete("/v1/customers/c-1").status_code == 404


def test_only_admins_erase_and_read_receipts(guarded, problem, unique, until):
    customer = unique("customer")
    with guarded.client("test-admin-key") as admin:
        keys = {
            role: admin.post("/v1/keys", json={"name": f"a {role}er", "role": role}).json()["secret"]
            for role in ("read", "write", "admin")
        }
        for key in keys.values():

            def works(key=key):
                with guarded.client(key) as caller:
                    return caller.get("/v1/offers").status_code == 200

            # New connections, so that every worker has heard of it.
            until(lambda works=works: all(works() for _ in range(12)), 5, "the key works")
        assert admin.put(f"/v1/customers/{customer}", json={}).status_code == 200
        with guarded.client() as nobody:
            problem(nobody.delete(f"/v1/customers/{customer}"), 401)
        for role in ("read", "write"):
            with guarded.client(keys[role]) as caller:
                problem(caller.delete(f"/v1/customers/{customer}"), 403)
        with guarded.client(keys["admin"]) as officer:
            receipt = erase(officer, customer, wait="applied")
            assert (receipt["state"], receipt["actor"]) == ("done", "a adminer")
        for role in ("read", "write"):
            with guarded.client(keys[role]) as caller:
                problem(caller.get(f"/v1/erasures/{receipt['receipt_id']}"), 403)
        assert admin.get(f"/v1/erasures/{receipt['receipt_id']}").json() == receipt
