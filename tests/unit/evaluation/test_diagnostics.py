"""Weights by hand, and the log's own checks: the same for any split, and named by what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest

from contextual_bandit.types import LoggedInteraction
from evaluation.chunks import Chunk
from evaluation.diagnostics import LogDiagnostics, LogFindings, log_faults
from evaluation.interactions import Interactions
from evaluation.targets import uniform
from evaluation.weights import WeightHistogram, Weights

SyntheticLog = Callable[..., list[LoggedInteraction]]


def test_weights_by_hand() -> None:
    weight, reward = np.array([2.0, 0.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    one = (
        Weights.of(weight[:1], reward[:1], np.ones(1), np.full(1, 1.0))
        + Weights.of(weight[1:], reward[1:], np.array([1.0, 0.5, 1.0]), np.full(3, 1.0))
    ).result
    assert (one.n, one.mean, one.largest) == (4, 0.75, 2.0)
    assert one.mean_z == pytest.approx(-1.0 / 2.0)
    assert one.propensity_z == pytest.approx((3.0 - 3.5) / 2.0)
    assert one.effective_sample_size == pytest.approx(9 / 5)
    assert one.expected_effective_sample_size == pytest.approx(16 / 8)
    assert (one.unsupported_share, one.unsupported_mass) == (0.25, 0.125)
    assert Weights.empty().result.n == 0


def test_what_was_not_drawn_counts_as_draws_of_the_heaviest_weight() -> None:
    """Without distributions: 10 decisions, weights of 0.5, so 5 is missing, and 1/p may have been 3 x 10."""
    one = Weights.of(
        np.full(10, 0.5), np.zeros(10), np.ones(10), None, most_wanted=1.0, least_propensity=0.1
    ).result  # fmt: skip
    assert one.largest_possible == pytest.approx(30.0)
    assert one.variance == pytest.approx(5.0 * 30.0)
    assert one.propensity_z is None


def test_the_tail_by_hand() -> None:
    weight = np.concatenate((np.full(98, 0.5), [10.0, 40.0]))
    histogram = WeightHistogram.of(weight[:50]) + WeightHistogram.of(weight[50:])
    assert histogram.heaviest(0.01) == pytest.approx((40 / 99, 1600 / 1724.5))
    assert histogram.heavier_than(10.0) == pytest.approx((40 / 99, 1600 / 1724.5))
    assert histogram.heavier_than(0.1) == pytest.approx((1.0, 1.0))
    assert [bar.count for bar in histogram.bars()] == [98, 1, 1]
    assert sum(bar.square_share for bar in histogram.bars()) == pytest.approx(1.0)
    assert WeightHistogram.of(np.zeros(3)).heaviest() == (0.0, 0.0)
    assert WeightHistogram.of(np.array([0.0, 1e9])).bars()[-1].high == np.inf


def findings(log: list[LoggedInteraction], size: int = 8192) -> tuple[LogFindings, Weights]:
    diagnostics, weights = LogDiagnostics(), Weights.empty()
    for chunk in Interactions(log, size).chunks():
        diagnostics += LogDiagnostics.of(chunk)
        weights += Weights.of_chunk(chunk, uniform(chunk))
    return diagnostics.findings(), weights


def test_a_split_of_the_log_changes_nothing(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(3000, (0.2, 0.3, 0.1), (0.6, 0.2, 0.2))
    (whole, all_weights), (pieces, piece_weights) = findings(log), findings(log, 97)
    for one, other in zip(pieces.offers, whole.offers, strict=True):
        assert astuple(one)[2:-1] == pytest.approx(astuple(other)[2:-1], rel=1e-9)
        assert (one.name, one.finding) == (other.name, other.finding) == (one.name, "right")
    assert whole.drift is not None
    assert pieces.drift is not None
    assert pieces.drift.cusum_p == pytest.approx(whole.drift.cusum_p, rel=1e-9)
    assert astuple(piece_weights.result)[:-1] == pytest.approx(astuple(all_weights.result)[:-1], rel=1e-9)
    assert (whole.faults, whole.doubts, whole.warnings) == ((), (), ())


def test_an_offer_with_a_wrong_propensity_is_named(synthetic_log: SyntheticLog) -> None:
    found, _ = findings(synthetic_log(5000, (0.2, 0.3, 0.1), (0.6, 0.2, 0.2), logged=(0.4, 0.3, 0.3)))
    assert any(fault.startswith("calibration: offer a0: served") for fault in found.faults)


def test_rewards_that_change_are_warned_of(synthetic_log: SyntheticLog) -> None:
    early, late = (synthetic_log(4000, rates, (0.5, 0.5)) for rates in ((0.1, 0.1), (0.3, 0.3)))
    found, _ = findings(early[:2000] + late[2000:])
    assert found.faults == ()
    assert any("rewards changed" in warning for warning in found.warnings)


def test_without_the_other_probabilities_a_never_served_offer_is_a_doubt(synthetic_log: SyntheticLog) -> None:
    (chunk,) = Interactions(synthetic_log(3000, (0.2, 0.3, 0.1), (0.5, 0.5, 0.0))).chunks()
    alone = Chunk(**{name: getattr(chunk, name) for name in Chunk.__dataclass_fields__} | {"served": None})
    found = LogDiagnostics.of(alone).findings()
    assert found.faults == ()
    assert any("offer a2: served 0 times" in doubt for doubt in found.doubts)
    assert set(found.doubts) <= set(found.warnings)
    assert found.calibration == ()


def test_impossible_propensities_are_a_fault() -> None:
    assert log_faults((), 0) == ()
    assert log_faults((), 3)[0].startswith("calibration: 3 decisions")
