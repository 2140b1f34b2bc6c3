"""Learning from the chosen offer alone: the weights of learning from all offers, to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing

import pytest

from contextual_bandit import vowpal_lessons
from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.types import Action, Context, Features, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy
from contextual_bandit.vowpal_lessons import NumberReader, learns_chosen_alone
from contextual_bandit.vowpal_progressive import ProgressivePolicy

MakeInteraction = Callable[..., LoggedInteraction]
DEFAULT = "--cb_explore_adf --squarecb --cb_type mtr --gamma_scale 10 --gamma_exponent 0.5 -q ::"
SETTINGS = {
    "new loops": DEFAULT_ARGUMENTS,
    "all pairs": DEFAULT,
    "ignore": "--cb_explore_adf --epsilon 0.1 -q :: --ignore H",
    "keep": "--cb_explore_adf --epsilon 0.1 -q :: --keep O --keep d",
    "ignore_linear": "--cb_explore_adf --squarecb -q HO --ignore_linear H",
    "noconstant": "--cb_explore_adf --squarecb -q :: --noconstant",
    "regularised": "--cb_explore_adf --squarecb -q :: --l1 0.0001 --l2 0.0001",
    "bits": "--cb_explore_adf --squarecb --interactions HOA -b 20",
}


def hard_context(dice: random.Random) -> dict[str, Features]:
    """Namespaces that begin like others, empty ones, words to escape, and numbers that a text reader rounds."""
    return {
        "device": {"kind": dice.choice(("phone", "a b|c:d")), "is new": dice.random() < 0.5, "speed": dice.random()},
        "H": {"segment": dice.choice(("new", "both")), "flag": dice.choice((True, 1.0, 0.0, "true", 2.0)), "n": 0.123},
        "days": {} if dice.random() < 0.5 else {"left": float(dice.randrange(3)), "tiny": 1e-7, "huge": 12345678.9},
        "Age": {"years": -40.5, "né": 1 / 3},
        "other": {"price": dice.choice((19.99, 1e-12, 3.0))},
    }


def hard_log(make_interaction: MakeInteraction, count: int) -> list[LoggedInteraction]:
    dice = random.Random(5)
    found = []
    for number in range(1, count + 1):
        actions = [
            Action(f"o{index}", {"category": f"c{index % 3}", "price": index / 7}, {"r4": dice.random()}, index % 2)
            for index in range(dice.randrange(1, 7))
        ]
        found.append(
            make_interaction(
                number, float(dice.random() < 0.4), served=(1 / len(actions),) * len(actions),
                chosen=dice.randrange(len(actions)), actions=actions, context=hard_context(dice),
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize("arguments", SETTINGS.values(), ids=SETTINGS)
def test_weights_are_those_of_learning_from_all_offers(make_interaction: MakeInteraction, arguments: str) -> None:
    log = hard_log(make_interaction, 150)
    with closing(VowpalPolicy(arguments)) as chosen, closing(ProgressivePolicy(arguments)) as whole:
        assert learns_chosen_alone(arguments)
        for one in log:
            chosen.learn([one])
            whole.predict_then_learn(one)
        for one in log[:40]:
            asked = (one.decision.context, one.decision.actions)
            assert chosen.distribution(*asked) == whole.distribution(*asked)


def test_what_is_remembered_is_not_in_the_saved_bytes(
    make_interaction: MakeInteraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = hard_log(make_interaction, 60)

    def learned() -> bytes:
        with closing(VowpalPolicy(DEFAULT)) as policy:
            policy.learn(log)
            return policy.save()

    remembering = learned()
    monkeypatch.setattr(vowpal_lessons, "MOST_FEATURES", 2)
    assert learned() == remembering


def test_features_of_other_offers_teach_nothing(make_interaction: MakeInteraction) -> None:
    """What the other offers were like does not matter, how many there were does."""

    def learned(others: list[Action]) -> bytes:
        actions = [Action("shown", {"price": 2.0}), *others]
        with closing(VowpalPolicy("--cb_explore_adf --epsilon 0.1 -q ::")) as policy:
            for number in range(1, 20):
                served = (1 / len(actions),) * len(actions)
                policy.learn(
                    [make_interaction(number, 1.0, served=served, actions=actions, context={"H": {"n": number / 3}})]
                )
            return policy.save()

    assert learned([Action("x", {"price": 3.0})]) == learned([Action("y", {"category": "toys"}, {"r4": 0.5})])
    assert learned([Action("x", {})]) != learned([Action("x", {}), Action("y", {})])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--cb_explore_adf", True),
        ("--cb_explore_adf --cb_type mtr", True),
        ("--cb_explore_adf --cb_type=mtr", True),
        ("--cb_explore_adf --cb_type ips", False),
        ("--cb_explore_adf --cb_type=dm", False),
        ("--ccb_explore_adf --cb_type mtr", False),
    ],
)
def test_only_where_other_offers_teach_nothing(arguments: str, expected: bool) -> None:
    assert learns_chosen_alone(arguments) is expected


def test_numbers_are_those_of_the_text_reader() -> None:
    with closing(NumberReader()) as reader:
        assert reader.read(0.123) != 0.123
        assert reader.read(0.123) == pytest.approx(0.123, rel=1e-6)
        assert [reader.read(number) for number in (2, 0.5, -4.0, 0.0, 1e-60)] == [2.0, 0.5, -4.0, 0.0, 0.0]


def test_a_closed_policy_that_has_learned_gives_its_examples_back(make_interaction: MakeInteraction) -> None:
    """Closing finishes examples that stood at any place of decisions of any length."""
    for one in hard_log(make_interaction, 12):
        policy = VowpalPolicy(DEFAULT)
        policy.learn([one])
        policy.distribution(Context({}), one.decision.actions)
        policy.close()
