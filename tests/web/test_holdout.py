"""Customers who are held out: always the same share, served the baseline or nothing, never trained on."""

from __future__ import annotations

import math
from collections import Counter

import pytest

CUSTOMERS = 400
SHARE = 0.25


@pytest.fixture(scope="module")
def offer(api, unique):
    """Store an offer of a category of its own and return its id."""
    made = []

    def make(**body):
        made.append(unique("offer"))
        answer = api.put(f"/v1/offers/{made[-1]}", json={"category": made[-1], **body})
        assert answer.status_code == 200, answer.text
        return made[-1]

    yield make
    for offer_id in made:
        assert api.delete(f"/v1/offers/{offer_id}").status_code == 204


@pytest.fixture(scope="module")
def offers(offer):
    """By name: two plain ones, one that needs rain, and one that is used up."""
    wet = [{"code": "wet", "require": {"fact": "weather.condition", "is": "rain"}}]
    return {
        "first": offer(),
        "second": offer(),
        "umbrella": offer(rules=wet),
        "gone": offer(limits={"stock": 0}),
    }


@pytest.fixture(scope="module")
def baseline_loop(lasting_loop, offers):
    baseline = {
        "affinity": "order_share",
        "threshold": 0.3,
        "priority": [offers["umbrella"], offers["second"], offers["first"]],
    }
    return lasting_loop(
        simulated=True,
        exploration_floor=1.0,
        export_frequency_seconds=1,
        holdout={"share": SHARE, "serves": "baseline"},
        baseline=baseline,
    )


@pytest.fixture(scope="module")
def no_offer_loop(lasting_loop):
    return lasting_loop(simulated=True, exploration_floor=1.0, holdout={"share": SHARE, "serves": "no_offer"})


@pytest.fixture(scope="module")
def everybody(api, offers, at, unique):
    """One decision for each of 400 customers on a loop, in batches: what was answered, by customer."""
    prefix = unique("crowd")

    def ask(loop, second=0):
        candidates = [offers["first"], offers["second"], offers["umbrella"]]
        requests = [
            {
                "loop": loop.name,
                "customer_id": f"{prefix}-{number}",
                "candidates": candidates,
                "occurred_at": at(second),
            }
            for number in range(CUSTOMERS)
        ]
        answers = {}
        for start in range(0, CUSTOMERS, 100):
            batch = requests[start : start + 100]
            answer = api.post("/v1/rank/batch", json={"requests": batch})
            assert answer.status_code == 200, answer.text
            for request, decision in zip(batch, answer.json()["decisions"], strict=True):
                answers[request["customer_id"]] = decision
        return answers

    return ask


@pytest.fixture(scope="module")
def crowd(baseline_loop, everybody):
    return everybody(baseline_loop)


def held(answers):
    return {customer for customer, answer in answers.items() if answer["use"] == "holdout"}


def test_the_share_is_about_right_and_sticky(crowd, baseline_loop, no_offer_loop, everybody):
    deviation = math.sqrt(CUSTOMERS * SHARE * (1 - SHARE))
    assert abs(len(held(crowd)) - CUSTOMERS * SHARE) < 4 * deviation
    assert held(everybody(baseline_loop, 86400)) == held(crowd)
    elsewhere = held(everybody(no_offer_loop))
    assert abs(len(elsewhere) - CUSTOMERS * SHARE) < 4 * deviation
    assert elsewhere != held(crowd), "each loop holds out customers of its own"
    assert {answer["use"] for answer in crowd.values()} == {"learn", "holdout"}


def test_a_larger_share_keeps_who_was_held_out(make_loop, api, everybody):
    loop = make_loop(simulated=True, holdout={"share": 0.1})
    few = held(everybody(loop))
    more = {"clock": "simulated", "close_on_final": True, "holdout": {"share": 0.3}}
    assert api.put(f"/v1/loops/{loop.name}", json=more).status_code == 200
    assert few < held(everybody(loop))


def test_the_held_out_get_the_baseline_and_the_others_the_policy(crowd, baseline_loop, offers):
    shown = Counter((answer["use"], answer["offer_id"]) for answer in crowd.values())
    assert {pair for pair in shown if pair[0] == "holdout"} == {("holdout", offers["second"])}
    assert set(shown) - {("holdout", offers["second"])} == {("learn", offers["first"]), ("learn", offers["second"])}
    one = next(answer for answer in crowd.values() if answer["use"] == "holdout")
    record = baseline_loop.record(one["decision_id"])
    assert record["use"] == "holdout"
    assert record["slots"][0]["propensity"] == 1.0
    assert {entry["offer_id"]: entry["reason"] for entry in record["removed"]} == {offers["umbrella"]: "rule:wet"}
    assert {entry["offer_id"]: entry["probability"] for entry in one["ranking"]} == {
        offers["second"]: 1.0,
        offers["first"]: 0.0,
    }


def test_the_baseline_goes_by_affinity_then_by_the_first_of_its_list_that_is_eligible(
    crowd, baseline_loop, offers, api, at, until
):
    """An order of the only one counts 1 / 3 in `order_share`, which exceeds the threshold."""
    who = min(held(crowd))
    buy = {"customer_id": who, "kind": "purchase", "category": offers["first"], "amount": 9, "occurred_at": at(days=2)}
    assert api.post("/v1/activity", params={"wait": "applied"}, json={"activities": [buy]}).status_code == 202
    candidates = [offers[name] for name in ("second", "first", "umbrella")]

    def shown(**body):
        answer = baseline_loop.rank(customer_id=who, **{"candidates": candidates, "occurred_at": at(days=3), **body})
        assert answer["use"] == "holdout"
        return answer["offer_id"]

    until(lambda: shown() == offers["first"], 2, "the purchase shows")
    assert shown(occurred_at=at(days=1)) == offers["second"], "before it was bought"
    rain = {"weather": {"condition": "rain", "band": "cool", "precipitation": "light"}}
    assert shown(occurred_at=at(days=1), context=rain) == offers["umbrella"]
    assert shown(occurred_at=at(days=1), candidates=[offers["first"], offers["umbrella"]]) == offers["first"]


def test_what_is_used_up_is_not_the_baseline(make_loop, everybody, offers, at):
    """The next of the list takes its place."""
    order = [offers["gone"], offers["second"], offers["first"]]
    loop = make_loop(simulated=True, holdout={"share": 0.9}, baseline={"threshold": 1e9, "priority": order})
    who = min(held(everybody(loop)))
    answer = loop.rank(customer_id=who, candidates=order[::-1], occurred_at=at())
    removed = loop.record(answer["decision_id"])["removed"]
    assert removed == [{"offer_id": offers["gone"], "reason": "cap_exhausted"}]
    assert (answer["use"], answer["offer_id"]) == ("holdout", offers["second"])


def test_no_offer_for_the_held_out(no_offer_loop, everybody, offers, offer, at):
    who = min(held(everybody(no_offer_loop)))
    answer = no_offer_loop.rank(customer_id=who, candidates=[offers["first"]], occurred_at=at())
    assert (answer["use"], answer["offer_id"]) == ("holdout", "no-offer")
    record = no_offer_loop.record(answer["decision_id"])
    assert [entry["offer_id"] for entry in record["removed"]] == [offers["first"]]
    nothing = offer(type="none")
    answer = no_offer_loop.rank(customer_id=who, candidates=[offers["first"], nothing], occurred_at=at())
    assert (answer["use"], answer["offer_id"]) in {("holdout", "no-offer"), ("holdout", nothing)}


def test_callers_without_an_id_are_not_held_out(baseline_loop, offers, at):
    uses = {baseline_loop.rank(candidates=[offers["first"]], occurred_at=at())["use"] for _ in range(30)}
    assert uses == {"learn"}


def test_rewards_are_recorded_and_never_trained_on(make_loop, everybody, offers, at, until):
    """Only the held out get rewards, and plenty; what the policy thinks of the offers does not move."""
    loop = make_loop(
        simulated=True,
        exploration_floor=0.1,
        export_frequency_seconds=1,
        holdout={"share": SHARE},
        baseline={"threshold": 1e9, "priority": [offers["second"]]},
    )
    answers = everybody(loop)
    out = sorted(held(answers))
    for customer in out:
        loop.reward(answers[customer]["decision_id"], kind="click", final=True, occurred_at=at(5))
    loop.tick(at(30))
    assert loop.status()["interactions"] == len(out)
    record = loop.record(answers[out[0]]["decision_id"])
    assert (record["state"], record["use"], record["reward"]) == ("closed", "holdout", 1.0)
    assert [outcome["kind"] for outcome in record["outcomes"]] == ["click"]

    def scores():
        why = loop.rank(candidates=[offers["first"], offers["second"]], occurred_at=at(40), explain=True)["why"]
        assert why["use"] == "learn"
        return {entry["score"] for entry in why["offers"]}, {entry["probability"] for entry in why["offers"]}

    published = loop.status()["snapshot_id"]
    until(
        lambda: loop.rank(candidates=[offers["first"]], occurred_at=at(40))["snapshot_id"] == published, what="the swap"
    )
    assert scores() == ({0.0}, {0.5})
    others = [customer for customer in answers if customer not in out][:50]
    for customer in others:
        loop.reward(answers[customer]["decision_id"], kind="click", final=True, occurred_at=at(35))
    loop.tick(at(60))
    until(lambda: scores()[0] != {0.0}, 5, "the others are learned from")
