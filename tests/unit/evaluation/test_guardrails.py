"""Guardrails fire when a bound is broken, and seldom when none is."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from contextual_bandit.loops import Guardrail
from evaluation.guardrails import GuardrailWatch, Reading, Served


def served(rewards: Sequence[float | None], **outcomes: list[float]) -> list[Served]:
    return [
        Served(reward, {kind: values[index] for kind, values in outcomes.items()})
        for index, reward in enumerate(rewards)
    ]


def watched(
    guardrails: list[Guardrail],
    own: list[Served],
    other: list[Served] | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> tuple[Reading, ...]:
    watch = GuardrailWatch(low, high)
    for start in range(0, max(len(own), len(other or [])), 50):
        watch.add(guardrails, own[start : start + 50], (other or [])[start : start + 50])
        watch = GuardrailWatch.from_dict(json.loads(json.dumps(watch.to_dict())))
    return watch.readings(guardrails)


def test_a_reward_below_its_bound_is_a_violation_after_enough_decisions() -> None:
    rewards = [float(one) for one in np.random.default_rng(1).random(3000) < 0.05]
    bound = Guardrail("reward", low=0.2)
    (reading,) = watched([bound], served(rewards))
    assert (reading.status, reading.bound, reading.n) == ("violated", 0.2, 3000)
    assert reading.value == pytest.approx(np.mean(rewards))
    assert reading.high is not None
    assert reading.high < 0.2
    (early,) = watched([Guardrail("reward", low=0.2, least_decisions=3001)], served(rewards))
    assert early.status == "waiting"
    (inside,) = watched([Guardrail("reward", low=0.01, high=0.5)], served(rewards))
    assert (inside.status, inside.bound) == ("within", None)
    (unclear,) = watched([Guardrail("reward", low=0.05)], served(rewards))
    assert unclear.status == "open"


def test_nothing_yet_waits() -> None:
    (reading,) = GuardrailWatch(0.0, 1.0).readings([Guardrail("reward", low=0.2)])
    assert (reading.status, reading.n, reading.value) == ("waiting", 0, None)


def test_fallbacks_are_counted_among_all_decisions_and_bring_no_reward() -> None:
    rewards: list[float | None] = [None, 1.0] * 500
    guardrails = [Guardrail("fallback_rate", high=0.2), Guardrail("reward", low=0.5)]
    fallbacks, reward = watched(guardrails, served(rewards))
    assert (fallbacks.status, fallbacks.bound, fallbacks.n, fallbacks.value) == ("violated", 0.2, 1000, 0.5)
    assert (reward.n, reward.value) == (500, 1.0)


def test_money_given_back_is_summed_by_decision() -> None:
    rng = np.random.default_rng(3)
    refunds = [float(-40.0 * one) for one in rng.random(2000) < 0.2]
    (reading,) = watched([Guardrail("outcome:refund", low=-4.0)], served([0.0] * 2000, refund=refunds))
    assert (reading.status, reading.bound) == ("violated", -4.0)
    (silent,) = watched([Guardrail("outcome:refund", low=-4.0)], served([0.0] * 2000))
    assert (silent.status, silent.low) == ("open", None)


def test_a_relative_bound_holds_the_policy_against_the_other_one() -> None:
    rng = np.random.default_rng(4)
    own, other = (served([float(x) for x in rng.random(4000) < rate]) for rate in (0.1, 0.4))
    relative = Guardrail("reward", low=-0.1, relative=True)
    (reading,) = watched([relative], own, other)
    assert (reading.status, reading.bound) == ("violated", -0.1)
    assert reading.value == pytest.approx(-0.3, abs=0.03)
    (turned,) = watched([relative], other, own)
    assert turned.status == "within"
    (alone,) = watched([relative], own)
    assert (alone.status, alone.value) == ("waiting", None)


def test_outcomes_that_only_the_other_policy_brings_tell_too() -> None:
    bought = [float(30.0 * one) for one in np.random.default_rng(6).random(3000) < 0.3]
    guardrail = Guardrail("outcome:purchase", low=-1.0, relative=True)
    (reading,) = watched([guardrail], served([0.0] * 3000), served([0.0] * 3000, purchase=bought))
    assert (reading.status, reading.bound) == ("violated", -1.0)


def test_one_that_is_added_later_counts_from_then_on_and_one_that_went_is_forgotten() -> None:
    watch = GuardrailWatch(0.0, 1.0)
    reward, fallbacks = Guardrail("reward", low=0.1), Guardrail("fallback_rate", high=0.1)
    watch.add([reward], served([1.0] * 10), [])
    watch.add([reward, fallbacks], served([1.0] * 5), [])
    assert [one.n for one in watch.readings([reward, fallbacks])] == [15, 5]
    watch.add([fallbacks], [], [])
    assert [one.n for one in watch.readings([reward, fallbacks])] == [0, 5]


@pytest.mark.parametrize("relative", [False, True])
def test_policies_that_keep_their_bounds_are_seldom_taken_back(relative: bool) -> None:
    """200 policies exactly at their bound, each looked at eight times in 1,200 decisions; 5% would be 10.

    Seeds are fixed.
    """
    rng = np.random.default_rng(20)
    guardrail = Guardrail("reward", low=0.0 if relative else 0.3, high=0.0 if relative else 0.3, relative=relative)
    fired = 0
    for _ in range(200):
        watch, broken = GuardrailWatch(0.0, 1.0), False
        for _ in range(8):
            own, other = (served([float(x) for x in rng.random(150) < 0.3]) for _ in range(2))
            watch.add([guardrail], own, other if relative else [])
            broken |= watch.readings([guardrail])[0].status == "violated"
        fired += broken
    assert fired <= 10


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="are not the numbers of a watch"):
        GuardrailWatch.from_dict({"low": 0.0})
    with pytest.raises(ValueError, match="are not the sums of a guardrail"):
        GuardrailWatch.from_dict({"low": 0.0, "high": 1.0, "sums": {"reward": {}}})
