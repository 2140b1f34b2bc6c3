from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.features import (
    DEEPEST,
    LARGEST_NUMBER,
    LONGEST_TEXT,
    MOST_FEATURES,
    RESERVED_LETTERS,
    BadFeature,
    rebuild_context,
    rebuild_features,
)


def test_an_object_becomes_a_namespace_and_loose_values_share_one() -> None:
    assert rebuild_context({"device": {"kind": "phone"}, "page": "home", "visits": 3, "signed_in": True}) == {
        "device": {"kind": "phone"},
        "c": {"page": "home", "visits": 3.0, "signed_in": True},
    }


@pytest.mark.parametrize(
    ("name", "letter"), [("demographics", "D"), ("history", "H"), ("season", "S"), ("weather", "W")]
)
def test_the_products_own_groups_have_one_letter(name: str, letter: str) -> None:
    assert rebuild_context({name: {"a": 1}}) == {letter: {"a": 1.0}}


@pytest.mark.parametrize("name", ["Device", "A", "O", "Weather", "élan", "7days", "-dash", "日", " blank"])
def test_a_name_that_is_not_the_clients_own_gets_a_prefix(name: str) -> None:
    assert rebuild_context({name: {"a": 1}}) == {"x" + name: {"a": 1.0}}


def test_a_capital_that_is_not_reserved_stays() -> None:
    assert rebuild_context({"Basket": {"a": 1}}) == {"Basket": {"a": 1.0}}


def test_private_names_and_nulls_are_dropped_at_every_depth() -> None:
    raw = {"_id": 1, "nothing": None, "device": {"_serial": "x", "kind": {"_deep": 1, "os": "linux", "age": None}}}
    assert rebuild_context(raw) == {"device": {"kind.os": "linux"}}


def test_a_namespace_without_features_is_dropped() -> None:
    assert rebuild_context({"device": {}, "page": {"_x": 1}}) == {}


def test_nesting_is_flattened_and_arrays_become_numbered() -> None:
    raw = {"category": "garden", "size": {"w": 1.5, "deep": {"er": False}}, "vector": [1, -2.5], "empty": []}
    assert rebuild_features(raw, "offer") == {
        "category": "garden", "size.w": 1.5, "size.deep.er": False, "vector.0": 1.0, "vector.1": -2.5,
    }  # fmt: skip
    assert rebuild_context({"vector": [3]}) == {"c": {"vector.0": 3.0}}


def test_numbers_are_floats_and_booleans_stay_booleans() -> None:
    found = rebuild_features({"n": 1, "yes": True}, "offer")
    assert type(found["n"]) is float
    assert found["yes"] is True


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        (math.nan, "offer.a", "finite"),
        (math.inf, "offer.a", "finite"),
        (-math.inf, "offer.a", "finite"),
        (LARGEST_NUMBER * 1.1, "offer.a", "at most"),
        (-LARGEST_NUMBER * 1.1, "offer.a", "at most"),
        (10**400, "offer.a", "at most"),
        ([1, math.nan], "offer.a[1]", "finite"),
        ([True], "offer.a[0]", "only numbers"),
        (["x"], "offer.a[0]", "only numbers"),
        ([[1]], "offer.a[0]", "only numbers"),
        ([None], "offer.a[0]", "only numbers"),
        ((1, 2), "offer.a", "must be"),
        (object(), "offer.a", "must be"),
        ("x" * (LONGEST_TEXT + 1), "offer.a", "longer than"),
        ("\ud800", "offer.a", "Unicode"),
        ({"": 1}, "offer.a", "non-empty"),
        ({3: 1}, "offer.a", "non-empty"),
        ({"\udfff": 1}, "offer.a", "Unicode"),
        ({"x" * (LONGEST_TEXT + 1): 1}, "offer.a", "longer than"),
    ],
)
def test_what_no_policy_can_use_is_refused_by_name(value: Any, path: str, why: str) -> None:
    with pytest.raises(BadFeature) as caught:
        rebuild_features({"a": value}, "offer")
    assert caught.value.path == path
    assert why in caught.value.why
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 300


def test_the_path_of_a_context_feature_begins_with_context() -> None:
    with pytest.raises(BadFeature, match=r"^context\.device\.kind: "):
        rebuild_context({"device": {"kind": object()}})
    with pytest.raises(BadFeature, match=r"^context\.page: "):
        rebuild_context({"page": object()})
    with pytest.raises(BadFeature, match=r"^context: "):
        rebuild_context({"": 1})


def test_the_largest_number_and_longest_text_are_allowed() -> None:
    raw = {"n": LARGEST_NUMBER, "m": -LARGEST_NUMBER, "t": "é" * LONGEST_TEXT}
    assert rebuild_features(raw, "offer") == raw


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth > 1 else {"a": 1}


def test_nesting_ends_somewhere() -> None:
    assert rebuild_features(nested(DEEPEST), "offer") == {".".join("a" * DEEPEST): 1.0}
    with pytest.raises(BadFeature, match=f"deeper than {DEEPEST}"):
        rebuild_features(nested(DEEPEST + 1), "offer")
    with pytest.raises(BadFeature, match=f"deeper than {DEEPEST}"):
        rebuild_context(nested(DEEPEST + 2))
    with pytest.raises(BadFeature, match="deeper than"):
        rebuild_context(nested(100_000 // 200))


def test_there_are_not_too_many() -> None:
    many = {f"f{number}": 1 for number in range(MOST_FEATURES)}
    assert len(rebuild_features(many, "offer")) == MOST_FEATURES
    assert len(rebuild_context({"device": many})["device"]) == MOST_FEATURES
    with pytest.raises(BadFeature, match=f"more than {MOST_FEATURES}"):
        rebuild_features(many | {"one": 1}, "offer")
    with pytest.raises(BadFeature, match=f"more than {MOST_FEATURES}"):
        rebuild_context({"device": many, "page": "home"})
    with pytest.raises(BadFeature, match=f"more than {MOST_FEATURES}"):
        rebuild_features({"vector": [1] * (MOST_FEATURES + 1)}, "offer")
    with pytest.raises(BadFeature, match=f"more than {MOST_FEATURES}"):
        rebuild_context({"vector": [1] * 100_000})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=6))
def test_whatever_is_sent_becomes_plain_features_or_a_named_error(raw: dict[str, Any]) -> None:
    try:
        namespaces = rebuild_context(raw)
    except BadFeature as error:
        assert error.path.startswith("context")
        return
    for namespace, features in namespaces.items():
        assert namespace[0].isascii()
        assert namespace in ("D", "H", "S", "W") or namespace[0] not in RESERVED_LETTERS
        for name, value in features.items():
            assert name
            assert not name.startswith("_")
            assert isinstance(value, str | bool) or (type(value) is float and math.isfinite(value))
