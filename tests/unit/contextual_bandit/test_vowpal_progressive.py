"""Asked and taught on the same decision: the same probabilities as asking and teaching apart."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from contextual_bandit.types import Action, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy
from contextual_bandit.vowpal_progressive import ProgressivePolicy

MakeInteraction = Callable[..., LoggedInteraction]


def log_of(make_interaction: MakeInteraction, version: int, n: int = 300) -> list[LoggedInteraction]:
    dice = random.Random(7)
    found = []
    for number in range(n):
        actions = [
            Action(f"o{index}", {"category": f"c{index % 2}"}, {"r16": dice.random()} if index else {}, version)
            for index in range(4)
        ]
        chosen, age = dice.randrange(4), dice.choice("abc")
        found.append(
            make_interaction(
                number + 1, float(dice.random() < 0.3), served=(0.25,) * 4, chosen=chosen, actions=actions,
                context={"D": {"age": age}, "W": {"celsius": dice.uniform(-5.0, 30.0)}},
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize("version", [0, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        "--cb_explore_adf --squarecb --cb_type mtr --gamma_scale 10 -q ::",
        "--cb_explore_adf --epsilon 0.1 --cb_type ips -q DO -q DA",
        "--cb_explore_adf --softmax --lambda 10 --cb_type dm",
        "--cb_explore_adf --regcb --cb_type mtr -q DO",
        "--cb_explore_adf --synthcover --cb_type mtr",
        "--cb_explore_adf --first 20",
        "--cb_explore_adf --squarecb --large_action_space --max_actions 3 --cb_type mtr",
    ],
)
def test_probabilities_are_the_same_to_the_bit(make_interaction: MakeInteraction, arguments: str, version: int) -> None:
    apart, together = VowpalPolicy(arguments), ProgressivePolicy(arguments)
    for one in log_of(make_interaction, version):
        expected = apart.distribution(one.decision.context, one.decision.actions)
        apart.learn([one])
        assert together.predict_then_learn(one) == expected
    apart.close()
    together.close()


def test_without_a_propensity_nothing_is_learned(make_interaction: MakeInteraction) -> None:
    one = make_interaction(1)
    slot = replace(one.decision.slots[0], propensity=None)
    with pytest.raises(ValueError, match="decision 'd1' has no propensity"):
        ProgressivePolicy("--cb_explore_adf").predict_then_learn(
            replace(one, decision=replace(one.decision, slots=(slot,)))
        )
