"""What every policy must hold, and which learning settings are resumable (replayed to the byte)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.loops import DEFAULT_ARGUMENTS, BaselineSetting
from contextual_bandit.policy import FirstActionPolicy, Policy, UniformPolicy, pick, uniform_number, with_floor
from contextual_bandit.types import Action, Context, Features, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy, check_arguments

FLOOR = 0.02
EXPLORE = "--cb_explore_adf"
RESUMABLE = {
    "default": DEFAULT_ARGUMENTS,
    "epsilon": f"{EXPLORE} --epsilon 0.1 -q ::",
    "squarecb": f"{EXPLORE} --squarecb --gamma_scale 100 -q SO",
    "regcb": f"{EXPLORE} --regcb --mellowness 0.1",
    "regcbopt": f"{EXPLORE} --regcbopt --mellowness 0.1",
    "softmax": f"{EXPLORE} --softmax --lambda 5 -q OA",
    "first": f"{EXPLORE} --first 20",
    "synthcover": f"{EXPLORE} --synthcover --psi 0.1",
    "large": f"{EXPLORE} --large_action_space --max_actions 5",
    "mtr": f"{EXPLORE} --epsilon 0.1 --cb_type mtr",
    "ips": f"{EXPLORE} --epsilon 0.1 --cb_type ips",
    "dm": f"{EXPLORE} --epsilon 0.1 --cb_type dm",
    "coin": f"{EXPLORE} --epsilon 0.1 --coin",
    "sgd": f"{EXPLORE} --epsilon 0.1 --sgd -l 0.1 --power_t 0",
    "interactions": f"{EXPLORE} --squarecb --interactions HOA -b 16",
    "slates": "--ccb_explore_adf --epsilon 0.1 -q ::",
    "slates softmax": "--ccb_explore_adf --softmax --lambda 5 --epsilon 0.1 --cb_type ips -q OA",
}
SEGMENTS = ("new", "both", "transactions_only")
CATEGORIES = ("garden", "toys", "food", "books", "music", "shoes")

settings = pytest.mark.parametrize("arguments", RESUMABLE.values(), ids=RESUMABLE)


@contextmanager
def opened(arguments: str, model: bytes | None = None) -> Iterator[VowpalPolicy]:
    with closing(VowpalPolicy(arguments, model)) as policy:
        yield policy


def make_actions(rng: random.Random, count: int = 6, version: int = 0) -> list[Action]:
    """Offers with the affinities of one customer; a version above 0 marks them as the catalogue's."""
    return [
        Action(
            f"offer-{category}",
            {"category": category, "discount": (number + 1) / 10, "new": number % 2 == 0},
            {"r4": round(rng.random() * 30, 2), "r16": round(rng.random() * 9, 2), "r52": round(rng.random() * 3, 2)},
            version,
        )
        for number, category in enumerate(CATEGORIES[:count])
    ]


def make_context(rng: random.Random) -> Context:
    namespaces: dict[str, Features] = {
        "H": {"segment": rng.choice(SEGMENTS), "frequency": f"f{rng.randrange(4)}"},
        "S": {"weekday": f"d{rng.randrange(7)}"},
        "device": {"kind": "phone", "speed": round(rng.random(), 3)},
    }
    return Context(namespaces)


def make_log(
    make_interaction: Callable[..., LoggedInteraction], count: int, *, seed: int = 7, version: int = 0, start: int = 1
) -> list[LoggedInteraction]:
    """A log in which each segment likes one category."""
    rng = random.Random(seed)
    log = []
    for number in range(start, start + count):
        actions, context = make_actions(rng, rng.randrange(2, 7), version), make_context(rng)
        served = with_floor([rng.random() + 0.05 for _ in actions], FLOOR)
        chosen = pick(served, rng.random())
        liked = (
            actions[chosen].features["category"] == CATEGORIES[SEGMENTS.index(str(context.namespaces["H"]["segment"]))]
        )
        log.append(
            make_interaction(
                number,
                float(liked and rng.random() < 0.9),
                served=served,
                chosen=chosen,
                context=context.namespaces,
                actions=actions,
            )
        )
    return log


@pytest.fixture(scope="module")
def log(make_interaction: Callable[..., LoggedInteraction]) -> list[LoggedInteraction]:
    return make_log(make_interaction, 120)


def moments(count: int = 12, version: int = 0) -> list[tuple[Context, list[Action]]]:
    rng = random.Random(99)
    return [(make_context(rng), make_actions(rng, rng.randrange(1, 7), version)) for _ in range(count)]


def answers(policy: Policy, asked: Iterable[tuple[Context, Sequence[Action]]]) -> list[tuple[float, ...]]:
    return [policy.distribution(context, actions) for context, actions in asked]


def relearned(arguments: str, log: Sequence[LoggedInteraction], reloads: Iterable[int] = ()) -> bytes:
    """The bytes after the log, with a save and load after each of ``reloads`` interactions."""
    policy, points = VowpalPolicy(arguments), set(reloads)
    with opened(arguments) as first:
        base = first.save()
    policy.close()
    policy = VowpalPolicy(arguments, base)
    for number, interaction in enumerate(log, 1):
        policy.learn([interaction])
        if number in points:
            model = policy.save()
            policy.close()
            policy = VowpalPolicy(arguments, model)
    model = policy.save()
    policy.close()
    return model


# Every policy


POLICIES: dict[str, Callable[[], Any]] = {
    "uniform": UniformPolicy,
    "first action": FirstActionPolicy,
    "campaign manager's baseline": lambda: BaselinePolicy(BaselineSetting()),
    **{name: lambda arguments=arguments: VowpalPolicy(arguments) for name, arguments in RESUMABLE.items()},
}


@pytest.fixture(params=POLICIES)
def trained(request: pytest.FixtureRequest, log: list[LoggedInteraction]) -> Iterator[Policy]:
    policy = POLICIES[request.param]()
    policy.learn(log)
    yield policy
    if isinstance(policy, VowpalPolicy):
        policy.close()


def test_probabilities_are_one_for_each_action_and_sum_to_one(trained: Policy) -> None:
    for context, actions in moments():
        found = trained.distribution(context, actions)
        assert len(found) == len(actions)
        assert all(math.isfinite(probability) and 0.0 <= probability <= 1.0 + 1e-9 for probability in found)
        assert math.fsum(found) == pytest.approx(1.0, abs=1e-9)


def test_the_floor_is_held_and_the_sum_stays(trained: Policy) -> None:
    for context, actions in moments():
        served = with_floor(trained.distribution(context, actions), FLOOR)
        assert min(served) >= FLOOR / len(actions)
        assert math.fsum(served) == pytest.approx(1.0, abs=1e-12)


def test_only_eligible_actions_are_picked_and_one_alone_is_certain(trained: Policy) -> None:
    for context, actions in moments():
        for number in range(20):
            assert (
                0 <= pick(trained.distribution(context, actions), uniform_number("loop", f"d{number}")) < len(actions)
            )
        assert trained.distribution(context, actions[:1]) == (1.0,)


def test_asking_again_gives_the_same_probabilities_and_draw(trained: Policy) -> None:
    first, again = answers(trained, moments()), answers(trained, moments())
    assert again == first
    drawn = [pick(with_floor(found, FLOOR), uniform_number("loop", "d1")) for found in first]
    assert drawn == [pick(with_floor(found, FLOOR), uniform_number("loop", "d1")) for found in again]


def test_learning_nothing_changes_nothing(trained: Policy) -> None:
    before = answers(trained, moments(3))
    trained.learn([])
    assert answers(trained, moments(3)) == before


# Learning settings


@settings
def test_the_setting_is_allowed(arguments: str) -> None:
    assert check_arguments(arguments) == arguments


@settings
def test_a_snapshot_gives_equal_probabilities(arguments: str, log: list[LoggedInteraction]) -> None:
    with opened(arguments) as policy:
        policy.learn(log)
        model = policy.save()
    with opened(arguments, model) as one, opened(arguments, model) as other:
        assert answers(one, moments()) == answers(other, moments())
    # A model that was asked in between serves the same, too: services ask all the time.
    with opened(arguments) as policy:
        policy.learn(log)
        expected = answers(policy, moments(4))
    with opened(arguments, model) as policy:
        assert answers(policy, moments(4)) == expected


# The probabilities of these say little after so few interactions: --first is greedy after a fixed count, --regcb spreads
# evenly over what may still be best, --sgd learns slowly.
SLOW = ("first", "regcb", "regcbopt", "sgd")


@pytest.mark.parametrize("name", [name for name in RESUMABLE if name not in SLOW])
def test_a_policy_learns(name: str, log: list[LoggedInteraction]) -> None:
    arguments = RESUMABLE[name]
    liked = 0.0
    with opened(arguments) as policy:
        for _ in range(4):
            policy.learn(log)
        rng = random.Random(3)
        for number, segment in enumerate(SEGMENTS):
            context = make_context(rng)
            namespaces = {**context.namespaces, "H": {**context.namespaces["H"], "segment": segment}}
            liked += policy.distribution(Context(namespaces), make_actions(rng))[number]
    assert liked / 3 > 1 / 6


@settings
def test_resumable_saving_loading_and_going_on_equals_going_on(arguments: str, log: list[LoggedInteraction]) -> None:
    """A writer that is killed and goes on from its checkpoint ends with the bytes of one that was not."""
    assert relearned(arguments, log, [60]) == relearned(arguments, log)
    assert relearned(arguments, log, [1, 30, 31, 119, 120]) == relearned(arguments, log)


@settings
def test_resumable_a_replay_ends_with_the_same_bytes(arguments: str, log: list[LoggedInteraction]) -> None:
    assert relearned(arguments, log, [17, 60]) == relearned(arguments, log, [17, 60])


@settings
def test_resumable_in_one_call_or_many(arguments: str, log: list[LoggedInteraction]) -> None:
    with opened(arguments) as policy:
        base = policy.save()
    with opened(arguments, base) as one, opened(arguments, base) as other:
        one.learn(log)
        for interaction in log:
            other.learn([interaction])
        assert one.save() == other.save()


@settings
def test_saving_does_not_change_what_is_saved(arguments: str, log: list[LoggedInteraction]) -> None:
    with opened(arguments) as policy:
        policy.learn(log[:40])
        assert policy.save() == policy.save()
        policy.learn(log[40:])
        with_a_save = policy.save()
    with opened(arguments) as policy:
        policy.learn(log)
        assert policy.save() == with_a_save


@settings
def test_asking_another_policy_does_not_matter(arguments: str, log: list[LoggedInteraction]) -> None:
    """Audits and shadows have workspaces of their own; what they ask leaves the learner's bytes alone."""
    quiet = relearned(arguments, log)
    with opened(arguments, relearned(arguments, log[:30])) as bystander:
        with opened(arguments) as first:
            base = first.save()
        with opened(arguments, base) as policy:
            for interaction in log:
                policy.learn([interaction])
                answers(bystander, moments(2))
                bystander.distribution(*moments(1, version=3)[0])
            assert policy.save() == quiet


@settings
def test_cached_offers_give_bit_identical_probabilities(arguments: str, log: list[LoggedInteraction]) -> None:
    with opened(arguments) as policy:
        policy.learn(log)
        model = policy.save()
    with opened(arguments, model) as fresh, opened(arguments, model) as cached:
        for _ in range(3):
            assert answers(cached, moments(12, version=2)) == answers(fresh, moments(12))


@settings
def test_inline_and_cached_offers_mix(arguments: str, log: list[LoggedInteraction]) -> None:
    with opened(arguments) as policy:
        policy.learn(log)
        model = policy.save()
    mixed = [
        (context, [replace(action, version=number % 2 * 4) for number, action in enumerate(actions)])
        for context, actions in moments()
    ]
    with opened(arguments, model) as fresh, opened(arguments, model) as half:
        assert answers(half, mixed) == answers(fresh, moments())


@settings
def test_a_new_version_of_an_offer_is_read_anew(arguments: str, log: list[LoggedInteraction]) -> None:
    with opened(arguments) as policy:
        policy.learn(log)
        model = policy.save()
    (context, actions), *_ = moments(1, version=1)
    changed = [replace(action, features={"category": "toys"}, version=2) for action in actions]
    with opened(arguments, model) as cached, opened(arguments, model) as fresh:
        before = cached.distribution(context, actions)
        assert fresh.distribution(context, [replace(action, version=0) for action in actions]) == before
        expected = fresh.distribution(context, [replace(action, version=0) for action in changed])
        assert cached.distribution(context, changed) == expected
        assert cached.distribution(context, actions) == before


@settings
def test_learning_from_catalogue_offers_equals_learning_from_inline_ones(
    arguments: str, make_interaction: Callable[..., LoggedInteraction]
) -> None:
    inline, catalogue = (make_log(make_interaction, 80, version=version) for version in (0, 5))
    assert relearned(arguments, catalogue) == relearned(arguments, inline)


@settings
def test_learning_from_what_was_logged_equals_learning_from_what_was_decided(
    arguments: str, log: list[LoggedInteraction]
) -> None:
    """The log's JSON gives back the same bits, order of features included."""
    from contextual_bandit import events

    read_back = [
        replace(
            interaction,
            decision=events.decision_from(
                events.decode(
                    "1-0",
                    events.encode("decision", interaction.closed_at, events.decision_payload(interaction.decision)),
                ).payload
            ),
        )
        for interaction in log
    ]
    assert relearned(arguments, read_back) == relearned(arguments, log)


@settings
def test_learning_while_serving_offers_from_memory_changes_no_probability(
    arguments: str, log: list[LoggedInteraction]
) -> None:
    """Examples that were parsed before a policy learned still give its new probabilities."""
    with opened(arguments) as policy:
        answers(policy, moments(6, version=2))
        policy.learn(log)
        cached = answers(policy, moments(6, version=2))
        assert cached == answers(policy, moments(6))


def test_numbers_reach_learning_and_serving_as_the_same_bits(
    make_interaction: Callable[..., LoggedInteraction],
) -> None:
    """Decimals that a text reader would round: cached or not, learned or served, there is one float."""
    arguments = RESUMABLE["squarecb"]
    actions = [Action(f"o{n}", {"price": 19.99 + n / 3}, {"r4": 0.1 * n + 1 / 7, "r52": 1e-3 * n}) for n in range(5)]
    context = {"H": {"segment": "new"}, "device": {"speed": 1 / 3}}
    log = [
        make_interaction(n, n % 2 * 1.0, served=(0.2,) * 5, chosen=n % 5, context=context, actions=actions)
        for n in range(1, 60)
    ]
    with opened(arguments) as policy:
        policy.learn(log)
        model = policy.save()
    catalogue = [replace(action, version=1) for action in actions]
    with opened(arguments, model) as fresh, opened(arguments, model) as cached:
        expected = fresh.distribution(Context(context), actions)
        assert [cached.distribution(Context(context), catalogue) for _ in range(3)] == [expected] * 3
