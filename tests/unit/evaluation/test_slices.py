"""Slices: values by hand, any split the same, bounded, and what small ones say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from contextual_bandit.types import Context, FeatureValue, LoggedInteraction
from evaluation import slices as module
from evaluation.chunks import Chunk
from evaluation.interactions import Interactions
from evaluation.slices import NOT_KNOWN, OTHER, SlicedValues, Slices, in_words
from evaluation.targets import fixed_offer, logged
from evaluation.terms import Terms

SyntheticLog = Callable[..., list[LoggedInteraction]]
Values = Sequence[FeatureValue | None]


@pytest.fixture
def chunks(synthetic_log: SyntheticLog) -> Callable[..., list[Chunk]]:
    """A log whose decisions have a feature H.segment in turn; None is none."""

    def make(values: Values, size: int = 8192, n: int = 6000) -> list[Chunk]:
        log = synthetic_log(n, (0.2, 0.4), (0.6, 0.4))
        contexts = [Context({"H": {} if one is None else {"segment": one, "new": True}}) for one in values]
        told = [
            replace(one, decision=replace(one.decision, context=contexts[row % len(contexts)]))
            for row, one in enumerate(log)
        ]
        return list(Interactions(told, size).chunks())

    return make


def sliced(chunks: Sequence[Chunk], *dimensions: str) -> Slices:
    found = Slices(dimensions)
    for chunk in chunks:
        found.add(chunk, terms(chunk))
    return found


def terms(chunk: Chunk) -> dict[str, Terms]:
    targets = {"logged": logged(chunk), "offer:b1": fixed_offer("b1")(chunk)}
    return {
        name: Terms.of(chunk.reward, chunk.propensity, target[chunk.chosen], hashes=chunk.hashes)
        for name, target in targets.items()
    }


def named(found: SlicedValues, dimension: str) -> dict[str, module.Slice]:
    return {one.name: one for one in found.dimensions[dimension]}


def test_values_by_hand(chunks: Callable[..., list[Chunk]]) -> None:
    (chunk,) = chunks(["gold", "silver", None])
    found = sliced([chunk], "H.segment", "offer").result()
    segments = named(found, "H.segment")
    assert {name: one.n for name, one in segments.items()} == {"gold": 2000, "silver": 2000, NOT_KNOWN: 2000}
    mine = np.arange(6000) % 3 == 0
    weight = terms(chunk)["offer:b1"].weight
    gold = segments["gold"]
    value, change = gold.values["offer:b1"], gold.differences["offer:b1"]
    assert value is not None
    assert change is not None
    assert value.value == pytest.approx((weight * chunk.reward)[mine].mean())
    apart = ((weight - 1.0) * chunk.reward)[mine]
    assert change.value == pytest.approx(apart.mean())
    spread = (change.high - change.low) / (value.high - value.low)
    assert spread == pytest.approx(apart.std() / (weight * chunk.reward)[mine].std())
    offers = named(found, "offer")
    served = chunk.offer[chunk.chosen] == chunk.codes["b1"]
    best = offers["b1"].values["offer:b1"]
    assert best is not None
    assert best.value == pytest.approx(chunk.reward[served].mean())
    assert offers["a0"].values["offer:b1"] is None
    assert offers["a0"].differences["offer:b1"] is None
    assert offers["a0"].is_enough


def test_the_number_of_looks_is_paid_for_and_said(chunks: Callable[..., list[Chunk]]) -> None:
    one = sliced(chunks(["gold"]), "H.segment").result()
    four = sliced(chunks(list("abcd")), "H.segment").result()
    assert (one.looks, four.looks) == (3, 12)
    assert four.own_level == pytest.approx(1 - 0.05 / 12)
    assert "12 intervals" in four.caption
    assert "Bonferroni" in four.caption


def test_a_split_of_the_log_changes_nothing(chunks: Callable[..., list[Chunk]]) -> None:
    values: Values = ["gold", 3.0, None, True, -12.0]
    dimensions = ("H.*", "offer", "week")
    whole = sliced(chunks(values), *dimensions).result()
    pieces = chunks(values, 1000)
    added = (sliced(pieces[:2], *dimensions) + sliced(pieces[2:], *dimensions)).result()
    assert added.looks == whole.looks
    for dimension, expected in whole.dimensions.items():
        for one, other in zip(added.dimensions[dimension], expected, strict=True):
            assert (one.name, one.n) == (other.name, other.n)
            for name, value in other.values.items():
                mine = one.values[name]
                assert (mine is None) == (value is None)
                if mine is not None and value is not None:
                    assert (mine.value, mine.high) == pytest.approx((value.value, value.high), rel=1e-9)


def test_all_features_of_a_namespace(chunks: Callable[..., list[Chunk]]) -> None:
    found = sliced(chunks(["gold", None]), "H.*").result()
    assert set(found.dimensions) == {"H.segment", "H.new"}
    assert set(named(found, "H.new")) == {"true", NOT_KNOWN}


def test_a_feature_that_nobody_has_is_one_slice(chunks: Callable[..., list[Chunk]]) -> None:
    found = sliced(chunks(["gold"]), "D.age_band").result()
    assert {name: one.n for name, one in named(found, "D.age_band").items()} == {NOT_KNOWN: 6000}


def test_small_slices_say_so_and_cost_no_look(chunks: Callable[..., list[Chunk]]) -> None:
    found = sliced(chunks(["gold"] * 99 + ["rare"]), "H.segment").result()
    rare = named(found, "H.segment")["rare"]
    assert rare.n == 60
    assert not rare.is_enough
    assert set(rare.values.values()) == set(rare.differences.values()) == {None}
    assert found.looks == 3


def test_many_values_are_one_beyond_the_largest(
    chunks: Callable[..., list[Chunk]], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [f"v{number}" for number in range(30)]
    found = sliced(chunks(values, 500), "H.segment").result(most=5)
    assert [one.name for one in found.dimensions["H.segment"]][5:] == [OTHER]
    assert named(found, "H.segment")[OTHER].n == 25 * 200
    monkeypatch.setattr(module, "MOST_KEPT", 10)
    bounded = sliced(chunks(values, 500), "H.segment")
    assert len(bounded.sums["H.segment"]) == 11
    assert sum(one.n for one in bounded.result().dimensions["H.segment"]) == 6000


def test_weeks_begin_on_mondays(chunks: Callable[..., list[Chunk]]) -> None:
    found = sliced(chunks(["gold"]), "week").result()
    for one in found.dimensions["week"]:
        assert datetime.fromisoformat(one.name).replace(tzinfo=UTC).weekday() == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("gold", "gold"),
        (True, "true"),
        (1.0, "0.5 to 1"),
        (1.5, "1 to 2"),
        (10.0, "5 to 10"),
        (-3, "-5 to -2"),
        (0, "0"),
    ],
)
def test_values_in_words(value: FeatureValue, words: str) -> None:
    assert in_words(value) == words


def test_bad_dimensions_are_refused() -> None:
    for wrong in ("segment", "H.", ".x", ""):
        with pytest.raises(ValueError, match="is neither"):
            Slices((wrong,))
    with pytest.raises(ValueError, match="twice"):
        Slices(("offer", "offer"))
    with pytest.raises(ValueError, match="21 slices"):
        Slices(tuple(f"H.f{number}" for number in range(21)))


def test_the_policy_compared_with_must_be_there(chunks: Callable[..., list[Chunk]]) -> None:
    (chunk,) = chunks(["gold"])
    with pytest.raises(ValueError, match="'baseline'"):
        Slices(("offer",), against="baseline").add(chunk, terms(chunk))
    with pytest.raises(ValueError, match="level"):
        Slices(("offer",)).result(1.0)
    assert Slices(("offer",)).result().dimensions == {}
