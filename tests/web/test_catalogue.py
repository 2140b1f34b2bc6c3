"""CRUD of offers, customers and loops, and a change of the learning setting while the loop serves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_offers_are_created_changed_listed_and_deleted(api, unique, problem):
    offer = unique("offer")
    problem(api.get(f"/v1/offers/{offer}"), 404)
    body = {"category": "garden", "features": {"discount": 0.1, "type": "percentage"}}
    first = api.put(f"/v1/offers/{offer}", json=body)
    assert first.status_code == 200, first.text
    assert (first.json()["version"], first.json()["status"]) == (1, "active")
    second = api.put(f"/v1/offers/{offer}", json={**body, "status": "paused", "features": {"discount": 0.2}})
    assert second.json()["version"] == 2
    assert second.json()["features"] == {"discount": 0.2}
    assert api.get(f"/v1/offers/{offer}").json() == second.json()
    assert second.json() in api.get("/v1/offers").json()["offers"]
    assert api.delete(f"/v1/offers/{offer}").status_code == 204
    problem(api.get(f"/v1/offers/{offer}"), 404)
    problem(api.delete(f"/v1/offers/{offer}"), 404)
    assert offer not in json.dumps(api.get("/v1/offers").json())


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "category"),
        ({"category": ""}, "category"),
        ({"category": "g", "status": "sleeping"}, "sleeping"),
        ({"category": "g", "valid_from": "2026-01-01T00:00:00"}, "valid_from"),
        ({"category": "g", "valid_from": "2026-01-02T00:00:00Z", "valid_to": "2026-01-01T00:00:00Z"}, "valid_to"),
        ({"category": "g", "features": [1]}, "features"),
        ({"category": "g", "colour": "red"}, "colour"),
    ],
)
def test_bad_offers_are_refused(api, unique, problem, body, named):
    offer = unique("bad")
    assert named in json.dumps(problem(api.put(f"/v1/offers/{offer}", json=body), 400))
    problem(api.get(f"/v1/offers/{offer}"), 404)


def test_deleted_offers_are_not_picked_and_stay_in_the_log(make_loop, api, unique, problem):
    offer = unique("gone")
    assert api.put(f"/v1/offers/{offer}", json={"category": "garden"}).status_code == 200
    loop = make_loop()
    decision = loop.rank(candidates=[offer])
    assert api.delete(f"/v1/offers/{offer}").status_code == 204
    problem(api.post("/v1/rank", json={"loop": loop.name, "candidates": [offer]}), 400)
    assert loop.record(decision["decision_id"])["eligible"][0]["offer_id"] == offer
    again = api.put(f"/v1/offers/{offer}", json={"category": "tools"})
    assert again.status_code == 200
    assert loop.rank(candidates=[offer])["offer_id"] == offer


def test_absent_candidates_mean_the_whole_catalogue(make_loop, api, unique):
    offers = [unique("whole") for _ in range(3)]
    for offer in offers:
        assert api.put(f"/v1/offers/{offer}", json={"category": "garden"}).status_code == 200
    loop = make_loop()
    answer = api.post("/v1/rank", json={"loop": loop.name})
    assert answer.status_code == 200, answer.text
    assert set(offers) <= {ranked["offer_id"] for ranked in answer.json()["ranking"]}
    assert api.put(f"/v1/offers/{offers[0]}", json={"category": "garden", "status": "ended"}).status_code == 200
    answer = api.post("/v1/rank", json={"loop": loop.name})
    assert offers[0] not in {ranked["offer_id"] for ranked in answer.json()["ranking"]}
    for offer in offers:
        assert api.delete(f"/v1/offers/{offer}").status_code == 204


def test_customers_are_created_changed_and_deleted(make_loop, api, unique, problem):
    customer = unique("customer")
    problem(api.get(f"/v1/customers/{customer}"), 404)
    made = api.put(f"/v1/customers/{customer}", json={"demographics": {"age_band": "35-44", "household_size": 3}})
    assert made.status_code == 200, made.text
    assert made.json()["demographics"] == {"age_band": "35-44", "household_size": 3}
    assert api.get(f"/v1/customers/{customer}").json()["demographics"]["age_band"] == "35-44"
    loop = make_loop()
    context = loop.record(loop.rank(customer_id=customer)["decision_id"])["context"]
    assert context["D"] == {"age_band": "35-44", "household_size": 3}
    assert api.delete(f"/v1/customers/{customer}", params={"wait": "applied"}).json()["state"] == "done"
    problem(api.get(f"/v1/customers/{customer}"), 404)
    problem(api.delete(f"/v1/customers/{customer}"), 404)
    problem(api.put(f"/v1/customers/{customer}", json={"shoe_size": 43}), 400)


def test_loops_are_created_changed_listed_and_deleted(api, unique, problem):
    name = unique("loop")
    problem(api.get(f"/v1/loops/{name}"), 404)
    made = api.put(f"/v1/loops/{name}", json={"exploration_floor": 0.1})
    assert made.status_code == 200, made.text
    assert (made.json()["loop"], made.json()["version"], made.json()["exploration_floor"]) == (name, 1, 0.1)
    changed = api.put(f"/v1/loops/{name}", json={"exploration_floor": 0.2})
    assert changed.json()["version"] == 2
    stored = api.get(f"/v1/loops/{name}").json()
    assert stored["exploration_floor"] == 0.2
    assert stored["status"]["decisions"] == 0
    assert name in [loop["loop"] for loop in api.get("/v1/loops").json()["loops"]]
    assert api.delete(f"/v1/loops/{name}").status_code == 204
    problem(api.get(f"/v1/loops/{name}"), 404)
    problem(api.post("/v1/rank", json={"loop": name, "candidates": [{"offer_id": "a"}]}), 404)


EXPLORER = "--cb_explore_adf --epsilon 0.1"
BAD_ARGUMENTS = {
    "--cb_explore_adf --no_such_option 3": "no_such_option",
    "--cb_explore_adf -f {folder}/stolen": "-f",
    "--cb_explore_adf --final_regressor={folder}/stolen": "final_regressor",
    "--cb_explore_adf -i /etc/passwd": "-i",
    "--cb_explore_adf --initial_regressor /etc/passwd": "initial_regressor",
    "--cb_explore_adf -d /etc/passwd": "-d",
    "--cb_explore_adf --readable_model {folder}/stolen": "readable_model",
    "--cb_explore_adf -p {folder}/stolen": "-p",
    "--cb_explore_adf --audit": "audit",
    "--cb_explore_adf --daemon --port 4711": "daemon",
    "--cb_explore_adf --cache_file {folder}/stolen": "cache_file",
    "--cb_explore_adf --json": "json",
    "--cb_explore_adf -b 40": "40",
    "--cb_explore_adf --epsilon 2": "2",
    "--cb_explore_adf --epsilon -1": "-1",
    "--cb_explore_adf --epsilon nan": "nan",
    "--cb_explore_adf --epsilon": "epsilon",
    "--cb_explore_adf --squarecb --cb_type nonsense": "nonsense",
    "--cb_explore_adf --bag 5": "bag",
    "--cb_explore_adf --cover 5": "cover",
    "--cb_explore_adf --rnd 1": "rnd",
    "--cb_explore_adf --cb_type dr": "dr",
    "--ccb_explore_adf --squarecb": "squarecb",
    "--epsilon 0.1": "arguments",
    "--cb_explore_adf 'unclosed": "unclosed",
    "--help": "help",
    "": "arguments",
}


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS)
def test_bad_learning_arguments_are_refused_by_name(api, unique, problem, tmp_path: Path, arguments):
    name = unique("bad")
    sent = arguments.format(folder=tmp_path)
    refused = problem(api.put(f"/v1/loops/{name}", json={"arguments": sent}), 400)
    assert BAD_ARGUMENTS[arguments] in json.dumps(refused)
    problem(api.get(f"/v1/loops/{name}"), 404)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        EXPLORER,
        "--cb_explore_adf --squarecb --cb_type mtr -q ::",
        "--cb_explore_adf --regcb --cb_type mtr",
        "--cb_explore_adf --softmax --lambda 5",
        "--cb_explore_adf --first 3",
        "--cb_explore_adf --epsilon 0.2 --cb_type ips",
        "--cb_explore_adf --epsilon 0.2 --cb_type dm",
    ],
)
def test_resumable_settings_decide_and_learn(make_loop, at, arguments):
    loop = make_loop(simulated=True, arguments=arguments, export_frequency_seconds=1)
    for second in range(6):
        answer = loop.rank(occurred_at=at(second))
        assert sum(ranked["probability"] for ranked in answer["ranking"]) == pytest.approx(1)
        loop.reward(answer["decision_id"], value=second % 2, final=True, occurred_at=at(second))
    loop.tick(at(20))
    status = loop.status()
    assert (status["interactions"], status["set_aside"]) == (6, 0)
    assert status["snapshots"] >= 2


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"exploration_floor": 1.5}, "exploration_floor"),
        ({"time_zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"clock": "cuckoo"}, "cuckoo"),
        ({"reward": {"low": 1, "high": 0}}, "low"),
        ({"reward": {"default": 5}}, "default"),
        ({"reward": {"aggregation": "product"}}, "product"),
        ({"reward": {"wait_seconds": 0}}, "wait_seconds"),
        ({"export_frequency_seconds": -1}, "export_frequency_seconds"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_loop_settings_are_refused(api, unique, problem, settings, named):
    name = unique("bad")
    assert named in json.dumps(problem(api.put(f"/v1/loops/{name}", json=settings), 400))
    problem(api.get(f"/v1/loops/{name}"), 404)


@pytest.mark.parametrize("name", ["UPPER", "a b", "_x", "a" * 65, "ä"])
def test_bad_loop_names_are_refused(api, problem, name):
    problem(api.put(f"/v1/loops/{name}", json={}), 400)


def test_a_changed_setting_starts_a_generation_while_the_loop_serves(make_loop, service, api, at, until):
    """The new setting is trained on the log so far; the old model answers meanwhile (DESIGN 4.7)."""
    settings = {"simulated": True, "export_frequency_seconds": 1, "exploration_floor": 0.1}
    loop = make_loop(**settings, arguments=EXPLORER)
    offers = [{"offer_id": name, "features": {"category": name}} for name in ("left", "right")]

    def share():
        ranking = loop.rank(candidates=offers, occurred_at=at(500))["ranking"]
        return next(ranked["probability"] for ranked in ranking if ranked["offer_id"] == "left")

    for second in range(100):
        answer = loop.rank(candidates=offers, occurred_at=at(second))
        value = float(answer["offer_id"] == "left")
        loop.reward(answer["decision_id"], value=value, final=True, occurred_at=at(second))
    loop.tick(at(110))
    until(lambda: share() > 0.8, 5, "the first setting learned")
    old = loop.status()["snapshot_id"]
    changed = api.put(
        f"/v1/loops/{loop.name}",
        json={
            "clock": "simulated",
            "close_on_final": True,
            "export_frequency_seconds": 1,
            "exploration_floor": 0.1,
            "arguments": "--cb_explore_adf --squarecb --cb_type mtr",
        },
    )
    assert changed.status_code == 200, changed.text
    seen = []

    def served_by_new():
        answer = loop.rank(candidates=offers, occurred_at=at(120))
        if not seen or seen[-1][0] != answer["snapshot_id"]:
            seen.append((answer["snapshot_id"], answer["policy_id"]))
        return answer["policy_id"] != seen[0][1]

    until(served_by_new, 30, "the new setting serves")
    assert seen[0][0] == old
    assert loop.status()["snapshot_id"] != old
    assert share() > 0.6, "the new setting has learned from the log, not from nothing"
    answer = loop.rank(candidates=offers, occurred_at=at(130))
    loop.reward(answer["decision_id"], value=1.0, final=True, occurred_at=at(130))
    loop.tick(at(140))
    assert loop.status()["interactions"] == 101
    replayed = service.command("replay", "--loop", loop.name, "--verify")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_keys_are_created_listed_and_deleted(guarded, problem):
    with guarded.client("test-admin-key") as admin:
        made = admin.post("/v1/keys", json={"name": "shop", "role": "write"})
        assert made.status_code == 201, made.text
        key = made.json()
        assert key["secret"]
        listed = admin.get("/v1/keys").json()["keys"]
        assert key["key_id"] in [row["key_id"] for row in listed]
        assert key["secret"] not in json.dumps(listed)
        assert admin.delete(f"/v1/keys/{key['key_id']}").status_code == 204
        problem(admin.delete(f"/v1/keys/{key['key_id']}"), 404)
        problem(admin.post("/v1/keys", json={"name": "x", "role": "emperor"}), 400)
