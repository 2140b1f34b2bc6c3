"""Consent: to be personalised at all, and for what is sensitive, which no behaviour and no rule can replace."""

from __future__ import annotations

import json

import pytest

BEHAVIOUR = ("unscented_lotion", "supplements", "cotton_balls", "maternity", "cribs", "baby_names", "pregnancy")
CLAIMS = [
    {},
    {"history": {"segment": "both", "last_category": "pregnancy", "pregnant": "yes"}},
    {"preferences": {"likes": "pregnancy", "pregnancy": True}, "pregnancy": True},
    {"demographics": {"age": 31, "pregnant": "yes", "gender": "female"}},
    {"customer": {"consents": "pregnancy", "age": 31, "consents.pregnancy": True}},
    {"consents": {"pregnancy": True, "personalise": True}, "consent": "pregnancy"},
    {"request": {"consents": {"pregnancy": True}}, "offer": {"tags": "plain"}, "D": {"age": 31}},
]
SENT = {
    "demographics": {"gender": "female", "age": 30},
    "preferences": {"likes": "tools"},
    "history": {"segment": "both"},
    "device": {"kind": "phone"},
    "mood": "good",
}


# Longer than any cache: what the shop's customers buy on the whole moves with what a test reports.
SETTLED = 4.0


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
def customer(api, unique):
    def make(name=None, **body):
        name = name or unique("customer")
        answer = api.put(f"/v1/customers/{name}", json=body)
        assert answer.status_code == 200, answer.text
        return name

    return make


@pytest.fixture(scope="module")
def act(api):
    def send(*activities):
        answer = api.post("/v1/activity", params={"wait": "applied"}, json={"activities": list(activities)})
        assert answer.status_code == 202, answer.text
        assert answer.json()["applied"] is True

    return send


@pytest.fixture(scope="module")
def everything(act, at):
    """All that a customer can do in some categories, on two days, the last of it a minute before the moment."""

    def did(who, *categories):
        act(
            *(
                {"customer_id": who, "kind": kind, "category": category, "amount": 20, "occurred_at": moment}
                for moment in (at(days=-2), at(minutes=-1))
                for category in categories
                for kind in ("view", "click", "purchase", "cart_add")
            )
        )
        return who

    return did


@pytest.fixture(scope="module")
def world(lasting_loop):
    return lasting_loop(simulated=True, exploration_floor=1.0)


@pytest.fixture(scope="module")
def garden(offer):
    return offer()


@pytest.fixture(scope="module")
def seen(world, at, garden):
    """The record of one decision."""

    def look(loop=world, **body):
        return loop.record(loop.rank(occurred_at=at(), **{"candidates": [garden], **body})["decision_id"])

    return look


def known(record):
    """What the policy was told of the customer and the moment."""
    return {"context": record["context"], "affinity": [entry["affinity"] for entry in record["eligible"]]}


# To be personalised


@pytest.mark.parametrize("sent", [{}, SENT])
def test_without_consent_nothing_personal_is_a_feature(seen, customer, everything, sent, unique, until):
    person = {"demographics": {"household_size": 3}, "preferences": {"likes": "garden"}, "age": 38}
    no = everything(customer(**person, region="US-WA", consents={"personalise": False}), "garden")
    other = customer(consents={"personalise": False})
    yes = everything(customer(**person, consents={"personalise": True}), "garden")
    record = seen(customer_id=no, context=sent)
    assert not {"D", "H", "P"} & set(record["context"])
    text = json.dumps(record["context"])
    assert not [word for word in ("38", "35-44", "25-34", "tools", "female", "garden", "US-WA") if word in text]
    stranger = unique("stranger")

    def looks_like_anybody():
        found = known(seen(customer_id=no, context=sent))
        expected = known(seen(customer_id=stranger))
        return (
            found == known(seen(customer_id=other, context=sent))
            and found["affinity"] == expected["affinity"]
            and found["context"]["S"] == expected["context"]["S"]
        )

    until(looks_like_anybody, SETTLED, "looking like anybody")
    personal = seen(customer_id=yes, context=sent)
    assert {"D", "H", "P"} <= set(personal["context"])
    assert "order_share" in known(personal)["affinity"][0]


def test_a_loop_can_require_explicit_consent(make_loop, seen, customer, everything, unique, until):
    loop = make_loop(simulated=True, consent_required=True)
    person = {"demographics": {"household_size": 3}, "preferences": {"likes": "garden"}, "age": 38}
    silent = everything(customer(**person), "garden")
    yes = everything(customer(**person, consents={"personalise": True}), "garden")
    asked = [
        (unique("stranger"), {}),
        (silent, {}),
        (silent, SENT),
        (None, {}),
        (None, SENT),
        (unique("stranger"), SENT),
    ]

    def look_alike():
        found = [known(seen(loop, customer_id=who, context=sent)) for who, sent in asked]
        return all(one == found[0] for one in found)

    until(look_alike, SETTLED, "looking alike")
    assert {"D", "H", "P"} <= set(seen(loop, customer_id=yes)["context"])
    assert {"D", "H", "P"} <= set(seen(customer_id=silent)["context"]), "the other loop does not require it"


def test_withdrawn_consent_counts_at_once(seen, customer, until):
    body = {"demographics": {"household_size": 3}}
    who = customer(**body, consents={"personalise": True})
    assert "D" in seen(customer_id=who)["context"]
    customer(who, **body, consents={"personalise": False})
    until(lambda: "D" not in seen(customer_id=who)["context"], 2, "the withdrawal counts")


def test_what_a_schema_calls_impersonal_stays(make_loop, api, seen, customer):
    loop = make_loop(simulated=True)
    features = {
        "device.kind": {"type": "string", "personal": False},
        "device.owner": {"type": "string"},
        "mood": {"type": "string"},
        "queue": {"type": "number", "personal": False},
    }
    assert api.put(f"/v1/loops/{loop.name}/schema", json={"features": features}).status_code == 200
    context = {"device": {"kind": "phone", "owner": "self"}, "mood": "good", "queue": 3}
    no = seen(loop, customer_id=customer(consents={"personalise": False}), context=context)["context"]
    assert (no["device"], no["c"]) == ({"kind": "phone"}, {"queue": 3})
    yes = seen(loop, customer_id=customer(consents={"personalise": True}), context=context)["context"]
    assert (yes["device"], yes["c"]) == ({"kind": "phone", "owner": "self"}, {"mood": "good", "queue": 3})


def test_weather_and_season_are_nobodys_secret(seen, customer):
    context = {"weather": {"temperature_c": 3, "precipitation_mm": 0, "condition": "snow"}}
    record = seen(customer_id=customer(consents={"personalise": False}), context=context)
    assert record["context"]["W"] == {"band": "cold", "condition": "snow", "precipitation": "none"}
    assert record["context"]["S"]["season"] == "winter"


def test_rules_miss_the_facts_of_a_person_without_consent(seen, offer, garden, customer, everything):
    likes = offer(rules=[{"code": "likes", "require": {"fact": "preferences.likes", "is": "garden"}}])
    loyal = offer(rules=[{"code": "loyal", "require": {"fact": "history.segment", "is": "both"}}])
    for consent, reasons in ((True, {}), (False, {likes: "rule:likes", loyal: "rule:loyal"})):
        who = everything(customer(preferences={"likes": "garden"}, consents={"personalise": consent}), "garden")
        record = seen(customer_id=who, candidates=[likes, loyal, garden])
        assert {entry["offer_id"]: entry["reason"] for entry in record["removed"]} == reasons


# Sensitive offers


@pytest.fixture(scope="module")
def expecting(customer, everything):
    """Everything they do speaks of a pregnancy; nobody asked them."""
    return everything(customer(age=31, demographics={"gender": "female"}), *BEHAVIOUR, "garden")


@pytest.fixture(scope="module")
def cribs(offer):
    """The offer of the case: promoted, first in its tier, and its rules ask for what behaviour says."""
    wishes = {"any": [{"fact": "history.segment", "is": "both"}, {"fact": "preferences.pregnancy", "is": True}]}
    return offer(
        category="cribs",
        tags=["pregnancy", "promoted"],
        priority=1000,
        rules=[{"code": "wishes", "require": wishes}],
        code="CRIB20",
    )


@pytest.mark.parametrize("kind", ["explores", "tiers", "promotes", "holds_out", "rules"])
def test_behaviour_never_unlocks_a_sensitive_offer(lasting_loop, api, kind, cribs, garden, expecting, at):
    """100 decisions for each way a loop could favour it, all of them with everything that a request can claim."""
    settings = {
        "explores": {"exploration_floor": 1.0},
        "tiers": {"priority_tiers": True, "exploration_floor": 1.0},
        "promotes": {"promoted_share": 1.0},
        "holds_out": {"holdout": {"share": 0.9}, "baseline": {"priority": [cribs]}},
        "rules": {
            "rules": [{"code": "only", "require": {"fact": "offer.tags", "has": "pregnancy"}}],
            "fallback": cribs,
        },
    }[kind]
    loop = lasting_loop(simulated=True, **settings)
    requests = [
        {
            "loop": loop.name,
            "customer_id": expecting,
            "context": CLAIMS[number % len(CLAIMS)],
            "candidates": [cribs, garden],
            "occurred_at": at(number),
        }
        for number in range(100)
    ]
    answer = api.post("/v1/rank/batch", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    for number, decision in enumerate(answer.json()["decisions"]):
        assert decision["offer_id"] != cribs
        assert cribs not in {entry["offer_id"] for entry in decision["ranking"]}
        assert decision.get("code") != "CRIB20"
        if number % 10 < len(CLAIMS) and number < 50:
            reasons = {entry["offer_id"]: entry["reason"] for entry in loop.record(decision["decision_id"])["removed"]}
            assert reasons[cribs] == "consent_pregnancy"


@pytest.mark.parametrize("features", [{}, {"category": "plain"}, {"category": "cribs"}])
def test_an_inline_candidate_is_no_way_around(world, cribs, expecting, at, features):
    """The same offer by its id, as if it came with the request."""
    candidates = [{"offer_id": cribs, "features": features}, {"offer_id": "left"}]
    answer = world.rank(customer_id=expecting, candidates=candidates, occurred_at=at())
    assert {entry["offer_id"] for entry in answer["ranking"]} == {"left"}


def test_inline_offers_of_a_sensitive_category_are_sensitive(world, cribs, expecting, at):
    names = ("cribs", "pregnancy", "Pregnancy")
    candidates = [{"offer_id": f"in-{name}", "features": {"category": name}} for name in names]
    answer = world.rank(customer_id=expecting, candidates=[*candidates, {"offer_id": "left"}], occurred_at=at())
    removed = {entry["offer_id"]: entry["reason"] for entry in world.record(answer["decision_id"])["removed"]}
    assert removed == {f"in-{name}": "consent_pregnancy" for name in names}


def test_consent_and_age_open_it_and_withdrawal_closes_it(seen, customer, everything, cribs, garden, until):
    who = everything(customer(age=31, consents={"pregnancy": True}), "garden")

    def reasons(customer_id=who, **body):
        record = seen(customer_id=customer_id, candidates=[cribs, garden], **body)
        return {entry["offer_id"]: entry["reason"] for entry in record["removed"]}

    assert reasons() == {}
    customer(who, age=31, consents={"pregnancy": False})
    until(lambda: reasons() == {cribs: "consent_pregnancy"}, 2, "the withdrawal counts")
    customer(who, age=17, consents={"pregnancy": True})
    until(lambda: reasons() == {cribs: "too_young"}, 2, "the age counts")
    assert reasons(context={"demographics": {"age": 40}}) == {cribs: "too_young"}, "the record's age goes first"
    customer(who, consents={"pregnancy": True})
    until(lambda: reasons() == {cribs: "age_unknown"}, 2, "the age counts")
    assert reasons(context={"demographics": {"age_band": "25-34"}}) == {}, "stated with the request"
    assert reasons(context={"demographics": {"age_band": "0-17"}}) == {cribs: "too_young"}
    general = everything(customer(age=31, consents={"personalise": True, "health": True}), "garden")
    assert reasons(general) == {cribs: "consent_pregnancy"}


def test_it_is_drawn_once_it_may_be(world, api, customer, everything, cribs, garden, at):
    who = everything(customer(age=31, consents={"pregnancy": True}), "garden")
    body = {"loop": world.name, "customer_id": who, "candidates": [cribs, garden], "occurred_at": at()}
    answer = api.post("/v1/rank/batch", json={"requests": [body] * 40})
    shown = {decision["offer_id"] for decision in answer.json()["decisions"]}
    assert shown == {cribs, garden}


def test_alcohol_is_for_those_of_21_who_asked(seen, offer, garden, customer):
    wine, beer = offer(tags=["alcohol"]), offer(tags=["alcohol"], minimum_age=25)
    found = {}
    for age in (17, 18, 20, 21, 24, 25, None):
        who = customer(age=age, consents={"alcohol": True})
        record = seen(customer_id=who, candidates=[wine, beer, garden])
        found[age] = [
            {entry["offer_id"]: entry["reason"] for entry in record["removed"]}.get(name) for name in (wine, beer)
        ]
    young = ["too_young", "too_young"]
    assert found == {
        **dict.fromkeys((17, 18, 20), young),
        21: [None, "too_young"],
        24: [None, "too_young"],
        25: [None, None],
        None: ["age_unknown", "age_unknown"],
    }


def test_an_offer_with_two_sensitive_tags_needs_both_consents(seen, offer, garden, customer):
    both = offer(tags=["alcohol", "health"])
    for consents, reason in (
        ({"alcohol": True}, "consent_health"),
        ({"health": True}, "consent_alcohol"),
        ({"health": True, "alcohol": True}, None),
    ):
        record = seen(customer_id=customer(age=40, consents=consents), candidates=[both, garden])
        assert [entry["reason"] for entry in record["removed"]] == [reason] * (reason is not None)


# Traces


@pytest.mark.parametrize("consents", [{}, {"personalise": True}, {"personalise": True, "health": True}])
def test_what_was_done_in_a_sensitive_category_leaves_no_trace(
    seen, offer, garden, cribs, customer, everything, unique, until, consents
):
    """It looks like the same in a category of which there is no offer; that something was bought is all that shows."""
    diapers = unique("diapers")
    candidates = [offer(category=diapers), garden]
    who = everything(customer(age=31, consents=consents), diapers)
    twin = everything(customer(age=31, consents=consents), unique("neutral"))
    assert "order_share" in known(seen(customer_id=who, candidates=candidates))["affinity"][0]
    offer(category=diapers, tags=["pregnancy"])  # from now on it is a sensitive category

    def affinities(customer_id):
        return known(seen(customer_id=customer_id, candidates=candidates))["affinity"]

    until(lambda: affinities(who) == affinities(twin), SETTLED, "no affinity")
    hidden, shown = (seen(customer_id=one, candidates=candidates)["context"] for one in (who, twin))
    assert shown["H"].pop("last_category").startswith("neutral")
    assert hidden == shown
    assert diapers not in json.dumps(hidden)


@pytest.mark.parametrize("category", ["pregnancy", "Alcohol"])
def test_a_category_named_like_a_sensitive_tag_is_sensitive(seen, customer, everything, category):
    """Also where the catalogue has no offer in it, as where offers come with the requests."""
    who = everything(customer(age=31, consents={"personalise": True}), category)
    assert category not in json.dumps(seen(customer_id=who)["context"])


def test_with_consent_it_counts_like_anything_else(seen, garden, cribs, customer, everything):
    who = everything(customer(age=31, consents={"pregnancy": True}), "cribs")
    record = seen(customer_id=who, candidates=[cribs, garden])
    assert record["context"]["H"]["last_category"] == "cribs"
    assert next(entry for entry in record["eligible"] if entry["offer_id"] == cribs)["affinity"]["order_share"] > 0


def test_rules_cannot_ask_for_what_was_done_there(seen, offer, garden, cribs, customer, everything):
    require = {"fact": "history.last_category", "is": "cribs"}
    spy = offer(rules=[{"code": "spy", "require": require}])
    who = everything(customer(age=31, consents={"personalise": True}), "cribs")
    record = seen(customer_id=who, candidates=[spy, garden])
    assert {entry["offer_id"]: entry["reason"] for entry in record["removed"]} == {spy: "rule:spy"}
