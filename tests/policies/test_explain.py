"""Explanations add up to what Vowpal Wabbit predicts, name what it sees, and leave no trace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pylibvw
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.explain import ActionExplanation, Unexplainable, is_exploration, missing_values
from contextual_bandit.loops import DEFAULT_ARGUMENTS
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    Distribution,
    Features,
    LearningSetting,
    LoggedInteraction,
    SlotDecision,
)
from contextual_bandit.vowpal import VowpalPolicy, _action, _line, check_arguments, shared_line
from simulator.replay import ARGUMENTS as LINEAR

EXPLORE = "--cb_explore_adf"
LOW, HIGH = -2.0, 3.0
EVERYTHING = 10**7
NOW = datetime(2026, 3, 2, tzinfo=UTC)
SETTINGS = {
    "linear": LINEAR,
    "default": DEFAULT_ARGUMENTS,
    "pair": f"{EXPLORE} -q OA",
    "two pairs": f"{EXPLORE} -q OA -q HO",
    "pair and its mirror": f"{EXPLORE} -q OA -q AO",
    "pair and its mirror kept": f"{EXPLORE} -q OA -q AO --leave_duplicate_interactions",
    "pair with itself": f"{EXPLORE} -q OO",
    "all pairs, mirrors kept": f"{EXPLORE} -q :: --leave_duplicate_interactions",
    "one wildcard": f"{EXPLORE} -q :O",
    "cubic": f"{EXPLORE} --cubic HOA",
    "cubic with a square": f"{EXPLORE} --cubic OAO -q OA",
    "all triples": f"{EXPLORE} --cubic :::",
    "all triples, mirrors kept": f"{EXPLORE} --cubic ::: --leave_duplicate_interactions",
    "triple with a wildcard": f"{EXPLORE} --cubic A:O",
    "fours": f"{EXPLORE} --interactions HOAd --interactions OAOA",
    "fours with wildcards": f"{EXPLORE} --interactions :O:A",
    "mtr": f"{EXPLORE} --cb_type mtr -q ::",
    "ips": f"{EXPLORE} --cb_type ips -q ::",
    "dm": f"{EXPLORE} --cb_type dm -q ::",
    "few bits": f"{EXPLORE} -q :: -b 8",
    "many bits": f"{EXPLORE} -q :: -b 22",
    "no constant": f"{EXPLORE} -q :: --noconstant",
    "ignore": f"{EXPLORE} -q :: --ignore Ad",
    "keep": f"{EXPLORE} -q :: --keep OAH",
    "keep before ignore": f"{EXPLORE} -q :: --keep OA --ignore A",
    "ignore linear": f"{EXPLORE} -q :: --ignore_linear OH --ignore_linear A",
    "coin": f"{EXPLORE} --coin -q OA",
    "sgd": f"{EXPLORE} --sgd -l 0.05 --power_t 0 -q OA",
    "logistic": f"{EXPLORE} --loss_function logistic --link logistic -q OA",
    "l1": f"{EXPLORE} -q :: --l1 0.0001",
    "l1 and l2": f"{EXPLORE} -q OA --l1 0.0001 --l2 0.001",
    "regcb": f"{EXPLORE} --regcb -q OA",
    "first": f"{EXPLORE} --first 20 -q OA",
    "synthcover": f"{EXPLORE} --synthcover --psi 0.1 -q OA",
    "large": f"{EXPLORE} --large_action_space --max_actions 5 -q OA",
}
settings = pytest.mark.parametrize("arguments", SETTINGS.values(), ids=SETTINGS)


def make_moment(rng: random.Random, count: int = 5, version: int = 1) -> tuple[Context, list[Action]]:
    """Two namespaces that begin alike, names that need escapes, zeros, negative numbers, and no affinity at times."""
    namespaces: dict[str, Features] = {
        "H": {"segment": rng.choice(["new", "both"]), "frequency": rng.random(), "trend": -rng.random(), "none": 0.0},
        "S": {"month": f"m{rng.randrange(4)}"},
        "device": {"kind": rng.choice(["phone", "tab let"]), "7": 2.0},
        "data": {"odd: name|": "a b", "member": rng.random() < 0.5},
    }
    actions = [
        Action(
            f"offer-{number}",
            {"category": f"c{number % 3}", "discount": (number + 1) / 10, "new": number % 2 == 0},
            {"r4": round(rng.random() * 9, 2), "r52": round(rng.random(), 2)} if number != 3 else {},
            version,
        )
        for number in range(count)
    ]
    return Context(namespaces), actions


def make_log(make_interaction: Callable[..., LoggedInteraction], count: int) -> list[LoggedInteraction]:
    rng = random.Random(3)
    log = []
    for number in range(1, count + 1):
        context, actions = make_moment(rng, version=0)
        log.append(
            make_interaction(
                number,
                rng.choice([LOW, HIGH, 0.5]),
                served=(0.2,) * len(actions),
                chosen=rng.randrange(len(actions)),
                context=context.namespaces,
                actions=actions,
            )
        )
    return log


@pytest.fixture(scope="module")
def log(make_interaction: Callable[..., LoggedInteraction]) -> list[LoggedInteraction]:
    return make_log(make_interaction, 80)


def moments(count: int = 5) -> list[tuple[Context, list[Action]]]:
    rng = random.Random(99)
    return [make_moment(rng) for _ in range(count)]


@contextmanager
def opened(arguments: str, model: bytes | None = None) -> Iterator[VowpalPolicy]:
    with closing(VowpalPolicy(LearningSetting(arguments, LOW, HIGH), model)) as policy:
        yield policy


def predicted(policy: VowpalPolicy, context: Context, actions: Sequence[Action]) -> list[float]:
    """The predicted costs as Vowpal Wabbit has them before any explorer makes probabilities of them."""
    examples = policy._parse([shared_line(context), *map(_action, actions)], len(actions) + 1)
    for example, action in zip(examples[1:], actions, strict=True):
        policy._set_affinity(example, action.affinity)
    pylibvw.vw.predict_multi(policy._workspace, examples)
    found = [example.get_partial_prediction() for example in examples[1:]]
    pylibvw.vw._finish_example_multi_ex(policy._workspace, examples)
    return found


def total(explanation: ActionExplanation) -> float:
    return explanation.base + math.fsum(entry.reward for entry in explanation.contributions) + explanation.rest


def assert_exact(policy: VowpalPolicy, asked: Sequence[tuple[Context, list[Action]]]) -> None:
    for context, actions in asked:
        found = policy.contributions(context, actions, largest=EVERYTHING)
        for explanation, cost in zip(found, predicted(policy, context, actions), strict=True):
            assert explanation.others == 0
            assert explanation.rest == 0.0
            assert total(explanation) == pytest.approx(explanation.score, abs=1e-12)
            # Vowpal Wabbit adds up in float32, so the allowance is relative to what is added.
            size = math.fsum(abs(entry.reward) for entry in explanation.contributions)
            assert explanation.score - LOW == pytest.approx(-(HIGH - LOW) * cost, rel=1e-4, abs=1e-6 * size + 1e-12)


# The sum


@settings
def test_all_contributions_add_up_to_the_prediction(arguments: str, log: list[LoggedInteraction]) -> None:
    assert check_arguments(arguments) == arguments
    with opened(arguments) as policy:
        policy.learn(log)
        assert any(cost != 0.0 for cost in predicted(policy, *moments()[0]))
        assert_exact(policy, moments())
        model = policy.save()
    with opened(arguments, model) as served:
        assert_exact(served, moments())


LETTERS = st.sampled_from("HSdOAA::O_")
INTERACTION = st.lists(LETTERS, min_size=2, max_size=4).map("".join)


@hypothesis_settings(max_examples=40)
@given(
    interactions=st.lists(INTERACTION, min_size=1, max_size=3),
    leave=st.booleans(),
    ignored=st.sampled_from(["", "--ignore d", "--ignore_linear OA", "--keep OAHd", "--noconstant"]),
)
def test_any_interactions_add_up(
    interactions: list[str], leave: bool, ignored: str, make_interaction: Callable[..., LoggedInteraction]
) -> None:
    named = " ".join(f"--interactions {interaction}" for interaction in interactions)
    arguments = f"{EXPLORE} {named} {ignored} {'--leave_duplicate_interactions' if leave else ''}"
    with opened(arguments) as policy:
        policy.learn(make_log(make_interaction, 15))
        assert_exact(policy, moments(2))


def test_shared_features_in_the_namespaces_of_offers_add_up(log: list[LoggedInteraction]) -> None:
    with opened(DEFAULT_ARGUMENTS) as policy:
        policy.learn(log)
        asked = [
            (Context({**context.namespaces, "Open": {"days": 3.0}, "A": {"r4": 1.5}}), actions)
            for context, actions in moments()
        ]
        # The offer without affinity of its own comes first, then those with.
        assert_exact(policy, [(context, [actions[3], *actions[:3]]) for context, actions in asked])


def test_scores_are_what_an_explorer_makes_probabilities_of(log: list[LoggedInteraction]) -> None:
    """Softmax of lambda times the negative cost: seen from outside, a higher score is a likelier offer."""
    with opened(f"{EXPLORE} --softmax --lambda 5 -q ::") as policy:
        policy.learn(log)
        for context, actions in moments():
            scores = [entry.score for entry in policy.contributions(context, actions)]
            weights = [math.exp(5.0 * (score - LOW) / (HIGH - LOW)) for score in scores]
            expected = [weight / sum(weights) for weight in weights]
            assert policy.distribution(context, actions) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("interactions", ["", "-q OA", "-q ::", "--cubic HOA", "--cubic OAO", "--interactions dOHA"])
def test_each_contribution_is_the_one_of_the_audit(
    interactions: str, log: list[LoggedInteraction], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Vowpal Wabbit's own audit: feature by feature the same name, value and weight."""
    path = tmp_path / "model.vw"
    context, actions = moments()[0]
    with opened(f"{EXPLORE} {interactions}") as policy:
        policy.learn(log)
        path.write_bytes(policy.save())
        explained = policy.contributions(context, actions, largest=EVERYTHING)
    workspace = Workspace(f"--quiet --audit -t -i {path}")
    lines = [_action(action).replace(" |A _", f" |A {_line(action.affinity)}") for action in actions]
    examples = workspace._parse("\n".join([shared_line(context), *lines]))
    capfd.readouterr()
    pylibvw.vw.predict_multi(workspace, examples)
    audits = [line for line in capfd.readouterr().out.splitlines() if line.startswith("\t")]
    pylibvw.vw._finish_example_multi_ex(workspace, examples)
    workspace.finish()
    assert len(audits) == len(actions)
    for explanation, audit in zip(explained, audits, strict=True):
        expected = {}
        for entry in audit.strip().split("\t"):
            name, _, value, weight = entry.partition("@")[0].rsplit(":", 3)
            if float(weight) != 0.0:
                expected[readable(name)] = (float(value), -(HIGH - LOW) * float(value) * float(weight))
        assert {entry.name for entry in explanation.contributions} == set(expected)
        for entry in explanation.contributions:
            assert (entry.value, entry.reward) == pytest.approx(expected[entry.name], rel=1e-4)


def readable(name: str) -> str:
    """An audit's name ("H^segment=new*O^id=1") as explanations have it."""
    name = name.replace("*", " × ").replace("^", ".").replace("Constant", "constant")
    return name.replace("%20", " ").replace("%3A", ":").replace("%7C", "|")


# No trace


@settings
def test_an_explanation_changes_neither_probabilities_nor_bytes(arguments: str, log: list[LoggedInteraction]) -> None:
    with opened(arguments) as policy:
        policy.learn(log)
        before = [policy.distribution(context, actions) for context, actions in moments()]
        saved = policy.save()
        for context, actions in moments():
            policy.contributions(context, actions)
            policy.contributions(context, [replace(action, version=0) for action in actions])
        assert policy.save() == saved
        assert [policy.distribution(context, actions) for context, actions in moments()] == before


@pytest.mark.parametrize("arguments", [LINEAR, DEFAULT_ARGUMENTS, SETTINGS["l1"]])
def test_a_learner_that_explains_in_between_ends_with_the_same_bytes(
    arguments: str, log: list[LoggedInteraction]
) -> None:
    with opened(arguments) as quiet, opened(arguments) as talking:
        for number, interaction in enumerate(log):
            quiet.learn([interaction])
            talking.learn([interaction])
            if number % 10 == 0:
                talking.contributions(*moments()[0])
        assert talking.save() == quiet.save()


# What is said


def test_an_untrained_policy_has_nothing_to_say() -> None:
    with opened(DEFAULT_ARGUMENTS) as policy:
        context, actions = moments()[0]
        assert policy.contributions(context, []) == ()
        assert policy.contributions(context, actions) == tuple(
            ActionExplanation(action.offer_id, LOW, LOW, (), 0.0, 0) for action in actions
        )


def test_the_largest_come_first_and_the_rest_is_their_sum(log: list[LoggedInteraction]) -> None:
    with opened(DEFAULT_ARGUMENTS) as policy:
        policy.learn(log)
        context, actions = moments()[0]
        everything = policy.contributions(context, actions, largest=EVERYTHING)
        for count in (0, 1, 8):
            for few, whole in zip(policy.contributions(context, actions, largest=count), everything, strict=True):
                assert few.contributions == whole.contributions[:count]
                assert few.others == len(whole.contributions) - count
                assert few.score == pytest.approx(whole.score, abs=1e-12)
                assert total(few) == pytest.approx(few.score, abs=1e-12)
                sizes = [abs(entry.reward) for entry in whole.contributions]
                assert sizes == sorted(sizes, reverse=True)
                assert 0.0 not in sizes


def test_names_are_those_of_the_request_and_the_catalogue(log: list[LoggedInteraction]) -> None:
    with opened(f"{EXPLORE} -q HO") as policy:
        policy.learn(log)
        context, actions = moments()[0]
        found = {
            entry.name: entry
            for entry in policy.contributions(context, actions[:1], largest=EVERYTHING)[0].contributions
        }
    segment = context.namespaces["H"]["segment"]
    member = "true" if context.namespaces["data"]["member"] else "false"
    assert {
        "constant", f"H.segment={segment}", "data.odd: name|=a b", f"data.member={member}", "device.7", "O.id=offer-0",
        "O.new=true", "O.category=c0", "O.discount", "A.r4", f"H.segment={segment} × O.category=c0",
        "H.trend × O.discount",
    } <= set(found)  # fmt: skip
    assert "H.none" not in found
    assert found["A.r4"].value == pytest.approx(actions[0].affinity["r4"])
    assert found["H.trend × O.discount"].value == pytest.approx(float(context.namespaces["H"]["trend"]) * 0.1)
    assert {name for name, entry in found.items() if entry.shared} == {
        name for name in found if "O." not in name and "A." not in name
    }


def test_what_all_offers_share_can_be_left_out_of_the_list(log: list[LoggedInteraction]) -> None:
    with opened(DEFAULT_ARGUMENTS) as policy:
        policy.learn(log)
        context, actions = moments()[0]
        everything = policy.contributions(context, actions, largest=EVERYTHING)
        for own, whole in zip(policy.contributions(context, actions, own_only=True), everything, strict=True):
            assert own.contributions == tuple(entry for entry in whole.contributions if not entry.shared)[:8]
            assert own.others == len(whole.contributions) - 8
            assert own.score == pytest.approx(whole.score, abs=1e-12)
        shared = [{entry for entry in whole.contributions if entry.shared} for whole in everything]
        assert shared[0]
        assert all(entries == shared[0] for entries in shared)


def test_what_was_learned_is_what_is_said(make_interaction: Callable[..., LoggedInteraction]) -> None:
    """New customers like gardens, others do not: the pair speaks for the offer, and against it."""
    actions = [Action("rake", {"category": "garden"}), Action("doll", {"category": "toys"})]
    log = [
        make_interaction(
            number,
            HIGH if number % 4 in (0, 3) else LOW,
            served=(0.5, 0.5),
            chosen=number % 2,
            context={"H": {"segment": "new" if number % 4 < 2 else "both"}},
            actions=actions,
        )
        for number in range(1, 400)
    ]
    with opened(f"{EXPLORE} -q HO") as policy:
        policy.learn(log)
        new, both = (
            policy.contributions(Context({"H": {"segment": segment}}), actions, largest=3, own_only=True)
            for segment in ("new", "both")
        )
    assert new[0].score > 2.0 > 0.0 > new[1].score
    assert both[1].score > 2.0 > 0.0 > both[0].score
    name = "H.segment={} × O.category={}"
    assert {entry.name: entry.reward for entry in new[0].contributions}[name.format("new", "garden")] > 0.5
    assert {entry.name: entry.reward for entry in both[0].contributions}[name.format("both", "garden")] < -0.5


# What is refused


def test_too_many_terms_are_refused_before_they_are_made() -> None:
    with opened(f"{EXPLORE} --interactions ::::::") as policy:
        context = Context({"H": {f"h{number}": float(number + 1) for number in range(60)}})
        with pytest.raises(Unexplainable, match="2 offers have more than 1000000 terms"):
            policy.contributions(context, moments()[0][1][:2])


def test_namespaces_in_hexadecimal_are_refused() -> None:
    with opened(f"{EXPLORE} --interactions \\x41O") as policy, pytest.raises(Unexplainable, match="hexadecimal"):
        policy.contributions(*moments()[0])


# Exploration and missing values


@pytest.mark.parametrize(
    ("served", "chosen", "exploration"),
    [
        ((0.9, 0.1), 0, False),
        ((0.9, 0.1), 1, True),
        ((0.4, 0.4, 0.2), 0, False),
        ((0.4, 0.4, 0.2), 1, False),
        ((0.4, 0.4, 0.2), 2, True),
        ((1.0,), 0, False),
        # The likeliest was exhausted at the draw.
        ((0.0, 0.7, 0.3), 1, False),
    ],
)
def test_a_pick_is_exploration_when_another_was_likelier(
    served: tuple[float, ...], chosen: int, exploration: bool, make_decision: Callable[..., Decision]
) -> None:
    assert is_exploration(make_decision(served=served, chosen=chosen)) is exploration


def test_what_was_served_counts_and_not_what_the_policy_gave(make_decision: Callable[..., Decision]) -> None:
    decision: Any = make_decision()
    slot = SlotDecision(1, Distribution((0.9, 0.1), (0.3, 0.7)), 0.7, 0.5)
    assert not is_exploration(replace(decision, slots=(slot,)))


def test_a_fallback_is_no_exploration(make_decision: Callable[..., Decision]) -> None:
    decision: Any = make_decision()
    assert not is_exploration(replace(decision, slots=(SlotDecision(0, None, None, None),), use="fallback"))


def test_missing_values_are_sources_and_features_that_say_so() -> None:
    context = Context(
        {
            "H": {"segment": "new", "recency": "never", "recency_quintile": "none", "rate": 0.0, "known": False},
            "W": {"condition": "unknown", "precipitation": "none"},
            "D": {"age_band": "25-34"},
        }
    )
    sources = {"H": "stored", "W": "missing", "D": "request", "D.income": "missing", "S": "clock"}
    assert missing_values(context, sources) == ("D.income", "H.recency", "H.recency_quintile", "W", "W.condition")
    assert missing_values(Context({"W": {"precipitation": "unknown"}}), {}) == ("W.precipitation",)
    assert missing_values(Context({}), {}) == ()
