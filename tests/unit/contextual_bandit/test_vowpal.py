from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.types import Action, Context, FeatureValue, LearningSetting, LoggedInteraction
from contextual_bandit.vowpal import (
    LARGEST_BITS,
    BadArguments,
    UnusableExample,
    VowpalPolicy,
    check_arguments,
    policy_id,
    shared_line,
)

EPSILON = "--cb_explore_adf --epsilon 0.2 --cb_type mtr -b 12"
CONTEXT = Context({"H": {"segment": "new"}})
ACTIONS = [Action(name, {"category": name}) for name in ("a", "b", "c")]


@pytest.fixture
def policy() -> Iterator[VowpalPolicy]:
    made = VowpalPolicy(EPSILON)
    yield made
    made.close()


def test_arguments_are_spelled_in_one_way() -> None:
    assert check_arguments("--cb_explore_adf   --epsilon=0.1 '-q' ::") == "--cb_explore_adf --epsilon 0.1 -q ::"
    assert check_arguments(DEFAULT_ARGUMENTS) == DEFAULT_ARGUMENTS


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("", "lack --cb_explore_adf"),
        ("--epsilon 0.1", "lack --cb_explore_adf"),
        ("--cb_explore_adf --bag 3", "'--bag' is not allowed"),
        ("--cb_explore_adf --cover 3", "'--cover' is not allowed"),
        ("--cb_explore_adf --rnd 3", "'--rnd' is not allowed"),
        ("--cb_explore_adf -f model", "'-f' is not allowed"),
        ("--cb_explore_adf -i model", "'-i' is not allowed"),
        ("--cb_explore_adf --data x", "'--data' is not allowed"),
        ("--cb_explore_adf file", "'file' is not allowed"),
        ("--cb_explore_adf --cb_type dr", "cannot be replayed"),
        ("--cb_explore_adf --cb_type sm", "unusable value 'sm'"),
        ("--cb_explore_adf --epsilon", "unusable value ''"),
        ("--cb_explore_adf --epsilon much", "unusable value 'much'"),
        ("--cb_explore_adf --epsilon 0.1;ls", "unusable value"),
        ("--cb_explore_adf --epsilon nan", "unusable value"),
        ("--cb_explore_adf -q", "unusable value ''"),
        ("--cb_explore_adf -q abc", "unusable value 'abc'"),
        ("--cb_explore_adf -b 0", "whole number from 1 to"),
        (f"--cb_explore_adf -b {LARGEST_BITS + 1}", "whole number from 1 to"),
        ("--cb_explore_adf --bit_precision 1.5", "whole number from 1 to"),
        ("--cb_explore_adf --bit_precision -1", "whole number from 1 to"),
        ("--cb_explore_adf 'open", "quotation"),
        ("--cb_explore_adf --squarecb --regcb --epsilon 7 --first 3 --softmax", "arguments"),
    ],
)
def test_arguments_that_are_not_allowed_are_named(arguments: str, why: str) -> None:
    with pytest.raises(BadArguments, match=why):
        check_arguments(arguments)


def test_equal_settings_have_equal_names() -> None:
    assert policy_id(EPSILON) == policy_id(EPSILON) != policy_id(DEFAULT_ARGUMENTS)
    assert policy_id(EPSILON).startswith("vw-")


def test_the_shared_line_is_what_people_read() -> None:
    assert shared_line(Context({})) == "shared |"
    assert shared_line(Context({"H": {"segment": "new", "score": 1.0, "half": 0.5, "yes": True, "no": False}})) == (
        "shared |H segment=new score half:0.5 yes=true no=false"
    )


def test_what_vowpal_wabbit_would_read_as_its_own_is_escaped() -> None:
    assert shared_line(Context({"a b": {"x|y": "1:2", "100%": "tab\tnew\nline", "n b": "\u2028"}})) == (
        "shared |a%20b x%7Cy=1%3A2 100%25=tab%09new%0Aline n%20b=%E2%80%A8"
    )


TEXTS = st.text(min_size=1, max_size=8)
FEATURES: st.SearchStrategy[dict[str, FeatureValue]] = st.dictionaries(
    TEXTS, st.text(max_size=8) | st.booleans() | st.floats(-1e9, 1e9), max_size=4
)


@given(st.dictionaries(TEXTS.map(lambda name: "x" + name), FEATURES, max_size=3), FEATURES, FEATURES)
def test_any_features_parse_to_one_example_each(
    namespaces: dict[str, dict[str, FeatureValue]], features: dict[str, FeatureValue], affinity: dict[str, FeatureValue]
) -> None:
    policy = VowpalPolicy(EPSILON)
    try:
        found = policy.distribution(Context(namespaces), [Action("a|b:c d", features, affinity), Action("", {}, {}, 3)])
        assert len(found) == 2
        assert sum(found) == pytest.approx(1.0)
    finally:
        policy.close()


def test_lines_that_parse_to_something_else_are_refused(policy: VowpalPolicy) -> None:
    with pytest.raises(UnusableExample, match="1 lines parsed to 2 examples"):
        policy._parse(["shared |a b\n|c d"], 1)
    assert len(policy.distribution(CONTEXT, ACTIONS)) == 3


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 100.0), (0.0, 0.01), (5.0, 6.0)])
def test_the_reward_range_is_mapped_to_costs(
    low: float, high: float, make_interaction: Callable[..., LoggedInteraction]
) -> None:
    """The same rewards on another scale teach the same: explorers assume costs from 0 to -1."""
    seen = make_interaction(1, 0.0).decision
    models = []
    for least, most in ((0.0, 1.0), (low, high)):
        with closing(VowpalPolicy(LearningSetting(EPSILON, least, most))) as policy:
            policy.learn(
                [make_interaction(n, least + (most - least) * share) for n, share in enumerate((0.0, 1.0, 1.0))]
            )
            models.append(policy.distribution(seen.context, seen.actions))
    assert models[0] == pytest.approx(models[1], abs=1e-6)
    assert max(models[0]) > min(models[0])


def test_nothing_is_learned_without_a_propensity(
    policy: VowpalPolicy, make_interaction: Callable[..., LoggedInteraction]
) -> None:
    interaction = make_interaction(1, 1.0)
    slot = replace(interaction.decision.slots[0], distribution=None, propensity=None)
    fallback = replace(interaction, decision=replace(interaction.decision, slots=(slot,), use="fallback"))
    with pytest.raises(ValueError, match="decision 'd1' has no propensity"):
        policy.learn([fallback])


def test_learning_raises_the_probability_of_what_was_rewarded(
    policy: VowpalPolicy, make_interaction: Callable[..., LoggedInteraction]
) -> None:
    actions = ACTIONS[:2]
    for number in range(1, 101):
        chosen = number % 2
        policy.learn([make_interaction(number, float(chosen), served=(0.5, 0.5), chosen=chosen, actions=actions)])
    assert policy.distribution(CONTEXT, actions) == pytest.approx((0.1, 0.9))


def test_a_setting_that_vowpal_wabbit_refuses_is_an_error_of_its_own() -> None:
    with pytest.raises(RuntimeError):
        VowpalPolicy(EPSILON, b"not a model")


def test_an_affinity_of_zero_is_none(policy: VowpalPolicy) -> None:
    with_zero = [Action("a", {}, {"r4": 0.0}), Action("b", {}, {})]
    without = [Action("a", {}, {}), Action("b", {}, {})]
    assert policy.distribution(CONTEXT, with_zero) == policy.distribution(CONTEXT, without)


def test_affinities_that_share_an_object_count_as_those_that_do_not(policy: VowpalPolicy) -> None:
    shared = {"r4": 3.25, "odd name|x": 0.5, "zero": 0.0, "word": "yes", "flag": True}
    for version in (0, 1):
        together = [replace(action, affinity=shared, version=version) for action in ACTIONS]
        apart = [replace(action, affinity=dict(shared), version=version) for action in ACTIONS]
        first = policy.distribution(CONTEXT, together)
        # Twice, as the first call makes what later ones reuse.
        assert policy.distribution(CONTEXT, apart) == policy.distribution(CONTEXT, together) == first


def test_equal_values_of_other_types_are_other_features() -> None:
    lines = [shared_line(Context({"H": {"new": value}})) for value in (True, 1.0, "1.0", True)]
    assert lines == ["shared |H new=true", "shared |H new", "shared |H new=1.0", "shared |H new=true"]


@pytest.mark.parametrize("arguments", ["--cb_explore_adf", "--ccb_explore_adf", "--cb_explore_adf --cb_type dm"])
def test_a_closed_policy_is_gone_at_once(arguments: str) -> None:
    """Not when the collector comes: a workspace holds megabytes, and long-running processes collect rarely."""
    policy = VowpalPolicy(arguments)
    known = weakref.ref(policy)
    gc.disable()
    try:
        policy.close()
        policy.close()
        del policy
        assert known() is None
    finally:
        gc.enable()
