"""POST /v1/activity: what customers did becomes history and affinity, point in time."""

from __future__ import annotations

import json

import pytest

GARDEN_TOOLS = [
    {"offer_id": "g", "features": {"category": "garden"}},
    {"offer_id": "t", "features": {"category": "tools"}},
]


@pytest.fixture
def shop(api, unique, make_loop):
    """Catalogue offers of two categories, and the calls these tests make."""

    class Shop:
        garden, tools = unique("garden"), unique("tools")

        def __init__(self):
            self.loop = make_loop(simulated=True, time_zone="UTC")
            for offer, category in ((self.garden, "garden"), (self.tools, "tools")):
                assert api.put(f"/v1/offers/{offer}", json={"category": category}).status_code == 200

        def act(self, *activities, expect=202, wait=True):
            params = {"wait": "applied"} if wait else {}
            answer = api.post("/v1/activity", params=params, json={"activities": list(activities)})
            assert answer.status_code == expect, answer.text
            if wait and expect == 202:
                assert answer.json()["applied"] is True
                assert answer.json()["accepted"] == len(activities)
            return answer

        def seen(self, customer, moment):
            """History and affinity by category, as logged with a decision at that moment."""
            answer = self.loop.rank(customer_id=customer, candidates=[self.garden, self.tools], occurred_at=moment)
            record = self.loop.record(answer["decision_id"])
            by_offer = {offer["offer_id"]: offer["affinity"] for offer in record["eligible"]}
            return {"H": record["context"].get("H"), "garden": by_offer[self.garden], "tools": by_offer[self.tools]}

    return Shop()


def buy(customer, moment, category="garden", **more):
    return {
        "customer_id": customer,
        "kind": "purchase",
        "category": category,
        "occurred_at": moment,
        "amount": 12.5,
        **more,
    }


def test_purchases_show_within_the_age_of_the_cache(shop, unique, at, until):
    """A profile in a process's cache is at most 1 s old (DESIGN 7)."""
    customer = unique("c")
    before = shop.seen(customer, at(days=9))
    shop.act(buy(customer, at(days=1)))
    until(lambda: shop.seen(customer, at(days=9)) != before, 1.5, "the purchase shows")


def test_purchases_show_in_the_next_decision(shop, unique, at):
    customer, stranger = unique("c"), unique("c")
    assert shop.seen(unique("c"), at()) == shop.seen(stranger, at())
    shop.act(*(buy(customer, at(days=day)) for day in (1, 3, 8)))
    after = shop.seen(customer, at(days=9))
    none = shop.seen(stranger, at(days=9))
    assert after["H"] != none["H"]
    assert after["garden"] != none["garden"]
    assert sum(float(value) for value in after["garden"].values() if isinstance(value, float)) > sum(
        float(value) for value in after["tools"].values() if isinstance(value, float)
    )


def test_the_category_comes_from_the_offer(shop, unique, at):
    one, two = unique("c"), unique("c")
    shop.act(
        buy(one, at(days=1)),
        {"customer_id": two, "kind": "purchase", "offer_id": shop.garden, "occurred_at": at(days=1), "amount": 12.5},
    )
    assert shop.seen(one, at(days=2)) == shop.seen(two, at(days=2))


def test_affinity_fades(shop, unique, at):
    customer = unique("c")
    shop.act(buy(customer, at(days=1)))
    soon, later = shop.seen(customer, at(days=8)), shop.seen(customer, at(days=180))
    assert soon["garden"] != later["garden"]
    assert soon["H"] != later["H"]


def test_kinds_matter(shop, unique, at):
    profiles = []
    for kind in ("view", "purchase"):
        customer = unique("c")
        shop.act({"customer_id": customer, "kind": kind, "category": "garden", "occurred_at": at(days=1)})
        profiles.append(shop.seen(customer, at(days=2))["H"])
    assert profiles[0]["segment"] != profiles[1]["segment"]
    assert "new" not in (profiles[0]["segment"], profiles[1]["segment"])


def test_doubled_activities_count_once(shop, api, unique, at):
    once, thrice = unique("c"), unique("c")
    shop.act(buy(once, at(days=1), activity_id=unique("a")))
    double = unique("a")
    shop.act(buy(thrice, at(days=1), activity_id=double), buy(thrice, at(days=1), activity_id=double))
    shop.act(buy(thrice, at(days=1), activity_id=double))
    assert shop.seen(once, at(days=2)) == shop.seen(thrice, at(days=2))


def test_distinct_activities_without_ids_all_count(shop, unique, at):
    one, two = unique("c"), unique("c")
    shop.act(buy(one, at(days=1)))
    shop.act(buy(two, at(days=1)), buy(two, at(days=1)))
    assert shop.seen(one, at(days=2)) != shop.seen(two, at(days=2))


def test_the_order_of_arrival_does_not_matter(shop, unique, at):
    moments = [(day, ("garden", "tools")[day % 3 == 0]) for day in (1, 2, 9, 20, 30, 31)]
    customers = [unique("c") for _ in range(3)]
    shop.act(*(buy(customers[0], at(days=day), category) for day, category in moments))
    for day, category in reversed(moments):
        shop.act(buy(customers[1], at(days=day), category))
    shop.act(*(buy(customers[2], at(days=day), category) for day, category in moments[::2]))
    shop.act(*(buy(customers[2], at(days=day), category) for day, category in moments[1::2]))
    first, *others = [shop.seen(customer, at(days=40)) for customer in customers]
    for other in others:
        assert other["H"] == first["H"]
        for category in ("garden", "tools"):
            assert other[category] == pytest.approx(first[category])


def test_an_earlier_decision_does_not_see_later_purchases(shop, unique, at):
    """Point in time: the features of a moment hold what had happened by then."""
    customer, stranger = unique("c"), unique("c")
    shop.act(*(buy(customer, at(days=day)) for day in (10, 17, 24)))
    assert shop.seen(customer, at(days=5)) == shop.seen(stranger, at(days=5))


def test_a_decision_between_purchases_sees_the_earlier_ones(shop, unique, at, until):
    both, early = unique("c"), unique("c")
    shop.act(buy(both, at(days=1)), buy(early, at(days=1)))
    shop.act(buy(both, at(days=20)))
    # What is usual among all customers, which both share, may be a second old.
    until(lambda: shop.seen(both, at(days=10)) == shop.seen(early, at(days=10)), 3, "both look alike")
    assert shop.seen(both, at(days=21)) != shop.seen(early, at(days=21))


def test_future_activity_is_refused_whole(shop, api, unique, at, wall, problem, until):
    customer = unique("c")
    refused = shop.act(buy(customer, at(days=1)), buy(customer, wall(days=1)), expect=400)
    assert "occurred_at" in problem(refused, 400)["detail"]
    shop.act(buy(unique("other"), at(days=1)))
    until(lambda: shop.seen(customer, at(days=2)) == shop.seen(unique("c"), at(days=2)), 3, "both look alike")


@pytest.mark.parametrize(
    ("change", "named"),
    [({"kind": "sneeze"}, "sneeze"), ({"customer_id": ""}, "customer_id"), ({"amount": -1}, "amount"), ({"amount": 1e300}, "amount"),
     ({"occurred_at": "2020-01-01T00:00:00"}, "occurred_at"), ({"colour": "red"}, "colour"), ({"category": "\0"}, "category")],
)  # fmt: skip
def test_bad_activities_are_refused(shop, unique, at, problem, change, named):
    customer = unique("c")
    refused = problem(shop.act(buy(customer, at()), {**buy(customer, at()), **change}, expect=400), 400)
    assert named in json.dumps(refused)


def test_unknown_offers_in_activities_are_named_or_kept(shop, unique, at):
    body = {"customer_id": unique("c"), "kind": "view", "offer_id": "never-made", "occurred_at": at()}
    answer = shop.loop.api.post("/v1/activity", json={"activities": [body]})
    assert answer.status_code in (202, 400)
    if answer.status_code == 400:
        assert "never-made" in answer.text


def test_absent_time_is_now(shop, api, unique, make_loop):
    customer = unique("c")
    shop.act({"customer_id": customer, "kind": "purchase", "category": "garden"})
    loop = make_loop()

    def history(who):
        answer = loop.rank(customer_id=who, candidates=GARDEN_TOOLS)
        return loop.record(answer["decision_id"])["context"]["H"]

    assert history(customer) != history(unique("c"))


def test_the_profile_is_shown_with_the_customer(shop, api, unique, at, problem):
    customer = unique("c")
    assert api.put(f"/v1/customers/{customer}", json={}).status_code == 200
    shop.act(buy(customer, at(days=1)))
    assert api.get(f"/v1/customers/{customer}").json()["profile"]
    assert api.delete(f"/v1/customers/{customer}", params={"wait": "applied"}).json()["state"] == "done"
    assert shop.seen(customer, at(days=2)) == shop.seen(unique("c"), at(days=2))
    problem(api.get(f"/v1/customers/{customer}"), 404)


def test_five_thousand_at_once(shop, unique, at, problem):
    customers = [unique("c") for _ in range(50)]
    shop.act(*(buy(customers[number % 50], at(seconds=number)) for number in range(5000)))
    first = shop.seen(customers[0], at(days=1))
    assert first["garden"] != first["tools"]
    shop.act(*[buy(customers[0], at())] * 5001, expect=400, wait=False)
