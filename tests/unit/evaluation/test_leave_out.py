"""Decisions without a namespace or a feature, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contextual_bandit.types import Action, Decision
from evaluation.leave_out import names_in, without

MakeDecision = Callable[..., Decision]


@pytest.fixture
def decision(make_decision: MakeDecision) -> Decision:
    return make_decision(
        context={"D": {"age_band": "18-30", "household_size": 2.0}, "W": {"band": "cold"}},
        actions=[
            Action("a", {"category": "tea", "discount": 0.1}, {"r4": 1.0, "r16": 2.0}, version=3, promoted=True),
            Action("b", {"category": "soap"}, {}),
        ],
    )


def test_a_namespace_and_a_feature_are_left_out(decision: Decision) -> None:
    found = without(decision, ["W", "D.household_size"])
    assert found.context.namespaces == {"D": {"age_band": "18-30"}}
    assert found.actions is decision.actions
    assert without(decision, ["D.age_band", "D.household_size"]).context.namespaces == {"W": {"band": "cold"}}


def test_offers_keep_their_ids(decision: Decision) -> None:
    bare = without(decision, ["O"]).actions
    assert [(action.offer_id, action.features) for action in bare] == [("a", {}), ("b", {})]
    assert bare[0].affinity == {"r4": 1.0, "r16": 2.0}
    assert (bare[0].version, bare[0].promoted) == (3, True)
    assert without(decision, ["O.category"]).actions[0].features == {"discount": 0.1}


def test_affinities_are_left_out(decision: Decision) -> None:
    assert without(decision, ["A"]).actions[0].affinity == {}
    assert without(decision, ["A.r4"]).actions[0].affinity == {"r16": 2.0}
    assert without(decision, ["A"]).actions[0].features == decision.actions[0].features


def test_everything_else_stays(decision: Decision) -> None:
    found = without(decision, ["W"])
    for name in ("decision_id", "slots", "removed", "use"):
        assert getattr(found, name) == getattr(decision, name)
    assert without(decision, ["no such"]) == decision


def test_names_are_found_by_namespace_and_feature(decision: Decision) -> None:
    assert names_in([decision]) == ["A", "D", "O", "W"]
    assert names_in([decision], features=True) == [
        "A.r16", "A.r4", "D.age_band", "D.household_size", "O.category", "O.discount", "W.band",
    ]  # fmt: skip
    assert names_in([]) == []
