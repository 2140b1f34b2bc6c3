"""Logs of Vowpal Wabbit's decision service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.logs import open_log
from evaluation.row_faults import LogUnusable

EVENT: dict[str, Any] = {
    "_label_cost": -1.0,
    "_label_probability": 0.10000000149011612,
    "_label_Action": 3,
    "_labelIndex": 2,
    "o": [{"v": 1.0, "EventId": "x", "ActionTaken": False}],
    "Timestamp": "2021-02-04T16:31:29.2460000Z",
    "Version": "1",
    "EventId": "x",
    "a": [3, 1, 2],
    "c": {
        "FromUrl": [{"time": "noon", "_secret": 1}, {"sky": "clear"}],
        "_synthetic": False,
        "_multi": [
            {"_tag": "tea", "i": {"constant": 1, "id": "tea"}, "j": [{"type": "hot"}]},
            {"_tag": "juice", "j": [{"type": "cold"}, {"fruit": {"apple": 0.5}}]},
            {"j": [{"type": "hot"}]},
        ],
    },
    "p": [0.1, 0.7, 0.2],
    "VWState": {"m": "model"},
}

Events = Callable[..., Path]


@pytest.fixture
def events(tmp_path: Path) -> Events:
    """Write events, or text as it is, into a file."""

    def write(*rows: Any) -> Path:
        path = tmp_path / "log.json"
        path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows))
        return path

    return write


def test_an_event_becomes_a_decision(events: Events) -> None:
    log = open_log(events(EVENT))
    (chunk,) = log.chunks()
    assert chunk.reward.tolist() == [1.0]
    assert chunk.propensity == pytest.approx([0.1])
    assert chunk.chosen.tolist() == [2]
    assert chunk.served is not None
    # p belongs to the actions that a names: the third has 0.1, the first 0.7, the second 0.2.
    assert chunk.served.tolist() == [0.7, 0.2, 0.1]
    assert list(chunk.codes) == ["tea", "juice", "2"]
    assert chunk.at.astype(str).tolist() == ["2021-02-04T16:31:29.246000"]
    decision = chunk.decisions[0]
    assert decision.decision_id == "x"
    assert decision.context.namespaces == {"FromUrl": {"time": "noon", "sky": "clear"}}
    assert dict(decision.actions[1].features) == {"j.type": "cold", "j.fruit.apple": 0.5}
    assert log.found.skipped == {}


def test_costs_are_negated_and_zero_stays_plain(events: Events) -> None:
    (chunk,) = open_log(events({**EVENT, "_label_cost": 0.0}, {**EVENT, "_label_cost": -0.0})).chunks()
    assert np.copysign(1.0, chunk.reward).tolist() == [1.0, 1.0]
    assert chunk.reward.tolist() == [0.0, 0.0]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in EVENT.items() if key != name}


def test_either_name_of_the_chosen_one_does(events: Events) -> None:
    (chunk,) = open_log(events(without("_labelIndex"), without("_label_Action"))).chunks()
    assert (chunk.chosen - chunk.first).tolist() == [2, 2]


def test_events_without_time_or_order_are_used(events: Events) -> None:
    log = open_log(events(without("Timestamp"), without("a")))
    (chunk,) = log.chunks()
    assert chunk.at.astype("datetime64[Y]").astype(str).tolist() == ["1970", "2021"]
    assert any("no Timestamp" in note for note in log.found.notes)
    assert chunk.served is None


DIRTY: list[tuple[dict[str, Any] | str, str, int]] = [
    ({"EventId": "x", "RewardValue": 1.0}, "line: an observation without its decision", 0),
    ({"checkpoint_info": {"reward_function_type": 0}}, "line: a checkpoint", 0),
    (without("_label_cost"), "_label_cost: missing", 0),
    ({**without("_label_cost"), "_outcomes": []}, "_label_cost: several slots", 0),
    ({**EVENT, "_skipLearn": True}, "_skipLearn: set", 0),
    ({**EVENT, "_label_cost": "?"}, "_label_cost: not a number", 0),
    ({**EVENT, "_label_probability": 0.0}, "propensity: outside (0, 1]", 1),
    ({**EVENT, "_label_probability": 0.7}, "propensity: not that of probs", 1),
    ({**EVENT, "_labelIndex": 3}, "chosen: not among the actions", 0),
    ({**EVENT, "_label_Action": 1}, "_label_Action: not that of _labelIndex", 0),
    ({**EVENT, "c": 3}, "c: no object", 0),
    ({**EVENT, "c": {"x": 1}}, "c._multi: missing", 0),
    ({**EVENT, "a": [1, 1, 2]}, "a: names an action twice", 0),
    ({**EVENT, "p": [0.5, 0.5]}, "p: not one number per action", 0),
    ({**EVENT, "p": [0.1, 0.7, 0.7]}, "probs: not a distribution", 1),
    (without("EventId"), "event_id: missing", 0),
    ('{"_label_cost": -1, "c": {', "line: no JSON", 0),
]


@pytest.mark.parametrize(("line", "reason", "inconsistent"), DIRTY)
def test_dirty_lines_are_counted_and_never_fatal(
    events: Events, line: dict[str, Any] | str, reason: str, inconsistent: int
) -> None:
    log = open_log(events(EVENT, line, EVENT))
    assert sum(chunk.n for chunk in log.chunks()) == 2
    assert dict(log.found.skipped) == {reason: 1}
    assert log.found.inconsistent == inconsistent
    assert any("line 2" in note for note in log.found.notes)


def test_dropped_events_are_mentioned(events: Events) -> None:
    log = open_log(events({**EVENT, "pdrop": 0.5}, {**EVENT, "pdrop": 0.0}))
    list(log.chunks())
    assert any(note.startswith("1 decisions have a pdrop above 0") for note in log.found.notes)


def test_a_log_without_any_decision_is_refused(events: Events) -> None:
    path = events({**EVENT, "_skipLearn": True})
    with pytest.raises(LogUnusable, match=r"no line can be used: _skipLearn: set \(1\)"):
        list(open_log(path).chunks())
    with pytest.raises(LogUnusable, match="dsjson"):
        open_log(path, ["mine"])
