"""Logs of JSON lines: what is read, what is refused and why, and what never stops the reading."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contextual_bandit.types import Decision
from evaluation.chunks import Chunk
from evaluation.hashing import hash_ids
from evaluation.log_columns import ColumnModel, NoSuchColumn, column_target
from evaluation.logs import open_log
from evaluation.row_faults import LogUnusable
from evaluation.targets import uniform

ROW: dict[str, Any] = {
    "event_id": "e1",
    "ts": "2026-03-01T10:00:00Z",
    "context": {"device": {"kind": "phone"}},
    "actions": [{"id": "a", "features": {"price": 2}}, {"id": "b"}],
    "chosen": 1,
    "propensity": 0.25,
    "reward": 1.0,
    "target_probs": [0.5, 0.5],
    "q_hat": [0.1, 0.2],
}

Lines = Callable[..., Path]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Write rows, or text as it is, into a file."""

    def write(*rows: Any, name: str = "log.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows))
        return path

    return write


def only_chunk(path: Path) -> Chunk:
    (chunk,) = open_log(path).chunks()
    return chunk


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ROW.items() if key != name}


def test_rows_become_arrays(lines: Lines) -> None:
    second = {
        **ROW, "event_id": "e2", "ts": 1_772_359_200.5, "actions": ["b", "c", "a"], "chosen": 0, "propensity": 0.5,
        "reward": 0, "target_probs": [0.2, 0.3, 0.4], "q_hat": [1, 2, 3],
    }  # fmt: skip
    chunk = only_chunk(lines(ROW, second))
    assert chunk.n == 2
    assert chunk.reward.tolist() == [1.0, 0.0]
    assert chunk.propensity.tolist() == [0.25, 0.5]
    assert chunk.row.tolist() == [0, 0, 1, 1, 1]
    assert chunk.first.tolist() == [0, 2]
    assert chunk.chosen.tolist() == [1, 2]
    names = {code: name for name, code in chunk.codes.items()}
    assert [names[code] for code in chunk.offer.tolist()] == ["a", "b", "b", "c", "a"]
    assert chunk.served is None
    assert chunk.columns["target_probs"].tolist() == [0.5, 0.5, 0.2, 0.3, 0.4]
    assert chunk.columns["q_hat"].tolist() == [0.1, 0.2, 1.0, 2.0, 3.0]
    assert chunk.hashes.tolist() == hash_ids(["e1", "e2"]).tolist()
    assert chunk.at.astype(str).tolist() == ["2026-03-01T10:00:00.000000", "2026-03-01T10:00:00.500000"]


def test_decisions_are_made_when_asked_for(lines: Lines) -> None:
    decision = only_chunk(lines(ROW)).decisions[0]
    assert decision.decision_id == "e1"
    assert decision.loop == "log.jsonl"
    assert decision.context.namespaces == {"device": {"kind": "phone"}}
    assert [(one.offer_id, dict(one.features)) for one in decision.actions] == [("a", {"price": 2.0}), ("b", {})]
    assert decision.slots[0].chosen == 1
    assert decision.slots[0].propensity == 0.25
    assert decision.slots[0].distribution is None


@pytest.mark.parametrize(
    ("context", "actions"),
    [
        ({"x": 1}, [{"id": "a", "price": 2}, {"id": "b"}]),
        ('{"x": 1}', '[{"id": "a", "features": {"price": 2}}, {"id": "b"}]'),
    ],
)
def test_features_may_be_flat_or_json_text(lines: Lines, context: Any, actions: Any) -> None:
    decision = only_chunk(lines({**ROW, "context": context, "actions": actions})).decisions[0]
    assert decision.context.namespaces == {"c": {"x": 1.0}}
    assert dict(decision.actions[0].features) == {"price": 2.0}


def test_actions_may_be_a_number_or_nothing_but_lists(lines: Lines) -> None:
    counted = only_chunk(lines({**ROW, "actions": 2}))
    told = only_chunk(lines(without("actions")))
    for chunk in (counted, told):
        assert dict(chunk.codes) == {"0": 0, "1": 1}
        assert [one.offer_id for one in chunk.decisions[0].actions] == ["0", "1"]


def test_whole_distributions_are_served(lines: Lines) -> None:
    chunk = only_chunk(lines({**ROW, "probs": [0.75, 0.25]}))
    assert chunk.served is not None
    assert chunk.served.tolist() == [0.75, 0.25]
    distribution = chunk.decisions[0].slots[0].distribution
    assert distribution is not None
    assert distribution.served == (0.75, 0.25)
    assert uniform(chunk).tolist() == [0.5, 0.5]


def test_a_distribution_holds_the_propensity(lines: Lines) -> None:
    log = open_log(lines({**without("propensity"), "probs": [0.75, 0.25]}))
    (chunk,) = log.chunks()
    assert chunk.propensity.tolist() == [0.25]
    assert not log.found.estimated


FAULTS: list[tuple[dict[str, Any] | str, str]] = [
    (without("reward"), "reward: missing"),
    ({**ROW, "reward": "much"}, "reward: not a number"),
    ({**ROW, "reward": None}, "reward: missing"),
    ('{"reward": NaN}', "line: no JSON"),
    ("[1, 2]", "line: no JSON object"),
    ("{", "line: no JSON"),
    ({**ROW, "event_id": None}, "event_id: missing"),
    ({**ROW, "event_id": 1.5}, "event_id: neither text nor a whole number"),
    ({**ROW, "ts": "yesterday"}, "ts: missing or no time"),
    (without("propensity"), "propensity: missing"),
    ({**ROW, "propensity": "0.5"}, "propensity: not a number"),
    ({**ROW, "chosen": 2}, "chosen: not among the actions"),
    ({**ROW, "chosen": -1}, "chosen: not among the actions"),
    ({**ROW, "chosen": 0.5}, "chosen: not a whole number"),
    ({**ROW, "chosen": True}, "chosen: not a whole number"),
    (without("chosen"), "chosen: missing"),
    ({**ROW, "actions": []}, "actions: none"),
    ({**ROW, "actions": {"a": 1}}, "actions: neither objects, ids nor their number"),
    ({**ROW, "actions": "[oops"}, "actions: no JSON"),
    ({**ROW, "target_probs": [1.0]}, "target_probs: not one number per action"),
    ({**ROW, "target_probs": [0.6, 0.6]}, "target_probs: more than 1"),
    ({**ROW, "target_probs": [1e308, 1e308]}, "target_probs: more than 1"),
    ({**ROW, "target_probs": [-0.1, 0.6]}, "target_probs: negative"),
    ({**ROW, "target_probs": [0.1, None]}, "target_probs: missing"),
    (without("q_hat"), "q_hat: missing"),
]


@pytest.mark.parametrize(("row", "reason"), FAULTS)
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(
    lines: Lines, row: dict[str, Any] | str, reason: str
) -> None:
    log = open_log(lines(ROW, row, ROW))
    (chunk,) = log.chunks()
    assert chunk.n == 2
    assert dict(log.found.skipped) == {reason: 1}
    assert log.found.inconsistent == 0
    assert any("line 2" in note and reason in note for note in log.found.notes)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5])
def test_impossible_propensities_are_inconsistent(lines: Lines, propensity: float) -> None:
    log = open_log(lines(ROW, {**ROW, "propensity": propensity}))
    assert sum(chunk.n for chunk in log.chunks()) == 1
    assert log.found.inconsistent == 1
    assert dict(log.found.skipped) == {"propensity: outside (0, 1]": 1}


@pytest.mark.parametrize(
    ("probs", "reason"), [([0.5, 0.5], "propensity: not that of probs"), ([0.5, 0.25], "probs: not a distribution")]
)
def test_a_distribution_that_cannot_have_been_is_inconsistent(lines: Lines, probs: list[float], reason: str) -> None:
    log = open_log(lines({**ROW, "probs": [0.75, 0.25]}, {**ROW, "probs": probs}))
    assert sum(chunk.n for chunk in log.chunks()) == 1
    assert log.found.inconsistent == 1
    assert dict(log.found.skipped) == {reason: 1}


def test_few_examples_stand_for_many_rows(lines: Lines) -> None:
    log = open_log(lines(ROW, *[{**ROW, "chosen": 9}] * 50))
    list(log.chunks())
    (note,) = log.found.notes
    assert note.startswith("50 not used, chosen: not among the actions (line 2, got 9; line 3")
    assert "line 7" not in note


def test_a_context_that_is_no_features_counts_as_empty(lines: Lines) -> None:
    log = open_log(lines({**ROW, "context": {"email": "x"}}, ROW))
    contexts = [decision.context.namespaces for chunk in log.chunks() for decision in chunk.decisions]
    assert contexts == [{}, {"device": {"kind": "phone"}}]
    assert any("email" in note for note in log.found.notes)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ((), "no JSON object"),
        (("not json",), "no JSON object"),
        (({"x": 1},), "no field 'reward'; it has x"),
        ((without("chosen"),), "no field 'chosen'"),
        (({"reward": 1.0, "event_id": "e"},), "neither 'propensity' nor 'actions'"),
        (({**ROW, "propensity": 0.0},), "no line can be used: propensity: outside (0, 1] (1)"),
    ],
)
def test_a_file_without_anything_to_use_is_refused_by_name(lines: Lines, rows: tuple[Any, ...], why: str) -> None:
    path = lines(*rows)
    with pytest.raises(LogUnusable) as refused:
        list(open_log(path).chunks())
    assert str(path) in str(refused.value)
    assert why in str(refused.value)


def test_an_absent_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LogUnusable, match=r"absent\.jsonl: cannot be read"):
        open_log(tmp_path / "absent.jsonl")


def test_missing_columns_are_refused_and_their_users_say_so(lines: Lines) -> None:
    path = lines(ROW)
    with pytest.raises(LogUnusable, match="no column 'mine'"):
        open_log(path, ["mine"])
    chunk = only_chunk(path)
    with pytest.raises(NoSuchColumn, match="no column 'mine' of numbers; it has q_hat, target_probs"):
        column_target("mine")(chunk)
    with pytest.raises(NoSuchColumn):
        ColumnModel("mine").predict(chunk)


def test_columns_of_any_name(lines: Lines) -> None:
    (chunk,) = open_log(lines({**ROW, "mine": [0.9, 0.1]}), ["mine"]).chunks()
    assert column_target("mine")(chunk).tolist() == [0.9, 0.1]
    assert ColumnModel("q_hat").predict(chunk).tolist() == [0.1, 0.2]
    assert ColumnModel("q_hat").under_target(chunk, chunk.columns["mine"]) == pytest.approx([0.11])


def test_a_log_of_chosen_actions_alone(lines: Lines) -> None:
    row = {"event_id": 7, "propensity": 0.5, "reward": 2, "target_prob": 0.25, "q_chosen": 1.0, "q_target": 0.75}
    log = open_log(lines(row, {**row, "target_prob": 1.5}))
    (chunk,) = log.chunks()
    assert log.layout.flat
    assert chunk.n == len(chunk.row) == 1
    assert chunk.chosen.tolist() == [0]
    assert column_target("target_prob")(chunk).tolist() == [0.25]
    assert ColumnModel("q_chosen").predict(chunk).tolist() == [1.0]
    assert ColumnModel("q_chosen").under_target(chunk, np.array([0.25])).tolist() == [0.75]
    assert chunk.at.tolist() == [datetime(1970, 1, 1)]
    assert any("no ts" in note for note in log.found.notes)
    assert len(chunk.decisions) == 0
    assert dict(log.found.skipped) == {"target_prob: more than 1": 1}


def test_long_logs_come_in_several_chunks_with_the_same_codes(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.json_log.MOST_PAIRS", 10)
    rows = [{**ROW, "event_id": f"e{number}", "actions": [f"o{number}", "o0"]} for number in range(23)]
    chunks = list(open_log(lines(*rows)).chunks())
    assert len(chunks) > 2
    assert sum(chunk.n for chunk in chunks) == 23
    assert chunks[-1].codes["o0"] == 0
    assert len(chunks[-1].codes) == 23
    decisions: list[Decision] = [decision for chunk in chunks for decision in chunk.decisions]
    assert [one.decision_id for one in decisions] == [f"e{number}" for number in range(23)]


def test_lines_that_are_too_long_are_passed_over(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.log_rows.LONGEST_LINE", 1000)
    log = open_log(lines(ROW, {**ROW, "context": {"x": "y" * 5000}}, ROW))
    assert sum(chunk.n for chunk in log.chunks()) == 2
    assert dict(log.found.skipped) == {"line: too long": 1}


def test_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(ROW) + "\n").encode()))
    assert only_chunk(path).n == 1
    path.write_bytes(gzip.compress((json.dumps(ROW) + "\n").encode())[:-9])
    with pytest.raises(LogUnusable, match="cannot be read"):
        open_log(path)
