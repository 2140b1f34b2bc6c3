"""The holdout: who is compared with whom, what is refused, and that estimate and observation share their customers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from contextual_bandit.holdout import in_holdout
from contextual_bandit.loops import BaselineSetting, Holdout
from contextual_bandit.types import LoggedInteraction
from evaluation import sample_ratio
from evaluation.holdout import HoldoutLog, HoldoutSums, Reconciliation, hash_customers, holdout_target
from evaluation.interactions import Interactions
from evaluation.sample_ratio import CustomerSample
from evaluation.targets import first_action, logged
from evaluation.terms import Terms

SyntheticLog = Callable[..., list[LoggedInteraction]]
HOLDOUT = Holdout(0.3)


def arms(synthetic_log: SyntheticLog, n: int = 9000, customers: int = 1500, held_out_rate: float = 0.2) -> list:
    """Customers return; the holdout gets the first offer, the others 30% of it; one in ten is not known."""
    learned = synthetic_log(n, (0.2, 0.4), (0.3, 0.7), seed=3)
    held_out = synthetic_log(n, (held_out_rate, 0.9), (1.0, 0.0), seed=4, use="holdout")
    found = []
    for row, (one, other) in enumerate(zip(learned, held_out, strict=True)):
        customer = None if row % 10 == 0 else f"c{row % customers}"
        kept = other if in_holdout("homepage", customer, HOLDOUT) else one
        found.append(replace(kept, decision=replace(kept.decision, customer_id=customer)))
    return found


def reconciled(log: list[LoggedInteraction], share: float = 0.3, size: int = 8192, **options: object) -> Reconciliation:
    holdout = HoldoutLog()
    for chunk in Interactions(holdout.watch(log), size).chunks():
        served, first = (
            Terms.of(chunk.reward, chunk.propensity, target(chunk)[chunk.chosen], hashes=chunk.hashes)
            for target in (logged, first_action)
        )
        holdout.add(chunk, served, first)
    return holdout.sums.result(share, **options)  # type: ignore[arg-type]


def test_estimate_and_observation_agree(synthetic_log: SyntheticLog) -> None:
    log = arms(synthetic_log)
    found = reconciled(log)
    known = [one for one in log if one.decision.customer_id is not None]
    served, held_out = ([one.reward for one in known if one.use == use] for use in ("learn", "holdout"))
    assert (found.learned, found.held_out) == (len(served), len(held_out))
    assert found.observed is not None
    assert found.estimated is not None
    assert found.gap is not None
    assert found.observed.value == pytest.approx(np.mean(served) - np.mean(held_out))
    assert found.gap.value == pytest.approx(found.estimated.value - found.observed.value)
    # The truth is 0.34 - 0.2.
    assert found.observed.low < 0.14 < found.observed.high
    assert found.estimated.low < 0.14 < found.estimated.high
    assert found.agreement == "agree"
    assert found.words.startswith("agree")


def test_they_disagree_when_the_holdout_got_something_else(synthetic_log: SyntheticLog) -> None:
    found = reconciled(arms(synthetic_log, held_out_rate=0.35))
    assert found.agreement == "disagree"
    assert found.gap is not None
    assert found.gap.low > 0.0


def test_a_split_of_the_log_changes_nothing(synthetic_log: SyntheticLog) -> None:
    log = arms(synthetic_log)
    whole, pieces = reconciled(log), reconciled(log, size=97)
    assert whole.gap is not None
    assert pieces.gap is not None
    assert (pieces.gap.low, pieces.gap.high) == pytest.approx((whole.gap.low, whole.gap.high), rel=1e-9)
    assert pieces.ratio == whole.ratio


def test_a_holdout_of_the_wrong_size_is_not_compared(synthetic_log: SyntheticLog) -> None:
    found = reconciled(arms(synthetic_log), share=0.2)
    assert found.agreement == "cannot tell"
    assert "20.00% were asked for" in found.words
    assert found.observed is None
    assert found.ratio.z > 3.3
    assert reconciled(arms(synthetic_log), share=0.3).ratio.is_sound


def test_a_refused_estimate_leaves_the_observation(synthetic_log: SyntheticLog) -> None:
    found = reconciled(arms(synthetic_log), faults=("not supported: 30%",))
    assert found.agreement == "cannot tell"
    assert "not supported" in found.words
    assert found.observed is not None
    assert found.estimated is None
    assert found.gap is None


@pytest.mark.parametrize(
    ("n", "customers", "reason"),
    [
        (9000, 90, "customers on one side"),
        (300, 300, "customers on one side"),
        (450, 450, "rewarded decisions on one side"),
    ],
)
def test_little_data_tells_nothing(synthetic_log: SyntheticLog, n: int, customers: int, reason: str) -> None:
    found = reconciled(arms(synthetic_log, n, customers))
    assert found.agreement == "cannot tell"
    assert reason in found.words


def test_an_interval_that_is_wide_beside_the_rewards_tells_nothing(synthetic_log: SyntheticLog) -> None:
    found = reconciled(arms(synthetic_log, 700, 700), level=0.999)
    assert found.agreement == "cannot tell"
    assert "wide beside a mean of" in found.words
    assert "more decisions" in found.words
    assert found.gap is not None


def test_without_one_side_nothing_can_be_told(synthetic_log: SyntheticLog) -> None:
    log = arms(synthetic_log, 2000)
    assert "in the holdout" in reconciled([one for one in log if one.use == "learn"]).words
    assert "outside" in reconciled([one for one in log if one.use == "holdout"]).words
    assert "cannot tell" in HoldoutSums().result(0.1).words


def test_customers_count_and_not_decisions() -> None:
    """One customer of the holdout with 10,000 decisions is one customer."""
    held_out = CustomerSample.of(hash_customers(["c0"] * 10000 + [f"h{one}" for one in range(99)]), is_held_out=True)
    learned = CustomerSample.of(hash_customers([f"l{one}" for one in range(900)]), is_held_out=False)
    ratio = (held_out + learned).ratio(0.1, 3.3)
    assert (ratio.customers, ratio.held_out, ratio.z) == (1000, 100, 0.0)
    assert ratio.is_sound


def test_customers_on_both_sides_mean_that_the_holdout_was_changed() -> None:
    ids = [f"c{one}" for one in range(1000)]
    both = CustomerSample.of(hash_customers(ids), is_held_out=False) + CustomerSample.of(
        hash_customers(ids[:100]), is_held_out=True
    )
    ratio = both.ratio(0.1, 3.3)
    assert (ratio.customers, ratio.both, ratio.is_sound) == (900, 100, False)
    assert "was changed" in ratio.words


def test_many_customers_are_sampled_the_same_way_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_ratio, "MOST_KEPT", 500)
    hashes = hash_customers([f"c{one}" for one in range(4000)])
    one, other = (
        CustomerSample.of(hashes[:1000], is_held_out=True) + CustomerSample.of(hashes[1000:], is_held_out=False),
        CustomerSample.of(hashes[2500:], is_held_out=False)
        + CustomerSample.of(hashes[:1000], is_held_out=True)
        + CustomerSample.of(hashes[1000:2500], is_held_out=False),
    )
    assert one.limit == other.limit
    np.testing.assert_array_equal(one.learned, other.learned)
    np.testing.assert_array_equal(one.held_out, other.held_out)
    assert 200 < len(one.learned) + len(one.held_out) <= 500
    assert one.ratio(0.25, 3.3).is_sound


def test_a_share_must_be_one() -> None:
    with pytest.raises(ValueError, match=r"1\.5"):
        CustomerSample.empty().ratio(1.5, 3.3)


def test_the_holdouts_policy(synthetic_log: SyntheticLog) -> None:
    (chunk,) = Interactions(synthetic_log(20, (0.2, 0.4), (0.3, 0.7))).chunks()
    nothing = holdout_target(Holdout(0.1, "no_offer"), BaselineSetting(), "b1")(chunk)
    assert nothing[chunk.offer == chunk.codes["b1"]].tolist() == [1.0] * 20
    assert chunk.per_decision(holdout_target(Holdout(0.1), BaselineSetting(), "b1")(chunk)) == pytest.approx(1.0)
