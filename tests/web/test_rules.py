"""Who may get an offer: every gate with its reason, limits and their way back, tiers, promotion and the fallback."""

from __future__ import annotations

from collections import Counter

import pytest

RAIN = {"weather": {"temperature_c": 9, "precipitation_mm": 4, "condition": "rain"}}
SUN = {"weather": {"temperature_c": 29, "precipitation_mm": 0, "condition": "clear"}}


@pytest.fixture(scope="module")
def offer(api, unique):
    """Store an offer and return its id."""
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
def plain(offer):
    """An offer that anybody may get."""
    return offer()


@pytest.fixture(scope="module")
def world(lasting_loop):
    """A loop whose decisions stay open for a year of its clock, unless a final outcome ends them."""
    return lasting_loop(simulated=True, exploration_floor=1.0, reward={"wait_seconds": 7000000})


@pytest.fixture(scope="module")
def customer(api, unique):
    def make(**body):
        name = unique("customer")
        answer = api.put(f"/v1/customers/{name}", json=body)
        assert answer.status_code == 200, answer.text
        return name

    return make


@pytest.fixture(scope="module")
def decide(world, at):
    """What was shown and what was removed: the offer's id, and the reasons by offer, as the log has them."""

    def rank(candidates, moment=None, loop=world, **body):
        answer = loop.rank(candidates=candidates, occurred_at=moment or at(), **body)
        record = loop.record(answer["decision_id"])
        removed = {entry["offer_id"]: entry["reason"] for entry in record["removed"]}
        assert len(removed) == len(record["removed"])
        (slot,) = record["slots"]
        named = {entry if isinstance(entry, str) else entry["offer_id"] for entry in candidates}
        offered = {entry["offer_id"]: entry["probability"] for entry in answer["ranking"]}
        assert set(offered) == named - set(removed), "every candidate is either offered or removed"
        if record["use"] != "fallback":
            seen = [entry["offer_id"] for entry in record["eligible"]]
            served = dict(zip(seen, slot["served_probabilities"], strict=True))
            assert {name: served.pop(name) for name in offered} == offered
            assert not any(served.values()), "what was used up could not be drawn"
            assert sum(offered.values()) == pytest.approx(1, abs=1e-9)
        assert answer["offer_id"] == slot["offer_id"]
        return answer, removed

    return rank


# The gates


@pytest.mark.parametrize(
    ("body", "fails", "reason", "passes"),
    [
        ({"status": "draft"}, {}, "status_draft", None),
        ({"status": "paused"}, {}, "status_paused", None),
        ({"status": "ended"}, {}, "status_ended", None),
        ({"channels": ["app", "mail"]}, {}, "channel", {"channel": "app"}),
        ({"channels": ["app", "mail"]}, {"channel": "web"}, "channel", {"channel": "mail"}),
        ({"regions": ["US-WA"]}, {}, "region", {"region": "US-WA"}),
        ({"regions": ["US-WA"]}, {"region": "US-OR"}, "region", {"region": "US-WA"}),
        ({"minimum_age": 18}, {}, "age_unknown", {"context": {"demographics": {"age": 18}}}),
        ({"minimum_age": 18}, {"context": {"demographics": {"age": 17}}}, "too_young", None),
        (
            {"minimum_age": 30},
            {"context": {"demographics": {"age_band": "25-34"}}},
            "too_young",
            {"context": {"demographics": {"age_band": "35-44"}}},
        ),
    ],
)
def test_gates(decide, offer, plain, body, fails, reason, passes):
    gated = offer(**body)
    answer, removed = decide([gated, plain], **fails)
    assert removed == {gated: reason}
    assert answer["ranking"] == [{"offer_id": plain, "probability": 1.0}]
    if passes:
        assert decide([gated, plain], **passes)[1] == {}


def test_dates_count_at_the_moment_and_the_end_is_no_longer_valid(decide, offer, plain, at):
    dated = offer(valid_from=at(100), valid_to=at(200))
    reasons = [decide([dated, plain], at(second))[1].get(dated) for second in (99, 100, 199.9, 200)]
    assert reasons == ["not_yet_valid", None, None, "expired"]


def test_the_customers_own_region_and_age_open_gates(decide, offer, plain, customer):
    gated = offer(regions=["US-WA"], minimum_age=21)
    assert decide([gated, plain], customer_id=customer(age=21, region="US-WA"))[1] == {}
    assert decide([gated, plain], customer_id=customer(age=20, region="US-WA"))[1] == {gated: "too_young"}
    assert decide([gated, plain], customer_id=customer(age=21))[1] == {gated: "region"}
    assert decide([gated, plain], customer_id=customer(age=21, region="US-WA"), region="US-OR")[1] == {gated: "region"}


@pytest.mark.parametrize("tag", ["health", "pregnancy", "finance", "alcohol"])
def test_sensitive_offers_need_consent_of_their_name(decide, offer, plain, customer, tag):
    gated = offer(tags=[tag])
    reason = f"consent_{tag}"
    others = dict.fromkeys({"health", "pregnancy", "finance", "alcohol", "personalise"} - {tag}, True)
    for consents in ({}, {tag: False}, others):
        assert decide([gated, plain], customer_id=customer(age=50, consents=consents))[1] == {gated: reason}
    assert decide([gated, plain])[1] == {gated: reason}
    assert decide([gated, plain], customer_id=customer(age=50, consents={tag: True}))[1] == {}
    assert decide([gated, plain], customer_id=customer(consents={tag: True}))[1] == {gated: "age_unknown"}
    too_young = 20 if tag == "alcohol" else 17
    assert decide([gated, plain], customer_id=customer(age=too_young, consents={tag: True}))[1] == {gated: "too_young"}
    assert decide([gated, plain], customer_id=customer(age=too_young + 1, consents={tag: True}))[1] == {}


def test_the_first_gate_that_fails_gives_the_reason(decide, offer, plain, at):
    never = {"code": "never", "require": {"fact": "no.such", "known": True}}
    all_wrong = {
        "status": "paused",
        "valid_from": at(days=9),
        "channels": ["app"],
        "regions": ["US-WA"],
        "tags": ["health"],
        "rules": [never],
        "limits": {"stock": 0},
    }
    changes = [
        ("status", "active", "status_paused"),
        ("valid_from", None, "not_yet_valid"),
        ("channels", [], "channel"),
        ("regions", [], "region"),
        ("tags", [], "consent_health"),
        ("rules", [], "rule:never"),
        ("limits", {}, "cap_exhausted"),
    ]
    offers, reasons = [], []
    for name, value, reason in changes:
        offers.append(offer(**all_wrong))
        reasons.append(reason)
        all_wrong = {**all_wrong, name: value}
    assert decide([*offers, plain])[1] == dict(zip(offers, reasons, strict=True))


# Rules


def test_an_umbrella_offer_when_it_rains(decide, offer, plain):
    wet = {"fact": "weather.condition", "in": ["drizzle", "rain", "thunder"]}
    umbrella = offer(rules=[{"code": "wet", "require": wet}])
    assert decide([umbrella, plain], context=RAIN)[1] == {}
    assert decide([umbrella, plain], context=SUN)[1] == {umbrella: "rule:wet"}
    assert decide([umbrella, plain])[1] == {umbrella: "rule:wet"}, "nobody knows the weather"


def test_what_is_unknown_removes_also_under_not_unless_it_is_asked_for(decide, offer, plain):
    desktop = {"not": {"fact": "device.kind", "is": "desktop"}}
    strict = offer(rules=[{"code": "no_desktop", "require": desktop}])
    lenient = offer(
        rules=[{"code": "no_desktop", "require": {"any": [{"fact": "device.kind", "known": False}, desktop]}}]
    )
    both = [strict, lenient, plain]
    assert decide(both)[1] == {strict: "rule:no_desktop"}
    assert decide(both, context={"device": {"kind": "phone"}})[1] == {}
    assert decide(both, context={"device": {"kind": "desktop"}})[1] == dict.fromkeys(
        (strict, lenient), "rule:no_desktop"
    )
    assert decide(both, context={"device": {"kind": 7}})[1] == {strict: "rule:no_desktop", lenient: "rule:no_desktop"}


def test_rules_on_what_the_customer_is_did_and_said(decide, offer, plain, customer, api, at):
    conditions = {
        "adult": {"fact": "customer.age", "between": [18, 27]},
        "loyal": {"fact": "history.segment", "in": ["transactions_only", "both"]},
        "same": {"fact": "customer.segment", "is": "transactions_only"},
        "asked": {"fact": "customer.consents", "has": "personalise"},
        "likes": {"fact": "preferences.likes", "is": "garden"},
        "large": {"fact": "demographics.household_size", "more_than": 2},
        "winter": {"all": [{"fact": "season.season", "is": "winter"}, {"fact": "season.month", "in": ["m12", "m1"]}]},
        "web": {"fact": "request.channel", "is": "web"},
        "home": {"fact": "customer.region", "is": "US-WA"},
        "near": {"fact": "location.store_distance", "in": ["walk", "near"]},
        "mood": {"fact": "c.mood", "is": "good"},
    }
    offers = {name: offer(rules=[{"code": name, "require": require}]) for name, require in conditions.items()}
    who = customer(
        age=22,
        region="US-WA",
        demographics={"household_size": 3},
        preferences={"likes": "garden"},
        consents={"personalise": True},
    )
    bought = {"customer_id": who, "kind": "purchase", "category": "x", "amount": 5, "occurred_at": at(days=-3)}
    assert api.post("/v1/activity", params={"wait": "applied"}, json={"activities": [bought]}).status_code == 202
    context = {"mood": "good", "location": {"store_km": 2}}
    everything = {"customer_id": who, "channel": "web", "context": context}
    assert decide([*offers.values(), plain], **everything)[1] == {}
    stranger = {offers[name]: f"rule:{name}" for name in conditions if name != "winter"}
    assert decide([*offers.values(), plain])[1] == stranger


def test_a_loops_rules_speak_of_the_offer(lasting_loop, decide, offer, plain, at):
    rules = {
        "pays": {
            "any": [{"not": {"fact": "offer.discount", "more_than": 0.4}}, {"fact": "offer.margin", "at_least": 0.5}]
        },
        "kind": {"any": [{"fact": "offer.type", "known": False}, {"not": {"fact": "offer.type", "is": "points"}}]},
        "tag": {"not": {"fact": "offer.tags", "has": "clearance"}},
        "category": {"not": {"fact": "offer.category", "is": "weapons"}},
        "price": {"any": [{"fact": "offer.price", "known": False}, {"fact": "offer.price", "at_most": 100}]},
        "priority": {"fact": "offer.priority", "at_least": 0},
        "size": {"any": [{"fact": "offer.features.size", "known": False}, {"fact": "offer.features.size", "is": "s"}]},
    }
    rules["pays"]["any"].insert(0, {"fact": "offer.discount", "known": False})
    loop = lasting_loop(simulated=True, rules=[{"code": name, "require": require} for name, require in rules.items()])
    good = [offer(discount=0.5, margin=0.6), offer(discount=0.3), offer(type="percentage"), offer(price=100)]
    bad = {
        offer(discount=0.5, margin=0.3): "loop_rule:pays",
        offer(type="points"): "loop_rule:kind",
        offer(tags=["clearance"]): "loop_rule:tag",
        offer(category="weapons"): "loop_rule:category",
        offer(price=100.5): "loop_rule:price",
        offer(priority=-1): "loop_rule:priority",
        offer(features={"size": "l"}): "loop_rule:size",
    }
    assert decide([*good, *bad, plain], loop=loop)[1] == bad
    named = offer(rules=[{"code": "own", "require": {"fact": "season.season", "is": "summer"}}], type="points")
    assert decide([named, plain], loop=loop)[1] == {named: "rule:own"}, "its own rule comes first"
    small, large = ({"offer_id": name, "features": {"size": name}} for name in ("s", "l"))
    assert decide([small, large], loop=loop)[1] == {"l": "loop_rule:size"}, "also what comes with the request"


def test_facts_of_the_service_are_not_taken_from_a_request(decide, offer, plain):
    rich = offer(rules=[{"code": "rich", "require": {"fact": "customer.age", "at_least": 18}}])
    web = offer(rules=[{"code": "web", "require": {"fact": "request.channel", "is": "web"}}])
    cheap = offer(price=99, rules=[{"code": "cheap", "require": {"fact": "offer.price", "less_than": 5}}])
    claimed = {"customer": {"age": 44}, "request": {"channel": "web"}, "offer": {"price": 1}}
    body = {"context": claimed}
    assert decide([rich, web, cheap, plain], **body)[1] == {rich: "rule:rich", web: "rule:web", cheap: "rule:cheap"}


@pytest.mark.parametrize(
    ("require", "named"),
    [
        ({"fact": "weather.band", "like": "hot"}, "like"),
        ({"fact": "weather.band"}, "require"),
        ({"fact": "weather.band", "is": "hot", "in": ["hot"]}, "require"),
        ({"all": []}, "all"),
        ({"fact": "customer.shoe_size", "is": 3}, "customer.shoe_size"),
        ({"fact": "offer.category", "at_least": 3}, "at_least"),
        ({"not": {"fact": "a.b", "at_least": "x"}}, "not.at_least"),
        ({"fact": "a.b", "in": [1, "x"]}, "in"),
        ("import os", "require"),
    ],
)
def test_bad_rules_are_refused_with_their_place(api, unique, problem, require, named):
    name = unique("bad")
    body = {"rules": [{"code": "bad", "require": require}]}
    for route, more in ((f"/v1/offers/{name}", {"category": "x"}), (f"/v1/loops/{name}", {})):
        refused = problem(api.put(route, json={**body, **more}), 400)
        assert "rules.0" in refused["errors"][0]["field"]
        assert named in str(refused["errors"])
        problem(api.get(route), 404)


# Limits


@pytest.fixture(scope="module")
def short(lasting_loop):
    """A loop whose decisions close after a minute, or on a final outcome."""
    return lasting_loop(simulated=True, exploration_floor=1.0, grace_seconds=0, reward={"wait_seconds": 60})


def shown(decide, candidates, times, **body):
    """How often each was shown; an answer that stands for nothing is the fallback's."""
    return Counter(decide(candidates, **body)[0]["offer_id"] for _ in range(times))


def test_stock_ends_and_comes_back_when_a_decision_closes_unredeemed(short, decide, offer, at):
    """Three units: one is redeemed and gone, two come back."""
    start = 10_000
    stocked = offer(limits={"stock": 3})
    first = [decide([stocked], at(start), short)[0] for _ in range(3)]
    assert {answer["offer_id"] for answer in first} == {stocked}
    answer, removed = decide([stocked], at(start + 1), short)
    assert (answer["use"], removed) == ("fallback", {stocked: "cap_exhausted"})
    short.reward(first[0]["decision_id"], kind="redemption", occurred_at=at(start + 2))
    short.reward(first[1]["decision_id"], kind="click", occurred_at=at(start + 2))
    short.tick(at(start + 70))
    assert [short.record(answer["decision_id"])["state"] for answer in first] == ["closed"] * 3
    assert shown(decide, [stocked], 4, moment=at(start + 80), loop=short) == {stocked: 2, "no-offer": 2}


def test_a_budget_is_spent_by_the_cost_of_each_show(short, decide, offer, at):
    paid = offer(cost=2.0, limits={"budget": 5.0})
    assert shown(decide, [paid], 4, loop=short, moment=at(20_000)) == {paid: 2, "no-offer": 2}
    short.tick(at(20_100))
    assert decide([paid], at(20_100), short)[1] == {paid: "cap_exhausted"}, "money that was spent does not come back"


def test_caps_in_all_and_by_customer_over_windows(world, decide, offer, unique, at):
    one_an_hour = {"name": "hourly", "scope": "customer", "shows": 1, "window_seconds": 3600}
    capped = offer(limits={"caps": [one_an_hour, {"name": "all", "scope": "total", "shows": 4}]})
    one, two = unique("customer"), unique("customer")
    asked = [(one, 0), (one, 60), (two, 60), (one, 3500), (one, 3700), (two, 3800), (unique("customer"), 9000)]
    found = []
    for who, second in asked:
        answer, removed = decide([capped], at(second), customer_id=who)
        assert removed == ({} if answer["offer_id"] == capped else {capped: "cap_exhausted"})
        found.append(answer["offer_id"] == capped)
    assert found == [True, False, True, False, True, True, False]


def test_a_masked_offer_leaves_its_probability_to_the_others(decide, offer, plain):
    gone, other = offer(limits={"stock": 0}), offer()
    answer, removed = decide([gone, plain, other])
    assert removed == {gone: "cap_exhausted"}
    assert [entry["probability"] for entry in answer["ranking"]] == pytest.approx([0.5, 0.5])


def test_a_redeemed_offer_rests_for_its_cooldown(short, decide, offer, plain, unique, at):
    resting = offer(limits={"cooldown_days": 3})
    who, other = unique("customer"), unique("customer")
    start = 200_000
    answer, _ = decide([resting], at(start), short, customer_id=who)
    clicked, _ = decide([resting], at(start), short, customer_id=other)
    short.reward(answer["decision_id"], kind="redemption", final=True, occurred_at=at(start + 5))
    short.reward(clicked["decision_id"], kind="click", final=True, occurred_at=at(start + 5))
    short.tick(at(start + 90))
    both = [resting, plain]
    assert decide(both, at(start + 90), short, customer_id=who)[1] == {resting: "recently_redeemed"}
    assert decide(both, at(start + 90), short, customer_id=other)[1] == {}
    assert decide(both, at(start, days=2.9), short, customer_id=who)[1] == {resting: "recently_redeemed"}
    assert decide(both, at(start, days=3.1), short, customer_id=who)[1] == {}


def test_offers_that_exclude_or_require_another(world, decide, offer, plain, unique, at):
    first = offer()
    rival = offer(limits={"excludes": [first], "relation_days": 2})
    second = offer(limits={"requires": [first, "another"], "relation_days": 2})
    who = unique("customer")
    both = [rival, second, plain]
    assert decide(both, customer_id=who)[1] == {second: "requires_missing"}
    decide([first], at(60), customer_id=who)
    assert decide(both, at(120), customer_id=who)[1] == {rival: "excluded_by"}
    assert decide(both, at(120), customer_id=unique("customer"))[1] == {second: "requires_missing"}
    assert decide(both, at(60, days=2.1), customer_id=who)[1] == {second: "requires_missing"}


def test_a_deferred_decision_that_nobody_saw_gives_its_units_back(short, decide, offer, unique, at):
    start = 1_000_000  # later than what the others did on this loop
    cap = {"name": "once", "scope": "customer", "shows": 2}
    limited = offer(cost=1.0, limits={"stock": 2, "budget": 2.0, "caps": [cap]})
    who = unique("customer")

    def rank(second, **more):
        return decide([limited], at(start + second), short, customer_id=who, **more)[0]

    unseen, seen = rank(0, defer_activation=True), rank(0, defer_activation=True)
    short.activate(seen["decision_id"], occurred_at=at(start + 1))
    assert rank(2)["use"] == "fallback"
    short.reward(seen["decision_id"], kind="redemption", occurred_at=at(start + 3))
    short.tick(at(start + 70))
    states = [short.record(answer["decision_id"])["state"] for answer in (unseen, seen)]
    assert states == ["inactive", "closed"]
    assert [rank(80)["offer_id"], rank(81)["offer_id"]] == [limited, "no-offer"]


# Tiers, promotion, fallback, nothing


def test_only_the_highest_eligible_tier_competes(lasting_loop, decide, offer, plain):
    loop = lasting_loop(simulated=True, priority_tiers=True)
    top, high, low = offer(priority=9, channels=["app"]), offer(priority=5), offer(priority=-5)
    same = offer(priority=5)
    answer, removed = decide([top, high, same, low, plain], loop=loop)
    assert removed == {top: "channel", low: "lower_priority", plain: "lower_priority"}
    assert {entry["offer_id"] for entry in answer["ranking"]} == {high, same}
    rest = dict.fromkeys((high, same, low, plain), "lower_priority")
    assert decide([top, high, same, low, plain], loop=loop, channel="app")[1] == rest
    assert decide([high, low, plain])[1] == {}, "a loop without tiers"


def test_a_promoted_share_goes_to_promoted_offers(lasting_loop, decide, offer, plain):
    loop = lasting_loop(simulated=True, promoted_share=0.6, promoted_tag="star", exploration_floor=0.02)
    one, two, paused = offer(tags=["star"]), offer(tags=["star"]), offer(tags=["star"], status="paused")
    others = [plain, offer()]

    def probabilities(candidates):
        answer, _ = decide(candidates, loop=loop)
        return {entry["offer_id"]: entry["probability"] for entry in answer["ranking"]}

    found = probabilities([one, two, paused, *others])
    assert found == pytest.approx({one: 0.4, two: 0.4, others[0]: 0.1, others[1]: 0.1}, abs=1e-6)
    assert probabilities([one, *others]) == pytest.approx(
        {one: 0.6 + 0.4 / 3, **dict.fromkeys(others, 0.4 / 3)}, abs=1e-6
    )
    assert probabilities([paused, *others]) == pytest.approx(dict.fromkeys(others, 0.5), abs=1e-6)
    assert probabilities([one, two]) == pytest.approx({one: 0.5, two: 0.5}, abs=1e-6)


def test_the_fallback_is_logged_and_never_learned_from(lasting_loop, decide, offer, at):
    shown_instead = offer(code="SORRY", creative={"title": "Nothing today"})
    loop = lasting_loop(simulated=True, fallback=shown_instead, export_frequency_seconds=1)
    drafts = [offer(status="draft"), offer(channels=["app"])]
    answers = []
    for second in range(5):
        answer, removed = decide(drafts, at(second), loop)
        assert removed == {drafts[0]: "status_draft", drafts[1]: "channel"}
        loop.reward(answer["decision_id"], value=1.0, final=True, occurred_at=at(second))
        answers.append(answer)
    assert {(answer["offer_id"], answer["use"]) for answer in answers} == {(shown_instead, "fallback")}
    assert (answers[0]["code"], answers[0]["creative"]) == ("SORRY", {"title": "Nothing today"})
    loop.tick(at(60))
    record = loop.record(answers[0]["decision_id"])
    assert (record["state"], record["use"], record["reward"]) == ("closed", "fallback", 1.0)
    assert record["slots"][0]["propensity"] is None
    why = loop.rank(candidates=[shown_instead], occurred_at=at(70), explain=True)["why"]
    assert [(entry["score"], entry["contributions"]) for entry in why["offers"]] == [(0.0, [])], "nothing was learned"


def test_no_offer_is_a_candidate_like_any_other(decide, offer, plain):
    nothing = offer(category="none", type="none")
    found = Counter()
    for _ in range(30):
        answer, removed = decide([plain, nothing])
        assert (removed, answer["use"]) == ({}, "learn")
        assert [entry["probability"] for entry in answer["ranking"]] == pytest.approx([0.5, 0.5])
        found[answer["offer_id"]] += 1
    assert set(found) == {plain, nothing}


def test_a_batch_keeps_rules_and_limits(world, api, offer, plain, unique, at):
    umbrella = offer(
        rules=[{"code": "wet", "require": {"fact": "weather.condition", "is": "rain"}}], limits={"stock": 2}
    )
    body = {"loop": world.name, "occurred_at": at(), "candidates": [umbrella], "customer_id": unique("customer")}
    requests = [{**body, "context": context} for context in (RAIN, SUN, RAIN, SUN, RAIN, RAIN)]
    answer = api.post("/v1/rank/batch", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    decisions = answer.json()["decisions"]
    removed = [[entry["reason"] for entry in world.record(one["decision_id"])["removed"]] for one in decisions]
    dry, gone = ["rule:wet"], ["cap_exhausted"]
    assert removed == [[], dry, [], dry, gone, gone]
    assert [one["use"] for one in decisions] == ["learn", "fallback", "learn", "fallback", "fallback", "fallback"]
