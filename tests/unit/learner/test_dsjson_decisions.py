"""Lines of another service as closed decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from contextual_bandit import events
from contextual_bandit.features import rebuild_context, rebuild_features
from decision_service.personalizer_features import context_features
from decision_service.personalizer_features import merged as routes_merged
from evaluation.row_faults import BadRow
from learner.dsjson_decisions import asked_action, asked_context, imported_from, without_identity

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LINE: dict[str, Any] = {
    "_label_cost": -0.5,
    "_label_probability": 0.10000000149011612,
    "_label_Action": 3,
    "_labelIndex": 2,
    "Timestamp": "2021-02-04T16:31:29.2460000Z",
    "EventId": "x",
    "a": [3, 1, 2],
    "c": {
        "GUser": {"id": "rnc", "major": "law"},
        "FromUrl": [{"time": "noon", "weather": "clear", "_secret": 1}, {"device": {"kind": "phone", "old": None}}],
        "_multi": [
            {"_tag": "tea", "i": {"constant": 1, "id": "tea"}, "j": [{"type": "hot"}, {"size": {"cl": 25}}]},
            {"_tag": "juice", "TAction": {"topic": "cold"}},
            {"id": "milk", "j": [{"fat": 0.035}]},
        ],
    },
    "p": [0.1, 0.7, 0.2],
    "VWState": {"m": "model-1"},
}
SLATE: dict[str, Any] = {
    "Timestamp": "2021-02-04T16:31:29Z",
    "c": {
        "GUser": {"major": "law"},
        "_multi": [{"TAction": {"topic": name}} for name in "abcd"],
        "_slots": [{"_id": "top", "place": {"size": 2}}, {"_id": "low", "_inc": [0, 2, 3]}],
    },
    "_outcomes": [
        {"_label_cost": -1.0, "_id": "top", "_a": [1, 0, 2, 3], "_p": [0.7, 0.1, 0.1, 0.1]},
        {"_label_cost": 0.0, "_id": "low", "_a": [3, 0, 2], "_p": [0.5, 0.25, 0.25]},
    ],
}


def test_a_line_becomes_the_decision_that_the_same_request_would_be() -> None:
    found = imported_from(LINE, "home", NOW)
    decision, slot = found.decision, found.decision.slots[0]
    assert (decision.loop, decision.decision_id, decision.snapshot_id) == ("home", "x", "model-1")
    assert decision.occurred_at == decision.decided_at == datetime(2021, 2, 4, 16, 31, 29, 246000, tzinfo=UTC)
    assert decision.context.namespaces == {
        "GUser": {"id": "rnc", "major": "law"},
        "FromUrl": {"time": "noon", "weather": "clear"},
        "device": {"kind": "phone", "old": "null"},
    }
    assert [action.offer_id for action in decision.actions] == ["tea", "juice", "milk"]
    assert [dict(action.features) for action in decision.actions] == [
        {"type": "hot", "size.cl": 25.0}, {"TAction.topic": "cold"}, {"fat": 0.035},
    ]  # fmt: skip
    assert (slot.chosen, slot.propensity, found.rewards) == (2, 0.10000000149011612, (0.5,))
    assert slot.distribution is not None
    assert slot.distribution.served == (0.7, 0.2, 0.10000000149011612), "the chosen one's is the label's"
    assert found.decision.use == "learn"


def test_given_features_are_kept_as_vowpal_wabbit_reads_them() -> None:
    found = imported_from(LINE, "home", NOW)
    assert found.given["GUser"] == LINE["c"]["GUser"]
    assert found.given["_multi"] == LINE["c"]["_multi"]
    assert found.given["FromUrl"] == [{"time": "noon", "weather": "clear"}, {"device": {"kind": "phone", "old": None}}]


def test_who_somebody_is_stays_outside() -> None:
    c = {
        "GUser": {"e-mail": "x", "kind": "new", "mail": "a@b.example"},
        "demographics": {"name": "Ann", "age_band": "30-39"},
        "FromUrl": [{"name": "of a page", "deep": {"phone": 1}}],
        "_multi": [{"_tag": "t", "j": [{"phone": 7, "x": 1, "_y": 2}]}],
    }
    assert without_identity(c) == (
        {
            "GUser": {"kind": "new"},
            "demographics": {"age_band": "30-39"},
            "FromUrl": [{"name": "of a page", "deep": {}}],
            "_multi": [{"_tag": "t", "j": [{"phone": 7, "x": 1}]}],
        },
        4,
    )


def test_namespaces_that_meet_are_one() -> None:
    assert asked_context({"day": {"part": "noon"}, "FromUrl": [{"day": {"name": "Mon"}, "x": 1}], "y": 2}) == {
        "day": {"part": "noon", "name": "Mon"},
        "FromUrl": {"x": 1},
        "y": 2,
    }


def test_slots_keep_their_own_draws_and_the_encoded_decision_is_equal() -> None:
    found = imported_from(SLATE, "home", NOW)
    decision = found.decision
    assert decision.decision_id == "top", "such lines may have ids for slots alone"
    assert found.rewards == (1.0, 0.0)
    assert [slot.slot_id for slot in decision.slots] == ["top", "low"]
    assert [slot.chosen for slot in decision.slots] == [1, 3]
    assert [slot.propensity for slot in decision.slots] == [0.7, 0.5]
    assert [slot.exclude for slot in decision.slots] == [(), ("1",)]
    assert dict(decision.slots[0].features) == {"place.size": 2.0}
    assert [slot.distribution.served for slot in decision.slots if slot.distribution] == [
        (0.1, 0.7, 0.1, 0.1), (0.25, 0.0, 0.25, 0.5),
    ]  # fmt: skip
    message = events.encode(events.IMPORTED, NOW, events.imported_payload(decision, found.rewards, found.given))
    payload = events.decode("1-0", message).payload
    assert events.decision_from(payload) == decision
    assert events.imported_rewards(payload, decision) == found.rewards


def changed(line: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**line, **fields}


def outcome(**fields: Any) -> dict[str, Any]:
    return changed(SLATE, _outcomes=[SLATE["_outcomes"][0], {**SLATE["_outcomes"][1], **fields}])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (changed(LINE, EventId="x" * 257), "EventId: longer than 256 characters"),
        (changed(LINE, c={**LINE["c"], "bad": {"x": ["a"]}}), "c: arrays may hold only numbers"),
        (changed(LINE, c={"_multi": [{"_tag": "a"}, {"_tag": "b"}, {"id": "a"}]}), "c._multi: names an action twice"),
        (changed(LINE, _skipLearn=True), "_skipLearn: set"),
        (changed(SLATE, _skipLearn=True), "_skipLearn: set"),
        (changed(SLATE, _outcomes=[]), "_outcomes: no list of objects"),
        (changed(SLATE, _outcomes=SLATE["_outcomes"][:1]), "c._slots: not one object for each of _outcomes"),
        (outcome(_a=[1, 0, 2]), "_outcomes: shows an action twice"),
        (outcome(_id="top"), "_outcomes: names a slot twice"),
        (outcome(_a=[3, 3, 2]), "_outcomes._a: names an action twice"),
        (outcome(_a=[3, 4, 2]), "chosen: not among the actions"),
        (outcome(_a=[3]), "_outcomes._a: not one action for each of _p"),
        (outcome(_p=[0.5, 0.5, 0.5]), "probs: not a distribution"),
        (outcome(_p=[0.0, 0.5, 0.5]), "propensity: outside (0, 1]"),
        ({**SLATE, "_outcomes": [{}, {}]}, "_outcomes._label_cost: missing"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(line: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        imported_from(line, "home", NOW)
    assert str(caught.value) == reason


def test_the_moment_of_the_import_stands_for_no_time() -> None:
    line = {name: value for name, value in LINE.items() if name != "Timestamp"}
    assert imported_from(line, "home", NOW).decision.occurred_at == NOW


def test_features_have_the_names_that_the_routes_give_them() -> None:
    """What was learned from the log must hold for the calls to come."""
    sent: list[dict[str, Any]] = [
        {"time": "noon", "hour": 3, "weekday": True, "old": None, "_secret": 1, "email": "x"},
        {"user": {"kind": "new", "phone": 7, "deep": {"x": [1, 2]}}, "weather": {"temperature": 20}},
        {"demographics": {"name": "Ann", "age_band": "30-39"}},
    ]
    c = {"FromUrl": sent, "_multi": [{"_tag": "a", "i": {"id": "a"}, "j": sent}]}
    given, _ = without_identity(c)
    assert rebuild_context(asked_context(given)) == rebuild_context(context_features(sent))
    asked = routes_merged(sent, "features")
    assert rebuild_features(asked_action(given["_multi"][0]), "a") == rebuild_features(asked, "a")
