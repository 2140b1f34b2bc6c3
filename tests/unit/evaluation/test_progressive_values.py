"""What a policy that learns is worth as it goes: exact on small logs, and the same when stored on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluation.chunks import Chunk
from evaluation.progressive_values import ProgressiveValues, WeighedSlot, weighed
from evaluation.weights import Weights


def drawn(rng: np.random.Generator, size: int, *, best: int = 1) -> list[WeighedSlot]:
    """Rows of a uniform log of three actions, under a target that prefers ``best``, which is worth 0.6 and not 0.2."""
    target = [0.1, 0.1, 0.1]
    target[best] = 0.8
    rows = []
    for _ in range(size):
        chosen = int(rng.integers(3))
        reward = float(rng.random() < (0.6 if chosen == 1 else 0.2))
        rows.append(weighed((1 / 3,) * 3, target, chosen, reward))
    return rows


def test_a_draw_is_weighed_by_what_the_target_wanted() -> None:
    slot = weighed((0.5, 0.25, 0.25, 0.0), (0.2, 0.5, 0.2, 0.1), 1, 0.7)
    assert (slot.weight, slot.largest, slot.reward) == (2.0, 2.0, 0.7)
    assert slot.mass == pytest.approx(0.9)
    assert slot.variance == pytest.approx(0.04 / 0.5 + 0.25 / 0.25 + 0.04 / 0.25 - 0.81)


@pytest.mark.parametrize(("served", "target", "chosen"), [((0.5, 0.5), (1.0,), 0), ((0.0, 1.0), (1.0, 0.0), 0),
                                                           ((1.0,), (1.0,), 1), ((1.0,), (1.0,), -1)])  # fmt: skip
def test_what_could_not_be_drawn_is_refused(
    served: tuple[float, ...], target: tuple[float, ...], chosen: int
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match=f"action {chosen} of {len(target)} cannot be drawn"):
        weighed(served, target, chosen, 0.0)


def test_a_small_log_gives_exactly_these_means() -> None:
    values = ProgressiveValues.empty(0.0, 1.0)
    first = weighed((0.5, 0.5), (0.75, 0.25), 0, 1.0)
    second = weighed((0.5, 0.5), (0.75, 0.25), 1, 0.5)
    values.add([[first], [second]])
    assert (values.n, values.value.mean, values.logged.mean, values.gain.mean) == (2, 0.875, 0.75, 0.125)
    weights = values.weights.result
    assert (weights.mean, weights.largest) == (1.0, 1.5)
    assert weights.effective_sample_size == pytest.approx(4.0 / (1.5**2 + 0.5**2))


def test_of_several_slots_the_mean_counts() -> None:
    values = ProgressiveValues.empty(0.0, 1.0)
    slots = [weighed((0.5, 0.5), (1.0, 0.0), 0, 1.0), weighed((0.25, 0.75), (0.5, 0.5), 1, 0.3)]
    values.add([slots])
    assert values.n == 1
    assert values.logged.mean == pytest.approx(0.65)
    assert values.value.mean == pytest.approx((2.0 * 1.0 + 0.3 * 2 / 3) / 2)


def test_rewards_outside_the_range_are_cut_to_it() -> None:
    values = ProgressiveValues.empty(-1.0, 1.0)
    values.add([[weighed((1.0,), (1.0,), 0, 5.0)], [weighed((1.0,), (1.0,), 0, -5.0)]])
    assert (values.value.mean, values.logged.mean) == (0.0, 0.0)


def test_nothing_yet_is_refused_and_no_decisions_change_nothing() -> None:
    values = ProgressiveValues.empty(0.0, 1.0)
    values.add([])
    assert values.n == 0
    assert values.verdict.verdict == "refused"


def test_the_better_the_worse_and_the_equal_are_told_apart() -> None:
    found = {}
    for name, best in (("better", 1), ("worse", 0)):
        values = ProgressiveValues.empty(0.0, 1.0)
        values.add([[row] for row in drawn(np.random.default_rng(7 + best), 4000, best=best)])
        found[name] = values
        truth = 0.8 * (0.6 if best == 1 else 0.2) + 0.1 * (0.4 if best == 1 else 0.8)
        low, high = values.value.interval
        assert low < truth < high
        assert values.verdict.verdict == name
    equal = ProgressiveValues.empty(0.0, 1.0)
    rng = np.random.default_rng(3)
    equal.add([[weighed((0.5, 0.5), (0.5, 0.5), int(rng.integers(2)), float(rng.random()))] for _ in range(500)])
    assert equal.verdict.verdict == "not_shown"
    assert equal.gain.interval[0] < 0.0 < equal.gain.interval[1]


def test_stored_after_every_page_it_is_what_it_would_be() -> None:
    rows = [[row] for row in drawn(np.random.default_rng(1), 700)]
    whole, stored = ProgressiveValues.empty(0.0, 1.0), ProgressiveValues.empty(0.0, 1.0)
    whole.add(rows)
    for start in range(0, 700, 70):
        stored.add(rows[start : start + 70])
        stored = ProgressiveValues.from_dict(json.loads(json.dumps(stored.to_dict())))
    assert stored.n == whole.n
    assert stored.value.interval == pytest.approx(whole.value.interval, rel=1e-9)
    assert stored.gain.interval == pytest.approx(whole.gain.interval, rel=1e-9)
    assert stored.weights == whole.weights


def test_numbers_that_are_none_are_refused() -> None:
    stored = ProgressiveValues.empty(0.0, 1.0).to_dict()
    with pytest.raises(ValueError, match="are not the numbers of progressive values"):
        ProgressiveValues.from_dict({"value": stored["value"]})
    with pytest.raises(ValueError, match="are not the numbers of progressive values"):
        ProgressiveValues.from_dict(stored | {"weights": {"n": 1, "heavy": 2}})


def test_weights_are_those_that_an_evaluation_of_the_same_log_finds() -> None:
    rng = np.random.default_rng(5)
    served = rng.dirichlet(np.ones(4), 300) * 0.9 + 0.025
    target = rng.dirichlet(np.ones(4), 300)
    chosen = np.array([rng.choice(4, p=one / one.sum()) for one in served])
    reward = (rng.random(300) < 0.3).astype(float)
    served /= served.sum(axis=1, keepdims=True)
    values = ProgressiveValues.empty(0.0, 1.0)
    values.add([[weighed(served[i], target[i], int(chosen[i]), float(reward[i]))] for i in range(300)])
    row = np.repeat(np.arange(300), 4)
    chunk = Chunk(
        np.arange(300), reward, served[np.arange(300), chosen], np.zeros(300, dtype="datetime64[us]"), row,
        np.arange(300) * 4, np.arange(300) * 4 + chosen, np.zeros(1200, dtype=np.int64), {}, served.ravel(), (),
    )  # fmt: skip
    expected, found = Weights.of_chunk(chunk, target.ravel()).result, values.weights.result
    for name in ("mean", "mean_z", "largest", "effective_sample_size", "effective_rewards", "largest_possible",
                 "expected_effective_sample_size", "propensity_z", "unsupported_mass"):  # fmt: skip
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
