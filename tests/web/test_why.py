"""Why a decision fell as it did: what was removed, what spoke for each offer, and what was not known."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

FLOOR = 0.3
STEPS = 240
THREE = [
    {"offer_id": "a", "features": {"category": "garden"}},
    {"offer_id": "b", "features": {"category": "tools"}},
    {"offer_id": "c", "features": {"category": "toys"}},
]
GOOD = {"phone": "b", "desk": "c"}


def context(kind, noise="p"):
    return {"device": {"kind": kind}, "noise": {"x": noise}}


@pytest.fixture(scope="module")
def trained(lasting_loop, at, until):
    """A loop that has learned to show `b` on phones and `c` elsewhere, whatever the noise is."""
    loop = lasting_loop(simulated=True, exploration_floor=FLOOR, export_frequency_seconds=1)
    noise = random.Random(7)
    for step in range(STEPS):
        kind = ("phone", "desk")[step % 2]
        decision = loop.rank(
            context=context(kind, noise.choice("pqrs")), candidates=THREE, occurred_at=at(step), explain=step % 5 == 0
        )
        loop.reward(
            decision["decision_id"], value=float(decision["offer_id"] == GOOD[kind]), final=True, occurred_at=at(step)
        )
        if step % 60 == 59:
            loop.tick(at(step + 0.9))
    loop.tick(at(STEPS + 10))
    last = loop.status()["snapshot_id"]
    until(lambda: loop.rank(occurred_at=at(STEPS + 20))["snapshot_id"] == last, what="swap")
    return loop


@pytest.fixture(scope="module")
def later(at):
    return at(STEPS + 60)


@pytest.fixture(scope="module")
def offer(api, unique):
    made = []

    def make(**body):
        made.append(unique("offer"))
        answer = api.put(f"/v1/offers/{made[-1]}", json={"category": "garden", **body})
        assert answer.status_code == 200, answer.text
        return made[-1]

    yield make
    for offer_id in made:
        assert api.delete(f"/v1/offers/{offer_id}").status_code == 204


@pytest.fixture(scope="module")
def why_of(api):
    def ask(loop, decision_id):
        answer = api.get(f"/v1/decisions/{decision_id}/why", params={"loop": loop.name})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


def by_offer(why):
    return {entry["offer_id"]: entry for entry in why["offers"]}


def test_the_route_and_explain_say_the_same(trained, why_of, later):
    answer = trained.rank(context=context("phone"), candidates=THREE, occurred_at=later, explain=True)
    why = answer["why"]
    assert why == why_of(trained, answer["decision_id"])
    assert (why["loop"], why["decision_id"], why["use"]) == (trained.name, answer["decision_id"], "learn")
    assert why["offer_id"] == answer["offer_id"] == why["offers"][0]["offer_id"]
    assert {entry["offer_id"]: entry["probability"] for entry in why["offers"]} == {
        entry["offer_id"]: entry["probability"] for entry in answer["ranking"]
    }
    record = trained.record(answer["decision_id"])
    given = dict(
        zip(
            [entry["offer_id"] for entry in record["eligible"]], record["slots"][0]["policy_probabilities"], strict=True
        )
    )
    assert {entry["offer_id"]: entry["policy_probability"] for entry in why["offers"]} == given
    assert (why["sources"], why["removed"], why["dropped"]) == (record["sources"], [], [])


@pytest.mark.parametrize("kind", ["phone", "desk"])
def test_what_matters_contributes_most(trained, later, kind):
    why = trained.rank(context=context(kind), candidates=THREE, occurred_at=later, explain=True)["why"]
    offers = by_offer(why)
    good = offers[GOOD[kind]]
    assert good["score"] == max(entry["score"] for entry in offers.values())
    assert good["score"] > 0.6
    assert f"device.kind={kind}" in good["contributions"][0]["name"]
    assert good["contributions"][0]["reward"] > 0
    other = offers[GOOD[{"phone": "desk", "desk": "phone"}[kind]]]
    against = [one for one in other["contributions"] if f"device.kind={kind}" in one["name"]]
    assert against
    assert all(one["reward"] < 0 for one in against), "the device speaks against the other one"

    def size(entry, part):
        return max((abs(one["reward"]) for one in entry["contributions"] if part in one["name"]), default=0.0)

    assert size(good, "device.kind") > 2 * size(good, "noise.x")


def test_contributions_are_the_largest_and_add_up_to_the_score(trained, later):
    why = trained.rank(context=context("desk"), candidates=THREE, occurred_at=later, explain=True)["why"]
    for entry in why["offers"]:
        sizes = [abs(one["reward"]) for one in entry["contributions"]]
        assert sizes
        assert sizes == sorted(sizes, reverse=True)
        assert sum(one["reward"] for one in entry["contributions"]) + entry["rest"] == pytest.approx(
            entry["score"], abs=1e-4
        )
        assert entry["others"] > 0
        assert all(
            set(one) == {"name", "value", "reward", "shared"} and isinstance(one["name"], str)
            for one in entry["contributions"]
        )


def test_an_untrained_policy_has_nothing_to_say(make_loop, at):
    why = make_loop(simulated=True).rank(candidates=THREE, occurred_at=at(), explain=True)["why"]
    assert [(entry["score"], entry["contributions"]) for entry in why["offers"]] == [(0.0, [])] * 3


def test_exploration_is_a_draw_of_another_than_the_likeliest(trained, later):
    seen = Counter()
    for number in range(60):
        kind = ("phone", "desk")[number % 2]
        answer = trained.rank(context=context(kind), candidates=THREE, occurred_at=later, explain=True)
        ranking = {entry["offer_id"]: entry["probability"] for entry in answer["ranking"]}
        is_likeliest = ranking[answer["offer_id"]] == max(ranking.values())
        assert answer["why"]["is_exploration"] is not is_likeliest
        assert is_likeliest == (answer["offer_id"] == GOOD[kind])
        seen[is_likeliest] += 1
    assert seen[True] > seen[False] > 0


def test_a_draw_among_equals_is_no_exploration(make_loop, at):
    loop = make_loop(simulated=True, exploration_floor=1.0)
    for _ in range(5):
        assert loop.rank(candidates=THREE, occurred_at=at(), explain=True)["why"]["is_exploration"] is False


def test_removed_offers_and_their_reasons(trained, offer, why_of, later):
    wet = offer(rules=[{"code": "wet", "require": {"fact": "weather.condition", "is": "rain"}}])
    draft, adult, gone, good = offer(status="draft"), offer(minimum_age=18), offer(limits={"stock": 0}), offer()
    answer = trained.rank(candidates=[wet, draft, adult, gone, good], occurred_at=later, explain=True)
    reasons = {wet: "rule:wet", draft: "status_draft", adult: "age_unknown", gone: "cap_exhausted"}
    assert {entry["offer_id"]: entry["reason"] for entry in answer["why"]["removed"]} == reasons
    assert [entry["offer_id"] for entry in answer["why"]["offers"]] == [good]
    assert why_of(trained, answer["decision_id"]) == answer["why"]


def test_what_was_not_known_is_named(trained, api, unique, later):
    def missing(**body):
        return set(trained.rank(candidates=THREE, occurred_at=later, explain=True, **body)["why"]["missing"])

    unknown = missing()
    assert {"D", "H", "P", "W", "L"} <= unknown
    assert "S" not in unknown
    who = unique("customer")
    body = {"demographics": {"household_size": 2}, "preferences": {"likes": "x"}, "region": "US-WA"}
    assert api.put(f"/v1/customers/{who}", json=body).status_code == 200
    act = {"customer_id": who, "kind": "purchase", "category": "tools", "amount": 5, "occurred_at": later}
    assert api.post("/v1/activity", params={"wait": "applied"}, json={"activities": [act]}).status_code == 202
    assert not missing(customer_id=who) & {"D", "H", "P", "L"}
    assert "W" in missing(customer_id=who)
    sent = {"demographics": {"age": 30}, "preferences": {"likes": "x"}, "weather": {"band": "hot"}}
    assert not {name for name in missing(context=sent) if name in ("D", "P")}, "what was sent is known"


def test_dropped_features_are_named(make_loop, api, at, why_of):
    loop = make_loop(simulated=True)
    schema = {"features": {"vip": {"type": "boolean"}}, "unknown": "drop"}
    assert api.put(f"/v1/loops/{loop.name}/schema", json=schema).status_code == 200
    answer = loop.rank(context={"vip": "yes", "mood": "good"}, occurred_at=at(), explain=True)
    assert sorted(answer["why"]["dropped"]) == ["mood", "vip"]
    assert sorted(why_of(loop, answer["decision_id"])["dropped"]) == ["mood", "vip"]


def test_a_fallback_says_so(trained, offer, why_of, later):
    draft = offer(status="draft")
    answer = trained.rank(candidates=[draft], occurred_at=later, explain=True)
    why = answer["why"]
    assert (why["use"], why["is_exploration"]) == ("fallback", False)
    assert "fallback" in why["note"]
    assert why["removed"] == [{"offer_id": draft, "reason": "status_draft"}]
    assert [(entry["offer_id"], entry["probability"]) for entry in why["offers"]] == [(answer["offer_id"], None)]
    assert why_of(trained, answer["decision_id"]) == why


@pytest.mark.parametrize("serves", ["baseline", "no_offer"])
def test_a_holdout_says_so(make_loop, at, why_of, serves):
    loop = make_loop(simulated=True, holdout={"share": 0.9, "serves": serves})
    answers = [
        loop.rank(customer_id=f"customer-{number}", candidates=THREE, occurred_at=at(), explain=True)
        for number in range(8)
    ]
    answer = next(answer for answer in answers if answer["use"] == "holdout")
    assert (answer["why"]["use"], answer["why"]["is_exploration"]) == ("holdout", False)
    assert why_of(loop, answer["decision_id"]) == answer["why"]
    assert "held out" in answer["why"]["note"].lower() or "holdout" in answer["why"]["note"].lower()


def test_the_reasons_stay_those_of_the_model_that_decided(make_loop, why_of, at, until):
    """The loop learns the opposite afterwards; what is said of an old decision does not change."""
    loop = make_loop(simulated=True, exploration_floor=0.5, export_frequency_seconds=1)
    old = loop.rank(candidates=THREE, occurred_at=at(), explain=True)
    assert old["why"] == why_of(loop, old["decision_id"])
    for second in range(60):
        answer = loop.rank(candidates=THREE, occurred_at=at(second))
        value = float(answer["offer_id"] == "a")
        loop.reward(answer["decision_id"], value=value, final=True, occurred_at=at(second))
    loop.tick(at(70))
    new = loop.status()["snapshot_id"]
    until(lambda: loop.rank(candidates=THREE, occurred_at=at(80))["snapshot_id"] == new, what="swap")
    latest = loop.rank(candidates=THREE, occurred_at=at(80), explain=True)
    assert latest["snapshot_id"] != old["snapshot_id"]
    assert by_offer(latest["why"])["a"]["score"] > 0
    loop.reward(old["decision_id"], value=0.0, final=True, occurred_at=at(81))
    loop.tick(at(90))
    assert loop.record(old["decision_id"])["state"] == "closed"
    assert why_of(loop, old["decision_id"]) == old["why"]
    assert why_of(loop, latest["decision_id"]) == latest["why"]


def test_to_ask_why_does_not_change_the_decision(trained, later, unique):
    one, two = unique("decision"), unique("decision")
    body = {"context": context("phone"), "candidates": THREE, "occurred_at": later}
    asked = trained.rank(decision_id=one, explain=True, **body)
    plain = trained.rank(decision_id=one, **body)
    assert "why" not in plain
    assert plain == {name: value for name, value in asked.items() if name != "why"}
    first = trained.rank(decision_id=two, **body)
    second = trained.rank(decision_id=two, explain=True, **body)
    assert {name: value for name, value in second.items() if name != "why"} == first
    assert second["why"]["offer_id"] == first["offer_id"]
    assert second["why"]["decision_id"] == two
    probabilities = [
        {entry["offer_id"]: entry["probability"] for entry in answer["ranking"]} for answer in (asked, first)
    ]
    assert probabilities[0] == probabilities[1]


def test_many_at_once_with_and_without_reasons(trained, api, why_of, later):
    body = {"loop": trained.name, "candidates": THREE, "occurred_at": later}
    requests = [
        {**body, "context": context(("phone", "desk")[number % 2]), "explain": number % 3 == 0} for number in range(9)
    ]
    answer = api.post("/v1/rank/batch", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    for request, decision in zip(requests, answer.json()["decisions"], strict=True):
        assert ("why" in decision) is request["explain"]
        if request["explain"]:
            assert decision["why"] == why_of(trained, decision["decision_id"])


def test_nobody_knows_why_of_an_unknown_decision(trained, make_loop, api, problem, later):
    missing = api.get("/v1/decisions/nobody-made-this/why", params={"loop": trained.name})
    assert "nobody-made-this" in problem(missing, 404)["detail"]
    made = trained.rank(candidates=THREE, occurred_at=later)["decision_id"]
    problem(api.get(f"/v1/decisions/{made}/why", params={"loop": make_loop().name}), 404)
    assert api.get(f"/v1/decisions/{made}/why", params={"loop": trained.name}).status_code == 200


def test_no_reason_names_a_customer(trained, api, unique, later):
    who = unique("customer")
    assert api.put(f"/v1/customers/{who}", json={"age": 33, "demographics": {"children": 2}}).status_code == 200
    why = trained.rank(customer_id=who, candidates=THREE, occurred_at=later, explain=True)["why"]
    assert who not in json.dumps(why)
