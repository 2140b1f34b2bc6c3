from __future__ import annotations

from collections.abc import Callable
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.limits import Draw, draw, left_over, mask, masked_indices, resolve
from contextual_bandit.policy import pick
from contextual_bandit.types import Action, Decision, Removed

FALLBACK = Action("nothing", {"type": "none"})
masses = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).filter(lambda found: fsum(found) > 0.01)


@given(masses, st.sets(st.integers(0, 7)))
def test_a_mask_keeps_proportions_and_sums_to_one(served: list[float], out: set[int]) -> None:
    masked = frozenset(out & set(range(len(served))))
    after = mask(served, masked)
    if len(masked) == len(served):
        assert after == (0.0,) * len(served)
        return
    assert fsum(after) == pytest.approx(1.0)
    assert all(after[index] == 0.0 for index in masked)
    left = [index for index in range(len(served)) if index not in masked]
    total = sum(served[index] for index in left)
    if total > 1e-9:
        assert [after[index] for index in left] == pytest.approx([served[index] / total for index in left])


def test_what_is_left_without_mass_goes_to_the_first() -> None:
    assert mask((1.0, 0.0, 0.0), frozenset({0})) == (0.0, 1.0, 0.0)


@given(masses, st.floats(0.0, 0.999999), st.dictionaries(st.integers(0, 7), st.sampled_from([1, 2, 3, 4])))
def test_a_draw_never_falls_on_what_is_exhausted(served: list[float], number: float, out: dict[int, int]) -> None:
    exhausted = {index: code for index, code in out.items() if index < len(served)}
    drawn = draw(served, number, exhausted)
    assert drawn.masked == tuple(sorted(exhausted.items()))
    if len(exhausted) == len(served):
        assert drawn.chosen == -1
    else:
        assert drawn.chosen not in exhausted
        assert drawn.chosen == pick(mask(served, frozenset(exhausted)) if exhausted else served, number)


def test_only_the_highest_priority_left_competes() -> None:
    served, tiers = (0.25, 0.25, 0.25, 0.25), (2, 2, 1, 0)
    assert draw(served, 0.9, {}, tiers) == Draw(((2, 5), (3, 5)), 1)
    assert draw(served, 0.9, {0: 1, 1: 1}, tiers) == Draw(((0, 1), (1, 1), (3, 5)), 2)
    assert draw(served, 0.9, {0: 1, 1: 1, 2: 2, 3: 1}, tiers).chosen == -1


def test_a_masked_offer_is_removed_with_its_reason_and_the_rest_is_what_is_logged(
    make_decision: Callable[..., Decision],
) -> None:
    decision = make_decision(served=(0.5, 0.3, 0.2), chosen=0)
    after = resolve(decision, Draw(((0, 1),), 2, took=1), FALLBACK)
    slot = after.slots[0]
    assert slot.distribution is not None
    assert slot.distribution.policy == (0.5, 0.3, 0.2)
    assert slot.distribution.served == pytest.approx((0.0, 0.6, 0.4))
    assert (slot.chosen, slot.propensity) == (2, slot.distribution.served[2])
    assert after.removed == (Removed("offer-0", "cap_exhausted"),)
    assert after.actions == decision.actions
    assert masked_indices(after) == {0}
    assert after.took_units == 1


def test_with_nothing_left_the_fallback_is_served(make_decision: Callable[..., Decision]) -> None:
    after = resolve(make_decision(served=(0.5, 0.5)), Draw(((0, 1), (1, 2)), -1), FALLBACK)
    assert after.use == "fallback"
    assert after.actions == (FALLBACK,)
    assert after.slots[0].distribution is None
    assert [entry.reason for entry in after.removed] == ["cap_exhausted", "recently_redeemed"]
    assert masked_indices(after) == frozenset()


def test_a_draw_that_leaves_nothing_out_leaves_probabilities_as_they_were(
    make_decision: Callable[..., Decision],
) -> None:
    """Their sum is 1 but for rounding; dividing by it would log other bits than an audit recomputes."""
    served = (0.7, 0.1, 0.1, 0.1)
    assert sum(served) != 1.0
    after = resolve(make_decision(served=served), Draw((), 1), FALLBACK)
    assert after.slots[0].distribution is not None
    assert after.slots[0].distribution.served == served
    assert after.slots[0].propensity == 0.1


@given(masses, st.sets(st.integers(0, 7)), st.floats(0.0, 1.0), st.floats(0.0, 0.9), st.sets(st.integers(0, 7)))
def test_floor_and_promotion_are_spread_over_what_is_left(
    policy: list[float], out: set[int], floor: float, share: float, favoured: set[int]
) -> None:
    gone = frozenset(out & set(range(len(policy))))
    promoted = [index in favoured for index in range(len(policy))]
    after = left_over(policy, gone, floor, promoted, share)
    left = [index for index in range(len(policy)) if index not in gone]
    assert all(after[index] == 0.0 for index in gone)
    if not left:
        return
    assert fsum(after) == pytest.approx(1.0)
    count = sum(promoted[index] for index in left)
    kept = 1.0 - share if count else 1.0
    for index in left:
        extra = share / count if promoted[index] else 0.0
        assert after[index] >= kept * floor / len(left) + extra - 1e-12
