"""Offers that are kept parsed, and features that are kept hashed, predict as those read anew."""

from __future__ import annotations

from contextlib import closing
from random import Random

from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.types import Action, Context, Features
from contextual_bandit.vowpal import VowpalPolicy

OFFERS: dict[str, Features] = {f"o{number}": {"category": f"c{number % 3}"} for number in range(6)}


def actions_of(customer: Random) -> tuple[Action, ...]:
    affinities: list[Features] = [{"r4": float(customer.randrange(3)), "seen": True}, {}, {"r4": 0.0}]
    return tuple(
        Action(name, features, affinities[index % 3], version=1)
        for index, (name, features) in enumerate(OFFERS.items())
    )


def test_customers_in_turn_get_what_each_gets_alone() -> None:
    draw = Random(1)
    people = [(Context({"H": {"segment": f"s{number}"}}), actions_of(draw)) for number in range(8)]
    with closing(VowpalPolicy(DEFAULT_ARGUMENTS)) as shared:
        for _ in range(3):
            for context, actions in people:
                with closing(VowpalPolicy(DEFAULT_ARGUMENTS)) as alone:
                    assert shared.distribution(context, actions) == alone.distribution(context, actions)


def test_one_offer_of_many_keeps_nothing_of_the_customer_before() -> None:
    near: Features = {"r4": 9.0}
    far: Features = {}
    with closing(VowpalPolicy("--cb_explore_adf --epsilon 0.1 -q ::")) as policy:
        first = [Action(name, features, near, 1) for name, features in OFFERS.items()]
        then = [Action(name, features, far, 1) for name, features in OFFERS.items()]
        before = policy.distribution(Context({}), then)
        policy.distribution(Context({}), first)
        assert policy.distribution(Context({}), then) == before


def test_equal_features_that_are_other_objects_are_read_anew() -> None:
    features: dict[str, str | float | bool] = {"segment": "new"}
    with closing(VowpalPolicy(DEFAULT_ARGUMENTS)) as policy:
        actions = actions_of(Random(2))
        given = policy.distribution(Context({"H": dict(features)}), actions)
        assert policy.distribution(Context({"H": dict(features)}), actions) == given
