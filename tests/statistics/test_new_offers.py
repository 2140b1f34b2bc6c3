"""A new offer starts from its features: what was learned of offers like it holds for it too."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Action, Context, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LOOP = LoopConfig("homepage")
# Offers of gardens please, offers of tools do not; the kind of discount says nothing.
RATES = {"garden": 0.6, "tea": 0.2, "tools": 0.05}
ROUNDS = 4000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_new_offer_is_judged_by_offers_like_it(seed: int) -> None:
    dice = random.Random(seed)
    known = [Action(f"{name}-{number}", {"category": name}) for name in RATES for number in range(3)]
    policy = VowpalPolicy(LOOP.arguments)
    for number in range(ROUNDS):
        actions = dice.sample(known, 4)
        moment = Moment(f"s{seed}-{number}", None, NOW, NOW, deferred=False, request_hash="h")
        context = Context({"H": {"segment": dice.choice(("new", "both"))}})
        decision = decide(LOOP, ServingPolicy(policy, "p", "s"), moment, Choice(context, actions, [], known[0]))
        reward = float(dice.random() < RATES[str(decision.chosen.features["category"])])
        policy.learn([LoggedInteraction(number + 1, decision, reward, "learn", NOW)])
    fresh = [Action(f"never-seen-{name}", {"category": name}) for name in RATES]
    given = dict(zip(RATES, policy.distribution(Context({"H": {"segment": "new"}}), fresh), strict=True))
    policy.close()
    assert given["garden"] > 0.7, given
    assert given["tools"] < 0.2, given
    assert given["garden"] > given["tea"]
