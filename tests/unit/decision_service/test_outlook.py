"""What is kept of a customer's last call holds for those that ask the same, as long as no date of an offer passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from contextual_bandit.eligibility import NO_RULES, situate
from contextual_bandit.events import decision_payload
from contextual_bandit.features import BadFeature
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Context, Features, Offer, Removed
from decision_service.candidates import Asked
from decision_service.held import Catalogue, make_catalogue
from decision_service.outlook import LAST, Outlook, Outlooks, look, question_of
from decision_service.schemas import RankIn
from decision_service.sent import Sent, SentContexts

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHOP = LoopConfig("shop")
SENT = Sent({}, ())


def near(category: str | None) -> Features:
    return {"r4": 1.0} if category == "a" else {}


def outlook(catalogue: Catalogue, now: datetime = NOW) -> Outlook:
    asked = Asked(list(catalogue.candidates.values()))
    return look(asked, situate(now, Context({})), NO_RULES, frozenset(), SHOP, catalogue, near)


def catalogue_of(*offers: Offer) -> Catalogue:
    return make_catalogue(1, offers, Catalogue())


def test_an_outlook_ends_when_an_offer_begins_or_ends() -> None:
    catalogue = catalogue_of(Offer("o1", "a"), Offer("o2", "b", valid_from=NOW + HOUR, valid_to=NOW + 2 * HOUR))
    found = outlook(catalogue)
    assert [action.offer_id for action in found.actions] == ["o1"]
    assert (found.since, found.until) == (NOW, NOW + HOUR)
    then = outlook(catalogue, NOW + HOUR)
    assert [action.offer_id for action in then.actions] == ["o1", "o2"]
    assert then.until == NOW + 2 * HOUR
    assert outlook(catalogue, NOW + 2 * HOUR).until == LAST


@pytest.mark.parametrize(
    ("other", "killed", "later", "is_found"),
    [
        ({}, frozenset(), 0.0, True),
        ({}, frozenset(), 3599.0, True),
        ({}, frozenset(), 3600.0, False),
        ({}, frozenset(), -1.0, False),
        ({"channel": "app"}, frozenset(), 0.0, False),
        ({"candidates": ["o1"]}, frozenset(), 0.0, False),
        ({}, frozenset({"o1"}), 0.0, False),
    ],
)
def test_an_outlook_is_for_who_asks_the_same(
    other: dict[str, Any], killed: frozenset[str], later: float, is_found: bool
) -> None:
    kept, found = Outlooks(), outlook(catalogue_of(Offer("o1", "a", valid_to=NOW + HOUR)))
    first = question_of(RankIn.model_validate({"channel": "web"}), SENT, NO_RULES, frozenset())
    assert first is not None
    kept.put(first, found)
    asked = question_of(RankIn.model_validate({"channel": "web"} | other), SENT, NO_RULES, killed)
    assert asked is not None
    assert (kept.get(asked, NOW + timedelta(seconds=later)) is found) == is_found


def test_no_outlook_is_kept_of_offers_that_come_with_the_call() -> None:
    bodies: list[dict[str, Any]] = [{"candidates": [{"offer_id": "o1"}]}, {"slots": 2}]
    for body in bodies:
        assert question_of(RankIn.model_validate(body), SENT, NO_RULES, frozenset()) is None


def test_contexts_of_equal_text_are_one_as_long_as_the_schema_is() -> None:
    contexts = SentContexts()
    first = contexts.read(None, {"device": {"kind": "phone"}}, "")
    assert contexts.read(None, {"device": {"kind": "phone"}}, "") is first
    assert contexts.read(None, {"device": {"kind": "desktop"}}, "") is not first
    # 1 and True are equal to Python, and no equal features.
    assert contexts.read(None, {"x": {"y": 1}}, "") is not contexts.read(None, {"x": {"y": True}}, "")


def test_a_context_nested_too_deep_to_be_written_is_refused_for_that() -> None:
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"a": deep}
    with pytest.raises(BadFeature, match="nested deeper"):
        SentContexts().read(None, deep, "")


def test_written_parts_are_what_the_log_would_have(make_decision: Any) -> None:
    offers = Offer("o1", "a"), Offer("o2", "b"), Offer("o3", "c", status="paused")
    found = outlook(catalogue_of(*offers))
    assert found.removed == (Removed("o3", "status_paused"),)
    decision = replace(make_decision("d1", actions=found.actions), removed=found.removed)
    assert found.is_of(decision)
    written = orjson.loads(orjson.dumps(decision_payload(decision, found.parts)))
    assert written == orjson.loads(orjson.dumps(decision_payload(decision)))
