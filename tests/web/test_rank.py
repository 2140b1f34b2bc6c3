"""POST /v1/rank and /v1/rank/batch: what is answered, logged, repeated and refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest

THREE = [
    {"offer_id": "a", "features": {"category": "garden"}},
    {"offer_id": "b", "features": {"category": "tools"}},
    {"offer_id": "c", "features": {"category": "toys"}},
]


@pytest.fixture(scope="module")
def trained(lasting_loop, at, until):
    """A loop with a floor of 0.3 that has learned to show `b` on phones and `c` elsewhere."""
    loop = lasting_loop(simulated=True, exploration_floor=0.3, export_frequency_seconds=1)
    for number in range(240):
        step = 0.6 * number
        kind, good = (("phone", "b"), ("desk", "c"))[number % 2]
        decision = loop.rank(context={"device": {"kind": kind}}, candidates=THREE, occurred_at=at(step))
        loop.reward(
            decision["decision_id"], value=float(decision["offer_id"] == good), final=True, occurred_at=at(step)
        )
        if number % 40 == 39:
            loop.tick(at(step + 0.5))
    loop.tick(at(160))
    assert loop.status()["snapshots"] >= 2
    first = loop.status()["snapshot_id"]
    until(lambda: loop.rank(candidates=THREE, occurred_at=at(170))["snapshot_id"] == first, what="swap")
    return loop


def test_answer_has_the_documented_fields(make_loop):
    loop = make_loop()
    answer = loop.rank()
    assert set(answer) == {"decision_id", "offer_id", "ranking", "policy_id", "snapshot_id", "learning_mode", "use"}
    assert answer["learning_mode"] == "online"
    assert answer["decision_id"]
    assert {ranked["offer_id"] for ranked in answer["ranking"]} == {"left", "right"}
    assert all(set(ranked) == {"offer_id", "probability"} for ranked in answer["ranking"])


def test_fresh_ids_differ(make_loop):
    loop = make_loop()
    assert loop.rank()["decision_id"] != loop.rank()["decision_id"]


def test_probabilities_are_the_served_distribution(trained, at):
    chosen = set()
    for number in range(40):
        context = {"device": {"kind": ("phone", "desk")[number % 2]}}
        answer = trained.rank(context=context, candidates=THREE, occurred_at=at(200))
        probabilities = [ranked["probability"] for ranked in answer["ranking"]]
        assert sum(probabilities) == pytest.approx(1, abs=1e-9)
        assert min(probabilities) >= 0.3 / 3 - 1e-12
        assert answer["ranking"][0]["offer_id"] == answer["offer_id"]
        assert probabilities[1:] == sorted(probabilities[1:], reverse=True)
        record = trained.record(answer["decision_id"])
        (slot,) = record["slots"]
        served = dict(
            zip([offer["offer_id"] for offer in record["eligible"]], slot["served_probabilities"], strict=True)
        )
        assert served == {ranked["offer_id"]: ranked["probability"] for ranked in answer["ranking"]}
        assert slot["propensity"] == served[answer["offer_id"]]
        assert sum(slot["policy_probabilities"]) == pytest.approx(1, abs=1e-6)
        chosen.add(answer["offer_id"])
    assert len(chosen) > 1


def test_the_draw_falls_on_the_chosen_offer(trained, at):
    for _ in range(40):
        record = trained.record(trained.rank(candidates=THREE, occurred_at=at(200))["decision_id"])
        (slot,) = record["slots"]
        edges = [0.0, *accumulate(slot["served_probabilities"])]
        place = [offer["offer_id"] for offer in record["eligible"]].index(slot["offer_id"])
        assert edges[place] - 1e-9 <= slot["draw"] <= edges[place + 1] + 1e-9


def test_draws_follow_the_probabilities(trained, at):
    """300 draws of one distribution: each share within five standard errors."""
    body = {"loop": trained.name, "candidates": THREE, "context": {"device": {"kind": "phone"}}, "occurred_at": at(200)}
    decisions = []
    for _ in range(3):
        answer = trained.api.post("/v1/rank/batch", json={"requests": [body] * 100})
        assert answer.status_code == 200, answer.text
        decisions += answer.json()["decisions"]
    assert len({decision["decision_id"] for decision in decisions}) == 300
    served = {ranked["offer_id"]: ranked["probability"] for ranked in decisions[0]["ranking"]}
    for offer_id, probability in served.items():
        share = sum(decision["offer_id"] == offer_id for decision in decisions) / 300
        assert abs(share - probability) < 5 * (probability * (1 - probability) / 300) ** 0.5 + 1e-9


def test_learning_shows_in_the_probabilities(trained, at):
    for kind, good in (("phone", "b"), ("desk", "c")):
        answer = trained.rank(context={"device": {"kind": kind}}, candidates=THREE, occurred_at=at(200))
        best = max(answer["ranking"], key=lambda ranked: ranked["probability"])
        assert best["offer_id"] == good, answer["ranking"]
        assert best["probability"] > 0.5


def test_zero_floor_and_full_floor(make_loop):
    full = make_loop(exploration_floor=1.0).rank(candidates=THREE)
    assert [ranked["probability"] for ranked in full["ranking"]] == pytest.approx([1 / 3] * 3)
    none = make_loop(exploration_floor=0.0).rank(candidates=THREE)
    assert sum(ranked["probability"] for ranked in none["ranking"]) == pytest.approx(1)


def test_one_candidate_is_certain(make_loop):
    answer = make_loop().rank(candidates=[{"offer_id": "only"}])
    assert answer["ranking"] == [{"offer_id": "only", "probability": 1.0}]


def test_same_id_and_request_is_answered_from_the_log(make_loop, at):
    loop = make_loop(simulated=True)
    body = {"decision_id": "d", "context": {"x": {"y": 1}}, "candidates": THREE, "occurred_at": at()}
    first = loop.rank(**body)
    assert first["decision_id"] == "d"
    assert [loop.rank(**body) for _ in range(3)] == [first] * 3
    loop.tick(at(1))
    assert loop.status()["decisions"] == 1
    assert loop.rank(**body) == first
    loop.reward("d", value=1.0, final=True, occurred_at=at(2))
    loop.tick(at(3))
    assert loop.rank(**body) == first
    loop.tick(at(4))
    status = loop.status()
    assert (status["decisions"], status["interactions"], status["duplicated"]) == (1, 1, 0)


def test_the_order_of_keys_is_not_part_of_the_request(make_loop):
    loop = make_loop()
    one = json.dumps({"loop": loop.name, "decision_id": "d", "context": {"a": {"x": 1, "y": 2}}, "candidates": THREE})
    two = json.dumps({"candidates": THREE, "context": {"a": {"y": 2, "x": 1}}, "decision_id": "d", "loop": loop.name})
    head = {"content-type": "application/json"}
    first = loop.api.post("/v1/rank", content=one, headers=head)
    assert first.status_code == 200
    assert loop.api.post("/v1/rank", content=two, headers=head).json() == first.json()


def test_a_repeat_is_answered_also_when_its_moment_is_long_past(make_loop, until):
    """A retry carries the time of the first try; what was decided then does not expire."""
    loop = make_loop()
    moment = datetime.now(UTC) - timedelta(minutes=4, seconds=58)
    body = {"loop": loop.name, "decision_id": "d", "candidates": THREE, "occurred_at": moment.isoformat()}
    first = loop.api.post("/v1/rank", json=body)
    assert first.status_code == 200, first.text
    fresh = {**body, "decision_id": None}
    until(lambda: loop.api.post("/v1/rank", json=fresh).status_code == 400, what="the moment to be long past")
    again = loop.api.post("/v1/rank", json=body)
    assert again.status_code == 200, again.text
    assert again.json() == first.json()


def test_same_id_other_request_is_a_conflict(make_loop, problem, at):
    loop = make_loop(simulated=True)
    first = loop.rank(decision_id="d", context={"a": {"x": 1}}, occurred_at=at())
    body = {"loop": loop.name, "decision_id": "d", "occurred_at": at(), "context": {"a": {"x": 2}}}
    body["candidates"] = [{"offer_id": "left"}, {"offer_id": "right"}]
    assert "d" in problem(loop.api.post("/v1/rank", json=body), 409)["detail"]
    loop.reward("d", value=0.0, final=True, occurred_at=at(1))
    loop.tick(at(2))
    problem(loop.api.post("/v1/rank", json=body), 409)
    assert loop.record("d")["context"]["a"] == {"x": 1}
    assert loop.rank(decision_id="d", context={"a": {"x": 1}}, occurred_at=at()) == first
    assert loop.status()["decisions"] == 1


def test_one_id_in_two_loops_is_two_decisions(make_loop):
    one, two = make_loop(), make_loop()
    one.rank(decision_id="same", context={"a": {"x": 1}})
    two.rank(decision_id="same", context={"a": {"x": 2}})
    assert one.record("same")["context"]["a"] == {"x": 1}
    assert two.record("same")["context"]["a"] == {"x": 2}


def test_repeats_at_the_same_moment_are_one_decision(make_loop, at):
    loop = make_loop(simulated=True)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: loop.rank(decision_id="d", candidates=THREE, occurred_at=at()), range(24)))
    assert all(answer == answers[0] for answer in answers)
    loop.tick(at(1))
    assert loop.status()["decisions"] == 1


def test_conflicting_requests_at_the_same_moment_leave_one(make_loop, at):
    loop = make_loop(simulated=True)

    def send(number):
        body = {"loop": loop.name, "decision_id": "d", "occurred_at": at(), "candidates": THREE}
        return loop.api.post("/v1/rank", json={**body, "context": {"a": {"x": number}}})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 15
    loop.tick(at(1))
    assert loop.status()["decisions"] == 1


def test_dates_and_status_remove_offers_with_reasons(make_loop, api, unique, wall):
    offers = {
        "fine": {"valid_from": wall(days=-1), "valid_to": wall(days=1)},
        "over": {"valid_from": wall(days=-3), "valid_to": wall(days=-1)},
        "soon": {"valid_from": wall(days=1)},
        "paused": {"status": "paused"},
        "draft": {"status": "draft"},
        "ended": {"status": "ended"},
    }
    ids = {name: unique(name) for name in offers}
    for name, offer in offers.items():
        assert api.put(f"/v1/offers/{ids[name]}", json={"category": "garden", **offer}).status_code == 200
    loop = make_loop()
    answer = loop.rank(candidates=[*ids.values(), {"offer_id": "inline"}])
    assert {ranked["offer_id"] for ranked in answer["ranking"]} == {ids["fine"], "inline"}
    record = loop.record(answer["decision_id"])
    assert {offer["offer_id"] for offer in record["eligible"]} == {ids["fine"], "inline"}
    reasons = {removed["offer_id"]: removed["reason"] for removed in record["removed"]}
    assert set(reasons) == {ids[name] for name in ("over", "soon", "paused", "draft", "ended")}
    assert all(reasons.values())
    assert len({reasons[ids["over"]], reasons[ids["soon"]], reasons[ids["paused"]]}) == 3


def test_validity_follows_simulated_time(make_loop, api, unique, at):
    offer = unique("dated")
    dates = {"valid_from": at(days=1), "valid_to": at(days=2)}
    assert api.put(f"/v1/offers/{offer}", json={"category": "garden", **dates}).status_code == 200
    loop = make_loop(simulated=True)
    shown = [
        offer in {ranked["offer_id"] for ranked in answer["ranking"]}
        for answer in (
            loop.rank(candidates=[offer, {"offer_id": "inline"}], occurred_at=moment)
            for moment in (at(86399), at(days=1), at(2 * 86400 - 1), at(days=2))
        )
    ]
    assert shown == [False, True, True, False]


def test_nothing_eligible_serves_the_fallback_which_is_logged_and_never_learned(make_loop, api, unique, at):
    offer, shown = unique("paused"), unique("fallback")
    assert api.put(f"/v1/offers/{offer}", json={"category": "garden", "status": "paused"}).status_code == 200
    assert api.put(f"/v1/offers/{shown}", json={"category": "garden"}).status_code == 200
    loop = make_loop(simulated=True, fallback=shown)
    answer = loop.rank(decision_id="none", candidates=[offer], occurred_at=at())
    assert (answer["offer_id"], answer["use"]) == (shown, "fallback")
    assert answer["ranking"] == []
    again = loop.rank(decision_id="none", candidates=[offer], occurred_at=at())
    assert again == answer
    loop.tick(at(86400))
    record = loop.record("none")
    assert record["use"] == "fallback"
    assert record["removed"] == [{"offer_id": offer, "reason": "status_paused"}]
    assert record["slots"][0]["propensity"] is None
    assert loop.status()["decisions"] == 1


def test_a_fallback_that_the_rules_forbid_is_no_offer(make_loop, api, unique):
    offer = unique("paused")
    assert api.put(f"/v1/offers/{offer}", json={"category": "garden", "status": "paused"}).status_code == 200
    for fallback in (offer, "never-made"):
        answer = make_loop(fallback=fallback).rank(candidates=[offer])
        assert (answer["offer_id"], answer["use"]) == ("no-offer", "fallback")


def test_unknown_candidates_are_named(make_loop, api, problem):
    loop = make_loop()
    body = {"loop": loop.name, "candidates": ["never-made", {"offer_id": "fine"}, "nor-this"]}
    detail = problem(api.post("/v1/rank", json=body), 400)
    assert "never-made" in json.dumps(detail)
    assert "nor-this" in json.dumps(detail)


@pytest.mark.parametrize("candidates", [[], [""], [5], [{"features": {}}], [{"offer_id": "a"}, {"offer_id": "a"}]])
def test_bad_candidates_are_refused(make_loop, api, problem, candidates):
    body = problem(api.post("/v1/rank", json={"loop": make_loop().name, "candidates": candidates}), 400)
    assert "candidates" in body["detail"]


def test_a_thousand_candidates(make_loop):
    many = [{"offer_id": f"o{number}", "features": {"n": number}} for number in range(1000)]
    ranking = make_loop().rank(candidates=many)["ranking"]
    assert len(ranking) == 1000
    assert sum(ranked["probability"] for ranked in ranking) == pytest.approx(1, abs=1e-6)
    assert min(ranked["probability"] for ranked in ranking) >= 0.02 / 1000 - 1e-12


def test_catalogue_versions_are_in_the_record(make_loop, api, unique):
    offer = unique("versioned")
    loop = make_loop()
    for discount in (0.1, 0.2):
        assert (
            api.put(f"/v1/offers/{offer}", json={"category": "g", "features": {"discount": discount}}).status_code
            == 200
        )
        answer = loop.rank(candidates=[offer, {"offer_id": "inline", "features": {"z": 1}}])
        eligible = {row["offer_id"]: row for row in loop.record(answer["decision_id"])["eligible"]}
        assert eligible[offer]["features"]["discount"] == discount
        assert eligible[offer]["version"] == round(discount * 10)
        assert eligible["inline"]["version"] == 0
        assert eligible["inline"]["features"] == {"z": 1}


def test_plain_routes_are_the_default_loop(api, unique):
    ids = [unique("plain"), unique("plain")]
    for route, decision_id in zip(("", "/v1"), ids, strict=True):
        answer = api.post(f"{route}/rank", json={"decision_id": decision_id, "candidates": THREE})
        assert answer.status_code == 200, answer.text
        assert api.post(f"{route}/reward", json={"decision_id": decision_id, "value": 1.0}).status_code == 202
        assert api.get(f"/v1/decisions/{decision_id}").json()["loop"] == "default"
    repeated = api.post("/v1/rank", json={"decision_id": ids[0], "candidates": THREE, "loop": "default"})
    assert repeated.status_code == 200
    assert api.post("/rank", json={"decision_id": ids[0], "candidates": THREE}).json() == repeated.json()


def test_batch_answers_in_order(make_loop):
    one, two = make_loop(), make_loop()
    requests = [
        {"loop": loop.name, "decision_id": f"d{number}", "candidates": THREE}
        for number in range(5)
        for loop in (one, two)
    ]
    answer = one.api.post("/v1/rank/batch", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    decisions = answer.json()["decisions"]
    assert [decision["decision_id"] for decision in decisions] == [request["decision_id"] for request in requests]
    assert one.api.post("/v1/rank/batch", json={"requests": requests}).json()["decisions"] == decisions
    assert one.rank(decision_id="d3", candidates=THREE) == decisions[6]


BAD_CALLS = {
    "unknown offer": {"candidates": ["never-made"]},
    "unknown loop": {"loop": "never-made", "candidates": THREE},
    "extra field": {"candidates": THREE, "surprise": 1},
    "conflict": {"candidates": THREE, "decision_id": "taken", "context": {"a": {"x": 2}}},
    "time": {"candidates": THREE, "occurred_at": None},
}


@pytest.mark.parametrize("bad", BAD_CALLS)
def test_one_bad_call_refuses_the_batch(make_loop, at, problem, bad):
    loop = make_loop(simulated=True)
    loop.rank(decision_id="taken", candidates=THREE, occurred_at=at())
    good = [{"loop": loop.name, "decision_id": f"g{n}", "candidates": THREE, "occurred_at": at()} for n in range(3)]
    call = {"loop": loop.name, "occurred_at": at(), **BAD_CALLS[bad]}
    answer = loop.api.post("/v1/rank/batch", json={"requests": [*good[:2], call, good[2]]})
    assert 400 <= answer.status_code < 500
    problem(answer, answer.status_code)
    for number in range(3):
        loop.record(f"g{number}", expect=404)
    loop.tick(at(1))
    assert loop.status()["decisions"] == 1


def test_doubles_inside_a_batch(make_loop, at):
    loop = make_loop(simulated=True)
    call = {"loop": loop.name, "decision_id": "d", "candidates": THREE, "occurred_at": at()}
    answer = loop.api.post("/v1/rank/batch", json={"requests": [call, call]})
    if answer.status_code == 200:
        first, second = answer.json()["decisions"]
        assert first == second
    else:
        assert answer.status_code in (400, 409)
    clash = loop.api.post(
        "/v1/rank/batch", json={"requests": [{**call, "decision_id": "e", "context": c} for c in ({}, {"a": {"x": 1}})]}
    )
    assert clash.status_code in (400, 409), clash.text
    loop.record("e", expect=404)
    loop.tick(at(1))
    assert loop.status()["decisions"] == int(answer.status_code == 200)


@pytest.mark.parametrize("count", [0, 101])
def test_batch_sizes(make_loop, problem, count):
    loop = make_loop()
    requests = [{"loop": loop.name, "candidates": THREE}] * count
    problem(loop.api.post("/v1/rank/batch", json={"requests": requests}), 400)


def test_wall_loops_refuse_other_times(make_loop, wall, problem):
    loop = make_loop()
    for shift in ({"minutes": -6}, {"minutes": 6}, {"days": -400}):
        moment = wall(**shift)
        body = {"loop": loop.name, "candidates": THREE, "occurred_at": moment}
        refused = problem(loop.api.post("/v1/rank", json=body), 400)
        assert "occurred_at" in refused["detail"]
    for shift in ({"minutes": -4}, {"minutes": 4}):
        loop.rank(occurred_at=wall(**shift))


def test_simulated_loops_need_a_time(make_loop, problem):
    loop = make_loop(simulated=True)
    refused = problem(loop.api.post("/v1/rank", json={"loop": loop.name, "candidates": THREE}), 400)
    assert "occurred_at" in refused["detail"]


@pytest.mark.parametrize("moment", ["2020-01-06T12:00:00", "yesterday", 5e300, True])
def test_times_without_zone_are_refused(make_loop, problem, moment):
    loop = make_loop(simulated=True)
    body = {"loop": loop.name, "candidates": THREE, "occurred_at": moment}
    assert "occurred_at" in problem(loop.api.post("/v1/rank", json=body), 400)["detail"]


def test_wall_loops_refuse_ticks(make_loop, wall, problem):
    loop = make_loop()
    answer = loop.api.post(f"/v1/loops/{loop.name}/ticks", json={"occurred_at": wall()})
    problem(answer, 400)


def test_deferred_decisions_wait_for_activation(make_loop, at):
    loop = make_loop(simulated=True)
    for name in ("shown", "unshown"):
        loop.rank(decision_id=name, defer_activation=True, occurred_at=at())
        assert loop.record(name)["deferred"] is True
    loop.activate("shown", occurred_at=at(1))
    loop.activate("shown", occurred_at=at(1))
    loop.tick(at(5))
    loop.tick(at(hours=1))
    assert loop.record("shown")["state"] == "closed"
    assert loop.record("unshown")["state"] == "inactive"
    status = loop.status()
    assert (status["decisions"], status["interactions"], status["open"]) == (2, 1, 0)


def test_time_features_follow_the_loops_zone(make_loop):
    moment = "2020-01-31T20:00:00Z"  # in Tokyo it is Saturday 1 February, 5 in the morning
    seasons = []
    for zone in ("UTC", "Asia/Tokyo"):
        loop = make_loop(simulated=True, time_zone=zone)
        seasons.append(loop.record(loop.rank(occurred_at=moment)["decision_id"])["context"]["S"])
    utc, tokyo = seasons
    for name in ("month", "weekday", "day_part"):
        assert utc[name] != tokyo[name], seasons
    assert utc["season"] == tokyo["season"]


def test_the_same_instant_in_other_zones_is_the_same_time(make_loop):
    loop = make_loop(simulated=True, time_zone="Asia/Tokyo")
    times = ("2020-01-31T20:00:00Z", "2020-02-01T05:00:00+09:00", "2020-01-31T15:00:00-05:00")
    records = [loop.record(loop.rank(occurred_at=moment)["decision_id"]) for moment in times]
    assert records[0]["context"] == records[1]["context"] == records[2]["context"]


def test_identity_is_no_feature(make_loop, api, unique):
    customer = unique("cust") + "-zebra"
    assert api.put(f"/v1/customers/{customer}", json={"demographics": {"age_band": "35-44"}}).status_code == 200
    loop = make_loop()
    record = loop.record(loop.rank(customer_id=customer, context={"page": {"kind": "home"}})["decision_id"])
    assert record["customer_id"] == customer
    features = json.dumps([record["context"], record["eligible"]])
    assert customer not in features
    assert "35-44" in features


@pytest.mark.parametrize(
    ("name", "value"),
    [("email", "zoe@example.org"), ("name", "Zoe Zimmer"), ("latitude", 47.3768866), ("phone", "+41 44 668 18 00")],
)
def test_names_addresses_and_coordinates_are_no_features(make_loop, api, unique, name, value):
    """They are refused, or kept out of the policy's sight (DESIGN 4.12)."""
    customer = unique("cust")
    stored = api.put(f"/v1/customers/{customer}", json={"demographics": {name: value}})
    assert stored.status_code in (200, 400)
    loop = make_loop()
    record = loop.record(loop.rank(customer_id=customer)["decision_id"])
    assert str(value) not in json.dumps([record["context"], record["eligible"]])


def test_unknown_customers_and_no_customer_are_served(make_loop, unique):
    loop = make_loop()
    assert loop.rank(customer_id=unique("stranger"))["offer_id"]
    assert loop.record(loop.rank()["decision_id"])["customer_id"] is None


def test_logging_only_says_so(make_loop):
    loop = make_loop(learning_mode="logging_only")
    answer = loop.rank()
    assert answer["learning_mode"] == "logging_only"
    assert loop.record(answer["decision_id"])["learning_mode"] == "logging_only"


def test_unknown_loop_and_decision_are_404(api, problem, make_loop):
    assert (
        "no-such-loop"
        in problem(api.post("/v1/rank", json={"loop": "no-such-loop", "candidates": THREE}), 404)["detail"]
    )
    loop = make_loop()
    answer = api.get("/v1/decisions/no-such-decision", params={"loop": loop.name})
    assert "no-such-decision" in problem(answer, 404)["detail"]


def test_decision_ids_may_hold_any_printable_text(make_loop):
    loop = make_loop()
    for decision_id in ("a/b", "ä ö", "😀", "a:b|c", "%2F", "x" * 256):
        assert loop.rank(decision_id=decision_id)["decision_id"] == decision_id
        from urllib.parse import quote

        assert loop.record(quote(decision_id, safe=""))["decision_id"] == decision_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decision_id", ""),
        ("decision_id", "x" * 257),
        ("decision_id", 5),
        ("customer_id", ""),
        ("context", []),
        ("context", "text"),
        ("defer_activation", "perhaps"),
        ("loop", "UPPER CASE"),
        ("nonsense", 1),
    ],
)
def test_bad_fields_are_refused_by_name(make_loop, problem, field, value):
    loop = make_loop()
    refused = problem(loop.api.post("/v1/rank", json={"loop": loop.name, "candidates": THREE, field: value}), 400)
    assert field in refused["detail"]
    assert field in json.dumps(refused.get("errors", refused["detail"]))


def test_forty_loops_at_once(make_loop, at):
    """Loops are cheap: each of forty learns."""
    loops = [make_loop(simulated=True) for _ in range(40)]
    for loop in loops:
        loop.rank(decision_id="d", occurred_at=at())
        loop.reward("d", value=1.0, final=True, occurred_at=at(1))
    for loop in loops:
        loop.tick(at(2))
        assert loop.status()["interactions"] == 1
