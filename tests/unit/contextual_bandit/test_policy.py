from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.policy import FirstActionPolicy, UniformPolicy, pick, uniform_number, with_floor
from contextual_bandit.types import Action, Context

AT = datetime(2026, 3, 2, tzinfo=UTC)
ACTIONS = [Action(name, {}) for name in "abc"]
MASSES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40).filter(lambda values: sum(values) > 1e-6)
NUMBERS = st.floats(0.0, 1.0, exclude_max=True)


def test_uniform_gives_every_action_the_same() -> None:
    assert UniformPolicy().distribution(Context({}), ACTIONS) == (1 / 3, 1 / 3, 1 / 3)
    UniformPolicy().learn([])


def test_first_action_gives_all_to_the_senders_first() -> None:
    assert FirstActionPolicy().distribution(Context({}), ACTIONS) == (1.0, 0.0, 0.0)
    assert FirstActionPolicy().distribution(Context({}), ACTIONS[:1]) == (1.0,)
    FirstActionPolicy().learn([])


def test_the_floor_mixes_with_uniform() -> None:
    assert with_floor((1.0, 0.0), 0.5) == (0.75, 0.25)
    assert with_floor((1.0, 0.0, 0.0, 0.0), 0.02) == pytest.approx((0.985, 0.005, 0.005, 0.005))
    assert with_floor((0.3, 0.7), 0.0) == (0.3, 0.7)
    assert with_floor((0.3, 0.7), 1.0) == (0.5, 0.5)
    assert with_floor((3.0, 1.0), 0.0) == (0.75, 0.25)


@pytest.mark.parametrize("probabilities", [(0.0, 0.0), (math.nan, 1.0), (-1.0, 0.5), (-0.5, 1.5), (math.inf, 1.0)])
def test_probabilities_without_mass_are_refused(probabilities: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="probabilities sum to"):
        with_floor(probabilities, 0.02)


@given(MASSES, st.floats(0.0, 1.0))
def test_with_the_floor_they_sum_to_one_and_none_is_below_it(masses: list[float], floor: float) -> None:
    served = with_floor(masses, floor)
    assert math.fsum(served) == pytest.approx(1.0, abs=1e-12)
    assert min(served) >= floor / len(masses)
    assert max(served) <= 1.0 + 1e-12


def test_the_decisions_number_is_pinned() -> None:
    # Stored draws must be found again by later versions.
    assert uniform_number("homepage", "d1") == 0.13872496224443898
    assert uniform_number("homepage", "d2") == 0.24754025834954507
    assert uniform_number("default", "visit-é") == 0.6072806061062123


def test_loop_and_decision_id_do_not_run_together() -> None:
    assert uniform_number("ab", "c") != uniform_number("a", "bc")


@given(st.text(max_size=20).filter(lambda text: text.isprintable()), st.integers(0, 10**9))
def test_the_decisions_number_lies_in_the_unit_interval(loop: str, number: int) -> None:
    drawn = uniform_number(loop, f"d{number}")
    assert 0.0 <= drawn < 1.0
    assert drawn == uniform_number(loop, f"d{number}")


def test_the_numbers_of_many_decisions_are_uniform() -> None:
    numbers = [uniform_number("homepage", f"d{index}") for index in range(20_000)]
    counts = [sum(low / 20 <= number < (low + 1) / 20 for number in numbers) for low in range(20)]
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in counts)
    assert chi_squared < 43.8  # 19 degrees of freedom, one in a thousand


def test_a_pick_follows_the_cumulative_distribution() -> None:
    assert [pick((0.2, 0.8), number) for number in (0.0, 0.19, 0.2, 0.99)] == [0, 0, 1, 1]


def test_rounding_at_the_end_falls_to_the_last_possible_action() -> None:
    assert pick((0.5, 0.4999999, 0.0), 0.99999999) == 1


@given(MASSES, NUMBERS)
def test_a_pick_is_never_impossible(masses: list[float], number: float) -> None:
    served = with_floor(masses, 0.0)
    assert served[pick(served, number)] > 0.0


def test_picks_have_the_frequencies_of_the_distribution() -> None:
    served = with_floor((0.6, 0.3, 0.1, 0.0), 0.02)
    n = 20_000
    counts = [0] * 4
    for index in range(n):
        counts[pick(served, uniform_number("loop", f"d{index}"))] += 1
    for count, probability in zip(counts, served, strict=True):
        assert abs(count / n - probability) < 4 * math.sqrt(probability * (1 - probability) / n)
