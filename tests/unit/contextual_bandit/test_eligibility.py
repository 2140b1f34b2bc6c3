from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.eligibility import (
    KILLED,
    MOST_RULES,
    NO_RULES,
    REASONS,
    LoopRules,
    Situation,
    age_from_band,
    check_offer,
    check_rules,
    offer_facts,
    prepare,
    prepare_rules,
    reason_against,
    situate,
    split,
)
from contextual_bandit.rules import OWN_FACTS, BadRule, Fact
from contextual_bandit.types import SENSITIVE_TAGS, Context, Offer, OfferStatus, Removed, Rule

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PLAIN = Situation(NOW, {})
RAIN = Rule("rain", {"fact": "weather.condition", "is": "rain"})
CHEAP = Rule("cheap", {"fact": "offer.price", "at_most": 20})


def reason(offer: Offer, situation: Situation = PLAIN, loop_rules: LoopRules = NO_RULES) -> str | None:
    return reason_against(prepare(offer), situation, loop_rules)


# Status and dates


def test_an_active_offer_without_conditions_is_eligible() -> None:
    assert reason(Offer("a", "garden")) is None


@pytest.mark.parametrize("status", ["draft", "paused", "ended"])
def test_only_active_offers_are_eligible(status: OfferStatus) -> None:
    assert reason(Offer("a", "garden", status=status)) == f"status_{status}"


def test_an_offer_is_valid_from_its_first_moment_to_before_its_last() -> None:
    offer = prepare(Offer("a", "garden", valid_from=NOW, valid_to=NOW + 10 * SECOND))
    found = [reason_against(offer, Situation(NOW + seconds * SECOND, {})) for seconds in (-1, 0, 9, 10)]
    assert found == ["not_yet_valid", None, None, "expired"]


# Channel and region


@pytest.mark.parametrize("name", ["channel", "region"])
def test_an_offer_that_names_places_needs_one_of_them(name: str) -> None:
    there = {"channel": "web", "region": "US-WA"}[name]
    offer = replace(Offer("a", "garden"), **{name + "s": ("elsewhere", there)})
    assert reason(offer, replace(PLAIN, **{name: there})) is None
    assert reason(offer, replace(PLAIN, **{name: "third"})) == name
    assert reason(offer, replace(PLAIN, **{name: there.lower() + " "})) == name
    assert reason(offer, PLAIN) == name
    assert reason(Offer("a", "garden"), replace(PLAIN, **{name: "third"})) is None


def test_facts_say_nothing_of_the_requests_place() -> None:
    facts: dict[str, Fact] = {"request.channel": "web", "request.region": "US-WA"}
    assert reason(Offer("a", "garden", channels=("web",)), Situation(NOW, facts)) == "channel"
    assert reason(Offer("a", "garden", regions=("US-WA",)), Situation(NOW, facts)) == "region"


# Sensitive offers


@pytest.mark.parametrize("tag", sorted(SENSITIVE_TAGS))
def test_a_sensitive_offer_needs_the_consent_of_its_name_and_an_age(tag: str) -> None:
    offer = Offer("a", "care", tags=("new", tag))
    age = 21 if tag == "alcohol" else 18
    agreed = frozenset({tag})
    assert reason(offer) == f"consent_{tag}"
    assert reason(offer, Situation(NOW, {}, age=40)) == f"consent_{tag}"
    assert (
        reason(offer, Situation(NOW, {}, age=40, consents=(SENSITIVE_TAGS | {"personalise"}) - agreed))
        == f"consent_{tag}"
    )
    assert reason(offer, Situation(NOW, {}, consents=agreed)) == "age_unknown"
    assert reason(offer, Situation(NOW, {}, age=age - 1, consents=agreed)) == "too_young"
    assert reason(offer, Situation(NOW, {}, age=age, consents=agreed)) is None


def test_every_sensitive_tag_needs_its_consent_and_the_oldest_age_counts() -> None:
    offer = Offer("a", "care", tags=("health", "alcohol"))
    assert reason(offer, Situation(NOW, {}, age=40, consents=frozenset({"health"}))) == "consent_alcohol"
    assert reason(offer, Situation(NOW, {}, age=40, consents=frozenset({"alcohol"}))) == "consent_health"
    both = frozenset({"health", "alcohol"})
    assert reason(offer, Situation(NOW, {}, age=20, consents=both)) == "too_young"
    assert reason(offer, Situation(NOW, {}, age=21, consents=both)) is None


@pytest.mark.parametrize("spelled", ["Health", "HEALTH", " health "])
def test_no_spelling_of_a_tag_goes_around_its_consent(spelled: str) -> None:
    assert reason(Offer("a", "care", tags=(spelled,)), Situation(NOW, {}, age=40)) == "consent_health"


def test_an_offers_own_minimum_age_counts_with_and_without_sensitive_tags() -> None:
    knives = Offer("a", "kitchen", minimum_age=16)
    assert reason(knives) == "age_unknown"
    assert reason(knives, Situation(NOW, {}, age=15)) == "too_young"
    assert reason(knives, Situation(NOW, {}, age=16)) is None
    loan = Offer("b", "bank", tags=("finance",), minimum_age=25)
    agreed = frozenset({"finance"})
    assert reason(loan, Situation(NOW, {}, age=24, consents=agreed)) == "too_young"
    assert reason(loan, Situation(NOW, {}, age=25, consents=agreed)) is None


def test_what_looks_like_a_pregnancy_unlocks_no_pregnancy_offer() -> None:
    # A shop once told a family from its purchases what the daughter had not.
    context = Context({
        "H": {"segment": "both", "category_unscented_lotion": 9.0, "category_supplements": 12.0, "pregnancy": True},
        "D": {"age_band": "25-34", "life_stage": "expecting", "age": 30.0},
        "P": {"likes": "baby"},
        "customer": {"age": 30.0, "consents": "pregnancy", "pregnancy": True},
        "score": {"pregnancy": 0.99},
    })  # fmt: skip
    inviting = (Rule("expecting", {"fact": "score.pregnancy", "at_least": 0.9}),)
    offer = prepare(Offer("crib", "baby", tags=("pregnancy",), rules=inviting))
    situation = situate(NOW, context, age=30, consents=frozenset({"personalise"}))
    assert reason_against(offer, situation, prepare_rules(inviting)) == "consent_pregnancy"
    unstated_age = situate(NOW, context, consents=frozenset({"pregnancy"}))
    assert reason_against(offer, unstated_age) == "age_unknown"
    asked_for = situate(NOW, context, age=30, consents=frozenset({"pregnancy"}))
    assert reason_against(offer, asked_for) is None


ANY_FACT = (
    st.sampled_from(["pregnancy", "health"]) | st.floats(0, 100) | st.booleans() | st.just(("pregnancy", "health"))
)
ANY_RULE = st.sampled_from(
    [{"fact": "customer.consents", "has": "pregnancy"}, {"fact": "a.b", "known": True}, {"fact": "a.b", "known": False}]
)


@given(
    st.dictionaries(st.sampled_from([*OWN_FACTS, "a.b", "history.pregnancy"]), ANY_FACT),
    st.lists(ANY_RULE, max_size=2),
    st.lists(ANY_RULE, max_size=2),
    st.none() | st.integers(0, 120),
    st.sets(st.sampled_from(["personalise", *sorted(SENSITIVE_TAGS)])),
    st.sets(st.sampled_from(sorted(SENSITIVE_TAGS)), min_size=1),
)
def test_neither_facts_nor_rules_unlock_a_sensitive_offer(
    facts: dict[str, Fact], own: list[Any], loops: list[Any], age: int | None, consents: set[str], tags: set[str]
) -> None:
    rules = [tuple(Rule(f"r{index}", rule) for index, rule in enumerate(given)) for given in (own, loops)]
    offer = prepare(Offer("a", "care", tags=tuple(tags), rules=rules[0]))
    situation = Situation(NOW, facts, age=age, consents=frozenset(consents))
    eligible, _ = split([offer], situation, prepare_rules(rules[1]))
    if eligible:
        assert tags <= consents
        assert age is not None
        assert age >= (21 if "alcohol" in tags else 18)


# Rules


def test_an_offers_rule_removes_it_when_it_is_false_and_when_it_is_unknown() -> None:
    offer = Offer("umbrella", "garden", rules=(RAIN,))
    assert reason(offer, Situation(NOW, {"weather.condition": "rain"})) is None
    assert reason(offer, Situation(NOW, {"weather.condition": "clear"})) == "rule:rain"
    assert reason(offer) == "rule:rain"


def test_the_first_rule_that_fails_is_named_and_the_offers_go_before_the_loops() -> None:
    offer = Offer("umbrella", "garden", price=25.0, rules=(RAIN, CHEAP))
    wet = Situation(NOW, {"weather.condition": "rain"})
    assert reason(offer) == "rule:rain"
    assert reason(offer, wet) == "rule:cheap"
    assert reason(replace(offer, rules=(RAIN,)), wet, prepare_rules([CHEAP])) == "loop_rule:cheap"
    assert reason(offer, wet, prepare_rules([CHEAP])) == "rule:cheap"
    assert reason(replace(offer, price=20.0), wet, prepare_rules([CHEAP])) is None


def test_rules_know_what_an_offer_says_and_miss_what_it_does_not() -> None:
    full = Offer(
        "a", "garden", type="percentage", discount=0.2, price=10.0, margin=0.3, priority=2, tags=("new",),
        features={"size": "large", "box.width": 3.0},
    )  # fmt: skip
    assert offer_facts(full) == {
        "offer.id": "a", "offer.category": "garden", "offer.type": "percentage", "offer.discount": 0.2,
        "offer.price": 10.0, "offer.margin": 0.3, "offer.priority": 2, "offer.tags": ("new",),
        "offer.features.size": "large", "offer.features.box.width": 3.0,
    }  # fmt: skip
    assert offer_facts(Offer("a", "garden")) == {
        "offer.id": "a", "offer.category": "garden", "offer.priority": 0, "offer.tags": (),
    }  # fmt: skip
    assert {name for name in offer_facts(full) if "features" not in name} <= set(OWN_FACTS)


def test_a_feature_cannot_pose_as_a_fact_of_the_offer() -> None:
    assert offer_facts(Offer("a", "garden", features={"id": "b", "price": 1.0}))["offer.id"] == "a"
    assert reason(Offer("a", "garden", price=90.0, features={"price": 1.0}, rules=(CHEAP,))) == "rule:cheap"


# Situations


def test_a_situation_names_the_contexts_features_in_full() -> None:
    context = Context({
        "H": {"segment": "both"}, "S": {"month": "m3"}, "W": {"band": "cool"}, "D": {"age_band": "35-44"},
        "L": {"region": "US-WA"}, "P": {"likes": "garden"}, "c": {"page": 1.0},
        "device": {"kind": "phone", "os.name": "linux"}, "xDesk": {"height": 4.0},
    })  # fmt: skip
    found = situate(
        NOW, context, channel="web", region="US-OR", age=38, consents=frozenset({"health", "personalise"}), home_region="US-WA"
    )  # fmt: skip
    assert found.facts == {
        "history.segment": "both", "season.month": "m3", "weather.band": "cool", "demographics.age_band": "35-44",
        "location.region": "US-WA", "preferences.likes": "garden", "device.kind": "phone", "device.os.name": "linux",
        "c.page": 1.0, "Desk.height": 4.0, "customer.age": 38, "customer.region": "US-WA", "customer.consents": ("health", "personalise"),
        "customer.segment": "both", "request.channel": "web", "request.region": "US-OR",
    }  # fmt: skip
    assert (found.now, found.channel, found.region, found.age) == (NOW, "web", "US-OR", 38)
    assert found.consents == {"health", "personalise"}


def test_a_client_cannot_say_what_only_the_service_says() -> None:
    context = Context(
        {"customer": {"age": 70.0, "region": "x"}, "request": {"channel": "web"}, "offer": {"price": 1.0}}
    )
    assert situate(NOW, context).facts == {"customer.consents": ()}


# Many offers


def test_eligible_offers_keep_their_order_and_removed_ones_their_reason() -> None:
    offers = [
        Offer("c", "garden"),
        Offer("late", "garden", valid_to=NOW),
        Offer("a", "garden", rules=(RAIN,)),
        Offer("early", "garden", valid_from=NOW + SECOND),
        Offer("dear", "garden", price=30.0, rules=(RAIN, CHEAP)),
        Offer("draft", "garden", status="draft"),
        Offer("b", "garden", price=10.0, rules=(RAIN, CHEAP)),
    ]
    wet = Situation(NOW, {"weather.condition": "rain"})
    eligible, removed = split(map(prepare, offers), wet)
    assert [prepared.offer.offer_id for prepared in eligible] == ["c", "a", "b"]
    assert removed == [
        Removed("late", "expired"),
        Removed("early", "not_yet_valid"),
        Removed("dear", "rule:cheap"),
        Removed("draft", "status_draft"),
    ]
    assert split([], wet) == ([], [])


def test_one_request_leaves_nothing_behind_for_the_next() -> None:
    offers = [prepare(Offer(name, "garden", rules=(RAIN,))) for name in "ab"]
    for condition, count in [("rain", 2), ("clear", 0), ("rain", 2)]:
        assert len(split(offers, Situation(NOW, {"weather.condition": condition}))[0]) == count


def test_gates_stand_in_the_order_of_their_reasons() -> None:
    """Mend an offer that fails everywhere, gate by gate: each time the next reason is given."""
    offer = Offer(
        "a", "care", status="draft", valid_from=NOW + SECOND, valid_to=NOW, channels=("web",), regions=("US-WA",),
        tags=tuple(SENSITIVE_TAGS), price=30.0, rules=(replace(CHEAP, code="code"),),
    )  # fmt: skip
    situation, loop_rules = PLAIN, prepare_rules([Rule("code", RAIN.require)])
    mending: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"status": "paused"}, {}),
        ({"status": "ended"}, {}),
        ({"status": "active"}, {}),
        ({"valid_from": None}, {}),
        ({"valid_to": None}, {}),
        ({}, {"channel": "web"}),
        ({}, {"region": "US-WA"}),
        *(({}, {"consents": frozenset(sorted(SENSITIVE_TAGS)[:count])}) for count in range(1, len(SENSITIVE_TAGS) + 1)),
        ({}, {"age": 17}),
        ({}, {"age": 21}),
        ({"price": 5.0}, {}),
        ({}, {"facts": {"weather.condition": "rain"}}),
    ]
    found = [reason(offer, situation, loop_rules)]
    for of_offer, of_situation in mending:
        offer, situation = replace(offer, **of_offer), replace(situation, **of_situation)
        found.append(reason(offer, situation, loop_rules))
    # The first is of kill switches, which stand before the gates.
    assert REASONS[0] == KILLED
    assert found == [*(name.replace("CODE", "code") for name in REASONS[1:]), None]


# What is refused


@pytest.mark.parametrize(
    ("rules", "path", "why"),
    [
        ([Rule("Rain", RAIN.require)], "rules.0.code", "must match"),
        ([Rule("", RAIN.require)], "rules.0.code", "must match"),
        ([RAIN, Rule("a b", RAIN.require)], "rules.1.code", "must match"),
        ([Rule("x" * 65, RAIN.require)], "rules.0.code", "must match"),
        ([Rule("rain\n", RAIN.require)], "rules.0.code", "must match"),
        ([RAIN, CHEAP, RAIN], "rules.2.code", "another rule has this code"),
        ([RAIN, Rule("x", {"fact": "a.b", "at_least": "1"})], "rules.1.require.at_least", "must be a number"),
        ([Rule("x", {"all": [RAIN.require, {}]})], "rules.0.require.all.1", "exactly one of"),
        (
            [Rule(f"r{index}", RAIN.require) for index in range(MOST_RULES + 1)],
            "rules",
            f"more than {MOST_RULES} rules",
        ),
    ],
)
def test_rules_that_cannot_be_used_are_refused_wherever_they_stand(rules: list[Rule], path: str, why: str) -> None:
    offer = Offer("a", "garden", rules=tuple(rules))
    for refusing in (
        lambda: check_offer(offer), lambda: prepare(offer), lambda: check_rules(rules, "rules"), lambda: prepare_rules(rules)
    ):  # fmt: skip
        with pytest.raises(BadRule, match=why) as caught:
            refusing()
        assert caught.value.path == path


def test_good_rules_are_accepted_and_paths_begin_where_they_are_told() -> None:
    check_offer(Offer("a", "garden", rules=(RAIN, CHEAP, Rule("x" * 64, RAIN.require), Rule("_-9", RAIN.require))))
    check_rules((), "rules")
    with pytest.raises(BadRule) as caught:
        check_rules([Rule("x", {})], "loop.rules")
    assert caught.value.path == "loop.rules.0.require"


# Bands of age


@pytest.mark.parametrize(
    ("band", "age"),
    [
        ("35-44", 35), ("19-24", 19), ("35 - 44", 35), ("35–44", 35), ("18 to 24", 18), ("0-17", 0), ("25-34 years", 25),
        ("aged 25-34", 25), ("65+", 65), ("65 +", 65), ("65 plus", 65), ("65 and over", 65), ("65 or older", 65),
        ("over 65", 65), (">=65", 65), ("65+ years old", 65), ("under 18", 0), ("Under  18", 0), ("<18", 0), ("up to 17", 0),
        ("", None), ("unknown", None), ("senior", None), ("35", None), ("44-35", None), ("1980-1989", None), ("150+", None),
        ("18-24-35", None), ("18 24", None), ("-", None), ("a18-24", None), ("²5-34", None), ("100-200", None),
    ],
)  # fmt: skip
def test_the_lowest_age_of_a_band(band: str, age: int | None) -> None:
    assert age_from_band(band) == age
