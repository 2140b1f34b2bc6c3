from __future__ import annotations

from typing import Any

import pytest

from contextual_bandit.features import BadFeature, rebuild_context
from contextual_bandit.loops import FeatureSchema, FeatureSpec
from contextual_bandit.schema import BadSchema, apply_schema, check_schema, path_of

SPECS = {
    "device.kind": FeatureSpec("string", values=("phone", "desktop")),
    "basket_total": FeatureSpec("number", low=0.0, high=500.0),
    "returning": FeatureSpec("boolean"),
    "page.embedding.*": FeatureSpec("number"),
    "demographics.children": FeatureSpec("number", low=0.0, high=20.0),
    "Hotel.stars": FeatureSpec("number"),
}
GOOD: dict[str, Any] = {
    "device": {"kind": "phone"}, "basket_total": 12.5, "returning": True, "page": {"embedding": [0.5, 1.5]},
    "demographics": {"children": 2, "town": "small"}, "Hotel": {"stars": 4}, "weather": {"condition": "rain"},
}  # fmt: skip


def test_what_the_schema_names_comes_in_as_it_was_sent() -> None:
    sent = rebuild_context(GOOD)
    kept, dropped = apply_schema(FeatureSchema(SPECS), sent)
    assert kept == sent
    assert dropped == []
    assert apply_schema(None, sent) == (sent, [])


@pytest.mark.parametrize(
    ("context", "path", "why"),
    [
        ({"device": {"kind": "fridge"}}, "context.device.kind", "one of phone, desktop"),
        ({"device": {"kind": 3}}, "context.device.kind", "must be a string"),
        ({"device": {"colour": "red"}}, "context.device.colour", "not in the loop's schema"),
        ({"basket_total": -1}, "context.basket_total", "at least 0"),
        ({"basket_total": 501}, "context.basket_total", "at most 500"),
        ({"basket_total": "much"}, "context.basket_total", "must be a number"),
        ({"basket_total": True}, "context.basket_total", "must be a number"),
        ({"returning": "yes"}, "context.returning", "must be a boolean"),
        ({"page": {"embedding": {"x": "no"}}}, "context.page.embedding.x", "must be a number"),
        ({"page": {"title": "x"}}, "context.page.title", "not in the loop's schema"),
        ({"demographics": {"children": 40}}, "context.demographics.children", "at most 20"),
        ({"loose": 1}, "context.loose", "not in the loop's schema"),
        ({"Hotel": {"name_of": "x"}}, "context.Hotel.name_of", "not in the loop's schema"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_or_dropped_and_named(context: Any, path: str, why: str) -> None:
    sent = rebuild_context({**GOOD, "device": {"kind": "phone"}} | context)
    with pytest.raises(BadFeature, match=why) as caught:
        apply_schema(FeatureSchema(SPECS), sent)
    assert caught.value.path == path
    kept, dropped = apply_schema(FeatureSchema(SPECS, "drop"), sent)
    assert [f"context.{name}" for name in dropped] == [path]
    shown = {f"context.{path_of(namespace, name)}" for namespace, features in kept.items() for name in features}
    assert path not in shown
    assert "context.weather.condition" in shown


@pytest.mark.parametrize(
    ("spec", "field", "why"),
    [
        (FeatureSpec("string", low=1.0), "low", "only numbers have low and high"),
        (FeatureSpec("number", values=("a",)), "values", "only strings have values"),
        (FeatureSpec("number", low=2.0, high=1.0), "low", "low must not be above high"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(spec: FeatureSpec, field: str, why: str) -> None:
    with pytest.raises(BadSchema, match=why) as caught:
        check_schema(FeatureSchema({"device.kind": spec}))
    assert caught.value.path == f"features.device.kind.{field}"
