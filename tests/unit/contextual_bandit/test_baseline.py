from __future__ import annotations

from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.loops import BaselineSetting
from contextual_bandit.types import Action, Context

NOWHERE = Context({})


def actions(**affinities: float) -> list[Action]:
    return [Action(name, {}, {"r4": -value, "r16": value}) for name, value in affinities.items()]


def shares(setting: BaselineSetting, candidates: list[Action]) -> dict[str, float]:
    given = BaselinePolicy(setting).distribution(NOWHERE, candidates)
    return {
        action.offer_id: share for action, share in zip(candidates, given, strict=True) if share
    }  # fmt: skip


def test_the_closest_offer_above_the_threshold_is_shown() -> None:
    assert shares(BaselineSetting(threshold=2.0), actions(a=2.5, b=7.0, c=1.0)) == {"b": 1.0}


def test_the_closest_offers_share_evenly() -> None:
    candidates = actions(a=2.5, b=7.0, c=1.0, d=3.0)
    assert shares(BaselineSetting(threshold=2.0, top_n=2), candidates) == {"b": 0.5, "d": 0.5}
    assert shares(BaselineSetting(threshold=2.0, top_n=9), candidates) == dict.fromkeys("abd", 1 / 3)


def test_the_threshold_must_be_exceeded() -> None:
    setting = BaselineSetting(threshold=2.5, priority=("c",))
    assert shares(setting, actions(a=2.5, b=2.5, c=1.0)) == {"c": 1.0}
    assert shares(setting, actions(a=2.5, b=2.6, c=1.0)) == {"b": 1.0}


def test_the_earlier_of_equals_goes_first() -> None:
    candidates = actions(a=1.0, b=3.0, c=3.0, d=3.0)
    assert shares(BaselineSetting(), candidates) == {"b": 1.0}
    assert shares(BaselineSetting(top_n=2), candidates) == {"b": 0.5, "c": 0.5}


def test_without_affinity_the_priority_list_decides_among_the_eligible() -> None:
    setting = BaselineSetting(threshold=2.0, priority=("gone", "c", "a"))
    assert shares(setting, actions(a=0.0, b=1.0, c=2.0)) == {"c": 1.0}
    assert shares(setting, actions(a=0.0, b=1.0)) == {"a": 1.0}


def test_without_either_the_first_offer_is_shown() -> None:
    assert shares(BaselineSetting(priority=("gone",)), actions(a=0.0, b=0.0)) == {"a": 1.0}


def test_the_setting_names_the_affinity() -> None:
    assert shares(BaselineSetting(affinity="r4"), actions(a=5.0, b=-1.0, c=-2.0)) == {"c": 1.0}


@pytest.mark.parametrize("affinity", [{}, {"r16": "high"}, {"r16": True}])
def test_a_missing_affinity_is_zero(affinity: dict[str, str | bool]) -> None:
    candidates = [Action("odd", {}, affinity), Action("low", {}, {"r16": -0.5})]
    assert shares(BaselineSetting(threshold=-1.0), candidates) == {"odd": 1.0}
    assert shares(BaselineSetting(threshold=0.0, priority=("low",)), candidates) == {"low": 1.0}


NUMBERS = st.one_of(st.just(0.0), st.floats(-10.0, 10.0))


@given(st.lists(NUMBERS, min_size=1, max_size=30), NUMBERS, st.integers(1, 40))
def test_it_is_a_distribution_over_at_most_n(affinities: list[float], threshold: float, top_n: int) -> None:
    candidates = actions(**{f"o{number}": value for number, value in enumerate(affinities)})
    given = BaselinePolicy(BaselineSetting(threshold=threshold, top_n=top_n)).distribution(NOWHERE, candidates)
    assert len(given) == len(candidates)
    assert fsum(given) == pytest.approx(1.0)
    shown = {one for one in given if one}
    assert len(shown) == 1
    assert sum(one > 0.0 for one in given) <= top_n


def test_learning_changes_nothing() -> None:
    policy = BaselinePolicy(BaselineSetting())
    policy.learn([])
    assert policy.distribution(NOWHERE, actions(a=1.0, b=2.0)) == (0.0, 1.0)
