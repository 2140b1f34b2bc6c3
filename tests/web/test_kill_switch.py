"""Kill switches: a loop serves the campaign manager's baseline, an offer is shown by nobody; at once, by all workers."""

from __future__ import annotations

import time

import pytest

ADMIN = "test-admin-key"
WHY = {"reason": "a test"}


@pytest.fixture
def throw(api):
    """Throw a switch; it is off again when the test is over."""
    thrown = set()

    def go(path, on=True, reason="a test"):
        answer = api.put(f"{path}/kill-switch", json={"on": on, "reason": reason})
        assert answer.status_code == 200, answer.text
        assert "offerloop-workers-behind" not in answer.headers
        thrown.add(path)
        return answer.json()

    yield go
    for path in thrown:
        go(path, on=False)


def loop_path(loop):
    return f"/v1/loops/{loop.name}"


@pytest.fixture
def killed_loop(make_loop, throw):
    """A loop with these settings whose switch is on."""

    def make(**settings):
        loop = make_loop(baseline={"priority": ["right", "left"]}, **settings)
        throw(loop_path(loop))
        return loop

    return make


def test_a_killed_loop_serves_the_campaign_managers_baseline_and_learns_nothing(killed_loop, api):
    loop = killed_loop(exploration_floor=1.0)
    answers = [loop.rank(customer_id=f"c{number}") for number in range(20)]
    assert {(one["offer_id"], one["use"], one["policy_id"]) for one in answers} == {("right", "baseline", "baseline")}
    record = loop.record(answers[0]["decision_id"])
    assert record["slots"][0]["served_probabilities"] == [0.0, 1.0]
    assert record["slots"][0]["propensity"] == 1.0
    assert record["snapshot_id"] == "baseline"
    why = api.get(f"/v1/decisions/{answers[0]['decision_id']}/why", params={"loop": loop.name}).json()
    assert "kill switch" in why["note"]
    batch = api.post("/v1/rank/batch", json={"requests": [{"loop": loop.name, "candidates": [{"offer_id": "a"}]}]})
    assert batch.json()["decisions"][0]["policy_id"] == "baseline"


def test_slots_of_a_killed_loop_follow_the_baselines_order(killed_loop):
    loop = killed_loop(exploration_floor=1.0)
    answer = loop.rank(slots=2)
    assert answer["use"] == "baseline"
    assert [slot["offer_id"] for slot in answer["slots"]] == ["right", "left"]


@pytest.mark.parametrize("settings", [{"learning_mode": "apprentice"}, {"learning_mode": "logging_only"}])
def test_other_modes_are_killed_too(killed_loop, settings):
    loop = killed_loop(**settings)
    answer = loop.rank(customer_id="c1")
    assert (answer["offer_id"], answer["policy_id"]) == ("right", "baseline")


def test_a_holdout_without_offers_still_gets_none(killed_loop):
    loop = killed_loop(holdout={"share": 0.9, "serves": "no_offer"})
    shown = {loop.rank(customer_id=f"c{number}")["offer_id"] for number in range(40)}
    assert shown == {"right", "no-offer"}
    uses = {loop.rank(customer_id=f"c{number}")["use"] for number in range(40)}
    assert uses == {"baseline"}
    slots = [loop.rank(customer_id=f"c{number}", slots=2) for number in range(40)]
    assert {tuple(one["offer_id"] for one in answer["slots"]) for answer in slots} == {
        ("right", "left"), ("no-offer", "no-offer"),
    }  # fmt: skip


def test_new_settings_do_not_revive_a_loop_and_its_own_switch_does(make_loop, throw, api):
    loop = make_loop()
    path = loop_path(loop)
    never = api.get(f"{path}/kill-switch").json()
    assert never == {"scope": "loop", "name": loop.name, "on": False, "reason": None, "actor": None, "changed_at": None}
    thrown = throw(path, reason=" the site is down\n")
    assert (thrown["on"], thrown["reason"]) == (True, "the site is down")
    assert thrown["actor"]
    assert api.get(f"{path}/kill-switch").json() == thrown
    assert thrown in api.get("/v1/kill-switches").json()["kill_switches"]
    assert api.get(f"{path}/policies").json()["is_killed"] is True
    assert api.put(path, json={"exploration_floor": 1.0}).status_code == 200
    assert loop.rank()["policy_id"] == "baseline"
    throw(path, on=False)
    assert loop.rank()["use"] == "learn"
    assert thrown["name"] not in {one["name"] for one in api.get("/v1/kill-switches").json()["kill_switches"]}


def test_a_killed_offer_is_shown_by_no_loop(make_loop, throw, unique, api):
    offer = unique("offer")
    body = {"category": "garden"}
    assert api.put(f"/v1/offers/{offer}", json=body).status_code == 200
    loop = make_loop(fallback=offer)
    candidates = [offer, {"offer_id": "other"}]
    path = f"/v1/offers/{offer}"
    throw(path)
    assert api.put(path, json={"category": "garden", "priority": 3}).status_code == 200, "a new version stays killed"
    answer = loop.rank(candidates=candidates)
    assert answer["offer_id"] == "other"
    assert {"offer_id": offer, "reason": "killed"} in loop.record(answer["decision_id"])["removed"]
    alone = loop.rank(candidates=[offer])
    assert (alone["offer_id"], alone["use"]) == ("no-offer", "fallback"), "nor as the loop's fallback"
    assert loop.rank(candidates=[{"offer_id": offer, "features": {"size": 1}}])["use"] == "fallback"
    slots = loop.rank(candidates=candidates, slots=2)
    assert [slot["offer_id"] for slot in slots["slots"]] == ["other", "no-offer"]
    throw(loop_path(loop))
    assert loop.rank(candidates=candidates)["offer_id"] == "other", "nor by the baseline"
    throw(loop_path(loop), on=False)
    throw(path, on=False)
    assert loop.rank(candidates=[offer])["offer_id"] == offer
    assert api.delete(path).status_code == 204


def test_a_killed_baseline_is_replaced_by_its_next(killed_loop, throw, unique):
    first = unique("first")
    loop = killed_loop()
    throw(f"/v1/offers/{first}")
    answer = loop.rank(candidates=[{"offer_id": first}, {"offer_id": "left"}, {"offer_id": "right"}])
    assert (answer["offer_id"], answer["use"]) == ("right", "baseline")


def test_the_personalizers_routes_obey(killed_loop, throw, api, unique):
    loop, killed = killed_loop(), unique("action")
    actions = [{"id": name, "features": [{"size": name}]} for name in (killed, "left", "right")]
    throw(f"/v1/offers/{killed}")
    body = {"contextFeatures": [{"device": "phone"}], "actions": actions}
    answer = api.post(f"/loops/{loop.name}/personalizer/v1.0/rank", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["rewardActionId"] == "right", "the campaign manager's, not the first"
    assert [(one["id"], one["probability"]) for one in answer.json()["ranking"]] == [
        (killed, 0.0), ("right", 1.0), ("left", 0.0),
    ]  # fmt: skip


def test_every_worker_obeys_when_it_is_answered(guarded):
    """Two workers share the address; each connection may be the other's."""
    with guarded.client(ADMIN) as client:
        assert client.put("/v1/loops/killed", json={"baseline": {"priority": ["b"]}}).status_code == 200

    def asked():
        found = []
        for _ in range(8):
            with guarded.client(ADMIN) as client:
                answer = client.post(
                    "/v1/rank", json={"loop": "killed", "candidates": [{"offer_id": "a"}, {"offer_id": "b"}]}
                )
                found.append(answer.json()["policy_id"])
        return set(found)

    for on, expected in ((True, True), (False, False), (True, True)):
        started = time.monotonic()
        with guarded.client(ADMIN) as client:
            answer = client.put("/v1/loops/killed/kill-switch", json={"on": on, **WHY})
            took = time.monotonic() - started
        assert answer.status_code == 200, answer.text
        assert "offerloop-workers-behind" not in answer.headers, f"after {took:.1f} s"
        assert {policy_id == "baseline" for policy_id in asked()} == {expected}
    with guarded.client(ADMIN) as client:
        assert client.delete("/v1/loops/killed").status_code == 204
