"""The streaming pass: what counts, what is refused, and independence of the chunk size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import pytest

from contextual_bandit.types import LoggedInteraction
from evaluation.chunks import CHUNK_SIZE
from evaluation.evaluate import Choices
from evaluation.evaluate import evaluate as evaluate_log
from evaluation.interactions import Interactions
from evaluation.reward_model import Rates, by_category
from evaluation.targets import STANDARD_TARGETS, fixed_offer, from_function


def evaluate(interactions, targets=STANDARD_TARGETS, *, chunk_size=CHUNK_SIZE, model=None, progress=None, **chosen):
    log = Interactions(interactions, chunk_size)
    return evaluate_log(log, targets, Choices(**chosen), model=model, progress=progress)


SyntheticLog = Callable[..., list[LoggedInteraction]]

RATES = (0.2, 0.3, 0.1)
TRUE = (0.6, 0.2, 0.2)


def test_values_are_near_the_truth(synthetic_log: SyntheticLog) -> None:
    result = evaluate(synthetic_log(20000, RATES, TRUE, seed=3), fixed_offers=5)
    truths = {"logged": 0.2, "uniform": 0.2, "first": 0.2, "offer:a0": 0.2, "offer:b1": 0.3, "offer:a2": 0.1}
    assert {policy.name for policy in result.policies} == set(truths)
    for name, truth in truths.items():
        for estimator in ("ips", "snips", "dr"):
            assert result.policy(name).estimates[estimator].value == pytest.approx(truth, abs=0.02)
    assert (result.verdict, result.headline) == ("better", "offer:b1")
    assert result.policy("offer:a2").gate.verdict == "worse"
    assert result.mean_reward == pytest.approx(result.policy("logged").estimates["ips"].value)


def test_chunks_do_not_change_weighted_estimates(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(3000, RATES, TRUE)
    whole, pieces = evaluate(log), evaluate(iter(log), chunk_size=97)
    for policy in whole.policies:
        other = pieces.policy(policy.name)
        for name in ("ips", "snips"):
            assert other.estimates[name].value == pytest.approx(policy.estimates[name].value, rel=1e-9)
            assert other.estimates[name].high == pytest.approx(policy.estimates[name].high, rel=1e-9)
            assert other.bootstrap[name].high == pytest.approx(policy.bootstrap[name].high, rel=1e-9)
        # The reward model of early chunks has seen less, which costs variance, not the truth.
        assert other.estimates["dr"].value == pytest.approx(policy.estimates["dr"].value, abs=0.01)
    for one, expected in zip(pieces.findings.calibration, whole.findings.calibration, strict=True):
        assert astuple(one) == pytest.approx(astuple(expected), rel=1e-9)
    assert [point.n for point in pieces.series] == [point.n for point in whole.series]
    assert pieces.series[-1].values["uniform"] == pytest.approx(whole.series[-1].values["uniform"], rel=1e-9)


def test_only_learnable_interactions_count(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(500, RATES, TRUE)
    bare = replace(log[0].decision, slots=(replace(log[0].decision.slots[0], distribution=None, propensity=None),))
    extra = [*synthetic_log(7, RATES, TRUE, use="holdout"), *synthetic_log(5, RATES, TRUE, use="fallback")]
    result = evaluate([*extra, *log, replace(log[0], decision=bare)])
    assert result.n == 500
    assert result.skipped == {"fallback": 5, "holdout": 7, "no propensity": 1}


def test_equal_policies_are_not_told_apart(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(5000, RATES, TRUE)
    result = evaluate(log, {"copy": from_function(lambda decision: decision.slots[0].distribution.served)})  # type: ignore[union-attr]
    copy = result.policy("copy")
    assert result.verdict == copy.gate.verdict == "not_shown"
    assert (copy.difference.value, copy.difference.low, copy.difference.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_wrong_propensities_are_refused(synthetic_log: SyntheticLog, seed: int) -> None:
    result = evaluate(synthetic_log(5000, RATES, TRUE, logged=(0.4, 0.3, 0.3), seed=seed))
    assert result.verdict == "refused"
    assert any("propensities are wrong" in reason for reason in result.reasons)


def test_a_propensity_that_contradicts_its_distribution_is_refused(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(2000, RATES, TRUE)
    slot = replace(log[5].decision.slots[0], propensity=0.99)
    log[5] = replace(log[5], decision=replace(log[5].decision, slots=(slot,)))
    result = evaluate(log)
    assert result.verdict == "refused"
    assert result.skipped == {"impossible propensity": 1}


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_honest_logs_are_not_refused(synthetic_log: SyntheticLog, seed: int) -> None:
    result = evaluate(synthetic_log(4000, (0.2, 0.2, 0.2), TRUE, seed=seed), replicates=50)
    assert result.verdict == "not_shown"
    assert all(policy.gate.verdict == "not_shown" for policy in result.policies)


def test_an_offer_that_was_not_always_eligible_is_unsupported(synthetic_log: SyntheticLog) -> None:
    log = [*synthetic_log(2000, RATES, TRUE), *synthetic_log(1000, RATES[:2], (0.7, 0.3), seed=1)]
    result = evaluate(log, STANDARD_TARGETS, fixed_offers=3)
    weights = result.policy("offer:a2").weights
    assert weights.unsupported_share == weights.unsupported_mass == pytest.approx(1 / 3)
    assert result.policy("offer:a2").gate.verdict == "refused"
    assert "not supported" in result.policy("offer:a2").gate.reasons[0]
    assert result.policy("offer:b1").weights.unsupported_mass == 0.0


def test_an_offer_never_served_is_unsupported(synthetic_log: SyntheticLog) -> None:
    result = evaluate(synthetic_log(2000, RATES, (0.7, 0.3, 0.0)), {"c": fixed_offer("a2")})
    assert result.policy("c").weights.unsupported_mass == 1.0
    assert result.policy("c").gate.verdict == "refused"
    assert math.isnan(result.policy("c").estimates["snips"].value)


def test_heavy_weights_are_refused(synthetic_log: SyntheticLog) -> None:
    result = evaluate(synthetic_log(5000, RATES, (0.5, 0.496, 0.004)), {"rare": fixed_offer("a2")})
    assert result.policy("rare").gate.verdict == "refused"


def test_rare_rewards_show_nothing(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(5000, (0.004, 0.004), (0.9, 0.1), seed=2)
    judged = evaluate(log, {"other": fixed_offer("b1")}).policy("other").gate
    assert judged.verdict == "not_shown"
    assert "more decisions like these would tell" in judged.reasons[0]
    judged = evaluate(synthetic_log(400, (0.004, 0.004), (0.9, 0.1), seed=2), {"other": fixed_offer("b1")})
    assert judged.policy("other").gate.reasons[0].startswith("not enough data")


def test_an_empty_log_gets_no_verdict() -> None:
    result = evaluate([])
    assert (result.n, result.verdict, result.headline, result.policies) == (0, "refused", None, ())


def test_other_baselines_keys_and_progress(synthetic_log: SyntheticLog) -> None:
    log, seen = synthetic_log(3000, RATES, TRUE), list[int]()
    result = evaluate(log, against="uniform", model=Rates(key_of=by_category), chunk_size=1000, progress=seen.append)
    assert seen == [1000, 2000, 3000]
    assert result.policy("uniform").difference.value == 0.0
    assert evaluate(log, fixed_offers=2).notes == ("1 of 3 offers were not evaluated as fixed offers",)
    with pytest.raises(KeyError):
        result.policy("nobody")


def test_targets_must_be_probabilities(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(10, RATES, TRUE)
    with pytest.raises(ValueError, match="2 probabilities for 3 actions"):
        evaluate(log, {"short": from_function(lambda _: (0.5, 0.5))})
    with pytest.raises(ValueError, match=r"the probabilities sum to 1\.5"):
        evaluate(log, {"much": from_function(lambda _: (0.5, 0.5, 0.5))})
    with pytest.raises(ValueError, match="policy 'much' gave probabilities that sum to more than 1"):
        evaluate(log, {"much": lambda chunk: np.full(len(chunk.row), 0.5)})
    with pytest.raises(ValueError, match="policy 'short' gave negative"):
        evaluate(log, {"short": lambda chunk: np.full(3, 0.5)})
    with pytest.raises(ValueError, match=r"-0\.5 is no probability"):
        evaluate(log, {"minus": from_function(lambda _: (-0.5, 0.5, 1.0))})
    with pytest.raises(ValueError, match="nobody"):
        evaluate(log, against="nobody")


def test_the_series_stays_small(synthetic_log: SyntheticLog) -> None:
    series = evaluate(synthetic_log(21000, RATES, TRUE), replicates=10, chunk_size=5000).series
    assert 200 <= len(series) <= 400
    assert series[-1].n > 20800
